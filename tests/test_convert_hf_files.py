"""Folders made of GGUF files say what those say; folders made of folders keep their files."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tokenizers

import gemmule
from checkpoints import write_safetensors
from fakes import TOKENIZER
from gemmule import _core
from gemmule.checkpoints.checkpoint import GenerationConfig
from gemmule.checkpoints.shapes import TextShape
from gemmule.conversion.gguf_file import Kind, Value, read_metadata
from gemmule.conversion.gguf_metadata import metadata_of_folder
from gemmule.conversion.hf_config import config_json
from gemmule.conversion.hf_files import files_of_folder, files_of_gguf
from gemmule.conversion.text_config import FULL, RopeParameters
from gemmule.reference.safetensors import f32_to_bf16, read_folder
from gguf_models import make_gguf
from gguf_with import with_metadata
from golden_cases import FIXTURES, read_case
from text_cases import random_text
from text_configs import text_config

E2B = FIXTURES / "e2b"
PURE = FIXTURES / "gguf_e2b" / "model-Q4_0-pure.gguf"
SOURCES = {
    "e2b": PURE,
    "dense": FIXTURES / "gguf_dense" / "model-BF16.gguf",
    "moe": FIXTURES / "gguf_moe" / "model-Q8_0.gguf",
}
CONTROL = ["<bos>", "<turn|>", "<|turn>", "<|image|>", '<|"|>', "<|tool_call>", "</s>", "<0x0A>", "[multimodal]"]


def same(config: dict) -> dict:
    return config


def core_of(file: Path) -> _core.Model:
    return _core.Model.load(str(file), 1, 0, "float32", "float32")


def put(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def made_of(file: Path, config, adjust=same) -> dict[str, bytes]:
    return files_of_gguf(file, core_of(file), config, "bfloat16", adjust)


def texts(seed: int) -> list[str]:
    """Golden strings, random ones with control tokens in them, and tokens in any order."""
    rng = random.Random(seed)
    tokens = list(json.loads((TOKENIZER / "tokenizer.json").read_text())["model"]["vocab"])
    strings = [case["text"] for case in json.loads((TOKENIZER / "strings.json").read_text())]
    strings += [rng.choice(CONTROL).join([random_text(rng), random_text(rng, 10)]) for _ in range(500)]
    return strings + ["".join(rng.choices(tokens, k=rng.randint(1, 20))) for _ in range(500)]


@pytest.mark.parametrize("name", SOURCES)
def test_the_tokenizer_gives_the_ids_of_the_gguf_file(name, tmp_path):
    folder = put(tmp_path / "hf", made_of(SOURCES[name], text_config(FIXTURES / name)))
    gguf, ours = gemmule.load(SOURCES[name]).tokenizer, gemmule.Tokenizer.from_pretrained(folder)
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert ours.vocab_size == gguf.vocab_size == 640
    for text in texts(3):
        for parse in (True, False):
            ids = gguf.encode(text, parse_special=parse)
            assert ours.encode(text, parse_special=parse) == ids, ascii(text)
            assert ours.decode(ids, skip_special_tokens=parse) == gguf.decode(ids, skip_special_tokens=parse)
        library.encode_special_tokens = True
        assert library.encode(text).ids == ids  # with <bos>
    for attribute in ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"):
        assert getattr(ours, attribute) == getattr(gguf, attribute)


def test_there_and_back(tmp_path):
    """A folder's tokenizer.json comes back from GGUF, but for "[multimodal]", which no config names."""
    metadata = metadata_of_folder(E2B, text_config(E2B), file_type="Q4_0", name="a", size_label="1K")
    files = made_of(with_metadata(tmp_path / "a.gguf", PURE, metadata), text_config(E2B))
    want = json.loads((E2B / "tokenizer.json").read_text())
    want["added_tokens"] = [token for token in want["added_tokens"] if token["content"] != "[multimodal]"]
    assert json.loads(files["tokenizer.json"]) == want
    config, source = json.loads(files["tokenizer_config.json"]), json.loads((E2B / "tokenizer_config.json").read_text())
    changed = {"model_max_length": 1024}  # what the model reads
    assert config == {key: value for key, value in (source | changed).items() if key != "add_eos_token"}
    generation = json.loads((E2B / "generation_config.json").read_text())
    assert json.loads(files["generation_config.json"]) == generation | {"eos_token_id": [1, 622, 627]}


