"""Rows to blocks by plain numpy, and the best that could be done, by trying every scale."""
# ruff: noqa: N803  (dimensions have capital letters)

import numpy as np

from gemmule.reference.safetensors import bf16_to_f32, f32_to_bf16

HALVES = np.arange(1, 0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)  # all positive float16, in order


def halves_between(least: float, most: float) -> np.ndarray:
    return HALVES[np.searchsorted(HALVES, np.float32(least)) : np.searchsorted(HALVES, np.float32(most))]


def bf16(x: np.ndarray) -> np.ndarray:
    return bf16_to_f32(f32_to_bf16(x))


def f16(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float32)


# To the type that weights had before they were widened to float32.
ROUND = {"f32": lambda x: x.astype(np.float32), "f16": f16, "bf16": bf16}


def pack_q4_0(scales: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """scales (blocks,) float16, codes (blocks, 32) 0 ... 15 -> (blocks, 18) uint8."""
    nibbles = (codes[:, :16] | codes[:, 16:] << 4).astype(np.uint8)
    return np.concatenate([scales.astype(np.float16).view(np.uint8).reshape(-1, 2), nibbles], axis=1)


def inverse(scales: np.ndarray) -> np.ndarray:
    """1 / scale in float32, 0 of 0, (blocks, 1)."""
    with np.errstate(divide="ignore"):
        return np.where(scales == 0, np.float32(0), np.float32(1) / scales)[:, None]


def llama_q4_0(x: np.ndarray) -> np.ndarray:
    """x (rows, K) float32 -> (rows, bytes): llama.cpp's rule, one float32 operation after the other."""
    blocks = x.reshape(-1, 32)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)[:, 0]
    scales = np.where(largest == 0, np.float32(-0.0), largest / np.float32(-8))
    codes = np.minimum(np.trunc(blocks * inverse(scales) + np.float32(8.5)), 15).astype(np.int32)
    with np.errstate(over="ignore"):
        return pack_q4_0(scales.astype(np.float16), codes).reshape(len(x), -1)


def llama_q8_0(x: np.ndarray) -> np.ndarray:
    blocks = x.reshape(-1, 32)
    scales = np.abs(blocks).max(axis=1) / np.float32(127)
    scaled = (blocks * inverse(scales)).astype(np.float64)
    codes = (np.sign(scaled) * np.floor(np.abs(scaled) + 0.5)).astype(np.int8)  # halves away from zero
    return np.concatenate([scales.astype(np.float16).view(np.uint8).reshape(-1, 2), codes.view(np.uint8)], 1).reshape(
        len(x), -1
    )


def codes_of(block: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """block (32,), scales (S,) -> (S, 32) codes -8 ... 7 that come nearest."""
    return np.clip(np.rint(block / scales[:, None].astype(np.float64)), -8, 7)


def fitting_scales(source: str, block: np.ndarray) -> np.ndarray:
    """All float16 scales (S,), but 0, whose elements, rounded to the source's type, are the block's."""
    largest = np.abs(block).max()
    halves = halves_between(largest / 8.1, largest * 1.1)
    scales = np.concatenate([halves, -halves])
    elements = (codes_of(block, scales) * scales[:, None]).astype(np.float32)
    return scales[(ROUND[source](elements) == block).all(axis=1)]


def squared_errors(block: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """(S,): of the nearest codes, in float64."""
    exact = block.astype(np.float64)
    return ((exact - codes_of(block, scales) * scales[:, None].astype(np.float64)) ** 2).sum(axis=1)


def least_squared_error(block: np.ndarray) -> float:
    """Of all float16 scales that could be best, of both signs. The block is not zero."""
    largest = np.abs(block).max()
    halves = halves_between(max(largest / 14, HALVES[0]), max(largest / 3, HALVES[1]))
    return float(squared_errors(block, np.concatenate([halves, -halves])).min())


def llama_q6_k_error(x: np.ndarray) -> np.ndarray:
    """x (blocks, 256) -> (blocks,) squared error of llama.cpp's rule.

    Each 16 elements get, of 19 inverse scales around the one that gives the largest code -32, that whose least squares'
    scale has the least error with weights x^2; the scales are rounded to 1/128 of the largest, and codes made anew.
    """
    parts = x.reshape(-1, 16, 16).astype(np.float64)
    largest = np.take_along_axis(parts, np.abs(parts).argmax(axis=2)[..., None], axis=2)
    scales, gains = np.zeros(parts.shape[:2]), np.full(parts.shape[:2], -1.0)
    with np.errstate(divide="ignore", invalid="ignore"):  # zeros, which comparisons with NaN leave at scale 0
        for i in [0, *range(-9, 0), *range(1, 10)]:
            codes = np.clip(np.rint(parts * -(32 + 0.1 * i) / largest), -32, 31)
            products, squares = (parts**3 * codes).sum(axis=2), (parts**2 * codes**2).sum(axis=2)
            better = products**2 / squares > gains
            scales = np.where(better, products / squares, scales)
            gains = np.where(better, products**2 / squares, gains)
        most = np.take_along_axis(scales, np.abs(scales).argmax(axis=1)[:, None], axis=1)
        block_scale = (-most / 128).astype(np.float16).astype(np.float64)
        steps = np.minimum(np.rint(scales * -128 / most), 127) * block_scale
        codes = np.where(steps[..., None] == 0, 0, np.clip(np.rint(parts / steps[..., None]), -32, 31))
    return ((parts - codes * steps[..., None]) ** 2).sum(axis=(1, 2))


def weights(kind: str, rows: int, K: int, seed: int = 0) -> np.ndarray:
    """(rows, K) float32 of a distribution, in bfloat16."""
    random = np.random.default_rng([seed, rows, K])
    shape = (rows, K)
    per_block = np.repeat(random.uniform(0.001, 0.02, (rows, K // 32)), 32, axis=1)
    normal = random.standard_normal(shape)
    return bf16(
        {
            "normal": lambda: 0.05 * normal,
            "laplace": lambda: random.laplace(size=shape) * 0.03,
            "uniform": lambda: random.uniform(-0.1, 0.1, shape),
            "heavy tails": lambda: random.standard_t(3, shape) * 0.02,
            "outliers": lambda: 0.02 * normal * np.where(random.random(shape) < 0.01, 20, 1),
            "positive": lambda: 0.05 * np.abs(normal),
            "two clusters": lambda: np.sign(normal) * 0.05 + random.standard_normal(shape) * 0.003,
            "sparse": lambda: 0.05 * normal * (random.random(shape) < 0.15) + np.tile(np.eye(1, 32) * 0.02, K // 32),
            "scales of rows": lambda: 0.01 * normal * np.exp(random.standard_normal((rows, 1))),
            "tiny": lambda: 2e-5 * normal,
            "near a grid": lambda: random.integers(-8, 8, shape) * per_block + 0.0005 * normal,
            "channel-wise": lambda: random.integers(-7, 8, shape) * random.uniform(0.001, 0.02, (rows, 1)),
        }[kind]().astype(np.float32)
    )


KINDS = [
    "normal",
    "laplace",
    "uniform",
    "heavy tails",
    "outliers",
    "positive",
    "two clusters",
    "sparse",
    "scales of rows",
    "tiny",
    "near a grid",
    "channel-wise",
]
