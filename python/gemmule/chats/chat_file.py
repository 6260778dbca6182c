"""A conversation in one file: what was said, as text that anybody can read, and the cache of what the model has read.

    gemmule-chat 1 000000002048 <SHA-256 of the JSON, 64 hexadecimal digits>\n
    { JSON, UTF-8, as many bytes as the first line says: messages, sampling, model, ..., and the parts that follow }\n
    bytes of the parts, end to end, up to the file's end

The first part is the (N,) little-endian int32 ids that the cache has seen; then one for each layer that owns its keys,
as `_core.Decoder.extents` describes it. Every byte is under a checksum: those of the JSON in the first line, those of
the parts in the JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core, arguments, paths
from ..checkpoints.checkpoint import GenerationConfig
from ..errors import ArgumentError, ContextError, FormatError, GemmuleError
from ..outputs.output import new_file
from . import words
from .context_full import CHOICES
from .tools import collect
from .turns import checked

_FIRST_LINE = re.compile(rb"gemmule-chat (\d) (\d{12}) ([0-9a-f]{64})\n")
_FIRST_LINE_BYTES = 93
_VERSION = 1
_NO_DIGEST = "0" * 64
_ANOTHER = "Pass a file that Chat.save wrote."
_DAMAGED = "The file is damaged: go on from its turns with gemmule.read_chat, or take another copy of it."


@dataclass(frozen=True)
class ModelIdentity:
    """What must be equal so that one model can go on with another's cache, bit for bit.

    Attributes:
        sha256: of the checkpoint: `fingerprint`.
        kv, activations: as in `Model.info`.
        name: of the checkpoint's folder or file; for people, and not compared.
    """

    sha256: str
    kv: str
    activations: str
    name: str = field(compare=False)


def fingerprint(core: _core.Model) -> str:
    """SHA-256 of what tells a checkpoint from others: its configuration as the engine reads it; name, type and shape of
    every tensor, and 256 of its bytes. Other copies of the files have the same."""
    config = json.dumps([core.info["model_type"], core.info["config"]], sort_keys=True).encode()
    return hashlib.sha256(config + core.fingerprint()).hexdigest()


@dataclass(frozen=True)
class SavedChat:
    """What a file of `Chat.save` says in words; read by `read_chat`.

    Attributes:
        messages: the conversation, as `Chat.messages` gives it.
        sampling: the chat's defaults, in the words of generation_config.json.
        settings: "thinking", "tools" (schemas), "context_full", as `Model.chat` has them; "dropped_turns" so far.
        model: of which model the cache is.
        gemmule: version that wrote the file.
        cached_tokens: tokens in the cache.
    """

    messages: list[dict[str, Any]]
    sampling: dict[str, Any]
    settings: dict[str, Any]
    model: ModelIdentity
    gemmule: str
    cached_tokens: int


@dataclass(frozen=True)
class _Part:
    """Some of the bytes behind the JSON. layer, encoding, shape (positions, 2, G, E): of keys and values."""

    bytes: int
    sha256: str
    layer: int | None = None
    encoding: str = "i32"
    shape: tuple[int, ...] = ()

    def describe(self) -> dict[str, Any]:
        place = {} if self.layer is None else {"layer": self.layer}
        return {
            **place,
            "encoding": self.encoding,
            "shape": list(self.shape),
            "bytes": self.bytes,
            "sha256": self.sha256,
        }


def read_chat(path: str | os.PathLike[str]) -> SavedChat:
    """What a file of `Chat.save` says in words, whatever has become of the cache behind it. No model is needed.

    Raises:
        MissingFileError: no such file.
        FormatError: it is no such file, or what it says is damaged too.
    """
    with _opened(path) as (file, stream):
        return _read_words(file, stream)[0]


def write(path: str | os.PathLike[str], saved: SavedChat, ids: NDArray[np.int32], decoder: _core.Decoder) -> None:
    """Writes a file under this name once it is whole, in the place of another one.

    Args:
        saved: its cached_tokens are those of the decoder.
        ids: (N,) what `decoder` has seen, N = decoder.length.

    Raises:
        ArgumentError: the turns are longer, or have more values, than any that can be read again.
        ArgumentError, MissingFileError: the path is none, or its folder is not there.
        ResourceError: the disk is full, or the system refuses to write there. Nothing is left then.
    """
    tokens = ids.astype("<i4").tobytes()
    parts = _parts(decoder, len(ids), [_NO_DIGEST] * (1 + len(decoder.extents(len(ids)))))
    text = _words(saved, parts)
    _require_readable(path, text)
    begin = len(text)  # whatever the digests are
    size = begin + sum(part.bytes for part in parts)
    with new_file(path, size, sources=(), force=True) as file:
        digests, at = [], begin
        for i in range(len(parts)):
            data = tokens if i == 0 else decoder.export_state(i - 1).tobytes()
            digests.append(hashlib.sha256(data).hexdigest())
            file.write(data, at)
            at += len(data)
        file.write(_words(saved, _parts(decoder, len(ids), digests)))


def read(
    path: str | os.PathLike[str], core: _core.Model, identity: ModelIdentity
) -> tuple[SavedChat, NDArray[np.int32], _core.Decoder]:
    """What `write` was given, for the model `core`.

    Raises:
        MissingFileError: no such file.
        FormatError: it is damaged, or no such file.
        ArgumentError: it is of another model, or of this one loaded otherwise.
        ContextError: the model was loaded with a context that is too short for it.
    """
    with _opened(path) as (file, stream):
        saved, parts, begin = _read_words(file, stream)
        size = begin + sum(part.bytes for part in parts)
        if size != stream.seek(0, os.SEEK_END):
            raise _damaged(file, "another length than it says", f"{size} bytes", f"{stream.tell()} bytes")
        _check_identity(file, saved.model, identity)
        length = saved.cached_tokens
        if length > core.context:
            raise ContextError(
                f"{file}: the chat has {length} tokens; the context holds {core.context}",
                remedy="Load the model with a larger context, up to the checkpoint's own.",
                file=str(file),
                expected=f"at most {core.context} tokens",
                found=str(length),
            )
        wanted = _parts(_core.Decoder(core), length, [part.sha256 for part in parts])
        if parts != wanted:
            raise _damaged(
                file,
                "parts that are not this model's",
                *_first_difference([each.describe() for each in wanted], [each.describe() for each in parts]),
            )
        stream.seek(begin)
        states = [_read_part(file, stream, part) for part in parts]
        ids = states[0].view("<i4").astype(np.int32)
        if ids.size and (ids.min() < 0 or ids.max() >= core.vocab_size):
            raise _damaged(file, "a token id that the model does not have", f"0..{core.vocab_size - 1}", "another one")
        try:
            return saved, ids, _core.Decoder.from_states(core, length, states[1:])
        except FormatError as error:
            raise error.within(str(file)) from None


def defaults_of(saved: SavedChat, path: str | os.PathLike[str], vocab_size: int) -> GenerationConfig:
    """The chat's sampling defaults. Raises FormatError where they are none."""
    return GenerationConfig.from_words(Path(path), saved.sampling).leaving_tokens(Path(path), vocab_size)


