"""Checkpoints of the published sizes, all of whose weights are holes in a sparse file: what is loaded, and what
`inspect` and `estimate` make of them, against the sizes that are known."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import gemmule
from checkpoints import Shapes
from published_configs import CONFIGS, COUNTS, TOTALS, TOWERS

BYTES = {"BF16": 2, "F32": 4, "U8": 1, "I8": 1, "I32": 4, "I64": 8}
PREFIX = "model.language_model."
SLACK = 16 << 20  # bytes: the estimate counts whole pieces of the file, of 2 MiB

# Parameters of keys and values that shared layers store and nobody reads.
LEFTOVERS = {"E2B": 18_880_512, "E4B": 55_055_616}

# Bytes that a token takes in a cache of 16-bit elements, of all layers that own keys and values: of sliding ones
# (2 G 256 2 each), and of full ones (2 G 512 2).
CACHE_BYTES = {
    "E2B": 12 * 1024 + 3 * 2048,
    "E4B": 20 * 2048 + 4 * 4096,
    "12B": 40 * 8192 + 8 * 2048,
    "26B-A4B": 25 * 8192 + 5 * 4096,
    "31B": 50 * 16384 + 10 * 8192,
}


def write(folder: Path, config: dict, tensors: dict[str, tuple[str, tuple[int, ...]]]) -> Path:
    """A folder whose tensors (name -> dtype, shape) are zeros that take no room."""
    header, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = BYTES[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return folder


def shapes(size: str, *, leftovers: bool = False) -> Shapes:
    return Shapes({"hidden_size_per_layer_input": 0} | CONFIGS[size]["text_config"], leftovers)


def floats(size: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """All tensors in bfloat16, the towers as one, leftovers at the end."""
    names = {}
    for leftovers in (False, True):
        of = shapes(size, leftovers=leftovers)
        matrices = of.tables() | of.matrices() | ({"per_layer_model_projection": of.projection()} if of.P else {})
        names |= {name + ".weight": shape for name, shape in matrices.items()} | of.experts()
        names |= {name: (n,) for name, n in of.vectors().items()}
    tensors = {PREFIX + name: ("BF16", shape) for name, shape in names.items()}
    return tensors | {"model.vision_tower.all": ("BF16", (TOWERS[size],))}


@pytest.fixture(scope="module", params=CONFIGS)
def size(request):
    return request.param


@pytest.fixture(scope="module")
def folder(size, tmp_path_factory):
    return write(tmp_path_factory.mktemp(size) / "bf16", CONFIGS[size], floats(size))


def test_load(size, folder):
    model = gemmule.load(folder, memory_limit=1 << 50)
    assert model.info["parameters"] == sum(COUNTS[size].values())
    assert model.info["weight_bytes"] == 2 * model.info["parameters"]
    assert model.info["unknown_tensors"] == []
    assert model.info["skipped_tensors"] == ["model.vision_tower.all"]
    text, config = CONFIGS[size]["text_config"], model.info["config"]
    assert model.context == text["max_position_embeddings"]
    for key in ("vocab_size", "hidden_size", "num_attention_heads", "sliding_window", "layer_types"):
        assert config[key] == text[key], key
    for key in ("hidden_size_per_layer_input", "num_kv_shared_layers", "num_experts", "moe_intermediate_size"):
        assert config[key] == (text.get(key) or 0), key
    of = shapes(size)
    for i, layer in enumerate(config["layers"]):
        assert layer["head_dim"] == (512 if of.full[i] else 256)
        assert layer["num_key_value_heads"] == of.kv_heads(i)
        assert layer["intermediate_size"] == of.mlp_width(i)
        assert layer["has_v_proj"] == (not of.k_eq_v(i))
        assert layer["kv_owner"] == i or i >= of.first_shared


def test_inspect(size, folder):
    found = gemmule.inspect(folder)
    assert found.parameters == TOTALS[size] + LEFTOVERS.get(size, 0)
    assert found.bytes == 2 * found.parameters
    groups = {group.kind: group.parameters for group in found.groups}
    assert groups.pop("towers") == TOWERS[size]
    assert groups.pop("leftovers", 0) == LEFTOVERS.get(size, 0)
    assert groups == COUNTS[size]


def test_estimate(size, folder):
    found = gemmule.estimate(folder, 512, "bf16")
    table = COUNTS[size].get("per-layer embeddings", 0)
    of = shapes(size)
    vectors = sum(of.vectors().values())
    exact = 2 * (sum(COUNTS[size].values()) - table) + 4 * vectors
    assert exact <= found.text_weights <= exact + SLACK
    assert found.on_disk == ({"per-layer embeddings": 2 * table} if table else {})
    unused = {"towers": 2 * TOWERS[size], "leftovers": 2 * LEFTOVERS.get(size, 0)}
    assert found.unused == {kind: number for kind, number in unused.items() if number}
    assert found.kv_cache == 512 * CACHE_BYTES[size]
    assert gemmule.estimate(folder, 512, "float32").kv_cache == 2 * found.kv_cache
    parts = found.text_weights + found.kv_cache + found.scratch + found.tokenizer + found.program
    assert found.resident == parts


def test_a_long_context_needs_what_full_layers_keep(size, folder):
    """Sliding layers stop at their window and a chunk, in whole blocks."""
    text = CONFIGS[size]["text_config"]
    window, most = text["sliding_window"], text["max_position_embeddings"]
    longest, shorter = (gemmule.estimate(folder, context, "bf16").kv_cache for context in (most, most // 2))
    of = shapes(size)
    owners = [i for i in range(of.first_shared) if of.full[i]]
    full = sum(2 * of.kv_heads(i) * 512 * 2 for i in owners)
    assert longest - shorter == full * (most // 2)
    sliding = CACHE_BYTES[size] - full
    assert window * sliding <= longest - full * most <= (window + 256) * sliding


def mobile(size: str) -> tuple[dict, dict[str, tuple[str, tuple[int, ...]]]]:
    """config.json and tensors of the mobile format, towers and leftovers left out."""
    config = CONFIGS[size] | {"tie_word_embeddings": False}
    config["text_config"] = config["text_config"] | {"tie_word_embeddings": False}
    of = Shapes(config["text_config"], leftovers=False)
    config["quantization_config"] = {"quant_method": "gemma", "num_bits": 4, "module_quant_configs": {}}
    tensors = {}

    def add(name: str, bits: int, shape: tuple[int, int], scales: int, weight: str, scale: str) -> None:
        rows, columns = shape
        tensors[name + weight] = ("I8" if bits == 8 else "U8", (rows, columns * bits // 8))
        tensors[name + scale] = ("F32", (rows, scales))

    for name, shape in of.matrices().items():
        full_name = name if name == "lm_head" else PREFIX + name
        first_mlps = size == "E4B" or (name.startswith("layers.") and int(name.split(".")[1]) < 15)
        bits = 8 if "per_layer" in name else 4 if ".self_attn." in name or (".mlp." in name and first_mlps) else 2
        add(full_name, bits, shape, 1, ".weight", ".weight_scale")
        tensors |= {f"{full_name}.{side}_activation_scale": ("F32", ()) for side in ("input", "output")}
    for name, shape in of.tables().items():
        per_layer = name.endswith("per_layer")
        bits = 4 if per_layer and size == "E2B" else 2
        add(PREFIX + name, bits, shape, of.L if per_layer else 1, ".embedding_quantized", ".embedding_scale")
    tensors[PREFIX + "per_layer_model_projection.weight"] = ("BF16", of.projection())
    tensors |= {PREFIX + name: ("BF16", (n,)) for name, n in of.vectors().items()}
    return config, tensors


def test_mobile_e2b(tmp_path):
    """Megabytes of codes and of scales, and the 0.84 GiB that the model is announced with: all but the table of
    per-layer embeddings."""
    folder = write(tmp_path / "mobile", *mobile("E2B"))
    found = gemmule.inspect(folder)
    megabytes = {g.kind: (round(g.weight_bytes / 1e6, 2), round(g.scale_bytes / 1e6, 2)) for g in found.groups}
    assert megabytes == {
        "attention": (139.23, 0.60),  # 0.03 of them the norms of heads
        "mlp": (495.45, 2.92),
        "per-layer inputs": (55.05, 0.25),
        "head": (100.66, 1.05),
        "norms and scalars": (0.54, 0.0),
        "embeddings": (100.66, 1.05),
        "per-layer embeddings": (1174.41, 36.70),
    }
    table = next(group for group in found.groups if group.kind == "per-layer embeddings")
    assert round((found.bytes - table.weight_bytes - table.scale_bytes) / 2**30, 3) == 0.836
    memory = gemmule.estimate(folder, 512)
    embedding = 262144 * (1536 // 4 + 4)
    exact = 795.7e6
    assert memory.on_disk == {"embeddings": embedding, "per-layer embeddings": 262144 * (8960 // 2 + 35 * 4)}
    assert exact - 0.1e6 <= memory.text_weights <= exact + SLACK


def test_mobile_e4b(tmp_path):
    """Its per-layer embedding has 2 bits."""
    folder = write(tmp_path / "mobile", *mobile("E4B"))
    groups = {group.kind: group.weight_bytes + group.scale_bytes for group in gemmule.inspect(folder).groups}
    assert round(groups["mlp"] / 1e6) == 1655
    assert round(groups["head"] / 1e6) == round(groups["embeddings"] / 1e6) == 169
    assert gemmule.estimate(folder, 512).on_disk["per-layer embeddings"] == 262144 * (10752 // 4 + 42 * 4)


def test_w4a16_31b(tmp_path):
    """29.29 billion weights of 4.5 bits, the embedding, a head of its own, and the towers: the published 23.3 GB."""
    of = shapes("31B")
    config = CONFIGS["31B"] | {"quantization_config": {"quant_method": "compressed-tensors"}}
    config |= {"tie_word_embeddings": False}
    tensors = {PREFIX + name: ("BF16", (n,)) for name, n in of.vectors().items()}
    tensors |= {
        name: ("BF16", of.tables()["embed_tokens"]) for name in (PREFIX + "embed_tokens.weight", "lm_head.weight")
    }
    tensors |= {"model.vision_tower.all": ("BF16", (TOWERS["31B"],))}
    for name, (rows, columns) in of.matrices().items():
        tensors[f"{PREFIX}{name}.weight_packed"] = ("I32", (rows, columns // 8))
        tensors[f"{PREFIX}{name}.weight_scale"] = ("BF16", (rows, columns // 32))
        tensors[f"{PREFIX}{name}.weight_shape"] = ("I64", (2,))
    folder = write(tmp_path / "ct", config, tensors)
    found = gemmule.inspect(folder)
    assert round(found.bytes / 1e9, 1) == 23.3
    bits = {group.kind: group.bits for group in found.groups}
    assert bits["mlp"] == pytest.approx(4.5, rel=1e-5)
    assert np.isclose(bits["attention"], 4.5, rtol=1e-3)  # its norms have 16 bits
    memory = gemmule.estimate(folder, 512)
    assert memory.on_disk == {"embeddings": 2 * COUNTS["31B"]["embeddings"]}
    assert 0 <= memory.text_weights - (found.bytes - 2 * TOWERS["31B"] - 2 * COUNTS["31B"]["embeddings"]) <= 2 * SLACK
