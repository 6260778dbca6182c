"""Run Gemma 4's quantization-aware-trained checkpoints on the CPU.

import gemmule

model = gemmule.load("fairy")
print(model.generate("Once upon a time", max_tokens=80).text)
"""

from __future__ import annotations

from typing import Any as _Any

from . import subinterpreters as _subinterpreters  # noqa: F401  before the compiled module

# isort: split
from . import _core as _compiled
from .chats.chat import Chat
from .chats.chat_file import SavedChat, read_chat
from .chats.tools import ToolResult, ToolRun
from .checkpoints.estimation import Estimate, estimate
from .checkpoints.hub import pull
from .checkpoints.inspection import Inspection, inspect
from .checkpoints.verification import Report, verify
from .conversion.converting import convert
from .conversion.report import ConvertReport
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
from .generation.generate import Piece, Result, Usage
from .generation.likeliest import TokenLogprob
from .generation.scoring import Score
from .loading import load
from .model import Model
from .quality.divergence import Divergence, compare
from .quality.evaluate import Perplexity, perplexity
from .text.tokenizer import Tokenizer
from .text.tool_calls import MalformedToolCall, ToolCall

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