def _parts(decoder: _core.Decoder, length: int, digests: Sequence[str]) -> list[_Part]:
    """What is kept of `length` tokens: their ids, then each layer's state. Another number of digests gives as many."""
    parts = [_Part(4 * length, _NO_DIGEST, shape=(length,))]
    for extent in decoder.extents(length):
        shape = (length - extent["first"], 2, extent["num_key_value_heads"], extent["head_dim"])
        parts.append(_Part(extent["bytes"], _NO_DIGEST, extent["layer"], extent["encoding"], shape))
    return [
        _Part(part.bytes, digest, part.layer, part.encoding, part.shape)
        for part, digest in zip(parts, digests, strict=False)
    ]


def _words(saved: SavedChat, parts: Sequence[_Part]) -> bytes:
    """The file up to its parts."""
    model = saved.model
    value = {
        "gemmule": saved.gemmule,
        "model": {"name": model.name, "sha256": model.sha256, "kv": model.kv, "activations": model.activations},
        "settings": saved.settings,
        "sampling": saved.sampling,
        "messages": saved.messages,
        "parts": [part.describe() for part in parts],
    }
    lines = [f" {json.dumps(key)}: {_lines(each)}" for key, each in value.items()]
    text = ("{\n" + ",\n".join(lines) + "\n}\n").encode()
    return b"gemmule-chat %d %012d %s\n" % (_VERSION, len(text), hashlib.sha256(text).hexdigest().encode()) + text


def _require_readable(path: str | os.PathLike[str], text: bytes) -> None:
    expected, found = f"at most {words.MOST_BYTES} bytes", f"{len(text)} bytes"
    if len(text) <= words.MOST_BYTES:
        try:
            return words.check_size(text)
        except ValueError as error:
            expected, found = "what can be read again", str(error)
    raise ArgumentError(
        f"{path}: the chat's turns and tools take too much: expected {expected}; found {found}",
        remedy="Keep its messages yourself, and go on with a new chat.",
        file=str(path),
        expected=expected,
        found=found,
    )


def _lines(value: object) -> str:
    """JSON with an element of a list on each line."""
    if not isinstance(value, list) or not value:
        return json.dumps(value, ensure_ascii=False)
    return "[\n" + ",\n".join("  " + json.dumps(each, ensure_ascii=False) for each in value) + "\n ]"


