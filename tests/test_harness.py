"""gemmule as a model of lm-evaluation-harness: tasks on local files, against full logits in float64."""

import json
import os
import random
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import gemmule
from fakes import TOKENIZER, TURN_END, fake_model, says
from gemmule.reference import operations

pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")

import lm_eval
from lm_eval.tasks import TaskManager

from gemmule import harness

# Of each beginning, the endings to choose from.
BEGINNINGS = [
    ("Once upon a time there was a", ["king", "queen who had no children", "umbrella"]),
    ("Once upon a time there was a king who had three", ["sons", "daughters and a cow", "of"]),
    ("The old witch looked at the boy and said: ", ["'Come in.'", "nothing"]),
    ("", ["Once upon a time", "The"]),
]
TALES = [
    "There was once a poor miller who had nothing left but his mill and a grey cat. "
    "When the winter came he said to the cat: 'I have no bread for you; go and look for a better master.' "
    "But the cat went to the palace, and sat down before the door, and would not go away until the king came out.",
    "A fox met a hen.",
]


@pytest.fixture(scope="module")
def fairy():
    return gemmule.load("fairy", threads=2)


@pytest.fixture(scope="module")
def short():
    """The same with a context of 32 tokens."""
    return gemmule.load("fairy", threads=2, context=32)


@pytest.fixture
def of(monkeypatch):
    """Makes the harness's model of a model."""

    def make(model):
        monkeypatch.setattr(harness, "load", lambda path, **options: model)
        return harness.HarnessModel("a/b")

    return make


def write_task(folder, documents, **task):
    """A task on a file, both in `folder`."""
    (folder / "documents.jsonl").write_text("".join(json.dumps(each) + "\n" for each in documents))
    data = {"data_files": {"test": str(folder / "documents.jsonl")}, "cache_dir": str(folder / "cache")}
    whole = {"task": "tales", "dataset_path": "json", "dataset_kwargs": data, "test_split": "test", **task}
    (folder / "tales.yaml").write_text(json.dumps(whole))  # JSON is YAML


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Runs a task on these documents, and gives its metrics and the model's answers, document by document."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(documents, *, model_args=None, **task):
        write_task(tmp_path, documents, **task)
        found = lm_eval.simple_evaluate(
            model="gemmule",
            model_args={"path": "fairy", "threads": 2, **(model_args or {})},
            tasks=["tales"],
            task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
            bootstrap_iters=0,
            log_samples=True,
        )
        samples = sorted(found["samples"]["tales"], key=lambda sample: sample["doc_id"])
        return found["results"]["tales"], [sample["resps"] for sample in samples]

    return run


def request(*arguments):
    return SimpleNamespace(args=arguments)


def log_probabilities(model, ids, first):
    """(N,) nats of ids[first:], and whether each is the likeliest."""
    logits = model.logits(ids[:-1])[first - 1 :].astype(np.float64)
    tokens = np.array(ids[first:])
    scores = logits[np.arange(len(tokens)), tokens] - operations.log_sum_exp(logits)
    return scores, logits.argmax(axis=1) == tokens


def close(value):
    return pytest.approx(value, rel=1e-6)


# Log-likelihoods


