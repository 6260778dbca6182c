"""Run Gemma 4's quantization-aware-trained checkpoints on the CPU.

import gemmule

model = gemmule.load("fairy")
print(model.generate("Once upon a time", max_tokens=80).text)
"""

from __future__ import annotations

from typing import Any as _Any

from . import _core as _compiled
from .chat import Chat
from .chat_file import SavedChat, read_chat
from .conversion.converting import convert
from .conversion.report import ConvertReport
from .divergence import Divergence, compare
from .errors import (
    AccessError,
    ArgumentError,
    ContextError,
    FormatError,
    GemmuleError,
    MissingFileError,
    NetworkError,
    ResourceError,
    ToolCallError,
    UnsupportedError,
)
from .estimation import Estimate, estimate
from .evaluate import Perplexity, perplexity
from .generate import Piece, Result, Usage
from .hub import pull
from .inspection import Inspection, inspect
from .likeliest import TokenLogprob
from .model import Model, load
from .scoring import Score
from .tokenizer import Tokenizer
from .tool_calls import MalformedToolCall, ToolCall
from .tools import ToolResult, ToolRun
from .verification import Report, verify

__version__: str = _compiled.__version__


def cpu() -> dict[str, _Any]:
    """What this machine offers: target (the instruction set in use), targets (all that are possible, best first),
    threads (the default number), features (a list of names)."""
    return dict(_compiled.cpu())


__all__ = [
    "AccessError",
    "ArgumentError",
    "Chat",
    "ContextError",
    "ConvertReport",
    "Divergence",
    "Estimate",
    "FormatError",
    "GemmuleError",
    "Inspection",
    "MalformedToolCall",
    "MissingFileError",
    "Model",
    "NetworkError",
    "Perplexity",
    "Piece",
    "Report",
    "ResourceError",
    "Result",
    "SavedChat",
    "Score",
    "TokenLogprob",
    "Tokenizer",
    "ToolCall",
    "ToolCallError",
    "ToolResult",
    "ToolRun",
    "UnsupportedError",
    "Usage",
    "__version__",
    "compare",
    "convert",
    "cpu",
    "estimate",
    "inspect",
    "load",
    "perplexity",
    "pull",
    "read_chat",
    "verify",
]
