"""llama.cpp and transformers open what converting writes beside the weights."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest

import gemmule
from checkpoints import write_safetensors
from fakes import TOKENIZER
from gemmule import _core
from gemmule.conversion.gguf_file import Kind, Value, lay_out, read_metadata
from gemmule.conversion.gguf_metadata import metadata_of_folder, metadata_of_gguf
from gemmule.conversion.hf_files import files_of_folder, files_of_gguf
from gemmule.reference.safetensors import f32_to_bf16, read_folder
from gguf_with import with_metadata, write
from golden_cases import FIXTURES, read_case
from text_cases import added, fixture, random_text
from text_cases import write as write_tokenizer
from text_configs import text_config

WHY = "the extra `oracle` is not installed"
pytestmark = pytest.mark.filterwarnings("ignore")  # of the packages

E2B = FIXTURES / "e2b"
SOURCES = {
    "e2b": FIXTURES / "gguf_e2b" / "model-Q4_0-pure.gguf",
    "dense": FIXTURES / "gguf_dense" / "model-BF16.gguf",
    "moe": FIXTURES / "gguf_moe" / "model-Q8_0.gguf",
}
TEMPLATE = (TOKENIZER / "chat_template.jinja").read_text()


@pytest.fixture(scope="module")
def llama_cpp():
    return pytest.importorskip("llama_cpp", reason=WHY)


@pytest.fixture(scope="module")
def transformers():
    pytest.importorskip("torch", reason=WHY)
    return pytest.importorskip("transformers", reason=WHY)


def texts() -> list[str]:
    rng = random.Random(6)
    strings = [case["text"] for case in json.loads((TOKENIZER / "strings.json").read_text())]
    strings += [
        rng.choice(["<turn|>", "<|turn>", '<|"|>', "<|tool_call>", ""]).join([random_text(rng), random_text(rng, 10)])
        for _ in range(700)
    ]
    return [text for text in strings if "\0" not in text and "[multimodal]" not in text]


def made_of(folder):
    return metadata_of_folder(folder, text_config(folder), file_type="BF16", name="a", size_label="1K")


@pytest.mark.parametrize("name", SOURCES)
def test_llama_cpp_opens_the_metadata_alone(llama_cpp, name, tmp_path):
    metadata = made_of(FIXTURES / name) | {"tokenizer.chat_template": Value(Kind.STRING, TEMPLATE)}
    path = write(tmp_path / "a.gguf", lay_out(metadata, []), {})
    peer = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    ours = gemmule.Tokenizer.from_pretrained(FIXTURES / name)
    assert (peer.n_vocab(), peer.token_bos(), peer.token_eos()) == (640, 2, 1)
    assert peer.metadata["tokenizer.chat_template"] == TEMPLATE
    ends = [id for id in range(640) if llama_cpp.llama_vocab_is_eog(peer._model.vocab, id)]
    assert {1, 622} <= set(ends) <= {1, 622, 627}
    for text in texts():
        assert peer.tokenize(text.encode(), add_bos=True, special=True) == ours.encode(text), ascii(text)


@pytest.mark.parametrize("name", SOURCES)
def test_llama_cpp_computes_the_same_with_our_metadata(llama_cpp, name, tmp_path):
    source = SOURCES[name]
    made = with_metadata(tmp_path / "made.gguf", source, made_of(FIXTURES / name))
    kept = with_metadata(tmp_path / "kept.gguf", source, metadata_of_gguf(read_metadata(source), file_type="Q4_0"))
    ids = read_case(name).ids[:40].tolist()
    logits = []
    for path in (source, made, kept):
        peer = llama_cpp.Llama(str(path), n_ctx=64, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False)
        peer.eval(ids)
        logits.append(np.array(peer.scores[: len(ids)]))
    assert np.abs(logits[0]).max() > 1
    assert np.array_equal(logits[1], logits[0])
    assert np.array_equal(logits[2], logits[0])


def test_llama_cpp_opens_a_model_without_a_tokenizer(llama_cpp, tmp_path):
    source = SOURCES["e2b"]
    bare = {key: value for key, value in read_metadata(source).items() if not key.startswith("tokenizer.")}
    folder = tmp_path / "hf"
    folder.mkdir()
    (folder / "config.json").write_bytes((E2B / "config.json").read_bytes())
    metadata = made_of(folder)
    assert not {key for key in metadata if key.startswith("tokenizer.")} & bare.keys()
    path = with_metadata(tmp_path / "a.gguf", source, metadata)
    ids = read_case("e2b").ids[:20].tolist()
    logits = []
    for file in (source, path):
        peer = llama_cpp.Llama(str(file), n_ctx=64, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False)
        peer.eval(ids)
        logits.append(np.array(peer.scores[: len(ids)]))
    assert np.array_equal(logits[1], logits[0])


def test_llama_cpp_opens_more_rows_and_added_tokens(llama_cpp, tmp_path):
    content = fixture()
    content["added_tokens"] += [added(640, "<|mine|>", special=True), added(641, "<|other|>")]
    write_tokenizer(tmp_path, content)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"extra_special_tokens": ["<|mine|>"]}))
    (tmp_path / "config.json").write_bytes((E2B / "config.json").read_bytes())
    config = replace(text_config(tmp_path), vocab_size=700)
    metadata = metadata_of_folder(tmp_path, config, file_type="BF16", name="a", size_label="1K")
    path = write(tmp_path / "a.gguf", lay_out(metadata, []), {})
    peer = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    assert peer.n_vocab() == 700
    ours = gemmule.Tokenizer.from_pretrained(tmp_path)
    for text in ["a<|mine|>b", "<|other|> <|other|>", "[PAD650]"]:
        assert peer.tokenize(text.encode(), add_bos=True, special=True) == ours.encode(text)


@pytest.mark.parametrize("name", SOURCES)
def test_transformers_opens_a_folder_made_of_gguf(transformers, name, tmp_path):
    torch = pytest.importorskip("torch", reason=WHY)
    source = SOURCES[name]
    metadata = read_metadata(source) | {"tokenizer.chat_template": Value(Kind.STRING, TEMPLATE)}
    file = with_metadata(tmp_path / "a.gguf", source, metadata)
    core = _core.Model.load(str(file), 1, 0, "float32", "float32")
    folder = tmp_path / "hf"
    folder.mkdir()
    for each, content in files_of_gguf(file, core, text_config(FIXTURES / name), "bfloat16", dict).items():
        (folder / each).write_bytes(content)
    tensors = read_folder(FIXTURES / name).items()
    write_safetensors(
        folder / "model.safetensors",
        {key.replace("model.language_model.", "model."): f32_to_bf16(value) for key, value in tensors},
    )
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert type(model).__name__ == "Gemma4ForCausalLM"
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    assert model.generation_config.eos_token_id == [1, 622, 627]
    assert (model.generation_config.top_k, model.generation_config.top_p) == (64, 0.95)
    case = read_case(name)
    with torch.no_grad():
        logits = model(torch.tensor(case.ids[None].astype(np.int64))).logits[0].numpy()
    error = np.abs(logits - gemmule.load(FIXTURES / name, kv="float32").logits(case.ids)).max()
    assert error <= 2e-3
    tokenizer, ours = transformers.AutoTokenizer.from_pretrained(folder), gemmule.Tokenizer.from_pretrained(folder)
    for text in texts():
        assert tokenizer.encode(text) == ours.encode(text), ascii(text)
    assert tokenizer.chat_template == TEMPLATE
    assert set(tokenizer.all_special_ids) == set(core.gguf_tokenizer().control_tokens)


def opened_by_transformers(transformers, folder):
    model, report = transformers.AutoModelForImageTextToText.from_pretrained(
        folder, dtype="float32", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    return model.eval()


def logits_of(model, ids: np.ndarray) -> np.ndarray:
    torch = pytest.importorskip("torch", reason=WHY)
    with torch.no_grad():
        return model(torch.tensor(ids[None].astype(np.int64))).logits[0].numpy()


@pytest.mark.parametrize("arguments", [{}, {"scales": "absmax"}, {"overrides": {"down_proj$": 8, "embed_tokens$": 4}}])
def test_transformers_opens_our_mobile_folder(transformers, tmp_path, arguments):
    """Short prompts, judged as the fixture's case.json says: few roundings each, so that few flip."""
    source = FIXTURES / "mobile_source"
    scales = FIXTURES / "mobile_source" / "activation_scales.safetensors"
    gemmule.convert(source, tmp_path / "a", to="mobile", ple_scale="row", activation_scales=scales, **arguments)
    model = opened_by_transformers(transformers, tmp_path / "a")
    ours = gemmule.load(tmp_path / "a", kv="float32")
    prompts = np.random.default_rng(1).integers(3, 600, (16, 8)).astype(np.int32)
    errors = [np.abs(logits_of(model, ids)[-1] - ours.logits(ids)[-1]).max() for ids in prompts]
    assert sum(error <= 5e-3 for error in errors) >= 10


