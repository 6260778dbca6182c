"""Damage is found: each kind is made in a tiny checkpoint and must be named."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

import gemmule
from checkpoints import make_checkpoint
from compressed_folders import repacked
from gemmule import cli
from golden_cases import FIXTURES

PREFIX = "model.language_model."


@pytest.fixture
def mobile(tmp_path):
    return make_checkpoint(tmp_path / "mobile", mobile=True)


@pytest.fixture
def plain(tmp_path):
    return make_checkpoint(tmp_path / "plain", dtype="F32")


def read_header(file):
    """A safetensors header, and where the tensors' bytes begin."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), 8 + length


def place(file, name):
    """Where a tensor's bytes begin and end in a file, and its shape."""
    header, start = read_header(file)
    first, last = header[name]["data_offsets"]
    return start + first, start + last, header[name]["shape"]


def damage(folder, name, *, row, byte=None, value=None):
    """Fills one row of a tensor with a byte, or puts a float32 at its beginning."""
    file = folder / "model.safetensors"
    first, last, shape = place(file, name)
    size = (last - first) // (shape[0] if len(shape) > 1 else 1)
    data = bytearray(file.read_bytes())
    at = first + row * size
    new = bytes([byte]) * size if byte is not None else np.float32(value).tobytes()
    data[at : at + len(new)] = new
    file.write_bytes(data)


def findings(folder):
    return [(each.where, each.what, each.count, each.first, each.wrong) for each in gemmule.verify(folder).findings]


@pytest.mark.parametrize("path", ["fairy", *(FIXTURES / n for n in ("e2b", "dense", "moe", "mobile"))], ids=str)
def test_a_good_checkpoint_is_good(path):
    report = gemmule.verify(path)
    assert report
    assert report.ok
    assert report.findings == ()
    assert report.tensors == gemmule.inspect(path).tensors


def test_sizes_and_hashes(plain):
    file = plain / "model.safetensors"
    (found,) = gemmule.verify(plain).files
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (found.name, found.bytes, found.sha256) == ("model.safetensors", file.stat().st_size, digest)
    assert found.expected_sha256 is None


@pytest.mark.parametrize(
    ("tensor", "byte", "what", "wrong"),
    [
        ("layers.0.self_attn.q_proj.weight", 0xFF, "saturated rows", True),  # 4 bits: all 7
        ("layers.0.self_attn.q_proj.weight", 0x00, "saturated rows", True),  # all -8
        ("layers.0.self_attn.q_proj.weight", 0x88, "dead rows", True),
        ("layers.2.mlp.up_proj.weight", 0xAA, "dead rows", True),  # 2 bits
        ("layers.2.mlp.up_proj.weight", 0xFF, "saturated rows", True),
        ("layers.1.per_layer_projection.weight", 0x80, "saturated rows", True),  # 8 bits: all -128
        ("layers.1.per_layer_projection.weight", 0x7F, "saturated rows", True),
        ("layers.1.per_layer_projection.weight", 0x00, "dead rows", True),
        ("embed_tokens.embedding_quantized", 0xAA, "dead rows", False),  # a token that was never trained
        ("embed_tokens_per_layer.embedding_quantized", 0x88, "dead rows", False),
    ],
)
def test_rows_of_codes(mobile, tensor, byte, what, wrong):
    damage(mobile, PREFIX + tensor, row=3, byte=byte)
    assert findings(mobile) == [(PREFIX + tensor, what, 1, 3, wrong)]
    assert gemmule.verify(mobile).ok is not wrong


@pytest.mark.parametrize(
    ("module", "code", "what"),
    [
        ("layers.0.self_attn.q_proj", 0x00, "saturated rows"),  # 4 bits, 36 of them: four are padding
        ("layers.0.self_attn.q_proj", 0x88, "dead rows"),
        ("layers.0.per_layer_input_gate", 0x80, "dead rows"),  # 8 bits
        ("layers.0.per_layer_input_gate", 0x00, "saturated rows"),
        ("layers.0.per_layer_input_gate", 0xFF, "saturated rows"),
    ],
)
def test_rows_of_words(tmp_path, module, code, what):
    mobile = make_checkpoint(tmp_path / "mobile", mobile=True, hidden_size=36)
    folder = repacked(mobile, tmp_path / "words", words_of_bytes=True)
    assert findings(folder) == []
    name = f"{PREFIX}{module}.weight_packed"
    damage(folder, name, row=3, byte=code)
    file = folder / "model.safetensors"
    first, _, shape = place(file, name)
    data = bytearray(file.read_bytes())
    row_bytes, bits = 4 * shape[1], 32 * shape[1] // 36
    used = 36 * bits // 8
    data[first + 3 * row_bytes + used : first + 4 * row_bytes] = bytes(row_bytes - used)
    file.write_bytes(data)
    assert findings(folder) == [(name, what, 1, 3, True)]


