"""Byte-pair encoding by rank: the same ids and texts as the tokenizers package gives for the same tokenizer.json."""

import random
import time
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from gemmule._core.testing import text_hash

import gemmule
from fakes import TOKENIZER
from gemmule._core import Tokenizer
from text_cases import added, fixture, random_text, write

FAIRY = Path(gemmule.__file__).parent / "data" / "fairy"
EXCERPT = (Path(__file__).parent / "data" / "fairy-excerpt.txt").read_text()
CONTROL = ["<bos>", "<turn|>", "<|turn>", "<|image|>", '<|"|>', "[multimodal]"]


class Pair:
    """Our tokenizer and the library's, of one file."""

    def __init__(self, file):
        self.ours = Tokenizer.open(str(file))
        self.library = tokenizers.Tokenizer.from_file(str(file))

    def encode(self, text, *, parse_special=True):
        """The ids, which must be the library's."""
        self.library.encode_special_tokens = not parse_special
        ids = self.ours.encode(text.encode(), parse_special).tolist()
        assert ids == self.library.encode(text, add_special_tokens=False).ids, ascii(text)
        return ids

    def decode(self, ids):
        """The text, which must be the library's, with special tokens and without."""
        array = np.array(ids, np.int32)
        for skip in (True, False):
            text = self.ours.decode(array, skip)
            assert text == self.library.decode(ids, skip_special_tokens=skip), ids
        return text


@pytest.fixture(scope="module", params=[TOKENIZER, FAIRY], ids=["fixture", "fairy"])
def pair(request):
    return Pair(request.param / "tokenizer.json")


@pytest.mark.parametrize("parse_special", [True, False])
def test_random_text(pair, parse_special):
    rng = random.Random(1)
    for _ in range(1000):
        text = random_text(rng)
        if rng.random() < 0.3:
            text = rng.choice(CONTROL).join([text, random_text(rng, 10), random_text(rng, 10)])
        ids = pair.encode(text, parse_special=parse_special)
        assert pair.decode(ids) == text.replace("\N{LOWER ONE EIGHTH BLOCK}", " ")


def test_a_book(pair):
    ids = pair.encode(EXCERPT)
    assert pair.decode(ids) == EXCERPT
    assert len(ids) < len(EXCERPT) / 1.2  # it merges


def test_its_own_tokens_in_any_order(pair):
    rng = random.Random(2)
    tokens = [pair.ours.token(id).replace("\N{LOWER ONE EIGHTH BLOCK}", " ") for id in range(pair.ours.size)]
    for _ in range(500):
        pair.encode("".join(rng.choices(tokens, k=30)))


def test_random_ids(pair):
    """Runs of byte tokens that spell nothing become one U+FFFD a byte; ids without an entry have no text."""
    rng = random.Random(3)
    byte = {int(pair.ours.token(id)[3:5], 16): id for id in range(pair.ours.size) if pair.ours.is_byte(id)}
    assert len(byte) == 256
    broken = 0
    for _ in range(1000):
        ids = rng.choices(range(pair.ours.size + 5), k=rng.randint(0, 12))
        for _ in range(rng.randint(0, 3)):
            data = rng.choice(["é", "€", "🦊", "a"]).encode() + bytes(rng.choices(range(256), k=rng.randint(0, 2)))
            place = rng.randint(0, len(ids))
            ids[place:place] = [byte[value] for value in data[: rng.randint(1, len(data))]]
        broken += "\N{REPLACEMENT CHARACTER}" in pair.decode(ids)
    assert 100 < broken < 1000


def test_the_leftmost_and_longest_added_token(tmp_path):
    content = fixture()
    ids = dict(content["model"]["vocab"])
    for text in ["ab", "abc", "bcd", "hello you", "  ", "\n\n", "é<", "<bos>x"]:
        content["added_tokens"].append(added(ids.setdefault(text, len(ids)), text, special=text == "é<"))
    pair = Pair(write(tmp_path, content))
    for text in ["xabcd", "abcbcd", "say hello you", "a    b", "\n\n\n", "é<bos>x", "<bos>x", "ab", "a"]:
        for parse_special in (True, False):
            pair.encode(text, parse_special=parse_special)
    assert [pair.ours.token(id) for id in pair.encode("xabcd")] == ["x", "abc", "d"]
    rng = random.Random(4)
    for _ in range(500):
        text = "".join(rng.choices("abcd \né<bos>x", k=30))
        for parse_special in (True, False):
            pair.encode(text, parse_special=parse_special)


