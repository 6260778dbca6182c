"""What a Hugging Face folder holds beside the weights: copied from such a folder, or made of a GGUF file's metadata."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import _core, paths
from ..checkpoints.checkpoint import TEXT_FILES, GenerationConfig, read_json
from ..text.template import ChatTemplate
from .gguf_file import read_metadata
from .hf_config import config_json, generation_config_json
from .hf_tokenizer import tokenizer_config_json, tokenizer_json
from .special_tokens import BASIC
from .text_config import TextConfig

Files = dict[str, bytes]  # name -> content
Adjust = Callable[[dict[str, Any]], dict[str, Any]]  # makes the new config.json's content of the old one's


def files_of_folder(folder: Path, adjust: Adjust) -> Files:
    """The files of a Hugging Face folder that text needs, as they are but for config.json, which also loses its towers.

    Raises:
        ResourceError: a file cannot be read.
        FormatError: config.json is broken.
    """
    config = read_json(folder / "config.json")
    towers = {key: None for key in ("vision_config", "audio_config") if key in config}
    files = {"config.json": _json(adjust(config | towers))}
    for name in TEXT_FILES:
        if name not in files and paths.is_file(folder / name):
            files[name] = _read(folder / name)
    return files


def files_of_gguf(file: Path, model: _core.Model, config: TextConfig, dtype: str, adjust: Adjust) -> Files:
    """The files of a folder for the text model of a GGUF file. Without a tokenizer in it: config.json alone.

    Args:
        file: the model's file, or any part of it.
        model: what the engine made of it.
        dtype: of weights that are not packed, as torch names it, such as "bfloat16".

    Raises:
        UnsupportedError: config.json has no words for the layers' differences, or the tokenizer has no merges.
        FormatError, ResourceError: see `read_metadata`.
    """
    tokenizer = model.gguf_tokenizer()
    find = tokenizer.find if tokenizer else lambda text: None
    ids = {f"{name}_id": id for name in ("bos_token", "pad_token") if (id := find(BASIC[name])) is not None}
    content = config_json(config, dtype, file) | ids
    if tokenizer is None:
        return {"config.json": _json(adjust(content))}
    generation = GenerationConfig.from_gguf(file, model.metadata, model.end_tokens)
    metadata, control = read_metadata(file), tokenizer.control_tokens
    files = {
        "config.json": _json(adjust(content | {"eos_token_id": sorted(generation.end_tokens)})),
        "generation_config.json": _json(ids | generation_config_json(generation)),
        "tokenizer.json": _json(tokenizer_json(metadata, control, file), indent=None),
        "tokenizer_config.json": _json(tokenizer_config_json(metadata, control, config.max_position_embeddings)),
    }
    # One that is no text is left out: chats refuse it, and converting is the way out.
    if isinstance(model.metadata.get("tokenizer.chat_template"), str):
        template = ChatTemplate.of_gguf(model.metadata, file)
        if template is not None:
            files["chat_template.jinja"] = template.source.encode()
    return files


def _json(content: dict[str, Any], indent: int | None = 2) -> bytes:
    return (json.dumps(content, ensure_ascii=False, indent=indent) + "\n").encode()


def _read(file: Path) -> bytes:
    with paths.reading(file):
        return file.read_bytes()
