"""GGUF files that lie: the tables of hostile_gguf.py, and each count, length, type and offset set to numbers that break
readers."""

import struct
from collections.abc import Iterator
from pathlib import Path

from gemmule.errors import FormatError, GemmuleError, UnsupportedError
from hostile.case import Case
from hostile_gguf import (
    ARRAY,
    BOOL,
    F64,
    I32,
    I64,
    LIES,
    ONE,
    REFUSED,
    STRING,
    U8,
    U32,
    U64,
    Array,
    Gguf,
    tensor,
)

FILE = "model.gguf"
ODD_COUNTS = (1 << 31, 1 << 32, 1 << 60, (1 << 61) + 1, 1 << 62, 1 << 63, (1 << 64) - 8, (1 << 64) - 1)
OVER = "more (keys|tensors) than the file has room for"

# As those of hostile_gguf.py: the file, the name that is blamed, and what the message says.
MORE: dict[str, tuple[Gguf, str, str]] = {
    "keys and tensors beyond all memory": (Gguf(counts=((1 << 64) - 1, (1 << 64) - 1)), "", OVER),
    "a million keys": (Gguf(counts=(0, 1 << 20), tail=bytes(32 << 20)), "", OVER),
    "a million tensors": (Gguf(counts=(1 << 20, 0), tail=bytes(32 << 20)), "", OVER),
    "three million strings": (
        Gguf({"a": (ARRAY, struct.pack("<IQ", STRING, 3 << 20) + bytes(24 << 20))}),
        "a",
        "too many strings",
    ),
    "strings that end with the file": (
        Gguf({"a": (ARRAY, struct.pack("<IQ", STRING, 2) + struct.pack("<Q", 16))}),
        "a",
        "longer than the file|ends inside",
    ),
    "a string of the whole file": (Gguf({"a": (STRING, struct.pack("<Q", 4096))}), "a", "ends inside of a string"),
    "a key of bytes above ASCII": (Gguf({"\u00e9": (U8, 1)}), "key 0", "not text"),
    "a key that colours a terminal": (Gguf({"\x1b[31m": (U8, 1)}), "key 0", r"not text.*\\x1b"),
    "a key that deletes": (Gguf({"a\x7f": (U8, 1)}), "key 0", r"not text.*\\x7f"),
    "a key with a newline": (Gguf({"a\nb": (U8, 1)}), "key 0", r"not text.*\\x0a"),
    "the same key with another type": (Gguf({"a": (U32, 1), b"a": (STRING, "x")}), "a", "twice"),
    "a flag of 255": (Gguf({"a": (BOOL, b"\xff")}), "a", "neither true nor false.*255"),
    "a flag in a long array": (
        Gguf({"a": (ARRAY, Array(BOOL, [True] * 1000 + [b"\x80"]))}),
        "a",
        "neither true nor false",
    ),
    "an alignment of three": (Gguf({"general.alignment": (U32, 3)}, [ONE]), "general.alignment", "power of two"),
    "an alignment of -1": (Gguf({"general.alignment": (I64, -1)}, [ONE]), "general.alignment", "power of two"),
    "the least alignment of int64": (
        Gguf({"general.alignment": (I64, -(1 << 63))}, [ONE]),
        "general.alignment",
        "power of two",
    ),
    "an alignment that is true": (Gguf({"general.alignment": (BOOL, True)}, [ONE]), "general.alignment", "wrong type"),
    "an alignment that is NaN": (
        Gguf({"general.alignment": (F64, float("nan"))}, [ONE]),
        "general.alignment",
        "wrong type",
    ),
    "an alignment in an array": (
        Gguf({"general.alignment": (ARRAY, Array(U32, [32]))}, [ONE]),
        "general.alignment",
        "wrong type",
    ),
    "an alignment of 2^31": (Gguf({"general.alignment": (U32, 1 << 31)}, [ONE]), "", "file ends before the tensors'"),
    "an offset that wraps with the tensor's size": (
        Gguf(tensors=[tensor(dims=[16], data=bytes(64)), tensor("b", [16], data=bytes(64), offset=2**64 - 64)]),
        "b",
        "belong to none",
    ),
    "sizes whose sum wraps": (
        Gguf(tensors=[tensor(dims=[1 << 61], data=bytes(64)), tensor("b", [1 << 61], data=bytes(64), offset=1 << 63)]),
        "a",
        "outside the file",
    ),
    "a tensor of all bytes but the header's": (Gguf(tensors=[tensor(dims=[(1 << 62) - 16])]), "a", "outside the file"),
    "four dimensions whose product wraps to four": (
        Gguf(tensors=[tensor(dims=[1 << 16, 1 << 16, 1 << 16, 1 << 16])]),
        "a",
        "cannot be counted",
    ),
    "dimensions whose product wraps to the true size": (
        Gguf(tensors=[tensor(dims=[(1 << 63) + 1, 2], data=bytes(8))]),
        "a",
        "cannot be counted",
    ),
    "rows beyond 2^42 whose bytes wrap to those of one": (
        Gguf(tensors=[tensor(dims=[1152, (1 << 42) + 1], type=8, data=bytes(1152 * 34 // 32))]),
        "a",
        "cannot be counted|outside the file",
    ),
    "a tensor of exabytes in four megabytes": (
        Gguf(tensors=[tensor(dims=[1024, 1024, 1 << 40], data=bytes(4 << 20))]),
        "a",
        "outside the file|cannot be counted",
    ),
    "an alignment of 2^30 before two tensors": (
        Gguf({"general.alignment": (U32, 1 << 30)}, [ONE, tensor("b")]),
        "",
        "file ends before the tensors'",
    ),
    "blocks whose bytes wrap": (
        Gguf(tensors=[tensor(dims=[32, 1 << 62], type=2, data=bytes(18))]),
        "a",
        "cannot be counted",
    ),
    "a row of blocks beyond all": (
        Gguf(tensors=[tensor(dims=[(1 << 64) - 256], type=14, data=bytes(210))]),
        "a",
        "cannot be counted|outside",
    ),
    "a last dimension of zero": (Gguf(tensors=[tensor(dims=[2, 0])]), "a", "dimension of no size"),
    "a hundred dimensions": (Gguf(tensors=[tensor(dims=[1] * 100)]), "a", "too many dimensions.*100"),
    "a row of no whole block of 256": (
        Gguf(tensors=[tensor(dims=[255], type=12, data=bytes(144))]),
        "a",
        "whole blocks.*256.*Q4_K",
    ),
    "a tensor's name of spaces and a newline": (Gguf(tensors=[tensor(" \n")]), "tensor 0", r"not text.*\\x0a"),
    "three tensors of one name": (
        Gguf(tensors=[ONE, tensor("a", offset=32), tensor("a", offset=64)], tail=bytes(32)),
        "a",
        "stands twice",
    ),
    "a tensor inside of another": (
        Gguf(tensors=[tensor(dims=[32], data=bytes(128)), tensor("b", offset=64)], tail=bytes(32)),
        "b",
        "overlaps another one",
    ),
    "a megabyte behind the last tensor": (Gguf(tensors=[ONE], tail=bytes(1 << 20)), "", "after the last tensor"),
    "a part of no model": (Gguf({"split.count": (U32, 2), "split.no": (U32, 0)}), "split.no", "name does not say"),
    "no parts": (Gguf({"split.count": (U32, 0)}), "split.count", "wrong number of parts"),
    "parts below zero": (Gguf({"split.count": (I32, -1)}), "split.count", "wrong number of parts"),
    "parts beyond all": (Gguf({"split.count": (U64, 1 << 62)}), "split.count", "wrong number of parts"),
    "parts in words": (Gguf({"split.count": (STRING, "2")}), "split.count", "wrong type"),
    "a part behind the last": (
        Gguf({"split.count": (U32, 2), "split.no": (U32, 2)}),
        "split.no",
        "number is out of range",
    ),
    "a part without a number": (Gguf({"split.count": (U32, 2)}), "split.no", "key is missing"),
    "no architecture": (Gguf(tensors=[ONE]), "general.architecture", "key is missing"),
    "an architecture that is a number": (
        Gguf({"general.architecture": (U32, 4)}, [ONE]),
        "general.architecture",
        "wrong type",
    ),
    "an architecture in an array": (
        Gguf({"general.architecture": (ARRAY, Array(STRING, ["gemma4"]))}, [ONE]),
        "general.architecture",
        "wrong type",
    ),
    "nothing but an architecture": (
        Gguf({"general.architecture": (STRING, "gemma4")}, [ONE]),
        "gemma4.embedding_length",
        "key is missing",
    ),
}
MORE |= {f"{count} keys": (Gguf(counts=(0, count)), "", OVER) for count in ODD_COUNTS}
MORE |= {f"{count} tensors": (Gguf(counts=(count, 0)), "", OVER) for count in ODD_COUNTS}
MORE |= {
    f"a string of {length} bytes": (Gguf({"a": (STRING, struct.pack("<Q", length))}), "a", "ends inside of a string")
    for length in ODD_COUNTS
}
MORE |= {
    f"an array of {count} of type {kind}": (
        Gguf({"a": (ARRAY, struct.pack("<IQ", kind, count))}),
        "a",
        "longer than the file",
    )
    for kind in (U8, U32, U64, STRING, BOOL)
    for count in (1 << 32, (1 << 61) + 1, 1 << 62, (1 << 64) - 1)
}
MORE |= {
    f"a tensor at {offset}": (Gguf(tensors=[tensor(offset=offset)]), "a", "belong to none|not aligned")
    for offset in (1, 31, 1 << 31, 1 << 32, 1 << 62, 1 << 63, (1 << 64) - 32, (1 << 64) - 1)
}
MORE |= {
    f"a dimension of {size} in {kind}": (
        Gguf(tensors=[tensor(dims=[size], type=kind, data=bytes(18))]),
        "a",
        "cannot be counted|outside the file|whole blocks",
    )
    for kind in (0, 1, 2, 24)
    for size in (1 << 32, (1 << 62) + 32, 1 << 63, (1 << 64) - 1)
}

# Files of a few bytes, by what they are.
SMALL = {
    "43 bytes of a header": (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + bytes(19), "", "more tensors|wrong length"),
    "43 bytes of a key": (
        b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 3) + b"abc" + struct.pack("<II", ARRAY, U8),
        "abc",
        "ends inside",
    ),
    "51 bytes of 2^63 elements": (
        b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 3) + b"abc" + struct.pack("<IIQ", ARRAY, U8, 1 << 63),
        "abc",
        "longer than the file",
    ),
    "51 bytes of 2^63 strings": (
        b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 3) + b"abc" + struct.pack("<IIQ", ARRAY, STRING, 1 << 63),
        "abc",
        "longer than the file",
    ),
    "24 bytes of 2^32 keys": (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 32), "", "more keys"),
    "a magic number alone": (b"GGUF", "", "ends inside of the header"),
    "a version alone": (b"GGUF" + struct.pack("<I", 3), "", "ends inside of the header"),
    "one count": (b"GGUF" + struct.pack("<IQ", 3, 0), "", "ends inside of the header"),
    "a file of zeros": (bytes(100), "", "no GGUF file"),
    "the first three letters": (b"GGU", "", "no GGUF file"),
    "small letters": (b"gguf" + bytes(100), "", "no GGUF file"),
    "a file of GGML": (b"lmgg" + bytes(100), "", "no GGUF file.*before GGUF"),
    "a file of GGMF": (b"fmgg" + bytes(100), "", "no GGUF file.*before GGUF"),
    "a file of GGJT": (b"tjgg" + bytes(100), "", "no GGUF file.*before GGUF"),
    "an empty file": (b"", "", "empty"),
}
SMALL |= {
    f"a name of {length} bytes": (
        b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, length) + bytes(32),
        "key 0",
        "wrong length|ends inside of a name",
    )
    for length in (0, 65_535, 65_536, 1 << 32, 1 << 62, 1 << 63, (1 << 64) - 1)
}


def write_bytes(folder: Path, data: bytes) -> Path:
    (folder / FILE).write_bytes(data)
    return folder / FILE


def cases() -> Iterator[Case]:
    tables: tuple[tuple[dict, type[GemmuleError]], ...] = (
        (LIES | MORE, FormatError),
        (REFUSED, UnsupportedError),
    )
    for table, error in tables:
        for name, (file, blamed, match) in table.items():
            yield Case(
                name,
                lambda folder, file=file: file.write(folder / FILE),
                match,
                error=error,
                file=FILE,
                tensor=blamed,
            )
    for name, (data, blamed, match) in SMALL.items():
        yield Case(name, lambda folder, data=data: write_bytes(folder, data), match, file=FILE, tensor=blamed)