def test_words_of_every_kind_of_merge(tmp_path):
    """A vocabulary of two letters and joins across spaces: words are long, ties are many, some merges lead nowhere."""
    rng = random.Random(5)
    for _ in range(20):
        content = fixture()
        vocab = {token: id for token, id in content["model"]["vocab"].items() if id < 262}
        entries = ["a", "b", "\N{LOWER ONE EIGHTH BLOCK}"]
        merges = []
        while len(entries) < 30:
            left, right = rng.choices(entries, k=2)
            merges.append([left, right])
            if left + right not in entries:
                entries.append(left + right)
        merges = [list(merge) for merge in dict.fromkeys(map(tuple, merges))]
        rng.shuffle(merges)
        vocab |= {token: id for id, token in enumerate(entries, 262)}
        content["model"] |= {"vocab": vocab, "merges": merges}
        content["added_tokens"] = content["added_tokens"][:6]
        pair = Pair(write(tmp_path, content))
        for _ in range(50):
            pair.encode("".join(rng.choices("aab cé", k=40)))


@pytest.mark.parametrize("form", ["pairs", "joined", "merges first"])
def test_forms_of_a_file(form, tmp_path):
    content = fixture()
    model = content["model"]
    if form == "joined":
        model["merges"] = [" ".join(merge) for merge in model["merges"]]
    if form == "merges first":
        content["model"] = dict(sorted(model.items()))
        assert list(content["model"]).index("merges") < list(content["model"]).index("vocab")
    ours, usual = Tokenizer.open(str(write(tmp_path, content))), Tokenizer.open(str(TOKENIZER / "tokenizer.json"))
    assert ours.encode(EXCERPT.encode(), True).tolist() == usual.encode(EXCERPT.encode(), True).tolist()


def test_a_merge_without_result_is_left_out(tmp_path):
    content = fixture()
    vocab = content["model"]["vocab"]
    assert "Gr" in vocab  # the text is not cut there
    assert "Gre" not in vocab
    content["model"]["merges"].insert(0, ["G", "re"])
    ours, usual = Tokenizer.open(str(write(tmp_path, content))), Tokenizer.open(str(TOKENIZER / "tokenizer.json"))
    text = ("Great Green " + EXCERPT).encode()
    assert ours.encode(text, True).tolist() == usual.encode(text, True).tolist()


@pytest.mark.parametrize("unit", ["a", " ", "\n", "e ", "é", "the", "<bos>"])
def test_repeats_take_no_longer_than_text(pair, unit):
    """A megabyte without a place to cut: about 0.3 s. Quadratic work takes 256 times what a sixteenth takes."""

    def seconds(count):
        text = (unit * count).encode()
        start = time.process_time()
        ids = pair.ours.encode(text, True)
        taken = time.process_time() - start
        assert pair.ours.decode(ids, False).encode() == text
        return taken

    count = 62_500 // len(unit.encode())
    assert seconds(16 * count) < 64 * seconds(count) + 0.1
    pair.encode(unit * 1000)


def test_nobody_can_choose_texts_that_collide():
    """Each text's hash depends on the seed, and so does which texts share one."""
    texts = ["abcdefghijklmnopqrstuvwxyz"[:size] for size in range(27)]
    assert all(text_hash(text, 1) != text_hash(text, 2) for text in texts)
    words = [f"{number:08}" for number in range(1000)]
    low = [{word for word in words if text_hash(word, seed) % 16 == text_hash(words[0], seed) % 16} for seed in (1, 2)]
    assert len(low[0] & low[1]) < len(low[0]) / 2


def test_pieces(pair):
    pieces = pair.ours.split("a<bos>é<bo<turn|>".encode())
    bos, turn = pair.ours.find("<bos>"), pair.ours.find("<turn|>")
    assert pieces == [("a", None), ("<bos>", bos), ("é<bo", None), ("<turn|>", turn)]
    assert pair.ours.split(b"") == []


def test_refuses_bytes_that_are_not_utf8(pair):
    with pytest.raises(gemmule.ArgumentError, match="UTF-8"):
        pair.ours.encode(b"a\xffb", True)
