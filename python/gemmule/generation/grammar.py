"""Which tokens a structure allows next. Grammars are llguidance's work (extra "structured")."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .. import _core, forks
from ..errors import ArgumentError, ResourceError, UnsupportedError
from ..printable import printable
from ..text.tokenizer import Tokenizer
from .structure import Structure

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

# Between the parts of JSON: nothing, a space, or a new line with its indentation. Without a limit, a model may write
# blanks until its tokens are used up. A schema that has "x-guidance": {"whitespace_pattern": ...} says it for itself.
_WHITESPACE = r"( |\n {0,16})?"

# Where one byte alone can follow, llguidance goes on until two can: without an end in "start: /b+/ start". Grammars
# therefore leave such bytes to the model. Without other separators than JSON's, schemas always come to an end.
_UNFORCED = '%llguidance {"no_forcing": true}'

_REMEDY = "Change the {0}; llguidance's documentation says what it takes."
_REASONS = {  # where llguidance says no more
    "NoExtensionBias": "nothing fits it",
    "panic: removal index (is 0) should be < len (is 0)": "it names a control token, which no answer has",
}
_LONGEST_LINE, _MOST_LINES = 100, 8  # of a reason

# llguidance gives Python's lock back while it works. Where Python ends meanwhile, taking it again would crash. Entered
# where a grammar is made and where an answer asks something of it.
_END_WAITS = _core.EndWaits()

# Masks take 0.02 ms as a rule, but some regular expressions 4 ms with Gemma's vocabulary. Behind such a one the next is
# computed in a thread, while the model reads the token.
_SLOW_SECONDS = 5e-4


class Grammars:
    """Makes grammars for a model's tokens. These are described to llguidance once, for the first grammar: about 1.5 s
    with Gemma's vocabulary. Threads may share it."""

    def __init__(self, vocab_size: int, need_tokenizer: Callable[[], Tokenizer]) -> None:
        self.vocab_size = vocab_size
        self._need_tokenizer = need_tokenizer
        self._tokens: _Tokens | None = None
        self._after_fork()
        forks.remember(self)

    def _after_fork(self) -> None:
        self._describing = RLock()

    def compile(self, structure: Structure) -> Grammar:
        """Raises ArgumentError where nothing can fit the structure, or llguidance cannot express it; UnsupportedError
        without llguidance, or without a tokenizer."""
        try:
            from llguidance import LLMatcher, LLParserLimits
        except ImportError:
            raise UnsupportedError(
                f"{structure.kind}= needs the package llguidance", remedy="pip install 'gemmule[structured]'"
            ) from None
        source = structure.source
        with _END_WAITS:
            if structure.kind == "schema":
                source = LLMatcher.grammar_from_json_schema(source, defaults={"whitespace_pattern": _WHITESPACE})
                if '"x-guidance"' in structure.source:
                    (made,) = json.loads(source)["grammars"]
                    source = LLMatcher.grammar_from_lark(f"start: %json {json.dumps(made['json_schema'])}\n{_UNFORCED}")
            elif structure.kind == "regex":
                source = LLMatcher.grammar_from_regex(source)
            else:
                source = LLMatcher.grammar_from_lark(f"{source}\n{_UNFORCED}")
            tokens = self._described
            brief = LLParserLimits(verbose_errors=False)
            return Grammar(structure, LLMatcher(tokens.tokenizer, source, log_level=0, limits=brief), tokens)

    @property
    def _described(self) -> _Tokens:
        with self._describing:
            if self._tokens is None:
                described = _Tokens.of(self._need_tokenizer(), self.vocab_size)
                self._tokens = self._tokens or described  # a signal's handler may have asked meanwhile, too
            return self._tokens


@dataclass(frozen=True)
class _Tokens:
    """What a vocabulary of V tokens spells.

    Attributes:
        tokenizer: llguidance's, of V + 1 tokens.
        visible: (V,) whether a token has text: control tokens and ids without an entry have none.
        bits: the same, 8 in a byte, the lowest bit first.
    """

    tokenizer: LLTokenizer
    visible: NDArray[np.bool_]
    bits: NDArray[np.uint8]

    @classmethod
    def of(cls, tokenizer: Tokenizer, vocab_size: int) -> _Tokens:
        from llguidance import LLTokenizer

        described = _Description(tokenizer, vocab_size)
        visible = np.array([bool(token) for token in described.tokens[:vocab_size]])
        made = LLTokenizer(described)  # type: ignore[arg-type]
        described.tokens = []  # llguidance has them, and keeps the description to encode with it
        return cls(made, visible, np.packbits(visible, bitorder="little"))


