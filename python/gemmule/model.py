"""A loaded checkpoint, and what can be asked of it. `loading` makes one."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, NoReturn, overload

import numpy as np
from numpy.typing import NDArray

from . import _core, arguments, forks, paths
from .arguments import TokenIds
from .chats import chat_file
from .chats.chat import Chat
from .chats.chat_file import ModelIdentity
from .chats.tools import AnyTool
from .checkpoints.checkpoint import GenerationConfig
from .errors import ArgumentError, GemmuleError, UnsupportedError
from .generation import tasks
from .generation.batch import MOST_TOGETHER, Begin, finished_together
from .generation.drafting import Drafting, ModelDrafts, prompt_lookup
from .generation.embedding import POOLINGS, embedded
from .generation.generate import Generation, Piece, Result, check_length, finished, pieces
from .generation.grammar import Grammars
from .generation.prefixes import Prefixes
from .generation.sampling import GenerationOptions, LogitsProcessor, Sampling
from .generation.scheduler import Scheduler
from .generation.scoring import Score, scored
from .generation.structure import Schema
from .text.messages import Message, check, refuse_media
from .text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from typing_extensions import TypeIs, Unpack

Prompt = str | TokenIds | Sequence[Message]
Prompts = list[str] | tuple[str, ...] | Sequence[TokenIds] | Sequence[Sequence[Message]]


class Model:
    """A checkpoint ready to run: immutable, so that threads may share it. Made by `gemmule.load`."""

    def __init__(
        self,
        core: _core.Model,
        folder: Path,
        *,
        trust_template: bool = False,
        prefix_cache: int = 0,
        max_concurrent: int = MOST_TOGETHER,
        draft_model: _core.DraftModel | None = None,
    ) -> None:
        self._core = core
        self._folder = folder
        self._trust_template = trust_template
        self._defaults = GenerationConfig.of(folder, core)
        self._tokenizer: Tokenizer | None = None
        self._fingerprint: str | None = None  # once it was needed
        self._prefixes = Prefixes(self._new_decoder, prefix_cache)
        self._grammars = Grammars(core.vocab_size, self._need_tokenizer)
        self._draft_model = draft_model
        self._scheduler = Scheduler(self._new_batch, max_concurrent)
        self._after_fork()
        forks.remember(self)

    def _after_fork(self) -> None:
        self._opening = RLock()  # of the tokenizer

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The checkpoint's tokenizer; None where the folder has no tokenizer.json, or the GGUF file no tokens."""
        with self._opening:
            if self._tokenizer is None:
                opened = self._open_tokenizer()
                self._tokenizer = self._tokenizer or opened  # a signal's handler may have asked meanwhile, too
            return self._tokenizer

    def _open_tokenizer(self) -> Tokenizer | None:
        trust = self._trust_template
        if self._folder.is_dir():
            has_one = paths.is_file(self._folder / "tokenizer.json")
            return Tokenizer.from_folder(self._folder, trust_template=trust, rows=self.vocab_size) if has_one else None
        core = self._core.gguf_tokenizer()
        return core and Tokenizer.from_gguf(core, self._core.metadata, self._folder, trust_template=trust)

    @property
    def vocab_size(self) -> int:
        """V, the number of token ids."""
        return self._core.vocab_size

    @property
    def context(self) -> int:
        """Tokens a sequence may have."""
        return self._core.context

    @property
    def threads(self) -> int:
        """Threads that compute."""
        return self._core.threads

    @property
    def info(self) -> dict[str, Any]:
        """What was loaded: model_type, parameters, weight_bytes, mapped_bytes, encodings, config, the names of
        unknown_tensors, leftover_tensors and skipped_tensors, and what "auto" became: activations, kv. drafter: the
        same of the drafter, or None."""
        drafter = None if self._draft_model is None else self._draft_model.info
        return {**self._core.info, "activations": self._core.activations, "kv": self._core.kv, "drafter": drafter}

    def logits(self, ids: TokenIds) -> NDArray[np.float32]:
        """Logits (T, V) float32 after the softcap, row t for the token behind ids[t].

        Args:
            ids: (T,) token ids in [0, V), T at least 1 and at most `context`. They are used as they are: BOS, which
                Gemma needs at the beginning, is the caller's.
        """
        prompt = arguments.token_ids(ids, self.vocab_size)
        check_length(len(prompt), self.context)
        return self._new_decoder().logits(prompt)

    @overload
    def generate(self, prompt: Prompt, **options: Unpack[GenerationOptions]) -> Result: ...
    @overload
    def generate(self, prompt: Prompts, **options: Unpack[GenerationOptions]) -> list[Result]: ...
    def generate(
        self,
        prompt: Prompt | Prompts,
        *,
        max_tokens: int | None = 512,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        ignore_eos: bool = False,
        logprobs: bool = False,
        top_logprobs: int = 0,
        logit_bias: Mapping[int, float] | None = None,
        logits_processors: Sequence[LogitsProcessor] | None = None,
        schema: Schema | None = None,
        regex: str | None = None,
        grammar: str | None = None,
        draft: str | None = "auto",
    ) -> Result | list[Result]:
        """Continues a prompt, or several together, which takes far less time than one after the other.

        Args:
            prompt: raw text (BOS is put in front; no chat template is applied), or token ids as they are, or a list
                of messages (the chat template is applied once). A list that begins with a text, or with a list or array
                of its own, is a list of prompts: its results come in a list of the same order.
            max_tokens: at most so many new tokens, at least 1; None: until an end token or a full context.
            temperature: 0 is plain argmax: lowest id on ties, other settings ignored.
            top_k: only the k likeliest tokens; 0 is off.
            top_p: only the likeliest tokens that reach this probability together, in (0, 1]; 1 is off.
            min_p: only tokens at least this likely, relative to the likeliest, in [0, 1]; 0 is off.
            repetition_penalty: over 0; 1 is off.
            seed: in [0, 2**64); the same seed gives the same text, whatever the number of threads. None: a fresh one,
                for each prompt.
            stop: a string or several; the text ends before the first that appears.
            ignore_eos: go on behind end tokens.
            logprobs: also give ln p of each token (nats), under the model's own distribution.
            top_logprobs: also give, for each token, the so many likeliest ones in its place and their ln p, in 0..1000.
            logit_bias: token id -> what is added to its logit; -inf forbids the token.
            logits_processors: callables that are called in turn for every token, with the ids so far (N,) and logits
                (V,) float32. They change the logits in place, or return others; -inf forbids a token. What one raises
                comes out of this call as it is (StopIteration may be a RuntimeError). They may generate, too.
            schema: a JSON schema, as a dict, or a dataclass: the answer is JSON that fits it, and is the result's
                `parsed` too, as an instance of the dataclass. Between its parts there is at most a new line with its
                indentation. Of a dataclass, fields with a default may be left out.
            regex: a regular expression (in Rust's syntax) that fits the whole answer.
            grammar: a Lark grammar, in llguidance's dialect, for the whole answer.
            draft: who guesses the next tokens, so that the model checks several at a time: "auto", the drafter that the
                model was loaded with, if any; "prompt-lookup", the text itself, which pays where it repeats its prompt;
                None: nobody. The result is the same, only its speed is not, and drafting stops where it does not pay.
                Of several prompts, the last one under way is drafted.

        For an answer of a certain structure (schema, regex or grammar: one of them; pip install 'gemmule[structured]')
        only tokens that its grammar allows are chosen, control tokens never, and end tokens where it may end. Where
        finish_reason is "stop", the answer is whole and fits; with "length" it is the beginning of one that would. The
        first such answer of a model takes a second longer, with Gemma's vocabulary.

        From the model's logits to the token: logits_processors, logit_bias and what the checkpoint suppresses, grammar,
        repetition_penalty, temperature, top_k, top_p, min_p. With temperature 0 the likeliest that the grammar leaves
        is taken. logprobs and top_logprobs are of the logits before all of that.

        Settings of sampling that are None are the checkpoint's own; where it has none, nothing is cut off and the
        temperature is 1. "do_sample": false there is temperature 0.

        Of several prompts each gets exactly what it would get alone with these settings: equal prompts with one seed
        give equal texts. All are checked before the first is read. 64 are under way at a time, each with a key/value
        cache of its own that grows with its text (`estimate` says by how much); where memory is short, give fewer.

        Raises:
            ContextError: the prompt is longer than the context.
            ArgumentError: an empty prompt, an id outside of [0, V), a setting out of its range; a schema that
                contradicts itself, or that llguidance cannot express; a processor that returns no logits; no token
                that processors, logit_bias and grammar all allow.
            UnsupportedError: text for a checkpoint without tokenizer, messages for one without chat template; a
                structure without the package llguidance.
            Of several prompts the error names which, counted from 0.
        """
        options: GenerationOptions = {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": min_p,
            "repetition_penalty": repetition_penalty,
            "seed": seed,
            "stop": stop,
            "ignore_eos": ignore_eos,
            "logprobs": logprobs,
            "top_logprobs": top_logprobs,
            "logit_bias": logit_bias,
            "logits_processors": logits_processors,
            "schema": schema,
            "regex": regex,
            "grammar": grammar,
            "draft": draft,
        }
        begins = self._begins(prompt, options)
        return finished_together(begins, self._new_batch()) if _are_several(prompt) else finished(begins[0]())

    def stream(
        self,
        prompt: Prompt,
        *,
        max_tokens: int | None = 512,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        ignore_eos: bool = False,
        logprobs: bool = True,
        top_logprobs: int = 0,
        logit_bias: Mapping[int, float] | None = None,
        logits_processors: Sequence[LogitsProcessor] | None = None,
        schema: Schema | None = None,
        regex: str | None = None,
        grammar: str | None = None,
        draft: str | None = "auto",
    ) -> Iterator[Piece]:
        """Continues a prompt, piece by piece: exactly one a token. Leaving the loop stops the work.

        Arguments and errors are those of `generate`; wrong arguments are refused at once, not in the loop.
        """
        _refuse_several(prompt)
        options: GenerationOptions = {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": min_p,
            "repetition_penalty": repetition_penalty,
            "seed": seed,
            "stop": stop,
            "ignore_eos": ignore_eos,
            "logprobs": logprobs,
            "top_logprobs": top_logprobs,
            "logit_bias": logit_bias,
            "logits_processors": logits_processors,
            "schema": schema,
            "regex": regex,
            "grammar": grammar,
            "draft": draft,
        }
        return pieces(self._begins(prompt, options)[0]())

    @overload
    async def agenerate(self, prompt: Prompt, **options: Unpack[GenerationOptions]) -> Result: ...
    @overload
    async def agenerate(self, prompt: Prompts, **options: Unpack[GenerationOptions]) -> list[Result]: ...
    async def agenerate(self, prompt: Prompt | Prompts, **options: Unpack[GenerationOptions]) -> Result | list[Result]:
        """`generate` for tasks of asyncio: the same arguments, results and errors.

        The model works in a thread of its own, on what all tasks ask for together (in any number of event loops): each
        reading of the weights gives every sequence its next token, and each result is what it would be alone. New ones
        join between two steps; while prompts are read, the others wait for about 64 tokens of them at a time. A task
        that is cancelled leaves with the step under way. As many as `load(max_concurrent=)` are under way, the others
        wait in their order. What `logits_processors` raise ends their own sequence alone; they are called in that
        thread, and while they run, all wait: they may use `generate`, but not wait for another of these. Drafts are
        made while a sequence is the only one.

        Raises, besides what `generate` does:
            ArgumentError: no event loop of asyncio is running.
            ResourceError: the system gives no thread.
        """
        several = _are_several(prompt)
        found = await tasks.results(self._scheduler, partial(self._begins, prompt, options))
        return found if several else found[0]

    def astream(self, prompt: Prompt, **options: Unpack[GenerationOptions]) -> AsyncGenerator[Piece, None]:
        """`stream` for tasks of asyncio: for `async for`. Leaving the loop, or cancelling its task, stops the work.

        Wrong arguments are refused with the first piece. The model does not wait for who reads the pieces. The rest is
        as `agenerate` has it.
        """
        _refuse_several(prompt)
        return tasks.streamed(self._scheduler, lambda: self._begins(prompt, {"logprobs": True, **options})[0])

    def score(self, text: str | TokenIds) -> Score:
        """How likely the model holds each token of a text: ids, pieces of text, ln p in nats, and their sum.

        Args:
            text: text (BOS is put in front; what looks like a special token in it is ordinary text, as for
                `perplexity`), or (T,) token ids as they are, T at least 2 and at most `context`. The first token is
                not scored: nothing is before it.

        Raises:
            ContextError: the text is longer than the context.
            ArgumentError: an empty text, an id outside of [0, V).
            UnsupportedError: text for a checkpoint without tokenizer.
        """
        ids = self._plain_ids(text)
        return scored(self._new_decoder(), ids, self.tokenizer)

    def embed(self, texts: Sequence[str | TokenIds], *, pooling: str = "mean") -> NDArray[np.float32]:
        """A vector for each text: (n, D) float32, of the hidden states that the model makes its predictions from
        (behind the final norm, before the head). They are not scaled to a length.

        Args:
            texts: a list of texts, or of (T,) token ids, encoded as for `score`.
            pooling: "mean" of all tokens, BOS included, or the "last" one's.

        Errors are those of `score`; they name which text, counted from 0.
        """
        arguments.choice("pooling", pooling, POOLINGS)
        if isinstance(texts, (str, bytes)) or not isinstance(texts, Sequence):
            raise ArgumentError(
                f"texts is {arguments.shown(texts)}; expected a list of texts",
                remedy="Put one text into a list.",
                expected="a list",
            )
        encoded = []
        for place, text in enumerate(texts):
            try:
                encoded.append(self._plain_ids(text))
            except GemmuleError as error:
                raise error.within(f"text {place}") from None
        return embedded(self._new_decoder(), encoded, pooling, self._core.hidden_size)

    def chat(
        self,
        system: str | None = None,
        *,
        thinking: bool | int = False,
        tools: Iterable[AnyTool] | None = None,
        context_full: str = "stop",
    ) -> Chat:
        """A new conversation, by the checkpoint's chat template.

        Args:
            system: instructions that stand before the first turn.
            thinking: whether the model is to think before it answers; a number: with at most so many tokens in the
                thoughts of an answer, at least 1. For all turns, because the switch stands at the beginning.
            tools: what the model may call: functions with type hints, which `Chat.run` can call, or schemas,
                {"type": "function", "function": {"name", "description", "parameters"}}.
            context_full: "stop" ends an answer where the context is full: `Result.context_full` says so. "error" raises
                ContextError instead, and the conversation stays as it was. "drop-oldest-turns" forgets as many turns
                before a new one as it takes to leave room for max_tokens, or for a quarter of the context if that is
                less: `Result.dropped_turns` and `Chat.dropped_turns` count them; the system's instructions stay. What
                is said, and does not fit even so, raises ContextError always.

        Raises:
            UnsupportedError: the checkpoint has no chat template, or one without a switch for thinking or a place for
                tools.
            ArgumentError: a tool that cannot be told to a model: a parameter without a hint, or of a type that a
                schema cannot say, a name that two have or that is no identifier.
        """
        return self._new_chat(self._defaults, system=system, thinking=thinking, tools=tools, context_full=context_full)

    def load_chat(self, path: str | os.PathLike[str], *, tools: Iterable[AnyTool] | None = None) -> Chat:
        """A conversation that `Chat.save` wrote: it goes on as the one that was saved would, bit for bit, and reads no
        prompt twice.

        Args:
            tools: the functions again, which no file holds, for `Chat.run` to call; None: the schemas as saved.

        Raises, where `gemmule.read_chat` may still give the turns:
            MissingFileError: no such file.
            FormatError: the file is damaged, wherever it is cut or changed.
            ArgumentError: it is of another model, or of this one loaded with another kv= or activations=.
            ContextError: this model was loaded with a context that is too short for it.
        """
        saved, ids, decoder = chat_file.read(path, self._core, self._identity())
        chat = self._new_chat(
            chat_file.defaults_of(saved, path, self.vocab_size),
            thinking=saved.settings["thinking"],
            tools=saved.settings["tools"] if tools is None else tools,
            context_full=saved.settings["context_full"],
        )
        chat._go_on(saved, ids, decoder)
        return chat

    def _new_chat(self, defaults: GenerationConfig, **options: Any) -> Chat:
        return Chat(
            self._need_tokenizer(),
            defaults,
            self._grammars,
            self._prefixes,
            context=self.context,
            identity=self._identity,
            new_drafting=self._new_drafting,
            **options,
        )

    def _identity(self) -> ModelIdentity:
        """What says that a chat's cache is of this model."""
        if self._fingerprint is None:
            self._fingerprint = chat_file.fingerprint(self._core)
        name = self._folder.name.encode("utf-8", "backslashreplace").decode()  # a saved chat is UTF-8
        return ModelIdentity(self._fingerprint, self._core.kv, self._core.activations, name)

    def _new_decoder(self) -> _core.Decoder:
        """A new, empty sequence of the engine."""
        return _core.Decoder(self._core)

    def _new_batch(self) -> _core.Batch:
        """What steps several sequences together."""
        return _core.Batch(self._core)

    def _new_drafting(self, sampling: Sampling) -> Drafting | None:
        """Of a sequence that these settings are for."""
        if sampling.draft == "prompt-lookup":
            return Drafting(prompt_lookup)
        if sampling.draft is None or self._draft_model is None:
            return None
        return Drafting(ModelDrafts(self._draft_model))

    def _need_tokenizer(self) -> Tokenizer:
        """The tokenizer. Raises UnsupportedError where there is none."""
        tokenizer = self.tokenizer
        if tokenizer is None:
            raise UnsupportedError(
                f"{self._folder}: this checkpoint has no tokenizer, so it takes token ids only",
                remedy="Pass token ids, or copy the model's tokenizer.json into its folder.",
                file=str(self._folder),
            )
        return tokenizer

    def _sampling(self, options: GenerationOptions) -> Sampling:
        """The options, checked, and completed by the checkpoint's defaults."""
        sampling = Sampling.complete(self._defaults, self._grammars, **options)
        if sampling.stop:
            self._need_tokenizer()
        return sampling

    def _begins(self, prompt: Prompt | Prompts, options: GenerationOptions) -> list[Begin]:
        """What begins the sequence of each prompt. All are checked."""
        sampling = self._sampling(options)
        if not _are_several(prompt):
            return [partial(self._begin, self._fitting(prompt), sampling)]
        begins: list[Begin] = []
        for place, each in enumerate(prompt):
            try:
                ids = self._fitting(each)
            except GemmuleError as error:
                raise error.within(f"prompt {place}") from None
            own = sampling.with_fresh_seed() if options.get("seed") is None else sampling
            begins.append(partial(self._begin, ids, own))
        return begins

    def _begin(self, ids: NDArray[np.int32], sampling: Sampling) -> Generation:
        """A sequence of its own, which begins with what is kept of `ids`."""
        return Generation(
            self._prefixes.begin(ids),
            ids,
            sampling,
            context=self.context,
            tokenizer=self.tokenizer,
            prefixes=self._prefixes,
            drafting=self._new_drafting(sampling),
        )

    def _plain_ids(self, text: str | TokenIds) -> NDArray[np.int32]:
        """(T,) of what is read, not continued: text with BOS in front, and no control token from it."""
        if isinstance(text, str) and text:
            text = self._need_tokenizer().encode(text, parse_special=False)
        return self._fitting(text)

    def _fitting(self, prompt: Prompt) -> NDArray[np.int32]:
        """(T,) of a prompt. Raises ContextError where the context does not hold them."""
        ids = self._encode(prompt)
        check_length(len(ids), self.context)
        return ids

    def _encode(self, prompt: Prompt) -> NDArray[np.int32]:
        if isinstance(prompt, str):
            if not prompt:
                raise ArgumentError("the prompt is empty", remedy="Write at least one character.")
            ids: TokenIds = self._need_tokenizer().encode(prompt)
        elif isinstance(prompt, Sequence) and prompt and isinstance(prompt[0], Mapping):
            messages = check(prompt)
            refuse_media(messages)
            ids = self._need_tokenizer().encode_messages(messages)
        elif isinstance(prompt, Iterable) and not isinstance(prompt, (bytes, bytearray)):
            ids = prompt  # type: ignore[assignment]
        else:
            raise ArgumentError(f"the prompt is {arguments.shown(prompt)}; expected text, messages, or token ids")
        return arguments.token_ids(ids, self.vocab_size)

    def __copy__(self) -> Model:
        return self  # as of all that is immutable

    def __reduce__(self) -> NoReturn:
        raise UnsupportedError(
            "a model cannot be pickled, nor copied by deepcopy: its weights are maps of files",
            remedy=f"Load it again where it is needed, in another process too: gemmule.load({str(self._folder)!r}).",
        )

    def __repr__(self) -> str:
        return (
            f"Model({str(self._folder)!r}, vocab_size={self.vocab_size}, context={self.context}, "
            f"threads={self.threads}, activations={self._core.activations!r}, kv={self._core.kv!r})"
        )


def _are_several(prompt: Prompt | Prompts) -> TypeIs[Prompts]:
    """Whether this is a list of prompts, not ids or messages of one: its first element says so."""
    if isinstance(prompt, (str, bytes)) or not isinstance(prompt, Sequence) or not prompt:
        return False
    first: object = prompt[0]
    return isinstance(first, (str, Sequence)) or (isinstance(first, np.ndarray) and first.ndim > 0)


def _refuse_several(prompt: Prompt | Prompts) -> None:
    if _are_several(prompt):
        raise ArgumentError(
            "a stream continues one prompt, and this is a list of them",
            remedy="Stream them one by one, or give the list to generate.",
        )
