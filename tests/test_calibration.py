"""Scales from text, against those of the values that the numpy reference computes; and scales from files."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import gemmule
from checkpoints import FULL, SLIDING, make_checkpoint, write_safetensors
from fakes import TOKENIZER
from gemmule import _core
from gemmule.checkpoints import checkpoint
from gemmule.checkpoints.shapes import TextShape
from gemmule.conversion import calibration
from gemmule.conversion.activation_scales import read_activation_scales, scale_names
from gemmule.conversion.calibration import calibrate
from gemmule.quality.windows import spread
from gemmule.reference import Reference, read_file, read_folder
from gemmule.reference.safetensors import f32_to_bf16
from golden_cases import FIXTURES
from least_squares import least_squares_scale, squared_error

EXCERPT = Path(__file__).parent / "data" / "fairy-excerpt.txt"
IDS = np.random.default_rng(5).integers(3, 150, 180).astype(np.int32)


class Recorder(Reference):
    """Keeps all values that enter and leave linear modules, and keys and values; rounds nothing."""

    def __init__(self, folder):
        super().__init__(folder)
        self.seen = {}

    def linear(self, name, columns):
        module = super().linear(name, columns)
        module.input_scale = module.output_scale = 0.0

        def recorded(x):
            y = module(x)
            self._see(name.removeprefix(self.prefix) + ".input_activation_scale", x)
            self._see(name.removeprefix(self.prefix) + ".output_activation_scale", y)
            return y

        return recorded

    def _stored(self, i, what, x):
        self._see(f"layers.{i}.self_attn.{what}_cache_scale", x)
        return x

    def _see(self, name, x):
        self.seen.setdefault(name, []).append(x.ravel())

    def pools(self):
        """By the name of each scale its values (n,) and the bits of a code; the rules of the format, written once more:
        which are taken together, what is not quantized, who repeats whose."""
        pools = {}
        for name in self.seen:
            if not any(part in name for part in ("lm_head", "per_layer_model_projection", "router")):
                pool = re.sub(r"\.(k|v)_proj\.", ".kv_proj.", re.sub(r"\.(gate|up)_proj\.", ".gate_up_proj.", name))
                pools.setdefault(pool, []).append(name)
        found = {}
        for names in pools.values():
            bits = 4 if "cache" in names[0] and self.config.layers[int(names[0].split(".")[1])].full else 8
            values = np.concatenate([part for name in names for part in self.seen[name]])
            found |= dict.fromkeys(names, (values, bits))
        for i, layer in enumerate(self.config.layers):
            for which in ("k_cache_scale", "v_cache_scale"):
                found[f"layers.{i}.self_attn.{which}"] = found[f"layers.{layer.owner}.self_attn.{which}"]
        return found


def shape_of(folder):
    return TextShape.of_engine(gemmule.load(folder).info["config"])


def check(folder, sequences, found):
    """So few values have several scales of nearly the least error; a histogram may find another one of them."""
    reference = Recorder(folder)
    for ids in sequences:
        reference.logits(ids)
    pools = reference.pools()
    assert found.keys() == pools.keys() == scale_names(shape_of(folder))
    ratios = []
    for name, (values, bits) in pools.items():
        wanted = least_squares_scale(values, bits)
        ratios.append(found[name] / wanted)
        assert squared_error(values, found[name], bits) < 1.005 * squared_error(values, wanted, bits), name
    assert np.median(np.abs(np.array(ratios) - 1)) < 1e-3
    assert np.mean(np.abs(np.array(ratios) - 1) < 5e-3) > 0.9


@pytest.mark.parametrize("name", ["e2b", "e4b", "dense", "moe", "share_order", "mobile_source"])
def test_against_the_reference(name):
    """180 tokens: several chunks, and more than a window; gate's output is seen before up's is multiplied into it."""
    folder = FIXTURES / name
    check(folder, [IDS], calibrate(folder, IDS, threads=2, progress=False))


def test_outputs_that_several_threads_count(tmp_path):
    """Of modules so wide that the values of a chunk are shared out. The last row gives the largest."""
    make_checkpoint(tmp_path, dtype="F32", intermediate_size=2100, use_double_wide_mlp=False)
    tensors = read_folder(tmp_path)
    up = tensors["model.language_model.layers.0.mlp.up_proj.weight"].copy()
    up[-1] *= 30
    write_safetensors(
        tmp_path / "model.safetensors", tensors | {"model.language_model.layers.0.mlp.up_proj.weight": up}
    )
    check(tmp_path, [IDS], calibrate(tmp_path, IDS, threads=3, progress=False))


def test_scales_that_are_there_are_not_applied(tmp_path):
    folder = make_checkpoint(tmp_path, mobile=True, leftovers=True, head_scales=True)
    check(folder, [IDS], calibrate(folder, IDS, threads=2, progress=False))


def test_several_windows(monkeypatch):
    """Each is a sequence of its own, lies where it should, and they are taken together."""
    monkeypatch.setattr(calibration, "WINDOW", 200)
    monkeypatch.setattr(calibration, "WINDOWS", 2)
    folder = FIXTURES / "e2b"
    ids = np.random.default_rng(6).integers(3, 640, 500).astype(np.int32)
    check(folder, [ids[:200], ids[300:]], calibrate(folder, ids, threads=2, progress=False))


def test_windows_lie_evenly_and_begin_with_bos():
    model = gemmule.load("fairy")
    ids = np.array(model.tokenizer.encode(EXCERPT.read_text(), parse_special=False))
    options = {"window": 100, "least": 10}
    windows = list(spread(EXCERPT, model, windows=3, **options))
    middle = (len(ids) - 100) // 2
    for (window, _), begin in zip(windows, (0, middle, len(ids) - 100), strict=True):
        assert window.tolist() == [2, *ids[begin + 1 : begin + 100]]
    all_of_them = spread(EXCERPT, model, windows=999, **options)
    assert len(all_of_them) == len(ids) // 100
    begins = [begin for begin, _, _ in all_of_them.spans]
    assert min(np.diff(begins)) >= 100
    assert [len(window) for window, _ in spread(list(range(60)), model, windows=3, **options)] == [60]


def test_text(tmp_path):
    """A short one is one window; its beginning is BOS once."""
    folder = tmp_path / "model"
    shutil.copytree(FIXTURES / "e4b", folder)
    shutil.copytree(TOKENIZER, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("config.json"))
    text = "Once upon a time there was a king who had a daughter. " * 4
    ids = gemmule.load(folder).tokenizer.encode(text)
    assert 64 <= len(ids) < 512
    found = calibrate(folder, text, threads=1, progress=False)
    assert found == calibrate(folder, ids, threads=1, progress=False)


def test_same_bits_for_any_number_of_threads():
    found = [calibrate(FIXTURES / "e2b", IDS, threads=threads, progress=False) for threads in (1, 2, 5)]
    assert found[0] == found[1] == found[2]
    wide = [_core.Calibration(str(checkpoint.find("fairy")), threads) for threads in (1, 4)]
    for each in wide:  # in chunks that several threads count
        each.observe(np.tile(IDS, 3))
    assert wide[0].scales() == wide[1].scales()


def test_without_an_observer_nothing_changes():
    """The values that are counted are those that others get: gate and up are one step only where nobody looks."""
    model = gemmule.load(FIXTURES / "e2b")
    before = model.logits(IDS)
    calibrate(FIXTURES / "e2b", IDS, threads=2, progress=False)
    assert np.array_equal(model.logits(IDS), before)


@pytest.mark.parametrize(
    ("tensor", "named"),
    [
        ("layers.1.mlp.up_proj.weight", "layers.1.mlp.up_proj.output_activation_scale"),
        ("layers.1.self_attn.v_proj.weight", "layers.1.self_attn.v_proj.output_activation_scale"),
        ("layers.1.self_attn.k_norm.weight", "layers.1.self_attn.k_cache_scale"),
        ("layers.0.input_layernorm.weight", "layers.0.self_attn.q_proj.input_activation_scale"),
    ],
)
def test_values_that_are_not_finite_are_named(tmp_path, tensor, named):
    make_checkpoint(tmp_path, dtype="F32")
    tensors = read_folder(tmp_path)
    spoiled = tensors["model.language_model." + tensor].copy()
    spoiled.flat[1] = 3e38
    spoiled.flat[3] = 3e38
    spoiled.flat[5] = np.inf if "norm" not in tensor else 3e38
    write_safetensors(tmp_path / "model.safetensors", tensors | {"model.language_model." + tensor: spoiled})
    with pytest.raises(gemmule.FormatError, match=re.escape(named)) as caught:
        calibrate(tmp_path, IDS, threads=2, progress=False)
    assert caught.value.tensor == named
    assert caught.value.file == str(tmp_path)


@pytest.mark.parametrize(("text", "found"), [("", 1), ("Once upon a time", 5), ([2] * 63, 63)])
def test_too_little_text(text, found):
    folder = checkpoint.find("fairy")
    with pytest.raises(gemmule.ArgumentError, match=f"the text has {found} tokens; expected at least 64") as caught:
        calibrate(folder, text, threads=1, progress=False)
    assert "longer text" in caught.value.remedy


def test_refuses_what_is_no_text():
    folder = checkpoint.find("fairy")
    with pytest.raises(gemmule.ArgumentError, match="outside of"):
        calibrate(folder, [2] * 99 + [4096], threads=1, progress=False)
    with pytest.raises(gemmule.MissingFileError):
        calibrate(folder, Path("/no/such/file.txt"), threads=1, progress=False)
    with pytest.raises(gemmule.UnsupportedError, match="no tokenizer"):
        calibrate(FIXTURES / "ct_w4a16", "Once upon a time", threads=1, progress=False)
    with pytest.raises(gemmule.ArgumentError, match="4096 at position 1"):
        _core.Calibration(str(folder), 1).observe(np.array([2, 4096], np.int32))


def test_all_zeros_are_not_rounded(tmp_path):
    make_checkpoint(tmp_path, dtype="F32")
    tensors = read_folder(tmp_path)
    name = "model.language_model.layers.0.mlp.down_proj.weight"
    write_safetensors(tmp_path / "model.safetensors", tensors | {name: np.zeros_like(tensors[name])})
    scales = calibrate(tmp_path, IDS, threads=1, progress=False)
    assert [name for name, scale in scales.items() if scale == 0] == ["layers.0.mlp.down_proj.output_activation_scale"]


def test_ctrl_c_stops_it():
    """Within 200 ms on a free machine; the bound leaves room for a busy one."""
    code = (
        "import gemmule\n"
        "from gemmule.conversion.calibration import calibrate\n"
        "path = gemmule.checkpoints.checkpoint.find('fairy')\n"
        "ids = [2] + [300] * 30000\n"
        "print('ready', flush=True)\n"
        "try:\n"
        "    while True:\n"
        "        calibrate(path, ids, threads=2, progress=False)\n"
        "except KeyboardInterrupt:\n"
        "    print('stopped', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.5)
        begin = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "stopped\n"
        assert time.monotonic() - begin < 2
    assert child.returncode == 0


# Scales from a file

SOURCE = FIXTURES / "mobile_source"
PREFIX = "model.language_model."
UP = PREFIX + "layers.1.mlp.up_proj.output_activation_scale"


@pytest.fixture(scope="module")
def stored():
    return read_file(SOURCE / "activation_scales.safetensors")


def written(tmp_path, tensors):
    write_safetensors(tmp_path / "scales.safetensors", tensors)
    return tmp_path / "scales.safetensors"


def test_scales_of_a_file(stored):
    found = read_activation_scales(SOURCE / "activation_scales.safetensors", shape_of(SOURCE))
    assert found == {name.removeprefix(PREFIX): float(value) for name, value in stored.items()}
    assert found.keys() - scale_names(shape_of(SOURCE)) == {
        "lm_head.input_activation_scale",
        "lm_head.output_activation_scale",
    }
    assert 0 in found.values()


def test_other_spellings(tmp_path, stored):
    """Another prefix, shape (1,), bfloat16, no scales of the head, some of keys that are not used."""
    turned = {name.replace(PREFIX, "model."): np.atleast_1d(f32_to_bf16(value)) for name, value in stored.items()}
    turned = {name: value for name, value in turned.items() if "lm_head" not in name}
    turned["model.layers.4.self_attn.k_proj.input_activation_scale"] = np.float32(0.5)
    found = read_activation_scales(written(tmp_path, turned), shape_of(SOURCE))
    assert found.keys() == scale_names(shape_of(SOURCE)) | {"layers.4.self_attn.k_proj.input_activation_scale"}
    assert found["layers.0.mlp.up_proj.input_activation_scale"] == pytest.approx(
        float(stored[PREFIX + "layers.0.mlp.up_proj.input_activation_scale"]), rel=2**-8
    )


@pytest.mark.parametrize(
    ("change", "expected", "found"),
    [
        ({UP: None}, "a scale", "none"),
        ({UP: np.float32(-1)}, "none negative", "-1.0"),
        ({UP: np.float32(np.nan)}, "finite", "nan"),
        ({UP: np.float32(np.inf)}, "finite", "inf"),
        ({UP: np.ones(2, np.float32)}, r"shape \(\) or \(1,\)", r"\(2,\)"),
        ({UP: np.ones((1, 1), np.float32)}, r"shape \(\) or \(1,\)", r"\(1, 1\)"),
        ({UP: np.int32(1)}, "F32", "I32"),
        ({PREFIX + "layers.7.mlp.up_proj.output_activation_scale": np.float32(1)}, "this model's", "layers.7"),
        ({PREFIX + "layers.1.mlp.up_proj.weight_scale": np.float32(1)}, "this model's", "weight_scale"),
        ({PREFIX + "per_layer_model_projection.input_activation_scale": np.float32(1)}, "this model's", "projection"),
    ],
)
def test_files_that_do_not_fit(tmp_path, stored, change, expected, found):
    tensors = {name: value for name, value in (stored | change).items() if value is not None}
    path = written(tmp_path, tensors)
    with pytest.raises(gemmule.FormatError, match=f"expected.*{expected}.*found.*{found}") as caught:
        read_activation_scales(path, shape_of(SOURCE))
    assert caught.value.file == str(path)
    assert caught.value.tensor in (next(iter(change)), next(iter(change)).removeprefix(PREFIX))


def test_files_that_are_none(tmp_path):
    with pytest.raises(gemmule.MissingFileError):
        read_activation_scales(tmp_path / "missing.safetensors", shape_of(SOURCE))
    (tmp_path / "broken.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(gemmule.FormatError, match="LFS"):
        read_activation_scales(tmp_path / "broken.safetensors", shape_of(SOURCE))


MEASURE = """
import sys
import numpy as np
from gemmule import _core

def peak():
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

calibration = _core.Calibration(sys.argv[1], 2)
before = peak()
calibration.observe(np.arange(3, 80, dtype=np.int32))
print(peak() - before)
"""


@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer takes memory of its own")
def test_memory_does_not_grow_with_the_model(tmp_path):
    """Pages of weights are given back as soon as they were used."""
    make_checkpoint(tmp_path, hidden_size=1024, intermediate_size=4096, layer_types=[SLIDING, FULL] * 4)
    weights = sum(file.stat().st_size for file in tmp_path.glob("*.safetensors"))
    assert weights > 200e6
    done = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < weights / 2
