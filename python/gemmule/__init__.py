"""Run Gemma 4's quantization-aware-trained checkpoints on the CPU.

import gemmule

model = gemmule.load("fairy")
print(model.generate("Once upon a time", max_tokens=80).text)
"""

from __future__ import annotations

from typing import Any as _Any

from . import _core as _compiled
from .chat import Chat
from .errors import (
    ArgumentError,
    ContextError,
    FormatError,
    GemmuleError,
    MissingFileError,
    ResourceError,
    UnsupportedError,
)
from .evaluate import Perplexity, perplexity
from .generate import Piece, Result, Usage
from .model import Model, load
from .tokenizer import Tokenizer

__version__: str = _compiled.__version__


def cpu() -> dict[str, _Any]:
    """What this machine offers: target (the instruction set in use), targets (all that are possible, best first),
    threads (the default number), features (a list of names)."""
    return dict(_compiled.cpu())


__all__ = [
    "ArgumentError",
    "Chat",
    "ContextError",
    "FormatError",
    "GemmuleError",
    "MissingFileError",
    "Model",
    "Perplexity",
    "Piece",
    "ResourceError",
    "Result",
    "Tokenizer",
    "UnsupportedError",
    "Usage",
    "__version__",
    "cpu",
    "load",
    "perplexity",
]
