"""How repeated measurements are summed up."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median, least and most, quartiles, and the samples themselves."""
    samples = list(values)
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else samples * 3
    return {
        "median": statistics.median(samples),
        "min": min(samples),
        "max": max(samples),
        "quartiles": [low, high],
        "samples": samples,
    }
