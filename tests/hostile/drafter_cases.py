"""Drafters that lie: another model's sizes, tensors that are missing or of wrong shapes, clusters that are none, and
configs that contradict themselves."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import gemmule
from drafter_folders import CLUSTERS, make_drafter
from gemmule.errors import FormatError, UnsupportedError
from golden_cases import FIXTURES
from hostile import write_safetensors
from hostile.case import Case

FILE = "config.json"
WEIGHTS = r"model\.safetensors"
V = 640  # tokens of the model
NAN = np.float32("nan")
BF16_NAN = 0x7FC0
ORDER = "masked_embedding.token_ordering"
CENTROIDS = "masked_embedding.centroids.weight"
PROJECTIONS = ("pre_projection.weight", "post_projection.weight")

# Of another model: fields of the text config, or of the whole config, and the field that is blamed.
OTHER_MODELS = {
    "another vocabulary": ({"vocab_size": 320}, {}, "vocab_size"),
    "a vocabulary of one token more": ({"vocab_size": 641}, {"use_ordered_embeddings": False}, "vocab_size"),
    "a model of another width": ({}, {"backbone_hidden_size": 128}, "backbone_hidden_size"),
    "the widest model": ({}, {"backbone_hidden_size": 1 << 20}, "backbone_hidden_size"),
    "another window": ({"sliding_window": 32}, {}, "sliding_window"),
    "heads of another size": ({"head_dim": 16, "per_layer_config": {"3": {"head_dim": 64}}}, {}, "head_dim"),
    "full heads of another size": ({"per_layer_config": {"3": {"head_dim": 32}}}, {}, "head_dim"),
    "other heads": (
        {"num_key_value_heads": 2, "per_layer_config": {"3": {"head_dim": 64}}},
        {},
        "num_key_value_heads",
    ),
}

# Configs that are not run, likewise; the field and what the message says.
NOT_RUN = {
    "per-layer inputs": (
        {"hidden_size_per_layer_input": 8},
        {},
        "text_config.hidden_size_per_layer_input",
        "per-layer",
    ),
    "experts": ({"enable_moe_block": True}, {}, "text_config.enable_moe_block", "experts"),
    "biases": ({"attention_bias": True}, {}, "text_config.attention_bias", "biases"),
    "another activation": ({"hidden_activation": "silu"}, {}, "text_config.hidden_activation", "activation"),
    "both directions": (
        {"use_bidirectional_attention": "all"},
        {},
        "text_config.use_bidirectional_attention",
        "both directions",
    ),
    "a quantization": ({}, {"quantization_config": {"quant_method": "gptq"}}, "quantization_config.*", "gptq"),
    "another type": ({}, {"model_type": "llama_assistant"}, "model_type", "no drafter"),
    "a model": ({}, {"model_type": "gemma4"}, "model_type", "no drafter"),
}

# Configs that lie.
CONFIGS = {
    "no model_type": ({}, {"model_type": None}, "model_type"),
    "no text config": ({}, {"text_config": None}, "text_config"),
    "a text config that is a list": ({}, {"text_config": []}, "text_config"),
    "no width of its model": ({}, {"backbone_hidden_size": None}, "backbone_hidden_size"),
    "a width of zero of its model": ({}, {"backbone_hidden_size": 0}, "backbone_hidden_size"),
    "a width in words": ({}, {"backbone_hidden_size": "64"}, "backbone_hidden_size"),
    "a width beyond all": ({}, {"backbone_hidden_size": 1 << 62}, "backbone_hidden_size"),
    "clusters by a number": ({}, {"use_ordered_embeddings": 1}, "use_ordered_embeddings"),
    "no clusters": ({}, {"num_centroids": 0}, "num_centroids"),
    "clusters below zero": ({}, {"num_centroids": -16}, "num_centroids"),
    "more clusters than tokens": ({}, {"num_centroids": V + 1}, "num_centroids"),
    "clusters that do not divide the tokens": ({}, {"num_centroids": 17}, "num_centroids"),
    "clusters that are a fraction": ({}, {"num_centroids": 16.0}, "num_centroids"),
    "clusters of null": ({}, {"num_centroids": None}, "num_centroids"),
    "no cluster seen": ({}, {"centroid_intermediate_top_k": 0}, "centroid_intermediate_top_k"),
    "more clusters seen than there are": ({}, {"centroid_intermediate_top_k": 17}, "centroid_intermediate_top_k"),
    "all clusters of all models seen": ({}, {"centroid_intermediate_top_k": 1 << 63}, "centroid_intermediate_top_k"),
    "more layers shared than there are": ({"num_kv_shared_layers": 5}, {}, "text_config.num_kv_shared_layers"),
    "no layers": ({"num_hidden_layers": 0}, {}, "text_config.num_hidden_layers"),
    "layers without types": ({"layer_types": []}, {}, "text_config.layer_types"),
    "heads that do not divide": ({"num_attention_heads": 3, "num_key_value_heads": 2}, {}, "text_config"),
    "odd heads": ({"head_dim": 33, "per_layer_config": {}}, {}, "text_config"),
    "an epsilon of zero": ({"rms_norm_eps": 0.0}, {}, "text_config.rms_norm_eps"),
    "rope of nothing": ({"rope_parameters": {}}, {}, r"text_config\.rope_parameters.*"),
    "a flag of per-layer inputs": (
        {"hidden_size_per_layer_input": True},
        {},
        "text_config.hidden_size_per_layer_input",
    ),
}

# Tensors in place of the right ones: what the message says.
TENSORS: dict[str, tuple[str, np.ndarray | None, str]] = {
    f"without {name}": (name, None, "missing")
    for name in (*PROJECTIONS, ORDER, CENTROIDS, "model.norm.weight", "model.embed_tokens.weight")
} | {
    "a projection of another width": (PROJECTIONS[0], np.zeros((32, 64), np.float32), "wrong kind"),
    "a projection on its side": (PROJECTIONS[0], np.zeros((128, 32), np.float32), "wrong kind"),
    "a projection back of another width": (PROJECTIONS[1], np.zeros((8, 8), np.float32), "wrong kind"),
    "a projection in one dimension": (PROJECTIONS[1], np.zeros(64 * 32, np.float32), "wrong kind"),
    "a projection of integers": (PROJECTIONS[0], np.zeros((32, 128), np.int64), "wrong kind"),
    "a projection of bytes": (PROJECTIONS[0], np.zeros((32, 64), np.uint8), "wrong kind"),
    "a table of fewer tokens": ("model.embed_tokens.weight", np.zeros((V - 1, 32), np.float32), "wrong kind"),
    "a norm that is NaN": ("model.norm.weight", np.full(32, BF16_NAN, np.uint16), "not a finite number"),
    "a norm of another width": ("model.norm.weight", np.zeros(64, np.float32), "wrong kind"),
    "a query of keys": ("model.layers.0.self_attn.q_proj.weight", np.zeros((32, 32), np.float32), "wrong kind"),
    "centroids of fewer clusters": (CENTROIDS, np.zeros((CLUSTERS - 1, 32), np.float32), "wrong kind"),
    "centroids of more clusters": (CENTROIDS, np.zeros((CLUSTERS + 1, 32), np.float32), "wrong kind"),
    "centroids of another width": (CENTROIDS, np.zeros((CLUSTERS, 16), np.float32), "wrong kind"),
    "centroids of no clusters": (CENTROIDS, np.zeros((0, 32), np.float32), "wrong kind"),
    "an order of 32 bits": (ORDER, np.arange(V, dtype=np.int32), "wrong kind.*I64"),
    "an order of floats": (ORDER, np.arange(V, dtype=np.float32), "wrong kind.*I64"),
    "an order of fewer tokens": (ORDER, np.arange(V - 1), "wrong kind"),
    "an order of more tokens": (ORDER, np.arange(V + 1), "wrong kind"),
    "an order in clusters": (ORDER, np.arange(V).reshape(CLUSTERS, -1), "wrong kind"),
    "an order from one": (ORDER, np.arange(1, V + 1), "outside the vocabulary.*640"),
    "an order from minus one": (ORDER, np.arange(-1, V - 1), "outside the vocabulary.*-1"),
    "an order with the least id": (ORDER, np.full(V, -(1 << 63)), "outside the vocabulary"),
    "an order with an id that wraps to zero": (ORDER, np.full(V, 1 << 32), "outside the vocabulary.*4294967296"),
}

# Bytes of the weights' file.
WHOLE = {
    "no bytes": (b"", "empty"),
    "a length of 2^62": (b"\0" * 7 + b"\x40{}", "longer than the format allows"),
    "an HTML page": (b"<!DOCTYPE html>", "HTML page"),
}


@cache
def target() -> gemmule.Model:
    return gemmule.load(FIXTURES / "e2b", threads=1)


def open_drafter(path: str) -> object:
    return gemmule._core.DraftModel.load(path, target()._core, "auto")


def write(folder: Path, **options: Any) -> Path:
    options["changed"] = {"per_layer_config": {"3": {"head_dim": 64}}} | options.get("changed", {})
    return make_drafter(folder, target().info["config"], ordered=True, **options)


def write_bytes(folder: Path, data: bytes) -> Path:
    (write(folder) / "model.safetensors").write_bytes(data)
    return folder


def write_hole(folder: Path) -> Path:
    """A file whose tensors say nothing of what a drafter has."""
    write(folder)
    write_safetensors(folder / "model.safetensors", {})
    return folder


def cases() -> Iterator[Case]:
    def config(name: str, text: dict, whole: dict, match: str, error: type, tensor: str) -> Case:
        return Case(
            name,
            lambda folder: write(folder, changed=text, whole=whole),
            match,
            error,
            FILE,
            tensor,
            open_drafter,
        )

    for name, (text, whole, field) in OTHER_MODELS.items():
        yield config(name, text, whole, "made for another model", UnsupportedError, field)
    for name, (text, whole, field, match) in NOT_RUN.items():
        yield config(f"not run: {name}", text, whole, match, UnsupportedError, field)
    for name, (text, whole, field) in CONFIGS.items():
        yield config(name, text, whole, field.split(".")[-1].strip("*\\"), FormatError, field)
    for name, (tensor, value, match) in TENSORS.items():
        yield Case(
            name,
            lambda folder, tensor=tensor, value=value: write(folder, tensors={tensor: value}),
            match,
            file=f"{FILE}|{WEIGHTS}",
            tensor=tensor,
            open=open_drafter,
        )
    for name, (data, match) in WHOLE.items():
        yield Case(
            name, lambda folder, data=data: write_bytes(folder, data), match, file=WEIGHTS, tensor="", open=open_drafter
        )
    yield Case(
        "a drafter in one file",
        lambda folder: write(folder) / "model.safetensors",
        "single files are not run",
        UnsupportedError,
        WEIGHTS,
        "",
        open_drafter,
    )
    yield Case("no tensors at all", write_hole, "missing", file=FILE, open=open_drafter)
