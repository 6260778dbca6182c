"""Large files that tests compare with where an environment variable names them (CONTRIBUTING.md)."""

import os
from pathlib import Path

import pytest


def oracle_file(variable: str) -> Path:
    """The file that `variable` names; skips the test where it names none."""
    name = os.environ.get(variable)
    if not name:
        pytest.skip(f"{variable} is not set to a file")
    return Path(name)
