"""Configs that lie: NaN, huge and negative numbers, wrong types, fields that contradict each other or the weights; and
what gemmule does not run."""

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from checkpoints import FULL, SLIDING, make_checkpoint
from gemmule.errors import UnsupportedError
from golden_cases import FIXTURES
from hostile import tensors, write_folder
from hostile.case import Case

FILE = "config.json"
GENERATION = "generation_config.json"

# Each wrong field of the text config: what it is set to, and what the message says.
WRONG_FIELDS = {
    "vocab_size": [0, -1, 1 << 25, 1 << 63, "640", 640.0, True, None],
    "hidden_size": [0, (1 << 20) + 1],
    "num_hidden_layers": [0, 8, 1001],
    "num_attention_heads": [0, 1 << 13],
    "num_key_value_heads": [0, 3],
    "head_dim": [0, 33, 1 << 15],
    "global_head_dim": [0, 63, None, ""],
    "intermediate_size": [0, 1 << 21],
    "sliding_window": [0, 1 << 25, None],
    "max_position_embeddings": [0, 1 << 25],
    "hidden_size_per_layer_input": [-1, 1 << 21],
    "vocab_size_per_layer_input": [0, 639],
    "num_kv_shared_layers": [-1, 4, 7],  # 4: no full layer is left to share from
    "rms_norm_eps": [0, 0.0, -1e-6, 1e-60, 1e60, "1e-6"],
    "final_logit_softcapping": [0, -30.0, 1e60],
    "layer_types": [[], [FULL], [FULL] * 8, [FULL] * 6 + ["linear_attention"], [FULL] * 6 + [1], "full_attention"],
    "attention_bias": [0, None],
    "attention_k_eq_v": ["false"],
    "enable_moe_block": [1],
    "use_double_wide_mlp": [None],
    "tie_word_embeddings": [1],
    "hidden_activation": [None],
    "use_bidirectional_attention": ["audio", True],
    "model_type": ["gemma4_unified_text", "gemma4_vision", 4],
    "per_layer_config": [
        [],
        {"7": {"head_dim": 64}},
        {"-1": {"head_dim": 64}},
        {"": {"head_dim": 64}},
        {"3x": {"head_dim": 64}},
        {"3": 64},
        {"3": {"head_dim": 0}},
        {"3": {"num_key_value_heads": None}},
        {"3": {"head_dim": 64}, "03": {"head_dim": 64}},
        {"3": {"head_dim": 64}},  # layer 6 is full too
        {"3": {"num_key_value_heads": 2}},
    ],
    "rope_parameters": [
        {},
        [],
        {FULL: {"rope_theta": 1e6}},
        {FULL: None, SLIDING: {"rope_theta": 1e4}},
        {FULL: {"rope_type": "default"}, SLIDING: {"rope_theta": 1e4}},
        {FULL: {"rope_theta": 0}, SLIDING: {"rope_theta": 1e4}},
        {FULL: {"rope_theta": 1e6}, SLIDING: {"rope_theta": "1e4"}},
        *(
            {FULL: {"rope_theta": 1e6, "rope_type": "proportional"} | wrong, SLIDING: {"rope_theta": 1e4}}
            for wrong in [
                {"partial_rotary_factor": 0},
                {"partial_rotary_factor": 1.5},
                {"partial_rotary_factor": None},
                {"factor": 0.0},
                {"factor": -1},
                {"rope_type": None},
            ]
        ),
    ],
}

# Features that no code runs yet: where they stand, what they are, and what the message says.
UNSUPPORTED = {
    "biases": ("text", {"attention_bias": True}, "attention_bias"),
    "activation": ("text", {"hidden_activation": "silu"}, 'hidden_activation.*"silu"'),
    "both directions": ("text", {"use_bidirectional_attention": "all"}, "both directions"),
    "a field per layer": ("text", {"per_layer_config": {"3": {"sliding_window": 4}}}, '"sliding_window"'),
    "another rope": (
        "text",
        {
            "rope_parameters": {
                FULL: {"rope_theta": 1e6, "rope_type": "yarn", "factor": 4.0},
                SLIDING: {"rope_theta": 1e4},
            }
        },
        '"yarn"',
    ),
    "gptq in the text config": ("text", {"quantization_config": {"quant_method": "gptq"}}, "gptq"),
}
UNSUPPORTED |= {
    name: ("root", {"model_type": name}, f'"{name}"')
    for name in ("llama", "gemma2", "gemma3", "gemma3n", "gemma4_assistant", "Gemma4")
}
UNSUPPORTED |= {
    name: ("root", {"quantization_config": {"quant_method": name}}, f'"{name}"')
    for name in ("awq", "gptq", "bitsandbytes", "fp8", "fbgemm_fp8", "mxfp4", "hqq", "quanto", "torchao", "modelopt")
}

