"""Gemma 4's special tokens: their texts, and their names in tokenizer_config.json (google/gemma-4-E2B-it)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# Of every Gemma: name -> text.
BASIC = {
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}

NAMED = BASIC | {
    "image_token": "<|image|>",
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
    "video_token": "<|video|>",
    "sot_token": "<|turn>",
    "eot_token": "<turn|>",
    "think_token": "<|think|>",
    "soc_token": "<|channel>",
    "eoc_token": "<channel|>",
    "std_token": "<|tool>",
    "etd_token": "<tool|>",
    "stc_token": "<|tool_call>",
    "etc_token": "<tool_call|>",
    "str_token": "<|tool_response>",
    "etr_token": "<tool_response|>",
    "escape_token": '<|"|>',
}


def text_of(config: Mapping[str, Any], name: str) -> str | None:
    """The text of a basic token: as tokenizer_config.json says, else as Gemma spells it."""
    return _text(config.get(name, BASIC[name]))


def special_texts(config: Mapping[str, Any]) -> set[str]:
    """Texts of all special tokens: Gemma's, and those that tokenizer_config.json names."""
    return {text for said in _said(config) if (text := _text(said)) is not None} | set(NAMED.values())


def _said(config: Mapping[str, Any]) -> Iterator[object]:
    for key, value in config.items():
        if key.endswith("_token"):
            yield value
        elif key.endswith("_special_tokens"):  # a list, or a table of names
            yield from value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _text(token: object) -> str | None:
    """A token is written as its text, or as an object that holds it."""
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None
