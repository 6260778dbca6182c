"""What a conversion did to each tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..json_line import json_line
from ..plotting import new_figure
from ..table import amount, in_lines, table


@dataclass(frozen=True)
class TensorReport:
    """Attributes:
    name: in the target's files.
    kind: one of shapes.KINDS.
    source, stored: how the source stores its elements, and how the target does: "bf16", "q4_0", "4-bit", ...
    parameters: elements.
    bytes: in the target, scales included.
    relative_error: root of (sum of (x - stored)^2 / sum of x^2).
    on_grid: share of elements in blocks, or rows, that came back bit for bit.
    saturated: share of elements that were clamped to the last code on their side.
    nonfinite: elements that were NaN or infinite.
    """

    name: str
    kind: str
    source: str
    stored: str
    parameters: int
    bytes: int
    relative_error: float
    on_grid: float
    saturated: float
    nonfinite: int

    @property
    def bits(self) -> float:
        """Bits a parameter, scales included."""
        return 8 * self.bytes / self.parameters


@dataclass(frozen=True)
class ConvertReport:
    """What a conversion made; print it, or take `to_json()`.

    Attributes:
        source, target: paths.
        to: the format.
        bytes: of the target's weights.
        tensors: one for each tensor of the target.
        left_out: names of the source's tensors that are not in the target.
        notes: what to know of the result.
        seconds: it took.
    """

    source: str
    target: str
    to: str
    bytes: int
    tensors: tuple[TensorReport, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float

    def to_json(self) -> str:
        """All fields, as a JSON object."""
        return json_line(asdict(self))

    def __str__(self) -> str:
        groups: dict[tuple[str, str, str], list[TensorReport]] = {}
        for tensor in self.tensors:
            groups.setdefault((tensor.kind, tensor.source, tensor.stored), []).append(tensor)
        rows = [_row(kind, source, stored, group) for (kind, source, stored), group in groups.items()]
        head = ("kind", "from", "to", "tensors", "bytes", "bits", "error", "on grid", "clamped")
        lines = [f"{self.source} -> {self.target} ({self.to}), {amount(self.bytes)} in {self.seconds:.1f} s", ""]
        lines += table(head, rows, left=(0, 1, 2)).split("\n")
        if self.left_out:
            some = ", ".join(self.left_out[:3]) + (", ..." if len(self.left_out) > 3 else "")
            lines += ["", f"left out: {len(self.left_out)} tensors ({some})"]
        lines += ["", *(f"note: {note}" for note in self.notes)] if self.notes else []
        return in_lines(lines)

    def plot(self) -> Any:
        """A matplotlib Figure: the relative error of every tensor, by layer, and the bytes of each kind.

        Raises:
            UnsupportedError: matplotlib is not installed.
        """
        figure = new_figure(14, 5)
        left, right = figure.subplots(1, 2)
        changed = [tensor for tensor in self.tensors if tensor.relative_error > 0]
        for stored in dict.fromkeys(tensor.stored for tensor in changed):
            places = [(i, t.relative_error) for i, t in enumerate(changed) if t.stored == stored]
            left.plot(*zip(*places, strict=True), ".", label=stored)
        left.set(xlabel="tensor", ylabel="relative error", yscale="log", title="what rounding cost")
        if changed:
            left.legend()
        sizes: dict[str, float] = {}
        for tensor in self.tensors:
            kind = tensor.kind
            sizes[kind] = sizes.get(kind, 0.0) + tensor.bytes / 1e6
        right.barh(list(sizes), list(sizes.values()))
        right.set(xlabel="MB (1e6 bytes)", title="bytes of each kind")
        return figure


def _row(kind: str, source: str, stored: str, group: Sequence[TensorReport]) -> tuple[str, ...]:
    parameters = sum(tensor.parameters for tensor in group)
    size = sum(tensor.bytes for tensor in group)
    # Of the group as if its tensors had equal norms.
    error = math.sqrt(sum(tensor.relative_error**2 for tensor in group) / len(group))
    shares = [sum(getattr(t, what) * t.parameters for t in group) / parameters for what in ("on_grid", "saturated")]
    return (
        kind,
        source,
        stored,
        str(len(group)),
        amount(size),
        f"{8 * size / parameters:.2f}",
        f"{error:.4f}",
        f"{shares[0]:.1%}",
        f"{shares[1]:.2%}",
    )
