"""Safetensors files that lie: lengths, JSON, entries, places."""

import struct
from collections.abc import Iterator
from pathlib import Path

from gemmule.errors import UnsupportedError
from hostile import entry, write_folder, write_safetensors
from hostile.case import Case

FILE = "model.safetensors"
F8 = entry("F32", [2], 0, 8)
HUGE = 1 << 62

# Each lie: header, bytes after it, and what the message says.
LIES = {
    "no object": ("[]", b"", "no JSON object"),
    "an empty header": ("", b"", "no JSON object"),
    "space before the header": (" {}", b"", "no JSON object"),
    "broken JSON": ('{"a":', b"", "not JSON"),
    "text after the header": ("{} x", b"", "follows"),
    "a zero byte as padding": ("{}\0", b"", "follows"),
    "a tensor twice": (
        '{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}',
        b"",
        "twice",
    ),
    "metadata that is no object": ({"__metadata__": []}, b"", "__metadata__.*wrong type"),
    "metadata that is no text": ({"__metadata__": {"a": 1}}, b"", "__metadata__.a.*wrong type"),
    "an entry that is no object": ({"a": 1}, b"", "a: .*wrong type"),
    "no dtype": ({"a": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8), 'missing.*"dtype"'),
    "no shape": ({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8), 'missing.*"shape"'),
    "no offsets": ({"a": {"dtype": "F32", "shape": [2]}}, bytes(8), 'missing.*"data_offsets"'),
    "one key more": ({"a": F8 | {"strides": [4]}}, bytes(8), 'unknown key.*"strides"'),
    "an unknown dtype": ({"a": F8 | {"dtype": "F31"}}, bytes(8), 'unknown element type.*"F31"'),
    "a dtype that is no text": ({"a": F8 | {"dtype": 32}}, bytes(8), "dtype.*wrong type"),
    "a shape that is no array": ({"a": F8 | {"shape": 2}}, bytes(8), "shape.*wrong type"),
    "a size that is text": ({"a": F8 | {"shape": ["2"]}}, bytes(8), r"shape\[0\].*wrong type"),
    "a size that is no integer": ({"a": F8 | {"shape": [2.0]}}, bytes(8), r"shape\[0\].*wrong type"),
    "a negative size": ({"a": F8 | {"shape": [-1, -2]}}, bytes(8), "negative"),
    "a shape that overflows": ({"a": F8 | {"shape": [1 << 62, 1 << 62]}}, bytes(8), "cannot be counted"),
    "bytes that overflow": ({"a": F8 | {"shape": [1 << 62]}}, bytes(8), "cannot be counted"),
    "half a byte": ({"a": entry("F4", [3], 0, 1)}, bytes(1), "cannot be counted"),
    "three offsets": ({"a": F8 | {"data_offsets": [0, 4, 8]}}, bytes(8), "wrong data_offsets"),
    "a negative offset": ({"a": F8 | {"data_offsets": [-8, 0]}}, bytes(8), "negative"),
    "an offset beyond int64": ({"a": F8 | {"data_offsets": [0, 1 << 64]}}, bytes(8), "wrong type"),
    "an end before the begin": ({"a": F8 | {"data_offsets": [8, 0]}}, bytes(8), "before they begin"),
    "an end outside the file": ({"a": F8}, bytes(7), "outside the file"),
    "offsets that do not fit the shape": ({"a": F8 | {"shape": [3]}}, bytes(8), "do not fit.*12 bytes.*8 bytes"),
    "offsets that do not fit the dtype": ({"a": F8 | {"dtype": "F16"}}, bytes(8), "do not fit"),
    "an overlap": ({"a": F8, "b": entry("F32", [2], 4, 12)}, bytes(12), 'b: .*overlaps.*"a"'),
    "the same bytes twice": ({"a": F8, "b": F8}, bytes(8), "overlaps"),
    "a hole": ({"a": F8, "b": entry("F32", [1], 12, 16)}, bytes(16), "b: bytes before"),
    "a hole at the start": ({"a": entry("F32", [1], 4, 8)}, bytes(8), "a: bytes before"),
    "bytes after the last tensor": ({"a": F8}, bytes(9), "after the last tensor"),
    "bytes without any tensor": ({}, bytes(1), "after the last tensor"),
    "a header that is a string": ('"a"', b"", "no JSON object"),
    "a header that is a number": ("1", b"", "no JSON object"),
    "a byte order mark": (b"\xef\xbb\xbf{}", b"", "no JSON object"),
    "a header in UTF-16": ("{}".encode("utf-16-le"), b"", "not JSON"),
    "a header in Latin-1": (b'{"\xe9":{}}', b"", "not UTF-8"),
    "a name with half a character": (b'{"\\ud83d":{}}', b"", "lone surrogate"),
    "an overlong character": (b'{"\xc0\xaf":{}}', b"", "not UTF-8"),
    "a name with a raw newline": (b'{"a\nb":{}}', b"", "control character"),
    "a name without its end": ('{"a', b"", "does not end"),
    "a header of brackets alone": ("{" + '"a":{' * 100_000, b"", "nested too deeply"),
    "metadata of brackets alone": ('{"__metadata__":' + "[" * 100_000, b"", "nested too deeply"),
    "a comment": ('{/* x */"a":1}', b"", "not JSON"),
    "single quotes": ("{'a':1}", b"", "not JSON"),
    "a trailing comma": ('{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},}', bytes(4), "not JSON"),
    "NaN as a size": ('{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', bytes(4), "not JSON"),
    "infinity as a size": ('{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}}', bytes(4), "out of range"),
    "a size of a thousand digits": (
        '{"a":{"dtype":"F32","shape":[' + "9" * 1000 + '],"data_offsets":[0,4]}}',
        bytes(4),
        "out of range",
    ),
    "a size of twenty digits": (
        '{"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}}',
        bytes(4),
        "wrong type",
    ),
    "a size that is true": ({"a": F8 | {"shape": [True]}}, bytes(8), r"shape\[0\].*wrong type"),
    "a size that is null": ({"a": F8 | {"shape": [None]}}, bytes(8), r"shape\[0\].*wrong type"),
    "a size that is an array": ({"a": F8 | {"shape": [[2]]}}, bytes(8), r"shape\[0\].*wrong type"),
    "a shape of an object": ({"a": F8 | {"shape": {"0": 2}}}, bytes(8), "shape.*wrong type"),
    "a shape of null": ({"a": F8 | {"shape": None}}, bytes(8), "shape.*wrong type"),
    "a shape of a million sizes": ({"a": F8 | {"shape": [1] * 1_000_000}}, bytes(8), "too many JSON values"),
    "a shape whose bits wrap to its bytes": ({"a": F8 | {"shape": [(1 << 59) + 2]}}, bytes(8), "cannot be counted"),
    "sizes whose product wraps to zero": ({"a": F8 | {"shape": [1 << 32, 1 << 32]}}, bytes(8), "cannot be counted"),
    "sizes whose product wraps to two": ({"a": F8 | {"shape": [HUGE, 8, 2]}}, bytes(8), "cannot be counted"),
    "a product that wraps before a zero": ({"a": F8 | {"shape": [HUGE, HUGE, 0]}}, bytes(8), "cannot be counted"),
    "the largest size": ({"a": F8 | {"shape": [(1 << 63) - 1]}}, bytes(8), "cannot be counted"),
    "half a byte of six bits": ({"a": entry("F6_E2M3", [3], 0, 2)}, bytes(2), "cannot be counted"),
    "a dtype in small letters": ({"a": F8 | {"dtype": "f32"}}, bytes(8), "unknown element type"),
    "an empty dtype": ({"a": F8 | {"dtype": ""}}, bytes(8), "unknown element type"),
    "a dtype with a zero byte": ({"a": F8 | {"dtype": "F32\0"}}, bytes(8), r"unknown element type.*F32\\x00"),
    "a dtype of GGUF": ({"a": F8 | {"dtype": "Q4_0"}}, bytes(8), "unknown element type"),
    "a dtype of null": ({"a": F8 | {"dtype": None}}, bytes(8), "dtype.*wrong type"),
    "offsets that are text": ({"a": F8 | {"data_offsets": ["0", "8"]}}, bytes(8), "wrong type"),
    "offsets that are floats": ({"a": F8 | {"data_offsets": [0.0, 8.0]}}, bytes(8), "wrong type"),
    "no offsets in the array": ({"a": F8 | {"data_offsets": []}}, bytes(8), "wrong data_offsets"),
    "one offset": ({"a": F8 | {"data_offsets": [8]}}, bytes(8), "wrong data_offsets"),
    "an object of offsets": ({"a": F8 | {"data_offsets": {"begin": 0, "end": 8}}}, bytes(8), "wrong type"),
    "the largest offset": ({"a": F8 | {"data_offsets": [0, (1 << 63) - 1]}}, bytes(8), "outside the file"),
    "offsets at the end of numbers": ({"a": entry("F32", [2], (1 << 63) - 9, (1 << 63) - 1)}, bytes(8), "outside"),
    "an entry of null": ({"a": None}, b"", "a: .*wrong type"),
    "an entry of a list": ({"a": ["F32", [2], [0, 8]]}, bytes(8), "a: .*wrong type"),
    "an entry of nothing": ({"a": {}}, b"", 'missing.*"dtype"'),
    "dtype twice": (
        '{"a":{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]}}',
        bytes(8),
        'twice.*"dtype"',
    ),
    "a name twice by an escape": (
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        '"\\u0061":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        bytes(8),
        "twice",
    ),
    "metadata twice": ('{"__metadata__":{},"__metadata__":{}}', b"", "twice"),
    "metadata of metadata": ({"__metadata__": {"a": {"b": "c"}}}, b"", "__metadata__.a.*wrong type"),
    "metadata of null": ({"__metadata__": None}, b"", "__metadata__.*wrong type"),
    "a million notes": ({"__metadata__": {str(i): "" for i in range(300_000)}}, b"", "too many JSON values"),
    "a name without letters": ({"": F8}, bytes(8), "name of a wrong length"),
    "a name of 64 KiB": ({"a" * 65_536: F8}, bytes(8), "name of a wrong length.*65536"),
    "a name that colours a terminal": ({"\x1b[31m\x9b": F8 | {"shape": [3]}}, bytes(8), r"\\x1b\[31m\\xc2\\x9b"),
    "a name that turns text round": ({"a\u202eb\u2066": F8 | {"shape": [3]}}, bytes(8), r"a\\xe2\\x80\\xaeb"),
    "a name that breaks lines": ({"a\r\nerror: b": F8 | {"shape": [3]}}, bytes(8), r"a\\x0d\\x0aerror"),
    "a name in a hole": ({"\x1b[2J": entry("F32", [1], 4, 8)}, bytes(8), r"\\x1b\[2J: bytes before"),
    "a hole of one byte": ({"a": F8, "b": entry("I8", [1], 9, 10)}, bytes(10), "b: bytes before"),
    "an overlap of one byte": ({"a": F8, "b": entry("F32", [1], 7, 11)}, bytes(11), 'b: .*overlaps.*"a"'),
    "a tensor inside of another": ({"a": entry("F32", [4], 0, 16), "b": entry("F32", [1], 4, 8)}, bytes(16), "overlap"),
    "an empty tensor behind the end": ({"a": F8, "b": entry("F32", [0], 9, 9)}, bytes(8), "outside the file"),
    "an empty tensor in a hole": ({"a": F8, "b": entry("F32", [0], 4, 4)}, bytes(8), "overlaps"),
    "a last tensor without its last byte": ({"a": F8, "b": entry("F32", [1], 8, 12)}, bytes(11), "outside the file"),
    "nothing but empty tensors and a byte": ({"a": entry("F32", [0], 0, 0)}, bytes(1), "after the last tensor"),
    "70,000 tensors": (
        {str(i): entry("I8", [0], 0, 0) for i in range(70_000)},
        b"",
        "too many tensors",
    ),
}

