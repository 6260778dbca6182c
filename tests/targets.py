"""Instruction sets that promise equal bits."""

import gemmule

# Without fused multiply-add a sum's roundings differ: these are outside the promise.
UNFUSED = {"SSE2", "SSSE3", "SSE4"}


def fused_targets() -> list[str]:
    """What this processor has, best first."""
    return [name for name in gemmule._core.testing.targets() if name not in UNFUSED]
