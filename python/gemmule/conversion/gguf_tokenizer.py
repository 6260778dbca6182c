"""The tokenizer of a Hugging Face folder as keys of GGUF metadata, as llama.cpp's converter writes them.

Source: ggml-org/llama.cpp, conversion/gemma.py (Gemma4Model), gguf-py/gguf/vocab.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .. import _core, paths
from ..checkpoints.checkpoint import read_json
from ..text.template import ChatTemplate
from ..text.tokenizer import more_tokens_than_rows
from .gguf_file import Kind, Metadata, Value
from .special_tokens import special_texts, text_of

# Types of tokens, by the format's own numbers.
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 3, 4, 5, 6

# Special tokens that llama.cpp shows, so that its parser of answers sees them: user-defined there.
_SHOWN = {
    "<|channel>",
    "<channel|>",
    "<|tool_call>",
    "<tool_call|>",
    "<|tool_response>",
    "<tool_response|>",
    '<|"|>',
}

_SCORE = -1000.0  # of every token: merges alone decide

_IDS = {
    "tokenizer.ggml.bos_token_id": "bos_token",
    "tokenizer.ggml.eos_token_id": "eos_token",
    "tokenizer.ggml.unknown_token_id": "unk_token",
    "tokenizer.ggml.padding_token_id": "pad_token",
    "tokenizer.ggml.mask_token_id": "mask_token",
}


def tokenizer_keys(folder: Path, vocab_size: int) -> Metadata:
    """The keys of the tokenizer and chat template in `folder`. Without a tokenizer.json: that there is none, which
    llama.cpp loads too.

    Args:
        vocab_size: rows of the embedding. There must be as many tokens: unused ones fill up what is missing.

    Raises:
        FormatError, UnsupportedError: a file is broken, or is not a Gemma tokenizer's.
        FormatError: more tokens than rows.
    """
    file = folder / "tokenizer.json"
    if not paths.is_file(file):
        return {
            "tokenizer.ggml.model": Value(Kind.STRING, "none"),
            "gemma4.vocab_size": Value(Kind.U32, vocab_size),
        }
    core = _core.Tokenizer.open(str(file))  # refuses what is not whole
    if core.size > vocab_size:
        raise more_tokens_than_rows(file, core.size, vocab_size)
    model = json.loads(file.read_bytes())["model"]  # too large for read_json, and `core` has read it
    config = read_json(folder / "tokenizer_config.json")
    tokens = [core.token(id) or "" for id in range(core.size)]
    unused = range(core.size, vocab_size)
    keys = {
        "tokenizer.ggml.model": Value(Kind.STRING, "gemma4"),
        "tokenizer.ggml.tokens": Value(Kind.STRING, tokens + [f"[PAD{id}]" for id in unused]),
        "tokenizer.ggml.scores": Value(Kind.F32, [_SCORE] * vocab_size),
        "tokenizer.ggml.token_type": Value(
            Kind.I32, _types(tokens, model["vocab"], special_texts(config)) + [_UNUSED for _ in unused]
        ),
        "tokenizer.ggml.merges": Value(Kind.STRING, _merges(model["merges"])),
    }
    for key, name in _IDS.items():
        text = text_of(config, name)
        if text is not None and (id := core.find(text)) is not None:
            keys[key] = Value(Kind.U32, id)
    # A Gemma model reads <bos> first, whatever tokenizer_config.json says.
    flags = {"add_bos_token": True, "add_sep_token": False, "add_eos_token": False, "add_space_prefix": False}
    keys |= {f"tokenizer.ggml.{name}": Value(Kind.BOOL, flag) for name, flag in flags.items()}
    template = ChatTemplate.find(folder)
    if template is not None:
        keys["tokenizer.chat_template"] = Value(Kind.STRING, template.source)
    return keys


def _types(tokens: list[str], vocabulary: dict[str, int], special: set[str]) -> list[int]:
    def type_of(token: str) -> int:
        if token in _SHOWN:
            return _USER_DEFINED
        if re.fullmatch("<0x[0-9A-Fa-f]{2}>", token):
            return _BYTE
        if token in special:
            return _CONTROL
        return _NORMAL if token in vocabulary else _USER_DEFINED

    return [type_of(token) for token in tokens]


def _merges(merges: list[Any]) -> list[str]:
    """Each as "left right". Those with a space in a token are left out: texts hold none when they are merged."""
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in merges)
    return [f"{left} {right}" for left, right in pairs if " " not in left + right]
