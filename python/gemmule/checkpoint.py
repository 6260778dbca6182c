"""Where a checkpoint lies, and what its configuration files say about text: end tokens and sampling defaults.

The model's own configuration is read in C++.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import arguments
from .errors import ArgumentError, FormatError, MissingFileError, ResourceError, UnsupportedError

DEMO = "fairy"

_AGAIN = "Download the file again."


def find(path: str | os.PathLike[str]) -> Path:
    """The folder that `path` means.

    The string "fairy" is always the bundled demo; a folder of that name is "./fairy". Raises MissingFileError,
    UnsupportedError for a file of another format, ArgumentError for something that is no path.
    """
    if path == DEMO:
        return Path(__file__).parent / "data" / DEMO
    try:
        text = os.fspath(path)
    except TypeError:
        text = ""
    if not isinstance(text, str) or not text or "\0" in text:
        raise ArgumentError(f"the model is {path!r}; expected a folder's path or {DEMO!r}", found=repr(path))
    folder = Path(text).expanduser()
    try:
        is_folder, is_file = folder.is_dir(), folder.is_file()
    except OSError as error:  # too long a name, or no right to look
        raise MissingFileError(f"{text}: {error.strerror}", remedy="Check the path.", file=text) from None
    if is_folder:
        return folder
    if folder.suffix == ".gguf":
        raise UnsupportedError(
            f"{folder}: GGUF files are not read",
            remedy="Load the Hugging Face folder of the same model (config.json and safetensors files).",
            file=str(folder),
        )
    if is_file:
        raise UnsupportedError(
            f"{folder}: a single file is not a checkpoint",
            remedy=f"Pass the folder: {folder.parent}",
            file=str(folder),
        )
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", text):
        remedy = f"If it is a hub name, download it first: hf download {text} --local-dir {folder.name}"
    else:
        remedy = f'Check the path, or load "{DEMO}", the bundled demo.'
    raise MissingFileError(f"{text}: no such folder", remedy=remedy, file=text)


def require_file(file: Path) -> Path:
    """`file`, which must be there."""
    if file.is_file():
        return file
    raise MissingFileError(
        f"{file}: no such file", remedy=f"Pass a folder that holds {file.name}.", file=str(file), expected=file.name
    )


def read_json(file: Path) -> dict[str, Any]:
    """The object in `file`; {} where there is no such file."""
    try:
        value = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ResourceError(f"{file}: {error.strerror}", remedy="Make the file readable.", file=str(file)) from None
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{file}: not JSON: {error}", remedy=_AGAIN, file=str(file), expected="JSON") from None
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
    def read(cls, folder: Path) -> GenerationConfig:
        """From generation_config.json; end tokens, where it has none, from config.json."""
        file = folder / "generation_config.json"
        said = {key: value for key, value in read_json(file).items() if value is not None}
        model = read_json(folder / "config.json")
        text_model = model.get("text_config")
        end = said.get("eos_token_id", model.get("eos_token_id"))
        if end is None and isinstance(text_model, dict):
            end = text_model.get("eos_token_id")
        try:
            greedy = said.get("do_sample") is False
            return cls(
                end_tokens=frozenset(_ids("eos_token_id", end)),
                suppressed_tokens=tuple(_ids("suppress_tokens", said.get("suppress_tokens"))),
                temperature=0.0 if greedy else arguments.real("temperature", said.get("temperature", 1.0), least=0),
                top_k=arguments.integer("top_k", said.get("top_k", 0), least=0),
                top_p=arguments.real("top_p", said.get("top_p", 1.0), least=0, most=1, above=True),
                min_p=arguments.real("min_p", said.get("min_p", 0.0), least=0, most=1),
                repetition_penalty=arguments.real(
                    "repetition_penalty", said.get("repetition_penalty", 1.0), least=0, above=True
                ),
            )
        except ArgumentError as error:
            raise FormatError(
                f"{file}: {error.message}", remedy=_AGAIN, file=str(file), expected=error.expected, found=error.found
            ) from None


def _ids(name: str, value: object) -> list[int]:
    if value is None:
        return []
    return [arguments.integer(name, each, least=0) for each in (value if isinstance(value, list) else [value])]
