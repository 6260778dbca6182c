"""How fast this machine reads memory: the limit of decoding, which reads most weights once a token.

Each thread takes the maximum of its share of an array of 1 GiB, far larger than any cache, with one call of numpy. That
reads every byte once, writes nothing, costs one vector instruction per load, and runs without Python's lock.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

METHOD = "numpy int32 maximum, one share of the array per thread"
ARRAY_BYTES = 1 << 30


def measure(threads: int, repeat: int, array_bytes: int = ARRAY_BYTES) -> list[float]:
    """Bytes per second of `repeat` passes, behind one that is not counted."""
    array = np.ones(array_bytes // 4, np.int32)  # ones, not zeros: every page must be memory of its own
    shares = np.array_split(array, threads)
    speeds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(repeat + 1):
            begin = time.perf_counter()
            found = list(pool.map(np.max, shares))
            speeds.append(array.nbytes / (time.perf_counter() - begin))
            if any(value != 1 for value in found):
                raise RuntimeError("memory does not hold what was written to it")
    return speeds[1:]
