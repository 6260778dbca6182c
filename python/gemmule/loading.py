"""From a checkpoint's name to a model: it is found, its memory is estimated, and the engine opens it."""

from __future__ import annotations

import os

from . import _core, arguments
from .checkpoints import checkpoint, drafters, estimation, hub
from .checkpoints.estimation import ACTIVATIONS
from .generation.batch import MOST_TOGETHER
from .model import Model

KV = ("auto", "float32", "bf16", "static")
_PREFIX_CACHE_BYTES = 256 << 20


def load(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    context: int | None = None,
    activations: str = "auto",
    kv: str = "auto",
    trust_template: bool = False,
    memory_limit: int | None = None,
    prefix_cache: int | None = None,
    max_concurrent: int = MOST_TOGETHER,
    mtp: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Model:
    """Opens a checkpoint. The weights are mapped, not copied; the tokenizer is opened when it is first used.

    Args:
        path: a Hugging Face folder (config.json, safetensors), a GGUF file or a folder with one (of a model in
            several parts: any of them), or "fairy", the bundled demo. A folder of your own that has this name is
            "./fairy". Or the name of a repository on the Hugging Face hub, "org/name" or "org/name:file.gguf", where no
            file or folder has that name: it is downloaded into the hub's cache, unless it is there.
        threads: threads that compute, at least 1; None: the physical cores this process may use.
        context: tokens a sequence may have, at least 1; None: the checkpoint's maximum. Memory grows with use.
        activations: "static" scales are always applied where the checkpoint has them. Products are then
            "int8" or "float32"; "auto": as the checkpoint was trained.
        kv: elements of the key/value cache: "float32", "bf16", "static" (8 and 4 bits, where the checkpoint has
            scales for them); "auto": "static" where it can be, else "float32".
        trust_template: see `Tokenizer.from_pretrained`.
        memory_limit: bytes that the model and its drafter may need, the whole context included; None: what the machine
            or the cgroup has free must hold the weights, and the context if it was given.
        prefix_cache: bytes of caches that the model keeps of prompts it has read, so that a conversation that is sent
            again, or a long beginning that several share, is not read again; results are the same to the bit. 0: none;
            None: at most 256 MiB, or none with a memory_limit.
        max_concurrent: sequences that `agenerate` and `astream` have under way at a time, in 1..64; the others wait.
            Each has a key/value cache of its own.
        mtp: a drafter for multi-token prediction, which guesses tokens that the model then checks together: the folder
            or the hub name of one that was made for this model; "auto": the bundled one for "fairy", and the published
            one where `path` has the name of a published model; None: none.
        revision, token, cache_dir, local_files_only: of a name on the hub; see `hub.pull`.

    Raises:
        MissingFileError: no such folder, or a file of it is missing; no such repository or revision.
        AccessError, NetworkError: the hub does not give the repository, or does not answer.
        FormatError: a file is broken; the message names file, tensor, what was expected and found.
        UnsupportedError: the checkpoint needs something that gemmule does not have.
        ResourceError: too little memory.
        ArgumentError: an argument is out of its range.
    """
    trust_template = arguments.flag("trust_template", trust_template)
    core_threads = 0 if threads is None else arguments.integer("threads", threads, least=1, most=1024)
    core_context = 0 if context is None else arguments.integer("context", context, least=1, most=2**31 - 1)
    arguments.choice("activations", activations, ACTIVATIONS)
    arguments.choice("kv", kv, KV)
    if prefix_cache is None:
        prefix_cache = _PREFIX_CACHE_BYTES if memory_limit is None else 0
    prefix_cache = arguments.integer("prefix_cache", prefix_cache, least=0)
    max_concurrent = arguments.integer("max_concurrent", max_concurrent, least=1, most=MOST_TOGETHER)
    located = hub.locate(path, revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only)
    place = checkpoint.find(located)
    if place.is_dir():
        checkpoint.require_file(place / "config.json")
    drafter = drafters.find(mtp, path, token=token, cache_dir=cache_dir, local_files_only=local_files_only)
    estimation.require_room(
        place, context=context, kv=kv, activations=activations, drafter=drafter, memory_limit=memory_limit
    )
    core = _core.Model.load(str(place), core_threads, core_context, activations, kv)
    return Model(
        core,
        place,
        trust_template=trust_template,
        prefix_cache=prefix_cache,
        max_concurrent=max_concurrent,
        draft_model=None if drafter is None else _core.DraftModel.load(str(drafter), core, activations),
    )
