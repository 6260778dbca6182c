"""find_scales: which rule gives which group its scale, and that every scale can be used."""

import numpy as np
import pytest
from encoders import KINDS, ROUND, bf16, weights
from kernel_checks import assert_same_bits_on_all_targets, testing
from scale_rules import BITS, ends, squared_error, trained_weights

TINY = np.finfo(np.float32).tiny
RULES = ["absmax", "search", "recover"]


def find(x, rule, codes, groups=1, source="bf16", scale_type="f32"):
    return testing.find_scales(np.ascontiguousarray(x, np.float32), rule, codes, source, scale_type, groups)


@pytest.mark.parametrize("codes", BITS)
def test_absmax(target, codes):
    for kind in KINDS:
        x = weights(kind, 4, 1536)
        largest = np.abs(x.reshape(4, 48, 32)).max(axis=2)
        want = (largest / np.float32(ends(codes)[1])).astype(np.float32)
        assert np.array_equal(find(x, "absmax", codes, 48), np.maximum(want, TINY)), kind
        assert np.array_equal(find(x, "absmax", codes, 48, scale_type="bf16"), np.maximum(bf16(want), TINY)), kind


def test_search_of_short_groups_and_of_bytes_is_the_least_error(target):
    x = weights("laplace", 4, 1024)
    for codes, n in (("g4", 32), ("c4", 64), ("c2", 64), ("c8", 32), ("c8", 1024)):
        for row, scales in zip(x, find(x, "search", codes, 1024 // n), strict=True):
            for group, scale in zip(row.reshape(-1, n), scales, strict=True):
                assert scale == np.float32(testing.error_scale(group, "least", codes))


@pytest.mark.parametrize("bits", [2, 4])
def test_search_of_long_groups(target, bits):
    """The trained scale where it shows, else that of the least expected error; but neither if it is far worse than the
    best scale, as for weights on the grid of another number of bits."""
    codes = f"c{bits}"
    trained = np.stack([trained_weights(bits, 1536, 0.01 * 1.1**seed, seed) for seed in range(5)])
    coarse = np.random.default_rng(0).integers(-1, 2, (5, 1536)) * 0.02
    others = [weights("outliers", 5, 1536), weights("sparse", 5, 1536)]
    x = np.concatenate([trained, weights("laplace", 5, 1536), coarse, *others]).astype(np.float32)
    taken = []
    for row, scale in zip(x, find(x, "search", codes)[:, 0], strict=True):
        expected, least = (testing.error_scale(row, rule, codes) for rule in ("expected", "least"))
        found = testing.trained_scale(row, bits, expected)
        errors = squared_error(row, np.array([least, found or expected]), codes)
        assert scale == np.float32(least if errors[0] < (0.6 if found else 0.8) * errors[1] else found or expected)
        taken.append("least" if scale == np.float32(least) else "trained" if found else "expected")
    assert taken[:15] == ["trained"] * 5 + ["expected"] * 5 + ["least"] * 5
    assert find(x, "search", codes, 6)[3, 2] == find(x[3:4, 512:768], "search", codes)[0, 0]


@pytest.mark.parametrize("codes", ["c2", "c4", "c8"])
def test_search_has_less_error_than_absmax(target, codes):
    """Clusters, equal weights, and a distribution that ends at a wall look a little as if training had made them."""
    for kind in KINDS:
        x = weights(kind, 4, 1536)
        for row, a, b in zip(x, find(x, "search", codes), find(x, "absmax", codes), strict=True):
            most = 1.3 if kind in ("uniform", "sparse", "two clusters") else 1 + 1e-5
            assert squared_error(row, a, codes)[0] <= most * squared_error(row, b, codes)[0], kind


@pytest.mark.parametrize("source", ROUND)
@pytest.mark.parametrize("scale_type", ["f32", "bf16"])
def test_recover_takes_the_grid_or_searches(target, source, scale_type):
    random = np.random.default_rng(1)
    step = ROUND[scale_type](np.float32([[0.0123]]))
    x = ROUND[source]((random.integers(-8, 8, (6, 256)) * step).astype(np.float32))
    x[3:] = ROUND[source](weights("normal", 3, 256))
    scales = find(x, "recover", "c4", 8, source, scale_type)
    assert np.array_equal(scales[3:], find(x, "search", "c4", 8, source, scale_type)[3:])
    assert testing.encode_codes(x, "c4", source, scales)[1]["on_grid"] == 3 * 256


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("codes", BITS)
def test_scales_can_be_used_whatever_the_weights(target, rule, codes):
    """Zeros get codes of 0; nothing overflows to a scale that is no number."""
    for value in (0.0, 1e-45, 1e-38, 3e-38, 1e20, 3e38):
        for pattern in ([1.0], [1.0, -1.0], [0.0, 0.0, 0.0, -1.0], [1.0, 0.3, -0.7, 0.01]):
            x = (np.resize(pattern, (2, 256)) * np.float32(value)).astype(np.float32)
            for groups in (1, 8):
                scales = find(x, rule, codes, groups, "f32")
                assert np.isfinite(scales).all(), (value, pattern)
                assert (np.abs(scales) >= TINY).all(), (value, pattern)
                if value == 0.0:
                    assert not testing.encode_codes(x, codes, "f32", scales)[0].view(np.int8).any() or codes != "c8"
                    assert testing.encode_codes(x, codes, "f32", scales)[1]["on_grid"] == x.size


def test_same_bits():
    for kind in KINDS:
        x = weights(kind, 2, 1536)
        for codes, groups in (("c2", 1), ("c4", 1), ("c8", 1), ("g4", 48)):
            for rule in RULES:
                assert_same_bits_on_all_targets(lambda x=x, r=rule, c=codes, g=groups: find(x, r, c, g))
