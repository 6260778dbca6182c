"""Whether two engines compute the same model: how far their logits are from each other and from float products.

Both round activations to 8 bits in products with Q4_0 and Q6_K weights; gemmule with float activations does not. What
llama.cpp's logits are off from those explains a difference of the engines of about as much.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine_process import EngineProcess, Side

PROMPTS, PROMPT_TOKENS = 4, 32
TOLERANCE = 2.0  # two independent deviations of the same size are 1.4 of it apart
LARGEST_DEVIATION = 0.25  # of the logits' own size: beyond it they say little


def measure(gemmule: EngineProcess, llama_cpp: EngineProcess, exact: Side, vocab_size: int) -> dict[str, Any]:
    """Root mean squares over the logits behind some prompts. `exact` is started when the others are done."""
    ids = np.random.default_rng(1).integers(vocab_size // 2, vocab_size, (PROMPTS, PROMPT_TOKENS))
    ours, theirs = logits(gemmule, ids), logits(llama_cpp, ids)
    with EngineProcess(exact) as engine:
        engine.load()
        float_products = logits(engine, ids)
    size = rms(float_products)
    theirs_off, between = rms(theirs - float_products), rms(ours - theirs)
    return {
        "logits_rms": size,
        "gemmule_from_float_products": rms(ours - float_products),
        "llama_cpp_from_float_products": theirs_off,
        "between_engines": between,
        "agree": between <= TOLERANCE * theirs_off and theirs_off <= LARGEST_DEVIATION * size,
    }


def logits(engine: EngineProcess, prompts: NDArray[Any]) -> NDArray[np.float32]:
    """(PROMPTS, V), behind the last token of each."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "logits.npy"
        for prompt in prompts:
            engine.call("prefill", tokens=prompt.tolist())
            engine.call("save_logits", file=str(file))
            rows.append(np.load(file))
    return np.stack(rows)


def rms(values: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