def test_there_and_back_gives_the_same_ids(tmp_path):
    metadata = metadata_of_folder(E2B, text_config(E2B), file_type="Q4_0", name="a", size_label="1K")
    folder = put(tmp_path / "hf", made_of(with_metadata(tmp_path / "a.gguf", PURE, metadata), text_config(E2B)))
    source, ours = (gemmule.Tokenizer.from_pretrained(each) for each in (E2B, folder))
    for text in texts(4):
        if "[multimodal]" not in text:
            assert ours.encode(text) == source.encode(text), ascii(text)


@pytest.mark.parametrize("name", SOURCES)
def test_the_config_says_what_the_folder_said(name, tmp_path):
    """The engine computes the same with it."""
    folder = put(tmp_path / "hf", made_of(SOURCES[name], text_config(FIXTURES / name)))
    said, source = (json.loads((each / "config.json").read_text()) for each in (folder, FIXTURES / name))
    assert TextShape.read(said) == TextShape.read(source)
    text = source["text_config"]
    assert {key: said[key] for key in said.keys() & text.keys()} == {
        key: text[key] for key in said.keys() & text.keys()
    } | {"eos_token_id": [1, 622, 627]}
    tensors = {
        key.replace("model.language_model.", "model."): f32_to_bf16(value)
        for key, value in read_folder(FIXTURES / name).items()
    }
    write_safetensors(folder / "model.safetensors", tensors)
    ids = read_case(name).ids
    want, got = (gemmule.load(each, kv="float32") for each in (FIXTURES / name, folder))
    assert np.array_equal(got.logits(ids), want.logits(ids))


def test_configs_are_adjusted():
    config = text_config(E2B)
    add = {"quantization_config": {"quant_method": "gemma"}}
    files = made_of(PURE, config, lambda content: content | add)
    assert json.loads(files["config.json"]).items() >= add.items()


@pytest.mark.parametrize(
    ("change", "want"),
    [
        ({"final_logit_softcapping": 0.0}, {"final_logit_softcapping": None}),
        ({"rms_norm_eps": float(np.float32(1e-6))}, {"rms_norm_eps": 1e-6}),
        ({"tie_word_embeddings": False}, {"tie_word_embeddings": False}),
        (
            {"rope_full": RopeParameters(float(np.float32(1e6)), 1.0), "rope_sliding": RopeParameters(1e4, 0.5, 8.0)},
            {
                "rope_parameters": {
                    "full_attention": {"rope_type": "default", "rope_theta": 1e6},
                    "sliding_attention": {
                        "rope_type": "proportional",
                        "rope_theta": 1e4,
                        "partial_rotary_factor": 0.5,
                        "factor": 8.0,
                    },
                }
            },
        ),
    ],
)
def test_fields_of_the_config(change, want):
    said = config_json(replace(text_config(E2B), **change), "bfloat16", PURE)
    assert said.items() >= want.items()


def other_layer(number: int, **change):
    config = text_config(E2B)
    layers = list(config.layers)
    layers[number] = replace(layers[number], **change)
    return replace(config, layers=tuple(layers))


def other_full_layers(**change):
    config = text_config(E2B)
    layers = tuple(replace(layer, **change) if layer.type == FULL else layer for layer in config.layers)
    return replace(config, layers=layers)


@pytest.mark.parametrize(
    ("config", "layer"),
    [
        (other_layer(1, intermediate_size=128), 1),
        (other_layer(5, intermediate_size=96), 5),
        (other_layer(2, has_v_proj=False), 2),
        (other_layer(6, has_v_proj=False), 6),
        (other_layer(6, num_key_value_heads=2), 6),
        (other_full_layers(num_key_value_heads=2), 3),
        (replace(text_config(E2B), num_kv_shared_layers=2), 4),
    ],
)
def test_layers_without_words(config, layer):
    with pytest.raises(gemmule.UnsupportedError, match=f"layer {layer} differs.*no words") as error:
        config_json(config, "bfloat16", PURE)
    assert error.value.remedy == "Convert it to a GGUF file."


def test_full_layers_only():
    config = text_config(E2B)
    layers = tuple(replace(layer, type=FULL, head_dim=64, intermediate_size=96) for layer in config.layers)
    said = config_json(replace(config, layers=layers, num_kv_shared_layers=0), "bfloat16", PURE)
    assert TextShape.read(said).layers == tuple(
        replace(layer, owner=i) for i, layer in enumerate(TextShape.read(said).layers)
    )
    assert [(layer.full, layer.head_dim, layer.mlp_width) for layer in TextShape.read(said).layers] == [
        (True, 64, 96)
    ] * 7


