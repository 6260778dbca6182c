"""compare: how far a model is from another one, against the same figures of full logits in float64."""

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import gemmule
from fakes import TOKENIZER, fake_model
from gemmule.quality.windows import cut
from gemmule.reference import operations
from golden_cases import FIXTURES, read_case
from targets import fused_targets

testing = gemmule._core.testing
EXCERPT = Path(__file__).parent / "data" / "fairy-excerpt.txt"

# Model and reference, as arguments of load.
PAIRS = {
    "Q4_0 and its source": (("gguf_e2b/model-Q4_0.gguf", {}), ("e2b", {})),
    "Q8_0 and its source": (("gguf_e2b/model-Q8_0.gguf", {}), ("e2b", {})),
    "Q4_K and its source": (("gguf_kquant/model-Q4_K_M.gguf", {}), ("gguf_kquant/model-Q5_K_M.gguf", {})),
    "int8 activations and float32": (
        ("gguf_dense/model-Q4_0.gguf", {"activations": "int8"}),
        ("gguf_dense/model-Q4_0.gguf", {"activations": "float32"}),
    ),
    "experts": (("gguf_moe/model-Q4_0.gguf", {}), ("moe", {})),
    "static cache and float32": (("mobile", {"kv": "static"}), ("mobile", {"kv": "float32"})),
    "bf16 cache and float32": (("e2b", {"kv": "bf16"}), ("e2b", {"kv": "float32"})),
    "W4A16 and BF16": (("ct_w4a16", {}), ("dense", {})),
    "two models": (("mobile", {}), ("e4b", {})),
}


def load(pair):
    return [gemmule.load(FIXTURES / name, **options) for name, options in pair]


@pytest.fixture(scope="module")
def ids():
    """(330,) token ids, five windows of 64 and a rest."""
    prompt = read_case("e2b").ids
    return np.concatenate([prompt, prompt[::-1], prompt[::2], prompt[1::2], prompt[:42]])


def figures(model, reference, spans):
    """Of full logits in float64. spans: ids of each window, and the first scored one."""
    kl, same_top, nll, reference_nll = [], [], [], []
    for ids, first in spans:
        q, p = (m.logits(ids).astype(np.float64)[first - 1 : -1] for m in (model, reference))
        kl.append(operations.kl_divergence(p, q))
        same_top.append(p.argmax(axis=1) == q.argmax(axis=1))
        token = (np.arange(len(ids) - first), ids[first:])
        nll.append(operations.log_sum_exp(q) - q[token])
        reference_nll.append(operations.log_sum_exp(p) - p[token])
    return [np.concatenate(each) for each in (kl, same_top, nll, reference_nll)]


def mean_and_error(values):
    return values.mean(), math.sqrt(np.var(values) / (len(values) - 1))


def check(found, kl, same_top, nll, reference_nll):
    def close(value):
        return pytest.approx(value, rel=1e-6, abs=1e-11)

    # log_sum_exp may be wrong by 2e-6 nats. That counts for a token's own probability, not for the divergence.
    p, q = np.exp(-reference_nll), np.exp(-nll)
    dp_bound = 4e-6 * math.sqrt(np.mean(np.square(np.maximum(p, q))))
    assert (found.mean_kl, found.stderr_kl) == close(mean_and_error(kl))
    assert (found.p99_kl, found.max_kl) == close((np.percentile(kl, 99), kl.max()))
    assert found.same_top == same_top.mean()
    assert found.rms_dp == pytest.approx(math.sqrt(np.mean(np.square(q - p))), abs=dp_bound)
    assert (found.mean_dnll, found.stderr_dnll) == pytest.approx(mean_and_error(nll - reference_nll), abs=4e-6)
    for one, values in ((found.model, nll), (found.reference, reference_nll)):
        assert (one.mean_nll, one.stderr) == pytest.approx(mean_and_error(values), abs=2e-6)
    assert found.tokens == found.model.tokens == found.reference.tokens == len(kl)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_against_full_logits(pair, ids):
    model, reference = load(pair)
    found = gemmule.compare(model, reference, ids, window=64)
    spans = [(ids[begin : begin + 64], 33) for begin in range(0, 320, 64)]
    check(found, *figures(model, reference, spans))
    assert found.mean_kl > 1e-7  # there is a distance to be measured
    assert found.tokens == 5 * 31


