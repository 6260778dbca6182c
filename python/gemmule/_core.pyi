"""The compiled half of gemmule. Private: the public names are in `gemmule`."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from . import _core_bench, _core_testing

bench = _core_bench
testing = _core_testing
__version__: str
CHUNK_TOKENS: int  # tokens that go through the layers at once
KV_BLOCK_TOKENS: int  # tokens that the key/value cache grows by

# Exceptions raised from here are those of `gemmule.errors`.

@final
class EndWaits:
    """While it is entered, by this thread, the end of Python waits for the thread, but two seconds at the most; whoever
    enters once Python ends stays here. For other libraries' native code that gives Python's lock back: up to 3.13
    Python ends a thread that takes it again, in the midst of that code. May be entered again, and by many threads."""

    def __init__(self) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *args: object) -> None: ...

def cpu() -> dict[str, Any]:
    """target (name of the instruction set in use), targets (all this program and CPU can use, best first),
    threads (default number), features (list of str)."""

def tensors(folder: str) -> list[tuple[str, str, tuple[int, ...], int, int, str]]:
    """What lies in a checkpoint's files, sorted by name: name, dtype as the file spells it, shape, offset in bytes from
    the file's start, size in bytes, path of the file. Headers are checked; no weight is read."""

def file_tensors(path: str) -> list[tuple[str, str, tuple[int, ...], int, int, str]]:
    """The same of one safetensors file."""

def read_json(path: str) -> Any:
    """The value in a file of strict JSON: no key twice, no NaN, at most 64 levels, 2**18 values and 16 MiB. An integer
    that 64 bits do not hold is a float. Raises FormatError, ResourceError."""

def check_checkpoint(path: str) -> None:
    """Raises what loading would, and keeps nothing."""

def refuse_stand_in(path: str) -> None:
    """Raises FormatError where the file is a Git LFS pointer or an HTML page, or empty."""

@final
class GgufHeaders:
    """What the headers of a GGUF model say, those of all its parts. Errors are those of `Model.load`."""

    def __init__(self, path: str) -> None: ...
    @property
    def files(self) -> list[str]:
        """Their paths, the first part first."""
    @property
    def architecture(self) -> str:
        """general.architecture."""
    @property
    def config(self) -> dict[str, Any]:
        """As in `Model.info`."""
    @property
    def tensors(self) -> list[tuple[str, str, tuple[int, ...], int, int, str]]:
        """As `tensors` gives those of a folder."""
    @property
    def hf_names(self) -> dict[str, str]:
        """Of each tensor, the name it has in the Hugging Face format behind the prefix; "" where it has none."""
    @property
    def vocabulary(self) -> tuple[int, int, int]:
        """Number of tokens, bytes of their texts, number of merges; 0 without a tokenizer."""

NOT_FINITE: int  # marks of a block: see cpp/quant/block_look.h
ZERO: int
LOWEST: int
HIGHEST: int

def mark_blocks(blocks: NDArray[np.uint8], encoding: str) -> NDArray[np.uint8]:
    """Whole blocks as they are stored, any shape -> (number of blocks,) marks, or-ed. encoding "q4_0" "q4_1" "q5_0"
    "q5_1" "q8_0" "q4_k" "q5_k" "q6_k"."""

def count_codes(blocks: NDArray[np.uint8], encoding: str) -> NDArray[np.int64]:
    """The same -> (number of codes,): how often each stands there, from the lowest to the highest."""