# Bytes of a whole file: what is left of one, or something else.
WHOLE = {
    "nothing": (b"", "empty"),
    "a length without its last byte": (bytes(7), "too short"),
    "a length alone": (struct.pack("<Q", 2), "longer than the file"),
    "a header without its last byte": (struct.pack("<Q", 3) + b"{}", "longer than the file"),
    "a header of no bytes": (struct.pack("<Q", 0), "no JSON object"),
    "a length over the format's": (struct.pack("<Q", 100_000_001) + b"{}", "longer than the format allows"),
    "a length of 2^62": (struct.pack("<Q", HUGE) + b"{}", "longer than the format allows"),
    "a length of 2^63": (struct.pack("<Q", 1 << 63) + b"{}", "longer than the format allows"),
    "the largest length": (b"\xff" * 8 + b"{}", "longer than the format allows"),
    "a length that wraps with its own eight bytes": (struct.pack("<Q", 2**64 - 8) + b"{}", "longer than the format"),
    "a big-endian length": (struct.pack(">Q", 2) + b"{}", "longer than the format allows"),
    "zeros": (bytes(4096), "no JSON object"),
    "a header of zeros": (struct.pack("<Q", 4088) + b"{" + bytes(4087), "not JSON"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"),
    "an HTML page": (b"\n<!DOCTYPE HTML>\n<html>", "HTML page"),
    "a pickle in a ZIP archive": (b"PK\x03\x04" + bytes(60), "longer than the file"),
    "a GGUF file": (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "longer than the format allows"),
}


def write_whole(folder: Path, data: bytes) -> Path:
    write_folder(folder, {"model_type": "gemma4_text"}, {})
    (folder / FILE).write_bytes(data)
    return folder


def write_lie(folder: Path, header: dict | str | bytes, data: bytes) -> Path:
    write_folder(folder, {"model_type": "gemma4_text"}, {})
    write_safetensors(folder / FILE, header, data)
    return folder


def write_long_header(folder: Path) -> Path:
    """A header of 50 MB, all of it a hole of the file."""
    write_whole(folder, struct.pack("<Q", 50_000_000) + b"{")
    with (folder / FILE).open("r+b") as file:
        file.truncate(50_000_008)
    return folder


def cases() -> Iterator[Case]:
    for name, (header, data, match) in LIES.items():
        yield Case(name, lambda folder, h=header, d=data: write_lie(folder, h, d), match, file=FILE)
    for name, (data, match) in WHOLE.items():
        yield Case(name, lambda folder, d=data: write_whole(folder, d), match, file=FILE, tensor="")
    yield Case(
        "a header of 50 MB", write_long_header, "header of this length", error=UnsupportedError, file=FILE, tensor=""
    )
