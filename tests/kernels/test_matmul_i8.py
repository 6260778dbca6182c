"""matmul_i8: packed 2-, 4- and 8-bit rows times 8-bit activations, summed in integers."""
# ruff: noqa: N803, N806  (dimensions have capital letters)

import numpy as np
import pytest
from kernel_checks import CODES, U, assert_same_bits_on_all_targets, assert_within, stored_codes, testing, unaligned

from gemmule.reference.operations import to_codes

ROWS, TOKENS = 33, 16
SOME_ROWS = [*range(1, 10), 33]
SOME_TOKENS = [1, 2, 3, 5, 16]
# Multiples of every packing, odd multiples of 32 among them, and widths of 4 only.
WIDTHS = [4, 8, 12, 20, 28, 32, 36, 64, 68, 96, 160, 288, 516, 1536]
SCALE = np.float32(0.0325755216)


def case(encoding: str, K: int, seed: int = 0):
    """packed (33, K*bits/8), codes (33, K), row_scale (33,), x (16, K): some of x beyond the grid's ends."""
    bits = CODES[encoding]
    random = np.random.default_rng([bits, K, seed])
    codes = random.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (ROWS, K)).astype(np.int8)
    row_scale = random.uniform(0.01, 0.1, ROWS).astype(np.float32)
    x = (60 * SCALE * random.standard_normal((TOKENS, K))).astype(np.float32)
    return stored_codes(codes, encoding), codes, row_scale, x


def integer_product(codes, row_scale, x, scale) -> np.ndarray:
    """(T, rows) float64: exact sums of codes."""
    sums = to_codes(x, scale, 8).astype(np.int64) @ codes.T.astype(np.int64)
    return sums * np.float64(scale) * row_scale


@pytest.mark.parametrize("encoding", CODES)
def test_error_and_independence_of_the_batch(target, encoding):
    for K in WIDTHS:
        packed, codes, row_scale, x = case(encoding, K)
        want = integer_product(codes, row_scale, x, SCALE)
        whole = testing.matmul_i8(packed, encoding, row_scale, x, SCALE)
        # The sum is exact; converting it and two scales are at most four roundings.
        assert_within(whole, want, 4 * U * np.abs(want))
        for rows in SOME_ROWS:
            for tokens in SOME_TOKENS:
                part = testing.matmul_i8(
                    unaligned(packed[:rows], rows % 4), encoding, row_scale[:rows], unaligned(x[:tokens], 1), SCALE
                )
                assert np.array_equal(part, whole[:tokens, :rows]), (K, rows, tokens)


@pytest.mark.parametrize("K", [1, 2, 3, 5, 7, 31, 33, 63, 65, 127, 129])
@pytest.mark.parametrize("encoding", ["c8", "u8"])
def test_odd_widths_of_bytes(target, encoding, K):
    packed, codes, row_scale, x = case(encoding, K)
    want = integer_product(codes, row_scale, x, SCALE)
    assert_within(testing.matmul_i8(packed, encoding, row_scale, x, SCALE), want, 4 * U * np.abs(want))


