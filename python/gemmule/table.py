"""Text in columns, and amounts of bytes, for people."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from .printable import printable


def amount(size: int) -> str:
    """`size` bytes in the unit that suits it, 1 MB = 1e6 bytes."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.2f} {unit}"
    return f"{size} B"


def in_lines(lines: Iterable[str]) -> str:
    """Lines, in which names from files may stand."""
    return "\n".join(printable(line) for line in lines)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,)) -> str:
    """Rows under a head, columns aligned to the right but for those in `left`."""
    lines = [[printable(cell) for cell in line] for line in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
