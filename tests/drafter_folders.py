"""Makes tiny drafters for any target: random weights, the right shapes."""
# ruff: noqa: N806  (dimensions have capital letters)

import json
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints import FULL, SLIDING, write_safetensors
from gemmule.reference.safetensors import f32_to_bf16

CLUSTERS, CLUSTERS_SEEN = 16, 3


def make_drafter(
    folder: Path,
    target: dict[str, Any],
    *,
    ordered: bool = False,
    unified: bool = False,
    seed: int = 0,
    width: int = 32,
    mlp_width: int = 48,
    changed: dict[str, Any] | None = None,
    whole: dict[str, Any] | None = None,
    tensors: dict[str, np.ndarray | None] | None = None,
) -> Path:
    """Writes a drafter for a model.

    Args:
        folder: where; made if missing.
        target: the model's `info["config"]`.
        ordered: with a head of clusters.
        unified: of the 12B's family.
        width, mlp_width: of its layers.
        changed, whole: fields of the text config and of the whole config, in place of the right ones.
        tensors: tensors in place of the right ones; None: left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    types = [SLIDING, SLIDING, SLIDING, FULL] if SLIDING in target["layer_types"] else [FULL] * 4
    like = {kind: target["layers"][target["layer_types"].index(kind)] for kind in set(types)}
    D, V, F = width, target["vocab_size"], mlp_width
    Dt = target["hidden_size"]
    H = 2 * max(layer["num_key_value_heads"] for layer in like.values())
    text = {
        "model_type": "gemma4_unified_text" if unified else "gemma4_text",
        "vocab_size": V,
        "hidden_size": D,
        "intermediate_size": F,
        "num_hidden_layers": len(types),
        "num_kv_shared_layers": len(types),
        "num_attention_heads": H,
        "layer_types": types,
        "head_dim": like.get(SLIDING, like[FULL])["head_dim"],
        "num_key_value_heads": like.get(SLIDING, like[FULL])["num_key_value_heads"],
        "per_layer_config": {
            str(i): {name: like[kind][name] for name in ("head_dim", "num_key_value_heads")}
            for i, kind in enumerate(types)
        },
        "hidden_size_per_layer_input": 0,
        "sliding_window": target["sliding_window"],
        "rope_parameters": {
            SLIDING: {"rope_type": "default", **target["rope_sliding"]},
            FULL: {"rope_type": "proportional", **target["rope_full"]},
        },
        "tie_word_embeddings": True,
    } | (changed or {})
    config = {
        "model_type": "gemma4_unified_assistant" if unified else "gemma4_assistant",
        "backbone_hidden_size": Dt,
        "use_ordered_embeddings": ordered,
        "num_centroids": CLUSTERS,
        "centroid_intermediate_top_k": CLUSTERS_SEEN,
        "text_config": text,
        "tie_word_embeddings": True,
    } | (whole or {})
    (folder / "config.json").write_text(json.dumps(config, indent=1))

    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return f32_to_bf16(random.standard_normal((rows, columns)) / np.sqrt(columns))

    def norm(n: int) -> np.ndarray:
        return f32_to_bf16(1 + 0.1 * random.standard_normal(n))

    stored = {
        "pre_projection.weight": matrix(D, 2 * Dt),
        "post_projection.weight": matrix(Dt, D),
        "model.embed_tokens.weight": matrix(V, D),
        "model.norm.weight": norm(D),
    }
    for i, kind in enumerate(types):
        at, E = f"model.layers.{i}.", like[kind]["head_dim"]
        for name in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            stored[f"{at}{name}_layernorm.weight"] = norm(D)
        stored[at + "layer_scalar"] = norm(1)
        stored[at + "self_attn.q_proj.weight"] = matrix(H * E, D)
        stored[at + "self_attn.q_norm.weight"] = norm(E)
        stored[at + "self_attn.o_proj.weight"] = matrix(D, H * E)
        stored[at + "mlp.gate_proj.weight"] = matrix(F, D)
        stored[at + "mlp.up_proj.weight"] = matrix(F, D)
        stored[at + "mlp.down_proj.weight"] = matrix(D, F)
    if ordered:
        stored["masked_embedding.centroids.weight"] = matrix(CLUSTERS, D)
        stored["masked_embedding.token_ordering"] = random.permutation(V).astype(np.int64)
    stored |= tensors or {}
    write_safetensors(
        folder / "model.safetensors", {name: value for name, value in stored.items() if value is not None}
    )
    return folder
