"""Models in GGUF whose metadata, tensors or tokenizer lie: the fixture gguf_dense with one thing changed."""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

import gemmule
import hostile_gguf
from gemmule.errors import FormatError, GemmuleError, UnsupportedError
from golden_cases import FIXTURES
from hostile.case import Case
from hostile_gguf import (
    ARRAY,
    BOOL,
    F32,
    F64,
    I32,
    I64,
    OTHER_BLOCKS,
    STRING,
    U32,
    U64,
    Array,
    Gguf,
)

FILE = "model.gguf"
ROWS = 640  # of the vocabulary
NAN, INFINITY = float("nan"), float("inf")

# Configs that lie: changed keys, the key that is blamed, and what the message says.
CONFIG_LIES = {
    "no architecture": ({"general__architecture": None}, "general.architecture", "missing"),
    "an architecture that is a number": ({"general__architecture": (U32, 4)}, "general.architecture", "wrong type"),
    "no layers": ({"gemma4__block_count": (U32, 0)}, "gemma4.block_count", "1 to 1000"),
    "layers beyond all memory": ({"gemma4__block_count": (U32, 2**32 - 1)}, "gemma4.block_count", "1 to 1000"),
    "negative layers": ({"gemma4__block_count": (I32, -1)}, "gemma4.block_count", "out of range"),
    "layers of another number": (
        {"gemma4__block_count": (U32, 7)},
        "gemma4.attention.sliding_window_pattern",
        "array of 7",
    ),
    "layers as text": ({"gemma4__block_count": (STRING, "6")}, "gemma4.block_count", "wrong type.*string"),
    "layers as a float": ({"gemma4__block_count": (F32, 6.0)}, "gemma4.block_count", "wrong type.*f32"),
    "no layers' number": ({"gemma4__block_count": None}, "gemma4.block_count", "missing"),
    "no width": ({"gemma4__embedding_length": None}, "gemma4.embedding_length", "missing"),
    "another width": ({"gemma4__embedding_length": (U32, 96)}, "token_embd.weight", "96.*64"),
    "no context": ({"gemma4__context_length": (U32, 0)}, "gemma4.context_length", "out of range"),
    "no pattern": (
        {"gemma4__attention__sliding_window_pattern": None},
        "gemma4.attention.sliding_window_pattern",
        "missing",
    ),
    "a pattern that is a number": (
        {"gemma4__attention__sliding_window_pattern": (U32, 6)},
        "gemma4.attention.sliding_window_pattern",
        "wrong number of layers.*u32",
    ),
    "a pattern of numbers": (
        {"gemma4__attention__sliding_window_pattern": (ARRAY, Array(I32, [1] * 6))},
        "gemma4.attention.sliding_window_pattern[0]",
        "wrong type.*flag",
    ),
    "widths of five layers": (
        {"gemma4__feed_forward_length": (ARRAY, Array(I32, [128] * 5))},
        "gemma4.feed_forward_length",
        "array of 6.*array of 5 i32",
    ),
    "a layer of no width": (
        {"gemma4__feed_forward_length": (ARRAY, Array(I32, [128] * 5 + [0]))},
        "gemma4.feed_forward_length[5]",
        "out of range",
    ),
    "a layer of another width": (
        {"gemma4__feed_forward_length": (ARRAY, Array(I32, [128] * 5 + [160]))},
        "blk.5.ffn_gate.weight",
        "wrong kind.*160.*128",
    ),
    "heads that do not divide": (
        {"gemma4__attention__head_count_kv": (U32, 3)},
        "general.architecture",
        "do not divide among",
    ),
    "heads that differ within a type": (
        {"gemma4__attention__head_count_kv": (ARRAY, Array(I32, [2, 1, 1, 2, 2, 1]))},
        "general.architecture",
        "layer 1: its heads differ",
    ),
    "no heads": ({"gemma4__attention__head_count": (U32, 0)}, "gemma4.attention.head_count", "out of range"),
    "odd heads": (
        {
            "gemma4__attention__key_length": (U32, 63),
            "gemma4__attention__value_length": None,
            "gemma4__rope__dimension_count": None,
        },
        "general.architecture",
        "rotary positions need pairs",
    ),
    "all layers shared": (
        {"gemma4__attention__shared_kv_layers": (U32, 6)},
        "gemma4.attention.shared_kv_layers",
        "out of range",
    ),
    "shared layers without an owner": (
        {"gemma4__attention__shared_kv_layers": (U32, 4)},
        "general.architecture",
        "layer 2 shares keys",
    ),
    "no epsilon": (
        {"gemma4__attention__layer_norm_rms_epsilon": (F32, 0.0)},
        "gemma4.attention.layer_norm_rms_epsilon",
        "out of range",
    ),
    "a softcap that is no number": (
        {"gemma4__final_logit_softcapping": (F32, float("nan"))},
        "gemma4.final_logit_softcapping",
        "out of range",
    ),
    "a base that is infinite": (
        {"gemma4__rope__freq_base": (F32, float("inf"))},
        "gemma4.rope.freq_base",
        "out of range",
    ),
    "no base of sliding layers": ({"gemma4__rope__freq_base_swa": None}, "gemma4.rope.freq_base_swa", "missing"),
    "per-layer inputs without their table": (
        {"gemma4__embedding_length_per_layer_input": (U32, 32)},
        "per_layer_token_embd.weight",
        "no tensor of this name",
    ),
    "a token too many": (
        {"tokenizer__ggml__tokens": (ARRAY, Array(STRING, ["x"] * 641))},
        "tokenizer.ggml.tokens",
        "not as many.*640.*641",
    ),
    "tokens that are numbers": (
        {"tokenizer__ggml__tokens": (ARRAY, Array(I32, [1] * 640))},
        "tokenizer.ggml.tokens",
        "array of strings",
    ),
    "a negative end token": (
        {"tokenizer__ggml__eos_token_id": (I32, -1)},
        "tokenizer.ggml.eos_token_id",
        "out of range",
    ),
    "padding outside of the vocabulary": (
        {"tokenizer__ggml__padding_token_id": (U32, 640)},
        "tokenizer.ggml.padding_token_id",
        "0 to 639",
    ),
    "more experts chosen than there are": (
        {"gemma4__expert_count": (U32, 4), "gemma4__expert_used_count": (U32, 5)},
        "gemma4.expert_used_count",
        "1 to 4",
    ),
    "layers that are NaN": ({"gemma4__block_count": (F32, NAN)}, "gemma4.block_count", "wrong type"),
    "layers beyond int64": ({"gemma4__block_count": (U64, 1 << 63)}, "gemma4.block_count", "out of range"),
    "a context beyond all": ({"gemma4__context_length": (U64, 1 << 62)}, "gemma4.context_length", "out of range"),
    "no window": ({"gemma4__attention__sliding_window": (U32, 0)}, "gemma4.attention.sliding_window", "out of range"),
    "a negative window": (
        {"gemma4__attention__sliding_window": (I64, -512)},
        "gemma4.attention.sliding_window",
        "out of range",
    ),
    "a width beyond all": ({"gemma4__embedding_length": (U32, 1 << 31)}, "gemma4.embedding_length", "out of range"),
    "heads of no elements": ({"gemma4__attention__key_length": (U32, 0)}, "gemma4.attention.key_length", "range"),
    "heads beyond all": ({"gemma4__attention__key_length": (U32, 1 << 20)}, "gemma4.attention.key_length", "range"),
    "an epsilon that is NaN": (
        {"gemma4__attention__layer_norm_rms_epsilon": (F32, NAN)},
        "gemma4.attention.layer_norm_rms_epsilon",
        "out of range",
    ),
    "an epsilon below zero": (
        {"gemma4__attention__layer_norm_rms_epsilon": (F32, -1e-6)},
        "gemma4.attention.layer_norm_rms_epsilon",
        "out of range",
    ),
    "an epsilon that float32 does not hold": (
        {"gemma4__attention__layer_norm_rms_epsilon": (F64, 1e300)},
        "gemma4.attention.layer_norm_rms_epsilon",
        "out of range",
    ),
    "an epsilon in words": (
        {"gemma4__attention__layer_norm_rms_epsilon": (STRING, "1e-6")},
        "gemma4.attention.layer_norm_rms_epsilon",
        "wrong type.*string",
    ),
    "an epsilon that is true": (
        {"gemma4__attention__layer_norm_rms_epsilon": (BOOL, True)},
        "gemma4.attention.layer_norm_rms_epsilon",
        "wrong type.*bool",
    ),
    "an epsilon in an array": (
        {"gemma4__attention__layer_norm_rms_epsilon": (ARRAY, Array(F32, [1e-6]))},
        "gemma4.attention.layer_norm_rms_epsilon",
        "wrong type.*array",
    ),
    "an epsilon of integers": (
        {"gemma4__attention__layer_norm_rms_epsilon": (U64, 0)},
        "gemma4.attention.layer_norm_rms_epsilon",
        "out of range.*u64 0",
    ),
    "a softcap in words": (
        {"gemma4__final_logit_softcapping": (STRING, "30")},
        "gemma4.final_logit_softcapping",
        "wrong type",
    ),
    "a negative softcap": (
        {"gemma4__final_logit_softcapping": (F32, -30.0)},
        "gemma4.final_logit_softcapping",
        "out of range",
    ),
    "an infinite softcap": (
        {"gemma4__final_logit_softcapping": (F32, INFINITY)},
        "gemma4.final_logit_softcapping",
        "out of range",
    ),
    "a base of zero": ({"gemma4__rope__freq_base": (F32, 0.0)}, "gemma4.rope.freq_base", "out of range"),
    "a base that is NaN": ({"gemma4__rope__freq_base_swa": (F32, NAN)}, "gemma4.rope.freq_base_swa", "out of range"),
    "experts beyond all": ({"gemma4__expert_count": (U32, 1 << 20)}, "gemma4.expert_count", "out of range"),
    "experts of which none is chosen": (
        {"gemma4__expert_count": (U32, 4), "gemma4__expert_used_count": (U32, 0)},
        "gemma4.expert_used_count",
        "1 to 4",
    ),
    "a temperature that is NaN": ({"general__sampling__temp": (F32, NAN)}, "temperature", "temperature is nan"),
    "a top_p over one": ({"general__sampling__top_p": (F32, 2.0)}, "top_p", "at most 1"),
    "a negative top_k": ({"general__sampling__top_k": (I32, -1)}, "top_k", "at least 0|0.."),
    "a top_k in words": ({"general__sampling__top_k": (STRING, "64")}, "top_k", "integer"),
    "experts that are not there": (
        {
            "gemma4__expert_count": (U32, 4),
            "gemma4__expert_used_count": (U32, 2),
            "gemma4__expert_feed_forward_length": (U32, 32),
        },
        "blk.0.ffn_gate_inp.scale",
        "missing",
    ),
}

