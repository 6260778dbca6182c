"""gemmule as a model of EleutherAI's lm-evaluation-harness: the package lm-eval, extra `eval`.

Importing this module registers the model "gemmule", for `lm_eval.simple_evaluate(model="gemmule", ...)`. Run as a
program it is the harness's own command line, which knows that model then:

    python -m gemmule.harness --model gemmule --model_args path=FOLDER,threads=4 --tasks hellaswag
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from .errors import ArgumentError, ContextError, UnsupportedError
from .generation.generate import Generation, finished
from .generation.rewinding import rewound
from .generation.sampling import GenerationOptions
from .loading import load
from .progress import Progress

try:
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
    from lm_eval.models.utils import normalize_gen_kwargs
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ImportError as error:
    raise ImportError("gemmule.harness needs lm-eval 0.4.11 or newer: pip install 'gemmule[eval]'") from error

Scored = tuple[tuple[str, str] | None, list[int], list[int]]  # a request's texts; ids of context and continuation

_log = logging.getLogger(__name__)

# What a task's generation_kwargs may hold, as the harness completes them.
_SETTINGS = {"until", "max_gen_toks", "do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty"}


@register_model("gemmule")
class HarnessModel(TemplateLM):  # type: ignore[misc]  # lm_eval has no types
    """A checkpoint, as the harness asks it. Requests are answered in the order of their ids, because what a sequence
    begins with in common with the one before it is not computed again.

    Every sequence begins with BOS, without which Gemma's predictions are void. Where one is too long for the context,
    its first tokens are left out, and the first that remains becomes BOS.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        device: str | None = None,
        **options: Any,
    ) -> None:
        """
        Args:
            path, options: as for `gemmule.load`.
            batch_size, max_batch_size, device: the harness passes them; they change nothing.

        Raises:
            UnsupportedError: a checkpoint without tokenizer or BOS; and what `gemmule.load` raises.
        """
        super().__init__()
        self._model = load(path, **options)
        self.tokenizer = self._model._need_tokenizer()
        if self.tokenizer.bos_token_id is None:
            raise UnsupportedError(f"{path}: the tokenizer has no BOS, which begins every sequence", file=str(path))
        self._bos = self.tokenizer.bos_token_id
        self._path = str(path)
        self._decoder = self._model._new_decoder()
        self._seen = np.zeros(0, np.int32)  # the decoder has seen the first `length` of them

    @property
    def eot_token_id(self) -> int | None:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has no context."""
        return self._bos

    @property
    def max_length(self) -> int:
        """Tokens that the model may see."""
        return self._model.context

    @property
    def max_gen_toks(self) -> int:
        """New tokens, where a task does not say how many."""
        return 256

    @property
    def tokenizer_name(self) -> str:
        """A part of the names of the harness's cache files."""
        return self._path.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None) -> list[int]:
        """Token ids; special tokens that the text spells become theirs.

        Args:
            add_special_tokens: put BOS in front; None: unless the text begins with it, as a chat template's does.
        """
        if add_special_tokens is None:
            add_special_tokens = not string.startswith(str(self.tokenizer.bos_token))
        return self.tokenizer.encode(string, add_special_tokens)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation as the checkpoint's template writes it. Without a generation prompt the last message stays
        open, for the model to go on with."""
        text = self.tokenizer.apply_chat_template(chat_history, add_generation_prompt)
        if add_generation_prompt:
            return text
        last = chat_history[-1]["content"].strip()  # as templates do
        end = text.rfind(last)
        if end < 0:
            raise ArgumentError(f"the chat template does not write the last message, {last!r:.80}, as it stands")
        return text[: end + len(last)]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """ln p of each request's whole text, nats: in windows of `max_length`, every token once."""
        windows = [self._windows(request.args[0]) for request in requests]
        scores = iter(self._loglikelihood_tokens([each for text in windows for each in text], disable_tqdm))
        sums = [sum(next(scores)[0] for _ in text) for text in windows]
        for request, total in zip(requests, sums, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return sums

    def _windows(self, text: str) -> list[Scored]:
        ids = self.tok_encode(text, add_special_tokens=False)
        windows = get_rolling_token_windows(ids, prefix_token=self._bos, max_seq_len=self.max_length, context_len=1)
        return [(None, [self._bos, *context[1:]], scored) for context, scored in map(make_disjoint_window, windows)]

    def _loglikelihood_tokens(self, requests: Sequence[Scored], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """For each request ln p of the continuation, nats, and whether greedy decoding would give it."""
        answers = [(0.0, True)] * len(requests)
        with Progress(len(requests), "request", wanted=not disable_tqdm) as bar:
            for i in sorted(range(len(requests)), key=lambda i: requests[i][1] + requests[i][2]):
                texts, context, continuation = requests[i]
                answers[i] = self._score(context, continuation)
                if texts is not None:  # a window of a longer text has none
                    self.cache_hook.add_partial("loglikelihood", texts, answers[i])
                bar.advance(1, "")
        return answers

    def _score(self, context: list[int], continuation: list[int]) -> tuple[float, bool]:
        if not continuation:
            raise ArgumentError(
                "a continuation has no token of its own behind its context",
                remedy="It is empty, or the context's end and its beginning are one token: part them elsewhere.",
            )
        if len(continuation) > self.max_length:
            raise ContextError(
                f"a continuation has {len(continuation)} tokens; the context holds {self.max_length}",
                remedy="Load the model with a larger context, up to the checkpoint's own.",
            )
        ids = self._fitted(context + continuation[:-1], self.max_length)
        first = len(ids) - len(continuation)  # the token behind which the continuation stands
        decoder = self._reading(ids[: first + 1])
        self._seen = ids
        if decoder.length < first:
            decoder.read(ids[decoder.length : first])
        log_probability, greedy = 0.0, True
        for begin in range(0, len(continuation), _core.CHUNK_TOKENS):
            tokens = continuation[begin : begin + _core.CHUNK_TOKENS]
            rows = decoder.logits(ids[first + begin : first + begin + len(tokens)])  # (T, V)
            log_probability += sum(_core.log_probability(row, token) for row, token in zip(rows, tokens, strict=True))
            greedy = greedy and rows.argmax(axis=1).tolist() == tokens
        return log_probability, greedy

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The text that follows each request's context, up to a stop string, an end token or `max_gen_toks`."""
        texts = [""] * len(requests)
        contexts = [self.tok_encode(request.args[0]) for request in requests]
        with Progress(len(requests), "request", wanted=not disable_tqdm) as bar:
            for i in sorted(range(len(requests)), key=contexts.__getitem__):
                texts[i] = self._continue(contexts[i], requests[i].args[1])
                self.cache_hook.add_partial("generate_until", requests[i].args, texts[i])
                bar.advance(1, "")
        return texts

    def _continue(self, context: list[int], settings: dict[str, Any]) -> str:
        sampling = self._model._sampling(generation_options(settings, self.max_gen_toks))
        room = self.max_length - (sampling.max_tokens or 0)
        if room < 1:
            raise ContextError(
                f"max_gen_toks is {sampling.max_tokens}; the context holds {self.max_length} tokens",
                remedy="Load the model with a larger context, or lower max_gen_toks with --gen_kwargs.",
            )
        ids = self._fitted(context, room)
        run = Generation(self._reading(ids), ids, sampling, context=self.max_length, tokenizer=self.tokenizer)
        self._seen = ids
        return finished(run).text

    def _fitted(self, ids: list[int], room: int) -> NDArray[np.int32]:
        """ids, or the last `room` of them with BOS for the first."""
        if len(ids) > room:
            _log.warning("a sequence of %d tokens loses its first %d, to fit", len(ids), len(ids) - room)
            ids = [self._bos, *ids[len(ids) - room + 1 :]]
        return np.array(ids, np.int32)

    def _reading(self, ids: NDArray[np.int32]) -> _core.Decoder:
        """The decoder, which has then seen a beginning of `ids`, not all of them."""
        self._decoder = rewound(self._decoder, self._seen, ids, self._model._new_decoder)
        return self._decoder


def generation_options(settings: dict[str, Any], max_gen_toks: int) -> GenerationOptions:
    """Options of `Model.generate` for a task's generation_kwargs: greedy, unless they ask for samples; what they leave
    out is the checkpoint's own. Raises ArgumentError for a setting that gemmule does not have.

    Args:
        max_gen_toks: where they do not say.
    """
    given = dict(normalize_gen_kwargs(settings, max_gen_toks))
    if given.get("num_beams") == 1:  # some tasks spell out that they want no beams
        del given["num_beams"]
    if unknown := sorted(given.keys() - _SETTINGS):
        raise ArgumentError(
            f"generation_kwargs has {', '.join(unknown)}; expected any of {', '.join(sorted(_SETTINGS))}",
            remedy="Set them otherwise with --gen_kwargs, or in the task.",
            found=", ".join(unknown),
        )
    return {
        "max_tokens": given["max_gen_toks"],
        "temperature": given.get("temperature") if given["do_sample"] else 0.0,
        "top_k": given.get("top_k"),
        "top_p": given.get("top_p"),
        "min_p": given.get("min_p"),
        "repetition_penalty": given.get("repetition_penalty"),
        "stop": [stop for stop in given["until"] if stop],
        "seed": random.getrandbits(64),  # the harness seeds this generator
    }


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
