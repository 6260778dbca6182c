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
