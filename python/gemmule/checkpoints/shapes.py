"""What a text model's config asks for: the shape of every matrix and vector, before any file is opened.

Names are those of the checkpoint behind its prefix (`model.language_model.` or `model.`), without `.weight`. Letters
for dimensions are those of cpp/model/config.h. The engine reads config.json by itself, and strictly; this is for those
who look at a checkpoint, also at one that the engine refuses.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Kinds of tensors, in the order in which they are shown.
ATTENTION, MLP, EXPERTS = "attention", "mlp", "experts"
EMBEDDINGS, PER_LAYER_EMBEDDINGS, PER_LAYER_INPUTS = "embeddings", "per-layer embeddings", "per-layer inputs"
HEAD, NORMS, TOWERS, LEFTOVERS, UNKNOWN = "head", "norms and scalars", "towers", "leftovers", "unknown"
KINDS = (
    ATTENTION,
    MLP,
    EXPERTS,
    PER_LAYER_INPUTS,
    HEAD,
    NORMS,
    EMBEDDINGS,
    PER_LAYER_EMBEDDINGS,
    TOWERS,
    LEFTOVERS,
    UNKNOWN,
)

_TOWERS = ("vision_tower.", "audio_tower.", "embed_vision.", "embed_audio.", "vision_embedder.")
_BY_NAME = (  # the first that is found in a module's name counts
    (".self_attn.", ATTENTION),
    (".mlp.", MLP),
    (".experts.", EXPERTS),
    ("embed_tokens_per_layer", PER_LAYER_EMBEDDINGS),
    ("embed_tokens", EMBEDDINGS),
    ("per_layer_model_projection", PER_LAYER_INPUTS),
    (".per_layer_input_gate", PER_LAYER_INPUTS),
    (".per_layer_projection", PER_LAYER_INPUTS),
)


@dataclass(frozen=True)
class Layer:
    """One layer's dimensions."""

    full: bool  # sees every earlier key; otherwise the last W
    head_dim: int  # E
    kv_heads: int  # G
    mlp_width: int  # F
    has_v_proj: bool
    owner: int  # the layer whose keys and values this one reads; often itself


@dataclass(frozen=True)
class TextShape:
    """A text model's dimensions. Defaults are those of the model's config classes in transformers."""

    vocab_size: int  # V
    hidden_size: int  # D
    heads: int  # H
    per_layer_width: int  # P; 0: no per-layer embeddings
    per_layer_rows: int  # of the per-layer embedding
    window: int  # W
    max_context: int  # tokens
    tied: bool  # the head multiplies by the embedding's rows
    experts: int  # 0: none
    expert_width: int
    layers: tuple[Layer, ...]

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> TextShape:
        """From what config.json holds. Raises KeyError, TypeError, AttributeError, IndexError or ValueError where that
        is no such config."""
        text = config.get("text_config", config)
        unified = "unified" in str(text.get("model_type", ""))
        experts = bool(text.get("enable_moe_block", False)) and not unified
        width = "moe_intermediate_size" if text.get("moe_intermediate_size") else "expert_intermediate_size"
        return cls(
            vocab_size=_size(text, "vocab_size", 262144),
            hidden_size=_size(text, "hidden_size", 2304),
            heads=_size(text, "num_attention_heads", 8),
            per_layer_width=0 if unified else _size(text, "hidden_size_per_layer_input", 256),
            per_layer_rows=_size(text, "vocab_size_per_layer_input", 262144),
            window=_size(text, "sliding_window", 1024 if unified else 512),
            max_context=_size(text, "max_position_embeddings", 262144 if unified else 131072),
            tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", True))),
            experts=_size(text, "num_experts", None) if experts else 0,
            expert_width=_size(text, width, None) if experts else 0,
            layers=_layers(text),
        )

    @classmethod
    def of_engine(cls, config: Mapping[str, Any]) -> TextShape:
        """From what the engine read, as `Model.info["config"]` has it."""
        layers = zip(config["layer_types"], config["layers"], strict=True)
        return cls(
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            heads=config["num_attention_heads"],
            per_layer_width=config["hidden_size_per_layer_input"],
            per_layer_rows=config["vocab_size_per_layer_input"],
            window=config["sliding_window"],
            max_context=config["max_position_embeddings"],
            tied=config["tie_word_embeddings"],
            experts=config["num_experts"],
            expert_width=config["moe_intermediate_size"],
            layers=tuple(
                Layer(
                    full=kind == "full_attention",
                    head_dim=layer["head_dim"],
                    kv_heads=layer["num_key_value_heads"],
                    mlp_width=layer["intermediate_size"],
                    has_v_proj=layer["has_v_proj"],
                    owner=layer["kv_owner"],
                )
                for kind, layer in layers
            ),
        )

    def matrices(self) -> dict[str, tuple[int, int]]:
        """(rows, columns) of every matrix, by name; an expert layer's experts are one."""
        d, p = self.hidden_size, self.per_layer_width
        shapes = {"embed_tokens": (self.vocab_size, d)}
        if not self.tied:
            shapes["lm_head"] = (self.vocab_size, d)
        if p:
            shapes["embed_tokens_per_layer"] = (self.per_layer_rows, len(self.layers) * p)
            shapes["per_layer_model_projection"] = (len(self.layers) * p, d)
        for i, layer in enumerate(self.layers):
            at, e = f"layers.{i}.", layer.head_dim
            shapes[at + "self_attn.q_proj"] = (self.heads * e, d)
            shapes[at + "self_attn.o_proj"] = (d, self.heads * e)
            if layer.owner == i:
                shapes[at + "self_attn.k_proj"] = (layer.kv_heads * e, d)
                if layer.has_v_proj:
                    shapes[at + "self_attn.v_proj"] = (layer.kv_heads * e, d)
            shapes[at + "mlp.gate_proj"] = shapes[at + "mlp.up_proj"] = (layer.mlp_width, d)
            shapes[at + "mlp.down_proj"] = (d, layer.mlp_width)
            if p:
                shapes[at + "per_layer_input_gate"] = (p, d)
                shapes[at + "per_layer_projection"] = (d, p)
            if self.experts:
                shapes[at + "router.proj"] = (self.experts, d)
                shapes[at + "experts.gate_up_proj"] = (self.experts * 2 * self.expert_width, d)
                shapes[at + "experts.down_proj"] = (self.experts * d, self.expert_width)
        return shapes

    def vectors(self) -> dict[str, int]:
        """Elements of every vector, by name."""
        d, p = self.hidden_size, self.per_layer_width
        sizes = {"norm": d} | ({"per_layer_projection_norm": p} if p else {})
        norms = ["input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm"]
        norms += ["post_feedforward_layernorm"] + ["post_per_layer_input_norm"] * bool(p)
        if self.experts:
            norms += ["post_feedforward_layernorm_1", "pre_feedforward_layernorm_2", "post_feedforward_layernorm_2"]
            norms += ["router.scale"]
        for i, layer in enumerate(self.layers):
            at = f"layers.{i}."
            sizes |= {at + name: d for name in norms} | {at + "layer_scalar": 1}
            sizes[at + "self_attn.q_norm"] = layer.head_dim
            if layer.owner == i:
                sizes[at + "self_attn.k_norm"] = layer.head_dim
            if self.experts:
                sizes[at + "router.per_expert_scale"] = self.experts
        return sizes

    def parameters(self) -> dict[str, int]:
        """Number of parameters of every kind that there is. A tied head has none of its own."""
        counts: Counter[str] = Counter()
        for name, (rows, columns) in self.matrices().items():
            counts[self.kind(name)] += rows * columns
        for name, size in self.vectors().items():
            counts[self.kind(name)] += size
        return {kind: counts[kind] for kind in KINDS if kind in counts}

    def kind(self, module: str) -> str:
        """The kind of a module, named with or without the checkpoint's prefix. Norms of heads belong to attention."""
        name = bare_name(module)
        if name.startswith(_TOWERS):
            return TOWERS
        if name == "lm_head":
            return LEFTOVERS if self.tied else HEAD
        layer = layer_number(name)
        if layer is not None and layer >= len(self.layers):
            return UNKNOWN
        if layer is not None and self.layers[layer].owner != layer and re.search(r"\.[kv]_(proj|norm|cache)", name):
            return LEFTOVERS
        for part, kind in _BY_NAME:
            if part in name:
                return kind
        plain = re.search(r"norm(_\d)?$|\.layer_scalar$|\.router\.(proj|scale|per_expert_scale)$", name)
        return NORMS if plain else UNKNOWN


