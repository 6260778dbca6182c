"""Where a checkpoint lies, and what its configuration files say about text: end tokens and sampling defaults.

The model's own configuration is read in C++.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import _core, arguments, paths
from ..errors import ArgumentError, FormatError, MissingFileError, UnsupportedError
from ..printable import some

DEMO = "fairy"

# Files of a folder that text needs, beside the weights.
TEXT_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
)

_AGAIN = "Download the file again."

# How llama-gguf-split ends the names of a model's parts.
_PART = re.compile(r"-(\d{5})-of-\d{5}\.gguf$")


def find(path: str | os.PathLike[str]) -> Path:
    """What `path` means: a Hugging Face folder, or a GGUF file.

    The string "fairy" is always the bundled demo; a folder of that name is "./fairy". A folder without config.json
    that holds one GGUF model means that file; of one in several parts, the first. Raises MissingFileError,
    UnsupportedError for a single file of a folder, ArgumentError for something that is no path, ResourceError for a
    folder that may not be searched.
    """
    if isinstance(path, str) and path == DEMO:
        return Path(__file__).parents[1] / "data" / DEMO
    place, text = arguments.path("the model", path, f"a path or {DEMO!r}"), os.fspath(path)
    try:
        is_folder, is_file = place.is_dir(), place.is_file()
    except OSError as error:  # too long a name, or no right to look
        raise MissingFileError(f"{text}: {error.strerror}", remedy="Check the path.", file=text) from None
    if is_folder:
        return place if paths.exists(place / "config.json") else _only_gguf(place)
    if is_file:
        if paths.is_file(place.parent / "config.json") and not is_gguf(place):
            raise UnsupportedError(
                f"{place}: a single file is not a checkpoint",
                remedy=f"Pass the folder: {place.parent}",
                file=str(place),
            )
        return place  # whatever else it is: the reader of GGUF says so
    text = os.fspath(path)
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", text):
        remedy = f"If it is a hub name, download it first: gemmule pull {text}"
    else:
        remedy = f'Check the path, or load "{DEMO}", the bundled demo.'
    raise MissingFileError(f"{text}: no such file or folder", remedy=remedy, file=text)


def is_gguf(file: Path) -> bool:
    """Whether the file says of itself that it is GGUF."""
    try:
        with file.open("rb") as stream:
            return stream.read(4) == b"GGUF"
    except OSError:
        return False


def _only_gguf(folder: Path) -> Path:
    """The GGUF model in `folder`, or the folder itself where there is none."""
    files = [name for name in paths.names_in(folder) if name.endswith(".gguf") and paths.is_file(folder / name)]
    models = [name for name in files if (part := _PART.search(name)) is None or int(part[1]) == 1]
    if len(models) > 1:
        names = some(models)
        raise ArgumentError(
            f"{folder}: the folder holds several GGUF models: {names}",
            remedy=f"Pass one of them, such as {folder / models[0]}",
            file=str(folder),
            expected="one GGUF model",
            found=names,
        )
    return folder / (models or files or [""])[0]


def require_file(file: Path) -> Path:
    """`file`, which must be there."""
    if paths.is_file(file):
        return file
    raise MissingFileError(
        f"{file}: no such file", remedy=f"Pass a folder that holds {file.name}.", file=str(file), expected=file.name
    )


def read_json(file: Path) -> dict[str, Any]:
    """The object in `file`, which is strict JSON; {} where there is no such file."""
    if not paths.exists(file):
        return {}
    value = _core.read_json(str(file))
    if not isinstance(value, dict):
        found = type(value).__name__
        raise FormatError(
            f"{file}: expected a JSON object; found {found}",
            remedy=_AGAIN,
            file=str(file),
            expected="a JSON object",
            found=found,
        )
    return value


# What generation_config.json says of sampling -> its key in GGUF metadata.
SAMPLING_KEYS = {
    "temperature": "general.sampling.temp",
    "top_k": "general.sampling.top_k",
    "top_p": "general.sampling.top_p",
    "min_p": "general.sampling.min_p",
    "repetition_penalty": "general.sampling.penalty_repeat",
    "suppress_tokens": "tokenizer.ggml.suppress_tokens",
}


@dataclass(frozen=True)
class GenerationConfig:
    """What a checkpoint says about generation. Where it says nothing: plain sampling from the model's distribution.

    Attributes:
        end_tokens: ids that end a text.
        suppressed_tokens: ids that are never generated.
        temperature, top_k, top_p, min_p, repetition_penalty: sampling defaults; temperature 0 is greedy.
    """

    end_tokens: frozenset[int] = frozenset()
    suppressed_tokens: tuple[int, ...] = ()
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    @classmethod
    def of(cls, place: Path, core: _core.Model) -> GenerationConfig:
        """Of a checkpoint that the engine opened at `place`. Raises FormatError."""
        if place.is_dir():
            return cls.read(place).leaving_tokens(place / "generation_config.json", core.vocab_size)
        return cls.from_gguf(place, core.metadata, core.end_tokens).leaving_tokens(place, core.vocab_size)

    @classmethod
    def read(cls, folder: Path) -> GenerationConfig:
        """From generation_config.json; end tokens, where it has none, from config.json."""
        file = folder / "generation_config.json"
        said = {key: value for key, value in read_json(file).items() if value is not None}
        model = read_json(folder / "config.json")
        text_model = model.get("text_config")
        end = said.get("eos_token_id", model.get("eos_token_id"))
        if end is None and isinstance(text_model, dict):
            end = text_model.get("eos_token_id")
        return cls._checked(file, said, end)

    @classmethod
    def from_words(cls, file: Path, words: Mapping[str, Any]) -> GenerationConfig:
        """From what `words` gave. Raises FormatError, which names `file`, for anything else."""
        return cls._checked(file, words, words.get("eos_token_id"))

    def leaving_tokens(self, file: Path, vocab_size: int) -> GenerationConfig:
        """This, of a model with so many tokens. Raises FormatError, which names `file`, where none may be generated."""
        if len({id for id in self.suppressed_tokens if id < vocab_size}) < vocab_size:
            return self
        raise FormatError(
            f"{file}: suppress_tokens: all {vocab_size} tokens of the model; expected some that are left",
            remedy="Take those that an answer needs out of it.",
            file=str(file),
            tensor="suppress_tokens",
            expected=f"at most {vocab_size - 1} tokens",
            found=f"{vocab_size} tokens",
        )

    def words(self) -> dict[str, Any]:
        """The same in the words of generation_config.json."""
        return {
            "eos_token_id": sorted(self.end_tokens),
            "suppress_tokens": list(self.suppressed_tokens),
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
        }

    @classmethod
    def from_gguf(cls, file: Path, metadata: Mapping[str, Any], end_tokens: Sequence[int]) -> GenerationConfig:
        """From the metadata of a GGUF file, and the end tokens that the engine found in it."""
        said = {name: metadata[key] for name, key in SAMPLING_KEYS.items() if key in metadata}
        return cls._checked(file, {name: decimal(value) for name, value in said.items()}, list(end_tokens))

    @classmethod
    def _checked(cls, file: Path, said: Mapping[str, Any], end: object) -> GenerationConfig:
        """From the values of generation_config.json. Raises FormatError, which names `file`."""

        def of(key: str, check: Callable[..., Any], value: object, **limits: Any) -> Any:
            try:
                return check(key, value, **limits)
            except ArgumentError as error:
                raise FormatError(
                    f"{file}: {error.message}",
                    remedy=_AGAIN,
                    file=str(file),
                    tensor=key,
                    expected=error.expected,
                    found=error.found,
                ) from None

        def number(key: str, absent: float, **limits: Any) -> Any:
            return of(key, arguments.real, said.get(key, absent), **limits)

        return cls(
            end_tokens=frozenset(of("eos_token_id", _ids, end)),
            suppressed_tokens=tuple(of("suppress_tokens", _ids, said.get("suppress_tokens"))),
            temperature=0.0 if said.get("do_sample") is False else number("temperature", 1.0, least=0),
            top_k=of("top_k", arguments.integer, said.get("top_k", 0), least=0, most=2**31 - 1),
            top_p=number("top_p", 1.0, least=0, most=1, above=True),
            min_p=number("min_p", 0.0, least=0, most=1),
            repetition_penalty=number("repetition_penalty", 1.0, least=0, above=True),
        )


def _ids(name: str, value: object) -> list[int]:
    if value is None:
        return []
    ids = value if isinstance(value, list) else [value]
    return [arguments.integer(name, each, least=0, most=2**31 - 1) for each in ids]


def decimal(value: Any) -> Any:
    """A float32 of a GGUF file as the decimal that was meant: 0.95, not 0.949999988."""
    if not isinstance(value, float):
        return value
    with np.errstate(over="ignore"):  # a double may be beyond; infinity is then refused as whatever it stands for
        return float(str(np.float32(value)))
