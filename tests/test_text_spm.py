"""Byte-pair encoding by score, as SentencePiece has it, against a slow one in Python; what GGUF files say of tokens."""

import math
import random
from itertools import pairwise

import numpy as np
import pytest
from gemmule._core.testing import tokenizer

import gemmule
from text_cases import random_text

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SPACE_MARK = "\N{LOWER ONE EIGHTH BLOCK}"


class Slow:
    """Looks for the best pair again after every merge."""

    def __init__(self, entries, scores):
        self.scores = dict(zip(entries, scores, strict=True))
        self.ids = {entry: id for id, entry in enumerate(entries)}

    def encode(self, text):
        parts = list(text.replace(" ", SPACE_MARK))
        mergeable = self.scores.keys() - set(SPECIAL) - set(BYTES)
        while True:
            pairs = [
                (-self.scores[left + right], place)
                for place, (left, right) in enumerate(pairwise(parts))
                if left + right in mergeable
            ]
            if not pairs:
                break
            _, place = min(pairs)
            parts[place : place + 2] = ["".join(parts[place : place + 2])]
        names = [[part] if part in self.ids else [f"<0x{byte:02X}>" for byte in part.encode()] for part in parts]
        return [self.ids[name] for each in names for name in each]


def arrays(words, scores, model="llama", merges=()):
    entries = [*SPECIAL, *BYTES, *words]
    return {
        "model": model,
        "tokens": [entry.encode() for entry in entries],
        "scores": [0.0] * (len(SPECIAL) + len(BYTES)) + list(scores),
        "token_types": [CONTROL] * len(SPECIAL) + [BYTE] * len(BYTES) + [NORMAL] * len(words),
        "merges": [merge.encode() for merge in merges],
    }


def small(**changes):
    return arrays(["a", "b", "ab", SPACE_MARK], [-1.0, -2.0, -0.5, -3.0]) | changes


def encode(ours, text, parse_special=True):
    return ours.encode(text.encode(), parse_special).tolist()


@pytest.mark.parametrize("scores", ["different", "few", "equal", "of both signs"])
def test_as_the_slow_one(scores):
    rng = random.Random(scores)
    choose = {
        "different": lambda: rng.uniform(-100, 0),
        "few": lambda: rng.choice([-3.0, -2.0, -1.0]),
        "equal": lambda: 0.0,
        "of both signs": lambda: rng.choice([-math.inf, -1.5, -1e-40, -0.0, 0.0, 1e-40, 0.25, 7.0]),
    }[scores]
    for _ in range(10):
        words = dict.fromkeys(["a", "b", SPACE_MARK, "é", "€", "\n"])
        while len(words) < 60:
            words["".join(rng.choices(list(words), k=2))] = None
        del words["b"]  # a character without an entry, which merges all the same
        values = [float(np.float32(choose())) for _ in words]
        made = arrays(words, values)
        ours = tokenizer(**made)
        slow = Slow([*SPECIAL, *BYTES, *words], made["scores"])
        for _ in range(60):
            text = "".join(rng.choices("aaab éb€\n🦊<bos>", k=rng.randint(0, 40)))
            text = text if rng.random() < 0.8 else text + random_text(rng, 20)
            assert encode(ours, text, parse_special=False) == slow.encode(text), ascii(text)


def test_text_comes_back():
    ours = tokenizer(**small())
    rng = random.Random(6)
    for _ in range(200):
        text = random_text(rng).replace(SPACE_MARK, "")
        assert ours.decode(ours.encode(text.encode(), False), False) == text


def test_control_tokens_are_not_made_of_text():
    """Not even where text could merge into one."""
    made = arrays(["a", "<", ">", "bos", "b", "o", "s", "bo", "<bos"], range(9))
    ours = tokenizer(**made)
    assert encode(ours, "<bos>") == [2]
    assert 2 not in encode(ours, "<bos>", parse_special=False)


def test_user_defined_tokens_are_taken_whole():
    made = arrays(["a", SPACE_MARK, "\n\n", "  ", "aa"], [0.0] * 5)
    made["token_types"][-3:-1] = [USER_DEFINED] * 2
    ours = tokenizer(**made)
    first = len(SPECIAL) + len(BYTES)
    for parse_special in (True, False):
        assert encode(ours, "a   a\n\n\naa", parse_special) == [
            first,
            first + 3,
            first + 1,
            first,
            first + 2,
            4 + 0x0A,
            first + 4,
        ]


def test_merges_by_rank():
    words = ["a", "b", "c", "ab", "bc", "abc"]
    ours = tokenizer(**arrays(words, [0.0] * 6, "gemma4", ["b c", "a b", "a bc", "c c"]))
    first = len(SPECIAL) + len(BYTES)
    assert encode(ours, "abc") == [first + 5]
    assert encode(ours, "aba") == [first + 3, first]
    assert encode(ours, "cc") == [first + 2] * 2  # its result is not an entry


