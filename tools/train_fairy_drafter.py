"""Trains the drafter of fairy, the model that comes with gemmule, and writes it as the folder of a Gemma 4 assistant.

    python tools/train_fairy_drafter.py python/gemmule/data/fairy-drafter

Needs gemmule, torch and safetensors; a quarter of an hour on two cores, and 3 GB of memory. It needs no texts: fairy
writes them itself, one half sampled as it does by default and one half greedily, and what it computes on the way is
what the drafter learns from: hidden states, keys and values, and the likeliest tokens.

In training it drafts as it will later: several tokens from one place, each from the vector that the step before gave.
The tokens between are those of the text, because a draft is looked at only where those before it were right.
"""
# ruff: noqa: N806, N812  (dimensions have capital letters)

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

import gemmule
from gemmule.checkpoints import checkpoint
from gemmule.reference import Reference
from gemmule.reference.operations import inverse_frequencies

SLIDING, FULL = "sliding_attention", "full_attention"

# The drafter's own shape: layers, width, width of its MLPs. Everything else is fairy's.
LAYER_TYPES = (SLIDING, FULL)
D, MLP = 64, 256

OPENING, LENGTH = 32, 384  # tokens of a text that are sampled in any case, and all of them; BOS is one
TOGETHER = 64  # texts that fairy writes together
HELD_OUT = 16  # texts that are not trained on
STEPS = 4  # tokens that are drafted from one place
STEP_WEIGHT = 0.85  # of a step's loss, relative to the one before
LIKELIEST = 8  # tokens of fairy's distribution that are learned
SHARPNESS = 2.0  # of that, relative to fairy's own: the likeliest token is what counts
BATCH = 2  # texts
RATE = 4e-3


def written(model: gemmule.Model, count: int, seed: int) -> np.ndarray:
    """(count, LENGTH) ids of texts: one half sampled throughout, the other greedy behind its opening."""
    random = np.random.default_rng(seed)
    first = np.exp(model.logits([2])[0].astype(np.float64))  # behind BOS
    texts: list[list[int]] = []
    while len(texts) < count:
        # They have one seed, and differ because their first tokens do.
        begun = random.choice(len(first), TOGETHER, replace=False, p=first / first.sum())
        options = {"seed": len(texts), "ignore_eos": True}
        openings = continued(model, [[2, int(token)] for token in begun], OPENING, temperature=1.0, **options)
        sampled = continued(model, openings[0::2], LENGTH, **options)
        greedy = continued(model, openings[1::2], LENGTH, temperature=0, **options)
        texts += [text for both in zip(sampled, greedy, strict=True) for text in both]
    return np.array(texts[:count])


def continued(model: gemmule.Model, prompts: list[list[int]], length: int, **options: object) -> list[list[int]]:
    results = model.generate(prompts, max_tokens=length - len(prompts[0]), **options)
    return [[*prompt, *result.tokens] for prompt, result in zip(prompts, results, strict=True)]


@dataclass
class Seen:
    """What fairy computes of N texts of T tokens.

    Attributes:
        ids: (N, T).
        hidden: (N, T, Dt), behind the final norm.
        keys, values: for each type of layer (N, T, E), as the cache gives back those of the last that makes some.
        best, likely: (N, T, LIKELIEST) the likeliest tokens behind each, the likeliest first, and what is learned as
            their probabilities.
    """

    ids: Tensor
    hidden: Tensor
    keys: dict[str, Tensor]
    values: dict[str, Tensor]
    best: Tensor
    likely: Tensor

    def of(self, texts: Tensor) -> Seen:
        """Some of the texts, in float32."""
        keys, values = ({kind: x[texts].float() for kind, x in both.items()} for both in (self.keys, self.values))
        hidden, likely = self.hidden[texts].float(), self.likely[texts].float()
        return Seen(self.ids[texts], hidden, keys, values, self.best[texts], likely)


def read(target: Reference, texts: np.ndarray) -> Seen:
    """texts (N, T). In float16, to save memory."""
    N, T = texts.shape
    layers = {kind: last_maker(target, kind) for kind in (SLIDING, FULL)}
    half = {"dtype": torch.float16}
    seen = Seen(
        torch.from_numpy(texts),
        torch.empty(N, T, target.config.hidden_size, **half),
        {kind: torch.empty(N, T, target.config.layers[i].head_dim, **half) for kind, i in layers.items()},
        {kind: torch.empty(N, T, target.config.layers[i].head_dim, **half) for kind, i in layers.items()},
        torch.empty(N, T, LIKELIEST, dtype=torch.int64),
        torch.empty(N, T, LIKELIEST, **half),
    )
    for n, ids in enumerate(texts):
        states, cache = target.states(ids)
        seen.hidden[n] = torch.from_numpy(target.final_norm(states[-1]))
        for kind, i in layers.items():
            keys, values = cache[i]
            seen.keys[kind][n] = torch.from_numpy(keys[:, 0])
            seen.values[kind][n] = torch.from_numpy(values[:, 0])
        logits, seen.best[n] = torch.from_numpy(target.head(states[-1])).topk(LIKELIEST)
        seen.likely[n] = (SHARPNESS * logits).softmax(-1)
    return seen


