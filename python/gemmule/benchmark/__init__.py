"""How fast gemmule is on this machine, and how near to what the machine can do: `speed`, `limits`, `kernels`,
`profile`."""

from __future__ import annotations

from .kernel_speed import KernelTime, KernelTimes, kernels
from .machine import Limit, Limits, limits
from .model_speed import Speed, speed
from .profiling import OperationTime, Phase, Profile, profile
from .samples import Samples, conditions

__all__ = [
    "KernelTime",
    "KernelTimes",
    "Limit",
    "Limits",
    "OperationTime",
    "Phase",
    "Profile",
    "Samples",
    "Speed",
    "conditions",
    "kernels",
    "limits",
    "profile",
    "speed",
]
