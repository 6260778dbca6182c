"""The metadata of GGUF files that are made of folders is what llama.cpp's converter writes, key by key."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import gemmule
import hostile_gguf
from fakes import TOKENIZER
from gemmule.conversion.gguf_file import Kind, Value, read_metadata, size_label
from gemmule.conversion.gguf_metadata import metadata_of_folder, metadata_of_gguf, rope_divisors
from gemmule.conversion.gguf_tokenizer import tokenizer_keys
from gemmule.conversion.text_config import RopeParameters
from gguf_with import tensors_of, with_metadata
from golden_cases import FIXTURES
from text_cases import added, fixture, write
from text_configs import text_config

# File, the folder it was made of, its type, its name.
CONVERTED = [
    ("gguf_e2b/model-Q4_0-pure.gguf", "e2b", "Q4_0", "E2B"),
    ("gguf_e2b/model-Q8_0.gguf", "e2b", "Q8_0", "E2B"),
    ("gguf_dense/model-F16.gguf", "dense", "F16", "Dense"),
    ("gguf_dense/model-BF16.gguf", "dense", "BF16", "Dense"),
    ("gguf_moe/model-Q4_0.gguf", "moe", "Q4_0", "Moe"),
]
E2B = FIXTURES / "e2b"
PURE = FIXTURES / "gguf_e2b" / "model-Q4_0-pure.gguf"

NORMAL, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 3, 4, 5, 6


def made_of(folder, **options):
    options = {"file_type": "Q4_0", "name": "a", "size_label": "1K"} | options
    return metadata_of_folder(folder, text_config(folder), **options)


def float32(value: Value) -> Value:
    """As the file holds it."""
    return Value(value.kind, np.float32(value.data).tolist()) if value.kind == Kind.F32 else value


@pytest.mark.parametrize(("file", "folder", "file_type", "name"), CONVERTED)
def test_what_the_converter_writes(file, folder, file_type, name):
    want = read_metadata(FIXTURES / file)
    label = size_label(tensors_of(FIXTURES / file))
    got = made_of(FIXTURES / folder, file_type=file_type, name=name, size_label=label)
    assert got.keys() == want.keys()
    for key, value in want.items():
        assert float32(got[key]) == value, key


def test_divisors_of_angles():
    divisors = next(each for each in hostile_gguf.read(PURE).tensors if each.name == "rope_freqs.weight")
    assert np.float32(rope_divisors(text_config(E2B))).tobytes() == divisors.data


def test_the_engine_reads_it(tmp_path):
    path = with_metadata(tmp_path / "a.gguf", PURE, made_of(E2B))
    ids = np.arange(5, 60, dtype=np.int32)
    assert np.array_equal(gemmule.load(path).logits(ids), gemmule.load(PURE).logits(ids))


def test_the_tokenizer_gives_the_ids_of_the_folder(tmp_path):
    """But for "[multimodal]", which the converter makes an ordinary token."""
    shutil.copytree(E2B, tmp_path / "e2b")
    shutil.copy(TOKENIZER / "chat_template.jinja", tmp_path / "e2b")
    model = gemmule.load(with_metadata(tmp_path / "a.gguf", PURE, made_of(tmp_path / "e2b")))
    folder = gemmule.Tokenizer.from_pretrained(tmp_path / "e2b")
    strings = [case["text"] for case in json.loads((TOKENIZER / "strings.json").read_text())]
    strings = [text for text in strings if "[multimodal]" not in text]
    assert len(strings) > 290
    for text in strings:
        assert model.tokenizer.encode(text) == folder.encode(text)
    assert model.tokenizer.chat_template == folder.chat_template
    for name in ("bos", "eos", "pad", "unk"):
        assert getattr(model.tokenizer, f"{name}_token_id") == getattr(folder, f"{name}_token_id")


def test_a_folder_without_a_tokenizer(tmp_path):
    source = FIXTURES / "share_order"
    assert not (source / "tokenizer.json").exists()
    metadata = made_of(source)
    names = [key for key in metadata if key.startswith("tokenizer.")]
    assert names == ["tokenizer.ggml.model"]
    assert metadata["tokenizer.ggml.model"].data == "none"
    assert metadata["gemma4.vocab_size"].data == 640
    bare = read_metadata(PURE).keys() - set(metadata)
    assert all(key.startswith(("tokenizer.", "general.sampling.")) for key in bare)


def tokenizer_of(tmp_path, content, config=None, vocab_size=None):
    write(tmp_path, content)
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    size = len(set(content["model"]["vocab"].values()) | {each["id"] for each in content["added_tokens"]})
    keys = tokenizer_keys(tmp_path, vocab_size or size)
    tokens, types = keys["tokenizer.ggml.tokens"].data, keys["tokenizer.ggml.token_type"].data
    assert len(tokens) == len(types) == len(keys["tokenizer.ggml.scores"].data)
    return keys, dict(zip(tokens, types, strict=True))


def test_rows_without_a_token_get_unused_ones(tmp_path):
    keys, types = tokenizer_of(tmp_path, fixture(), vocab_size=642)
    assert keys["tokenizer.ggml.tokens"].data[639:] == ["<|video|>", "[PAD640]", "[PAD641]"]
    assert types["[PAD641]"] == UNUSED


def test_more_tokens_than_rows(tmp_path):
    with pytest.raises(gemmule.FormatError, match=r"tokenizer\.json: 640 tokens, but the embedding has 639 rows"):
        tokenizer_of(tmp_path, fixture(), vocab_size=639)


def test_a_broken_tokenizer(tmp_path):
    content = fixture()
    content["model"]["merges"].append(["a", "nothing"])
    with pytest.raises(gemmule.FormatError, match="nothing"):
        tokenizer_of(tmp_path, content)


@pytest.mark.parametrize(
    ("config", "types"),
    [
        ({}, {"<|mine|>": USER_DEFINED, "<|other|>": USER_DEFINED}),
        ({"my_token": "<|mine|>"}, {"<|mine|>": CONTROL, "<|other|>": USER_DEFINED}),
        ({"my_token": {"content": "<|mine|>"}}, {"<|mine|>": CONTROL, "<|other|>": USER_DEFINED}),
        ({"extra_special_tokens": ["<|mine|>", "<|other|>"]}, {"<|mine|>": CONTROL, "<|other|>": CONTROL}),
        ({"extra_special_tokens": {"my_token": "<|mine|>"}}, {"<|mine|>": CONTROL, "<|other|>": USER_DEFINED}),
        ({"additional_special_tokens": [{"content": "<|other|>"}]}, {"<|mine|>": USER_DEFINED, "<|other|>": CONTROL}),
        ({"my_token": None, "extra_special_tokens": 7}, {"<|mine|>": USER_DEFINED, "<|other|>": USER_DEFINED}),
    ],
)
def test_types_of_added_tokens(tmp_path, config, types):
    content = fixture()
    content["added_tokens"] += [added(640, "<|mine|>", special=True), added(641, "<|other|>")]
    _, got = tokenizer_of(tmp_path, content, config)
    assert got | types == got
    assert (got["<|turn>"], got["<turn|>"], got["<bos>"]) == (CONTROL, CONTROL, CONTROL)
    assert (got["<|tool_call>"], got['<|"|>'], got["<0x0A>"], got["e"]) == (USER_DEFINED, USER_DEFINED, BYTE, NORMAL)


def test_ids_of_special_tokens(tmp_path):
    keys, _ = tokenizer_of(
        tmp_path, fixture(), {"eos_token": "<turn|>", "pad_token": {"content": "<unk>"}, "mask_token": None}
    )
    ids = {key: value.data for key, value in keys.items() if key.endswith("_token_id")}
    assert ids == {
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 622,
        "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.padding_token_id": 3,
    }


def test_merges_in_either_spelling(tmp_path):
    pairs, _ = tokenizer_of(tmp_path, fixture())
    content = fixture()
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    joined, _ = tokenizer_of(tmp_path, content)
    assert joined == pairs
    content["model"]["merges"].insert(0, "x")


def test_merges_of_spaces_never_happen(tmp_path):
    content = fixture()
    content["model"]["vocab"] |= {"a ": 640, "a b": 641}
    content["model"]["merges"] = [["a ", "b"], *content["model"]["merges"]]
    keys, _ = tokenizer_of(tmp_path, content)
    merges = keys["tokenizer.ggml.merges"].data
    assert merges == [" ".join(pair) for pair in content["model"]["merges"][1:]]


@pytest.mark.parametrize("where", ["chat_template.jinja", "tokenizer_config.json"])
def test_chat_templates(tmp_path, where):
    template = "{{ bos_token }}ü"
    if where == "chat_template.jinja":
        (tmp_path / where).write_text(template)
    keys, _ = tokenizer_of(tmp_path, fixture(), {"chat_template": template} if where != "chat_template.jinja" else {})
    assert keys["tokenizer.chat_template"] == Value(Kind.STRING, template)


SAMPLING = {
    "nothing": ({}, {}),
    "nulls": ({"temperature": None, "top_k": None}, {}),
    "all": (
        {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.1},
        {"temp": 0.7, "top_k": 20, "top_p": 0.9, "min_p": 0.1, "penalty_repeat": 1.1},
    ),
    "greedy": ({"do_sample": False, "top_k": 5}, {"temp": 0.0, "top_k": 5}),
}


@pytest.mark.parametrize(("said", "want"), SAMPLING.values(), ids=SAMPLING.keys())
def test_sampling(tmp_path, said, want):
    folder = shutil.copytree(E2B, tmp_path / "e2b")
    (folder / "generation_config.json").write_text(json.dumps(said))
    metadata = made_of(folder)
    got = {key: value for key, value in metadata.items() if key.startswith("general.sampling.")}
    assert got == {
        f"general.sampling.{key}": Value(Kind.I32 if key == "top_k" else Kind.F32, value) for key, value in want.items()
    }


def test_suppressed_tokens(tmp_path):
    folder = shutil.copytree(E2B, tmp_path / "e2b")
    (folder / "generation_config.json").write_text('{"suppress_tokens": [7, 9]}')
    assert made_of(folder)["tokenizer.ggml.suppress_tokens"] == Value(Kind.I32, [7, 9])


@pytest.mark.parametrize("number", [1e300, 3.5e38, 1e-46, 1e-300])
@pytest.mark.parametrize("key", ["temperature", "top_p", "min_p", "repetition_penalty"])
def test_numbers_that_the_format_does_not_hold(tmp_path, key, number):
    """They would be zero or infinite there, which is another meaning or none."""
    folder = shutil.copytree(E2B, tmp_path / "e2b")
    (folder / "generation_config.json").write_text(json.dumps({key: number}))
    with pytest.raises(gemmule.FormatError, match="expected a number") as caught:
        gemmule.convert(folder, tmp_path / "a.gguf", to="bf16")
    assert caught.value.file == str(folder / "generation_config.json")
    assert caught.value.tensor == key
    assert caught.value.found == str(number)
    assert caught.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["e2b"]


def test_small_numbers_that_it_holds(tmp_path):
    folder = shutil.copytree(E2B, tmp_path / "e2b")
    (folder / "generation_config.json").write_text('{"repetition_penalty": 1e-45, "min_p": 0}')
    gemmule.convert(folder, tmp_path / "a.gguf", to="bf16")
    defaults = gemmule.load(tmp_path / "a.gguf")._defaults
    assert 0 < defaults.repetition_penalty < 2e-45
    assert defaults.min_p == 0


def test_a_broken_generation_config(tmp_path):
    folder = shutil.copytree(E2B, tmp_path / "e2b")
    (folder / "generation_config.json").write_text('{"top_k": -1}')
    with pytest.raises(gemmule.FormatError, match="generation_config"):
        made_of(folder)


@pytest.mark.parametrize(
    "ropes",
    [
        {"rope_full": RopeParameters(1e6, 0.25, factor=8.0)},
        {"rope_sliding": RopeParameters(1e4, 1.0, factor=2.0)},
        {"rope_sliding": RopeParameters(1e4, 0.5)},
    ],
)
def test_stretched_positions_are_refused(ropes):
    config = replace(text_config(E2B), **ropes)
    with pytest.raises(gemmule.UnsupportedError, match="rotary positions are stretched") as error:
        metadata_of_folder(E2B, config, file_type="F16", name="a", size_label="1K")
    assert 'to="bf16"' in error.value.remedy


def test_no_softcap_is_said(tmp_path):
    """llama.cpp takes 30 where nothing is said."""
    config = replace(text_config(E2B), final_logit_softcapping=0.0)
    metadata = metadata_of_folder(E2B, config, file_type="F16", name="a", size_label="1K")
    path = with_metadata(tmp_path / "a.gguf", PURE, metadata)
    assert gemmule.load(path).info["config"]["final_logit_softcapping"] == 0


def test_of_another_gguf_file():
    source = read_metadata(FIXTURES / "gguf_dense" / "model-BF16.gguf") | {
        "general.alignment": Value(Kind.U32, 64),
        "split.count": Value(Kind.U16, 2),
        "quantize.imatrix.file": Value(Kind.STRING, "a"),
        "tokenizer.chat_template": Value(Kind.STRING, "{{ messages }}"),
    }
    got = metadata_of_gguf(source, file_type="Q8_0")
    changed = {"general.file_type": Value(Kind.U32, 7), "general.quantization_version": Value(Kind.U32, 2)}
    gone = {"general.alignment", "split.count", "quantize.imatrix.file"}
    assert got == {key: value for key, value in source.items() if key not in gone} | changed
