"""What else the machine computed meanwhile: other programs disturb a measurement, and not every engine alike."""

from __future__ import annotations

import os
import time
from pathlib import Path


class OtherPrograms:
    """Counts from when it is made. Processes of ours count as ours once they have ended."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._before = others_seconds()

    def cores(self) -> float:
        """How many cores other programs kept busy, on average."""
        return (others_seconds() - self._before) / (time.perf_counter() - self._began)


def others_seconds() -> float:
    """Time of all processors in which they ran neither this process nor ended children of it."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    own = os.times()
    return busy - (own.user + own.system + own.children_user + own.children_system)
