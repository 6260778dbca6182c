"""Prompts of random tokens: what they say does not change the speed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import ContextError
from ..model import Model


def random_ids(model: Model, count: int) -> NDArray[np.int32]:
    """(count,) ids, the same each time."""
    return np.random.default_rng(0).integers(0, model.vocab_size, count, dtype=np.int32)


def require_room(model: Model, prompt: int, tokens: int) -> None:
    """Raises ContextError where the model's context does not hold both."""
    if prompt + tokens > model.context:
        raise ContextError(
            f"{prompt} tokens of the prompt and {tokens} more do not fit: the context holds {model.context}",
            remedy="Ask for a shorter prompt or for fewer tokens.",
            expected=f"at most {model.context} tokens",
            found=str(prompt + tokens),
        )
