"""A tokenizer.json and tokenizer_config.json of the tokenizer in GGUF metadata."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import UnsupportedError
from .gguf_file import Value
from .special_tokens import BASIC, NAMED

_USER_DEFINED = 4  # a type of tokens, by the format's own number
_HTML_TAG = "</s>"  # some files mark it, as other models' end token; Gemma's tokenizer.json never adds it

# What Gemma 4's tokenizer.json says beside the vocabulary, the merges and the added tokens.
_NORMALIZER = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
_PRE_TOKENIZER = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
_DECODER = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ],
}
_MODEL = {
    "type": "BPE",
    "dropout": None,
    "unk_token": BASIC["unk_token"],
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "fuse_unk": True,
    "byte_fallback": True,
    "ignore_merges": False,
}


def tokenizer_json(metadata: Mapping[str, Value], control_tokens: Collection[int], file: Path) -> dict[str, Any]:
    """The content of a tokenizer.json that gives the ids which gemmule gives for the GGUF file itself.

    Args:
        metadata: of the file; it has a tokenizer, which the engine has read without an error.
        control_tokens: their ids, as the engine found them.
        file: the GGUF file, for messages.

    Raises:
        UnsupportedError: a tokenizer without merges.
    """
    if "tokenizer.ggml.merges" not in metadata:
        raise UnsupportedError(
            f"{file}: a tokenizer without merges cannot be written as a tokenizer.json",
            remedy="Convert the model's Hugging Face folder, or another GGUF file of it.",
            file=str(file),
            tensor="tokenizer.ggml.merges",
        )
    tokens: list[str] = metadata["tokenizer.ggml.tokens"].data
    types: list[int] = metadata["tokenizer.ggml.token_type"].data
    control = set(control_tokens)
    added = [
        _added(id, token, special=id in control)
        for id, (token, type) in enumerate(zip(tokens, types, strict=True))
        if id in control or (type == _USER_DEFINED and token != _HTML_TAG)
    ]
    vocabulary = {token: id for id, token in enumerate(tokens)}
    model = _MODEL | {"vocab": vocabulary, "merges": _merges(metadata["tokenizer.ggml.merges"].data, vocabulary)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": _NORMALIZER,
        "pre_tokenizer": _PRE_TOKENIZER,
        "post_processor": _post_processor(vocabulary),
        "decoder": _DECODER,
        "model": model,
    }


def tokenizer_config_json(
    metadata: Mapping[str, Value], control_tokens: Collection[int], max_length: int
) -> dict[str, Any]:
    """The content of the tokenizer_config.json that goes with it. max_length: tokens that the model can read."""
    tokens: list[str] = metadata["tokenizer.ggml.tokens"].data
    control = {tokens[id] for id in control_tokens}
    named = {name: text for name, text in NAMED.items() if text in control}
    unnamed = sorted(control - set(named.values()))
    return {
        "tokenizer_class": "GemmaTokenizer",
        "add_bos_token": True,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
        "padding_side": "left",
        **named,
        **({"extra_special_tokens": unnamed} if unnamed else {}),
    }


def _added(id: int, token: str, *, special: bool) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": id, "content": token, **flags, "special": special}


def _merges(merges: list[str], vocabulary: Mapping[str, int]) -> list[list[str]]:
    """As pairs. Some files have merges whose result is no token: they never count, and readers refuse them."""
    pairs = []
    for merge in merges:
        space = merge.index(" ", 1)  # a token may begin with one
        left, right = merge[:space], merge[space + 1 :]
        if left + right in vocabulary:
            pairs.append([left, right])
    return pairs


def _post_processor(vocabulary: Mapping[str, int]) -> dict[str, Any] | None:
    """Puts <bos> before a text, and before each text of a pair."""
    bos = BASIC["bos_token"]
    if bos not in vocabulary:
        return None
    first: list[dict[str, Any]] = [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    second: list[dict[str, Any]] = [
        {"SpecialToken": {"id": bos, "type_id": 0}},
        {"Sequence": {"id": "B", "type_id": 0}},
    ]
    return {
        "type": "TemplateProcessing",
        "single": first,
        "pair": first + second,
        "special_tokens": {bos: {"id": bos, "ids": [vocabulary[bos]], "tokens": [bos]}},
    }