def test_multiple_choice(evaluate, fairy):
    documents = [{"beginning": text, "endings": endings, "label": 0} for text, endings in BEGINNINGS]
    results, answers = evaluate(
        documents,
        output_type="multiple_choice",
        doc_to_text="{{beginning}}",
        doc_to_choice="endings",
        doc_to_target="label",
        metric_list=[{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    )
    right = []
    for (text, endings), answer in zip(BEGINNINGS, answers, strict=True):
        expected = []
        for ending in endings:
            spaces = len(text) - len(text.rstrip())
            whole = fairy.tokenizer.encode(text + " " + ending if text else " " + ending)
            context = fairy.tokenizer.encode(text[: len(text) - spaces])
            assert whole[: len(context)] == context
            scores, greedy = log_probabilities(fairy, whole, len(context))
            expected.append((close(scores.sum()), greedy.all()))
        assert [each[0] for each in answer] == expected
        right.append(max(answer)[0] == answer[0][0])
    assert results["acc,none"] == np.mean(right)


def test_greedy_continuations(of, fairy):
    model = of(fairy)
    context = "Once upon a time"
    text = fairy.generate(context, max_tokens=6, temperature=0).text
    other = fairy.tokenizer.encode(context + text)
    assert other[: len(fairy.tokenizer.encode(context))] == fairy.tokenizer.encode(context)
    answers = model.loglikelihood([request(context, text), request(context, text + "!?")], disable_tqdm=True)
    assert [greedy for _, greedy in answers] == [True, False]


def test_long_continuations(of, fairy):
    """Longer than what goes through the layers at once."""
    words = " ".join(f"and then {word}" for word in TALES[0].split())
    ids = fairy.tokenizer.encode("So" + " " + words)
    assert len(ids) > 2 * gemmule._core.CHUNK_TOKENS
    ((found, greedy),) = of(fairy).loglikelihood([request("So", " " + words)], disable_tqdm=True)
    scores, _ = log_probabilities(fairy, ids, 2)
    assert found == close(scores.sum())
    assert not greedy


def test_too_long_a_context(of, short, caplog):
    """Its first tokens go, BOS stays in front."""
    model = of(short)
    context, continuation = TALES[0].removesuffix(" the king came out."), " the king came out."
    ids = short.tokenizer.encode(TALES[0])
    scored = len(ids) - len(short.tokenizer.encode(context))
    assert scored == 5
    ((found, _),) = model.loglikelihood([request(context, continuation)], disable_tqdm=True)
    scores, _ = log_probabilities(short, [2, *ids[-32:]], 33 - scored)
    assert found == close(scores.sum())
    assert f"a sequence of {len(ids) - 1} tokens loses its first {len(ids) - 33}" in caplog.text


def test_the_longest_continuation(of, short):
    model = of(short)
    ids = short.tokenizer.encode(TALES[0], add_special_tokens=False)
    scores, _ = log_probabilities(short, [2, *ids[5:37]], 1)
    found, _ = model._score([2, *ids[:5]], ids[5:37])
    assert found == close(scores.sum())
    with pytest.raises(gemmule.ContextError, match="a continuation has 33 tokens; the context holds 32"):
        model._score([2], ids[:33])


def test_rolling(evaluate, fairy, short):
    """A text longer than the context is cut into windows: each begins with BOS, none scores a token again."""
    results, answers = evaluate(
        [{"text": text} for text in TALES],
        model_args={"context": 32},
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{text}}",
        metric_list=[{"metric": "byte_perplexity"}],
    )
    ids = [fairy.tokenizer.encode(text, add_special_tokens=False) for text in TALES]
    assert 64 < len(ids[0]) < 96
    windows = [([2, *ids[0][:32]], 1), ([2, *ids[0][32:64]], 1)]
    rest = len(ids[0]) - 64
    windows.append(([2, *ids[0][-32:]], 33 - rest))
    expected = sum(log_probabilities(short, *window)[0].sum() for window in windows)
    assert answers[0] == [[close(expected)]]
    whole = log_probabilities(fairy, [2, *ids[1]], 1)[0].sum()
    assert answers[1] == [[close(whole)]]
    total_bytes = sum(len(text.encode()) for text in TALES)
    assert results["byte_perplexity,none"] == close(np.exp(-(expected + whole) / total_bytes))


def test_a_context_is_read_once(of):
    """Requests of one context follow each other, and the decoder goes back to where they part."""
    model = fake_model(TOKENIZER, lambda ids: 7)
    asked = of(model)
    contexts = ["Once upon a time there was a king", "The old witch looked at the boy"]
    requests = [request(context, ending) for ending in (" who", " and said so") for context in contexts]
    answers = asked.loglikelihood(requests, disable_tqdm=True)
    read = sum(len(ids) for ids in model._core.prefilled)
    contexts_only = sum(len(model.tokenizer.encode(context)) for context in contexts)
    endings = sum(len(model.tokenizer.encode(end, add_special_tokens=False)) for end in (" who", " and said so"))
    assert read <= contexts_only + 2 * endings
    model._core.can_rewind = False
    del model._core.prefilled[:]
    assert of(model).loglikelihood(requests, disable_tqdm=True) == answers
    assert sum(len(ids) for ids in model._core.prefilled) > read


def test_one_model_for_all_kinds_of_requests(of, fairy):
    """What the decoder has seen before changes nothing."""
    model = of(fairy)
    text = request("Once upon a time there was a king who had no bread", {"until": ["."], "max_gen_toks": 9})
    score = request("Once upon a time there was a king who", " had no children")
    first = model.loglikelihood([score], disable_tqdm=True), model.generate_until([text], disable_tqdm=True)
    again = model.generate_until([text], disable_tqdm=True), model.loglikelihood([score], disable_tqdm=True)
    assert again[::-1] == first
    assert of(fairy).generate_until([text], disable_tqdm=True) == first[1]


def test_an_empty_continuation(of, fairy):
    with pytest.raises(gemmule.ArgumentError, match="no token of its own"):
        of(fairy).loglikelihood([request("Once upon a time", "")], disable_tqdm=True)


# Generation


def test_generation(evaluate, fairy):
    documents = [{"beginning": text} for text, _ in BEGINNINGS[:3]]
    until = {"until": ["\n", ","], "max_gen_toks": 24}
    _, answers = evaluate(
        documents,
        output_type="generate_until",
        doc_to_text="{{beginning}}",
        doc_to_target="",
        generation_kwargs=until,
        metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    )
    for (text, _), ((answer,),) in zip(BEGINNINGS, answers, strict=False):
        expected = fairy.generate(text, max_tokens=24, temperature=0, stop=["\n", ","])
        assert answer == expected.text
    assert len({answer for ((answer,),) in answers}) == 3


def test_samples_follow_the_seed(of, fairy):
    model = of(fairy)
    asked = [request("Once upon a time", {"do_sample": True, "temperature": 2.0, "max_gen_toks": 12, "until": [""]})]

    def said(seed):
        random.seed(seed)  # as the harness does
        return model.generate_until(asked, disable_tqdm=True)

    assert said(1) == said(1)
    assert said(1) != said(2)


def test_too_long_a_prompt(of, short):
    """Room for the answer is kept; BOS stays in front."""
    (found,) = of(short).generate_until([request(TALES[0], {"max_gen_toks": 12})], disable_tqdm=True)
    ids = short.tokenizer.encode(TALES[0])
    assert found == short.generate([2, *ids[-19:]], max_tokens=12, temperature=0).text
    with pytest.raises(gemmule.ContextError, match="max_gen_toks is 256; the context holds 32"):
        of(short).generate_until([request("Once", {})], disable_tqdm=True)


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, {"max_tokens": 256, "temperature": 0.0, "stop": []}),
        ({"until": "\n", "num_beams": 1}, {"stop": ["\n"]}),
        ({"until": ["a", ""], "max_new_tokens": 3}, {"stop": ["a"], "max_tokens": 3}),
        ({"do_sample": False, "temperature": 0.7}, {"temperature": 0.0}),
        ({"temperature": 0.7, "top_k": 5, "top_p": 0.5}, {"temperature": 0.7, "top_k": 5, "top_p": 0.5}),
        ({"do_sample": True, "min_p": 0.1, "repetition_penalty": 1.1}, {"temperature": None, "min_p": 0.1}),
    ],
)
def test_settings(settings, options):
    found = harness.generation_options(settings, 256)
    assert found.items() >= options.items()


