"""Hundreds of forks while every part of a model is in use by other threads; none hangs, all have the same bits."""

import random
import time

import pytest

from test_fork import Busy, in_child, model  # noqa: F401  a fixture


@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_forks(model):  # noqa: F811
    source = random.Random(1)
    warnings = set()
    with Busy(model) as busy:
        for _ in range(400):
            time.sleep(source.uniform(0, 0.03))
            got, warned = in_child(busy.work)
            assert got == busy.want
            warnings.add(len(warned))
    assert warnings == {1}
