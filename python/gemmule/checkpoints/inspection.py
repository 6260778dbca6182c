"""What a checkpoint holds, seen without loading it."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..json_line import json_line
from ..plotting import new_figure
from ..table import amount, in_lines, table
from .code_usage import code_usage
from .contents import contents
from .shapes import KINDS, LEFTOVERS, UNKNOWN
from .tensors import CACHE_SCALE, INPUT_SCALE, OUTPUT_SCALE, WEIGHT, Tensor, Tensors


@dataclass(frozen=True)
class Group:
    """All tensors of one kind.

    Attributes:
        kind: "attention", "mlp", "embeddings", ...: see shapes.KINDS.
        tensors: how many, scales among them.
        parameters: elements of the weights.
        weight_bytes, scale_bytes: of weights, with the scales inside of blocks, and of all scales that belong to them.
        encodings: encoding of weights -> how many of their parameters are written so.
    """

    kind: str
    tensors: int
    parameters: int
    weight_bytes: int
    scale_bytes: int
    encodings: dict[str, int]

    @property
    def bits(self) -> float:
        """Bits a parameter, scales included."""
        return 8 * (self.weight_bytes + self.scale_bytes) / self.parameters if self.parameters else 0.0


@dataclass(frozen=True)
class Encoding:
    """All weights that are written alike.

    Attributes:
        name: "Q4_0", "BF16", "4-bit", ...
        tensors, parameters, bytes: of these weights; scales in tensors of their own are not among them.
    """

    name: str
    tensors: int
    parameters: int
    bytes: int

    @property
    def bits(self) -> float:
        """Bits a parameter, the scales inside of blocks included."""
        return 8 * self.bytes / self.parameters if self.parameters else 0.0


@dataclass(frozen=True)
class Scales:
    """Static scales of one sort: how many, how many are 0 (not calibrated), and the range of the others."""

    count: int
    zero: int
    least: float | None
    largest: float | None


@dataclass(frozen=True)
class Inspection:
    """What a checkpoint holds; print it, or take `to_json()`.

    Attributes:
        path: of the folder or GGUF file.
        model_type: of config.json; of a GGUF file, its architecture.
        architecture: dimensions of the text model.
        tensors, bytes, parameters: of the whole checkpoint.
        groups: one for each kind of tensors.
        encodings: one for each way in which weights are written, that of the most parameters first.
        input_scales, output_scales, cache_scales: static scales of activations and of the key/value cache.
        layer_bytes: bytes of each layer of the text model, by kind.
        dtypes: type of the stored tensors -> how many.
        leftovers: tensors that nothing reads.
        unknown: tensors that gemmule does not know.
    """

    path: str
    model_type: str
    architecture: dict[str, Any]
    tensors: int
    bytes: int
    parameters: int
    groups: tuple[Group, ...]
    encodings: tuple[Encoding, ...]
    input_scales: Scales
    output_scales: Scales
    cache_scales: Scales
    layer_bytes: tuple[dict[str, int], ...]
    dtypes: dict[str, int]
    leftovers: tuple[str, ...]
    unknown: tuple[str, ...]

    def to_json(self) -> str:
        """All fields, as a JSON object."""
        return json_line(asdict(self))

    def __str__(self) -> str:
        rows = [
            (
                group.kind,
                str(group.tensors),
                f"{group.parameters:,}",
                f"{group.bits:.2f}",
                amount(group.weight_bytes + group.scale_bytes),
                ", ".join(group.encodings),
            )
            for group in self.groups
        ]
        rows.append(("total", str(self.tensors), f"{self.parameters:,}", "", amount(self.bytes), ""))
        lines = [f"{self.path}: {self.model_type}"]
        lines.append(", ".join(f"{name} {value}" for name, value in self.architecture.items()))
        lines.append("")
        lines += table(("kind", "tensors", "parameters", "bits", "bytes", "stored as"), rows, left=(0, 5)).split("\n")
        lines.append("")
        stored = [
            (each.name, str(each.tensors), f"{each.parameters:,}", f"{each.bits:.2f}", amount(each.bytes))
            for each in self.encodings
        ]
        lines += table(("stored as", "tensors", "parameters", "bits", "bytes"), stored).split("\n")
        lines.append("")
        for name in ("input", "output", "cache"):
            lines.append(f"{name} scales: {_scales_line(getattr(self, name + '_scales'))}")
        if self.unknown:
            lines.append("unknown: " + ", ".join(self.unknown[:5]) + (", ..." if len(self.unknown) > 5 else ""))
        return in_lines(lines)

    def plot(self, rows: int = 64) -> Any:
        """A matplotlib Figure of two parts: bytes of every layer, and how often each code stands in each tensor.

        Args:
            rows: rows of each tensor that codes are counted in, spread over the whole.

        Raises:
            UnsupportedError: matplotlib is not installed.
        """
        figure = new_figure(14, 7)
        left, right = figure.subplots(1, 2)
        self._plot_layers(left)
        _plot_codes(right, code_usage(self.path, rows=rows))
        return figure

    def _plot_layers(self, axes: Any) -> None:
        numbers = np.arange(len(self.layer_bytes))
        base = np.zeros(len(numbers))
        for kind in KINDS:
            megabytes = np.array([layer.get(kind, 0) / 1e6 for layer in self.layer_bytes])
            if megabytes.any():
                axes.bar(numbers, megabytes, bottom=base, label=kind)
                base += megabytes
        axes.set(xlabel="layer", ylabel="MB (1e6 bytes)", title="bytes of each layer")
        axes.legend()


def inspect(path: str | os.PathLike[str]) -> Inspection:
    """What a checkpoint holds: sizes, bits and bytes of every kind of tensor, scales. No weight is read.

    Args:
        path: a folder, a GGUF file, "fairy", or the name of a repository that was pulled before.

    Raises:
        FormatError: a file is broken.
        MissingFileError: no such folder or file.
        UnsupportedError: a GGUF file that gemmule does not run.
    """
    tensors = contents(path)
    weights = [tensor for tensor in tensors.all if tensor.role == WEIGHT]
    return Inspection(
        path=str(tensors.path),
        model_type=tensors.model_type,
        architecture=_architecture(tensors),
        tensors=len(tensors.all),
        bytes=sum(tensor.bytes for tensor in tensors.all),
        parameters=sum(tensor.elements for tensor in weights),
        groups=tuple(_group(kind, tensors.all) for kind in KINDS if any(t.kind == kind for t in tensors.all)),
        encodings=_encodings(weights),
        input_scales=_scales(tensors, INPUT_SCALE),
        output_scales=_scales(tensors, OUTPUT_SCALE),
        cache_scales=_scales(tensors, CACHE_SCALE),
        layer_bytes=_layer_bytes(tensors),
        dtypes=dict(Counter(tensor.dtype for tensor in tensors.all)),
        leftovers=tuple(tensor.name for tensor in tensors.all if tensor.kind == LEFTOVERS),
        unknown=tuple(tensor.name for tensor in tensors.all if tensor.kind == UNKNOWN),
    )


def _architecture(tensors: Tensors) -> dict[str, Any]:
    shape = tensors.shape
    full = sum(layer.full for layer in shape.layers)
    return {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "layers": len(shape.layers),
        "full_attention_layers": full,
        "layers_that_share_keys": sum(layer.owner != i for i, layer in enumerate(shape.layers)),
        "heads": shape.heads,
        "per_layer_width": shape.per_layer_width,
        "experts": shape.experts,
        "sliding_window": shape.window,
        "max_context": shape.max_context,
        "tied_head": shape.tied,
    }


def _group(kind: str, tensors: Iterable[Tensor]) -> Group:
    of_kind = [tensor for tensor in tensors if tensor.kind == kind]
    weights = [tensor for tensor in of_kind if tensor.role == WEIGHT]
    encodings: Counter[str] = Counter()
    for tensor in weights:
        encodings[tensor.encoding] += tensor.elements
    return Group(
        kind=kind,
        tensors=len(of_kind),
        parameters=sum(tensor.elements for tensor in weights),
        weight_bytes=sum(tensor.bytes for tensor in weights),
        scale_bytes=sum(tensor.bytes for tensor in of_kind if tensor.role != WEIGHT),
        encodings=dict(encodings.most_common()),
    )


def _encodings(weights: Sequence[Tensor]) -> tuple[Encoding, ...]:
    written = defaultdict(list)
    for tensor in weights:
        written[tensor.encoding].append(tensor)
    encodings = [
        Encoding(name, len(alike), sum(each.elements for each in alike), sum(each.bytes for each in alike))
        for name, alike in written.items()
    ]
    return tuple(sorted(encodings, key=lambda each: each.parameters, reverse=True))


def _scales(tensors: Tensors, role: str) -> Scales:
    of_role = [tensor for tensor in tensors.all if tensor.role == role and tensor.is_float]
    values = np.array([value for tensor in of_role if (value := tensor.single()) is not None])
    used = values[values != 0]
    least, largest = (float(used.min()), float(used.max())) if used.size else (None, None)
    return Scales(count=len(of_role), zero=int((values == 0).sum()), least=least, largest=largest)


def _layer_bytes(tensors: Tensors) -> tuple[dict[str, int], ...]:
    layers: list[Counter[str]] = [Counter() for _ in tensors.shape.layers]
    for tensor in tensors.all:
        layer = tensor.layer
        if layer is not None and layer < len(layers):
            layers[layer][tensor.kind] += tensor.bytes
    return tuple(dict(layer) for layer in layers)


def _scales_line(scales: Scales) -> str:
    if scales.least is None:
        return f"{scales.count}" + (f", all {scales.zero} zero" if scales.zero else "")
    return f"{scales.count}, {scales.zero} of them zero, the others {scales.least:.3g} to {scales.largest:.3g}"


def _plot_codes(axes: Any, usage: dict[str, NDArray[np.int64]]) -> None:
    """One row a tensor. Codes lie at -1 (lowest) to 1 (highest), so that all widths share an axis."""
    axes.set(title="share of each code, sampled rows", xlabel="code, from the lowest to the highest")
    if not usage:
        axes.text(0.5, 0.5, "no packed weights", ha="center", transform=axes.transAxes)
        return
    bins = 16
    image = np.zeros((len(usage), bins))
    for i, counts in enumerate(usage.values()):
        share = counts / max(1, counts.sum())
        wide = len(counts) > bins
        image[i] = share.reshape(bins, -1).sum(axis=1) if wide else np.repeat(share, bins // len(counts))
    axes.imshow(image, aspect="auto", interpolation="nearest", cmap="viridis")
    axes.set(xticks=[], ylabel="tensor, in the order of names")
