"""Whether a checkpoint's files are whole, and its numbers such as a working model has."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from .. import _core, paths
from ..json_line import json_line
from ..printable import printable
from ..progress import Progress
from ..table import amount, in_lines
from . import hub_record
from .contents import contents
from .shapes import ATTENTION, EXPERTS, HEAD, MLP, NORMS, PER_LAYER_INPUTS
from .tensors import WEIGHT, WEIGHT_SCALE, Piece, Tensor

# A dead or saturated row is a fault where every row matters; tables have rows of tokens that were never trained.
_EVERY_ROW_MATTERS = (ATTENTION, MLP, EXPERTS, PER_LAYER_INPUTS, HEAD, NORMS)


@dataclass(frozen=True)
class File:
    """One file: its size in bytes and SHA-256, and the hub's SHA-256 of it where that is known."""

    name: str
    bytes: int
    sha256: str
    expected_sha256: str | None


@dataclass(frozen=True)
class Finding:
    """Something about one file or tensor.

    Attributes:
        where: name of the file or tensor.
        what: "wrong hash", "not finite", "negative scale", "dead rows" (all zero), "saturated rows" (all codes at the
            same extreme; not where GGUF's blocks have a minimum, since equal elements have such codes there).
        count: how many values or rows; 1 for a file.
        first: the first of them: row, or place in the tensor.
        wrong: whether it makes the checkpoint a broken one; otherwise it is a remark.
    """

    where: str
    what: str
    count: int
    first: int
    wrong: bool

    def __str__(self) -> str:
        return printable(f"{self.where}: {self.what}: {self.count}, the first at {self.first}")


@dataclass(frozen=True)
class Report:
    """What `verify` found. True in a condition where nothing is wrong.

    Attributes:
        path: of the checkpoint.
        files: with sizes and hashes.
        tensors: how many were looked at.
        findings: what stood out, faults first.
    """

    path: str
    files: tuple[File, ...]
    tensors: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return not any(finding.wrong for finding in self.findings)

    def __bool__(self) -> bool:
        return self.ok

    def to_json(self) -> str:
        """All fields and `ok`, as a JSON object."""
        return json_line({**asdict(self), "ok": self.ok})

    def __str__(self) -> str:
        lines = []
        for file in self.files:
            known = {None: "", file.sha256: "  as on the hub"}.get(file.expected_sha256, "  NOT as on the hub")
            lines.append(f"{file.sha256}  {file.name}  {amount(file.bytes)}{known}")
        lines += [("wrong: " if finding.wrong else "remark: ") + str(finding) for finding in self.findings]
        verdict = "nothing is wrong" if self.ok else "something is wrong"
        lines.append(f"{self.path}: {self.tensors} tensors: {verdict}")
        return in_lines(lines)


def verify(path: str | os.PathLike[str], *, progress: bool = True) -> Report:
    """Reads all of a checkpoint once and looks for damage: hashes, NaN and infinity, dead and saturated rows.

    Sizes and headers that contradict each other are errors already when the files are opened. Memory stays at a few
    megabytes.

    Args:
        path: a folder, a GGUF file, "fairy", or the name of a repository that was pulled before.
        progress: show a bar, on a terminal.

    Raises:
        FormatError: a file's header does not fit its content.
        MissingFileError: no such folder or file.
        UnsupportedError: a GGUF file that gemmule does not run.
    """
    tensors = contents(path)
    known = hub_record.read(tensors.root)
    names = {str(file.relative_to(tensors.root)) for file in tensors.files}
    # A repository may hold several models in GGUF.
    names |= {name for name in known if paths.is_file(tensors.root / name) and not name.endswith(".gguf")}
    sizes = {name: (tensors.root / name).stat().st_size for name in sorted(names)}
    files, findings = [], []
    work = sum(sizes.values()) + sum(tensor.bytes for tensor in tensors.all)
    # NaN is looked for, and no reason for numpy to print a warning.
    with Progress(work, "B", wanted=progress) as bar, np.errstate(invalid="ignore"):
        for name, size in sizes.items():
            expected = known[name].sha256 if name in known else None
            found = hub_record.sha256_of(tensors.root / name, bar)
            files.append(File(name, size, found, expected))
            if expected not in (None, found):
                findings.append(Finding(name, "wrong hash", 1, 0, wrong=True))
        for tensor in tensors.all:
            findings += _look_at(tensor, bar)
    findings.sort(key=lambda finding: not finding.wrong)
    return Report(str(tensors.path), tuple(files), len(tensors.all), tuple(findings))