def test_a_chat_template(tmp_path):
    template = (TOKENIZER / "chat_template.jinja").read_text()
    metadata = read_metadata(PURE) | {"tokenizer.chat_template": Value(Kind.STRING, template)}
    files = made_of(with_metadata(tmp_path / "a.gguf", PURE, metadata), text_config(E2B))
    assert files["chat_template.jinja"].decode() == template
    assert "chat_template.jinja" not in made_of(PURE, text_config(E2B))


@pytest.mark.parametrize("to", ["bf16", "q4_0"])
def test_an_empty_chat_template_is_none(tmp_path, to):
    metadata = read_metadata(PURE) | {"tokenizer.chat_template": Value(Kind.STRING, "")}
    file = with_metadata(tmp_path / "a.gguf", PURE, metadata)
    assert gemmule.load(file).tokenizer.chat_template is None
    gemmule.convert(file, tmp_path / "out", to=to)
    assert gemmule.load(tmp_path / "out").tokenizer.chat_template is None


def test_a_chat_template_that_is_too_long(tmp_path):
    """Its bytes count, in a GGUF file as in a folder."""
    metadata = read_metadata(PURE) | {"tokenizer.chat_template": Value(Kind.STRING, "\N{FOX FACE}" * 300_000)}
    file = with_metadata(tmp_path / "a.gguf", PURE, metadata)
    with pytest.raises(gemmule.FormatError, match=r"a\.gguf: the chat template is too long"):
        gemmule.convert(file, tmp_path / "out", to="bf16")
    assert [path.name for path in tmp_path.iterdir()] == ["a.gguf"]


@pytest.mark.parametrize("to", ["bf16", "q4_0"])
@pytest.mark.parametrize("key", ["general.sampling.top_p", "tokenizer.ggml.suppress_tokens"])
def test_what_loading_would_refuse_is_not_written(tmp_path, key, to):
    value = {"general.sampling.top_p": Value(Kind.F32, 2.0)}.get(key, Value(Kind.U64, [2**64 - 1]))
    file = with_metadata(tmp_path / "a.gguf", PURE, read_metadata(PURE) | {key: value})
    with pytest.raises(gemmule.FormatError, match=f"{key.rpartition('.')[2]} is .*; expected") as caught:
        gemmule.convert(file, tmp_path / "out", to=to)
    assert caught.value.file == str(file)
    assert [path.name for path in tmp_path.iterdir()] == ["a.gguf"]


def test_a_chat_template_that_is_a_number_is_left_out(tmp_path):
    """The way out of a file that has one: chats refuse it."""
    metadata = read_metadata(PURE) | {"tokenizer.chat_template": Value(Kind.U32, 7)}
    assert "chat_template.jinja" not in made_of(with_metadata(tmp_path / "a.gguf", PURE, metadata), text_config(E2B))


def test_a_chat_template_that_is_no_text(tmp_path):
    metadata = read_metadata(PURE) | {"tokenizer.chat_template": Value(Kind.STRING, "a\udcff")}
    files = made_of(with_metadata(tmp_path / "a.gguf", PURE, metadata), text_config(E2B))
    assert files["chat_template.jinja"].decode() == "a\N{REPLACEMENT CHARACTER}"


SAMPLING = {
    "nothing": ({}, {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}),
    "all": (
        {"temp": 0.7, "top_k": 20, "top_p": 0.9, "min_p": 0.1, "penalty_repeat": 1.1},
        {
            "do_sample": True,
            "temperature": 0.7,
            "top_k": 20,
            "top_p": 0.9,
            "min_p": 0.1,
            "repetition_penalty": 1.1,
        },
    ),
    "greedy": ({"temp": 0.0, "top_k": 20}, {"do_sample": False}),
}


@pytest.mark.parametrize(("said", "want"), SAMPLING.values(), ids=SAMPLING.keys())
def test_sampling(tmp_path, said, want):
    metadata = {key: value for key, value in read_metadata(PURE).items() if not key.startswith("general.sampling.")}
    for key, value in said.items():
        metadata[f"general.sampling.{key}"] = Value(Kind.I32 if key == "top_k" else Kind.F32, value)
    file = with_metadata(tmp_path / "a.gguf", PURE, metadata | {"tokenizer.ggml.suppress_tokens": Value(Kind.I32, [9])})
    files = made_of(file, text_config(E2B))
    ids = {"bos_token_id": 2, "pad_token_id": 0, "eos_token_id": [1, 622, 627], "suppress_tokens": [9]}
    assert json.loads(files["generation_config.json"]) == want | ids
    folder = put(tmp_path / "hf", files)
    model = core_of(file)
    of_the_file = GenerationConfig.from_gguf(file, model.metadata, model.end_tokens)
    assert GenerationConfig.read(folder) == (
        replace(of_the_file, top_k=0) if "temperature" not in want else of_the_file
    )


