"""Python ends a hundred times at random moments of what daemon threads do."""

import random

import pytest

from test_exit import ENDS, WORK, assert_ended


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("work", WORK)
def test_ends(work):
    source = random.Random(work)
    for _ in range(15):
        end, code = source.choice(list(ENDS.values()))
        wait = f"time.sleep({source.uniform(0, 0.1)})"
        assert_ended(f"begin({work}, daemon=True)\n{wait}\nprint('end', flush=True)\n{end}", code)
