"""How many tokens to draft, from what drafts have cost and brought so far."""

from __future__ import annotations

from collections import deque

from .. import _core

# Passes that read one token only, before the first draft: what drafting is compared with.
_PLAIN_PASSES = 2
# Drafts of the first pass that has any, and of the first one behind a rest.
_FIRST = 2
# Passes without a draft once drafting does not pay; twice as many every time that it still does not.
_SHORTEST_REST, _LONGEST_REST = 16, 512
# Passes after which one is plain, so that the comparison stays what it is now.
_PLAIN_EVERY = 64
# Measurements of which the middle one counts.
_LAST = 9
# What a pass's drafts count against those of the next newer one.
_KEEP_DRAFTS = 0.96
# How much more a draft must bring than its time brings without it: not all that drafts cost is measured.
_WORTH = 1.1
# Drafts that were right, and drafts that were looked at, before any was.
_PRIOR = (1.0, 2.0)


class _Typical:
    """The median of the last values: a single one may be many times as long, by what else the machine does."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=_LAST)

    def add(self, x: float) -> None:
        self._last.append(x)

    @property
    def value(self) -> float | None:
        """None before the first value."""
        return sorted(self._last)[len(self._last) // 2] if self._last else None


class DraftLength:
    """Chooses the number of drafts with the most tokens a second; 0, where plain decoding has more.

    A draft is looked at only where those before it were right; it is then right with one probability. A pass takes so
    many seconds, and a constant more for every token behind the first; a draft takes a constant to make. All of these
    are measured as it goes.

    Attributes:
        plain_seconds: of a pass that reads one token, the mean of all; None before there was one.
    """

    _right: float  # drafts that were right, and
    _seen: float  # those that were looked at; older ones count less

    def __init__(self) -> None:
        self._plain = _Typical()
        self._all_plain, self._plain_passes = 0.0, 0  # seconds, and how many they are of
        self._forget()
        self._passes = self._since_plain = 0
        self._left, self._rest = 0, _SHORTEST_REST  # plain passes still to come; how many the next rest has

    @property
    def plain_seconds(self) -> float | None:
        return self._all_plain / self._plain_passes if self._plain_passes else None

    def next(self) -> int:
        """Drafts of the next pass, at most."""
        if self._passes < _PLAIN_PASSES or self._since_plain >= _PLAIN_EVERY:
            return 0
        if self._left > 0:
            self._left -= 1
            return 0
        if self._more.value is None:
            return _FIRST
        best = self._best()
        if best == 0:
            self._left = self._rest - 1
            self._rest = min(2 * self._rest, _LONGEST_REST)
            self._forget()
        return best

    def observe(self, drafted: int, right: int, draft_seconds: float, pass_seconds: float) -> None:
        """A pass that read `drafted` tokens behind the first, of which the first `right` were so."""
        self._passes += 1
        if drafted == 0:
            self._plain.add(pass_seconds)
            self._all_plain += pass_seconds
            self._plain_passes += 1
            self._since_plain = 0
            return
        self._since_plain += 1
        self._more.add(max(0.0, pass_seconds - (self._plain.value or 0.0)) / drafted)
        self._draft.add(draft_seconds / drafted)
        self._right = _KEEP_DRAFTS * self._right + right
        self._seen = _KEEP_DRAFTS * self._seen + min(right + 1, drafted)

    def _forget(self) -> None:
        """What is known of drafts: by the end of a rest the text may be another, and the machine less busy."""
        self._more, self._draft = _Typical(), _Typical()
        self._right, self._seen = _PRIOR

    def _best(self) -> int:
        """The number of drafts with the most tokens a second. The n-th is right, with those before it, with p ** n: as
        n grows, each draft brings less for the same time, so that the first that brings less than the time of all
        before it, or hardly more, is one too many."""
        p = self._right / self._seen
        each = (self._more.value or 0.0) + (self._draft.value or 0.0)
        tokens, brings, seconds = 1.0, p, self._plain.value or 0.0
        for drafts in range(_core.MOST_DRAFTS):
            if brings * seconds <= _WORTH * tokens * each:
                return drafts
            tokens, brings, seconds = tokens + brings, p * brings, seconds + each
        return _core.MOST_DRAFTS