# Configs that gemmule does not run, likewise.
CONFIGS_REFUSED = {
    name: ({"general__architecture": (STRING, name)}, "general.architecture", f'"{name}"')
    for name in (
        "llama",
        "gemma",
        "gemma2",
        "gemma3n",
        "gemma-embedding",
        "qwen3",
        "Gemma4",
        "gemma4_unified",
    )
} | {
    "a projector": ({"general__architecture": (STRING, "clip")}, "general.architecture", '"clip"'),
    "a drafter": ({"general__architecture": (STRING, "gemma4-assistant")}, "general.architecture", "assistant"),
    "stretched positions": (
        {"gemma4__rope__scaling__type": (STRING, "yarn")},
        "gemma4.rope.scaling.type",
        "stretched.*yarn",
    ),
    "values of another size than keys": (
        {"gemma4__attention__value_length": (U32, 32)},
        "gemma4.attention.value_length",
        "differ in size",
    ),
    "positions over a part of the head": (
        {"gemma4__rope__dimension_count": (U32, 16)},
        "gemma4.rope.dimension_count",
        "differ in size",
    ),
    "other query heads in one layer": (
        {"gemma4__attention__head_count": (ARRAY, Array(I32, [4] * 5 + [8]))},
        "gemma4.attention.head_count",
        "different numbers of query heads",
    ),
}