def test_types_of_gemma_s_own_tokens():
    """Whatever the file says, `<eos>` and the marks of thoughts are control tokens, and `</s>` is text."""
    words = ["<turn|>", "<|channel>", "<|tool_response>", '<|"|>', "</s>", "<table>"]
    made = arrays(words, [0.0] * 6, "gemma4")
    made["token_types"][1] = NORMAL
    made["token_types"][-6:] = [NORMAL, USER_DEFINED, USER_DEFINED, USER_DEFINED, CONTROL, USER_DEFINED]
    ours = tokenizer(**made)
    visible = [ours.token(id) for id in range(ours.size) if ours.is_visible(id) and not ours.is_byte(id)]
    assert visible == ["</s>", "<table>"]
    assert [ours.token(id) for id in ours.end_tokens] == ["<eos>", "<turn|>", "<|tool_response>"]
    control = {ours.find(word) for word in ("<eos>", "<turn|>", "<|channel>", '<|"|>')}
    spelled = "<eos><turn|><|channel>" + '<|"|>'
    assert set(encode(ours, spelled)) == control
    assert not control & set(encode(ours, spelled, parse_special=False))
    assert ours.find("</s>") not in encode(ours, "</s>")


@pytest.mark.parametrize("type", [NORMAL, CONTROL, USER_DEFINED])
def test_the_end_mark_of_other_models(type):
    """`</s>` in a file of Gemma 3 is a control token, as llama.cpp has it; beside Gemma 4's marks it is text."""
    made = arrays(["</s>", "<", "</", "<end_of_turn>"], [0.0, -1.0, -1.0, 0.0])
    made["token_types"][-4] = type
    ours = tokenizer(**made)
    assert encode(ours, "</s>") == [ours.find("</s>")]
    assert encode(ours, "</s>", parse_special=False)[0] == ours.find("</")
    assert not ours.is_visible(ours.find("</s>"))
    assert not ours.is_visible(ours.find("<end_of_turn>"))
    made["tokens"][-1] = b"<|tool_response>"
    ours = tokenizer(**made)
    for parse_special in (True, False):
        assert encode(ours, "</s>", parse_special)[0] == ours.find("</")
    assert ours.is_visible(ours.find("</s>"))


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"model": "gpt2"}, gemmule.UnsupportedError, "gpt2"),
        ({"add_space_prefix": True}, gemmule.UnsupportedError, "add_space_prefix"),
        ({"scores": [0.0] * 263}, gemmule.FormatError, "scores.*expected 264.*found 263"),
        ({"scores": [0.0] * 263 + [math.nan]}, gemmule.FormatError, r"scores\[263\]"),
        ({"token_types": [1] * 265}, gemmule.FormatError, "token_type.*expected 264.*found 265"),
        ({"token_types": [1] * 263 + [9]}, gemmule.FormatError, r"token_type\[263\].*found 9"),
        ({"token_types": [1] * 263 + [2**32 + 1]}, gemmule.FormatError, r"token_type\[263\].*found 4294967297"),
        ({"model": "gemma4", "merges": [b"ab"]}, gemmule.FormatError, r"merges\[0\]"),
        ({"model": "gemma4", "merges": [b""]}, gemmule.FormatError, r"merges\[0\]"),
        ({"model": "gemma4", "merges": [b"a b", b"a z"]}, gemmule.FormatError, 'merge 1.*found "z"'),
        ({"model": "gemma4", "merges": [b"a b", b"a b"]}, gemmule.FormatError, "twice"),
    ],
)
def test_refuses_arrays_that_lie(changes, error, match):
    with pytest.raises(error, match=match):
        tokenizer(**small(**changes))


@pytest.mark.parametrize(
    ("token", "error", "match"),
    [
        (b"", gemmule.FormatError, "no text.*id 263"),
        (b"a", gemmule.FormatError, "same text.*ids 260 and 263"),
        (b"\xff", gemmule.FormatError, "UTF-8"),
        (b"\xe2\x96", gemmule.FormatError, "UTF-8"),
    ],
)
def test_refuses_tokens_that_lie(token, error, match):
    made = small()
    made["tokens"][-1] = token
    with pytest.raises(error, match=match):
        tokenizer(**made)


def test_refuses_a_vocabulary_without_all_bytes():
    made = small()
    made["tokens"][4 + 0x41] = b"x"
    with pytest.raises(gemmule.UnsupportedError, match="<0x41>"):
        tokenizer(**made)
