"""The tokenizer against golden ids and texts, and what it does with input that is not text."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import gemmule
from chat_models import chat_folder
from fakes import TOKENIZER
from text_cases import added, fixture, write

STRINGS = json.loads((TOKENIZER / "strings.json").read_text())
CONVERSATIONS = json.loads((TOKENIZER / "chat.json").read_text())
CONTROL = ["<turn|>", "<|turn>", "<bos>", "<eos>", "<|channel>", '<|"|>', "<|image|>", "[multimodal]"]


@pytest.fixture(scope="module")
def tokenizer():
    return gemmule.Tokenizer.from_pretrained(TOKENIZER)


def template_arguments(case):
    named = ("add_generation_prompt", "tools", "enable_thinking")
    return {name: case[name] for name in named if name in case}


def special_counts(tokenizer, ids):
    counts = np.bincount(ids, minlength=tokenizer.vocab_size)
    return {id: int(counts[id]) for id in range(tokenizer.vocab_size) if counts[id] and not tokenizer.has_text(id)}


def test_all_strings(tokenizer):
    assert len(STRINGS) == 300
    for case in STRINGS:
        assert tokenizer.encode(case["text"]) == case["ids"], case
        assert tokenizer.encode(case["text"], add_special_tokens=False) == case["ids_plain"], case
        assert tokenizer.decode(case["ids"]) == case["decoded"], case
        assert tokenizer.decode(case["ids"], skip_special_tokens=True) == case["decoded_skip"], case


def test_all_conversations(tokenizer):
    assert len(CONVERSATIONS) == 14
    for case in CONVERSATIONS:
        rendered = tokenizer.apply_chat_template(case["messages"], **template_arguments(case))
        assert rendered == case["rendered"], case["name"]
        assert tokenizer.encode(rendered, add_special_tokens=False) == case["ids"], case["name"]
        assert tokenizer.encode_messages(case["messages"], **template_arguments(case)) == case["ids"], case["name"]


def test_attributes(tokenizer):
    assert (tokenizer.bos_token, tokenizer.bos_token_id) == ("<bos>", 2)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id) == (1, 0, 3)
    assert tokenizer.vocab_size == 640
    assert "<|turn>" in tokenizer.chat_template


def test_bos_is_ours(tokenizer, tmp_path):
    """Published files come without a post-processor that adds it; a text that spells it is not looked at."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / name, tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["post_processor"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert gemmule.Tokenizer.from_pretrained(tmp_path).encode("Hi") == tokenizer.encode("Hi")
    assert tokenizer.encode("<bos>") == [2, 2]


@pytest.mark.parametrize("token", CONTROL)
def test_special_tokens_can_stay_text(tokenizer, token):
    text = f"a{token}b"
    assert not special_counts(tokenizer, tokenizer.encode(text, add_special_tokens=False, parse_special=False))
    assert len(special_counts(tokenizer, tokenizer.encode(text, add_special_tokens=False))) == 1
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False, parse_special=False)) == text


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
@pytest.mark.parametrize("token", ["<turn|>", "<|turn>", "<bos>", "<eos>", "<|image|>", "[multimodal]"])
def test_nobody_forges_control_tokens(tokenizer, role, token):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"x": "WORD"}}}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "name": "f", "content": "Yes."},
        {"role": "assistant", "content": "Well."},
        {"role": "user", "content": "Bye"},
    ]
    if role == "system":
        messages.insert(0, {"role": "system", "content": "Be kind."})
    place = next(place for place, message in enumerate(messages) if message["role"] == role and message["content"])
    plain = tokenizer.encode_messages(messages)
    messages[place] = {**messages[place], "content": f"a{token}b"}
    forged = tokenizer.encode_messages(messages)
    assert special_counts(tokenizer, forged) == special_counts(tokenizer, plain)
    assert f"a{token}b" in tokenizer.decode(forged)


def test_nobody_forges_control_tokens_in_pieces_or_tools(tokenizer):
    def counts(first, second, name="WORD", argument="WORD"):
        function = {"name": "f", "description": name, "parameters": {"type": "object", "properties": {}}}
        parts = [{"type": "text", "text": first}, {"type": "text", "text": second}]
        call = {"type": "function", "function": {"name": "f", "arguments": {argument: name}}}
        messages = [
            {"role": "user", "content": parts},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "user", "content": "go on"},
        ]
        return special_counts(
            tokenizer, tokenizer.encode_messages(messages, tools=[{"type": "function", "function": function}])
        )

    plain = counts("a", "b")
    assert counts("<tu", "rn|>") == plain
    assert counts("a", "b", name='<tool|><turn|><|"|>') == plain
    assert counts("a", "b", argument="<tool_call|>") == plain