# What is wrong with a tensor of the model: its name, what becomes of it, and what the message says.
TENSOR_LIES = {
    "a matrix on its side": ("blk.0.attn_q.weight", lambda t: replace(t, dims=t.dims[::-1]), "wrong kind"),
    "a matrix in one row": ("blk.0.attn_q.weight", lambda t: replace(t, dims=[t.dims[0] * t.dims[1]]), "wrong kind"),
    "a matrix in three dimensions": ("blk.0.ffn_up.weight", lambda t: replace(t, dims=[*t.dims, 1]), "wrong kind"),
    "half a matrix": (
        "blk.1.ffn_down.weight",
        lambda t: replace(t, dims=[t.dims[0] // 2, t.dims[1]], data=t.data[: len(t.data) // 2]),
        "wrong kind",
    ),
    "a matrix of integers": (
        "blk.0.attn_k.weight",
        lambda t: replace(t, type=24, data=t.data[: len(t.data) // 2]),
        "floats or blocks.*I8",
    ),
    "a norm with NaN": (
        "output_norm.weight",
        lambda t: replace(t, data=t.data[:-4] + np.float32("nan").tobytes()),
        "not a finite number.*element 63",
    ),
    "a norm with infinity": (
        "blk.1.attn_q_norm.weight",
        lambda t: replace(t, data=np.float32("-inf").tobytes() + t.data[4:]),
        "not a finite number.*-inf as element 0",
    ),
    "a table without dimensions": (
        "token_embd.weight",
        lambda t: replace(t, dims=[], data=t.data[:2]),
        "no table of embeddings",
    ),
    "a table of one row": (
        "token_embd.weight",
        lambda t: replace(t, dims=[t.dims[0]], data=t.data[: 2 * t.dims[0]]),
        "no table of embeddings",
    ),
    "a norm of blocks": (
        "blk.0.attn_norm.weight",
        lambda t: replace(t, type=8, data=bytes(68)),
        "BF16, F16 or F32.*Q8_0",
    ),
    "a norm of another width": (
        "output_norm.weight",
        lambda t: replace(t, dims=[32], data=t.data[:128]),
        r"\[64\].*\[32\]",
    ),
    "a norm in two dimensions": ("output_norm.weight", lambda t: replace(t, dims=[8, 8]), r"\[64\].*\[8, 8\]"),
    "two scales of a layer": (
        "blk.0.layer_output_scale.weight",
        lambda t: replace(t, dims=[2], data=t.data * 2),
        "one BF16, F16 or F32 value",
    ),
    "a scale that is no number": (
        "blk.0.layer_output_scale.weight",
        lambda t: replace(t, data=np.float32("nan").tobytes()),
        "not a finite number",
    ),
}

# Tokenizers in the metadata: changed keys, and a pattern of the key or token that is blamed.
TOKENIZER_LIES = {
    "types in words": ({"token_type": (ARRAY, Array(STRING, ["1"] * ROWS))}, r".*token_type", "wrong type"),
    "types that are floats": ({"token_type": (ARRAY, Array(F32, [1.0] * ROWS))}, r".*token_type", "wrong type"),
    "a type beyond int64": (
        {"token_type": (ARRAY, Array(U64, [1] * (ROWS - 1) + [1 << 63]))},
        r".*token_type",
        "out of range.*9223372036854775808",
    ),
    "a type that wraps to one": (
        {"token_type": (ARRAY, Array(U64, [1] * (ROWS - 1) + [(1 << 32) + 1]))},
        r".*token_type\[639\]",
        "unknown type of token.*4294967297",
    ),
    "a type of zero": (
        {"token_type": (ARRAY, Array(I32, [0] + [1] * (ROWS - 1)))},
        r".*token_type\[0\]",
        "unknown type",
    ),
    "no type for any token": ({"token_type": (ARRAY, Array(I32, []))}, r".*token_type", "does not fit the tokens"),
    "a type too few": ({"token_type": (ARRAY, Array(I32, [1] * (ROWS - 1)))}, r".*token_type", "does not fit"),
    "a single type": ({"token_type": (I32, 1)}, r".*token_type", "wrong type"),
    "no types": ({"token_type": None}, r".*token_type", "missing"),
    "no model": ({"model": None}, r".*model", "missing"),
    "a model that is a number": ({"model": (U32, 1)}, r".*model", "wrong type"),
    "no merges": ({"merges": None}, r".*merges", "missing"),
    "merges that are numbers": ({"merges": (ARRAY, Array(U32, [1, 2]))}, r".*merges", "array of strings"),
    "a merge that is one string": ({"merges": (STRING, "a b")}, r".*merges", "array of strings"),
    "a merge without a space": ({"merges": (ARRAY, Array(STRING, ["ab"]))}, r".*merges\[0\]", "not a merge"),
    "an empty merge": ({"merges": (ARRAY, Array(STRING, [""]))}, r".*merges\[0\]", "not a merge"),
    "a merge of unknown tokens": ({"merges": (ARRAY, Array(STRING, ["zzz yyy"]))}, r"merge 0", "zzz"),
    "all tokens alike": ({"tokens": (ARRAY, Array(STRING, ["x"] * ROWS))}, r".*x.*", "same text"),
    "tokens without text": ({"tokens": (ARRAY, Array(STRING, [""] * ROWS))}, r".*", "no text"),
    "tokens that are not UTF-8": (
        {"tokens": (ARRAY, Array(STRING, [b"\1\0\0\0\0\0\0\0\xff"] * ROWS))},
        r".*xff.*",
        "not UTF-8",
    ),
    "no scores": ({"model": (STRING, "llama"), "scores": None}, r".*scores", "missing"),
    "a score that is NaN": (
        {"model": (STRING, "llama"), "scores": (ARRAY, Array(F32, [0.0] * (ROWS - 1) + [NAN]))},
        r".*scores\[639\]",
        "not a number",
    ),
    "a score too few": (
        {"model": (STRING, "llama"), "scores": (ARRAY, Array(F32, [0.0] * (ROWS - 1)))},
        r".*scores",
        "does not fit",
    ),
    "a space in front that is a number": ({"add_space_prefix": (U32, 0)}, r".*add_space_prefix", "wrong type"),
}
TOKENIZERS_REFUSED = {
    "another model": ({"model": (STRING, "bert")}, r".*model", "not Gemma's.*bert"),
    "a space before every text": ({"add_space_prefix": (BOOL, True)}, r".*add_space_prefix", "space before every"),
    "tokens without bytes": (
        {"tokens": (ARRAY, Array(STRING, [f"x{i}" for i in range(ROWS)])), "merges": (ARRAY, Array(STRING, []))},
        r".*",
        "<0x00>",
    ),
}

# Chat templates that are no text.
TEMPLATES = {
    "a number": (U32, 7),
    "a float": (F64, NAN),
    "a flag": (BOOL, False),
    "several": (ARRAY, Array(STRING, ["{{ messages }}"])),
    "none": (ARRAY, Array(STRING, [])),
}

# Names of tensors that no model has: numbers out of range, odd forms. They are unknown, and nothing else.
ODD_NAMES = (
    "blk.99999999999999999999.attn_q.weight",
    "blk.-1.attn_q.weight",
    "blk.1000000000.attn_q.weight",
    "blk.18446744073709551616.attn_k.weight",
    "blk.0x0.attn_q.weight",
    "blk..attn_q.weight",
    "blk.",
    "blk",
    ".",
    "layers.0.self_attn.q_proj.weight",
    "%s%n%x",
    "../../etc/passwd",
)


@cache
def dense() -> Gguf:
    return hostile_gguf.read(FIXTURES / "gguf_dense" / "model-F16.gguf")


def with_tokenizer(changes: dict) -> Gguf:
    return dense().with_keys(**{f"tokenizer__ggml__{key}": value for key, value in changes.items()})


def with_tensor(name: str, change) -> Gguf:
    return replace(dense(), tensors=[change(t) if t.name == name else t for t in dense().tensors])


def with_fewer_rows(name: str) -> Gguf:
    """E2B's, with a table of one row less."""
    file = hostile_gguf.read(FIXTURES / "gguf_e2b" / "model-Q4_0.gguf")
    (table,) = (t for t in file.tensors if t.name == name)
    cols, rows = table.dims
    cut = replace(table, dims=[cols, rows - 1], data=table.data[: len(table.data) // rows * (rows - 1)])
    return replace(file, tensors=[cut if t.name == name else t for t in file.tensors])


def tokenizer_of(path: Path) -> gemmule.Tokenizer | None:
    return gemmule.load(path).tokenizer


def cases() -> Iterator[Case]:
    def case(name: str, file: Gguf, match: str, error: type[GemmuleError], tensor: str, open=gemmule.load) -> Case:
        return Case(name, lambda folder: file.write(folder / FILE), match, error, FILE, tensor, open)

    for table, error in ((CONFIG_LIES, FormatError), (CONFIGS_REFUSED, UnsupportedError)):
        for name, (changes, key, match) in table.items():
            yield case(name, dense().with_keys(**changes), match, error, re.escape(key))
    for missing in ("token_embd.weight", "output_norm.weight", "blk.0.attn_v.weight", "blk.2.attn_k.weight"):
        yield case(
            f"without {missing}", dense().without(missing), "no tensor of this name", FormatError, re.escape(missing)
        )
    for name, (tensor, change, match) in TENSOR_LIES.items():
        yield case(name, with_tensor(tensor, change), match, FormatError, re.escape(tensor))
    joint = hostile_gguf.tensor("blk.0.attn_qkv.weight")
    yield case(
        "queries, keys and values in one matrix",
        replace(dense(), tensors=[*dense().tensors, joint]),
        "in one matrix are not run",
        UnsupportedError,
        re.escape(joint.name),
    )
    yield case(
        "a token without a per-layer embedding",
        with_fewer_rows("per_layer_token_embd.weight"),
        "without a per-layer embedding.*640.*639",
        FormatError,
        "per_layer_token_embd.weight",
    )
    for number, kind in OTHER_BLOCKS.items():
        file = with_tensor("blk.1.attn_q.weight", lambda t, number=number: replace(t, type=number))
        yield case(f"a matrix in {kind}", file, kind, UnsupportedError, "blk.1.attn_q.weight")
    for table, error in ((TOKENIZER_LIES, FormatError), (TOKENIZERS_REFUSED, UnsupportedError)):
        for name, (changes, key, match) in table.items():
            yield case(f"tokenizer: {name}", with_tokenizer(changes), match, error, key, tokenizer_of)
    merges = dense().keys["tokenizer.ggml.merges"][1].items
    twice = with_tokenizer({"merges": (ARRAY, Array(STRING, [*merges, merges[7]]))})
    for name, value in TEMPLATES.items():
        file = dense().with_keys(tokenizer__chat_template=value)
        key = "tokenizer.chat_template"
        yield case(f"chat templates: {name}", file, "expected a string", FormatError, key, tokenizer_of)
    yield case("tokenizer: a merge twice", twice, "twice", FormatError, "merge .*", tokenizer_of)
