"""attention: queries that share keys, in tiles and spans, give the bits of each alone."""

import numpy as np
import pytest
from kernel_checks import U, assert_same_bits_on_all_targets, assert_within, stored_codes, testing

import gemmule
from gemmule.reference import operations
from gemmule.reference.safetensors import f32_to_bf16

ELEMENTS = {"f32": "f32", "bf16": "bf16", "c8": "i8", "c4": "i4"}  # as `attend` calls them
SCALE = 1 / 8  # of a code
ALL = 1 << 40  # a window without end

# Heads, heads of keys, E, positions, tokens, window. A block has 64 positions; above 2048 a span has 2 blocks.
SHAPES = [
    (1, 1, 16, 70, 1, ALL),
    (8, 1, 32, 130, 3, ALL),
    (3, 1, 20, 100, 20, ALL),
    (4, 2, 16, 200, 64, ALL),
    (16, 1, 12, 90, 2, ALL),
    (12, 1, 64, 66, 5, ALL),
    (8, 8, 4, 129, 17, ALL),
    (8, 4, 256, 150, 9, ALL),
    (8, 1, 16, 2113, 1, ALL),
    (2, 1, 16, 4200, 120, ALL),
    (2, 1, 16, 300, 150, 64),
    (8, 2, 20, 333, 64, 100),
    (1, 1, 32, 140, 70, 1),
    (4, 1, 16, 2600, 64, 2400),
]


class Case:
    """Queries (T, H, E), and keys and values (n, G, E) that every element type holds exactly."""

    def __init__(self, shape, element):
        self.heads, self.groups, e, self.n, tokens, self.window = shape
        self.element = element
        random = np.random.default_rng(shape[:5])
        codes = random.integers(-8, 8, (2, self.n, self.groups, e))
        self.q = (random.standard_normal((tokens, self.heads, e)) * (2 / e**0.5)).astype(np.float32)
        self.k, self.v = codes.astype(np.float32) * np.float32(SCALE)
        self.cache = np.stack([self._keys(self._bytes(codes[0])), self._values(self._bytes(codes[1]))], axis=1)

    def _bytes(self, codes):
        """(blocks, 64, G, whole words)"""
        rows = codes.reshape(-1, codes.shape[-1])
        values = rows.astype(np.float32) * np.float32(SCALE)
        if self.element == "f32":
            stored = values.view(np.uint8)
        elif self.element == "bf16":
            stored = f32_to_bf16(values).view(np.uint8)
        else:
            stored = stored_codes(rows, self.element)
        stored = np.pad(stored, [(0, 0), (0, -stored.shape[1] % 4)]).reshape(self.n, self.groups, -1)
        return np.pad(stored, [(0, -self.n % 64), (0, 0), (0, 0)]).reshape(-1, 64, *stored.shape[1:])

    def _keys(self, rows):
        words = np.ascontiguousarray(rows).view(np.uint32)
        blocks, _, groups, count = words.shape
        return words.reshape(blocks, 4, 16, groups, count).transpose(0, 3, 1, 4, 2).reshape(blocks, -1).view(np.uint8)

    def _values(self, rows):
        return np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(len(rows), -1)

    def attend(self, threads=1, tokens=slice(None)):
        """The answers of `tokens`, which come from the end of the positions."""
        first, end, _ = tokens.indices(len(self.q))
        scale = SCALE if self.element in ("c8", "c4") else 1.0
        return gemmule._core.bench.KernelBench(threads, False).attention(
            self.cache.reshape(len(self.cache), -1),
            self.element,
            scale,
            scale,
            self.groups,
            self.n - len(self.q) + end,
            self.window,
            self.q[first:end],
        )[1]

    def seen(self, token):
        last = self.n - len(self.q) + token + 1
        return slice(max(0, last - self.window), last)


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_error(target, shape, element):
    case = Case(shape, element)
    got = case.attend()
    for token, head in {(0, 0), (len(case.q) // 2, case.heads // 2), (len(case.q) - 1, case.heads - 1)}:
        group = head // (case.heads // case.groups)
        q = case.q[token, head].astype(np.float64)
        k, v = (x[case.seen(token), group].astype(np.float64) for x in (case.k, case.v))
        n, e = k.shape
        score_error = ((2 * e / 16 + 8) * U * (np.abs(k) @ np.abs(q))).max()  # as in test_attend.py
        weights = operations.softmax(k @ q)
        bound = (2 * score_error + (4 * n / 16 + 24) * U) * (weights @ np.abs(v)) + n * np.exp(-87.3) * np.abs(v).max()
        assert_within(got[token, head], operations.attend(q, k, v), bound)


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bits_depend_on_the_query_alone(target, shape, element):
    case = Case(shape, element)
    got = case.attend()
    for threads in (2, 3):
        np.testing.assert_array_equal(case.attend(threads), got)
    for token in {0, 1, len(case.q) // 2, len(case.q) - 1} & set(range(len(case.q))):
        np.testing.assert_array_equal(case.attend(2, slice(token, token + 1))[0], got[token])
    if case.window < ALL:
        return
    for token, head in {(0, 0), (len(case.q) - 1, case.heads - 1)}:
        k, v = (
            np.ascontiguousarray(x[case.seen(token), head // (case.heads // case.groups)]) for x in (case.k, case.v)
        )
        alone = testing.attend(case.q[token, head], k, v, ELEMENTS[element], SCALE, SCALE)
        np.testing.assert_array_equal(alone, got[token, head])


@pytest.mark.parametrize("element", ELEMENTS)
def test_same_bits(element):
    for shape in SHAPES:
        assert_same_bits_on_all_targets(Case(shape, element).attend)