def _read_words(file: Path, stream: BufferedReader) -> tuple[SavedChat, list[_Part], int]:
    """The file up to its parts, and where these begin."""
    line = stream.read(_FIRST_LINE_BYTES)
    found = _FIRST_LINE.fullmatch(line)
    if found is None:
        what = "not the first line of a saved chat"
        raise _damaged(file, what, "gemmule-chat 1 ...", repr(line[:20]), remedy=_ANOTHER)
    if int(found[1]) != _VERSION:
        what, remedy = "a version of the format that is not read here", "Update gemmule, or save the chat anew."
        raise _damaged(file, what, str(_VERSION), found[1].decode(), remedy=remedy)
    size = int(found[2])
    if size > words.MOST_BYTES:
        what, most = "JSON longer than any chat's", f"at most {words.MOST_BYTES} bytes"
        raise _damaged(file, what, most, f"{size} bytes", remedy=_ANOTHER)
    if size > os.fstat(stream.fileno()).st_size - _FIRST_LINE_BYTES:
        raise _damaged(file, "an end before that of its JSON", f"{size} bytes of JSON", "fewer")
    text = stream.read(size)
    digest = hashlib.sha256(text).hexdigest()
    if digest != found[3].decode():
        raise _damaged(file, "JSON whose checksum differs", found[3].decode(), digest)
    try:
        saved, parts = _parse(words.parsed(text))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = error.message if isinstance(error, GemmuleError) else f"{type(error).__name__}: {error}"
        raise _damaged(file, f"JSON that is not of a chat: {reason}", "the JSON of a chat", reason) from None
    return saved, parts, _FIRST_LINE_BYTES + size


def _parse(value: Mapping[str, Any]) -> tuple[SavedChat, list[_Part]]:
    """Raises ValueError, KeyError, TypeError, AttributeError or RecursionError for JSON of something else."""
    model = ModelIdentity(**{name: _text(value["model"][name]) for name in ("sha256", "kv", "activations", "name")})
    parts = [
        _Part(
            arguments.integer("bytes", each["bytes"], least=0),
            _text(each["sha256"]),
            arguments.integer("layer", each["layer"], least=0) if "layer" in each else None,
            _text(each["encoding"]),
            tuple(arguments.integer("shape", length, least=0) for length in each["shape"]),
        )
        for each in value["parts"]
    ]
    if not parts or len(parts[0].shape) != 1:
        raise ValueError("no ids")
    saved = SavedChat(
        messages=checked(value["messages"]),
        sampling={**value["sampling"]},
        settings=_settings(value["settings"]),
        model=model,
        gemmule=_text(value["gemmule"]),
        cached_tokens=parts[0].shape[0],
    )
    return saved, parts


def _settings(value: Mapping[str, Any]) -> dict[str, Any]:
    thinking = value["thinking"]
    if not isinstance(value["tools"], list):
        raise TypeError("tools are no list")
    return {
        "thinking": thinking if isinstance(thinking, bool) else arguments.integer("thinking", thinking, least=1),
        "tools": [tool.schema for tool in collect(value["tools"]).values()],
        "context_full": arguments.choice("context_full", value["context_full"], CHOICES),
        "dropped_turns": arguments.integer("dropped_turns", value["dropped_turns"], least=0),
    }


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{arguments.shown(value)} is not a string")
    return value


def _read_part(file: Path, stream: BufferedReader, part: _Part) -> NDArray[np.uint8]:
    data = np.empty(part.bytes, np.uint8)
    stream.readinto(data.data)
    digest = hashlib.sha256(data.data).hexdigest()
    if digest != part.sha256:
        place = "the ids" if part.layer is None else f"layer {part.layer}"
        raise _damaged(file, f"a part, {place}, whose checksum differs", part.sha256, digest)
    return data


def _check_identity(file: Path, saved: ModelIdentity, identity: ModelIdentity) -> None:
    if saved == identity:
        return
    if saved.sha256 != identity.sha256:
        raise ArgumentError(
            f"{file}: the chat is of another model, {saved.name}; this one is {identity.name}",
            remedy="Load that model, or go on from the turns alone: gemmule.read_chat(path).messages.",
            file=str(file),
            expected=identity.sha256,
            found=saved.sha256,
        )
    wanted, found = (f'kv="{each.kv}", activations="{each.activations}"' for each in (identity, saved))
    raise ArgumentError(
        f"{file}: the chat is of this model loaded with {found}; this one has {wanted}",
        remedy="Load the model like that, or go on from the turns alone: gemmule.read_chat(path).messages.",
        file=str(file),
        expected=wanted,
        found=found,
    )


def _first_difference(wanted: Sequence[object], found: Sequence[object]) -> tuple[str, str]:
    for one, other in zip(wanted, found, strict=False):
        if one != other:
            return str(one), str(other)
    return f"{len(wanted)} parts", f"{len(found)} parts"


def _damaged(file: Path, what: str, expected: str, found: str, *, remedy: str = _DAMAGED) -> FormatError:
    return FormatError(
        f"{file}: {what}: expected {expected}; found {found}",
        remedy=remedy,
        file=str(file),
        expected=expected,
        found=found,
    )


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[Path, BufferedReader]]:
    file = arguments.path("the chat's file", path)
    with paths.reading(file):
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait for its writer
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _damaged(file, "not a file", "a file", "a folder or device", remedy=_ANOTHER)
    with paths.reading(file), os.fdopen(descriptor, "rb") as stream:
        yield file, stream
