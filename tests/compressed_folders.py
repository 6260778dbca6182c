"""compressed-tensors folders in plain numpy: from mobile and from float ones, and any of them as floats."""

import json
from pathlib import Path

import numpy as np

from checkpoints import write_safetensors
from gemmule.reference.operations import decode, pack_codes, unpack_codes
from gemmule.reference.safetensors import bf16_to_f32, f32_to_bf16, read_folder

CONFIG = {"quant_method": "compressed-tensors", "format": "pack-quantized"}


def repacked(source: Path, target: Path, scale_dtype: str = "F32", *, words_of_bytes: bool = False) -> Path:
    """A mobile checkpoint's codes and scales under compressed-tensors' names; zero and cache scales are left out.

    Args:
        scale_dtype: of the weights' scales: "F32" or "BF16", cut off.
        words_of_bytes: 8-bit codes are packed too, as the format does without static inputs.
    """
    tensors = {}
    for key, value in read_folder(source).items():
        key = key.replace("embedding_quantized", "weight").replace("embedding_scale", "weight_scale")
        key = key.replace("input_activation_scale", "input_scale").replace("output_activation_scale", "output_scale")
        if key.endswith("_cache_scale") or (key.endswith("put_scale") and value == 0):
            continue
        if key.endswith(".weight") and value.dtype == np.uint8:
            tensors[key + "_packed"] = words(value)
        elif key.endswith(".weight") and value.dtype == np.int8 and words_of_bytes:
            tensors[key + "_packed"] = words(value.view(np.uint8) ^ np.uint8(0x80))
        elif key.endswith("weight_scale") and scale_dtype == "BF16":
            tensors[key] = (value.view(np.uint32) >> 16).astype(np.uint16)
        else:
            tensors[key] = value
    return _write(source, target, tensors, {"quantization_config": CONFIG})


def grouped(source: Path, target: Path, *leave: str) -> Path:
    """A float checkpoint as W4A16 in groups of 32: all linear modules of layers whose names have no part of `leave`."""
    tensors = {}
    for key, value in read_folder(source).items():
        module, _, what = key.rpartition(".")
        if what != "weight" or value.ndim != 2 or ".layers." not in key or any(part in key for part in leave):
            tensors[key] = f32_to_bf16(value)
            continue
        groups = value.reshape(len(value), -1, 32)
        scale = f32_to_bf16(np.abs(groups).max(axis=2) / 7.5)
        codes = np.clip(np.rint(groups / bf16_to_f32(scale)[..., None]), -8, 7).astype(np.int8)
        tensors[module + ".weight_packed"] = words(pack_codes(codes.reshape(value.shape), 4))
        tensors[module + ".weight_scale"] = scale
        tensors[module + ".weight_shape"] = np.array(value.shape)
    return _write(source, target, tensors, {"quantization_config": CONFIG})


def words(rows: np.ndarray) -> np.ndarray:
    """rows (n, bytes) -> (n, words): the last word of a row is filled up with zeros."""
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    return np.ascontiguousarray(padded).view("<i4")


def dequantized(source: Path, target: Path) -> Path:
    """A compressed-tensors checkpoint with each weight as code * scale in float32. Static scales keep their values,
    under the names that the reference knows."""
    stored = read_folder(source)
    tensors = {}
    for key, value in stored.items():
        module, _, what = key.rpartition(".")
        if what == "weight_packed":
            cols = int(stored[module + ".weight_shape"][1])
            tensors[module + ".weight"] = decode(codes_of(value, cols), stored[module + ".weight_scale"], np.float32)
        elif what == "weight" and value.dtype == np.int8:
            tensors[key] = decode(value, stored[module + ".weight_scale"], np.float32)
        elif what in ("input_scale", "output_scale"):
            tensors[f"{module}.{what[:-6]}_activation_scale"] = value.reshape(())
        elif what not in ("weight_scale", "weight_shape"):
            tensors[key] = value
    return _write(source, target, tensors, {"quantization_config": None})


def codes_of(packed: np.ndarray, cols: int) -> np.ndarray:
    """packed (rows, words) -> (rows, cols) int8: element i in bits i b ... i b + b - 1 of its row, stored with an
    offset."""
    bits = 32 * packed.shape[1] // cols
    rows = packed.view(np.uint8)
    codes = (rows ^ np.uint8(0x80)).view(np.int8) if bits == 8 else unpack_codes(rows, bits)
    return codes[:, :cols]


def _write(source: Path, target: Path, tensors: dict, changes: dict) -> Path:
    target.mkdir()
    config = json.loads((source / "config.json").read_text()) | changes
    (target / "config.json").write_text(json.dumps(config))
    write_safetensors(target / "model.safetensors", tensors)
    return target
