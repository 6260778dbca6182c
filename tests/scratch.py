"""Folders for what more than one test uses, or a test without pytest's tmp_path. They go when the program ends."""

import atexit
import shutil
from pathlib import Path
from tempfile import mkdtemp

_ROOT = Path(mkdtemp(prefix="gemmule-tests-"))
atexit.register(shutil.rmtree, _ROOT, ignore_errors=True)


def new_folder() -> Path:
    return Path(mkdtemp(dir=_ROOT))
