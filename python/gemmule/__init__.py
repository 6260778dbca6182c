"""Run Gemma 4's quantization-aware-trained checkpoints on the CPU.

import gemmule

model = gemmule.load("fairy")
print(model.generate("Once upon a time", max_tokens=80).text)
"""

from __future__ import annotations

import os as _os
from types import ModuleType as _ModuleType
from typing import Any as _Any


def _import_core() -> _ModuleType:
    """Imports the compiled half so that its threads make room for other programs.

    Between two parallel regions libgomp's threads spin, waiting for work; by default so long that, beside another busy
    program, each region costs milliseconds. It reads these variables once, while it is loaded, so a short spin is set
    for the import alone. A user's own setting stands.
    """
    ours = not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & _os.environ.keys()
    if ours:
        _os.environ["GOMP_SPINCOUNT"] = "2000"  # turns of the waiting loop, well under a millisecond
    try:
        from . import _core

        return _core
    finally:
        if ours:
            del _os.environ["GOMP_SPINCOUNT"]


_compiled = _import_core()

from .chat import Chat  # noqa: E402
from .errors import (  # noqa: E402
    ArgumentError,
    ContextError,
    FormatError,
    GemmuleError,
    MissingFileError,
    ResourceError,
    UnsupportedError,
)
from .evaluate import Perplexity, perplexity  # noqa: E402
from .generate import Piece, Result, Usage  # noqa: E402
from .model import Model, load  # noqa: E402
from .tokenizer import Tokenizer  # noqa: E402

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
