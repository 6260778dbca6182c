"""Indexes of shards that lie: where the shards lie, and which tensors are in them."""

from collections.abc import Iterator
from pathlib import Path

from gemmule.errors import ResourceError
from hostile import tensors, write_folder
from hostile.case import Case

CONFIG = {"model_type": "gemma4_text"}
INDEX = "model.safetensors.index.json"
A = {"a": tensors("a")}

# Names of shards that are no plain file names.
PATHS = {
    "a shard outside": "../a",
    "a shard in a folder": "sub/a",
    "a shard by a whole path": "/etc/passwd",
    "the folder above as shard": "..",
    "the folder itself as shard": ".",
    "a shard without a name": "",
    "a shard's name with a zero byte": "a\0b",
    "a shard's name with a newline": "a\nb",
    "a shard's name that colours a terminal": "\x1b[31ma",
    "a shard through a folder that is there": "x/../a",
    "a shard by a path of Windows": "..\\a",
    "a shard on a drive": "C:\\a",
    "a slash alone": "/",
    "a shard behind many folders above": "../" * 40 + "etc/passwd",
}

# Each index: what it blames (a file's name and a pattern of the tensor's or key's), files, weight_map, message.
LIES = {
    "a shard's name that is a number": (INDEX, "weight_map.a", A, {"a": 1}, "wrong type"),
    "a shard's name that is null": (INDEX, "weight_map.a", A, {"a": None}, "wrong type"),
    "a shard's name in a list": (INDEX, "weight_map.a", A, {"a": ["a"]}, "wrong type"),
    "a shard's name of 300 letters": (INDEX, "", A, {"a": "a" * 300}, "missing"),
    "an index without tensors": (INDEX, "weight_map", A, {}, "lists no tensor"),
    "a shard that is missing": (INDEX, "", A, {"a": "a", "b": "b"}, "shard that the index names is missing"),
    "a tensor that is missing": ("a", "b", A, {"a": "a", "b": "a"}, "b: .*lists is missing"),
    "a thousand tensors that are missing": ("a", "t0", A, {"a": "a"} | {f"t{i}": "a" for i in range(1000)}, "missing"),
    "a tensor that is not listed": ("a", "b", {"a": tensors("a", "b")}, {"a": "a"}, "b: .*does not list"),
    "a tensor in another shard": (
        INDEX,
        "b",
        {"a": tensors("a", "b"), "c": tensors("c")},
        {"a": "a", "b": "c", "c": "c"},
        "b: .*not in the shard",
    ),
    "tensors in each other's shards": (
        INDEX,
        "a",
        {"x": tensors("a"), "y": tensors("b")},
        {"a": "y", "b": "x"},
        "a: .*not in the shard",
    ),
    "a tensor in two shards": (
        "a",
        "a",
        {"a": tensors("a"), "b": tensors("b", "a")},
        {"a": "a", "b": "b"},
        "a: .*two files",
    ),
    "a name of a tensor that breaks lines": ("a", "b\n\x1b", A, {"a": "a", "b\n\x1b": "a"}, r"b\\x0a\\x1b: .*missing"),
    "the index as its own shard": (INDEX, "", A, {"a": INDEX}, "longer than the format allows|no JSON object"),
    "a config as shard": ("config.json", "", A, {"a": "config.json"}, "longer than the format allows"),
}

# Texts of the index.
TEXTS = {
    "an index of nothing": ("", "", "empty"),
    "an index of an empty object": ("{}", "", "weight_map"),
    "an index of a list": ("[]", "", "wrong type"),
    "an index that breaks off": ('{"weight_map": {"a"', "", "not JSON"),
    "a map of null": ('{"weight_map": null}', "weight_map", "wrong type"),
    "a map of lists": ('{"weight_map": [["a", "a"]]}', "weight_map", "wrong type"),
    "a tensor twice in the index": ('{"weight_map": {"a": "a", "a": "b"}}', "", "twice"),
    "two maps": ('{"weight_map": {"a": "a"}, "weight_map": {}}', "", "twice"),
    "an index of brackets alone": ("[" * 1_000_000, "", "nested too deeply"),
    "an index of a million numbers": ("[" + "0," * 1_000_000 + "0]", "", "too many JSON values"),
    "an index of 20 MB of spaces": (" " * 20_000_000, "", "longer than any of its kind"),
    "a Git LFS pointer for an index": ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "", "LFS"),
}


def write_text(folder: Path, text: str) -> Path:
    write_folder(folder, CONFIG, A)
    (folder / INDEX).write_text(text)
    return folder


def write_missing_link(folder: Path) -> Path:
    write_folder(folder, CONFIG, {}, {"a": "a"})
    (folder / "a").symlink_to("nowhere")
    return folder


def write_folder_as_shard(folder: Path) -> Path:
    write_folder(folder, CONFIG, {}, {"a": "a"})
    (folder / "a").mkdir()
    return folder


def cases() -> Iterator[Case]:
    for name, shard in PATHS.items():
        yield Case(
            name,
            lambda folder, shard=shard: write_folder(folder, CONFIG, A, {"a": shard}),
            "plain file name",
            file=INDEX,
            tensor="weight_map.a",
        )
    for name, (file, tensor, files, weight_map, match) in LIES.items():
        yield Case(
            name,
            lambda folder, files=files, weight_map=weight_map: write_folder(folder, CONFIG, files, weight_map),
            match,
            file=file,
            tensor=tensor,
        )
    for name, (text, tensor, match) in TEXTS.items():
        yield Case(name, lambda folder, text=text: write_text(folder, text), match, file=INDEX, tensor=tensor)
    yield Case("a shard that is a broken link", write_missing_link, "shard that the index names is missing", file=INDEX)
    yield Case("a folder as shard", write_folder_as_shard, "a file is needed", error=ResourceError, file="a")
    yield Case("no weights", lambda folder: write_folder(folder, CONFIG, {}), "no weights")
