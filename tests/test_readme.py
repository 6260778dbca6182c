"""The README's table of what runs, held to the code and the tests as far as that is simple."""

import re
from pathlib import Path

from hostile_gguf import TYPES
from published_configs import CONFIGS

README = Path(__file__).parents[1] / "README.md"


def rows() -> dict[str, list[str]]:
    """First cell -> the others, of the table that begins with the sizes."""
    lines = README.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("| | E2B"))
    table = [line.strip("|").split("|") for line in lines[first:] if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in table[:6]}


def test_sizes():
    assert rows()[""] == list(CONFIGS)


def test_types_of_gguf():
    row = next(name for name in rows() if name.startswith("GGUF"))
    listed = re.search(r"\((.*)\)", row)[1].split(", ")
    assert set(listed) == TYPES.keys() - {"I8", "I32"}  # no model's weights have these


def test_named_files_are_there():
    named = re.findall(r"`((?:tests|benchmarks)/[\w/.-]*)`", README.read_text())
    assert len(named) >= 8
    for name in named:
        assert (README.parent / name).exists(), name
