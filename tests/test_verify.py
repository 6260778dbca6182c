"""Damage is found: each kind is made in a tiny checkpoint and must be named."""

import dataclasses
import hashlib
import json
import math

import numpy as np
import pytest

import gemmule
import hostile_gguf
from checkpoints import add_zeros, make_checkpoint
from compressed_folders import repacked
from gemmule.command_line import cli
from gguf_models import HALVES, make_gguf
from golden_cases import FIXTURES
from hostile_gguf import TYPES
from memory_peak import peak_growth

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


def test_parts_of_rows_of_floats(plain, monkeypatch):
    """A row is dead where all its parts are, and places are those of the whole."""
    monkeypatch.setattr(gemmule.checkpoints.tensors, "_PIECE_BYTES", 96)  # 24 of 64 elements
    name = PREFIX + "layers.0.mlp.gate_proj.weight"
    damage(plain, name, row=50, byte=0)
    assert findings(plain) == [(name, "dead rows", 1, 50, True)]
    file = plain / "model.safetensors"
    first, _, _ = place(file, name)
    with file.open("r+b") as stream:
        stream.seek(first + 4 * (50 * 64 + 60))
        stream.write(np.float32(np.nan).tobytes())
    assert findings(plain) == [(name, "not finite", 1, 50 * 64 + 60, True)]


@pytest.mark.parametrize(
    ("tensor", "bytes", "found"),
    [
        ("layers.0.self_attn.q_proj.weight", (0x88, 0x88), "dead rows"),
        ("layers.0.self_attn.q_proj.weight", (0xFF, 0xFF), "saturated rows"),
        ("layers.0.self_attn.q_proj.weight", (0x00, 0xFF), None),  # another extreme in each part
        ("layers.0.self_attn.q_proj.weight", (0x88, 0x77), None),
    ],
)
def test_parts_of_rows_of_codes(mobile, monkeypatch, tensor, bytes, found):
    monkeypatch.setattr(gemmule.checkpoints.tensors, "_PIECE_BYTES", 16)  # half of a row
    file = mobile / "model.safetensors"
    first, _, _ = place(file, PREFIX + tensor)
    with file.open("r+b") as stream:
        stream.seek(first + 3 * 32)
        stream.write(np.repeat(bytes, 16).astype(np.uint8))
    assert findings(mobile) == ([(PREFIX + tensor, found, 1, 3, True)] if found else [])


def test_parts_of_rows_of_words(tmp_path, monkeypatch):
    """20 bytes, of which the last two are none of the codes'."""
    monkeypatch.setattr(gemmule.checkpoints.tensors, "_PIECE_BYTES", 16)
    mobile = make_checkpoint(tmp_path / "mobile", mobile=True, hidden_size=36)
    folder = repacked(mobile, tmp_path / "words", words_of_bytes=True)
    name = PREFIX + "layers.0.self_attn.q_proj.weight_packed"
    file = folder / "model.safetensors"
    first, _, shape = place(file, name)
    assert shape[1] == 5
    with file.open("r+b") as stream:
        stream.seek(first + 3 * 20)
        stream.write(b"\xff" * 18 + bytes(2))
    assert findings(folder) == [(name, "saturated rows", 1, 3, True)]


def test_parts_of_rows_of_blocks(gguf, monkeypatch):
    """As above, by one or two blocks of 256 elements, or as many smaller ones."""
    path, kind = gguf
    monkeypatch.setattr(gemmule.checkpoints.tensors, "_PIECE_BYTES", 300)
    elements, scales = TYPES[kind][1], HALVES[kind][0]

    def end_with(value):
        def spoil(blocks):
            blocks[-1, scales[0] : scales[0] + 2] = np.array([value], "<f2").view(np.uint8)

        return spoil

    def kill(blocks):
        for at in scales:
            blocks[:, at : at + 2] = 0

    def kill_the_last(blocks):
        kill(blocks[-1:])

    damage_gguf(path, "blk.0.ffn_up.weight", 3, end_with(np.inf))
    damage_gguf(path, "blk.1.ffn_up.weight", 5, kill)
    damage_gguf(path, "blk.1.ffn_up.weight", 6, kill_the_last)
    assert findings(path) == [
        ("blk.0.ffn_up.weight", "not finite", elements, 4 * 512 - elements, True),
        ("blk.1.ffn_up.weight", "dead rows", 1, 5, True),
    ]


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


@pytest.mark.parametrize("shape", [[1000, 50000], [50_000_000]])
@pytest.mark.parametrize("dtype", ["F32", "BF16", "U8"])
def test_memory_stays_small(tmp_path, shape, dtype):
    """200 MB of zeros and less, in rows and in one: looked at in pieces."""
    size = 50_000_000 * {"F32": 4, "BF16": 2, "U8": 1}[dtype]
    folder = add_zeros(make_checkpoint(tmp_path), "model.vision_tower.big", dtype, shape, size)
    assert peak_growth(lambda: gemmule.verify(folder)) < 30e6


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [
        ("F4", [2, 1], 1),  # rows that do not begin with a byte
        ("F4", [4, 3], 6),
        ("F6_E2M3", [4, 1], 3),
        ("F4", [4, 6], 12),
        *((dtype, shape, 0) for dtype in ("F32", "U8", "F4") for shape in ([0], [0, 64], [64, 0], [0, 0])),
    ],
)
@pytest.mark.parametrize("name", ["surprise", "model.language_model.layers.0.mlp.surprise.weight"])
def test_tensors_of_odd_shapes(mobile, name, dtype, shape, size):
    folder = add_zeros(mobile, name, dtype, shape, size)
    assert name in gemmule.load(folder).info["unknown_tensors"]
    assert gemmule.verify(folder).ok or size
    assert gemmule.verify(folder).tensors == gemmule.inspect(folder).tensors
    assert gemmule.estimate(folder).resident > 0


@pytest.mark.parametrize(("dtype", "nan"), [("BF16", "7f81"), ("F32", "7f800001"), ("F16", "7c01")])
@pytest.mark.parametrize(("name", "shape"), [("surprise.weight", [2, 2]), ("surprise.input_activation_scale", [])])
def test_a_signalling_nan_is_found_in_silence(tmp_path, dtype, nan, name, shape):
    """numpy warns of one in sums and conversions; warnings are errors here."""
    value, count = bytes.fromhex(nan)[::-1], math.prod(shape)
    folder = add_zeros(make_checkpoint(tmp_path), name, dtype, shape, len(value) * count)
    file = folder / "zeros.safetensors"
    file.write_bytes(file.read_bytes()[: -len(value)] + value)
    assert (name, "not finite", 1, count - 1, True) in findings(folder)
    assert math.isnan(gemmule.inspect(folder).input_scales.largest or math.nan)
