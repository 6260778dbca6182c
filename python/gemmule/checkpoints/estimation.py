"""What loading and running a checkpoint will take of memory, from its config and its files' headers."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import _core, arguments
from ..errors import ArgumentError, FormatError, ResourceError
from ..json_line import json_line
from ..table import amount, table
from . import drafters
from .contents import contents, contents_at
from .folder_tensors import weight_bytes
from .memory import available_bytes
from .shapes import EMBEDDINGS, LEFTOVERS, PER_LAYER_EMBEDDINGS, TOWERS, UNKNOWN, TextShape, bare_name
from .tensors import CACHE_SCALE, WEIGHT, Tensor, Tensors

ACTIVATIONS = ("auto", "float32", "int8")
KV_BITS = {"float32": (32, 32), "bf16": (16, 16), "static": (8, 4)}  # of sliding layers, of full ones

# Measured, as what a process grows by beyond the buffers below, and rounded up; docs/decisions/0013-hub.md has figures.
# Code of the engine and of libraries that runs for the first time. The system maps a page of it, or hundreds together:
# 2.5 to 3.5 MB from one installation to another, and the estimate must not be under.
_CODE_BYTES = 5_000_000
_THREAD_BYTES = 80_000  # stack of one thread, with what kernels keep there
_TENSOR_BYTES = 700  # names, shapes and places of one tensor
_PIECE_BYTES = 2 << 20  # of a file that are mapped at once where one byte is touched: the largest folio
_TOKENIZER_CODE_BYTES = 500_000


@dataclass(frozen=True)
class Estimate:
    """Memory, in bytes, that loading and running a model adds to a process that has imported gemmule.

    Attributes:
        path: of the checkpoint.
        context: tokens that the key/value cache is counted for.
        kv: elements of the cache: "float32", "bf16" or "static".
        text_weights: matrices that are mapped and used, and the floats of the norms.
        kv_cache: of one conversation with a full context.
        scratch: activations of one conversation, and the logits of one token.
        tokenizer: once text is used; 0 where there is none.
        drafter: its weights, mapped, and the logits of the tokens that are checked together; 0 without one.
        program: code, stacks of threads, lists of tensors.
        on_disk: embeddings: rows are read from the file as they are needed, and never stay.
        unused: bytes of the files that text does not use: towers of vision and audio, leftovers.
    """

    path: str
    context: int
    kv: str
    text_weights: int
    kv_cache: int
    scratch: int
    tokenizer: int
    drafter: int
    program: int
    on_disk: dict[str, int]
    unused: dict[str, int]

    @property
    def resident(self) -> int:
        """Bytes of memory at the peak: the weights' pages, which other processes share, and the process's own."""
        return self.text_weights + self.kv_cache + self.scratch + self.tokenizer + self.drafter + self.program

    def to_json(self) -> str:
        """All fields and `resident`, as a JSON object."""
        return json_line({**asdict(self), "resident": self.resident})

    def __str__(self) -> str:
        rows = [
            ("text weights", amount(self.text_weights), "mapped"),
            (f"key/value cache, {self.kv}, {self.context} tokens", amount(self.kv_cache), "grows with use"),
            ("scratch", amount(self.scratch), ""),
            ("tokenizer", amount(self.tokenizer), "when text is first used"),
            *([("drafter", amount(self.drafter), "mapped, but for some logits")] if self.drafter else []),
            ("program", amount(self.program), ""),
            ("resident at most", amount(self.resident), ""),
            *((name, amount(size), "read by rows, not resident") for name, size in self.on_disk.items()),
            *((name, amount(size), "not used for text") for name, size in self.unused.items()),
        ]
        return table(("memory", "bytes", ""), rows, left=(0, 2))


def estimate(
    path: str | os.PathLike[str],
    context: int | None = None,
    kv: str = "auto",
    *,
    activations: str = "auto",
    mtp: str | os.PathLike[str] | None = None,
) -> Estimate:
    """Memory that a model will need, before it is loaded. No weight is read.

    Args:
        path: a folder, a GGUF file, "fairy", or the name of a repository that was pulled before.
        context: tokens; None: the checkpoint's maximum.
        kv, activations, mtp: as for `load`; a drafter on the hub must have been pulled before, too.
    """
    return _estimate(contents(path), context, kv, activations, drafters.find(mtp, path, local_files_only=True))


def require_room(
    place: Path, *, context: int | None, kv: str, activations: str, drafter: Path | None, memory_limit: int | None
) -> None:
    """Raises ResourceError, with the table, where a model will not fit: into `memory_limit` with its whole context, or
    into what the machine has free, with the context if that was given and one chunk of tokens if not.

    What is wrong with a checkpoint's files is left to the engine to say.
    """
    whose = "memory_limit"
    if memory_limit is not None:
        limit = arguments.integer("memory_limit", memory_limit, least=1)
    elif free := available_bytes():
        limit, whose = free
        context = _core.CHUNK_TOKENS if context is None else context
    else:
        return
    try:
        tensors = contents_at(place)
        if _at_most(tensors, context, kv, drafter) <= limit:
            return
        tokens = min(context or tensors.shape.max_context, tensors.shape.max_context)
        needed = _estimate(tensors, tokens, kv, activations, drafter)
    except FormatError:
        return
    if needed.resident <= limit:
        return
    # A config may say any size; the engine, which maps files and reads little of them, holds it to the tensors.
    _core.check_checkpoint(str(place))
    has = f"memory_limit is {amount(limit)}" if memory_limit is not None else f"{whose} has {amount(limit)} left"
    raise ResourceError(
        f"{place}: the model needs {amount(needed.resident)} of memory, and {has}",
        remedy='Use a smaller context=, kv="static" or "bf16", a checkpoint with fewer bits, or more memory.',
        details=str(needed),
        file=str(place),
        expected=f"{needed.resident} bytes",
        found=f"{limit} bytes",
    )


def _at_most(tensors: Tensors, context: int | None, kv: str, drafter: Path | None = None) -> int:
    """More than `estimate` says, without a look at any tensor: as if all bytes of the files were in use."""
    shape = tensors.shape
    tokens = min(context or shape.max_context, shape.max_context)
    cache = _kv_cache(shape, tokens, "float32" if kv == "auto" else kv)
    lists = 100_000 * _TENSOR_BYTES  # the largest checkpoint has a few thousand tensors
    own = 4 * sum(shape.vectors().values()) + _scratch(shape, tokens, 20 * _widest(shape)) + _tokenizer(tensors)
    return tensors.most_bytes + lists + cache + own + _drafter(drafter, shape) + _program()


def _estimate(tensors: Tensors, context: int | None, kv: str, activations: str, drafter: Path | None) -> Estimate:
    arguments.choice("kv", kv, ("auto", *KV_BITS))
    arguments.choice("activations", activations, ACTIVATIONS)
    shape = tensors.shape
    tokens = shape.max_context if context is None else arguments.integer("context", context, least=1)
    if tokens > shape.max_context:
        raise ArgumentError(f"context is {tokens}; the checkpoint was made for {shape.max_context} positions at most")
    if kv == "auto":
        kv = "static" if _has_cache_scales(tensors) else "float32"
    return Estimate(
        path=str(tensors.path),
        context=tokens,
        kv=kv,
        text_weights=_text_weights(tensors),
        kv_cache=_kv_cache(shape, tokens, kv),
        scratch=_scratch(shape, tokens, _inputs(tensors, activations)),
        tokenizer=_tokenizer(tensors),
        drafter=_drafter(drafter, shape),
        program=_program() + _TENSOR_BYTES * len(tensors.all),
        on_disk=_sums(tensors, [EMBEDDINGS, PER_LAYER_EMBEDDINGS]),
        unused=_sums(tensors, [TOWERS, LEFTOVERS, UNKNOWN]),
    )


def _program() -> int:
    """Of code, and of as many threads as `load` starts where nobody says how many."""
    threads: int = _core.cpu()["threads"]
    return _CODE_BYTES + _THREAD_BYTES * threads


def _is_resident(tensors: Tensors, tensor: Tensor) -> bool:
    """Whether a tensor is mapped and read whole. A tied head reads all rows of the embedding through the map."""
    if tensor.kind == EMBEDDINGS:
        return tensors.shape.tied
    return tensor.kind not in (PER_LAYER_EMBEDDINGS, TOWERS, LEFTOVERS, UNKNOWN)


def _text_weights(tensors: Tensors) -> int:
    """What is mapped, in the pieces that the system maps at once, and the vectors kept as float32 beside it."""
    used = [tensor for tensor in tensors.all if _is_resident(tensors, tensor)]
    held = defaultdict(list)
    for tensor in tensors.all:
        held[tensor.file].append(tensor)
    mapped = 0
    for file in tensors.files:
        size = file.stat().st_size
        header = min((tensor.offset for tensor in held[file]), default=size)
        pieces = set(range(header // _PIECE_BYTES + 1))
        for tensor in held[file]:
            if _is_resident(tensors, tensor):
                first, last = tensor.offset, tensor.offset + max(0, tensor.bytes - 1)
                pieces.update(range(first // _PIECE_BYTES, last // _PIECE_BYTES + 1))
        mapped += min(len(pieces) * _PIECE_BYTES, size)
    vectors = sum(tensor.elements for tensor in used if tensor.role == WEIGHT and len(tensor.shape) < 2)
    return mapped + 4 * vectors


def _kv_cache(shape: TextShape, context: int, kv: str) -> int:
    """As cpp/model/kv_cache.cc makes it: blocks of positions, a ring of them for a sliding layer."""
    block, chunk = _core.KV_BLOCK_TOKENS, _core.CHUNK_TOKENS
    wanted = -(-context // block)
    ring = (shape.window - 1 + chunk - 1) // block + 2
    total = 0
    for i, layer in enumerate(shape.layers):
        if layer.owner == i:
            row = layer.kv_heads * layer.head_dim * KV_BITS[kv][layer.full] // 8
            total += (wanted if layer.full else min(wanted, ring)) * block * 2 * row
    return total


def _scratch(shape: TextShape, context: int, inputs: int) -> int:
    """Buffers of cpp/model/{forward,experts}.h for one chunk, and of cpp/engine/ for one token's logits.

    Args:
        inputs: bytes a token of those of cpp/model/linear.h.
    """
    d, tokens = shape.hidden_size, min(context, _core.CHUNK_TOKENS)
    q = max(shape.heads * layer.head_dim for layer in shape.layers)
    kv = max(layer.kv_heads * layer.head_dim for layer in shape.layers)
    f = max(layer.mlp_width for layer in shape.layers)
    per_layer = len(shape.layers) * shape.per_layer_width
    width = 3 * d + q + 2 * kv + 2 * f + per_layer + shape.per_layer_width
    if shape.experts:
        width += 4 * d + shape.experts + 2 * shape.expert_width
    width += sum({layer.head_dim for layer in shape.layers})  # cos and sin of each kind of layer
    logits = 2 * 4 + 4 + 16  # bytes a token of the vocabulary: engine and caller, the sampler's copy, its candidates
    return tokens * (4 * width + inputs) + logits * shape.vocab_size


def _inputs(tensors: Tensors, activations: str) -> int:
    """Bytes a token of what a matrix multiplies: floats twice, or codes, and floats beside them."""
    shape, d = tensors.shape, tensors.shape.hidden_size
    used = [t for t in tensors.all if t.role == WEIGHT and len(t.shape) > 1 and _is_resident(tensors, t)]
    # Matrices side by side (queries, keys, values) may be of three types of blocks, each with its own order of codes.
    others = 2 * 6 * d if any(t.is_blocks for t in used) else 0
    if activations == "float32" or all(t.is_float for t in used):
        return 8 * _widest(shape) + others
    scales = _widest(shape) // 4 if others else 0  # two floats for 32 elements
    floats = max([4 * t.columns for t in used if t.is_float], default=0)
    return _widest(shape) + scales + max(floats, 4 * d) + others


def _widest(shape: TextShape) -> int:
    """The most columns that a matrix has."""
    return max(shape.hidden_size, *(max(shape.heads * layer.head_dim, layer.mlp_width) for layer in shape.layers))


def _tokenizer(tensors: Tensors) -> int:
    size = tensors.tokenizer_bytes
    return size + _TOKENIZER_CODE_BYTES if size else 0


def _drafter(folder: Path | None, shape: TextShape) -> int:
    """A drafter's files, the order of its tokens and its logits; and of the pass that checks its drafts, the rows of
    logits beside the one that every pass has, in the engine and as the caller gets them."""
    if folder is None:
        return 0
    return weight_bytes(folder) + (4 + 4 + 2 * 4 * _core.MOST_DRAFTS) * shape.vocab_size


def _has_cache_scales(tensors: Tensors) -> bool:
    stored = {bare_name(t.name): t for t in tensors.all if t.role == CACHE_SCALE}
    names = [
        f"layers.{i}.self_attn.{what}_cache_scale"
        for i, layer in enumerate(tensors.shape.layers)
        if layer.owner == i
        for what in "kv"
    ]
    return all(name in stored and (stored[name].single() or 0) > 0 for name in names)


def _sums(tensors: Tensors, kinds: list[str]) -> dict[str, int]:
    sums = {
        kind: sum(t.bytes for t in tensors.all if t.kind == kind and not _is_resident(tensors, t)) for kind in kinds
    }
    return {kind: size for kind, size in sums.items() if size}
