"""A drafter of multi-token prediction: four layers without keys and values of their own, which read the target's."""
# ruff: noqa: N806  (dimensions have capital letters)

import json
from pathlib import Path
from typing import Any

import numpy as np

from .config import read_config
from .model import Cache, Reference
from .modules import Linear
from .operations import attend, gelu_mul, inverse_frequencies, rms_norm, rope
from .safetensors import Array, read_folder


class ReferenceDrafter:
    """A drafter's checkpoint.

    Args:
        folder: config.json and safetensors.
        dtype: np.float64 or np.float32, of every intermediate result.
    """

    def __init__(self, folder: Path, dtype: type[np.floating[Any]] = np.float64) -> None:
        self.config = read_config(folder)
        whole = json.loads(Path(folder, "config.json").read_text())
        self.is_ordered: bool = whole["use_ordered_embeddings"]
        self.clusters: int = whole["num_centroids"]
        self.clusters_seen: int = whole["centroid_intermediate_top_k"]
        self.dtype = dtype
        self.tensors = read_folder(folder)

    def step(self, x: Array, position: int, sliding: tuple[Array, Array], full: tuple[Array, Array]) -> tuple[Any, Any]:
        """One token of a draft.

        Args:
            x: (2 Ht,) the target's scaled embedding of the last token, then the target's hidden state after the final
                norm or the vector that the step before gave. Ht is the target's width.
            position: of the last token, the same for all steps of a draft.
            sliding, full: keys and values (n, G, E) of the target's last layer of each type that makes some, oldest
                first. Sliding layers see the window and one key more, full layers see all.

        Returns:
            Logits (V,) and the vector (Ht,) for the next step.
        """
        x = self._linear("pre_projection")(x.astype(self.dtype))
        for i, layer in enumerate(self.config.layers):
            at, H, E = f"model.layers.{i}.", self.config.heads, layer.head_dim
            angles = np.float32(position) * inverse_frequencies(E, layer.theta, layer.rotary_share, layer.rope_factor)
            cos, sin = np.cos(angles.astype(self.dtype)), np.sin(angles.astype(self.dtype))
            q = self._linear(at + "self_attn.q_proj")(self._norm(at + "input_layernorm", x)).reshape(H, E)
            q = rope(self._norm(at + "self_attn.q_norm", q), cos, sin)
            k, v = full if layer.full else (a[-self.config.window - 1 :] for a in sliding)
            k, v = (np.repeat(a.astype(self.dtype), H // a.shape[1], axis=1) for a in (k, v))
            answers = np.concatenate([attend(q[h], k[:, h], v[:, h]) for h in range(H)])
            x = x + self._norm(at + "post_attention_layernorm", self._linear(at + "self_attn.o_proj")(answers))
            seen = self._norm(at + "pre_feedforward_layernorm", x)
            m = gelu_mul(self._linear(at + "mlp.gate_proj")(seen), self._linear(at + "mlp.up_proj")(seen))
            x = x + self._norm(at + "post_feedforward_layernorm", self._linear(at + "mlp.down_proj")(m))
            x = x * self.tensors[at + "layer_scalar"].astype(self.dtype)
        h = self._norm("model.norm", x)
        return self.head(h), self._linear("post_projection")(h)

    def head(self, h: Array) -> Array:
        """h (D,), after the final norm -> (V,). A head of clusters gives the tokens outside the best ones all the same
        logit, 1 below the lowest of those inside."""
        logits: Array = self._linear("model.embed_tokens")(h)
        if not self.is_ordered:
            return logits
        best = np.argsort(-self._linear("masked_embedding.centroids")(h), kind="stable")[: self.clusters_seen]
        inside = self.tensors["masked_embedding.token_ordering"].reshape(self.clusters, -1)[best].ravel()
        masked = np.full_like(logits, logits[inside].min() - 1)
        masked[inside] = logits[inside]
        return masked

    def _linear(self, name: str) -> Linear:
        return Linear(self.tensors, name, 0, self.dtype)

    def _norm(self, name: str, x: Array) -> Array:
        return rms_norm(x, self.tensors[name + ".weight"], self.config.eps)


def draft(target: Reference, drafter: ReferenceDrafter, ids: Array, count: int) -> list[int]:
    """ids (T,), T >= 2, of which the target has read all but the last -> `count` ids that may follow."""
    states, cache = target.states(ids[:-1])
    sliding, full = (_last_made(target, cache, is_full) for is_full in (False, True))
    vector = target.final_norm(states[-1])[-1]
    drafts = [int(ids[-1])]
    for _ in range(count):
        embedding = target.embed_tokens(target.embedded(np.array(drafts[-1:])))[0]
        logits, vector = drafter.step(np.concatenate([embedding, vector]), len(ids) - 1, sliding, full)
        drafts.append(int(np.argmax(logits)))
    return drafts[1:]


def _last_made(target: Reference, cache: Cache, full: bool) -> tuple[Array, Array]:
    """Keys and values of the target's last layer of a type that makes some."""
    return cache[max(i for i in cache if target.config.layers[i].full == full)]
