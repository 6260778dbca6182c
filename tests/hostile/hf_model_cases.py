"""Models in Hugging Face folders whose tensors lie: fixtures of every packing with one tensor changed."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np

import hostile
from checkpoints import write_safetensors
from gemmule.errors import FormatError, GemmuleError, UnsupportedError
from gemmule.reference import read_folder
from golden_cases import FIXTURES
from hostile.case import Case

WEIGHTS = r"model\.safetensors"
LAYER = "model.language_model.layers.0."

Change = Callable[[np.ndarray], np.ndarray | None]


def as_type(dtype: type) -> Change:
    return lambda x: x.astype(dtype)


def of_shape(*shape: int) -> Change:
    return lambda x: np.zeros(shape, x.dtype)


def gone(_: np.ndarray) -> None:
    return None


def filled(value: float) -> Change:
    return lambda x: np.full_like(x, value)


# Fixture, tensor, what becomes of it, and what the message says.
FLOATS: dict[str, tuple[str, str, Change, str]] = {
    "a matrix of bytes": ("dense", "mlp.gate_proj.weight", as_type(np.uint8), "no quantization_config"),
    "a matrix of integers": ("dense", "mlp.gate_proj.weight", as_type(np.int32), "packed U8 or I8"),
    "a matrix on its side": ("dense", "mlp.gate_proj.weight", np.transpose, "wrong kind"),
    "a matrix in one row": ("dense", "self_attn.q_proj.weight", np.ravel, "wrong kind"),
    "a norm of integers": ("dense", "input_layernorm.weight", as_type(np.int8), "BF16, F16 or F32"),
    "a norm that is infinite": ("dense", "input_layernorm.weight", filled(np.inf), "not a finite number"),
    "two scales of a layer": ("dense", "layer_scalar", of_shape(2), "one BF16, F16 or F32 value"),
    "a scale in a matrix": ("dense", "layer_scalar", of_shape(1, 1), "one BF16, F16 or F32 value"),
    "a scale of integers": ("dense", "layer_scalar", as_type(np.int32), "one BF16, F16 or F32 value"),
    "experts in two dimensions": ("moe", "experts.gate_up_proj", lambda x: x.reshape(-1, x.shape[-1]), "wrong kind"),
    "an expert too few": ("moe", "experts.down_proj", lambda x: x[:-1], "wrong kind"),
    "experts of bytes": ("moe", "experts.down_proj", as_type(np.uint8), "BF16, F16 or F32"),
    "a router of NaN": ("moe", "router.per_expert_scale", filled(np.nan), "not a finite number"),
}
MOBILE = {
    "codes in rows of another length": ("mlp.gate_proj.weight", lambda x: x[:, :-1], "two elements a byte"),
    "codes without a dimension": ("mlp.gate_proj.weight", of_shape(), "two elements a byte"),
    "codes of no rows": ("mlp.gate_proj.weight", lambda x: x[:0], "two elements a byte"),
    "codes of one dimension": ("mlp.gate_proj.weight", np.ravel, "two elements a byte"),
    "bytes in rows of another length": ("per_layer_input_gate.weight", lambda x: x[:, :-1], "I8"),
    "bytes without scales": ("per_layer_input_gate.weight_scale", gone, "missing"),
    "scales in one dimension": ("mlp.gate_proj.weight_scale", np.ravel, "S a divisor"),
    "a scale too few": ("mlp.gate_proj.weight_scale", lambda x: x[:-1], "S a divisor"),
    "scales in no columns": ("mlp.gate_proj.weight_scale", lambda x: x[:, :0], "S a divisor"),
    "scales that do not divide": ("mlp.gate_proj.weight_scale", lambda x: x.repeat(5, 1), "S a divisor"),
    "scales of halves": ("mlp.gate_proj.weight_scale", as_type(np.float16), "F32"),
    "scales of integers": ("mlp.gate_proj.weight_scale", as_type(np.int32), "F32"),
    "scales of groups": ("mlp.gate_proj.weight_scale", lambda x: x.repeat(2, 1), "one a row"),
    "a scale that is NaN": ("mlp.gate_proj.weight_scale", filled(np.nan), "not a finite number"),
    "a scale that is infinite": ("mlp.gate_proj.weight_scale", filled(-np.inf), "not a finite number"),
    "a negative activation scale": ("mlp.gate_proj.input_activation_scale", filled(-1.0), "negative activation"),
    "an activation scale that is NaN": ("mlp.gate_proj.output_activation_scale", filled(np.nan), "finite"),
    "activation scales of rows": ("mlp.gate_proj.input_activation_scale", of_shape(4), "one BF16"),
    "no activation scale": ("mlp.gate_proj.input_activation_scale", gone, "missing"),
    "a cache scale that is infinite": ("self_attn.k_cache_scale", filled(np.inf), "not a finite number"),
    "a cache scale of no elements": ("self_attn.k_cache_scale", of_shape(0), "one BF16"),
    "a cache scale of no rows": ("self_attn.v_cache_scale", of_shape(0, 1), "one BF16"),
}
WORDS = {
    "words in rows of another length": ("mlp.gate_proj.weight_packed", lambda x: x[:, :-1], "elements a word"),
    "words of 64 bits": ("mlp.gate_proj.weight_packed", as_type(np.int64), "elements a word"),
    "words of bytes": ("mlp.gate_proj.weight_packed", lambda x: x.view(np.uint8), "elements a word"),
    "words of no rows": ("mlp.gate_proj.weight_packed", lambda x: x[:0], "elements a word"),
    "a shape of one number": ("mlp.gate_proj.weight_shape", lambda x: x[:1], "stored shape"),
    "a shape of floats": ("mlp.gate_proj.weight_shape", as_type(np.float32), "stored shape"),
    "a shape the other way": ("mlp.gate_proj.weight_shape", lambda x: x[::-1].copy(), "stored shape"),
    "a shape below zero": ("mlp.gate_proj.weight_shape", lambda x: -x, "stored shape"),
    "a shape that wraps": ("mlp.gate_proj.weight_shape", lambda x: x + (1 << 32), "stored shape"),
    "no group scales": ("mlp.gate_proj.weight_scale", gone, "missing"),
    "a group's scale too few": ("mlp.gate_proj.weight_scale", lambda x: x[:, :-1], "S a divisor|as a group"),
    "scales of rows alone": ("mlp.gate_proj.weight_scale", lambda x: x[:, :1].copy(), "as a group"),
}
SMALL_FLOATS = ("F8_E4M3", "F8_E5M2", "F6_E2M3", "F6_E3M2", "F4")  # the digit: bits


@cache
def read(fixture: str) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in read_folder(FIXTURES / fixture).items()}


def write(folder: Path, fixture: str, name: str, change: Change) -> Path:
    tensors = dict(read(fixture))
    changed = change(tensors[LAYER + name])
    if changed is None:
        del tensors[LAYER + name]
    else:
        tensors[LAYER + name] = np.array(changed, order="C")
    shutil.copy(FIXTURES / fixture / "config.json", folder)
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def write_small_floats(folder: Path, name: str, dtype: str) -> Path:
    """A matrix of (128, 64) of them, which numpy does not have."""
    stored = np.zeros((128, 64 * int(dtype[1]) // 8), np.uint8)
    path = write(folder, "dense", name, lambda _: stored) / "model.safetensors"
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header[LAYER + name] |= {"dtype": dtype, "shape": [128, 64]}
    hostile.write_safetensors(path, header, data[end:])
    return folder


def cases() -> Iterator[Case]:
    def case(fixture: str, name: str, tensor: str, change: Change, match: str, error: type[GemmuleError]) -> Case:
        return Case(
            f"{fixture}: {name}",
            lambda folder: write(folder, fixture, tensor, change),
            match,
            error,
            rf"{WEIGHTS}|config\.json",
            re.escape(LAYER + tensor),
        )

    for name, (fixture, tensor, change, match) in FLOATS.items():
        yield case(fixture, name, tensor, change, match, FormatError)
    for fixture, table in (("mobile", MOBILE), ("ct_w4a16", WORDS)):
        for name, (tensor, change, match) in table.items():
            yield case(fixture, name, tensor, change, match, FormatError)
    for dtype in SMALL_FLOATS:
        yield Case(
            f"weights in {dtype}",
            lambda folder, dtype=dtype: write_small_floats(folder, "mlp.gate_proj.weight", dtype),
            "small floats",
            UnsupportedError,
            WEIGHTS,
            re.escape(LAYER) + "mlp.gate_proj.weight",
        )
