"""Texts and ids for tests of the tokenizer: random Unicode, its own tokens in any order, runs of bytes."""

import json
import random
from pathlib import Path
from typing import Any

from fakes import TOKENIZER

# Code points: ASCII, controls, Latin, Greek and Cyrillic, Devanagari, CJK, emoji, joiners, private use, the last ones.
BLOCKS = [
    range(0x20, 0x7F),
    range(0x00, 0x20),
    range(0xA0, 0x250),
    range(0x370, 0x500),
    range(0x900, 0x980),
    range(0x4E00, 0x9FA6),
    range(0x1F300, 0x1F650),
    range(0x200B, 0x2010),
    range(0xE000, 0xE100),
    range(0x10FF00, 0x110000),
    [0x20],
    [0x0A],
    [0x2581],
    [0x65],
]


def random_text(rng: random.Random, longest: int = 60) -> str:
    blocks = rng.sample(BLOCKS, rng.randint(1, 4))
    return "".join(chr(rng.choice(rng.choice(blocks))) for _ in range(rng.randint(0, longest)))


def fixture() -> dict[str, Any]:
    """The content of the fixture's tokenizer.json, to be changed at will."""
    content: dict[str, Any] = json.loads((TOKENIZER / "tokenizer.json").read_text())
    return content


def added(id: int, content: str, **changes: Any) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return {"id": id, "content": content, **flags, **changes}


def write(folder: Path, content: object) -> Path:
    """Writes `content`, JSON or text of any kind, as a tokenizer.json; returns its path."""
    file = folder / "tokenizer.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False))
    return file
