"""What a core can do at most: the loops do all of what they are timed for."""

import numpy as np
import pytest

import gemmule

KernelBench = gemmule._core.bench.KernelBench


@pytest.mark.parametrize("threads", [1, 3])
def test_every_byte_is_read(target, threads):
    bench = KernelBench(threads, False)
    random = np.random.default_rng(0)
    for vectors in [1, 2, 7, 8, 9, 31, 1000, 4099]:
        data = random.integers(0, 256, 64 * vectors + 1, dtype=np.uint8)[1:]  # at an odd address
        want = int(data.copy().view(np.uint32).sum(dtype=np.uint64)) % 2**32
        seconds, found = bench.read(data)
        assert found == want, vectors
        assert seconds > 0
        data[-1] ^= 1
        assert bench.read(data)[1] != want


@pytest.mark.parametrize("threads", [1, 3])
def test_products_are_counted(target, threads):
    """And their sums are right, also where they go round 16 bits."""
    bench = KernelBench(threads, False)
    (_, one), (_, many) = bench.multiply_adds(1), bench.multiply_adds(70_000)
    assert one > 0
    assert one % (threads * 8 * 16) == 0  # eight parts a thread, vectors of 16 bytes or more
    assert many == 70_000 * one


def test_speeds_are_possible():
    """A loop that the compiler took the work out of would be faster than 2 vectors of 64 bytes a cycle at 6 GHz."""
    bench = KernelBench(1, False)
    for name in gemmule._core.testing.targets():
        gemmule._core.testing.set_target(name)
        seconds, count = bench.multiply_adds(20_000)
        assert count / seconds < 2 * 64 * 6e9, name
    gemmule._core.testing.set_target(None)


def test_refuses():
    with pytest.raises(gemmule.ArgumentError, match="64 bytes"):
        KernelBench(1, False).read(np.zeros(65, np.uint8))
    with pytest.raises(gemmule.ArgumentError, match="threads"):
        KernelBench(0, False)
