"""How many bits the mobile format gives each module of a text model.

Source of the rules: quantization_config of the published google/gemma-4-E2B-it-qat-mobile-transformers and E4B.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..arguments import shown
from ..errors import ArgumentError
from .text_config import TextConfig

BITS = (2, 4, 8)
DEFAULT_BITS = 4


@dataclass(frozen=True)
class BitRule:
    """pattern: a regular expression, searched in a module's name in the files; the first rule that is found counts."""

    pattern: str
    bits: int


def published_rules(config: TextConfig, prefix: str) -> list[BitRule]:
    """E2B's rules where the layers that share keys and values have wider MLPs than the others; else E4B's.

    Args:
        prefix: of names in the files, "model.language_model." or "model.".
    """
    root = re.escape(prefix.removeprefix("model.")).replace(r"\_", "_")
    widths = [layer.intermediate_size for layer in config.layers]
    narrow = [str(i) for i, width in enumerate(widths) if width == widths[0]]
    is_e2b = len(narrow) < len(widths)
    mlps = [BitRule(rf"{root}layers\.\d+\.mlp\.", 2 if is_e2b else 4)]
    if is_e2b:
        mlps.insert(0, BitRule(rf"{root}layers\.({'|'.join(narrow)})\.mlp\.", 4))
    return [
        BitRule("^lm_head$", 2),
        BitRule(rf"{root}embed_tokens$", 2),
        BitRule(rf"{root}embed_tokens_per_layer$", 4 if is_e2b else 2),
        *mlps,
        BitRule(rf"{root}layers\.\d+\.self_attn\.", 4),
        BitRule(rf"{root}layers\.\d+\.per_layer_input_gate$", 8),
        BitRule(rf"{root}layers\.\d+\.per_layer_projection$", 8),
    ]


def overriding_rules(overrides: Mapping[str, int], modules: Sequence[str]) -> list[BitRule]:
    """Rules that name the modules in which an override's regular expression is found, one after another: a rule that
    begins at a name's start is found first whether rules are tried in turn or all at once, as transformers does it.

    Raises:
        ArgumentError: a regular expression does not compile, or is found in no module; bits that there are not.
    """
    rules = []
    for pattern, bits in overrides.items():
        if not isinstance(bits, (int, np.integer)) or isinstance(bits, bool) or bits not in BITS:
            raise _refused(f"{shown(pattern)} is given {shown(bits)} bits", "2, 4 or 8 bits", shown(bits))
        try:
            found = [module for module in modules if re.search(pattern, module)]
        except (re.error, TypeError) as error:
            what = f"{shown(pattern)} does not compile: {error}"
            raise _refused(what, "a regular expression", shown(pattern)) from None
        if not found:
            some = ", ".join(modules[:3])
            what = f"{shown(pattern)} is found in no module"
            raise _refused(what, f"part of a name such as {some}", shown(pattern))
        rules.append(BitRule("^(" + "|".join(re.escape(module) for module in found) + ")$", int(bits)))
    return rules


def bits_of(module: str, rules: Sequence[BitRule]) -> int:
    """By the first rule that is found in the module's name."""
    return next((rule.bits for rule in rules if re.search(rule.pattern, module)), DEFAULT_BITS)


def _refused(message: str, expected: str, found: str) -> ArgumentError:
    return ArgumentError(
        f"overrides: {message}; expected {expected}",
        remedy='Write overrides like {"self_attn\\\\.o_proj$": 8}.',
        expected=expected,
        found=found,
    )
