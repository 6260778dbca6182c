"""Memory before loading: against the process that loads and runs the model, against the engine, against limits."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import gemmule
from checkpoints import FULL, SLIDING, make_checkpoint, write_safetensors
from drafter_folders import make_drafter
from gemmule.checkpoints import estimation, memory
from gemmule.checkpoints.contents import contents
from gemmule.command_line import cli
from gguf_models import make_gguf
from golden_cases import FIXTURES

GGUF = sorted(FIXTURES.glob("gguf_*/*.gguf"))

# Loads a model, runs it to the end of its context and reads a text. Prints by how many bytes the most that was resident
# grew. Pages of code are the system's to choose, one or hundreds at a time: unless they are asked for, they are there
# before. So are numpy's random numbers, code that is not the model's.
RUN = """
import sys
from pathlib import Path
import numpy as np
import gemmule

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))

def touch_code():
    maps = Path("/proc/self/maps").read_text().splitlines()
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        for place in (line.split()[0] for line in maps if ".so" in line and " r" in line):
            for page in range(*(int(end, 16) for end in place.split("-")), 4096):
                memory.seek(page)
                memory.read(1)

path, context, kv, activations, mtp, code = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
random = np.random.default_rng(0)
if not code:
    touch_code()
before = resident("VmRSS")
model = gemmule.load(path, context=context, kv=kv, activations=activations, mtp=mtp or None, memory_limit=1 << 40)
ids = random.integers(3, model.vocab_size, context // 2)
model.generate(ids, max_tokens=None, ignore_eos=True, seed=1)
if model.tokenizer:
    model.tokenizer.encode("Once upon a time")
print(resident("VmHWM") - before)
"""


def measured(path, context, kv, activations="auto", mtp="", code=""):
    command = [sys.executable, "-c", RUN, str(path), str(context), kv, activations, str(mtp), code]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


# What is counted and need not be touched: the rest of a piece of a file, stacks of threads.
UNTOUCHED = estimation._PIECE_BYTES + estimation._THREAD_BYTES * gemmule.cpu()["threads"]


def assert_between(estimate, peak, most):
    assert peak <= estimate.resident - estimation._CODE_BYTES <= most


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A checkpoint of 190 MB, large enough that its own memory is most of what is measured."""
    return make_checkpoint(
        tmp_path_factory.mktemp("wide") / "wide",
        vocab_size=4096,
        hidden_size=512,
        hidden_size_per_layer_input=64,
        intermediate_size=4096,
        num_attention_heads=4,
        head_dim=128,
        global_head_dim=256,
        layer_types=[SLIDING, SLIDING, FULL] * 2,
        num_kv_shared_layers=0,
        use_double_wide_mlp=False,
        sliding_window=128,
        max_position_embeddings=4096,
        dtype="F32",
    )


@pytest.mark.parametrize(("context", "kv"), [(256, "auto"), (1024, "bf16")])
def test_never_under_and_within_5_percent_of_the_measured_peak(wide, context, kv):
    peak, estimate = measured(wide, context, kv), gemmule.estimate(wide, context, kv)
    assert peak > 150e6
    assert_between(estimate, peak, 1.05 * peak)


@pytest.fixture(scope="module", params=[1, 3])
def wide_gguf(request, tmp_path_factory):
    """A model of 180 MB, most of it Q4_0, in one file or in several, with a tokenizer of 20,000 tokens."""
    return make_gguf(
        tmp_path_factory.mktemp("gguf"),
        tables="Q6_K",
        vocabulary=True,
        parts=request.param,
        leftovers=True,
        vocab_size=20_000,
        hidden_size=1024,
        hidden_size_per_layer_input=256,
        intermediate_size=8192,
        num_attention_heads=4,
        head_dim=256,
        global_head_dim=512,
        layer_types=[SLIDING, SLIDING, FULL] * 3,
        num_kv_shared_layers=2,
        use_double_wide_mlp=False,
        sliding_window=128,
        max_position_embeddings=4096,
    )


@pytest.mark.parametrize(
    ("context", "kv", "activations"), [(256, "auto", "auto"), (512, "bf16", "auto"), (256, "auto", "float32")]
)
def test_never_under_and_within_5_percent_of_a_gguf_models_peak(wide_gguf, context, kv, activations):
    peak = measured(wide_gguf, context, kv, activations)
    estimate = gemmule.estimate(wide_gguf, context, kv, activations=activations)
    assert peak > 150e6
    assert_between(estimate, peak, 1.05 * peak)
    assert estimate.on_disk.keys() == {"per-layer embeddings"}
    assert estimate.unused.keys() == {"leftovers"}
    assert estimation._at_most(contents(wide_gguf), context, kv) >= estimate.resident


def test_a_large_vocabulary_in_a_gguf_file(tmp_path):
    """The header is read whole, and the tokenizer takes more than the weights."""
    path = make_gguf(tmp_path, vocabulary=True, vocab_size=150_000, hidden_size=32, hidden_size_per_layer_input=0)
    peak, estimate = measured(path, 64, "auto"), gemmule.estimate(path, 64)
    assert estimate.text_weights >= path.stat().st_size
    assert estimate.tokenizer > 0.5 * peak
    assert_between(estimate, peak, 1.25 * peak + UNTOUCHED)


@pytest.mark.parametrize("path", GGUF, ids=lambda path: path.stem)
def test_never_under_the_measured_peak_of_small_gguf_models(path):
    peak, estimate = measured(path, 200, "auto"), gemmule.estimate(path, 200)
    assert_between(estimate, peak, 1.05 * peak + UNTOUCHED)


@pytest.mark.parametrize("name", ["fairy", "e2b", "dense", "mobile", "moe"])
def test_never_under_the_measured_peak_of_small_models(name):
    path = name if name == "fairy" else FIXTURES / name
    peak, estimate = measured(path, 200, "auto"), gemmule.estimate(path, 200)
    assert_between(estimate, peak, 1.05 * peak + UNTOUCHED)


def test_code_that_runs_for_the_first_time_is_counted():
    grown = measured("fairy", 200, "auto", code="code") - measured("fairy", 200, "auto")
    assert 0 < grown <= estimation._CODE_BYTES


@pytest.mark.parametrize("kv", ["float32", "bf16", "static"])
@pytest.mark.parametrize("context", [1, 64, 65, 300])
def test_the_cache_is_counted_as_the_engine_makes_it(kv, context):
    model = gemmule.load("fairy", kv=kv, context=context)
    decoder = model._new_decoder()
    decoder.prefill(np.full(context, 5, np.int32))
    assert gemmule.estimate("fairy", context, kv).kv_cache == decoder.cache_bytes


@pytest.mark.parametrize("path", GGUF, ids=lambda path: path.stem)
def test_the_cache_of_a_gguf_model_is_counted_as_the_engine_makes_it(path):
    decoder = gemmule.load(path, context=300)._new_decoder()
    decoder.prefill(np.full(300, 5, np.int32))
    assert gemmule.estimate(path, 300).kv_cache == decoder.cache_bytes


def test_auto_is_what_load_makes_of_it(tmp_path):
    for path in ("fairy", FIXTURES / "e2b", FIXTURES / "mobile", FIXTURES / "mobile_absmax", GGUF[0]):
        model, estimate = gemmule.load(path), gemmule.estimate(path)
        assert (estimate.kv, estimate.context) == (model.info["kv"], model.context)


@pytest.mark.parametrize("path", ["fairy", FIXTURES / "e2b", FIXTURES / "mobile", FIXTURES / "moe", *GGUF], ids=str)
def test_weights_are_those_that_the_engine_uses(path):
    estimate, info = gemmule.estimate(path), gemmule.load(path).info
    all_of_it = sum(estimate.on_disk.values())
    tied = info["config"]["tie_word_embeddings"]
    assert ("embeddings" in estimate.on_disk) == (not tied)
    assert info["weight_bytes"] - all_of_it <= estimate.text_weights < 1.1 * info["mapped_bytes"]
    assert estimate.unused.get("leftovers", 0) > 0 or not info["leftover_tensors"]


def test_towers_are_not_resident(tmp_path):
    folder = make_checkpoint(tmp_path / "towers", towers=True)
    assert gemmule.estimate(folder).unused == {"towers": 16 * 4 + 15 * 2 + 8 * 4}


def test_table_and_json(capsys):
    estimate = gemmule.estimate("fairy", 512)
    assert cli.main(["estimate", "fairy", "--context", "512"]) == 0
    assert capsys.readouterr().out == f"{estimate}\n"
    assert "resident at most" in str(estimate)
    assert cli.main(["estimate", "fairy", "--context", "512", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["resident"] == estimate.resident
    assert said["kv_cache"] == estimate.kv_cache


@pytest.mark.parametrize(("arguments", "words"), [((2000,), "2000"), ((0,), "context"), ((64, "int3"), "int3")])
def test_wrong_arguments(arguments, words):
    with pytest.raises(gemmule.ArgumentError, match=words):
        gemmule.estimate("fairy", *arguments)


# Drafters


@pytest.mark.parametrize("ordered", [False, True])
def test_a_drafter_is_counted(wide, tmp_path, ordered):
    """Of its files, all of a dense head's are read, and one pass of several tokens at least is made."""
    config = gemmule.load(wide).info["config"]
    folder = make_drafter(tmp_path, config, ordered=ordered, width=2048, mlp_width=2048)
    size = (folder / "model.safetensors").stat().st_size
    assert size > 100e6  # more than the quick look adds by itself
    alone, estimate = gemmule.estimate(wide, 256), gemmule.estimate(wide, 256, mtp=folder)
    assert size < estimate.drafter < 1.05 * size
    assert estimate.resident == alone.resident + estimate.drafter
    assert measured(wide, 256, "auto", mtp=folder) <= estimate.resident - estimation._CODE_BYTES
    assert estimation._at_most(contents(wide), 256, "auto", folder) >= estimate.resident
    assert alone.drafter == 0


def test_a_limit_counts_the_drafter(monkeypatch, capsys):
    needed, alone = gemmule.estimate("fairy", mtp="auto"), gemmule.estimate("fairy")
    assert gemmule.load("fairy", mtp="auto", memory_limit=needed.resident).info["drafter"]
    monkeypatch.setattr(gemmule.loading._core, "Model", None)  # must not be asked
    for limit in (needed.resident - 1, alone.resident):
        with pytest.raises(gemmule.ResourceError) as caught:
            gemmule.load("fairy", mtp="auto", memory_limit=limit)
        assert str(needed) in str(caught.value)
    monkeypatch.setattr(estimation, "available_bytes", lambda: (alone.resident, "the cgroup"))
    with pytest.raises(gemmule.ResourceError, match=r"the cgroup has .* left"):
        gemmule.load("fairy", context=1024, mtp="auto")
    assert cli.main(["estimate", "fairy", "--mtp", "auto"]) == 0
    assert capsys.readouterr().out == f"{needed}\n"
    assert "drafter" in str(needed)
    assert "drafter" not in str(alone)


# Limits


def test_a_limit_refuses_with_the_table_and_before_anything_is_loaded(monkeypatch):
    needed = gemmule.estimate("fairy").resident
    assert gemmule.load("fairy", memory_limit=needed).vocab_size == 4096
    monkeypatch.setattr(gemmule.loading._core, "Model", None)  # must not be asked
    with pytest.raises(gemmule.ResourceError) as caught:
        gemmule.load("fairy", memory_limit=needed - 1)
    assert str(gemmule.estimate("fairy")) in str(caught.value)
    assert "context=" in caught.value.remedy
    for wrong in (0, -1, 1.5, "1GB"):
        with pytest.raises(gemmule.ArgumentError, match="memory_limit"):
            gemmule.load("fairy", memory_limit=wrong)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_gguf_model_is_refused_with_the_table_too(tmp_path, parts, monkeypatch):
    path = make_gguf(tmp_path, parts=parts)
    needed, small = gemmule.estimate(path).resident, gemmule.estimate(path, 64).resident
    assert gemmule.load(path, memory_limit=needed).context == 512
    assert gemmule.load(path, context=64, memory_limit=small).context == 64
    monkeypatch.setattr(gemmule.loading._core, "Model", None)  # must not be asked
    for place in (path, tmp_path):
        with pytest.raises(gemmule.ResourceError, match="memory_limit is") as caught:
            gemmule.load(place, memory_limit=needed - 1)
        assert str(gemmule.estimate(path)) in str(caught.value)
        assert caught.value.file == str(path)
    monkeypatch.setattr(estimation, "available_bytes", lambda: (small - 1, "the cgroup"))
    with pytest.raises(gemmule.ResourceError, match=r"the cgroup has .* left"):
        gemmule.load(path)


def test_a_smaller_context_fits():
    limit = gemmule.estimate("fairy", 64).resident
    with pytest.raises(gemmule.ResourceError):
        gemmule.load("fairy", memory_limit=limit)
    assert gemmule.load("fairy", context=64, memory_limit=limit).context == 64


def test_what_the_machine_has_free_is_a_limit(monkeypatch):
    one_chunk, whole = gemmule.estimate("fairy", 64).resident, gemmule.estimate("fairy").resident
    monkeypatch.setattr(estimation, "available_bytes", lambda: (one_chunk, "the cgroup"))
    assert gemmule.load("fairy").context == 1024  # memory grows with use
    with pytest.raises(gemmule.ResourceError, match=r"the cgroup has .* left"):
        gemmule.load("fairy", context=1024)
    monkeypatch.setattr(estimation, "available_bytes", lambda: (whole, "the cgroup"))
    assert gemmule.load("fairy", context=1024).context == 1024
    monkeypatch.setattr(estimation, "available_bytes", lambda: None)
    assert gemmule.load("fairy", context=1024).context == 1024


@pytest.mark.parametrize("path", ["fairy", FIXTURES / "e2b", FIXTURES / "dense", FIXTURES / "moe", *GGUF], ids=str)
@pytest.mark.parametrize("kv", ["auto", "bf16"])
def test_the_quick_look_is_never_under_the_estimate(path, kv):
    """Loading counts tensors only where the quick look says that memory might not do."""
    for context in (None, 64):
        assert estimation._at_most(contents(path), context, kv) >= gemmule.estimate(path, context, kv).resident


def test_a_broken_checkpoint_is_left_to_the_engine(tmp_path):
    folder = make_checkpoint(tmp_path / "broken")
    (folder / "config.json").write_text('{"model_type": "gemma4_text", "num_hidden_layers": "many"}')
    with pytest.raises(gemmule.FormatError, match="num_hidden_layers"):
        gemmule.load(folder, memory_limit=1)


def test_free_memory_of_this_machine():
    size, whose = memory.available_bytes()
    assert size > 0
    assert whose in ("the machine", "the cgroup")


@pytest.fixture
def system(tmp_path):
    """Files as the kernel shows them: a machine with 8 GB available."""
    meminfo, groups, own = tmp_path / "meminfo", tmp_path / "cgroup", tmp_path / "own"
    meminfo.write_text("MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n")
    (groups / "user" / "app").mkdir(parents=True)
    own.write_text("0::/user/app\n")
    return meminfo, groups, own


def limit(folder: Path, most: str, used: int, pages: int) -> None:
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon {used - pages}\nfile {pages}\n")


def test_a_machine_without_cgroups(system):
    assert memory.available_bytes(*system) == (8_000_000 * 1024, "the machine")
    assert memory.available_bytes(*(path.with_name("none") for path in system)) is None
    for text in ("MemTotal: 16000000 kB\n", "MemAvailable: many kB\n", "MemAvailable:\n", "no colon\n", ""):
        system[0].write_text(text)
        assert memory.available_bytes(*system) is None
    system[0].write_text("no colon\nMemAvailable: 8 kB\n")
    assert memory.available_bytes(*system) == (8 * 1024, "the machine")


def test_the_tightest_cgroup_counts_and_pages_of_files_are_free(system):
    _, groups, _ = system
    limit(groups / "user" / "app", "max", 10**9, 0)
    limit(groups / "user", "4000000000", 3 * 10**9, 2 * 10**9)
    assert memory.available_bytes(*system) == (3 * 10**9, "the cgroup")
    limit(groups / "user" / "app", "1000", 5000, 0)
    assert memory.available_bytes(*system) == (0, "the cgroup")


def test_cgroups_of_version_1(system):
    _, groups, own = system
    own.write_text("3:cpu,cpuacct:/other\n5:memory:/box\n")
    box = groups / "memory" / "box"
    box.mkdir(parents=True)
    (box / "memory.limit_in_bytes").write_text("2000000\n")
    (box / "memory.usage_in_bytes").write_text("1500000\n")
    (box / "memory.stat").write_text("cache 1\ntotal_cache 500000\n")
    assert memory.available_bytes(*system) == (1_000_000, "the cgroup")


def test_many_files_do_not_multiply(tmp_path):
    """5,000 shards of a tensor each beside the model's own: time grows with their number, not with its square."""
    folder = make_checkpoint(tmp_path, shards=2)
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    for i in range(5_000):
        write_safetensors(folder / f"s{i}.safetensors", {f"t{i}": np.zeros(1, np.uint8)})
        content["weight_map"][f"t{i}"] = f"s{i}.safetensors"
    index.write_text(json.dumps(content))
    begin = time.process_time()
    assert gemmule.estimate(folder).unused
    assert time.process_time() - begin < 2