def _look_at(tensor: Tensor, bar: Progress) -> Iterator[Finding]:
    counts: Counter[str] = Counter()
    first: dict[str, int] = {}

    def count(what: str, start: int, places: NDArray[np.int64]) -> None:
        if places.size:
            first.setdefault(what, start + int(places[0]))
            counts[what] += places.size

    marks = _EVERY_MARK
    for piece in tensor.pieces():
        seen = _look(tensor, piece)
        start = piece.row * tensor.columns + piece.at * tensor.columns // tensor.row_bytes
        count("not finite", start, seen.not_finite)
        count("negative scale", start, seen.negative)
        marks = marks & seen.marks  # of all parts so far
        if piece.at + piece.bytes >= tensor.row_bytes:
            dead = (marks & _core.ZERO).astype(bool)
            count("dead rows", piece.row, np.flatnonzero(dead))
            count("saturated rows", piece.row, np.flatnonzero(~dead & (marks & (_core.LOWEST | _core.HIGHEST) != 0)))
            marks = _EVERY_MARK
        bar.advance(piece.bytes, tensor.name)
    for what, number in counts.items():
        matters = tensor.kind in _EVERY_ROW_MATTERS or what in ("not finite", "negative scale")
        yield Finding(tensor.name, what, number, first[what], wrong=matters)


_EVERY_MARK = np.full(1, _core.ZERO | _core.LOWEST | _core.HIGHEST, np.uint8)


@dataclass
class _Seen:
    """In one piece of a tensor: the elements that are not finite and those that are negative and must not be, and for
    each row the marks, as blocks have them, of what all elements are: ZERO, LOWEST, HIGHEST."""

    marks: NDArray[np.uint8]
    not_finite: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    negative: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


def _look(tensor: Tensor, piece: Piece) -> _Seen:
    values = piece.values
    seen = _Seen(np.zeros(len(values), np.uint8))
    if tensor.is_float:
        seen.not_finite = np.flatnonzero(~np.isfinite(values))
        if tensor.role != WEIGHT:
            seen.negative = np.flatnonzero(values < 0)
        if tensor.role == WEIGHT_SCALE or (tensor.role == WEIGHT and len(tensor.shape) > 1):
            seen.marks[~values.any(axis=1)] = _core.ZERO
    elif tensor.is_blocks:
        marks = _core.mark_blocks(values, tensor.dtype.lower())
        elements = piece.bytes * tensor.columns // tensor.row_bytes // marks.size
        seen.not_finite = np.flatnonzero(np.repeat(marks & _core.NOT_FINITE, elements))
        seen.marks = np.bitwise_and.reduce(marks.reshape(len(values), -1), axis=1)
    elif tensor.role == WEIGHT and tensor.bits in (2, 4, 8):
        data = tensor.packed(piece)
        if data.size:
            lowest, zero, highest = (0x80, 0x00, 0x7F) if tensor.dtype == "I8" else _BYTES[tensor.bits]
            uniform = (data == data[:, :1]).all(axis=1)
            for byte, mark in ((lowest, _core.LOWEST), (zero, _core.ZERO), (highest, _core.HIGHEST)):
                seen.marks[uniform & (data[:, 0] == byte)] = mark
    return seen


# Bits of a code stored with an offset -> the byte that holds only lowest codes, only zeros, only highest codes.
_BYTES = {2: (0x00, 0xAA, 0xFF), 4: (0x00, 0x88, 0xFF), 8: (0x00, 0x80, 0xFF)}
