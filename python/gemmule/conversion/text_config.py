"""What the engine knows of a text model's config, in the words of its config.json. See cpp/model/config.h."""

from __future__ import annotations

from dataclasses import dataclass

SLIDING, FULL = "sliding_attention", "full_attention"


@dataclass(frozen=True)
class RopeParameters:
    """Rotary positions. partial_rotary_factor: share of the head's angles that turn; factor: divides frequencies."""

    rope_theta: float
    partial_rotary_factor: float = 1.0
    factor: float = 1.0


@dataclass(frozen=True)
class LayerConfig:
    """One layer. type: SLIDING or FULL; intermediate_size: its MLP's width; without has_v_proj V comes from k_proj."""

    type: str
    head_dim: int
    num_key_value_heads: int
    intermediate_size: int
    has_v_proj: bool


@dataclass(frozen=True)
class TextConfig:
    """The text model's config.

    Attributes:
        vocab_size_per_layer_input: rows of the per-layer embedding.
        hidden_size_per_layer_input: 0 means no per-layer embeddings.
        num_kv_shared_layers: the last layers, which read other layers' keys and values.
        final_logit_softcapping: 0 means none.
        num_experts, top_k_experts, moe_intermediate_size: 0 without expert layers.
    """

    vocab_size: int
    vocab_size_per_layer_input: int
    hidden_size: int
    hidden_size_per_layer_input: int
    num_attention_heads: int
    num_kv_shared_layers: int
    sliding_window: int
    max_position_embeddings: int
    rms_norm_eps: float
    final_logit_softcapping: float
    tie_word_embeddings: bool
    rope_sliding: RopeParameters
    rope_full: RopeParameters
    layers: tuple[LayerConfig, ...]
    num_experts: int = 0
    top_k_experts: int = 0
    moe_intermediate_size: int = 0

    def first(self, type: str) -> LayerConfig:
        """The first layer of a type, whose heads are those of all of that type; of the other, where there is none."""
        return next((layer for layer in self.layers if layer.type == type), self.layers[0])
