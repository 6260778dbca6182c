"""The bundled demo through the public names: what the README promises."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import gemmule
from fakes import TOKENIZER
from gemmule.checkpoints import checkpoint

EXCERPT = Path(__file__).parent / "data" / "fairy-excerpt.txt"


@pytest.fixture(scope="module")
def fairy():
    return gemmule.load("fairy", threads=2)


@pytest.fixture
def folder(tmp_path):
    """A copy of the demo, to be damaged."""
    return Path(shutil.copytree(checkpoint.find("fairy"), tmp_path / "fairy"))


def test_public_names():
    tree = ast.parse(Path(gemmule.__file__).read_text())
    assert set(gemmule.__all__) <= set(dir(gemmule))
    assert ast.get_docstring(tree)
    for name in gemmule.__all__:
        if name != "__version__":
            assert getattr(gemmule, name).__doc__, name
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", gemmule.__version__)


def test_cpu():
    cpu = gemmule.cpu()
    assert cpu["target"] in cpu["targets"]
    assert cpu["threads"] >= 1
    assert isinstance(cpu["features"], list)


def test_a_target_that_the_processor_does_not_have():
    """Python shows no more of an exception in an import than its message."""
    command, environment = [sys.executable, "-c", "import gemmule"], {**os.environ, "GEMMULE_TARGET": "AVX9"}
    child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    targets = ", ".join(gemmule.cpu()["targets"])
    message = f"GEMMULE_TARGET is AVX9, which is not among the targets of this processor ({targets})"
    assert child.stderr.endswith(f"{message}: set it to one of them, or unset it\n")


def test_model(fairy):
    assert (fairy.vocab_size, fairy.context, fairy.threads) == (4096, 1024, 2)
    assert "fairy" in repr(fairy)
    assert {"model_type", "parameters", "unknown_tensors", "activations", "kv"} <= fairy.info.keys()


def test_logits(fairy):
    ids = fairy.tokenizer.encode("Once upon a time")
    logits = fairy.logits(ids)
    assert logits.shape == (len(ids), 4096)
    assert logits.dtype == np.float32
    assert np.abs(logits).max() <= 30  # the softcap
    assert int(logits[-1].argmax()) == fairy.generate(ids, max_tokens=1, temperature=0).tokens[0]


def test_a_seed_gives_one_text(fairy):
    other = gemmule.load("fairy", threads=1)
    texts = {model.generate("Once upon a time", max_tokens=30, seed=7).text for model in (fairy, fairy, other)}
    assert len(texts) == 1
    assert len({fairy.generate("Once upon a time", max_tokens=30).text for _ in range(3)}) > 1


def test_greedy_is_the_argmax(fairy):
    ids = fairy.tokenizer.encode("The old witch")
    said = fairy.generate(ids, max_tokens=12, temperature=0, top_k=3, repetition_penalty=5.0, logprobs=True)
    logits = fairy.logits([*ids, *said.tokens])[len(ids) - 1 : -1].astype(np.float64)
    assert said.tokens == logits.argmax(axis=1).tolist()
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert said.logprobs == pytest.approx(logs[np.arange(len(said.tokens)), said.tokens], abs=1e-3)


def test_streams_join_to_the_text(fairy):
    options = {"max_tokens": 60, "seed": 3}
    pieces = list(fairy.stream("Once upon a time", **options))
    result = fairy.generate("Once upon a time", **options)
    assert "".join(piece.text for piece in pieces) == result.text
    assert result.text == fairy.tokenizer.decode(result.tokens, skip_special_tokens=True)


def test_threads_share_a_model(fairy):
    prompts = ["Once upon a time", "The old witch", "A king", "In the forest"]

    def tell(prompt):
        return fairy.generate(prompt, max_tokens=15, temperature=0).tokens

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(tell, prompts * 2)) == [tell(prompt) for prompt in prompts] * 2


def test_perplexity_of_an_excerpt(fairy):
    """The whole book measures 37.8; an excerpt lies around it."""
    second_half = gemmule.perplexity(fairy, EXCERPT)
    assert second_half.tokens == 2 * 255
    assert 20 < second_half.perplexity < 70
    assert 1 < second_half.bits_per_byte < 2
    every = gemmule.perplexity(fairy, EXCERPT, score="all", stride=511)
    assert every.tokens == len(fairy.tokenizer.encode(EXCERPT.read_text())) - 1
    assert 20 < every.perplexity < 70


def test_fairy_has_no_chat_template(fairy):
    with pytest.raises(gemmule.UnsupportedError, match="no chat template"):
        fairy.chat()


def test_chat_reads_on_as_if_it_read_anew(folder):
    """With a template, the demo can chat: each turn goes on in the cache, also where it has to go back a little."""
    shutil.copy(TOKENIZER / "chat_template.jinja", folder)
    model = gemmule.load(folder, kv="float32")
    chat = model.chat(system="Tell a tale.")
    cached = []
    for text in ("A fox.", "A king.", "More!"):
        reply = chat.send(text, temperature=0, max_tokens=12)
        anew = model.generate(chat.messages[:-1], temperature=0, max_tokens=12)
        assert reply.tokens == anew.tokens
        cached.append(reply.usage.cached_tokens)
    assert cached[0] == 0 < cached[1] < cached[2]


def test_ctrl_c_stops_prefill_and_decoding():
    """Within 200 ms on a free machine; the bound leaves room for a busy one. The model stays usable."""
    code = (
        "import sys, time, gemmule\n"
        "model = gemmule.load('fairy', threads=1)\n"
        "ids = [2] + [300] * 1000\n"
        "print('ready', flush=True)\n"
        "try:\n"
        "    while True:\n"
        "        model.generate(ids, max_tokens=20, ignore_eos=True)\n"
        "except KeyboardInterrupt:\n"
        "    print('stopped', flush=True)\n"
        "print(len(model.generate(ids[:5], max_tokens=3, ignore_eos=True).tokens), flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.3)
        begin = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "stopped\n"
        assert time.monotonic() - begin < 2
        assert child.stdout.readline() == "3\n"
    assert child.returncode == 0


def test_other_threads_run_while_it_computes(fairy):
    done = threading.Event()
    worker = threading.Thread(target=lambda: (fairy.logits([2] * 1000), done.set()))
    worker.start()
    turns = 0
    while not done.is_set():
        turns += 1
        time.sleep(0.001)
    worker.join()
    assert turns > 3


# What load refuses


@pytest.mark.parametrize(
    ("path", "kind", "said"),
    [
        ("no/such/folder", gemmule.MissingFileError, "no such file or folder"),
        ("x" * 5000, gemmule.MissingFileError, "File name too long"),
        ("model.gguf", gemmule.MissingFileError, "no such file or folder"),
        ("", gemmule.ArgumentError, "expected a path"),
        (None, gemmule.ArgumentError, "expected a path"),
        (7, gemmule.ArgumentError, "expected a path"),
        ("a\0b", gemmule.ArgumentError, "expected a path"),
        (EXCERPT, gemmule.FormatError, "no GGUF file"),
    ],
)
def test_load_refuses_paths(path, kind, said):
    with pytest.raises(kind, match=said):
        gemmule.load(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"threads": 0},
        {"threads": True},
        {"threads": "2"},
        {"context": 0},
        {"context": 1.5},
        {"kv": "int8"},
        {"activations": "float16"},
        {"kv": None},
    ],
    ids=repr,
)
def test_load_refuses_arguments(wrong):
    with pytest.raises(gemmule.ArgumentError, match=next(iter(wrong))):
        gemmule.load("fairy", **wrong)


def test_the_demo_s_name_and_a_folder_of_that_name(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (folder / "config.json").unlink()
    assert gemmule.load("fairy").vocab_size == 4096
    for path in ("./fairy", Path("fairy"), str(folder)):
        with pytest.raises(gemmule.MissingFileError, match=r"config\.json"):
            gemmule.load(path)


def test_a_larger_context_than_the_checkpoint_s():
    with pytest.raises(gemmule.GemmuleError, match="1024"):
        gemmule.load("fairy", context=4096)
    assert gemmule.load("fairy", context=64).context == 64


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("config.json", lambda data: data[:100]),
        ("config.json", lambda data: data.replace(b'"gemma"', b'"unheard-of"')),
        ("config.json", lambda data: data.replace(b'"num_attention_heads"', b'"heads"')),
        ("generation_config.json", lambda data: b"[]"),
        ("generation_config.json", lambda data: b"{"),
        ("model.safetensors", lambda data: data[:-100]),
        ("model.safetensors", lambda data: data[:7]),
        ("model.safetensors", lambda data: b"\xff" * 8 + data[8:]),
    ],
)
def test_load_refuses_damage(folder, name, damage):
    file = folder / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises((gemmule.FormatError, gemmule.UnsupportedError)) as caught:
        gemmule.load(folder)
    assert caught.value.message
    assert caught.value.remedy


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(gemmule.GemmuleError, match="safetensors"):
        gemmule.load(folder)


def test_sampling_defaults_of_the_demo(fairy):
    said = json.loads((checkpoint.find("fairy") / "generation_config.json").read_text())
    assert (fairy._defaults.temperature, fairy._defaults.top_k) == (said["temperature"], said["top_k"])
    assert fairy._defaults.end_tokens == set(said["eos_token_id"])