def last_maker(target: Reference, kind: str) -> int:
    """The last of fairy's layers of a type that makes keys and values."""
    layers = target.config.layers
    return max(i for i, layer in enumerate(layers) if layer.owner == i and layer.full == (kind == FULL))


def matrix(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, columns) / math.sqrt(columns))


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x.float(), weight.shape, weight, 1e-6)


class Layer(nn.Module):
    """A layer with queries only."""

    def __init__(self, target: Reference, kind: str) -> None:
        super().__init__()
        like = target.config.layers[last_maker(target, kind)]
        E, self.kind, self.heads = like.head_dim, kind, target.config.heads
        self.input_layernorm, self.post_attention_layernorm = nn.Parameter(torch.ones(D)), nn.Parameter(torch.ones(D))
        self.pre_feedforward_layernorm = nn.Parameter(torch.ones(D))
        self.post_feedforward_layernorm = nn.Parameter(torch.ones(D))
        self.layer_scalar = nn.Parameter(torch.ones(1))
        self.q_proj, self.q_norm = matrix(self.heads * E, D), nn.Parameter(torch.ones(E))
        self.o_proj = matrix(D, self.heads * E)
        self.gate_proj, self.up_proj, self.down_proj = matrix(MLP, D), matrix(MLP, D), matrix(D, MLP)

        positions = torch.arange(LENGTH)
        angles = positions[:, None] * torch.from_numpy(
            inverse_frequencies(E, like.theta, like.rotary_share, like.rope_factor)
        )
        self.cos, self.sin = angles.cos(), angles.sin()  # (T, E / 2)
        behind = positions[:, None] - positions  # of a query's position behind a key's
        # The window and one key more, as transformers has it.
        self.mask = (behind > 0) & ((behind <= target.config.window + 1) | (kind == FULL))  # (T, T)

    def forward(self, x: Tensor, seen: Seen) -> Tensor:
        """x (N, P, D), at the positions 1 ... P."""
        N, P, _ = x.shape
        q = (rms_norm(x, self.input_layernorm) @ self.q_proj.T).view(N, P, self.heads, -1)
        first, second = rms_norm(q, self.q_norm).chunk(2, -1)
        cos, sin = self.cos[1 : P + 1, None], self.sin[1 : P + 1, None]
        q = torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
        o = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            seen.keys[self.kind][:, None],
            seen.values[self.kind][:, None],
            attn_mask=self.mask[1 : P + 1],
            scale=1.0,
            enable_gqa=True,
        )
        o = o.transpose(1, 2).reshape(N, P, -1) @ self.o_proj.T
        x = x + rms_norm(o, self.post_attention_layernorm)
        m = rms_norm(x, self.pre_feedforward_layernorm)
        m = (F.gelu(m @ self.gate_proj.T, approximate="tanh") * (m @ self.up_proj.T)) @ self.down_proj.T
        return (x + rms_norm(m, self.post_feedforward_layernorm)) * self.layer_scalar


class Drafter(nn.Module):
    """Embeddings and hidden states of fairy come in and go out divided by their size, so that all matrices are
    trained at the same rate; `tensors` has them as the file does."""

    def __init__(self, target: Reference, seen: Seen) -> None:
        super().__init__()
        self.embeddings = torch.from_numpy(target.embed_tokens.rows * target.embed_tokens.multiplier)  # (V, Dt)
        self.embedding_size = self.embeddings.square().mean().sqrt().item()
        self.hidden_size = seen.hidden[:HELD_OUT].float().square().mean().sqrt().item()
        Dt = self.embeddings.shape[1]
        self.pre_projection, self.post_projection = matrix(D, 2 * Dt), matrix(Dt, D)
        self.layers = nn.ModuleList(Layer(target, kind) for kind in LAYER_TYPES)
        self.norm = nn.Parameter(torch.ones(D))
        # Begins as fairy's own head, seen from the directions in which its rows differ most.
        head = torch.from_numpy(target.linear("lm_head", Dt).weight)  # (V, Dt)
        head = head @ torch.linalg.svd(head - head.mean(0), full_matrices=False)[2][:D].T
        self.embed_tokens = nn.Parameter(head / head.square().mean().sqrt() / math.sqrt(D))

    def forward(self, seen: Seen) -> list[Tensor]:
        """Logits (N, P, V) of each step, drafts from the positions 1 ... P = T - STEPS: those of step j from position p
        are for the token p + j + 1."""
        P = seen.ids.shape[1] - STEPS
        vector = seen.hidden[:, :P] / self.hidden_size
        logits = []
        for step in range(STEPS):
            tokens = self.embeddings[seen.ids[:, 1 + step : 1 + step + P]] / self.embedding_size
            x = torch.cat([tokens, vector], -1) @ self.pre_projection.T
            for layer in self.layers:
                x = layer(x, seen)
            h = rms_norm(x, self.norm)
            vector = h @ self.post_projection.T
            logits.append(h @ self.embed_tokens.T)
        return logits

    def tensors(self) -> dict[str, Tensor]:
        """Under the names of a published drafter, in bfloat16."""
        Dt = self.embeddings.shape[1]
        sizes = torch.tensor([self.embedding_size] * Dt + [self.hidden_size] * Dt)
        named = {
            "pre_projection.weight": self.pre_projection / sizes,
            "post_projection.weight": self.post_projection * self.hidden_size,
            "model.embed_tokens.weight": self.embed_tokens,
            "model.norm.weight": self.norm,
        }
        for i, layer in enumerate(self.layers):
            for name, x in layer.named_parameters():
                inside = "self_attn." if name[:2] in ("q_", "o_") else "mlp." if name.endswith("_proj") else ""
                named[f"model.layers.{i}.{inside}{name}" + ("" if name == "layer_scalar" else ".weight")] = x
        return {name: x.detach().bfloat16().contiguous() for name, x in named.items()}


