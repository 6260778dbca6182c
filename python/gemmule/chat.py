"""A conversation: its messages, and the cache of what the model has read of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from .checkpoint import GenerationConfig
from .errors import ArgumentError
from .generate import Generation, Piece, Result, check_length, pieces
from .rewinding import rewound
from .sampling import GenerationOptions, Sampling
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Chat:
    """A conversation of several turns; made by `Model.chat`. One answer at a time, for one thread at a time.

    What the model has read stays in its cache: a turn computes only what is new, as long as the template writes the
    earlier turns as they were. A turn that is interrupted, left early or failing leaves the conversation as it was.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        defaults: GenerationConfig,
        new_decoder: Callable[[], _core.Decoder],
        *,
        context: int,
        system: str | None = None,
    ) -> None:
        tokenizer.need_template()
        self._tokenizer = tokenizer
        self._defaults = defaults
        self._new_decoder = new_decoder
        self._context = context
        self._messages: list[dict[str, Any]] = []
        if system is not None:
            self._messages.append({"role": "system", "content": _checked("system", system)})
        self._decoder = new_decoder()
        self._run: Generation | None = None  # the last turn
        self._answer: Generator[Piece, None, None] | None = None  # of the last turn, maybe unfinished

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation so far, as a new list of {"role", "content"}; answers with their special tokens."""
        return [dict(message) for message in self._messages]

    def send(self, text: str, **options: Unpack[GenerationOptions]) -> Result:
        """Says `text` and waits for the whole answer. Options and errors are those of `Model.generate`."""
        run, answer = self._begin(text, options)
        for _ in answer:
            pass
        return run.result()

    def stream(self, text: str, **options: Unpack[GenerationOptions]) -> Iterator[Piece]:
        """Says `text` and gives the answer piece by piece. Options and errors are those of `Model.stream`.

        The conversation goes on once the last piece is there; another turn before that gives this one up.
        """
        return self._begin(text, {"logprobs": True, **options})[1]

    def _begin(self, text: str, options: GenerationOptions) -> tuple[Generation, Generator[Piece, None, None]]:
        sampling = Sampling.complete(self._defaults, **options)
        self._give_up()
        question = {"role": "user", "content": _checked("text", text)}
        ids = np.array(self._tokenizer.encode_messages([*self._messages, question]), np.int32)
        check_length(len(ids), self._context)
        self._decoder = rewound(self._decoder, self._ids, ids, self._new_decoder)
        self._run = Generation(self._decoder, ids, sampling, context=self._context, tokenizer=self._tokenizer)
        self._answer = self._pieces(question, self._run, sampling)
        return self._run, self._answer

    def _pieces(self, question: dict[str, Any], run: Generation, sampling: Sampling) -> Generator[Piece, None, None]:
        tokens: list[int] = []
        for piece in pieces(run):
            tokens.append(piece.token)
            if piece.finish_reason is not None:  # before the piece is given: nobody has to ask for another one
                self._messages += [question, {"role": "assistant", "content": self._spoken(tokens, sampling)}]
            yield piece

    def _spoken(self, tokens: list[int], sampling: Sampling) -> str:
        """The answer as it stands in the conversation: with its special tokens, so that the template finds a thought
        in it, but without the end token and what a stop string cuts off."""
        if tokens[-1] in sampling.end_tokens:
            tokens = tokens[:-1]
        text = self._tokenizer.decode(tokens)
        return text[: min((place for place in map(text.find, sampling.stop) if place >= 0), default=len(text))]

    @property
    def _ids(self) -> NDArray[np.int32]:
        """(N,) of the last turn; the decoder has seen the first `length` of them."""
        return np.zeros(0, np.int32) if self._run is None else self._run.ids

    def _give_up(self) -> None:
        """Ends an answer that was left unfinished."""
        try:
            if self._answer is not None:
                self._answer.close()
        except ValueError:  # another thread is in it
            raise ArgumentError(
                "this chat is giving another answer", remedy="Wait for it, or use one chat for each thread."
            ) from None


def _checked(name: str, text: object) -> str:
    if isinstance(text, str):
        return text
    raise ArgumentError(f"{name} is {text!r:.80}; expected a string", expected="a string")
