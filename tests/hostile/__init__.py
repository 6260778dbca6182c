"""Files that lie: writers of safetensors files and checkpoint folders without any check of their own."""

import json
import random
import struct
from pathlib import Path

MUTATIONS = [b"null", b"-1", b"1e999", b"{", b"[", b'"', b"\\ud800", b"18446744073709551615", b",", b"}", b"]", b"true"]


def entry(dtype: str, shape: list, begin: int, end: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def write_safetensors(path: Path, header: dict | str | bytes, data: bytes = b"", length: int | None = None) -> Path:
    """Writes `header`, which says `length` of itself (its true length if not given), and `data` after it."""
    text = header if isinstance(header, bytes | str) else json.dumps(header)
    text = text.encode() if isinstance(text, str) else text
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def write_folder(folder: Path, config: object, files: dict[str, dict], weight_map: dict | None = None) -> Path:
    """Writes a checkpoint folder.

    Args:
        folder: where; made if missing.
        config: the value in config.json.
        files: file name -> header; each tensor has 4 bytes.
        weight_map: of the index; no index if not given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    for name, header in files.items():
        write_safetensors(folder / name, header, bytes(4 * len(header)))
    if weight_map is not None:
        index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def tensors(*names: str) -> dict[str, dict]:
    """The header of a file whose tensors have one float32 each."""
    return {name: entry("F32", [1], 4 * i, 4 * i + 4) for i, name in enumerate(names)}


def mutate(data: bytes, rng: random.Random, limit: int) -> bytes:
    """`data` with one to four random changes in its first `limit` bytes."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(max(1, min(len(out), limit)))
        kind = rng.randrange(4)
        if kind == 0:
            out[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del out[at : at + rng.randint(1, 8)]
        elif kind == 2:
            out[at:at] = rng.choice(MUTATIONS)
        else:
            del out[rng.randint(at, len(out)) :]
    return bytes(out)
