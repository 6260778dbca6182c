"""The tokenizer of a GGUF file gives the ids of llama.cpp. docs/decisions/0012-tokenizer.md names what differs.

The files: a small one of Gemma 4's converter; Gemma 3's, which merges by score (GEMMULE_GEMMA3_GGUF); and one that has
Gemma 3's entries, Gemma 4's marks, and the merges that follow from the scores. The last one is also written as a
tokenizer.json, for the tokenizers package.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest
import tokenizers
from gemmule._core.testing import tokenizer

import hostile_gguf
from gemmule._core import Tokenizer
from golden_cases import FIXTURES
from hostile_gguf import ARRAY, BOOL, F32, I32, STRING, U32, Array, Gguf
from oracle_files import oracle_file
from text_cases import BLOCKS, added, fixture, write

llama_cpp = pytest.importorskip("llama_cpp", reason="pip install llama-cpp-python, to compare with it")

SMALL = FIXTURES / "gguf_dense" / "model-F16.gguf"
NORMAL, CONTROL, USER_DEFINED, BYTE = 1, 3, 4, 6
SPACE_MARK = "\N{LOWER ONE EIGHTH BLOCK}"
ENDS = ["<turn|>", "<|tool_response>"]
# User-defined in GGUF files of Gemma 4: llama.cpp takes them out of any text. So is `<|tool_response>`, but it ends an
# answer, which makes it a control token there.
VISIBLE = ["<|tool_call>", "<tool_call|>", "<tool_response|>", '<|"|>', "<|channel>", "<channel|>"]
PLANES = [range(0xD800), range(0xE000, 0x10000), *(range(plane << 16, (plane + 1) << 16) for plane in range(1, 17))]


@dataclass
class Pair:
    """Our tokenizer and llama.cpp's, of one file."""

    ours: Tokenizer
    peer: "llama_cpp.Llama"
    tokens: list[str]
    types: list[int]
    is_ranked: bool

    def encode(self, text: str, parse_special: bool) -> list[int]:
        """The ids, which must be llama.cpp's."""
        ids = self.ours.encode(text.encode(), parse_special).tolist()
        assert ids == self.peer.tokenize(text.encode(), add_bos=False, special=parse_special), ascii(text)
        return ids

    def added(self, parse_special: bool) -> list[str]:
        """Control tokens and user-defined ones that both treat alike."""
        names = [token for token, type in zip(self.tokens, self.types, strict=True) if type in (CONTROL, USER_DEFINED)]
        return [name for name in names if parse_special or not self.is_ranked or name not in VISIBLE]


def metadata(file: Gguf) -> dict[str, object]:
    """The values below `tokenizer.ggml`, arrays as lists."""
    prefix = "tokenizer.ggml."
    return {
        key.removeprefix(prefix): value.items if isinstance(value, Array) else value
        for key, (_, value) in file.keys.items()
        if key.startswith(prefix)
    }


def our_tokenizer(values: dict[str, object]) -> Tokenizer:
    return tokenizer(
        model=values["model"],
        tokens=[token.encode() for token in values["tokens"]],
        scores=values["scores"],
        token_types=values["token_type"],
        merges=[merge.encode() for merge in values.get("merges", [])],
    )


def pair(path: Path, values: dict[str, object]) -> Pair:
    peer = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    return Pair(our_tokenizer(values), peer, values["tokens"], values["token_type"], values["model"] == "gemma4")


@pytest.fixture(scope="module")
def gemma3() -> dict[str, object]:
    return metadata(hostile_gguf.read(oracle_file("GEMMULE_GEMMA3_GGUF")))


@pytest.fixture(scope="module")
def as_gemma4(gemma3) -> dict[str, object]:
    """Gemma 3's entries with Gemma 4's marks in place of unused ones, and merges."""
    tokens = [token.replace(" ", SPACE_MARK) for token in gemma3["tokens"]]
    types = [type if type == BYTE else NORMAL for type in gemma3["token_type"]]
    for id in range(5):  # <pad> <eos> <bos> <unk> <mask>
        types[id] = CONTROL
    unused = (id for id, token in enumerate(tokens) if token.startswith("<unused"))
    marks = dict.fromkeys(["<|turn>", "<turn|>"], CONTROL)
    marks |= dict.fromkeys(["<|tool_response>", *VISIBLE], USER_DEFINED)
    for mark, type in marks.items():
        id = next(unused)
        tokens[id], types[id] = mark, type
    ids = {token: id for id, token in enumerate(tokens) if types[id] == NORMAL}
    merges = [
        (gemma3["scores"][ids[token]], len(token[:cut]), token[:cut], token[cut:])
        for token in ids
        for cut in range(1, len(token))
        if token[:cut] in ids and token[cut:] in ids
    ]
    merges.sort(key=lambda merge: merge[:2], reverse=True)
    assert len(merges) > 500_000
    return {
        "model": "gemma4",
        "tokens": tokens,
        "scores": gemma3["scores"],
        "token_type": types,
        "merges": [f"{left} {right}" for _, _, left, right in merges],
    }


