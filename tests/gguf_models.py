"""Makes GGUF models of any shape with random blocks, as llama.cpp's converter and its splitter lay them out."""

import re
from pathlib import Path

import numpy as np

from checkpoints import DEFAULTS, FULL, Shapes
from hostile_gguf import ARRAY, BOOL, F32, I32, STRING, TYPES, U16, U32, Array, Gguf, Tensor

# Where the blocks of a type have their float16 scale and minimum; and how large codes are, with scales of groups.
HALVES = {
    "Q4_0": ([0], 4.6),
    "Q4_1": ([0, 2], 4.6),
    "Q5_0": ([0], 9.2),
    "Q5_1": ([0, 2], 9.2),
    "Q8_0": ([0], 74.0),
    "Q4_K": ([0, 2], 200.0),
    "Q5_K": ([0, 2], 400.0),
    "Q6_K": ([208], 1400.0),
}

NAMES = {
    "embed_tokens": "token_embd",
    "embed_tokens_per_layer": "per_layer_token_embd",
    "per_layer_model_projection": "per_layer_model_proj",
    "per_layer_projection_norm": "per_layer_proj_norm",
    "norm": "output_norm",
    "lm_head": "output",
}
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_feedforward_layernorm": "post_ffw_norm",
    "layer_scalar": "layer_output_scale",
    "per_layer_input_gate": "inp_gate",
    "per_layer_projection": "proj",
    "post_per_layer_input_norm": "post_norm",
}


def make_gguf(
    folder: Path,
    *,
    matrices: str = "Q4_0",
    tables: str = "Q8_0",
    vocabulary: bool = False,
    parts: int = 1,
    leftovers: bool = False,
    seed: int = 0,
    **config,
) -> Path:
    """Writes a model.

    Args:
        folder: where; made if missing.
        matrices, tables: types of the layers' matrices, and of the embeddings.
        vocabulary: a tokenizer with as many tokens as the model has.
        parts: files; more than one are named as llama-gguf-split does.
        leftovers: KV-shared layers keep attn_k, attn_v and attn_k_norm, which nothing reads.
        seed: of the weights.
        config: fields of the text config, in place of `checkpoints.DEFAULTS`.

    Returns:
        The file, or the first part.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = DEFAULTS | config
    text["num_hidden_layers"] = len(text["layer_types"])
    text.setdefault("vocab_size_per_layer_input", text["vocab_size"])
    shapes = Shapes(text, leftovers)
    random = np.random.default_rng(seed)
    tensors = [blocks(random, name, shape, tables) for name, shape in shapes.tables().items()]
    tensors += [blocks(random, name, shape, matrices) for name, shape in shapes.matrices().items()]
    tensors += [floats(name, random.normal(1, 0.1, n)) for name, n in shapes.vectors().items()]
    if shapes.P:
        tensors.append(floats("per_layer_model_projection", random.standard_normal(shapes.projection())))
    half = text["global_head_dim"] // 2
    tensors.append(floats("rope_freqs", np.where(np.arange(half) < half // 4, 1, 1e30)))
    whole = Gguf(keys_of(shapes) | (vocabulary_of(text["vocab_size"]) if vocabulary else {}), tensors)
    if parts == 1:
        return whole.write(folder / "model.gguf")
    each = -(-len(tensors) // parts)
    for number in reversed(range(parts)):
        split = {"split.no": (U16, number), "split.count": (U16, parts), "split.tensors.count": (I32, len(tensors))}
        keys = split | (whole.keys if number == 0 else {})
        part = Gguf(keys, tensors[number * each : (number + 1) * each])
        path = part.write(folder / f"model-{number + 1:05}-of-{parts:05}.gguf")
    return path


def keys_of(shapes: Shapes) -> dict:
    text = shapes.text
    layers = range(shapes.L)
    fields = {
        "block_count": (U32, shapes.L),
        "context_length": (U32, text["max_position_embeddings"]),
        "embedding_length": (U32, shapes.D),
        "embedding_length_per_layer_input": (U32, shapes.P),
        "feed_forward_length": (ARRAY, Array(I32, [shapes.mlp_width(i) for i in layers])),
        "attention.head_count": (U32, shapes.H),
        "attention.head_count_kv": (ARRAY, Array(I32, [shapes.kv_heads(i) for i in layers])),
        "attention.layer_norm_rms_epsilon": (F32, text["rms_norm_eps"]),
        "attention.key_length": (U32, text["global_head_dim"]),
        "attention.key_length_swa": (U32, text["head_dim"]),
        "attention.sliding_window": (U32, text["sliding_window"]),
        "attention.sliding_window_pattern": (ARRAY, Array(BOOL, [kind != FULL for kind in text["layer_types"]])),
        "attention.shared_kv_layers": (U32, text["num_kv_shared_layers"]),
        "rope.freq_base": (F32, 1e6),
        "rope.freq_base_swa": (F32, 1e4),
        "final_logit_softcapping": (F32, text["final_logit_softcapping"]),
    }
    return {"general.architecture": (STRING, "gemma4")} | {f"gemma4.{key}": value for key, value in fields.items()}


def vocabulary_of(count: int) -> dict:
    """Special tokens, bytes, and strings of up to four letters, each of which two merges make of shorter ones."""
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [3] * 4 + [6] * 256
    strings = letters = list("etaoinshrdlu")
    while len(strings) < count - len(tokens):
        strings = [*letters, *(string + letter for string in strings for letter in letters)]
    strings = strings[: count - len(tokens)]
    known = set(strings)
    merges = [
        f"{string[:cut]} {string[cut:]}"
        for string in strings
        for cut in sorted({1, len(string) - 1})
        if string[:cut] in known and string[cut:] in known
    ]
    return {
        "tokenizer.ggml.model": (STRING, "gemma4"),
        "tokenizer.ggml.tokens": (ARRAY, Array(STRING, tokens + strings)),
        "tokenizer.ggml.scores": (ARRAY, Array(F32, [0.0] * count)),
        "tokenizer.ggml.token_type": (ARRAY, Array(I32, types + [1] * len(strings))),
        "tokenizer.ggml.merges": (ARRAY, Array(STRING, merges)),
    }


def blocks(random: np.random.Generator, name: str, shape: tuple[int, int], type: str) -> Tensor:
    """Codes that are all equally likely, and scales such that a product with x has about the size of x."""
    number, elements, size = TYPES[type]
    rows, columns = shape
    stored = random.integers(0, 256, (rows * columns // elements, size), np.uint8)
    halves, spread = HALVES[type]
    for at, factor in zip(halves, (1.0, 7.0), strict=False):
        scale = factor * random.uniform(0.5, 1.5, len(stored)) / spread / columns**0.5
        stored[:, at : at + 2] = scale.astype("<f2").view(np.uint8).reshape(-1, 2)
    return Tensor(file_name(name), [columns, rows], number, stored.tobytes())


def floats(name: str, values: np.ndarray) -> Tensor:
    return Tensor(file_name(name), list(reversed(values.shape)), TYPES["F32"][0], values.astype("<f4").tobytes())


def file_name(name: str) -> str:
    name = name.removesuffix(".weight")
    layer = re.match(r"layers\.(\d+)\.", name)
    translated = f"blk.{layer[1]}.{LAYER_NAMES[name[layer.end() :]]}" if layer else NAMES.get(name, name)
    return translated + ".weight"
