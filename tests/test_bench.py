"""Measurements: what they report is whole, adds up, and changes no result; wrong answers and arguments are refused."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

import gemmule
from gemmule import benchmark
from gemmule.benchmark import kernel_speed, shapes
from gemmule.command_line import cli
from golden_cases import FIXTURES, read_case

core_bench = gemmule._core.bench
QUICK = {"threads": 2, "repeat": 1, "progress": False}

IN_LAYERS = {"norms", "qkv", "rope", "attention", "o_proj", "gate_up", "down"}
OUTSIDE = {"embedding", "head"}
PER_LAYER = {"per_layer_input"}


def check_samples(samples, count):
    assert len(samples.samples) == count
    assert 0 < samples.least <= samples.median <= samples.most
    assert samples.least == min(samples.samples)


def check_conditions(found):
    assert {"date", "cpu", "machine", "system", "target", "load_average", "gemmule", "numpy", "python"} == found.keys()
    assert found["target"] == gemmule.cpu()["target"]


@pytest.mark.parametrize(("name", "kv"), [("e2b", "float32"), ("mobile", "static"), ("moe", "bf16")])
def test_a_watched_decoder_gives_the_same_bits(name, kv):
    case = read_case(name)
    core = gemmule.load(case.folder, kv=kv, threads=2)._core
    alone, watched = gemmule._core.Decoder(core), gemmule._core.Decoder(core)
    watch = core_bench.Profile(core)
    watch.watch(watched)
    ids = np.array(case.ids, np.int32)
    np.testing.assert_array_equal(watched.logits(ids), alone.logits(ids))
    for token in ids[:4]:
        np.testing.assert_array_equal(watched.prefill(ids[:1] + token), alone.prefill(ids[:1] + token))
    assert watch.places
    another = core_bench.Profile(core)  # from now on the first one hears nothing
    another.watch(watched)
    before = watch.places
    watched.prefill(ids[:1])
    assert watch.places == before
    assert another.places


@pytest.mark.parametrize("name", ["e2b", "mobile", "moe", "dense"])
def test_operations_of_a_step(name):
    model = gemmule.load(read_case(name).folder, threads=1)
    config = model.info["config"]
    decoder = model._new_decoder()
    watch = core_bench.Profile(model._core)
    watch.watch(decoder)
    decoder.prefill(np.array([5], np.int32))
    inside, outside = set(IN_LAYERS), set(OUTSIDE)
    if config["hidden_size_per_layer_input"]:
        inside |= PER_LAYER
        outside |= {"per_layer_inputs"}
    if config["num_experts"]:
        inside |= {"experts"}
    found = {}
    for layer, operation, seconds, waiting, _ in watch.places:
        assert 0 <= waiting <= seconds
        found.setdefault(layer, set()).add(operation)
    assert found.pop(None) == outside
    assert found == dict.fromkeys(range(config["num_hidden_layers"]), inside)


def test_a_profile_fits_its_model_only():
    other = gemmule.load(read_case("dense").folder)
    with pytest.raises(gemmule.ArgumentError, match="number of layers"):
        core_bench.Profile(other._core).watch(gemmule.load("fairy")._new_decoder())


@pytest.fixture(scope="module")
def fairy_profile():
    return benchmark.profile("fairy", prompt=400, tokens=40, threads=2, repeat=10, progress=False)


def test_a_profile_adds_up(fairy_profile):
    """To the time that Python saw: no operation is missing, none counts twice."""
    for phase in (fairy_profile.prefill, fairy_profile.decode):
        assert 0.9 < phase.covered <= 1
        check_samples(phase.repetitions, 10)
        assert phase.seconds == phase.repetitions.least
        for time in phase.operations:
            assert 0 <= time.waiting_seconds <= time.seconds
            assert (time.waiting_seconds > 0) == (time.regions > 0)
    assert fairy_profile.prefill.covered > 0.97
    # A prompt is read in seven chunks, of which only the last goes through the layers that share keys.
    regions = {
        kind: sum(
            time.regions
            for time in fairy_profile.prefill.operations
            if time.layer is not None and fairy_profile.layer_kinds[time.layer] == kind and time.operation == "gate_up"
        )
        for kind in set(fairy_profile.layer_kinds)
    }
    assert regions["sliding"] >= 7 * fairy_profile.layer_kinds.count("sliding")
    assert regions["sliding shared"] < 7


def test_a_profile_names_the_sampler_and_the_kinds_of_layers(fairy_profile):
    assert fairy_profile.layer_kinds == (*["sliding"] * 3, "full", *["sliding shared"] * 2, "full shared")
    assert [time.operation for time in fairy_profile.decode.operations].count("sampler") == 1
    assert "sampler" not in {time.operation for time in fairy_profile.prefill.operations}
    text = str(fairy_profile)
    for word in ("prefill, 400 tokens", "decode, each of 40 tokens", "sliding x3", "sampler", "the rest", "waiting"):
        assert word in text
    check_conditions(fairy_profile.conditions)


def test_limits():
    found = benchmark.limits(**{**QUICK, "repeat": 3}, array_bytes=1 << 20)
    assert [limit.threads for limit in found.limits] == [1, 2]
    for limit in found.limits:
        check_samples(limit.read, 3)
        check_samples(limit.multiply_adds, 3)
    check_conditions(found.conditions)
    assert [limit.threads for limit in benchmark.limits(threads=1, repeat=1, array_bytes=1 << 20).limits] == [1]
    text = str(found)
    assert "read bandwidth" in text
    assert "2 threads" in text


@pytest.fixture
def small_memory(monkeypatch):
    """Reading takes no time."""
    monkeypatch.setattr(kernel_speed, "ARRAY_BYTES", 1 << 20)


@pytest.mark.parametrize("options", [{}, {"activations": "float32", "kv": "bf16"}], ids=["static", "float"])
def test_kernels_of_a_model(small_memory, options):
    found = benchmark.kernels("fairy", **QUICK, **options)
    by_kernel = {}
    for time in found.kernels:
        by_kernel.setdefault(time.kernel, []).append(time)
        check_samples(time.speed, 1)
        assert (time.share is None) == (time.limit is None)
        assert time.share is None or time.share > 0
    matrices, attention = by_kernel.pop("matrix"), by_kernel.pop("attention")
    assert by_kernel.keys() == {"rms_norm", "rope", "gelu_mul", "softcap", "round_to_grid", "quantize_static"}
    assert {time.encoding for time in matrices} == {"bf16", "c2", "c4", "c8"}
    assert {(time.tokens, time.threads) for time in matrices} == {
        (tokens, threads) for tokens in (1, gemmule._core.CHUNK_TOKENS, 512) for threads in (1, 2)
    }
    heads = [time for time in matrices if time.what == "lm_head"]
    assert {(time.shape, time.tokens) for time in heads} == {((4096, 256), 1)}
    integer = {time.encoding for time in matrices if time.limit == "multiply_adds"}
    assert integer == (set() if options else {"c2", "c4", "c8"})
    assert {time.encoding for time in attention} == ({"bf16"} if options else {"c4", "c8"})
    text = str(found)
    assert "per_layer_model_projection" in text
    assert "2 threads" in text


@pytest.mark.parametrize(
    "name",
    ["moe", "ct_w4a16", "gguf_moe/model-Q4_0.gguf", "gguf_e2b/model-Q8_0.gguf", "gguf_kquant/model-Q4_K_M.gguf"],
)
def test_kernels_of_every_encoding(small_memory, name):
    """The answers are checked; nothing of the model is left out."""
    path = FIXTURES / name
    found = benchmark.kernels(path, **QUICK)
    matrices = core_bench.matrices(gemmule.load(path)._core)
    wanted = {(matrix.encoding, (matrix.rows, matrix.cols)) for matrix in matrices}
    assert {(time.encoding, time.shape) for time in found.kernels if time.kernel == "matrix"} == wanted
    has_experts = any(matrix.name.startswith("experts.") for matrix in matrices)
    assert has_experts == ("moe" in name)


def wrong(cls, method, change):
    """A bench whose answers are changed."""

    class Wrong:
        def __init__(self, *arguments):
            self._bench = cls(*arguments)

        def __getattr__(self, name):
            answer = getattr(self._bench, name)
            return (lambda *arguments: change(*answer(*arguments))) if name == method else answer

    return Wrong


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("linears", "row 223: the answer"),
        ("attention", "attention over c8: the answer"),
        ("rows", "rms_norm: the answer"),
        ("read", "reading memory: the answer"),
        ("multiply_adds", "multiply-adds: the answer"),
    ],
)
def test_a_wrong_answer_is_no_measurement(small_memory, monkeypatch, method, said):
    def change(seconds, answer):
        if isinstance(answer, int):
            return seconds, 0
        answer = answer.copy()
        answer[-1, ..., -1] *= 1.3  # one element of the last token's, or row's
        return seconds, answer

    monkeypatch.setattr(core_bench, "KernelBench", wrong(core_bench.KernelBench, method, change))
    with pytest.raises(gemmule.GemmuleError, match=said):
        benchmark.kernels("fairy", **QUICK)


def test_e2b_without_a_checkpoint(small_memory, monkeypatch):
    """Its list in small, so that the test takes no minute."""
    monkeypatch.setattr(shapes, "E2B", tuple((*each[:2], 64, 512, 3) for each in shapes.E2B))
    monkeypatch.setattr(shapes, "_V", 512)
    monkeypatch.setattr(kernel_speed, "CONTEXTS", (512,))
    found = benchmark.kernels(**QUICK)
    assert "E2B" in found.name
    assert {time.encoding for time in found.kernels} == {"c2", "c4", "c8", "bf16", ""}


def test_speed():
    found = benchmark.speed("fairy", **{**QUICK, "repeat": 2}, prompt=20, tokens=5, kv="bf16")
    assert (found.prompt_tokens, found.decode_tokens, found.threads, found.kv) == (20, 5, 2, "bf16")
    for samples in (found.load, found.prefill, found.decode):
        check_samples(samples, 2)
    assert 2e7 < found.peak_resident_bytes < 2**34
    check_conditions(found.conditions)
    assert "tokens/s" in str(found)


@pytest.mark.parametrize("function", [benchmark.speed, benchmark.profile])
def test_refuses_lengths(function):
    with pytest.raises(gemmule.ContextError, match="the context holds 1024"):
        function("fairy", prompt=1000, tokens=25)
    for name in ("prompt", "tokens", "repeat"):
        with pytest.raises(gemmule.ArgumentError, match=f"{name} is 0"):
            function("fairy", **{name: 0})


def test_refuses_other_arguments():
    for function in (benchmark.limits, benchmark.kernels, benchmark.speed, benchmark.profile):
        with pytest.raises(gemmule.ArgumentError, match="repeat is 0"):
            function(repeat=0)
        with pytest.raises(gemmule.ArgumentError, match="threads is 0"):
            function(threads=0)
    for function in (benchmark.kernels, benchmark.speed, benchmark.profile):
        with pytest.raises(gemmule.ArgumentError, match="activations"):
            function(activations="int4")
        with pytest.raises(gemmule.MissingFileError):
            function("./no-such-folder")


WHAT = {
    "": ({}, {"path", "prompt_tokens", "decode_tokens", "threads", "activations", "kv", "load", "prefill", "decode"}),
    "--limits": ({}, {"limits"}),
    "--kernels": ({"-m": "fairy"}, {"name", "kernels", "limits"}),
    "--profile": ({"--prompt": "70"}, {"path", "threads", "layer_kinds", "prefill", "decode"}),
}


@pytest.mark.parametrize("what", WHAT)
def test_command_line(small_memory, capsys, what):
    options, fields = WHAT[what]
    command = ["bench", *([what] if what else []), *(word for pair in options.items() for word in pair)]
    command += ["--threads", "2", "--repeat", "1", "--tokens", "3"]
    assert cli.main(command) == 0
    plain = capsys.readouterr()
    assert plain.err == ""
    assert len(plain.out.splitlines()) > 4
    assert cli.main([*command, "--json", "--quiet"]) == 0
    output = capsys.readouterr()
    assert (output.err, output.out.count("\n")) == ("", 1)
    said = json.loads(output.out)
    assert fields <= said.keys()
    assert "conditions" in said or "conditions" in said["limits"]


def test_json_of_a_profile(fairy_profile):
    said = json.loads(fairy_profile.to_json())
    for name in ("prefill", "decode"):
        phase = getattr(fairy_profile, name)
        assert said[name]["covered"] == phase.covered
        assert said[name]["operations"] == [dataclasses.asdict(time) for time in phase.operations]


def test_wrong_usage():
    for arguments in (["--limits", "--kernels"], ["--repeat", "many"], ["--kv", "int2"], ["fairy"]):
        command = [sys.executable, "-m", "gemmule", "bench", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (2, ""), arguments


def test_errors_have_a_cause_and_a_remedy(capsys):
    assert cli.main(["bench", "--prompt", "5000"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    cause, remedy = output.err.splitlines()
    assert "the context holds 1024" in cause
    assert remedy
