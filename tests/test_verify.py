"""Damage is found: each kind is made in a tiny checkpoint and must be named."""

import dataclasses
import hashlib
import json
import math
import subprocess
import sys

import numpy as np
import pytest

import gemmule
import hostile_gguf
from checkpoints import make_checkpoint
from compressed_folders import repacked
from gemmule.command_line import cli
from gguf_models import HALVES, make_gguf
from golden_cases import FIXTURES
from hostile_gguf import TYPES

PREFIX = "model.language_model."
GGUF = sorted(FIXTURES.glob("gguf_*/*.gguf"))


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


@pytest.mark.parametrize("path", ["fairy", *(FIXTURES / n for n in ("e2b", "dense", "moe", "mobile")), *GGUF], ids=str)
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


def damage_gguf(path, name, row, change):
    """Lets `change` work on one row of a tensor, (blocks, bytes of a block)."""
    file = hostile_gguf.read(path)
    (number,) = [i for i, each in enumerate(file.tensors) if each.name == name]
    stored = file.tensors[number]
    (size,) = [size for kind, _, size in TYPES.values() if kind == stored.type]
    rows = np.frombuffer(stored.data, np.uint8).reshape(math.prod(stored.dims[1:]), -1, size).copy()
    change(rows[row])
    file.tensors[number] = dataclasses.replace(stored, data=rows.tobytes())
    file.write(path)


def put_half(at, value):
    def put(blocks):
        blocks[1, at : at + 2] = np.array([value], "<f2").view(np.uint8)

    return put


# Rows of two blocks or more, of every type.
WIDE = {
    "hidden_size": 512,
    "hidden_size_per_layer_input": 256,
    "head_dim": 128,
    "global_head_dim": 128,
    "intermediate_size": 512,
}


@pytest.fixture(params=HALVES)
def gguf(request, tmp_path):
    """A model whose matrices are of a type of blocks; the type."""
    return make_gguf(tmp_path, matrices=request.param, **WIDE), request.param


def test_a_good_gguf_model_is_good(gguf):
    path, _ = gguf
    assert findings(path) == []
    assert gemmule.verify(path).tensors == gemmule.inspect(path).tensors


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scales_and_minima_of_blocks_that_are_not_finite(gguf, value):
    path, kind = gguf
    name, elements, good = "blk.1.ffn_up.weight", TYPES[kind][1], path.read_bytes()
    for at in HALVES[kind][0]:
        path.write_bytes(good)
        damage_gguf(path, name, 3, put_half(at, value))
        assert findings(path) == [(name, "not finite", elements, 3 * 512 + elements, True)]


def test_dead_rows_of_blocks(gguf):
    path, kind = gguf

    def kill(blocks):
        for at in HALVES[kind][0]:
            blocks[:, at : at + 2] = 0

    damage_gguf(path, "blk.1.ffn_up.weight", 3, kill)
    assert findings(path) == [("blk.1.ffn_up.weight", "dead rows", 1, 3, True)]


# Bytes of a block's codes.
CODES = {"Q4_0": (2, 18), "Q4_1": (4, 20), "Q5_0": (2, 22), "Q5_1": (4, 24), "Q8_0": (2, 34)}
CODES |= {"Q4_K": (16, 144), "Q5_K": (16, 176), "Q6_K": (0, 192)}


@pytest.mark.parametrize("highest", [False, True])
def test_saturated_rows_of_blocks(gguf, highest):
    """Not where blocks have a minimum: there equal codes are equal elements, as they may be."""
    path, kind = gguf
    first, last = CODES[kind]
    byte = (0x7F if highest else 0x80) if kind == "Q8_0" else (0xFF if highest else 0x00)

    def fill(blocks):
        blocks[:, first:last] = byte

    def fill_all_but_one(blocks):
        fill(blocks)
        blocks[-1, first + 7] = 0x33

    damage_gguf(path, "blk.0.attn_q.weight", 5, fill)
    damage_gguf(path, "blk.1.attn_q.weight", 5, fill_all_but_one)
    has_minimum = len(HALVES[kind][0]) == 2
    assert findings(path) == ([] if has_minimum else [("blk.0.attn_q.weight", "saturated rows", 1, 5, True)])


def test_rows_of_tables_in_blocks_are_a_remark(tmp_path):
    path = make_gguf(tmp_path, tables="Q8_0")
    damage_gguf(path, "token_embd.weight", 7, lambda blocks: blocks.fill(0))
    assert findings(path) == [("token_embd.weight", "dead rows", 1, 7, False)]
    damage_gguf(path, "token_embd.weight", 7, put_half(0, np.nan))
    assert not gemmule.verify(path)


def test_experts_in_blocks_have_rows_of_their_own(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes((FIXTURES / "gguf_moe" / "model-Q4_0.gguf").read_bytes())
    damage_gguf(path, "blk.2.ffn_gate_up_exps.weight", 3 * 64 + 5, lambda blocks: blocks.fill(0))
    assert findings(path) == [("blk.2.ffn_gate_up_exps.weight", "dead rows", 1, 3 * 64 + 5, True)]


def test_floats_of_a_gguf_file(tmp_path):
    path = make_gguf(tmp_path)
    damage_gguf(path, "blk.0.attn_norm.weight", 0, lambda values: values.fill(0xFF))
    assert findings(path) == [("blk.0.attn_norm.weight", "not finite", 64, 0, True)]
    assert cli.main(["verify", str(path), "--quiet"]) == 1


def test_files_of_a_gguf_model(tmp_path):
    first = make_gguf(tmp_path, parts=3)
    (tmp_path / "other.gguf").write_bytes(b"GGUF, but of another model")
    for path in sorted(tmp_path.glob("model-*")):
        report = gemmule.verify(path)
        assert [file.name for file in report.files] == [f"model-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
        assert report.files[0].sha256 == hashlib.sha256(first.read_bytes()).hexdigest()
        assert report.files[0].bytes == first.stat().st_size


def test_pieces_count_rows_on(plain, monkeypatch):
    """A tensor that is read in several pieces: places are those of the whole."""
    monkeypatch.setattr(gemmule.checkpoints.tensors, "_PIECE_BYTES", 1000)
    name = PREFIX + "layers.0.mlp.gate_proj.weight"
    damage(plain, name, row=50, byte=0)
    damage(plain, name, row=90, byte=0)
    assert findings(plain) == [(name, "dead rows", 2, 50, True)]


def test_pieces_count_places_on_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(gemmule.checkpoints.tensors, "_PIECE_BYTES", 1000)
    path = make_gguf(tmp_path)
    name = "blk.0.ffn_gate.weight"  # (96, 64)
    damage_gguf(path, name, 50, put_half(0, np.nan))
    damage_gguf(path, name, 90, lambda blocks: blocks.fill(0))
    found = [(name, "not finite", 32, 50 * 64 + 32, True), (name, "dead rows", 1, 90, True)]
    assert sorted(findings(path)) == sorted(found)


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