def bare_name(name: str) -> str:
    """A module's name without the checkpoint's prefix."""
    return name.removeprefix("model.").removeprefix("language_model.")


def layer_number(name: str) -> int | None:
    """The number of the layer that a tensor or module belongs to, by its name without the checkpoint's prefix."""
    match = re.match(r"(?:layers|blk)\.([^.]*)\.", name)
    if match is None:
        return None
    number = match[1]
    # Whatever else stands there is beyond all layers. No number is made of digits without end.
    return int(number) if re.fullmatch("0|[1-9][0-9]{0,8}", number) else 10**9


def _size(fields: Mapping[str, Any], key: str, absent: int | None, most: int = 1 << 24) -> int:
    """The number of `key`, in 0..most: as long as what is asked of it later may be. None means 0."""
    value = fields.get(key, absent)
    if value is None:
        return 0
    if not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise ValueError(f"{key} is {value!r:.80}; expected 0 to {most}")
    return int(value)


def _layers(text: Mapping[str, Any]) -> tuple[Layer, ...]:
    count = _size(text, "num_hidden_layers", 30, most=1000)
    types = list(text.get("layer_types") or [])
    full = [each == "full_attention" for each in types] or [i % 6 == 5 for i in range(count)]
    if len(full) != count:
        raise ValueError(f"layer_types has {len(full)} entries for {count} layers")
    full[-1] = True  # the config class forces it
    first_shared = count - _size(text, "num_kv_shared_layers", 0, most=count)
    k_eq_v, double = bool(text.get("attention_k_eq_v", False)), bool(text.get("use_double_wide_mlp", False))
    special = text.get("per_layer_config")
    layers = []
    for i in range(count):
        head_dim, kv_heads = _size(text, "head_dim", 256), _size(text, "num_key_value_heads", 4)
        if "per_layer_config" in text:
            own = (special or {}).get(str(i), {})
            head_dim = _size(own, "head_dim", head_dim)
            kv_heads = _size(own, "num_key_value_heads", kv_heads)
        elif full[i]:
            head_dim = _size(text, "global_head_dim", 512)
            kv_heads = (_size(text, "num_global_key_value_heads", 0) if k_eq_v else 0) or kv_heads
        layers.append(
            Layer(
                full=full[i],
                head_dim=head_dim,
                kv_heads=kv_heads,
                mlp_width=_size(text, "intermediate_size", 9216) * (2 if double and i >= first_shared else 1),
                has_v_proj=not (k_eq_v and full[i]),
                owner=i if i < first_shared else max(j for j in range(first_shared) if full[j] == full[i]),
            )
        )
    return tuple(layers)
