"""The text of tokens as they come: never half a character, never a part of a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from .tokenizer import Tokenizer


class TextStream:
    """Joined, its pieces are `tokenizer.decode(tokens, skip_special_tokens=True)`, cut before the first stop string.

    A run of byte tokens is held back until it ends, because only then is it known to be UTF-8 (a broken run becomes one
    U+FFFD a byte). Text that may be the beginning of a stop string is held back until it is known not to be. The work
    for a token does not grow with the length of the text.
    """

    def __init__(self, tokenizer: Tokenizer | None, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._run: list[int] = []  # byte tokens whose character is not complete
        self._held = ""  # text that may be the beginning of a stop string
        self.stopped = False  # whether a stop string was found; there is no more text then

    def push(self, token: int) -> str:
        """Takes one token; returns the text that is certain now, which may be ""."""
        if self._tokenizer is None or not self._tokenizer.has_text(token):  # a run goes on behind it
            return ""
        self._run.append(token)
        if self._tokenizer.is_byte(token):
            return ""
        return self._release(self._decode_run(), final=False)

    def finish(self) -> str:
        """The rest of the text: there are no more tokens."""
        return self._release(self._decode_run(), final=True)

    def _decode_run(self) -> str:
        text = self._tokenizer.decode(self._run) if self._tokenizer and self._run else ""
        self._run.clear()
        return text

    def _release(self, text: str, *, final: bool) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        found = [place for place in (text.find(stop) for stop in self._stop) if place >= 0]
        if found:
            self.stopped = True
            return text[: min(found)]
        keep = 0 if final else self._overlap(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def _overlap(self, text: str) -> int:
        """Length of the longest end of `text` with which a stop string begins."""
        longest = min(len(text), max(map(len, self._stop), default=1) - 1)
        for length in range(longest, 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop):
                return length
        return 0
