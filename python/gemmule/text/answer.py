"""What a model's tokens say: the answer, the thought before it, the tools it calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from .text_stream import TextStream
from .tokenizer import Tokenizer
from .tool_calls import AnyToolCall, read_call

_NAME = "thought\n"  # what stands between the opening of a channel and the thought


@dataclass(frozen=True)
class Marks:
    """Ids of the control tokens between the parts of an answer. The same letters in ordinary tokens are text."""

    channel: int
    channel_end: int
    call: int
    call_end: int
    response: int
    quote: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Marks | None:
        """Those of Gemma 4; None where the tokenizer lacks one."""
        texts = ("<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", '<|"|>')
        ids = [id for text in texts if (id := tokenizer.control_token(text)) is not None]
        return cls(*ids) if len(ids) == len(fields(cls)) else None


@dataclass(frozen=True)
class Said:
    """What became certain with a token: of the answer, of the thought, calls that are complete."""

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[AnyToolCall, ...] = ()

    def __add__(self, other: Said) -> Said:
        return Said(self.text + other.text, self.thinking + other.thinking, self.tool_calls + other.tool_calls)


class AnswerStream:
    """Splits tokens into answer, thought and calls as they come. Without marks, all of them are the answer.

    Stop strings are looked for in the answer alone. Tokens that stand where they make no sense are passed over: models
    write an end without a beginning, or leave an end out.

    Attributes:
        has_calls: whether a call has been closed.
    """

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        stop: Sequence[str] = (),
        marks: Marks | None = None,
        thought_tokens: int | None = None,
    ) -> None:
        """thought_tokens: at most so many in thoughts, their marks and the channel's name not counted."""
        self._tokenizer = tokenizer
        self._marks = marks
        self._tokens_left = thought_tokens
        self._answer = TextStream(tokenizer, stop)
        self._thought: _Thought | None = None  # the one that is open
        self._call: list[int] | None = None  # tokens of the one that is open
        self.has_calls = False

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found."""
        return self._answer.stopped

    @property
    def is_open(self) -> bool:
        """Whether the next token is the answer's: no thought and no call is open."""
        return self._thought is None and self._call is None

    @property
    def forced(self) -> int | None:
        """The token that must come next, if one must: the end of a thought that has used up its tokens."""
        return self._marks.channel_end if self._marks and self._thought and self._tokens_left == 0 else None

    def push(self, token: int) -> Said:
        """Takes one token."""
        marks = self._marks
        if marks is None:
            return Said(text=self._answer.push(token))
        if token == marks.channel:
            said, self._thought = self._close(), _Thought(self._tokenizer)
            return said
        if token == marks.call:
            said, self._call = self._close(), []
            return said
        if (token == marks.channel_end and self._thought) or (token == marks.call_end and self._call is not None):
            return self._close()
        return self._push_content(token)

    def finish(self) -> Said:
        """The rest: there are no more tokens."""
        return self._close() + Said(text=self._answer.finish())

    def _push_content(self, token: int) -> Said:
        if self._thought is not None:
            if self._tokens_left and self._thought.begun:
                self._tokens_left -= 1
            return Said(thinking=self._thought.push(token))
        if self._call is None:
            return Said(text=self._answer.push(token))
        if self._marks and self._tokenizer and (token == self._marks.quote or self._tokenizer.has_text(token)):
            self._call.append(token)
        return Said()

    def _close(self) -> Said:
        """Ends the thought or the call that is open."""
        thought, call = self._thought, self._call
        self._thought = self._call = None
        if thought is not None:
            return Said(thinking=thought.finish())
        if call is None:
            return Said()
        self.has_calls = True
        return Said(tool_calls=(read_call(self._pieces(call)),))

    def _pieces(self, call: list[int]) -> list[str]:
        """The text of a call, split at its quotes."""
        parts: list[list[int]] = [[]]
        for token in call:
            if self._marks and token == self._marks.quote:
                parts.append([])
            else:
                parts[-1].append(token)
        return [self._tokenizer.decode(part) if self._tokenizer else "" for part in parts]


class _Thought:
    """The text of one thought: without the channel's name, and without the newline before its end, which is syntax."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._stream = TextStream(tokenizer)
        self._held = ""  # what may be the name, or that newline
        self.begun = False  # whether the name is through

    def push(self, token: int) -> str:
        return self._release(self._stream.push(token))

    def finish(self) -> str:
        text = self._release(self._stream.finish())
        return text + ("" if self._held in ("\n", _NAME.strip()) else self._held)

    def _release(self, text: str) -> str:
        text = self._held + text
        if not self.begun:
            if len(text) < len(_NAME) and _NAME.startswith(text):
                self._held = text
                return ""
            self.begun = True
            text = text.removeprefix(_NAME)
        self._held = "\n" if text.endswith("\n") else ""
        return text.removesuffix("\n")