@pytest.mark.parametrize("name", ["e2b", "dense"])
def test_transformers_opens_our_groups_of_4_bits(transformers, tmp_path, name):
    pytest.importorskip("compressed_tensors", reason=WHY)
    gemmule.convert(FIXTURES / name, tmp_path / "a", to="w4a16")
    ids = read_case(name).ids
    theirs = logits_of(opened_by_transformers(transformers, tmp_path / "a"), ids)
    ours = gemmule.load(tmp_path / "a", kv="float32", activations="float32").logits(ids)
    assert np.abs(theirs - ours).max() <= 2e-3  # as the fixture's case.json has it


@pytest.mark.parametrize("arguments", [{"to": "q4_0"}, {"to": "q4_0", "pure": True}, {"to": "q8_0"}, {"to": "bf16"}])
def test_llama_cpp_generates_from_our_file(llama_cpp, tmp_path, arguments):
    """The bundled model's text, and logits within the distance of its own arithmetic."""
    gemmule.convert("fairy", tmp_path / "a.gguf", **arguments)
    peer = llama_cpp.Llama(str(tmp_path / "a.gguf"), n_ctx=128, n_threads=1, logits_all=True, verbose=False)
    ours = gemmule.load(tmp_path / "a.gguf", kv="float32", activations="float32")
    ids = ours.tokenizer.encode("Once upon a time there was a king who had")
    peer.eval(ids)
    theirs = np.array(peer.scores[: len(ids)])
    exact = ours.logits(ids)
    assert np.abs(theirs - exact).mean() < 0.1 * exact.std()
    text = peer.create_completion("Once upon a time", max_tokens=24, temperature=0)["choices"][0]["text"]
    assert len(text.split()) > 10


def test_transformers_opens_a_config_without_towers(transformers, tmp_path):
    config = json.loads((E2B / "config.json").read_text())
    config |= {"vision_config": {"model_type": "gemma4_vision"}, "audio_config": {"model_type": "gemma4_audio"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    content = files_of_folder(tmp_path, dict)["config.json"]
    (tmp_path / "config.json").write_bytes(content)
    model = transformers.AutoModelForImageTextToText.from_config(transformers.AutoConfig.from_pretrained(tmp_path))
    assert not [name for name, _ in model.named_parameters() if "tower" in name]
