"""The scale of a static grid with the least squared error, searched on the values themselves in float64."""

import numpy as np

from gemmule.reference.operations import round_to_grid


def squared_error(x: np.ndarray, scale: float, bits: int) -> float:
    """x (n,) float64: sum of squared differences to the grid's nearest values."""
    return float(np.square(x - round_to_grid(x, scale, bits)).sum())


def widest_scale(x: np.ndarray, bits: int) -> float:
    """The least that clamps nothing."""
    return max(x.max() / (2 ** (bits - 1) - 1), -x.min() / 2 ** (bits - 1))


def least_squares_scale(x: np.ndarray, bits: int) -> float:
    """x (n,), not all 0: to within 0.1 %, of scales from the widest down to 2^-12 of it."""
    x = x.astype(np.float64)
    scale = widest_scale(x, bits)
    for steps, below, above in ((16, 12 * 16, 2), (128, 12, 12), (1024, 8, 8)):
        candidates = scale * 2.0 ** (np.arange(above, -below - 1, -1) / steps)
        scale = candidates[np.argmin([squared_error(x, candidate, bits) for candidate in candidates])]
    return float(scale)