def test_direction(ids):
    """The divergence is from the reference, in the reference's probabilities."""
    model, reference = load(PAIRS["two models"])
    forth, back = (gemmule.compare(*pair, ids, window=64) for pair in ((model, reference), (reference, model)))
    assert abs(forth.mean_kl - back.mean_kl) > 1e-3
    assert forth.mean_dnll == pytest.approx(-back.mean_dnll)
    assert (forth.model, forth.reference) == (back.reference, back.model)
    assert (forth.same_top, forth.rms_dp) == (back.same_top, pytest.approx(back.rms_dp))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("e2b", {}),
        ("mobile", {}),
        ("mobile", {"kv": "float32", "activations": "float32"}),
        ("moe", {}),
        ("ct_w4a16", {}),
        ("gguf_kquant/model-Q4_K_M.gguf", {}),
    ],
)
def test_itself(name, options, ids):
    """Also when it is loaded twice."""
    model = gemmule.load(FIXTURES / name, **options)
    for other in (model, gemmule.load(FIXTURES / name, threads=1, **options)):
        found = gemmule.compare(model, other, ids, window=64)
        assert found.max_kl == found.mean_kl == found.rms_dp == found.mean_dnll == found.stderr_dnll == 0
        assert found.same_top == 1
        assert found.model == found.reference


def test_formats_of_the_same_weights(ids):
    model, reference = gemmule.load(FIXTURES / "gguf_dense" / "model-BF16.gguf"), gemmule.load(FIXTURES / "dense")
    assert gemmule.compare(model, reference, ids, window=64).max_kl == 0


@pytest.mark.parametrize(
    "protocol", [{}, {"window": 100}, {"score": "all"}, {"score": "all", "window": 150, "stride": 149}], ids=repr
)
def test_windows_are_those_of_perplexity(protocol):
    """Bit for bit, on a text: chunks of 64 tokens, groups of 16 rows, what lies across them."""
    model, reference = gemmule.load("fairy"), gemmule.load("fairy", kv="float32")
    found = gemmule.compare(model, reference, EXCERPT, **protocol)
    assert found.model == gemmule.perplexity(model, EXCERPT, **protocol)
    assert found.reference == gemmule.perplexity(reference, EXCERPT, **protocol)
    assert found.model.bits_per_byte is not None


def test_every_window_begins_with_bos():
    model, reference = gemmule.load("fairy"), gemmule.load("fairy", kv="float32")
    ids = np.array(model.tokenizer.encode(EXCERPT.read_text(), parse_special=False), np.int32)
    windows = [np.concatenate([[2], ids[begin + 1 : begin + 90]]) for begin in range(0, len(ids) - 89, 90)]
    check(
        gemmule.compare(model, reference, EXCERPT, window=90),
        *figures(model, reference, [(window, 46) for window in windows]),
    )


def test_first_scored_token(ids):
    """What is scored does not depend on where scoring begins."""
    model, reference = (each._core for each in load(PAIRS["Q4_0 and its source"]))
    decoder = gemmule._core.Decoder
    ids = ids[:100]
    whole = decoder(model).compare(decoder(reference), ids, 1)
    scores = decoder(model).score(ids, 1)
    assert np.array_equal(whole[0], -scores)
    for first in (2, 63, 64, 65, 84, 99, 100):
        part = decoder(model).compare(decoder(reference), ids, first)
        assert all(np.array_equal(a[first - 1 :], b) for a, b in zip(whole, part, strict=True))
        one = decoder(model)
        assert np.array_equal(one.score(ids, first), scores[first - 1 :])
        assert one.length == 100
    for first in (0, 101, 1000):
        with pytest.raises(gemmule.ArgumentError, match="are wanted"):
            decoder(model).compare(decoder(reference), ids, first)
        with pytest.raises(gemmule.ArgumentError, match="are wanted"):
            decoder(model).score(ids, first)


def test_the_engine_refuses_what_does_not_fit(ids):
    decoder = gemmule._core.Decoder
    one = decoder(gemmule.load(FIXTURES / "e2b")._core)
    with pytest.raises(gemmule.ArgumentError, match="640 token ids, the reference 4096"):
        one.compare(decoder(gemmule.load("fairy")._core), ids, 1)
    with pytest.raises(gemmule.ArgumentError, match="in use"):
        one.compare(one, ids, 1)
    assert one.length == 0


def test_same_bits(ids):
    """For any number of threads of either, and on every instruction set with fused multiply-add."""
    results = set()
    for threads, others in ((1, 1), (4, 2), (2, 3)):
        model = gemmule.load(FIXTURES / "mobile", kv="static", threads=threads)
        reference = gemmule.load(FIXTURES / "mobile", kv="float32", threads=others)
        results.add(gemmule.compare(model, reference, ids, window=64))
    try:
        for target in fused_targets():
            testing.set_target(target)
            results.add(gemmule.compare(model, reference, ids, window=64))
    finally:
        testing.set_target(None)
    assert len(results) == 1


