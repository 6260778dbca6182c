"""What the kernels of a model are run on: its own matrices, or random ones of E2B's mobile format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..model import Model

Matrix = _core.bench.Matrix


@dataclass(frozen=True)
class AttentionCase:
    """Attention of the layers of one kind.

    Attributes:
        encoding: of keys and values: "f32", "bf16", "c8" or "c4".
        window: keys that a query sees at most; None: all.
    """

    encoding: str
    head_dim: int
    heads: int
    kv_heads: int
    window: int | None


@dataclass(frozen=True)
class Shapes:
    """Attributes:
    name: of the model.
    matrices: one group for each encoding and shape.
    attention: one for each kind of layer.
    rows: kernel -> the lengths of rows it works on.
    float32: whether products with codes are formed in float32.
    vocab_size: rows of the head, and of no other matrix.
    context: tokens at most.
    """

    name: str
    matrices: tuple[tuple[Matrix, ...], ...]
    attention: tuple[AttentionCase, ...]
    rows: dict[str, tuple[int, ...]]
    float32: bool
    vocab_size: int
    context: int


# Of E2B: hidden_size, width of the MLP of layers with and without keys of their own, P, vocab_size.
_D, _F, _F2, _P, _V = 1536, 6144, 12288, 256, 262144
# Names, encoding, rows, columns and number of the matrices of E2B's mobile checkpoint. Source: the tensors of
# gemma-4-E2B-it-qat-mobile-transformers; per_layer_model_projection is not quantized.
E2B = (
    ("q_proj", "c4", 2048, _D, 28),
    ("q_proj", "c4", 4096, _D, 7),
    ("k_proj, v_proj", "c4", 256, _D, 24),
    ("k_proj, v_proj", "c4", 512, _D, 6),
    ("o_proj", "c4", _D, 2048, 28),
    ("o_proj", "c4", _D, 4096, 7),
    ("gate_proj, up_proj", "c4", _F, _D, 30),
    ("down_proj", "c4", _D, _F, 15),
    ("gate_proj, up_proj", "c2", _F2, _D, 40),
    ("down_proj", "c2", _D, _F2, 20),
    ("per_layer_input_gate", "c8", _P, _D, 35),
    ("per_layer_projection", "c8", _D, _P, 35),
    ("per_layer_model_projection", "bf16", 35 * _P, _D, 1),
    ("lm_head", "c2", _V, _D, 1),
)
SLIDING, FULL = "sliding_attention", "full_attention"
BITS = {"f32": 32, "bf16": 16, "c8": 8, "c4": 4, "c2": 2}  # of an element
_GROUP_BYTES = 1 << 25  # a few matrices of a group do for a measurement
_SCALE = 4 / 127  # of activations with a root mean square of 1
_CODE_RMS = {"c2": 1.22, "c4": 4.6, "c8": 73.9}  # of codes that are all equally frequent


def e2b(pool: NDArray[np.uint8], activations: str, kv: str) -> Shapes:
    """Shapes and encodings of the published E2B mobile checkpoint; codes are bytes of `pool`, which are random.
    activations, kv: as for `load`."""
    random = np.random.default_rng(0)
    groups = []
    for names, encoding, rows, cols, count in E2B:
        size = _bytes(encoding, rows, cols)
        some = min(count, max(1, _GROUP_BYTES // size), len(pool) // size)
        groups.append(tuple(_random_matrix(names, encoding, rows, cols, pool, i * size, random) for i in range(some)))
    return Shapes(
        name="E2B, mobile format, random codes",
        matrices=tuple(groups),
        attention=(
            AttentionCase(_elements(SLIDING, kv), 256, 8, 1, 512),
            AttentionCase(_elements(FULL, kv), 512, 8, 1, None),
        ),
        rows=_rows(_D, (256, 512), (_F, _F2), _V),
        float32=activations == "float32",
        vocab_size=_V,
        context=131072,
    )


def of_model(model: Model) -> Shapes:
    """The model's own matrices, mapped from its files."""
    config = model.info["config"]
    layers = list(zip(config["layer_types"], config["layers"], strict=True))
    cases = [
        AttentionCase(
            encoding=_elements(kind, model.info["kv"]),
            head_dim=layer["head_dim"],
            heads=config["num_attention_heads"],
            kv_heads=layer["num_key_value_heads"],
            window=config["sliding_window"] if kind == SLIDING else None,
        )
        for kind, layer in layers
    ]
    return Shapes(
        name=str(model._folder),
        matrices=_grouped(_core.bench.matrices(model._core)),
        attention=tuple(dict.fromkeys(cases)),
        rows=_rows(
            config["hidden_size"],
            sorted({layer["head_dim"] for _, layer in layers}),
            sorted({layer["intermediate_size"] for _, layer in layers}),
            config["vocab_size"],
        ),
        float32=model.info["activations"] == "float32",
        vocab_size=model.vocab_size,
        context=model.context,
    )


def _elements(kind: str, kv: str) -> str:
    """Of keys and values of a layer of this kind."""
    return {"float32": "f32", "bf16": "bf16"}.get(kv, "c8" if kind == SLIDING else "c4")


def names(group: Sequence[Matrix]) -> str:
    """The modules of a group, as the checkpoint names them within a layer."""
    return ", ".join(dict.fromkeys(matrix.name.rpartition(".")[2] for matrix in group))


def _grouped(matrices: Iterable[Matrix]) -> tuple[tuple[Matrix, ...], ...]:
    """Those of one encoding, shape and kind of input together, as far as they are needed."""
    groups: dict[tuple[object, ...], list[Matrix]] = {}
    for matrix in matrices:
        key = (matrix.encoding, matrix.rows, matrix.cols, matrix.input_scale == 0)
        groups.setdefault(key, []).append(matrix)
    return tuple(tuple(group[: max(1, _GROUP_BYTES // group[0].bytes)]) for group in groups.values())


def _rows(width: int, heads: Iterable[int], mlps: Iterable[int], vocabulary: int) -> dict[str, tuple[int, ...]]:
    return {
        "rms_norm": (width, *heads),
        "rope": tuple(heads),
        "gelu_mul": tuple(mlps),
        "round_to_grid": (width,),
        "quantize_static": (width, *mlps),
        "softcap": (vocabulary,),
    }


def _bytes(encoding: str, rows: int, cols: int) -> int:
    return rows * cols * BITS[encoding] // 8


def _random_matrix(
    name: str, encoding: str, rows: int, cols: int, pool: NDArray[np.uint8], at: int, random: np.random.Generator
) -> Matrix:
    """One whose outputs have a root mean square near 1 where its inputs have one of 1."""
    if encoding == "bf16":
        values = random.standard_normal(rows * cols, dtype=np.float32) / np.float32(np.sqrt(cols))
        high_halves = values.view(np.uint16)[1::2]
        return Matrix(name, encoding, high_halves.copy().view(np.uint8).reshape(rows, -1), None, 0.0, 0.0, False)
    codes = pool[at : at + _bytes(encoding, rows, cols)].reshape(rows, -1)
    scales = (random.uniform(0.8, 1.2, rows) / (np.sqrt(cols) * _CODE_RMS[encoding])).astype(np.float32)
    is_last = name == "lm_head"
    return Matrix(name, encoding, codes, scales, 0.0 if is_last else _SCALE, 0.0 if is_last else _SCALE, is_last)
