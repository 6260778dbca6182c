"""Hundreds of interrupts (Ctrl-C) at random moments of everything that takes time: KeyboardInterrupt within 200 ms, and
the same text afterwards.

GEMMULE_SLOW_CHECKPOINT: a checkpoint with a tokenizer, in place of small ones: the bound is meant for large ones.
"""

import os
import statistics
from pathlib import Path

import pytest

from chat_models import chat_folder
from interrupts import KINDS, interrupt

LARGE = os.environ.get("GEMMULE_SLOW_CHECKPOINT")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c(kind, tmp_path):
    (tmp_path / "written").mkdir()
    place = Path(LARGE) if LARGE else chat_folder("e2b" if kind == "convert" else "mobile", tmp_path / "model")
    times, longest = (25, 2.0) if LARGE else (200, 0.1)
    found = interrupt(place, tmp_path / "written", kind, times, seed=2, longest=longest)
    print(f"\n{kind}: {found}")
    # Other programs may have the processor at a moment, not at most of them. What gigabytes take on the disk takes a
    # while to be given back.
    assert statistics.quantiles(found.seconds, n=20)[-1] < (1.0 if LARGE and kind == "convert" else 0.2)
    assert all("part" not in files for files in found.left)