def test_unknown_settings():
    with pytest.raises(gemmule.ArgumentError, match="generation_kwargs has length_penalty, num_beams; expected"):
        harness.generation_options({"num_beams": 4, "length_penalty": 2}, 256)


# Texts


def test_bos_stands_once(of, fairy):
    model = of(fairy)
    assert model.tok_encode("A fox") == model.tok_encode("<bos>A fox") == fairy.tokenizer.encode("A fox")
    assert model.tok_encode("A fox", add_special_tokens=False) == fairy.tokenizer.encode("A fox")[1:]
    assert model.prefix_token_id == 2


def test_chat_templates(of):
    """The harness writes the conversation by the checkpoint's template; the model reads it as it stands."""
    model = of(fake_model(TOKENIZER, lambda ids: TURN_END))
    assert model.chat_template(True) == model.tokenizer.chat_template
    assert model.tokenizer_name == "a__b"
    messages = [{"role": "user", "content": "Hi"}]
    prompt = model.apply_chat_template(messages)
    assert model.tok_encode(prompt) == model.tokenizer.encode_messages(messages)
    opened = model.apply_chat_template([*messages, {"role": "assistant", "content": "Hello, "}], False)
    assert opened.endswith("<|turn>model\nHello,")
    assert model.tok_encode(opened).count(2) == 1