@final
class Model:
    """Weights and config of one checkpoint: immutable, shared by threads."""

    @staticmethod
    def load(path: str, threads: int, context: int, activations: str, kv: str) -> Model:
        """path: a Hugging Face folder or a GGUF file; threads 0: default number; context 0: the checkpoint's maximum;
        activations "auto" | "float32" | "int8"; kv "auto" | "float32" | "bf16" | "static"."""
    @property
    def vocab_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def context(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def activations(self) -> str:
        """ "static", "int8" or "float32": what "auto" became."""
    @property
    def kv(self) -> str:
        """ "float32", "bf16" or "static": what "auto" became."""
    @property
    def metadata(self) -> dict[str, Any]:
        """Of a GGUF file: its keys and values, but for arrays of more than 1024 elements. Else empty."""
    def gguf_tokenizer(self) -> Tokenizer | None:
        """The tokenizer in a GGUF file's metadata; None where there is none."""
    def fingerprint(self) -> bytes:
        """What tells the checkpoint from others, to be hashed: name, type, shape and some bytes of every tensor."""
    @property
    def end_tokens(self) -> list[int]:
        """Of a GGUF file: ids that end a text. Else empty."""
    @property
    def info(self) -> dict[str, Any]:
        """model_type, parameters, weight_bytes, mapped_bytes, unknown_tensors, leftover_tensors, skipped_tensors
        (lists of names), config (dict of the fields in use), encodings (dict: encoding -> number of matrices)."""

def gguf_name(name: str) -> str:
    """The name in a GGUF file of a tensor that `Source.tensors` names."""

@final
class Source:
    """A checkpoint of Gemma 4 opened to be converted."""

    def __init__(self, path: str, threads: int) -> None:
        """path as for `Model.load`; threads 0: default number."""
    @property
    def model(self) -> Model: ...
    def tensors(self) -> list[tuple[str, tuple[int, ...], str, float, float]]:
        """Each tensor of the text model, those of shared keys and values included, a tied head not: name in the Hugging
        Face format without the prefix of its files, shape, encoding, input scale, output scale (0: none)."""
    def equal(self, tensor: int, other: int) -> bool:
        """Whether tensors number `tensor` and `other` are stored alike, with equal codes and scales."""
    def rows(self, tensor: int, first: int, count: int) -> NDArray[np.float32]:
        """Rows [first, first + count) of tensor number `tensor`, decoded; a vector has one."""
    def encode(
        self, tensor: int, encoding: str, grid: str, descriptor: int, offset: int, allow_nonfinite: bool
    ) -> tuple[int, int, int, int, float, float]:
        """Writes a tensor's rows as `encoding` into an open file from byte `offset` on; grid: "recover" or "llama", for
        "q4_0". NaN and infinite elements are refused, or 0 where they are allowed, but in rows that are copied. Returns
        elements, elements that came back bit for bit, clamped elements, those that were NaN or infinite, sum of
        squares, sum of squared errors."""
    def encode_codes(
        self,
        tensor: int,
        encoding: str,
        rule: str,
        scale_type: str,
        scales: NDArray[np.float32],
        descriptor: int,
        offset: int,
        allow_nonfinite: bool,
    ) -> tuple[int, int, int, int, float, float]:
        """As `encode`: codes "c2", "c4", "c8" or "g4", whose scales lie apart, in scales (rows, groups). They are found
        by rule "search", "absmax" or "recover" as numbers of scale_type "f32" or "bf16"; by "given" they are there."""

@final
class Calibration:
    """Static scales of activations and caches, found from what a text makes of them."""

    def __init__(self, path: str, threads: int) -> None:
        """path as for `Model.load`; threads 0: default number. Activation scales that are there are not applied."""
    @property
    def model(self) -> Model: ...
    def observe(self, ids: NDArray[np.int32]) -> None:
        """Counts what ids (T,), T >= 1, give as a sequence of their own. Releases the GIL and asks for signals. Raises
        FormatError where a value is not finite; what was counted is void after that, and after an interrupt."""
    def scales(self) -> list[tuple[str, float]]:
        """The scale of the least squared error over all that was observed, 0 where that was all 0: by the tensor's name
        behind "model.language_model."."""

@final
class Decoder:
    """One sequence: its KV cache and scratch memory. Not for two threads at once.

    Every call that computes releases the GIL and asks Python for signals at least every 50 ms: a handler's exception
    (KeyboardInterrupt) ends the call, and `length` is then the number of tokens whose keys and values are complete."""

    def __init__(self, model: Model) -> None: ...
    @property
    def length(self) -> int:
        """Tokens in the cache."""
    @property
    def cache_bytes(self) -> int: ...
    def prefill(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Appends ids (T,), T >= 1. Returns logits (V,) of the last one, after the softcap."""
    def read(self, ids: NDArray[np.int32]) -> None:
        """Appends ids (T,), T >= 1, without logits."""
    def logits(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Appends ids (T,), T >= 1. Returns logits (T, V), after the softcap."""
    def hidden(self, ids: NDArray[np.int32], wanted: int) -> NDArray[np.float32]:
        """Appends ids (T,). Returns (wanted, D), 1 <= wanted <= T: the last tokens' hidden states behind the final
        norm, which the head makes logits of."""
    def score(self, ids: NDArray[np.int32], first: int) -> NDArray[np.float64]:
        """Appends ids (T,). Returns (T-first,) nats: ln p(ids[t] | what is before it), t >= first, 1 <= first <= T."""
    def compare(
        self, reference: Decoder, ids: NDArray[np.int32], first: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Appends ids (T,) to both. Returns four arrays (T-first,), of the tokens that `score` gives: -ln p by this
        decoder's model, and by the reference's, nats; the Kullback-Leibler divergence of this one's distribution from
        the reference's, nats; whether their likeliest tokens are the same. Both vocabularies must have one size."""
    def rewind(self, length: int) -> bool:
        """Forgets all but the first `length` tokens. False, and nothing changed, where a sliding layer has already
        overwritten keys that position `length` still needs."""
    def fork(self) -> Decoder:
        """One that has seen the same tokens and goes on by itself. They share the cache; who writes first into a block
        of it makes a copy of that block."""
    def extents(self, length: int) -> list[dict[str, Any]]:
        """What has to be kept of `length` tokens of this model, of each layer that owns its keys: layer, encoding,
        num_key_value_heads (G), head_dim (E), first (position; sliding layers keep the window), bytes.

        A state is the bytes of positions [first, length), of each the keys of G heads and then their values, as the
        cache encodes them: "f32" and "bf16" little-endian, "c8" one code a byte, "c4" two."""
    def export_state(self, i: int) -> NDArray[np.uint8]:
        """State number i of `extents(length)`, of the tokens in the cache."""
    @staticmethod
    def from_states(model: Model, length: int, states: Sequence[NDArray[np.uint8]]) -> Decoder:
        """One that goes on behind `length` tokens, from all states. Raises ContextError where they do not fit,
        FormatError for a state of another size or with a number that is not finite."""
    @staticmethod
    def shared_cache_bytes(decoders: Sequence[Decoder]) -> int:
        """Bytes of all their caches, what they share counted once."""

MOST_DRAFTS: int  # tokens that one draft may have

@final
class DraftModel:
    """Weights and config of a drafter and the model it drafts for: immutable, shared by threads."""

    @staticmethod
    def load(path: str, target: Model, activations: str) -> DraftModel:
        """path: a Hugging Face folder; activations as for `Model.load`. UnsupportedError where the drafter was made for
        another model."""
    @property
    def info(self) -> dict[str, Any]:
        """model_type, parameters, weight_bytes, mapped_bytes, config, unknown_tensors, as `Model.info` has them."""

@final
class Drafter:
    """Guesses the next tokens of sequences. Keeps nothing of them. Not for two threads at once."""

    def __init__(self, model: DraftModel) -> None: ...
    def draft(self, decoder: Decoder, token: int, count: int) -> list[int]:
        """The tokens that may follow `token`, which is the next that the decoder is going to read. Its last call must
        have given logits of its last token, or of MOST_DRAFTS later ones that were taken back."""

@final
class Batch:
    """One step of several sequences: every weight that is read serves them all. Not for two threads at once.

    What is computed for a sequence has the bits that its decoder gives alone. Calls release the GIL and ask for signals
    as those of `Decoder` do."""

    def __init__(self, model: Model) -> None: ...
    def prefill(self, decoder: Decoder, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """`Decoder.prefill` in the batch's scratch memory: the decoder then needs none of its own."""
    def read(self, decoder: Decoder, ids: NDArray[np.int32]) -> None:
        """`Decoder.read` in the batch's scratch memory."""
    def step(self, decoders: Sequence[Decoder], ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Appends ids[i] to decoders[i]: n decoders of this model, all different, 1 <= n <= CHUNK_TOKENS. Returns
        logits (n, V) behind them, after the softcap. All or none: after an error or an interrupt no decoder has
        advanced."""
    def sample(
        self,
        samplers: Sequence[Sampler],
        logits: Sequence[NDArray[np.float32]],
        histories: Sequence[NDArray[np.int32]],
    ) -> list[int]:
        """What samplers[i] picks from logits[i] (V,) and histories[i] (N,), on the model's threads; the samplers are
        all different."""

@final
class Sampler:
    """Picks a token. temperature 0: the largest logit, lowest id on ties, everything else ignored.
    Otherwise in this order: repetition penalty, temperature, top_k (0: off), top_p (1: off), min_p (0: off)."""

    def __init__(
        self, *, temperature: float, top_k: int, top_p: float, min_p: float, repetition_penalty: float, seed: int
    ) -> None: ...
    def sample(self, logits: NDArray[np.float32], history: NDArray[np.int32]) -> int:
        """logits (V,); history (N,): ids the repetition penalty falls on (prompt and what was generated)."""

def masked(logits: NDArray[np.float32], bits: NDArray[np.uint8]) -> NDArray[np.float32]:
    """logits (V,), with -infinity where bits (V / 8, rounded up; lowest bit first) have none."""

def log_probability(logits: NDArray[np.float32], token: int) -> float:
    """ln softmax(logits)[token], nats."""

@final
class Tokenizer:
    """Text to token ids and back. Immutable, shared by threads."""

    @staticmethod
    def open(path: str) -> Tokenizer:
        """A tokenizer.json. Releases the GIL."""
    @property
    def size(self) -> int:
        """Number of entries V; ids are 0..V-1."""
    @property
    def control_tokens(self) -> list[int]: ...
    @property
    def end_tokens(self) -> list[int]:
        """Those that end an answer in every Gemma model, of those there are."""
    def encode(self, text: bytes, parse_special: bool) -> NDArray[np.int32]:
        """UTF-8 -> ids (T,). Control tokens that the text spells become their ids, or stay text. Releases the GIL and
        asks for signals."""
    def decode(self, ids: NDArray[np.int32], skip_special_tokens: bool) -> str:
        """ids (T,), those without an entry left out. Releases the GIL."""
    def split(self, text: bytes) -> list[tuple[str, int | None]]:
        """The text at its added tokens, control tokens among them: (piece, id), None for what is ordinary text."""
    def find(self, text: str) -> int | None:
        """The id of an entry."""
    def token(self, id: int) -> str | None:
        """The text of an entry, with U+2581 for a space."""
    def is_visible(self, id: int) -> bool:
        """Whether it is in the vocabulary and no control token."""
    def is_byte(self, id: int) -> bool: ...
    def visible_bytes(self, ids: NDArray[np.int32]) -> int:
        """UTF-8 bytes of the text of each of ids (T,) summed: 1 for a byte token, 0 for control tokens."""