class _Description:
    """A tokenizer in the form of llguidance's class TokenizerWrapper: the bytes of every token, and a call that
    encodes. Tokens without text have no bytes, so that no grammar allows them."""

    is_tokenizer_wrapper = True
    bos_token_id = None
    special_token_ids = ()

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        # For llguidance one token marks the end: one behind the vocabulary. Which ones end answers, `Constraint` knows.
        self.tokens = [*(tokenizer.spelled(id) for id in range(vocab_size)), b""]
        self.eos_token_id = vocab_size

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False, parse_special=False)


class Grammar:
    """A structure that some answer fits."""

    def __init__(self, structure: Structure, start: LLMatcher, tokens: _Tokens) -> None:
        self.structure = structure
        self._start = start
        self._tokens = tokens
        if not self.begin(()).possible:
            raise ArgumentError(
                f"{structure.kind}: nothing fits it that has no control token", remedy=_REMEDY.format(structure.kind)
            )

    def begin(self, end_tokens: Collection[int]) -> Constraint:
        """The beginning of an answer that ends with one of `end_tokens`."""
        with _END_WAITS:
            return Constraint(self.structure.kind, self._start.deep_copy(), self._tokens, end_tokens)


class Constraint:
    """How far an answer has come in its grammar.

    Attributes:
        complete: whether it fits, and nothing may follow.
    """

    def __init__(self, kind: str, matcher: LLMatcher, tokens: _Tokens, end_tokens: Collection[int]) -> None:
        self._kind = kind
        self._matcher = matcher
        self._tokens = tokens
        self._ends = [id for id in end_tokens if id < len(tokens.visible) and not tokens.visible[id]]
        self.complete = False
        self._seconds = 0.0  # that the last mask took
        self._ahead: Future[bytes] | None = None  # the next one
        self._forked = False  # whether this is a forked child, where the thread is not
        self._check()
        forks.remember(self)

    def _after_fork(self) -> None:
        self._forked = True

    @property
    def fits(self) -> bool:
        """Whether the answer fits as it is."""
        return self._matcher.is_accepting()

    @property
    def possible(self) -> bool:
        """Whether there is an answer that goes on from here, or ends."""
        return self.fits or bool(self._allowed().any())

    def masked(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """logits (V,), with -infinity for tokens that may not come next. End tokens may exactly where the answer fits
        as it is."""
        with _END_WAITS:
            masked = _core.masked(logits, self._allowed())
            if self.fits:
                masked[self._ends] = logits[self._ends]
            return masked

    def _allowed(self) -> NDArray[np.uint8]:
        """Which tokens with a text may come next, as `_Tokens.bits`."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and self._forked:  # whatever the thread held, nobody gives free
            raise ResourceError(
                f"{self._kind}: the process was forked in the middle of an answer",
                remedy="Ask again in the child, or start processes by 'spawn'.",
            )
        bits = self._bits() if ahead is None else ahead.result()
        self._check()
        return np.frombuffer(bits, np.uint8, len(self._tokens.bits)) & self._tokens.bits

    def accept(self, token: int) -> None:
        """Goes on with a token that may come next and does not end the answer."""
        with _END_WAITS:
            self._matcher.consume_token(token)
            self._check()
            self.complete = self._matcher.is_stopped()
        if self._seconds > _SLOW_SECONDS and not self.complete and not self._forked:
            with suppress(RuntimeError):  # the system gives no thread: it is computed when it is asked for
                self._ahead = self._beside.submit(self._bits)

    @cached_property
    def _beside(self) -> ThreadPoolExecutor:
        """A thread, which ends with this object."""
        return ThreadPoolExecutor(1)

    def _bits(self) -> bytes:
        begin = time.perf_counter()
        bits = self._matcher.compute_bitmask()
        self._seconds = time.perf_counter() - begin
        return bits

    def _check(self) -> None:
        if self._matcher.is_error():
            raise _refused(self._kind, self._matcher.get_error())


def _refused(kind: str, reason: str) -> ArgumentError:
    """reason: llguidance's."""
    reason = reason.partition("<backtrace>")[0].removesuffix("<non-verbose/>").strip()
    lines = [line for line in _REASONS.get(reason, reason).splitlines() if _UNFORCED not in line][:_MOST_LINES]
    reason, *details = (
        printable(line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE].rstrip()}...")
        for line in lines or [""]
    )
    return ArgumentError(f"{kind}: {reason}", details="\n".join(details), remedy=_REMEDY.format(kind))
