"""A conversation: its messages, and the cache of what the model has read of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .. import _core, arguments
from ..checkpoints.checkpoint import GenerationConfig
from ..errors import ArgumentError, ContextError, UnsupportedError
from ..generation.drafting import Drafting
from ..generation.generate import Generation, Piece, Result, check_length, pieces
from ..generation.grammar import Grammars
from ..generation.prefixes import Prefixes
from ..generation.rewinding import rewound
from ..generation.sampling import GenerationOptions, Sampling
from ..text.answer import Marks
from ..text.template import put_another
from ..text.tokenizer import Tokenizer
from ..text.tool_calls import AnyToolCall
from . import chat_file
from .chat_file import ModelIdentity, SavedChat
from .context_full import CHOICES, DROP, ERROR, STOP, drop_oldest, room_for_answer
from .one_call import Given, Use, by_one_call, by_one_thread
from .tools import AnyTool, ToolResult, ToolRun, collect, execute
from .turns import answer_message, calls_of, not_executed, result_messages, shown, turn_begins

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
        grammars: Grammars,
        prefixes: Prefixes,
        *,
        context: int,
        identity: Callable[[], ModelIdentity],
        new_drafting: Callable[[Sampling], Drafting | None],
        system: str | None = None,
        thinking: bool | int = False,
        tools: Iterable[AnyTool] | None = None,
        context_full: str = STOP,
    ) -> None:
        tokenizer.need_template()
        self._tokenizer = tokenizer
        self._defaults = defaults
        self._grammars = grammars
        self._prefixes = prefixes
        self._context = context
        self._identity = identity
        self._new_drafting = new_drafting
        self._context_full = arguments.choice("context_full", context_full, CHOICES)
        self._dropped_turns = 0
        self._marks = Marks.of(tokenizer)
        is_flag = isinstance(thinking, (bool, np.bool_))
        self._thinking = bool(thinking) if is_flag else True
        self._thought_tokens = None if is_flag else arguments.integer("thinking", thinking, least=1)
        self._tools = collect(() if tools is None else tools)
        self._messages: list[dict[str, Any]] = []
        if system is not None:
            self._messages.append({"role": "system", "content": arguments.string("system", system)})
        self._check_template()
        self._decoder = prefixes.new_decoder()
        self._read = np.zeros(0, np.int32)  # ids that the decoder has seen before the last turn, if there was none yet
        self._run: Generation | None = None  # the last turn
        self._answer: Generator[Piece, None, None] | None = None  # of the last turn, maybe unfinished
        self._use = Use()

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation so far, as a new list of {"role", "content"}. Answers have "reasoning" and "tool_calls" too,
        where there are some, and results of calls stand behind them with the role "tool"."""
        return deepcopy(self._messages)

    @property
    def dropped_turns(self) -> int:
        """Turns at the beginning that are no longer in `messages`, because the context was full."""
        return self._dropped_turns

    @by_one_call
    def send(self, text: str, **options: Unpack[GenerationOptions]) -> Result:
        """Says `text` and waits for the whole answer. Options and errors are those of `Model.generate`.

        The calls in its `tool_calls` are the caller's to make, see `send_tool_results`. Where the next turn is another
        text, the model is told that they were not executed.
        """
        return self._finished(self._question(text), options)

    @by_one_call
    def stream(self, text: str, **options: Unpack[GenerationOptions]) -> Iterator[Piece]:
        """Says `text` and gives the answer piece by piece. Options and errors are those of `Model.stream`.

        The conversation goes on once the last piece is there; another turn before that gives this one up.
        """
        return self._streamed(self._question(text), options)

    @by_one_thread
    def fork(self) -> Chat:
        """A second conversation that has come as far as this one; from here on each goes its own way.

        An answer that is not finished stays with this one. The cache is shared: a fork costs its list of blocks, and
        later, for whichever of the two goes on, a copy of each block that it writes into.
        """
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._messages = deepcopy(self._messages)
        twin._decoder = self._decoder.fork()
        twin._read = self._ids[: twin._decoder.length].copy()
        twin._run = twin._answer = None
        twin._use = Use()
        return twin

    def __copy__(self) -> Chat:
        return self.fork()

    def __reduce__(self) -> NoReturn:
        raise UnsupportedError(
            "a chat cannot be pickled, nor copied by deepcopy: its cache is the engine's",
            remedy="Use fork in this process; for another one save the chat, and load_chat it there.",
        )

    @by_one_call
    def undo(self) -> None:
        """Takes back the last turn: what was said, the answer, and calls and results between them.

        An unfinished answer is given up, as always; turns that were dropped do not come back.

        Raises ArgumentError where there is no turn.
        """
        self._give_up()
        begins = turn_begins(self._messages)
        if not begins:
            raise ArgumentError("there is no turn to take back", remedy="Say something first.")
        self._messages = self._messages[: begins[-1]]

    @by_one_thread
    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the conversation to a file, in the place of one of this name: the turns as readable JSON, and the
        cache as far as the next turn can use it. `Model.load_chat` goes on from there; an unfinished answer is not in
        it.

        Raises:
            ArgumentError: the path is none, or a folder; the turns take more than 6 MiB of JSON, or 65,536 values.
            MissingFileError: there is no such folder to write in.
            ResourceError: the disk is full, or the system refuses to write there. Nothing is left then.
        """
        # What the template makes of a next turn: it may leave out some of the last answer, and the cache goes back.
        next_turn = np.array(self._encode([*self._messages, {"role": "user", "content": ""}]), np.int32)
        decoder = self._begun(self._decoder.fork(), next_turn)
        saved = SavedChat(
            messages=self.messages,
            sampling=self._defaults.words(),
            settings={
                "thinking": self._thinking if self._thought_tokens is None else self._thought_tokens,
                "tools": self._schemas or [],
                "context_full": self._context_full,
                "dropped_turns": self._dropped_turns,
            },
            model=self._identity(),
            gemmule=_core.__version__,
            cached_tokens=decoder.length,
        )
        chat_file.write(path, saved, next_turn[: decoder.length], decoder)

    def _go_on(self, saved: SavedChat, ids: NDArray[np.int32], decoder: _core.Decoder) -> None:
        """Makes a new chat the one that was saved. ids (N,): what `decoder` has seen."""
        self._messages = deepcopy(saved.messages)
        self._dropped_turns = saved.settings["dropped_turns"]
        self._read, self._decoder = ids, decoder

    @by_one_call
    def send_tool_results(self, results: Sequence[Any], **options: Unpack[GenerationOptions]) -> Result:
        """Answers the calls of the last answer, and waits for what the model makes of it.

        Args:
            results: one for each call, malformed ones too, in their order: a dict, or other plain data, such as a text.

        Raises:
            ArgumentError: no calls, another number of results than of calls, or something else than plain data.
        """
        return self._finished(self._responses(results), options)

    @by_one_call
    def stream_tool_results(self, results: Sequence[Any], **options: Unpack[GenerationOptions]) -> Iterator[Piece]:
        """`send_tool_results`, piece by piece as `stream`."""
        return self._streamed(self._responses(results), options)

    @by_one_call
    def run(
        self, text: str, *, max_rounds: int = 8, raise_errors: bool = False, **options: Unpack[GenerationOptions]
    ) -> ToolRun:
        """Says `text`, makes the calls of the answer, tells the model what they gave, and so on until there are none.

        What goes wrong with a call is told to the model, as {"error": text}, so that it can mend it or do without: a
        function that raises or returns something else than plain data, a name that no tool has, arguments that do not
        fit, a malformed call.

        Args:
            max_rounds: calls are made at most so often, at least 1. A last answer that still has some stays without
                results: `finish_reason` is "max_rounds" then, and `send_tool_results` may go on.
            raise_errors: what goes wrong with a call is raised instead.

        Options are those of `send`, for each answer.

        Raises:
            ArgumentError: a tool was given as a schema, so that there is nothing to call.
            ToolCallError: with `raise_errors`, a call that cannot be made. What functions raise comes as it is.
            The conversation is as it was before then; what functions did is done.
        """
        arguments.integer("max_rounds", max_rounds, least=1)
        arguments.flag("raise_errors", raise_errors)
        for tool in self._tools.values():
            if tool.function is None:
                raise ArgumentError(
                    f"tool {tool.name!r} is a schema, without a function that could be called",
                    remedy="Call it yourself, with send and send_tool_results, or pass a function in its place.",
                    found=tool.name,
                )
        before, dropped_before = self._messages, self._dropped_turns
        results: list[ToolResult] = []
        try:
            answers = [self._finished(self._question(text), options)]
            while answers[-1].tool_calls and len(answers) <= max_rounds:
                new = [self._execute(call, raise_errors) for call in answers[-1].tool_calls]
                results += new
                answers.append(self._finished(self._responses([each.value for each in new]), options))
        except BaseException:
            self._messages, self._dropped_turns = before, dropped_before
            raise
        return ToolRun(tuple(answers), tuple(results))

    def _execute(self, call: AnyToolCall, raise_errors: bool) -> ToolResult:
        result = execute(self._tools, call)
        if raise_errors and result.error is not None:
            raise result.error
        return result

    def _question(self, text: str) -> list[dict[str, Any]]:
        """The messages with which `text` is said."""
        question = {"role": "user", "content": arguments.string("text", text)}
        return [*not_executed(calls_of(self._messages)), question]

    def _responses(self, results: Sequence[Any]) -> list[dict[str, Any]]:
        """The messages with which calls are answered."""
        calls = calls_of(self._messages)
        if not calls:
            raise ArgumentError("no call waits for results", remedy="Say something, with send.", found="no calls")
        if isinstance(results, (str, bytes)) or not isinstance(results, Sequence) or len(results) != len(calls):
            raise ArgumentError(
                f"results are {arguments.shown(results)}; "
                f"expected a list of {len(calls)}, one for each call of the last answer",
                remedy="Pass them in the order of the answer's tool_calls.",
                expected=f"a list of {len(calls)}",
            )
        return result_messages(calls, results)

    def _begin(
        self, new: list[dict[str, Any]], options: GenerationOptions
    ) -> tuple[Generation, Generator[Piece, None, None]]:
        sampling = Sampling.complete(self._defaults, self._grammars, **options)
        if self._marks and sampling.end_tokens:  # at the beginning of a result the model has to be given it
            sampling = replace(sampling, end_tokens=sampling.end_tokens | {self._marks.response})
        self._give_up()
        if self._context_full == DROP:
            most = self._context - room_for_answer(self._context, sampling.max_tokens)
            kept, dropped, encoded = drop_oldest(self._messages, new, self._encode, most)
        else:
            kept, dropped, encoded = self._messages, 0, self._encode([*self._messages, *new])
        ids = np.array(encoded, np.int32)
        check_length(len(ids), self._context)
        run = Generation(
            self._begun(self._decoder, ids),
            ids,
            sampling,
            context=self._context,
            tokenizer=self._tokenizer,
            prefixes=self._prefixes,
            marks=self._marks,
            thought_tokens=self._thought_tokens,
            openings=self._openings,
            drafting=self._new_drafting(sampling),
        )
        run.dropped_turns = dropped
        answer = self._pieces([*kept, *new], run)
        self._decoder, self._run, self._answer = run.decoder, run, answer  # all, or none where Ctrl-C comes before
        return run, answer

    def _begun(self, own: _core.Decoder, ids: NDArray[np.int32]) -> _core.Decoder:
        """What has seen a beginning of `ids`: `own`, which has seen `_ids`, where it can go back that far."""
        decoder = rewound(own, self._ids, ids, lambda: self._prefixes.begin(ids))
        return decoder if decoder.length else self._prefixes.begin(ids)

    def _encode(self, messages: list[dict[str, Any]]) -> list[int]:
        return self._tokenizer.encode_messages(
            shown(messages), tools=self._schemas, enable_thinking=self._thinking, raw_answers=False
        )

    @property
    def _openings(self) -> tuple[int, ...]:
        """Ids that open what may stand before an answer that a structure holds."""
        if self._marks is None:
            return ()
        return ((self._marks.channel,) if self._thinking else ()) + ((self._marks.call,) if self._tools else ())

    @property
    def _schemas(self) -> list[dict[str, Any]] | None:
        return [tool.schema for tool in self._tools.values()] or None

    def _pieces(self, messages: list[dict[str, Any]], run: Generation) -> Generator[Piece, None, None]:
        for piece in pieces(run):
            if piece.finish_reason is not None:  # before the piece is given: nobody has to ask for another one
                if run.context_full and self._context_full == ERROR:
                    raise _full(self._context)
                self._messages = [*messages, answer_message(run.result(), f"call_{len(messages)}")]
                self._dropped_turns += run.dropped_turns
            yield piece

    def _finished(self, new: list[dict[str, Any]], options: GenerationOptions) -> Result:
        run, answer = self._begin(new, options)
        for _ in answer:
            pass
        return run.result()

    def _streamed(self, new: list[dict[str, Any]], options: GenerationOptions) -> Iterator[Piece]:
        return Given(self._use, self._begin(new, {"logprobs": True, **options})[1])

    @property
    def _ids(self) -> NDArray[np.int32]:
        """(N,) of the last turn; the decoder has seen the first `length` of them."""
        return self._read if self._run is None else self._run.ids

    def _give_up(self) -> None:
        """Ends an answer that was left unfinished."""
        if self._answer is not None:
            self._answer.close()

    def _check_template(self) -> None:
        """Raises UnsupportedError where thinking or tools are asked for, and the template writes nothing of them."""
        asked = [{"role": "user", "content": "?"}]

        def changes_nothing(**option: Any) -> bool:
            render = self._tokenizer.apply_chat_template
            return self._marks is None or render(asked, **option) == render(asked)

        if self._thinking and changes_nothing(enable_thinking=True):
            raise self._unsupported("has no switch for thinking", "thinking=False")
        if self._tools and changes_nothing(tools=self._schemas):
            raise self._unsupported("has no place for tools", "no tools")

    def _unsupported(self, reason: str, remedy: str) -> UnsupportedError:
        file = self._tokenizer.need_template().file
        return UnsupportedError(
            f"{file}: the chat template {reason}", remedy=f"{put_another(file)}, or use {remedy}.", file=str(file)
        )


def _full(context: int) -> ContextError:
    return ContextError(
        f"the answer does not fit: the context holds {context} tokens, and all are in use",
        remedy='Use context_full="stop" or "drop-oldest-turns", or load the model with a larger context.',
        expected=f"at most {context} tokens",
    )
