"""A tokenizer.json of Gemma's size, made of nothing, and a text that it encodes well.

Entries are single characters and joins of two earlier entries; a merge is every way to make an entry of two others. The
file is written with indentation, as the published ones are (some 30 MB).
"""

from __future__ import annotations

import json
import random
from pathlib import Path

ENTRIES = 262_144
SPACE_MARK = "\N{LOWER ONE EIGHTH BLOCK}"
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<|turn>", "<turn|>"]  # the last two are a chat template's
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"


def entries(count: int, rng: random.Random) -> list[str]:
    """Special tokens, bytes, single characters, then joins of two earlier entries: words, with "▁" only in front."""
    base = [
        chr(code) for span in ((0x21, 0x7F), (0xC0, 0x250), (0x391, 0x450), (0x4E00, 0x6E00)) for code in range(*span)
    ]
    tokens = dict.fromkeys(SPECIAL + [f"<0x{byte:02X}>" for byte in range(256)] + ["\n", SPACE_MARK])
    base = base[: (count - len(tokens)) // 2]  # a small vocabulary has words too
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