@pytest.mark.parametrize("encoding", CODES)
def test_infinity_saturates_and_nan_stays_in_its_row(target, encoding):
    for K in WIDTHS:
        packed, codes, row_scale, x = case(encoding, K)
        x[1, K // 2], x[3, 0], x[3, K - 1] = np.inf, -np.inf, 3e38
        with np.errstate(over="ignore"):
            want = integer_product(codes, row_scale, x, SCALE)
        x[2, K - 1], x[5, 0] = np.nan, -np.nan
        for tokens in SOME_TOKENS:
            got = testing.matmul_i8(packed, encoding, row_scale, x[:tokens], SCALE)
            for t in range(tokens):
                if t in (2, 5):
                    assert np.isnan(got[t]).all(), (K, tokens, t)
                else:
                    assert_within(got[t], want[t], 4 * U * np.abs(want[t]))


@pytest.mark.parametrize("encoding", CODES)
def test_nan_in_two_digits_stays_in_its_row(target, encoding):
    """Wherever it stands: instructions for the largest of two numbers differ in which they keep beside NaN."""
    for K in [4, 20, 36, 160]:
        packed, _, row_scale, x = case(encoding, K)
        for place in {0, 1, 3, K // 2, K - 1}:
            for value in (np.nan, -np.nan):
                odd = x[:3].copy()
                odd[1, place] = value
                got = testing.matmul_i8(packed, encoding, row_scale, odd, np.float32(0))
                assert np.isnan(got[1]).all(), (K, place)
                assert np.isfinite(got[[0, 2]]).all(), (K, place)


@pytest.mark.parametrize("encoding", CODES)
@pytest.mark.parametrize("activation", [-128, 127])
@pytest.mark.parametrize("extreme", ["lowest", "highest"])
def test_largest_sums(target, encoding, activation, extreme):
    """The sums that would overflow int16 pairs, quads or blocks first: every product has the largest size."""
    K = 12288  # E2B's widest row
    bits = CODES[encoding]
    code = -(2 ** (bits - 1)) if extreme == "lowest" else 2 ** (bits - 1) - 1
    packed = stored_codes(np.full((5, K), code, np.int8), encoding)
    for tokens in (1, 16):
        got = testing.matmul_i8(
            packed, encoding, np.ones(5, np.float32), np.full((tokens, K), activation, np.float32), np.float32(1)
        )
        assert np.array_equal(got, np.full((tokens, 5), np.float32(K * code * activation))), tokens


@pytest.mark.parametrize("encoding", CODES)
@pytest.mark.parametrize("K", [65536, 65540, 262144])
def test_the_longest_rows(target, encoding, K):
    """No sum overflows, whatever the width that a checkpoint may have: beyond 65536 products are floats."""
    code = -(2 ** (CODES[encoding] - 1))  # times -128: all partial sums are multiples of 256, and float32 holds them
    packed = stored_codes(np.full((5, K), code, np.int8), encoding)
    for tokens in (1, 16):
        x = np.full((tokens, K), -128, np.float32)
        got = testing.matmul_i8(packed, encoding, np.ones(5, np.float32), x, np.float32(1))
        assert np.array_equal(got, np.full((tokens, 5), np.float32(K * code * -128))), tokens


@pytest.mark.parametrize("encoding", CODES)
def test_alternating_extremes(target, encoding):
    """Signs that alternate along the row: an error of a single lane's order or sign cannot cancel."""
    K = 1536
    bits = CODES[encoding]
    codes = np.where(np.arange(K) % 3 == 0, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1).astype(np.int8)
    x = np.where(np.arange(K) % 2 == 0, -128, 127).astype(np.float32)
    got = testing.matmul_i8(stored_codes(codes[None], encoding), encoding, np.ones(1, np.float32), x[None], 1.0)
    assert got[0, 0] == codes.astype(np.int64) @ x.astype(np.int64)


@pytest.mark.parametrize("encoding", CODES)
def test_each_element_meets_its_own_weight(target, encoding):
    """One token per column, each a unit vector: the matrix comes back."""
    K = 96
    packed, codes, _, _ = case(encoding, K)
    got = testing.matmul_i8(packed, encoding, np.ones(ROWS, np.float32), np.eye(K, dtype=np.float32), 1.0)
    assert np.array_equal(got, codes.T)


@pytest.mark.parametrize("encoding", CODES)
def test_input_without_a_scale(target, encoding):
    """Two 8-bit digits, x = step (256 high + low); the largest value is 32639 steps, an element errs by half a step."""
    for K in WIDTHS:
        packed, codes, row_scale, x = case(encoding, K)
        want = (x.astype(np.float64) @ codes.T.astype(np.float64)) * row_scale
        terms = (np.abs(x).astype(np.float64) @ np.abs(codes.T.astype(np.float64))) * row_scale
        half_step = np.abs(x).max(axis=1, keepdims=True) / 32639 / 2
        bound = half_step * np.abs(codes.astype(np.float64)).sum(axis=1) * row_scale * (1 + 1e-3) + 8 * U * terms
        whole = testing.matmul_i8(packed, encoding, row_scale, x, 0.0)
        assert_within(whole, want, bound)
        for tokens in SOME_TOKENS:
            assert np.array_equal(testing.matmul_i8(packed, encoding, row_scale, x[:tokens], 0.0), whole[:tokens]), K


def test_zeros_without_a_scale(target):
    packed, _, row_scale, x = case("c4", 64)
    x[1] = 0
    got = testing.matmul_i8(packed, "c4", row_scale, x, 0.0)
    assert np.array_equal(got[1], np.zeros(ROWS))
    assert np.isfinite(got).all()


@pytest.mark.parametrize("encoding", CODES)
@pytest.mark.parametrize("scale", [SCALE, np.float32(0)])
def test_same_bits(encoding, scale):
    for K in WIDTHS:
        packed, _, row_scale, x = case(encoding, K)
        for tokens in (1, 5, 16):
            assert_same_bits_on_all_targets(
                lambda args=(packed, encoding, row_scale, x[:tokens], scale): testing.matmul_i8(*args)
            )