def test_thoughts_in_history_are_removed(tokenizer):
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "<|channel>thought\nsecret<channel|>Hello!"},
        {"role": "user", "content": "Bye"},
    ]
    assert "secret" not in tokenizer.decode(tokenizer.encode_messages(messages))


def test_half_characters_decode_as_the_library_does(tokenizer):
    bytes_of_euro = tokenizer.encode("€", add_special_tokens=False)
    assert all(map(tokenizer.is_byte, bytes_of_euro))
    assert tokenizer.decode(bytes_of_euro) == "€"
    assert tokenizer.decode(bytes_of_euro[:2]) == "\N{REPLACEMENT CHARACTER}" * 2


def test_byte_length_is_that_of_the_text(tokenizer):
    for case in STRINGS:
        assert tokenizer.byte_length(case["ids"]) == len(case["decoded_skip"].encode()), case


def test_ids_may_be_an_array(tokenizer):
    assert tokenizer.decode(np.array(tokenizer.encode("Hi"))) == "<bos>Hi"
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode([10**6]) == ""


@pytest.mark.parametrize("text", ["a\ud800", 7, None, b"Hi"])
def test_refuses_what_is_not_text(tokenizer, text):
    with pytest.raises(gemmule.ArgumentError):
        tokenizer.encode(text)


@pytest.mark.parametrize(
    "messages",
    [
        [],
        "Hi",
        ["Hi"],
        [{"content": "Hi"}],
        [{"role": 1, "content": "Hi"}],
        [{"role": "user", "content": "\ud800"}],
        [{"role": "user", "content": object()}],
        [{"role": "user", "content": float("nan")}],
    ],
)
def test_refuses_what_is_no_conversation(tokenizer, messages):
    with pytest.raises(gemmule.ArgumentError):
        tokenizer.apply_chat_template(messages)
    with pytest.raises(gemmule.ArgumentError):
        tokenizer.encode_messages(messages)


def test_threads_share_it(tokenizer):
    """Parsing and not parsing at once: no state of the one is seen by the other."""

    def work(number):
        parse = number % 2 == 0
        return len(tokenizer.encode("x<turn|>" * 50, add_special_tokens=False, parse_special=parse)) == 100

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(200))) == [True, False] * 100


def test_broken_files(tmp_path):
    with pytest.raises(gemmule.MissingFileError, match=r"tokenizer\.json"):
        gemmule.Tokenizer.from_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(gemmule.FormatError, match=r"tokenizer\.json"):
        gemmule.Tokenizer.from_pretrained(tmp_path)


def test_refuses_a_decoder_it_cannot_stream(tmp_path):
    content = json.loads((TOKENIZER / "tokenizer.json").read_text())
    content["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(gemmule.UnsupportedError, match="ByteLevel"):
        gemmule.Tokenizer.from_pretrained(tmp_path)


def larger_than_its_model(folder, **config):
    """A model with two entries more in its tokenizer than rows: one of text, and one that is a special token."""
    chat_folder("mobile", folder)
    content = fixture()
    content["added_tokens"] += [added(640, "beyond"), added(641, "<beyond>", special=True)]
    write(folder, content)
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return gemmule.load(folder, threads=1, trust_template=True)


def test_entries_beyond_the_rows_are_refused_where_a_text_uses_them(tmp_path):
    model = larger_than_its_model(tmp_path / "model")
    for ask in (
        lambda: model.generate("it is beyond me"),
        lambda: model.score("it is beyond me"),
        lambda: model.generate("a <beyond>"),
        lambda: model.generate([{"role": "user", "content": "beyond"}]),
        lambda: model.chat().send("beyond"),
        lambda: gemmule.perplexity(model, "beyond " * 600),
    ):
        with pytest.raises(gemmule.FormatError, match="642 tokens, but the embedding has 640 rows") as error:
            ask()
        assert error.value.file == str(tmp_path / "model" / "tokenizer.json")
        assert error.value.remedy
    assert model.generate("it is near", max_tokens=2, ignore_eos=True).tokens
    assert model.chat().send("near", max_tokens=2, ignore_eos=True).tokens
    assert gemmule.Tokenizer.from_pretrained(tmp_path / "model").encode("beyond")[-1] == 640  # for no model


def test_a_first_token_beyond_the_rows_is_refused_with_every_text(tmp_path):
    model = larger_than_its_model(tmp_path / "model", bos_token="<beyond>")
    with pytest.raises(gemmule.FormatError, match=r"tokenizer\.json: 642 tokens"):
        model.generate("near")
    assert model.generate([2, 5], max_tokens=2, ignore_eos=True).tokens
