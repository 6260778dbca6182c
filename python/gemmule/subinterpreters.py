"""Refuses Python's sub-interpreters, on import: in one, loading the compiled module waits for ever for its lock."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def _is_main() -> bool:
    """Whether this is the interpreter that the process began with; also where Python does not say."""
    for name in ("_interpreters", "_xxsubinterpreters"):  # since 3.13; before
        try:
            interpreters: Any = import_module(name)
        except ImportError:
            continue
        return bool(interpreters.get_current() == interpreters.get_main())
    return True


if not _is_main():
    raise ImportError(
        "gemmule does not run in a sub-interpreter of Python\n"
        "Use it in the main one, in threads or in processes of their own; under mod_wsgi set "
        "WSGIApplicationGroup %{GLOBAL}."
    )