def write_gguf(path: Path, values: dict[str, object]) -> Path:
    keys = {
        "general.architecture": (STRING, "gemma4"),
        "tokenizer.ggml.model": (STRING, values["model"]),
        "tokenizer.ggml.tokens": (ARRAY, Array(STRING, values["tokens"])),
        "tokenizer.ggml.scores": (ARRAY, Array(F32, values["scores"])),
        "tokenizer.ggml.token_type": (ARRAY, Array(I32, values["token_type"])),
        "tokenizer.ggml.merges": (ARRAY, Array(STRING, values["merges"])),
        "tokenizer.ggml.eos_token_id": (U32, 1),
        "tokenizer.ggml.bos_token_id": (U32, 2),
        "tokenizer.ggml.add_space_prefix": (BOOL, False),
    }
    return Gguf(keys=keys).write(path)


@pytest.fixture(scope="module", params=["gemma4 fixture", "gemma3", "gemma3 as gemma4"])
def both(request, tmp_path_factory) -> Pair:
    if request.param == "gemma4 fixture":
        return pair(SMALL, metadata(hostile_gguf.read(SMALL)))
    if request.param == "gemma3":
        return pair(oracle_file("GEMMULE_GEMMA3_GGUF"), request.getfixturevalue("gemma3"))
    values = request.getfixturevalue("as_gemma4")
    return pair(write_gguf(tmp_path_factory.mktemp("gguf") / "made.gguf", values), values)


def unicode_texts(rng, count):
    for _ in range(count):
        blocks = rng.sample(BLOCKS + PLANES, rng.randint(1, 5))
        yield "".join(chr(rng.choice(rng.choice(blocks))) for _ in range(rng.randint(0, 80)))


def texts_of_entries(rng, pair, parse_special, count):
    """Entries, added tokens and parts of them, runs of spaces and newlines, in any order."""
    plain = [
        token.replace(SPACE_MARK, " ")
        for token, type in zip(pair.tokens, pair.types, strict=True)
        if type not in (CONTROL, USER_DEFINED)
    ]
    marks = pair.added(parse_special)
    kinds = [
        lambda: rng.choice(plain),
        lambda: rng.choice(marks),
        lambda: (mark := rng.choice(marks))[: rng.randint(0, len(mark))],
        lambda: rng.choice([" ", "\n", "\t", "\r\n", SPACE_MARK, "a", "</s>"]) * rng.randint(1, 40),
        lambda: rng.choice(["<0x0A>", "<0x", "0A>", "<0xE2><0x96><0x81>", "<unk>", "<s>"]),
    ]
    for _ in range(count):
        chosen = rng.sample(kinds, rng.randint(1, len(kinds)))
        yield "".join(rng.choice(chosen)() for _ in range(rng.randint(1, 20)))


@pytest.mark.parametrize("parse_special", [True, False])
def test_random_text(both, parse_special):
    rng = random.Random(1)
    for text in unicode_texts(rng, 4000):
        both.encode(text, parse_special)
    for text in texts_of_entries(rng, both, parse_special, 4000):
        both.encode(text, parse_special)


@pytest.mark.parametrize("parse_special", [True, False])
def test_entries_alone(both, parse_special):
    same = set(both.added(parse_special))
    for token, type in zip(both.tokens, both.types, strict=True):
        if type not in (CONTROL, USER_DEFINED) or token in same:
            both.encode(token.replace(SPACE_MARK, " "), parse_special)


@pytest.mark.parametrize("parse_special", [True, False])
def test_wikitext(both, parse_special):
    with oracle_file("GEMMULE_WIKITEXT").open(encoding="utf-8", newline="") as file:  # it has "\r"
        text = file.read()
    assert len(both.encode(text, parse_special)) > 200_000
    for line in text.split("\n"):
        both.encode(line, parse_special)


def test_marks_that_are_text():
    """llama.cpp takes Gemma 4's visible marks out of text that may not spell control tokens."""
    both = pair(SMALL, metadata(hostile_gguf.read(SMALL)))
    for mark in VISIBLE:
        id = both.ours.find(mark)
        assert both.encode(mark, parse_special=True) == [id]
        assert both.peer.tokenize(mark.encode(), add_bos=False, special=False) == [id]
        assert id not in both.ours.encode(mark.encode(), False)
    for mark in ENDS:
        assert both.ours.find(mark) not in both.encode(mark, parse_special=False)


@pytest.mark.parametrize("parse_special", [True, False])
def test_as_the_tokenizers_package(as_gemma4, tmp_path, parse_special):
    """The same entries and merges as a tokenizer.json: one set of ids from both kinds of files and from the package."""
    content = fixture()
    content["model"] |= {
        "vocab": {token: id for id, token in enumerate(as_gemma4["tokens"])},
        "merges": [merge.split(" ") for merge in as_gemma4["merges"]],
    }
    content["added_tokens"] = [
        added(id, as_gemma4["tokens"][id], special=True)
        for id, type in enumerate(as_gemma4["token_type"])
        if type in (CONTROL, USER_DEFINED)
    ]
    path = write(tmp_path, content)
    library = tokenizers.Tokenizer.from_file(str(path))
    library.encode_special_tokens = not parse_special
    files = [Tokenizer.open(str(path)), our_tokenizer(as_gemma4)]
    rng = random.Random(2)
    marks = [token["content"] for token in content["added_tokens"]]
    for text in unicode_texts(rng, 4000):
        text += rng.choice(marks) + text[:10] + rng.choice([" ", "\n"]) * rng.randint(0, 40)
        want = library.encode(text, add_special_tokens=False).ids
        for ours in files:
            assert ours.encode(text.encode(), parse_special).tolist() == want, ascii(text)
