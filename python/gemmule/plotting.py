"""Figures, for those who have matplotlib (the extra `plot`)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .errors import UnsupportedError


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib Figure of that size in inches, which no window shows.

    Raises:
        UnsupportedError: matplotlib is not installed.
    """
    try:
        figures = import_module("matplotlib.figure")
    except ImportError:
        raise UnsupportedError("plots need matplotlib", remedy="pip install 'gemmule[plot]'") from None
    return figures.Figure(figsize=(width, height), layout="constrained")
