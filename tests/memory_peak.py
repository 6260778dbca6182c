"""How much memory a call takes at its peak, beyond what the process had."""

import ctypes
from collections.abc import Callable
from pathlib import Path


def peak_growth(call: Callable[[], object]) -> int:
    """Bytes by which the most that was resident while `call` ran is over what was resident before."""
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before would take the call's memory in
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew from here
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))
