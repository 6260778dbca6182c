"""What the kernel tests share: lengths, unaligned arrays, bounds, and the comparison of all instruction sets."""

from collections.abc import Callable

import numpy as np

import gemmule
from gemmule.reference.operations import pack_codes
from targets import fused_targets

testing = gemmule._core.testing

# Around every vector width in use (4, 8, 16 floats; 16, 32, 64 bytes), and some long ones.
LENGTHS = [*range(1, 71), 255, 256, 257, 1536]

# Encodings with one scale a row -> bits of a code.
CODES = {"c2": 2, "c4": 4, "c8": 8, "u8": 8}

U = 2.0**-24  # half the distance between 1 and the next float32: the relative error of one rounding


def stored_codes(codes: np.ndarray, encoding: str) -> np.ndarray:
    """codes (rows, n) as the encoding's bytes (rows, bytes)."""
    packed = pack_codes(codes, CODES[encoding]).view(np.uint8)
    return packed ^ np.uint8(0x80) if encoding == "u8" else packed


def unaligned(x: np.ndarray, elements: int) -> np.ndarray:
    """A copy of x that begins `elements` elements after an address aligned by numpy (16 bytes or more)."""
    room = np.empty(x.size + elements, x.dtype)
    room[elements:] = x.reshape(-1)
    return room[elements:].reshape(x.shape)


def assert_within(got: np.ndarray, want: np.ndarray, bound: np.ndarray | float) -> None:
    """|got - want| <= bound, element by element; NaN fails."""
    error = np.abs(np.asarray(got, np.float64) - want)
    good = error <= bound
    if not good.all():
        worst = np.argmax(np.where(np.isnan(error), np.inf, error - bound))
        place = np.unravel_index(worst, np.shape(error))
        limit = np.broadcast_to(bound, np.shape(error))[place]
        raise AssertionError(f"at {place}: {np.asarray(got)[place]!r}, want {want[place]!r} within {limit:.3g}")


def assert_same_bits_on_all_targets(call: Callable[[], np.ndarray | float]) -> None:
    """Calls on every instruction set with fused multiply-add and compares the results' bytes."""
    results = {}
    try:
        for name in fused_targets():
            testing.set_target(name)
            results[name] = np.asarray(call()).tobytes()
    finally:
        testing.set_target(None)
    first = next(iter(results.values()), None)
    different = [name for name, bits in results.items() if bits != first]
    assert not different, f"{different} differ from {next(iter(results))}"
