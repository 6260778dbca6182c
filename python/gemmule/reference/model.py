"""The forward pass: all positions at once, no cache."""
# ruff: noqa: N806  (dimensions have capital letters)

from pathlib import Path
from typing import Any

import numpy as np

from .config import read_config
from .modules import Embedding, Linear
from .operations import attention, gelu_mul, inverse_frequencies, log_sum_exp, rms_norm, rope, round_to_grid, softcap
from .safetensors import Array, bf16_to_f32, f32_to_bf16, read_folder

# Bits of a static cache's codes: [-128, 127] on sliding layers, [-8, 7] on full ones.
SLIDING_CACHE_BITS, FULL_CACHE_BITS = 8, 4


Cache = dict[int, tuple[Array, Array]]  # layer -> keys, values (T, G, E)


class Reference:
    """A checkpoint of Gemma 4's text decoder.

    Args:
        folder: config.json and safetensors.
        dtype: np.float64 or np.float32, of every intermediate result.
        kv: "float32" (keys and values as they are), "bf16", or "static" (rounded to the checkpoint's cache scales).
    """

    def __init__(self, folder: Path, dtype: type[np.floating[Any]] = np.float64, kv: str = "float32") -> None:
        self.config = read_config(folder)
        self.dtype, self.kv = dtype, kv
        self.tensors = read_folder(folder)
        self.prefix = next(
            prefix
            for prefix in ("model.language_model.", "model.")
            if any(name.startswith(prefix + "embed_tokens.") for name in self.tensors)
        )
        self._linears: dict[str, Linear] = {}
        width = self.config.hidden_size
        self.embed_tokens = self._embedding("embed_tokens", width, width**0.5)
        if self.config.per_layer_width:
            P = self.config.per_layer_width
            self.embed_tokens_per_layer = self._embedding("embed_tokens_per_layer", len(self.config.layers) * P, P**0.5)

    def logits(self, ids: Array) -> Array:
        """ids (T,) -> (T, V), after the softcap."""
        return self.head(self.hidden(ids)[-1])

    def hidden(self, ids: Array) -> list[Array]:
        """ids (T,) -> L + 1 arrays (T, D): the scaled embeddings, then each layer's output; no final norm."""
        return self.states(ids)[0]

    def states(self, ids: Array) -> tuple[list[Array], Cache]:
        """The same, and what the layers put into their caches."""
        states = [self.embed_tokens(self.embedded(ids))]
        per_layer = self.per_layer_inputs(ids)
        cache: Cache = {}
        for i in range(len(self.config.layers)):
            states.append(self.layer(i, states[-1], per_layer[i], cache))
        return states, cache

    def embedded(self, ids: Array) -> Array:
        """The ids whose rows are looked up: those that mark an image, a video or a sound become the pad token."""
        return np.where(np.isin(ids, self.config.placeholder_ids), self.config.pad_id, ids)

    def layer_outputs(self, ids: Array, inputs: Array) -> Array:
        """Layer i runs on inputs[i] and on the keys and values of earlier layers, made from theirs. (L, T, D) both."""
        per_layer = self.per_layer_inputs(ids)
        cache: Cache = {}
        return np.stack([self.layer(i, x.astype(self.dtype), per_layer[i], cache) for i, x in enumerate(inputs)])

    def head(self, x: Array) -> Array:
        """x (T, D), the last layer's output -> (T, V)."""
        h = self.final_norm(x)
        y = h @ self.embed_tokens.rows.T if self.config.tied else self.linear("lm_head", self.config.hidden_size)(h)
        return softcap(y, self.config.softcap)

    def final_norm(self, x: Array) -> Array:
        """x (T, D) -> (T, D)."""
        return self._norm("norm", x)

    def per_layer_inputs(self, ids: Array) -> list[Array | None]:
        """ids (T,) -> L arrays (T, P), or L times None for a model without them."""
        count, P = len(self.config.layers), self.config.per_layer_width
        if P == 0:
            return [None] * count
        ids = self.embedded(ids)
        token = self.embed_tokens_per_layer(ids)
        project = self.linear(self.prefix + "per_layer_model_projection", self.config.hidden_size)
        context = project(self.embed_tokens(ids)) * self.dtype(self.config.hidden_size**-0.5)
        context = self._norm("per_layer_projection_norm", context.reshape(-1, count, P))
        mixed = (context + token.reshape(-1, count, P)) * self.dtype(0.5**0.5)
        return [mixed[:, i] for i in range(count)]

    def layer(self, i: int, x: Array, per_layer_input: Array | None, cache: Cache) -> Array:
        """x (T, D) -> (T, D). Puts (keys, values) of a layer that owns some into cache[i]; a sharing one reads them."""
        at = f"layers.{i}."
        x = x + self._norm(at + "post_attention_layernorm", self._attention(i, x, cache))
        m = self._mlp(i, self._norm(at + "pre_feedforward_layernorm", x))
        if self.config.experts:
            seen = self._norm(at + "pre_feedforward_layernorm_2", x)
            m = self._norm(at + "post_feedforward_layernorm_1", m)
            m = m + self._norm(at + "post_feedforward_layernorm_2", self._experts(i, x, seen))
        x = x + self._norm(at + "post_feedforward_layernorm", m)
        if per_layer_input is not None:
            D, P = self.config.hidden_size, self.config.per_layer_width
            gate = self.linear(self.prefix + at + "per_layer_input_gate", D)(x)
            y = self.linear(self.prefix + at + "per_layer_projection", P)(gelu_mul(gate, per_layer_input))
            x = x + self._norm(at + "post_per_layer_input_norm", y)
        return x * self.tensors[self.prefix + at + "layer_scalar"].astype(self.dtype)

    def linear(self, name: str, columns: int) -> Linear:
        """The module of that full name."""
        if name not in self._linears:
            self._linears[name] = Linear(self.tensors, name, columns, self.dtype)
        return self._linears[name]

    def _attention(self, i: int, x: Array, cache: Cache) -> Array:
        config, layer = self.config, self.config.layers[i]
        at, E, D = f"layers.{i}.self_attn.", layer.head_dim, config.hidden_size
        a = self._norm(f"layers.{i}.input_layernorm", x)
        T = len(a)

        frequencies = inverse_frequencies(E, layer.theta, layer.rotary_share, layer.rope_factor)
        angles = np.arange(T, dtype=np.float32)[:, None, None] * frequencies  # (T, 1, E/2), float32 as in the original
        cos, sin = np.cos(angles.astype(self.dtype)), np.sin(angles.astype(self.dtype))

        q = self.linear(self.prefix + at + "q_proj", D)(a).reshape(T, config.heads, E)
        q = rope(self._norm(at + "q_norm", q), cos, sin) * self.dtype(config.query_scale)
        if layer.owner == i:
            raw_k = self.linear(self.prefix + at + "k_proj", D)(a).reshape(T, layer.kv_heads, E)
            raw_v = raw_k
            if layer.has_v_proj:
                raw_v = self.linear(self.prefix + at + "v_proj", D)(a).reshape(T, layer.kv_heads, E)
            k = rope(self._norm(at + "k_norm", raw_k), cos, sin)
            v = rms_norm(raw_v, None, config.eps) if config.norms_values else raw_v
            cache[i] = self._stored(i, "k", k), self._stored(i, "v", v)
        k, v = cache[layer.owner]
        o = attention(q, k, v, None if layer.full else config.window)
        return self.linear(self.prefix + at + "o_proj", config.heads * E)(o.reshape(T, config.heads * E))

    def _mlp(self, i: int, x: Array) -> Array:
        at, layer, D = f"{self.prefix}layers.{i}.mlp.", self.config.layers[i], self.config.hidden_size
        y = gelu_mul(self.linear(at + "gate_proj", D)(x), self.linear(at + "up_proj", D)(x))
        return self.linear(at + "down_proj", layer.mlp_width)(y)

    def _experts(self, i: int, residual: Array, x: Array) -> Array:
        """residual (T, D), what the router sees; x (T, D), what the experts see -> (T, D)."""
        at, M, D = f"{self.prefix}layers.{i}.", self.config.expert_width, self.config.hidden_size
        u = rms_norm(residual, self.tensors[at + "router.scale"], self.config.eps) * self.dtype(D**-0.5)
        scores = self.linear(at + "router.proj", D)(u)
        p = np.exp(scores - log_sum_exp(scores)[:, None])
        chosen = np.argsort(-p, axis=1, kind="stable")[:, : self.config.experts_per_token]
        weights = np.take_along_axis(p, chosen, 1)
        weights = weights / weights.sum(axis=1, keepdims=True)
        weights = weights * self.tensors[at + "router.per_expert_scale"].astype(self.dtype)[chosen]
        gate_up = self.tensors[at + "experts.gate_up_proj"].astype(self.dtype)
        down = self.tensors[at + "experts.down_proj"].astype(self.dtype)
        y = np.zeros_like(x)
        for t, e in np.ndindex(*chosen.shape):
            h = gate_up[chosen[t, e]] @ x[t]
            y[t] += weights[t, e] * (down[chosen[t, e]] @ gelu_mul(h[:M], h[M:]))
        return y

    def _stored(self, i: int, what: str, x: Array) -> Array:
        """Keys or values as the cache of layer i gives them back."""
        if self.kv == "bf16":
            return bf16_to_f32(f32_to_bf16(x)).astype(self.dtype)
        if self.kv == "static":
            scale = float(self.tensors[f"{self.prefix}layers.{i}.self_attn.{what}_cache_scale"])
            return round_to_grid(x, scale, FULL_CACHE_BITS if self.config.layers[i].full else SLIDING_CACHE_BITS)
        return x

    def _norm(self, name: str, x: Array) -> Array:
        return rms_norm(x, self.tensors[f"{self.prefix}{name}.weight"], self.config.eps)

    def _embedding(self, name: str, width: int, multiplier: float) -> Embedding:
        return Embedding(self.tensors, self.prefix + name, width, multiplier, self.dtype)


def token_log_probabilities(logits: Array, ids: Array) -> Array:
    """logits (T, V), ids (T,) -> (T-1,) nats: ln p(ids[t+1] | ids[:t+1])."""
    return logits[np.arange(len(ids) - 1), ids[1:]] - log_sum_exp(logits[:-1])