EXPERTS = {"enable_moe_block": True, "num_experts": 8, "top_k_experts": 2, "moe_intermediate_size": 32}

# Values that no field of a size takes.
NO_SIZES = [-(1 << 63), 1_000_000_000, (1 << 63) - 1, 1 << 64, 1.5, 1e308, [], {}, "NaN"]
SIZES = [
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "global_head_dim",
    "intermediate_size",
    "sliding_window",
    "max_position_embeddings",
    "hidden_size_per_layer_input",
]

# Experts of the text config that are wrong.
WRONG_EXPERTS = [
    {"num_experts": None},
    {"num_experts": 0},
    {"num_experts": 1 << 13},
    {"top_k_experts": 0},
    {"top_k_experts": 9},
    {"moe_intermediate_size": None},
    {"moe_intermediate_size": 0},
]

# Fields in range that contradict the weights of the fixture e2b: the tensor that is blamed.
CONTRADICTIONS = {
    "a larger vocabulary": ({"vocab_size": 641, "vocab_size_per_layer_input": 641}, ".*embed_tokens.weight"),
    "the largest vocabulary": (
        {"vocab_size": 1 << 24, "vocab_size_per_layer_input": 1 << 24},
        ".*embed_tokens.weight",
    ),
    "a larger width": ({"hidden_size": 128}, ".*embed_tokens.weight"),
    "the largest width": ({"hidden_size": 1 << 20}, ".*embed_tokens.weight"),
    "a wider MLP": ({"intermediate_size": 1 << 20}, ".*mlp.gate_proj.weight"),
    "more heads": ({"num_attention_heads": 1 << 12}, ".*self_attn.q_proj.weight"),
    "the widest head that is run": ({"head_dim": 1024}, ".*self_attn.q_proj.weight"),
    "wider per-layer inputs": ({"hidden_size_per_layer_input": 1 << 20}, ".*embed_tokens_per_layer.weight"),
    "a layer more": (
        {"num_hidden_layers": 8, "layer_types": ["full_attention"] * 8, "num_kv_shared_layers": 0},
        ".*",
    ),
    "a thousand layers": ({"num_hidden_layers": 1000, "layer_types": None, "num_kv_shared_layers": 0}, ".*"),
    "experts": (EXPERTS, ".*router.scale"),
    "an untied head": ({"tie_word_embeddings": False}, "lm_head.weight"),
}

# Texts of config.json.
TEXTS = {
    "NaN": ('{"model_type": NaN}', "not JSON"),
    "infinity": ('{"model_type": Infinity}', "not JSON"),
    "minus infinity": ('{"model_type": -Infinity}', "broken JSON number"),
    "a number beyond a double": ('{"model_type": 1e999}', "out of range"),
    "a number of a million digits": ('{"model_type": ' + "9" * 1_000_000 + "}", "out of range"),
    "a config of brackets alone": ("[" * 100_000, "nested too deeply"),
    "a config of objects alone": ('{"a":' * 100_000, "nested too deeply"),
    "a config of a million numbers": ("[" + "0," * 1_000_000 + "0]", "too many JSON values"),
    "a million empty objects": ("[" + "{}," * 1_000_000 + "{}]", "too many JSON values"),
    "20 MB of spaces": (" " * 20_000_000, "longer than any of its kind"),
    "a key twice": ('{"model_type": "gemma4_text", "model_type": "gemma4"}', "twice"),
    "a key of half a character": ('{"\\ud800": 1}', "lone surrogate"),
    "a config that breaks off": ('{"model_type": "gemma4_text"', "not JSON"),
    "two configs": ('{"model_type": "gemma4_text"}{}', "follows"),
    "a config of nothing": ("", "empty"),
    "a Git LFS pointer for a config": ("version https://git-lfs.github.com/spec/v1\n", "LFS"),
    "an HTML page for a config": ("<html>", "HTML"),
    "a byte order mark before a config": ("\ufeff{}", "not JSON"),
}

