"""How many tokens are drafted, on made-up costs and acceptances."""

import random

import pytest

from gemmule._core import MOST_DRAFTS
from gemmule.generation.draft_length import DraftLength


def run(passes, *, right, plain=1.0, more=0.1, draft=0.05, seed=0, length=None, disturbed=lambda n: False):
    """Plays passes. Returns the lengths, and tokens a second.

    Args:
        right: of n: probability that a draft of pass n is right.
        disturbed: of n: whether pass n seems to take 30 times as long.
    """
    source = random.Random(seed)
    length = length or DraftLength()
    lengths, tokens, seconds = [], 0, 0.0
    for n in range(passes):
        count = length.next()
        accepted = 0
        while accepted < count and source.random() < right(n):
            accepted += 1
        length.observe(count, accepted, count * draft, (plain + count * more) * (30 if disturbed(n) else 1))
        lengths.append(count)
        tokens += accepted + 1
        seconds += plain + count * (more + draft)
    return lengths, tokens / seconds


def test_begins_with_plain_passes_to_compare_with():
    lengths, _ = run(10, right=lambda n: 0.8)
    assert lengths[:2] == [0, 0]
    assert min(lengths[2:]) > 0


@pytest.mark.parametrize(
    ("right", "more", "best"),
    [(0.95, 0.02, 8), (0.8, 0.1, 3), (0.6, 0.1, 2), (0.5, 0.2, 1)],
)
def test_finds_the_best_length(right, more, best):
    """Within a tenth of the speed of the best constant length."""
    length = DraftLength()
    run(200, right=lambda n: right, more=more, length=length)
    _, speed = run(2000, right=lambda n: right, more=more, length=length)
    speeds = [sum(right**i for i in range(n + 1)) / (1 + n * (more + 0.05)) for n in range(MOST_DRAFTS + 1)]
    assert speeds[best] > 1.02
    assert speed > 0.9 * max(speeds)


def test_leaves_off_where_it_does_not_pay():
    lengths, speed = run(2000, right=lambda n: 0.05)
    assert lengths[2:6].count(0) == 0
    assert sum(count > 0 for count in lengths) < 0.05 * len(lengths)
    assert speed > 0.97


def test_expensive_passes_do_not_pay():
    """A pass that takes as much for each token as for the first."""
    _, speed = run(2000, right=lambda n: 0.9, more=1.0)
    assert speed > 0.97


def test_comes_back_when_the_text_can_be_guessed():
    lengths, _ = run(1200, right=lambda n: 0.0 if n < 200 else 0.95)
    assert sum(count > 0 for count in lengths[100:200]) < 20
    assert sum(count > 2 for count in lengths[900:]) > 250


def test_single_measurements_that_are_far_off_change_little():
    """The first pass with drafts, or one in fifty."""
    _, quiet = run(1000, right=lambda n: 0.8)
    for disturbed in (lambda n: n == 2, lambda n: n % 50 == 2, lambda n: n % 50 == 1):
        lengths, speed = run(1000, right=lambda n: 0.8, disturbed=disturbed)
        assert speed > 0.95 * quiet
        assert sum(count > 0 for count in lengths) > 800


def test_tries_drafts_that_pay_only_if_most_are_right():
    """A rest ends with drafts, not with what would be guessed of them."""
    lengths, speed = run(2000, right=lambda n: 0.0 if n < 100 else 0.95, more=0.6)
    assert sum(count > 0 for count in lengths[1000:]) > 800
    assert speed > 1.1


def test_compares_with_plain_passes_of_now():
    length = DraftLength()
    lengths, _ = run(300, right=lambda n: 0.9, length=length)
    assert 3 <= lengths[10:].count(0) <= 5
    assert length.plain_seconds == pytest.approx(1.0)
    assert DraftLength().plain_seconds is None
