"""The use of codes and the marks of blocks, against plain numpy."""

import numpy as np
import pytest
from block_formats import LAYOUTS, decode, random_rows, with_halves

from gemmule import _core
from gemmule.errors import ArgumentError

# With a minimum, equal elements are all written with one code, and that is no damage.
SYMMETRIC = [encoding for encoding, layout in LAYOUTS.items() if not layout.has_min]
# Every byte of a block's codes, where all codes are the lowest; where all are the highest.
EXTREMES = {"q4_0": (0x00, 0xFF), "q5_0": (0x00, 0xFF), "q8_0": (0x80, 0x7F), "q6_k": (0x00, 0xFF)}
# Bytes of the scales and minima of a block's groups.
GROUPS = {"q4_k": range(4, 16), "q5_k": range(4, 16), "q6_k": range(192, 208)}


def filled(encoding: str, byte: int) -> np.ndarray:
    """(1, size): a block of the same bytes, its scale and minimum 0.5, those of its groups 1."""
    block = np.full((1, LAYOUTS[encoding].size), byte, np.uint8)
    block[:, list(GROUPS.get(encoding, []))] = 1
    return with_halves(encoding, block, np.full((1, 2), 0.5, np.float16))


@pytest.mark.parametrize("encoding", LAYOUTS)
def test_codes_are_counted(encoding):
    stored = random_rows(encoding, 7, 1024)
    codes, count = decode(encoding, stored).codes.astype(int), 2 ** int(encoding[1])
    expected = np.bincount((codes + (count // 2 if encoding in SYMMETRIC else 0)).ravel(), minlength=count)
    assert expected.all()
    assert np.array_equal(_core.count_codes(stored, encoding), expected)


@pytest.mark.parametrize("encoding", LAYOUTS)
def test_ordinary_blocks_have_no_marks_but_for_zeros(encoding):
    stored = random_rows(encoding, 7, 2048)
    stored[3, : LAYOUTS[encoding].size] = with_halves(encoding, filled(encoding, 0x12), np.zeros((1, 2), np.float16))
    values = decode(encoding, stored).values.reshape(-1, LAYOUTS[encoding].elements)
    expected = np.where(values.any(axis=1), 0, _core.ZERO)
    assert 0 < np.count_nonzero(expected) < len(expected)
    assert np.array_equal(_core.mark_blocks(stored, encoding), expected)


@pytest.mark.parametrize("encoding", LAYOUTS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_scale_or_minimum_that_is_not_finite(encoding, value):
    blocks = random_rows(encoding, 1, 1024).reshape(-1, LAYOUTS[encoding].size)
    for half in range(len(LAYOUTS[encoding].halves)):
        halves = np.full((1, 2), 0.5, np.float16)
        halves[0, half] = value
        damaged = blocks.copy()
        damaged[2] = with_halves(encoding, blocks[2:3], halves)
        with np.errstate(invalid="ignore"):  # infinity times zero
            assert not np.isfinite(decode(encoding, damaged[2:3]).values).any()
        marks = _core.mark_blocks(damaged, encoding)
        assert np.flatnonzero(marks & _core.NOT_FINITE).tolist() == [2]


@pytest.mark.parametrize("encoding", SYMMETRIC)
def test_codes_at_an_end(encoding):
    """Not where a single byte of the codes differs."""
    layout = LAYOUTS[encoding]
    no_codes = {*layout.halves, *(half + 1 for half in layout.halves), *GROUPS.get(encoding, [])}
    for byte, mark in zip(EXTREMES[encoding], (_core.LOWEST, _core.HIGHEST), strict=True):
        block = filled(encoding, byte)
        assert _core.mark_blocks(block, encoding).tolist() == [mark]
        for at in set(range(layout.size)) - no_codes:
            changed = block.copy()
            changed[0, at] ^= 0x11
            assert _core.mark_blocks(changed, encoding).tolist() == [0]


@pytest.mark.parametrize("encoding", sorted(set(LAYOUTS) - set(SYMMETRIC)))
@pytest.mark.parametrize("byte", [0x00, 0xFF])
def test_equal_codes_beside_a_minimum_have_no_mark(encoding, byte):
    block = filled(encoding, byte)
    assert len(set(decode(encoding, block).codes.ravel())) == 1
    assert _core.mark_blocks(block, encoding).tolist() == [0]


def test_what_is_no_blocks():
    with pytest.raises(ArgumentError, match="not whole"):
        _core.mark_blocks(np.zeros(17, np.uint8), "q4_0")
    for call in (_core.mark_blocks, _core.count_codes):
        with pytest.raises(ArgumentError, match="hold their scales"):
            call(np.zeros(16, np.uint8), "g4")
        with pytest.raises(ArgumentError, match="unknown encoding"):
            call(np.zeros(16, np.uint8), "iq4_xs")
