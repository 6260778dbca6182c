"""The progress bar of long work."""

import threading

from tqdm import TMonitor

from gemmule.progress import Progress


def test_no_thread_of_its_own():
    """Shown or not: tqdm's would be started, and waited for, where there may be no memory for it."""
    before = [thread for thread in threading.enumerate() if isinstance(thread, TMonitor)]
    with Progress(3, "B", wanted=False) as progress:
        progress.advance(2, "half")
    assert [thread for thread in threading.enumerate() if isinstance(thread, TMonitor)] == before