def test_answers_in_a_chat(of):
    tokenizer = gemmule.Tokenizer.from_pretrained(TOKENIZER)
    prompt = tokenizer.encode_messages([{"role": "user", "content": "Hi"}])
    hello = tokenizer.encode("Hello!", add_special_tokens=False)
    model = of(fake_model(TOKENIZER, says(hello, prompt_length=len(prompt))))
    text = model.apply_chat_template([{"role": "user", "content": "Hi"}])
    settings = {"until": ["o!"], "max_gen_toks": 200}
    assert model.generate_until([request(text, settings)], disable_tqdm=True) == ["Hell"]


def test_checkpoints_without_text(of, fairy, monkeypatch):
    with pytest.raises(gemmule.UnsupportedError, match="no chat template"):
        of(fairy).apply_chat_template([{"role": "user", "content": "Hi"}])
    monkeypatch.setattr(fairy.tokenizer, "bos_token_id", None)
    with pytest.raises(gemmule.UnsupportedError, match="no BOS"):
        of(fairy)


# The harness itself


def test_answers_are_kept(of, fairy):
    """The harness is told every answer, so that it can keep them in a file."""
    model = of(fairy)
    kept = []
    model.set_cache_hook(SimpleNamespace(add_partial=lambda *each: kept.append(each)))
    asked = [("Once", " upon a time"), (TALES[1],), ("Once", {"max_gen_toks": 3})]
    answers = [
        model.loglikelihood([request(*asked[0])], disable_tqdm=True)[0],
        model.loglikelihood_rolling([request(*asked[1])], disable_tqdm=True)[0],
        model.generate_until([request(*asked[2])], disable_tqdm=True)[0],
    ]
    kinds = ("loglikelihood", "loglikelihood_rolling", "generate_until")
    assert kept == list(zip(kinds, asked, answers, strict=True))


def test_command_line(tmp_path):
    write_task(
        tmp_path,
        [{"text": TALES[1]}],
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{text}}",
        metric_list=[{"metric": "bits_per_byte"}],
    )
    command = [sys.executable, "-m", "gemmule.harness", "--model", "gemmule", "--model_args", "path=fairy,threads=2"]
    done = subprocess.run(
        [*command, "--tasks", "tales", "--include_path", str(tmp_path)],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    expected = gemmule.perplexity(gemmule.load("fairy", threads=2), TALES[1], window=7, score="all").bits_per_byte
    assert f"|{expected:.4f}|" in done.stdout.replace(" ", "")


def test_without_the_harness():
    code = "import sys; sys.modules['lm_eval'] = None; import gemmule.harness"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ImportError: gemmule.harness needs lm-eval" in done.stderr
    assert "gemmule[eval]" in done.stderr