# What generation_config.json says: the key that is blamed.
WRONG_GENERATION = {
    "temperature": [-1, "1", True, []],
    "top_k": [-1, 1.5, "64", 1 << 31],
    "top_p": [0, -0.5, 1.5, "0.9"],
    "min_p": [-0.1, 2, {}],
    "repetition_penalty": [0, -1, "1.1"],
    "eos_token_id": [-1, 1.5, "1", [1, -1], [[1]], {"id": 1}, 1 << 31],
    "suppress_tokens": [-1, ["1"], {"a": 1}, [1 << 31], [*range(160)], [160, *range(160)]],
}
GENERATION_TEXTS = {
    "NaN as temperature": ('{"temperature": NaN}', "not JSON"),
    "infinity as temperature": ('{"temperature": Infinity}', "not JSON"),
    "a temperature of 1e999": ('{"temperature": 1e999}', "out of range"),
    "a list": ("[]", "expected a JSON object"),
    "a temperature twice": ('{"temperature": 1, "temperature": 2}', "twice"),
    "brackets alone": ("[" * 1_000_000, "nested too deeply"),
    "a million end tokens": ('{"eos_token_id": [' + "1," * 1_000_000 + "1]}", "too many JSON values"),
}


def read(name: str) -> dict:
    return json.loads((FIXTURES / name / FILE).read_text())


def with_text(changes: dict) -> dict:
    config = read("e2b")
    if "tie_word_embeddings" in changes:
        del config["tie_word_embeddings"]  # the outer key would count
    config["text_config"] |= changes
    return config


def write_config(folder: Path, config: object) -> Path:
    """Beside weights that fit no config: whatever comes is of the config."""
    return write_folder(folder, config, {"model.safetensors": tensors("a")})


def write_text(folder: Path, text: str) -> Path:
    write_config(folder, {})
    (folder / FILE).write_text(text)
    return folder


def write_beside_weights(folder: Path, config: dict) -> Path:
    for path in (FIXTURES / "e2b").glob("model*"):
        shutil.copy(path, folder)
    (folder / FILE).write_text(json.dumps(config))
    return folder


def write_generation(folder: Path, text: str) -> Path:
    make_checkpoint(folder)
    (folder / GENERATION).write_text(text)
    return folder


def cases() -> Iterator[Case]:
    fields = [(key, value) for key, values in WRONG_FIELDS.items() for value in values]
    fields += [(key, value) for key in SIZES for value in NO_SIZES]
    for number, (key, value) in enumerate(fields):
        yield Case(
            f"{key} {number}: {value!r:.30}",
            lambda folder, key=key, value=value: write_config(folder, with_text({key: value})),
            "text_config",
            file=FILE,
            tensor=r"text_config(\..*)?",
        )
    for wrong in WRONG_EXPERTS:
        (key,) = wrong
        yield Case(
            f"experts: {wrong}",
            lambda folder, wrong=wrong: write_config(folder, with_text(EXPERTS | wrong)),
            key,
            file=FILE,
            tensor=rf"text_config\.{key}",
        )
    for name, (place, change, match) in UNSUPPORTED.items():
        config = copy.deepcopy(read("e2b"))
        (config["text_config"] if place == "text" else config).update(change)
        yield Case(
            f"not run: {name}",
            lambda folder, config=config: write_config(folder, config),
            match,
            error=UnsupportedError,
            file=FILE,
        )
    for config in ([], 1, None, {}, {"model_type": None}, {"model_type": "gemma4"}):
        yield Case(
            f"a config of {config}",
            lambda folder, config=config: write_config(folder, config),
            "missing|wrong type|expected a JSON object",
            file=FILE,
        )
    for quantization in ({}, {"quant_method": None}, {"quant_method": 4}, "gemma", []):
        yield Case(
            f"a quantization of {quantization}",
            lambda folder, q=quantization: write_config(folder, read("e2b") | {"quantization_config": q}),
            "quantization_config",
            file=FILE,
            tensor=r"quantization_config(\..*)?",
        )
    for name, (changes, tensor) in CONTRADICTIONS.items():
        yield Case(
            f"the weights contradict: {name}",
            lambda folder, changes=changes: write_beside_weights(folder, with_text(changes)),
            "wrong kind|missing",
            file=r"model.*\.safetensors|config\.json",
            tensor=tensor,
        )
    for name, (text, match) in TEXTS.items():
        yield Case(name, lambda folder, text=text: write_text(folder, text), match, file=FILE)
    for key, values in WRONG_GENERATION.items():
        for value in values:
            yield Case(
                f"generation: {key} {value!r:.30}",
                lambda folder, key=key, value=value: write_generation(folder, json.dumps({key: value})),
                key,
                file=GENERATION,
                tensor=key,
            )
    for name, (text, match) in GENERATION_TEXTS.items():
        yield Case(
            f"generation: {name}", lambda folder, text=text: write_generation(folder, text), match, file=GENERATION
        )
