"""JSON of results."""

from __future__ import annotations

import json
import math
from typing import Any

from .printable import printable


def json_line(value: dict[str, Any]) -> str:
    """One line of JSON. It has no NaN: a number that is not finite is null."""
    return printable(json.dumps(_finite(value), ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
