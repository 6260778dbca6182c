"""The fixture folders and their golden values."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from gemmule.reference import read_file

FIXTURES = Path(__file__).parent / "fixtures"
FLOAT_FIXTURES = ["e2b", "e4b", "share_order", "dense", "moe"]
MOBILE_FIXTURES = ["mobile", "mobile_absmax"]
DRAFTER_FIXTURES = ["mtp", "mtp_ordered"]  # of e2b


@dataclass(frozen=True)
class Case:
    """One fixture: its folder, golden arrays by name, and facts."""

    folder: Path
    golden: dict[str, np.ndarray]
    facts: dict

    @property
    def ids(self) -> np.ndarray:
        """(96,) token ids, the prompt of the golden values."""
        return self.golden["input_ids"].astype(np.int32)

    def hidden(self) -> list[np.ndarray]:
        """L + 1 arrays (n, D), the last n positions: embeddings, then each layer's output, the last one normed."""
        return [self.golden[name] for name in sorted(self.golden) if name.startswith("hidden.")]


@cache
def read_case(name: str) -> Case:
    folder = FIXTURES / name
    return Case(folder, read_file(folder / "golden.safetensors"), json.loads((folder / "case.json").read_text()))


@dataclass(frozen=True)
class DraftCall:
    """A recorded step of a drafter.

    Attributes:
        position: the query's.
        inputs: (2 Ht,) the target's embedding and hidden state, or the vector of the step before.
        sliding, full: keys and values (n, G, E) that the target handed over.
        logits, vector: what came out, (V,) and (Ht,).
    """

    position: int
    inputs: np.ndarray
    sliding: tuple[np.ndarray, np.ndarray]
    full: tuple[np.ndarray, np.ndarray]
    logits: np.ndarray
    vector: np.ndarray


def draft_calls(case: Case) -> list[DraftCall]:
    """The steps of those drafts whose keys and values are recorded, which they are with the first step of a draft."""
    golden = case.golden
    calls = []
    keys: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for at in sorted(name.split(".")[0] for name in golden if name.endswith(".position")):
        position = int(golden[f"{at}.position"][0])
        if f"{at}.k.full_attention" in golden:
            keys = {
                kind: (golden[f"{at}.k.{kind}"].swapaxes(0, 1), golden[f"{at}.v.{kind}"].swapaxes(0, 1))
                for kind in ("sliding_attention", "full_attention")
            }
            recorded = position
        if position == recorded:
            inputs, logits, vector = (
                golden[f"{at}.{what}"][0] for what in ("inputs_embeds", "logits", "projected_hidden")
            )
            calls.append(DraftCall(position, inputs, keys["sliding_attention"], keys["full_attention"], logits, vector))
    return calls
