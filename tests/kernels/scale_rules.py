"""Rows to codes and scales by plain numpy in float64, and the best that could be done, by trying every scale."""

import numpy as np
from encoders import ROUND

from gemmule.reference.operations import pack_codes

BITS = {"c2": 2, "c4": 4, "c8": 8, "u8": 8, "g4": 4}


def ends(codes: str) -> tuple[int, int]:
    """The least code and the largest."""
    half = 2 ** (BITS[codes] - 1)
    return -half, half - 1


def codes_of(x: np.ndarray, scales: np.ndarray, codes: str) -> np.ndarray:
    """x (..., n), scales (..., 1) float32 -> (..., n): clamp(round_half_even(x / scale)), the quotient in float32."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotients = np.where(scales == 0, 0, x / scales)
    return np.clip(np.rint(quotients), *ends(codes))


def packed(all_codes: np.ndarray, codes: str) -> np.ndarray:
    """(rows, K) -> (rows, bytes) uint8."""
    if codes == "u8":
        return (all_codes + 128).astype(np.uint8)
    return pack_codes(all_codes.astype(np.int8), BITS[codes]).view(np.uint8)


def squared_error(x: np.ndarray, scales: np.ndarray, codes: str) -> np.ndarray:
    """x (n,), scales (S,) -> (S,): of the nearest codes."""
    exact, s = x.astype(np.float64), scales.astype(np.float64)[:, None]
    return ((exact - np.clip(np.rint(exact / s), *ends(codes)) * s) ** 2).sum(axis=1)


def slope_of_expected_error(x: np.ndarray, scale: float, codes: str) -> float:
    """The derivative of scale^2 / 12 for each weight within the ends, (|x| - |end|)^2 for each beyond, by the scale."""
    least, most = ends(codes)
    exact = x.astype(np.float64)
    above, below = exact > most * scale, exact < least * scale
    within = (~above & ~below).sum()
    beyond = most * (exact[above] - most * scale).sum() + least * (exact[below] - least * scale).sum()
    return within * scale / 6 - 2 * beyond


def training_marks(bits: int) -> tuple[np.ndarray, float]:
    """(2, 1344) scores of positive and negative weights in bins of 1/256 octave from 2^-1.75 steps on, and their
    standard deviation for a normal distribution that is 1 step wide (2 bits) or 3 (4 bits)."""
    edges = np.arange(1344)[:, None] - 448 + (np.arange(4) + 0.5) / 4
    u = 2.0 ** (edges / 256)  # (bins, parts of a bin), steps
    scores = []
    for end in (2 ** (bits - 1) - 1, 2 ** (bits - 1)):
        middle = 1.5 / (1 + ((u - np.floor(u) - 0.5) / 0.01) ** 2)
        before = np.clip(1 - (end - u) / 0.3, 0, None)
        behind = np.clip(1 - (u - end) / 0.3, 0, None)
        ratio = np.where(u < end, middle - before, behind).mean(axis=1)
        around = np.convolve(ratio, np.ones(129) / 129, mode="same")
        scores.append(np.rint((ratio - around) * 128))
    width = {2: 1.0, 4: 3.0}[bits]
    z = 2.0 ** ((np.arange(1344) - 447.5) / 256) / width
    share = np.exp(-z * z / 2) / np.sqrt(2 * np.pi) * z * np.log(2) / 256
    return np.array(scores), float(np.sqrt((share * np.square(scores)).sum()))


def trained_scale(x: np.ndarray, bits: int, expected: np.float32) -> np.float32 | None:
    """x (n,) bfloat16 numbers: bins are exact then. None where the marks are not clear."""
    scores, deviation = training_marks(bits)
    middle = int(np.rint(np.log2(expected) * 256))
    bins = np.floor(np.log2(np.abs(x[x != 0]).astype(np.float64)) * 256).astype(int) - middle + 448
    side = (x[x != 0] < 0).astype(int)
    matches, totals = [], []
    for shift in range(-52, 53):
        at = bins - shift
        known = (at >= 0) & (at < 1344)
        matches.append(scores[side[known], at[known]].sum())
        totals.append(matches[-1] / 128 - (shift / 256 * np.log(2) / 0.03) ** 2 / 2)
    best = int(np.argmax(totals))
    if matches[best] <= 4 * deviation * np.sqrt(len(x)):
        return None
    return np.float32(2.0 ** ((middle + best - 52) / 256))


def trained_weights(bits: int, n: int, scale: float, seed: int) -> np.ndarray:
    """(n,) float32: normal, then what training does: some drift to the next middle between codes, and those before an
    end pass it."""
    random = np.random.default_rng([bits, n, seed])
    u = random.standard_normal(n) * (1.0 if bits == 2 else 3.0)
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    drifts = (random.random(n) < (0.3 if bits == 2 else 0.15)) & (u > least + 0.5) & (u < most - 0.5)
    u = np.where(drifts, np.floor(u) + 0.5 + 0.01 * random.standard_normal(n), u)
    reach = 0.15 * random.random(n)
    u = np.where((u > most - 0.2) & (u < most), most + reach, u)
    u = np.where((u < least + 0.2) & (u > least), least - reach, u)
    return (u * scale).astype(np.float32)


def fitting_scales(x: np.ndarray, codes: str, source: str, scale_type: str) -> np.ndarray:
    """All positive scales (S,) of the type that give x (n,) back, rounded to the source's type, in order."""
    assert scale_type == "bf16", "float32 scales are too many to try"
    largest = np.abs(x).max()
    first, last = (np.float32(largest / end).view(np.uint32) >> 16 for end in (-2 * ends(codes)[0], 0.5))
    scales = (np.arange(first, last + 1, dtype=np.uint32) << 16).view(np.float32)
    products = (codes_of(x, scales[:, None], codes).astype(np.float32) * scales[:, None]).astype(np.float32)
    return scales[(ROUND[source](products) == x).all(axis=1)]