def test_a_row_of_another_code_is_no_fault(mobile):
    damage(mobile, PREFIX + "layers.0.self_attn.q_proj.weight", row=3, byte=0x77)
    assert findings(mobile) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "tensor",
    [
        PREFIX + "layers.0.self_attn.q_proj.weight_scale",
        PREFIX + "layers.1.self_attn.q_proj.input_activation_scale",
        PREFIX + "layers.1.self_attn.k_cache_scale",
        PREFIX + "embed_tokens.embedding_scale",
    ],
)
def test_scales_and_floats_that_are_not_finite(mobile, tensor, value):
    damage(mobile, tensor, row=0, value=value)
    assert (tensor, "not finite", 1, 0, True) in findings(mobile)


def test_towers_are_looked_at_too(tmp_path):
    """Rows of zeros are a remark there: text does not use them."""
    folder = make_checkpoint(tmp_path / "towers", towers=True)
    tower = "model.vision_tower.encoder.layers.0.self_attn.q_proj.linear.weight"
    assert (tower, "dead rows", 4, 0, False) in findings(folder)
    assert gemmule.verify(folder).ok
    damage(folder, tower, row=2, value=np.nan)
    assert (tower, "not finite", 1, 8, True) in findings(folder)
    assert not gemmule.verify(folder).ok


def test_a_negative_and_a_dead_scale(mobile):
    scale = PREFIX + "layers.0.self_attn.q_proj.weight_scale"
    damage(mobile, scale, row=5, value=-1)
    assert findings(mobile) == [(scale, "negative scale", 1, 5, True)]
    damage(mobile, scale, row=5, value=0)
    assert findings(mobile) == [(scale, "dead rows", 1, 5, True)]


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_float_matrices(tmp_path, dtype):
    folder = make_checkpoint(tmp_path / "floats", dtype=dtype)
    name = PREFIX + "layers.0.mlp.gate_proj.weight"
    damage(folder, name, row=2, byte=0)
    assert findings(folder) == [(name, "dead rows", 1, 2, True)]
    damage(folder, name, row=2, byte=0xFF)  # NaN in every float type
    columns = place(folder / "model.safetensors", name)[2][1]
    assert findings(folder) == [(name, "not finite", columns, 2 * columns, True)]


def test_pieces_count_rows_on(plain, monkeypatch):
    """A tensor that is read in several pieces: places are those of the whole."""
    monkeypatch.setattr(gemmule.tensors, "_PIECE_BYTES", 1000)
    name = PREFIX + "layers.0.mlp.gate_proj.weight"
    damage(plain, name, row=50, byte=0)
    damage(plain, name, row=90, byte=0)
    assert findings(plain) == [(name, "dead rows", 2, 50, True)]


def test_faults_come_before_remarks(mobile):
    damage(mobile, PREFIX + "embed_tokens.embedding_quantized", row=1, byte=0xAA)
    damage(mobile, PREFIX + "layers.3.mlp.down_proj.weight", row=1, byte=0xFF)
    assert [each.wrong for each in gemmule.verify(mobile).findings] == [True, False]


def test_the_command_line(mobile, capsys):
    assert cli.main(["verify", str(mobile)]) == 0
    good = capsys.readouterr().out
    assert "nothing is wrong" in good
    assert hashlib.sha256((mobile / "model.safetensors").read_bytes()).hexdigest() in good
    damage(mobile, PREFIX + "layers.0.self_attn.q_proj.weight", row=3, byte=0xFF)
    assert cli.main(["verify", str(mobile), "--json", "--quiet"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is False
    assert said["findings"][0]["what"] == "saturated rows"
    assert cli.main(["verify", str(mobile)]) == 1
    assert "wrong: " + PREFIX + "layers.0.self_attn.q_proj.weight: saturated rows: 1" in capsys.readouterr().out


def test_memory_stays_small(tmp_path):
    """200 MB of zeros as a tower: looked at in pieces."""
    folder = make_checkpoint(tmp_path / "large")
    header = {"model.vision_tower.big": {"dtype": "F32", "shape": [1000, 50000], "data_offsets": [0, 200_000_000]}}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").rename(folder / "small.safetensors")
    with (folder / "big.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + 200_000_000)
    small, _ = read_header(folder / "small.safetensors")
    shards = dict.fromkeys(set(small) - {"__metadata__"}, "small.safetensors")
    index = {"weight_map": {**shards, "model.vision_tower.big": "big.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    code = (
        "import gemmule, resource, sys; before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "assert gemmule.verify(sys.argv[1]); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 60_000  # kB