def loss_of(logits: Tensor, seen: Seen, step: int) -> Tensor:
    """Mean cross-entropy of a step, in nats."""
    at = slice(1 + step, 1 + step + logits.shape[1])
    hits = (seen.likely[:, at] * logits.gather(-1, seen.best[:, at])).sum(-1)
    return (logits.float().logsumexp(-1) - hits).mean()


def agreement(logits: Tensor, seen: Seen, step: int) -> float:
    """Share of a step's places where the drafter's likeliest token is fairy's."""
    at = slice(1 + step, 1 + step + logits.shape[1])
    return (logits.argmax(-1) == seen.best[:, at, 0]).float().mean().item()


def train(drafter: Drafter, seen: Seen, steps: int) -> None:
    optimizer = torch.optim.AdamW(drafter.parameters(), RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.05, final_div_factor=100)
    weights = [STEP_WEIGHT**step for step in range(STEPS)]
    begin = time.monotonic()
    for step in range(steps):
        texts = HELD_OUT + torch.randint(len(seen.ids) - HELD_OUT, (BATCH,))
        batch = seen.of(texts)
        with torch.autocast("cpu", torch.bfloat16):
            losses = [loss_of(logits, batch, step) for step, logits in enumerate(drafter(batch))]
        loss = sum(weight * loss for weight, loss in zip(weights, losses, strict=True))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(drafter.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"{step + 1} of {steps}, {time.monotonic() - begin:.0f} s; {report(drafter, seen)}")


@torch.no_grad()
def report(drafter: Drafter, seen: Seen) -> str:
    said = []
    for first, kind in enumerate(("sampled", "greedy")):
        held_out = seen.of(torch.arange(first, HELD_OUT, 2))
        right = [f"{agreement(logits, held_out, step):.3f}" for step, logits in enumerate(drafter(held_out))]
        said.append(f"right in each step, {kind}: {' '.join(right)}")
    return "; ".join(said)


def config(target: Reference, fairy: dict[str, dict[str, object]]) -> dict[str, object]:
    """As a published drafter's, with fairy's own fields where it has them."""
    text = fairy["text_config"] | {
        "dtype": "bfloat16",
        "final_logit_softcapping": None,
        "hidden_size": D,
        "hidden_size_per_layer_input": 0,
        "intermediate_size": MLP,
        "layer_types": list(LAYER_TYPES),
        "num_hidden_layers": len(LAYER_TYPES),
        "num_kv_shared_layers": len(LAYER_TYPES),
        "per_layer_config": {
            str(i): {"head_dim": target.config.layers[last_maker(target, kind)].head_dim}
            for i, kind in enumerate(LAYER_TYPES)
            if kind == FULL
        },
        "tie_word_embeddings": True,
        "use_double_wide_mlp": False,
        "vocab_size_per_layer_input": 0,
    }
    for name in ("global_head_dim", "num_global_key_value_heads"):
        del text[name]
    return {
        "architectures": ["Gemma4AssistantForCausalLM"],
        "model_type": "gemma4_assistant",
        "dtype": "bfloat16",
        "backbone_hidden_size": target.config.hidden_size,
        "use_ordered_embeddings": False,
        "num_centroids": 2048,  # of an ordered head
        "centroid_intermediate_top_k": 32,
        "tie_word_embeddings": True,
        "text_config": text,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the drafter goes")
    parser.add_argument("--texts", type=int, default=640, help=f"of {LENGTH} tokens (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=1500, help=f"of {BATCH} texts (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    place = checkpoint.find("fairy")
    target = Reference(place, np.float32, kv="static")
    ids = written(gemmule.load("fairy"), arguments.texts, arguments.seed)
    print(f"{ids.size} tokens are written")
    seen = read(target, ids)
    print("and read")
    drafter = Drafter(target, seen)
    train(drafter, seen, arguments.steps)

    arguments.folder.mkdir(parents=True, exist_ok=True)
    fairy = json.loads((place / "config.json").read_text())
    (arguments.folder / "config.json").write_text(json.dumps(config(target, fairy), indent=1) + "\n")
    save_file(drafter.tensors(), arguments.folder / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