def test_one_token(ids):
    model, reference = load(PAIRS["Q4_0 and its source"])
    found = gemmule.compare(model, reference, ids[:3], window=3)
    assert found.tokens == 1
    assert math.isnan(found.stderr_kl)
    said = json.loads(found.to_json())
    assert said["stderr_kl"] is said["stderr_dnll"] is said["model"]["stderr"] is None
    assert said["mean_kl"] == found.mean_kl


def test_what_it_prints(ids):
    model, reference = load(PAIRS["Q4_0 and its source"])
    found = gemmule.compare(model, reference, ids, window=64)
    lines = str(found).splitlines()
    assert lines[1].split() == [
        *("KL", "divergence,", "mean", f"{found.mean_kl:.4g}", f"{found.stderr_kl:.2g}"),
        *("nats", "per", "token"),
    ]
    assert f"{100 * found.same_top:.2f}" in str(found)
    assert lines[-1].split() == ["tokens", "scored", "155"]
    assert json.loads(found.to_json()).keys() == found.__dataclass_fields__.keys()


# Texts and tokenizers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    shutil.copytree(TOKENIZER, folder, dirs_exist_ok=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_the_tokenizer_of_either():
    text = "Once upon a time there was a king who had a daughter."
    model, reference = load(PAIRS["W4A16 and BF16"])
    assert model.tokenizer is None
    found = gemmule.compare(model, reference, text, window=8)
    turned = gemmule.compare(reference, model, text, window=8)
    assert (turned.model, turned.reference) == (found.reference, found.model)
    assert found.model.bits_per_byte is not None
    with pytest.raises(gemmule.UnsupportedError, match="no tokenizer"):
        gemmule.compare(model, model, text, window=8)


def test_other_tokenizers(folder, tmp_path):
    """Refused where they read this text as other ids; token ids are compared all the same."""
    model, other = fake_model(folder, lambda ids: 7), with_swapped_tokens(folder, tmp_path, "n", "m")
    text = "Once upon a time there was a king."
    place = model.tokenizer.encode(text).index(312)  # n
    for pair, found in (((model, other), r"\[312\] and \[311\]"), ((other, model), r"\[311\] and \[312\]")):
        with pytest.raises(gemmule.ArgumentError, match=f"different tokens: {found} at position {place}") as caught:
            gemmule.compare(*pair, text, window=8)
        assert "pass token ids" in caught.value.remedy
    for shared in ("Otherwise the text is the text.", [2] * 30):
        windows = cut(shared, [model, other], window=8, score="all", stride=None, windows=None)
        assert len(windows) > 1


def with_swapped_tokens(folder, target, one, other):
    """A model whose tokenizer has the ids of two tokens changed for each other."""
    shutil.copytree(folder, target, dirs_exist_ok=True)
    tokenizer = json.loads((target / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    vocab[one], vocab[other] = vocab[other], vocab[one]
    (target / "tokenizer.json").write_text(json.dumps(tokenizer))
    return fake_model(target, lambda ids: 7)


def test_refuses_models_of_other_vocabularies():
    with pytest.raises(gemmule.ArgumentError, match="640 token ids, the reference 4096"):
        gemmule.compare(gemmule.load(FIXTURES / "e2b"), gemmule.load("fairy"), "Once")


def test_the_window_fits_both(folder):
    models = [fake_model(folder, lambda ids: 7, context=context) for context in (256, 128)]
    for pair in (models, models[::-1]):
        with pytest.raises(gemmule.ContextError, match="the context holds 128"):
            gemmule.compare(*pair, [2] * 600, window=200)


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ([2] * 127, {}, "127 tokens"),
        ([2] * 600, {"stride": 4}, "stride"),
        ([2] * 600, {"score": "first-half"}, "second-half"),
        ([2] * 600 + [640], {}, "640 at position 600"),
    ],
)
def test_refuses_what_perplexity_refuses(folder, text, options, said):
    model = fake_model(folder, lambda ids: 7)
    with pytest.raises(gemmule.ArgumentError, match=said):
        gemmule.compare(model, model, text, **{"window": 128, **options})


def test_ctrl_c_stops_it():
    """Within 200 ms on a free machine; the bound leaves room for a busy one. Both models stay usable."""
    code = (
        "import gemmule\n"
        "model = gemmule.load('fairy', threads=2)\n"
        "reference = gemmule.load('fairy', threads=2, kv='float32')\n"
        "ids = [2] + [300] * 1000\n"
        "print('ready', flush=True)\n"
        "try:\n"
        "    while True:\n"
        "        gemmule.compare(model, reference, ids, window=1000)\n"
        "except KeyboardInterrupt:\n"
        "    print('stopped', flush=True)\n"
        "print(gemmule.compare(model, reference, ids[:9], window=9).tokens, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.3)
        begin = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "stopped\n"
        assert time.monotonic() - begin < 2
        assert child.stdout.readline() == "4\n"
    assert child.returncode == 0
