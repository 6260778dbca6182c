"""matmul_f32: stored rows of any encoding times float32 activations, summed in float32."""
# ruff: noqa: N803, N806  (dimensions have capital letters)

import numpy as np
import pytest
from kernel_checks import CODES, U, assert_same_bits_on_all_targets, assert_within, stored_codes, testing, unaligned

from gemmule.reference.safetensors import bf16_to_f32, f32_to_bf16

ROWS, TOKENS = 33, 16
SOME_ROWS = [*range(1, 10), 33]
SOME_TOKENS = [1, 2, 3, 5, 16]
WIDTHS = [4, 8, 12, 20, 28, 32, 36, 64, 68, 96, 160, 288, 516, 1536]
ENCODINGS = ["f32", "f16", "bf16", *CODES]


def case(encoding: str, K: int):
    """stored (33, bytes), values (33, K) float64, row_scale (33,) or None, x (16, K)."""
    random = np.random.default_rng([ENCODINGS.index(encoding), K])
    x = random.standard_normal((TOKENS, K)).astype(np.float32)
    if encoding in CODES:
        bits = CODES[encoding]
        codes = random.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (ROWS, K)).astype(np.int8)
        row_scale = random.uniform(0.01, 0.1, ROWS).astype(np.float32)
        values = codes * row_scale[:, None].astype(np.float64)
        return stored_codes(codes, encoding), values, row_scale, x
    w = random.standard_normal((ROWS, K)).astype(np.float32)
    if encoding == "f16":
        w = w.astype(np.float16)
        w[0, :2] = [6e-8, -6e-5]  # subnormal numbers
    stored = f32_to_bf16(w) if encoding == "bf16" else w
    values = bf16_to_f32(stored) if encoding == "bf16" else w
    return stored.view(np.uint8).reshape(ROWS, -1), values.astype(np.float64), None, x


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_error_and_independence_of_the_batch(target, encoding):
    for K in WIDTHS:
        stored, values, row_scale, x = case(encoding, K)
        want = x.astype(np.float64) @ values.T
        terms = np.abs(x).astype(np.float64) @ np.abs(values).T
        whole = testing.matmul_f32(stored, encoding, row_scale, x)
        # Sixteen lanes: K/16 fused steps (two roundings each where they are not fused), the tree, the row's scale.
        assert_within(whole, want, (2 * K / 16 + 8) * U * terms)
        for rows in SOME_ROWS:
            for tokens in SOME_TOKENS:
                part = testing.matmul_f32(
                    unaligned(stored[:rows], rows % 4),
                    encoding,
                    None if row_scale is None else row_scale[:rows],
                    unaligned(x[:tokens], 1),
                )
                assert np.array_equal(part, whole[:tokens, :rows]), (K, rows, tokens)


@pytest.mark.parametrize("encoding", ["f32", "f16", "bf16", "c8", "u8"])
@pytest.mark.parametrize("K", [1, 2, 3, 5, 7, 15, 17, 31, 33])
def test_odd_widths(target, encoding, K):
    stored, values, row_scale, x = case(encoding, max(K, 2))
    values, x = values[:, :K], np.ascontiguousarray(x[:, :K])
    stored = np.ascontiguousarray(stored[:, : stored.shape[1] * K // max(K, 2)])
    terms = np.abs(x).astype(np.float64) @ np.abs(values).T
    assert_within(testing.matmul_f32(stored, encoding, row_scale, x), x.astype(np.float64) @ values.T, 16 * U * terms)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_element_meets_its_own_weight(target, encoding):
    K = 96
    stored, values, row_scale, _ = case(encoding, K)
    got = testing.matmul_f32(stored, encoding, row_scale, np.eye(K, dtype=np.float32))
    assert np.array_equal(got, values.T.astype(np.float32))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_same_bits(encoding):
    for K in WIDTHS:
        stored, _, row_scale, x = case(encoding, K)
        for tokens in (1, 5, 16):
            assert_same_bits_on_all_targets(
                lambda args=(stored, encoding, row_scale, x[:tokens]): testing.matmul_f32(*args)
            )
