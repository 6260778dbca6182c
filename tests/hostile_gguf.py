"""GGUF files as their parts, read and written in plain Python without any check; and files that lie."""

import struct
from dataclasses import dataclass, field, replace
from pathlib import Path

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}

# Tensor type -> elements and bytes of a block.
TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q8_0": (8, 32, 34), "Q6_K": (14, 256, 210)}
TYPES |= {"BF16": (30, 1, 2), "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24)}
TYPES |= {"Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176), "I8": (24, 1, 1), "I32": (26, 1, 4)}


@dataclass(frozen=True)
class Array:
    """An array as a value: its elements are all of one kind."""

    kind: int
    items: list


@dataclass(frozen=True)
class Tensor:
    """dims: innermost first, as in the file. offset: from the start of the data; None: behind the tensor before."""

    name: str | bytes
    dims: list[int]
    type: int
    data: bytes
    offset: int | None = None


@dataclass
class Gguf:
    """A file's parts; `counts`, where given, are what the file says of its tensors and keys."""

    keys: dict[str | bytes, tuple[int, object]] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    magic: bytes = b"GGUF"
    version: int = 3
    counts: tuple[int, int] | None = None
    alignment: int = 32
    tail: bytes = b""

    def with_keys(self, **changes) -> "Gguf":
        """With keys changed (dots written as __); None takes one away."""
        keys = self.keys | {name.replace("__", "."): value for name, value in changes.items()}
        return replace(self, keys={name: value for name, value in keys.items() if value is not None})

    def without(self, *names: str) -> "Gguf":
        return replace(self, tensors=[tensor for tensor in self.tensors if tensor.name not in names])

    def pack(self) -> bytes:
        tensors, keys = self.counts or (len(self.tensors), len(self.keys))
        out = self.magic + struct.pack("<IQQ", self.version, tensors, keys)
        out += b"".join(
            pack_string(key) + struct.pack("<I", kind) + pack(kind, x) for key, (kind, x) in self.keys.items()
        )
        data = bytearray()
        for tensor in self.tensors:
            offset = len(data) if tensor.offset is None else tensor.offset
            out += pack_string(tensor.name) + struct.pack("<I", len(tensor.dims))
            out += b"".join(struct.pack("<Q", size) for size in tensor.dims)
            out += struct.pack("<IQ", tensor.type, offset)
            data += tensor.data + bytes(-len(tensor.data) % self.alignment)
        return out + bytes(-len(out) % self.alignment) + data + self.tail

    def write(self, path: Path) -> Path:
        path.write_bytes(self.pack())
        return path


def pack_string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def pack(kind: int, value: object) -> bytes:
    """bytes as a value stand for themselves, whatever the kind."""
    if isinstance(value, bytes):
        return value
    if kind == STRING:
        return pack_string(value)
    if kind == ARRAY:
        head = struct.pack("<IQ", value.kind, len(value.items))
        return head + b"".join(pack(value.kind, item) for item in value.items)
    return struct.pack("<" + FORMATS[kind], value)


def read(path: Path) -> Gguf:
    """The parts of a true file."""
    data = path.read_bytes()
    at = 4

    def number(code: str):
        nonlocal at
        (value,) = struct.unpack_from("<" + code, data, at)
        at += struct.calcsize("<" + code)
        return value

    def string() -> str:
        nonlocal at
        length = number("Q")
        at += length
        return data[at - length : at].decode()

    def value(kind: int):
        if kind == STRING:
            return string()
        if kind == ARRAY:
            inner, count = number("I"), number("Q")
            return Array(inner, [value(inner) for _ in range(count)])
        return number(FORMATS[kind])

    file = Gguf(version=number("I"))
    tensors, keys = number("Q"), number("Q")
    for _ in range(keys):
        key, kind = string(), number("I")
        file.keys[key] = (kind, value(kind))
    found = []
    for _ in range(tensors):
        name = string()
        dims = [number("Q") for _ in range(number("I"))]
        found.append((name, dims, number("I"), number("Q")))
    start = at + -at % file.alignment
    for name, dims, type, offset in found:
        size = count_bytes(dims, type)
        file.tensors.append(Tensor(name, dims, type, data[start + offset : start + offset + size]))
    return file


def count_bytes(dims: list[int], type: int) -> int:
    (elements, size) = next((elements, size) for number, elements, size in TYPES.values() if number == type)
    for dim in dims:
        size *= dim
    return size // elements


def tensor(name: str | bytes = "a", dims=(2,), type: int = 0, data: bytes = bytes(8), offset: int | None = None):
    return Tensor(name, list(dims), type, data, offset)


ONE = tensor()
HUGE = 1 << 62

# Each lie: the file, the name that the message blames ("" where it is the file as a whole), and what it says.
LIES: dict[str, tuple[Gguf, str, str]] = {
    "another magic number": (Gguf(magic=b"GGUE"), "", 'no GGUF file.*"GGUE"'),
    "the format before GGUF": (Gguf(magic=b"tjgg"), "", "format before GGUF"),
    "more keys than fit": (Gguf(counts=(0, 3)), "", "more keys than the file has room for"),
    "keys beyond all memory": (Gguf(counts=(0, HUGE)), "", "more keys than the file has room for"),
    "more tensors than fit": (Gguf(counts=(3, 0)), "", "more tensors than the file has room for"),
    "tensors beyond all memory": (Gguf(counts=(2**64 - 1, 0)), "", "more tensors than the file has room for"),
    "one key more than there are": (Gguf({"a": (U8, 1)}, [tensor("t")], counts=(1, 2)), "tensor 0", "wrong length"),
    "one key fewer than there are": (Gguf({"a": (U32, 1), "b": (U32, 1)}, counts=(1, 1)), "b", "file ends|dimensions"),
    "a key without a name": (Gguf({"": (U32, 1), "b": (U64, 1)}), "key 0", "wrong length"),
    "a key's name of too many bytes": (Gguf({"a" * 65_536: (U8, 1)}), "key 0", "wrong length"),
    "a key's name past the end": (Gguf({"a": (U64, HUGE)}, counts=(0, 2)), "key 1", "file ends|wrong length"),
    "a key's name that is no text": (Gguf({b"a\xff": (U32, 1)}), "key 0", r"not text.*\\xff"),
    "a key's name with a zero byte": (Gguf({b"a\0": (U32, 1)}), "key 0", "not text"),
    "a key twice": (Gguf({"a": (U32, 1), b"a": (U32, 1)}), "a", "twice"),
    "an unknown type of value": (Gguf({"a": (13, bytes(8))}), "a", "unknown type of value.*13"),
    "a type of value beyond all": (Gguf({"a": (2**32 - 1, bytes(8))}), "a", "unknown type of value"),
    "a flag that is two": (Gguf({"a": (BOOL, b"\2")}), "a", "neither true nor false"),
    "a flag that is two in an array": (Gguf({"a": (ARRAY, Array(BOOL, [True, b"\2"]))}), "a", "neither true nor false"),
    "a string past the end": (Gguf({"a": (STRING, struct.pack("<Q", 1000) + b"x")}), "a", "ends inside of a string"),
    "a string beyond all memory": (Gguf({"a": (STRING, struct.pack("<Q", 2**64 - 1))}), "a", "ends inside of a string"),
    "an array past the end": (Gguf({"a": (ARRAY, struct.pack("<IQ", U32, 1000))}), "a", "longer than the file"),
    "an array beyond all memory": (Gguf({"a": (ARRAY, struct.pack("<IQ", F64, HUGE))}), "a", "longer than the file"),
    "an array whose bytes overflow": (
        Gguf({"a": (ARRAY, struct.pack("<IQ", U64, (1 << 61) + 1))}),
        "a",
        "longer than the file",
    ),
    "an array of strings beyond all": (
        Gguf({"a": (ARRAY, struct.pack("<IQ", STRING, HUGE))}),
        "a",
        "longer than the file",
    ),
    "an array whose strings pass the end": (
        Gguf({"a": (ARRAY, struct.pack("<IQQ", STRING, 2, 1) + b"x" + struct.pack("<Q", 999))}),
        "a",
        "ends inside of a string",
    ),
    "an array of an unknown type": (Gguf({"a": (ARRAY, struct.pack("<IQ", 99, 1))}), "a", "unknown type of value.*99"),
    "an alignment of zero": (
        Gguf({"general.alignment": (U32, 0)}, [ONE]),
        "general.alignment",
        r"wrong alignment.*found u32 0\n",
    ),
    "an alignment of 24": (Gguf({"general.alignment": (U32, 24)}, [ONE]), "general.alignment", "power of two"),
    "a negative alignment": (Gguf({"general.alignment": (I32, -32)}, [ONE]), "general.alignment", "power of two"),
    "an alignment of text": (Gguf({"general.alignment": (STRING, "32")}, [ONE]), "general.alignment", "wrong type"),
    "an alignment that is a float": (
        Gguf({"general.alignment": (F32, 32.0)}, [ONE]),
        "general.alignment",
        "wrong type",
    ),
    "an alignment beyond the file": (
        Gguf({"general.alignment": (U64, HUGE)}, [ONE]),
        "",
        "file ends before the tensors' bytes",
    ),
    "an alignment beyond int64": (
        Gguf({"general.alignment": (U64, 1 << 63)}, [ONE]),
        "general.alignment",
        "out of range",
    ),
    "a tensor without a name": (Gguf(tensors=[tensor("")]), "tensor 0", "wrong length"),
    "a tensor's name of 65 bytes": (Gguf(tensors=[tensor("a" * 65)]), "tensor 0", "wrong length.*65"),
    "a tensor's name that is no text": (Gguf(tensors=[tensor(b"\xc3(")]), "tensor 0", "not text"),
    "a tensor twice": (
        Gguf(tensors=[ONE, tensor("b"), tensor("a", offset=64)], tail=bytes(32)),
        "a",
        "stands twice",
    ),
    "five dimensions": (Gguf(tensors=[tensor(dims=[1, 1, 1, 1, 2])]), "a", "too many dimensions.*5"),
    "dimensions beyond all memory": (Gguf(tensors=[tensor(dims=[2] * 40)]), "a", "too many dimensions.*40"),
    "a dimension of zero": (Gguf(tensors=[tensor(dims=[0, 2])]), "a", "dimension of no size"),
    "a shape that overflows": (Gguf(tensors=[tensor(dims=[HUGE, HUGE])]), "a", "cannot be counted"),
    "bytes that overflow": (Gguf(tensors=[tensor(dims=[HUGE])]), "a", "cannot be counted"),
    "a negative dimension": (Gguf(tensors=[tensor(dims=[2**64 - 1])]), "a", "cannot be counted"),
    "a row of half a block": (Gguf(tensors=[tensor(dims=[48], type=2, data=bytes(27))]), "a", "whole blocks.*32.*Q4_0"),
    "a row of half a large block": (
        Gguf(tensors=[tensor(dims=[128, 2], type=14, data=bytes(210))]),
        "a",
        "whole blocks.*256.*Q6_K.*found 128",
    ),
    "a tensor longer than the file": (Gguf(tensors=[tensor(dims=[2000])]), "a", "outside the file"),
    "a block tensor longer than the file": (Gguf(tensors=[tensor(dims=[64], type=8)]), "a", "outside the file"),
    "a tensor one element longer": (
        Gguf(tensors=[tensor(dims=[9], data=bytes(32))]),
        "a",
        "outside the file.*36 bytes",
    ),
    "an offset outside the file": (Gguf(tensors=[tensor(offset=3200)]), "a", "before the tensor belong to none"),
    "an offset that is not aligned": (Gguf(tensors=[tensor(offset=8)], tail=bytes(32)), "a", "not aligned"),
    "an offset at the end of numbers": (Gguf(tensors=[tensor(offset=2**64 - 32)]), "a", "belong to none"),
    "two tensors at one place": (Gguf(tensors=[ONE, tensor("b", offset=0)]), "a|b", "overlaps"),
    "an overlap": (
        Gguf(tensors=[tensor(dims=[16], data=bytes(64)), tensor("b", offset=32)]),
        "b",
        "overlaps another one.*64.*32",
    ),
    "a hole": (Gguf(tensors=[ONE, tensor("b", offset=64)], tail=bytes(32)), "b", "belong to none.*32.*64"),
    "a hole at the start": (Gguf(tensors=[tensor(offset=32)], tail=bytes(32)), "a", "belong to none"),
    "bytes after the last tensor": (Gguf(tensors=[ONE], tail=bytes(32)), "", "after the last tensor"),
    "bytes without any tensor": (Gguf(tail=bytes(33)), "", "after the last tensor"),
    "tensors without their bytes": (Gguf(tensors=[tensor(dims=[64], data=b"")]), "a", "outside the file"),
}

# Types of blocks that llama.cpp has and gemmule does not read: number -> name.
OTHER_BLOCKS = {9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S"}
OTHER_BLOCKS |= {
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
}

# What the format allows and gemmule does not read.
REFUSED: dict[str, tuple[Gguf, str, str]] = {
    "version 1": (Gguf(version=1), "", "version 1"),
    "version 4": (Gguf(version=4), "", "version 4"),
    "version 0": (Gguf(version=0), "", "version 0"),
    "big-endian bytes": (Gguf(version=3 << 24), "", "big-endian"),
    "an array of arrays": (Gguf({"a": (ARRAY, struct.pack("<IQ", ARRAY, 1) + bytes(20))}), "a", "arrays of arrays"),
    "a type that was taken back": (Gguf(tensors=[tensor(dims=[256], type=4)]), "a", "type 4"),
    "a type beyond all": (Gguf(tensors=[tensor(dims=[256], type=2**32 - 1)]), "a", "type 4294967295"),
}
REFUSED |= {
    name: (Gguf(tensors=[tensor(dims=[256], type=n)]), "a", f"found {name}\n") for n, name in OTHER_BLOCKS.items()
}