def with_tokens(tmp_path, renamed: dict[str, str], types: dict[str, int], merges: list[str] = ()) -> Path:
    """The fixture with tokens renamed, their types changed, and merges put before its own."""
    metadata = read_metadata(PURE)
    old = metadata["tokenizer.ggml.tokens"].data
    tokens = [renamed.get(token, token) for token in old]
    kinds = [
        types.get(token, kind) for token, kind in zip(tokens, metadata["tokenizer.ggml.token_type"].data, strict=True)
    ]
    more = {
        "tokenizer.ggml.tokens": Value(Kind.STRING, tokens),
        "tokenizer.ggml.token_type": Value(Kind.I32, kinds),
        "tokenizer.ggml.merges": Value(Kind.STRING, [*merges, *metadata["tokenizer.ggml.merges"].data]),
    }
    return with_metadata(tmp_path / "a.gguf", PURE, metadata | more)


@pytest.mark.parametrize("type", [1, 3, 4, 5])
@pytest.mark.parametrize("text", ["<|turn>", "<eos>", "<|tool_call>", "[multimodal]", "</s>", "\u2581the"])
def test_tokens_of_any_type(tmp_path, text, type):
    """Whatever a file says of a token, the ids are those that gemmule gives for the file itself."""
    file = with_tokens(tmp_path, {"[multimodal]": text} if text == "</s>" else {}, {text: type})
    folder = put(tmp_path / "hf", made_of(file, text_config(E2B)))
    gguf, ours = gemmule.load(file).tokenizer, gemmule.Tokenizer.from_pretrained(folder)
    for line in [text, f"a{text} b the <eos>{text}{text}", text.replace("\u2581", " "), *texts(5)[:400]]:
        assert ours.encode(line) == gguf.encode(line), ascii(line)
    assert ours.decode([1, 2, 5, 40, 621, 625], True) == gguf.decode([1, 2, 5, 40, 621, 625], True)


def test_special_tokens_that_nobody_knows_are_named(tmp_path):
    file = with_tokens(tmp_path, {}, {"[multimodal]": 3})
    config = json.loads(made_of(file, text_config(E2B))["tokenizer_config.json"])
    assert config["extra_special_tokens"] == ["[multimodal]"]


def test_merges(tmp_path):
    """A token may begin with a space; where there is no token for the result, the merge never counts."""
    file = with_tokens(tmp_path, {"[multimodal]": " e", "<mask>": " ee"}, {" e": 1, " ee": 1}, ["e  e", " e e"])
    merges = json.loads(made_of(file, text_config(E2B))["tokenizer.json"])["model"]["merges"]
    assert merges[0] == [" e", "e"]
    assert [" ".join(pair) for pair in merges[1:]] == read_metadata(PURE)["tokenizer.ggml.merges"].data


def test_a_tokenizer_without_merges_is_refused(tmp_path):
    metadata = {key: value for key, value in read_metadata(PURE).items() if key != "tokenizer.ggml.merges"}
    metadata["tokenizer.ggml.model"] = Value(Kind.STRING, "llama")
    file = with_metadata(tmp_path / "a.gguf", PURE, metadata)
    with pytest.raises(gemmule.UnsupportedError, match="without merges") as error:
        made_of(file, text_config(E2B))
    assert "Hugging Face folder" in error.value.remedy


def test_a_gguf_file_without_a_tokenizer(tmp_path):
    file = make_gguf(tmp_path / "gguf")
    assert made_of(file, text_config(E2B)).keys() == {"config.json"}


def test_of_a_folder(tmp_path):
    folder = shutil.copytree(E2B, tmp_path / "e2b")
    shutil.copy(TOKENIZER / "chat_template.jinja", folder)
    (folder / "letter.txt").write_text("dear")
    config = json.loads((folder / "config.json").read_text())
    config |= {"vision_config": {"hidden_size": 7}, "audio_config": {"hidden_size": 7}, "more": "kept"}
    (folder / "config.json").write_text(json.dumps(config))
    add = {"tie_word_embeddings": False}
    files = files_of_folder(folder, lambda content: content | add)
    kept = {"generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert files.keys() == {"config.json", *kept}
    for name in kept:
        assert files[name] == (folder / name).read_bytes()
    assert json.loads(files["config.json"]) == config | add | {"vision_config": None, "audio_config": None}


def test_of_a_folder_that_has_little():
    files = files_of_folder(FIXTURES / "e4b", same)
    assert files.keys() == {"config.json", "generation_config.json"}
    assert json.loads(files["config.json"]) == json.loads((FIXTURES / "e4b" / "config.json").read_text())
