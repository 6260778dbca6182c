"""How work is cut into pieces: cpp/base/pieces.h."""

import numpy as np
import pytest

import gemmule

pieces = gemmule._core.testing.pieces


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 16, 1024])
def test_pieces_cover_the_work(threads):
    for n in [*range(1, 200), 1536, 16384, 10**6, 10**12]:
        begins = pieces(n, threads)
        sizes = np.diff(begins)
        assert begins[0] == 0
        assert begins[-1] == n
        assert (sizes > 0).all(), n
        assert len(sizes) < 0xFFFF, n  # as many as a job may have (cpp/base/workers.h)
        # No thread is left with long work at the end, and a caller is asked to stop from time to time.
        assert sizes.max() <= max(n // 8, -(-n // (16 * threads))), n
        assert sizes[-1] <= -(-n // (16 * threads)), n
        assert (np.diff(sizes[:-1]) <= 0).all(), n


def test_half_of_the_work_is_a_long_piece_for_each_thread():
    assert pieces(64, 4) == [0, 8, 16, 24, 32, 36, 40, 44, 48, 50, 52, 54, 56, 57, 58, 59, 60, 61, 62, 63, 64]
