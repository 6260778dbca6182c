"""Writes a tokenizer.json of Gemma's size, made of nothing: 262,144 entries, about as many merges as Gemma's 514,906.

    python benchmarks/synthetic_tokenizer.py FOLDER

It is written with indentation, as the published files are (some 30 MB), and with the tokenizer.json a small text that
it encodes well, text.txt. `--time` opens it afterwards and prints what that took.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from pathlib import Path

ENTRIES = 262_144
SPACE_MARK = "\N{LOWER ONE EIGHTH BLOCK}"
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"


def entries(count: int, rng: random.Random) -> list[str]:
    """Special tokens, bytes, single characters, then joins of two earlier entries: words, with "▁" only in front."""
    base = [
        chr(code) for span in ((0x21, 0x7F), (0xC0, 0x250), (0x391, 0x450), (0x4E00, 0x6E00)) for code in range(*span)
    ]
    tokens = dict.fromkeys(SPECIAL + [f"<0x{byte:02X}>" for byte in range(256)] + ["\n", SPACE_MARK])
    pieces = list(LETTERS)  # what words are made of
    while len(tokens) + len(base) < count:
        head, tail = (pieces[int(len(pieces) * rng.random() ** 3)] for _ in range(2))
        word = head + tail
        if len(word) > 12:
            continue
        for entry in (word, SPACE_MARK + word):
            if entry not in tokens and len(tokens) + len(base) < count:
                tokens[entry] = None
                pieces += [word] if entry == word else []
    return [*tokens, *(character for character in base if character not in tokens)][:count]


def merges(tokens: list[str]) -> list[tuple[str, str]]:
    """Every way to make an entry of two others, shorter entries first."""
    known = set(tokens)
    ordinary = (token for token in tokens if not token.startswith("<"))
    return [
        (token[:cut], token[cut:])
        for token in sorted(ordinary, key=len)
        for cut in range(1, len(token))
        if token[:cut] in known and token[cut:] in known
    ]


def write(folder: Path, count: int = ENTRIES) -> Path:
    """tokenizer.json, and text.txt of two million bytes. Returns the folder."""
    rng = random.Random(4)
    tokens = entries(count, rng)
    space = {"String": " "}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": id,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for id, token in enumerate(SPECIAL)
        ],
        "normalizer": {"type": "Replace", "pattern": space, "content": SPACE_MARK},
        "pre_tokenizer": {"type": "Split", "pattern": space, "behavior": "MergedWithPrevious", "invert": False},
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE_MARK}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {token: id for id, token in enumerate(tokens)},
            "merges": merges(tokens),
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False, indent=2))
    words = [token for token in tokens if token.startswith(SPACE_MARK) and len(token) > 2]
    text: list[str] = []
    size = 0
    while size < 2_000_000:
        word = words[int(len(words) * rng.random() ** 3)].replace(SPACE_MARK, " ")  # early entries are frequent ones
        text.append(word)
        size += len(word.encode())
    (folder / "text.txt").write_text("".join(text))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--time", action="store_true", help="open it and encode text.txt")
    parser.add_argument("--text", type=Path, help="encode this text instead")
    arguments = parser.parse_args()
    if not (arguments.folder / "tokenizer.json").is_file():
        write(arguments.folder)
    if arguments.time:
        _time(arguments.folder, arguments.text or arguments.folder / "text.txt")


def _time(folder: Path, text_file: Path) -> None:
    import gemmule

    def resident(name: str) -> float:
        status = Path("/proc/self/status").read_text()
        return int(status.split(name + ":")[1].split()[0]) / 1024  # MiB

    text = text_file.read_text()
    before = resident("VmRSS")
    start = time.perf_counter()
    tokenizer = gemmule.Tokenizer.from_pretrained(folder)
    opened = time.perf_counter() - start
    print(
        f"open: {opened * 1000:.0f} ms; resident {resident('VmRSS') - before:.0f} MiB, "
        f"at most {resident('VmHWM') - before:.0f} MiB"
    )
    seconds = []
    for _ in range(7):
        start = time.process_time()
        ids = tokenizer.encode(text)
        seconds.append(time.process_time() - start)
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    megabytes = len(text.encode()) / 1e6
    print(
        f"encode: {megabytes / statistics.median(seconds):.1f} MB/s (best {megabytes / min(seconds):.1f}), "
        f"{len(ids)} tokens of {megabytes:.1f} MB"
    )


if __name__ == "__main__":
    main()
