"""Models in GGUF: golden values, where a model's files may lie, and configs that lie or that gemmule does not run."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import gemmule
import hostile_gguf
from gemmule.reference import read_file
from gguf_folders import as_gguf
from golden_cases import FIXTURES, read_case
from hostile_gguf import (
    ARRAY,
    BOOL,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    LIES,
    STRING,
    U8,
    U16,
    U32,
    U64,
    Array,
    Gguf,
    Tensor,
    tensor,
)
from test_golden import LOGIT_BOUND, assert_greedy

DENSE = FIXTURES / "gguf_dense" / "model-F16.gguf"
E2B = FIXTURES / "gguf_e2b" / "model-Q4_0.gguf"

FILES = [
    ("gguf_dense", "F16"),
    ("gguf_dense", "BF16"),
    ("gguf_dense", "Q4_0"),
    ("gguf_e2b", "Q4_0"),
    ("gguf_e2b", "Q4_0-pure"),
    ("gguf_e2b", "Q8_0"),
    ("gguf_moe", "Q4_0"),
    ("gguf_moe", "Q8_0"),
    ("gguf_kquant", "Q4_K_M"),
    ("gguf_kquant", "Q5_K_M"),
]


def golden(name: str, kind: str) -> dict[str, np.ndarray]:
    return read_file(FIXTURES / name / f"golden-{kind}.safetensors")


def load(path, **options) -> gemmule.Model:
    return gemmule.load(path, kv="float32", activations="float32", **options)


@pytest.fixture(scope="module")
def dense() -> Gguf:
    return hostile_gguf.read(DENSE)


@pytest.fixture(scope="module")
def dense_logits() -> np.ndarray:
    return load(DENSE).logits(IDS)


IDS = golden("gguf_dense", "F16")["input_ids"].astype(np.int32)


@pytest.mark.parametrize(("name", "kind"), FILES)
def test_golden_values(name, kind):
    want = golden(name, kind)
    ids = want["input_ids"].astype(np.int32)
    model = load(FIXTURES / name / f"model-{kind}.gguf")
    error = np.abs(model.logits(ids)[want["rows"]] - want["logits"]).max()
    assert error <= LOGIT_BOUND
    result = model.generate(ids, temperature=0, ignore_eos=True, max_tokens=len(want["greedy_ids"]))
    assert_greedy(result.tokens, want["greedy_ids"], want["greedy_margin"], error)


@pytest.mark.parametrize(("name", "kind"), [file for file in FILES if file[1] not in ("F16", "BF16")])
def test_int8_activations(name, kind):
    """They cost what they cost llama.cpp: 1.25 times its own distance to exact arithmetic at most (case.json)."""
    want = golden(name, kind)
    model = gemmule.load(FIXTURES / name / f"model-{kind}.gguf", kv="float32")
    assert model.info["activations"] == "int8"
    logits = model.logits(want["input_ids"].astype(np.int32))[want["rows"]]
    ours = np.median(np.abs(logits - want["logits"]).mean(axis=1))
    theirs = np.median(np.abs(want["llama_cpp_logits"] - want["logits"]).mean(axis=1))
    assert 0 < ours <= 1.25 * theirs


def test_the_same_weights_in_safetensors_give_the_same_bits():
    case = read_case("dense")
    got = load(FIXTURES / "gguf_dense" / "model-BF16.gguf").logits(case.ids)
    assert np.array_equal(got, load(case.folder).logits(case.ids))


def test_every_structure(tmp_path, float_case):
    """E2B, E4B, one with other owners of keys, 12B and 31B, 26B-A4B: the bits that their folders give."""
    got = load(as_gguf(float_case.folder).write(tmp_path / "a.gguf"))
    folder = load(float_case.folder)
    assert got.info["parameters"] == folder.info["parameters"]
    assert got.info["unknown_tensors"] == []
    assert np.array_equal(got.logits(float_case.ids), folder.logits(float_case.ids))


def test_what_was_loaded(dense):
    info = load(DENSE).info
    assert info["model_type"] == "gemma4"
    assert info["encodings"] == {"f16": 41}
    assert info["mapped_bytes"] == DENSE.stat().st_size
    assert info["parameters"] == sum(int(np.prod(t.dims)) for t in dense.without("rope_freqs.weight").tensors)
    assert info["unknown_tensors"] == info["leftover_tensors"] == info["skipped_tensors"] == []
    source = json.loads((FIXTURES / "dense" / "config.json").read_text())["text_config"]
    config = info["config"]
    for key in ["vocab_size", "hidden_size", "num_attention_heads", "sliding_window", "layer_types"]:
        assert config[key] == source[key]


def test_layers_that_share_keys_and_values_leave_tensors_over():
    model = gemmule.load(E2B)
    assert model.info["config"]["num_kv_shared_layers"] == 3
    assert model.info["config"]["hidden_size_per_layer_input"] == 32
    names = ["attn_k.weight", "attn_k_norm.weight", "attn_v.weight"]
    assert model.info["leftover_tensors"] == [f"blk.{layer}.{name}" for layer in (4, 5, 6) for name in names]
    assert model.info["unknown_tensors"] == []


def test_files_without_the_tensors_that_nobody_needs(tmp_path):
    path = hostile_gguf.read(E2B).without(*gemmule.load(E2B).info["leftover_tensors"]).write(tmp_path / "a.gguf")
    model = load(path)
    assert model.info["leftover_tensors"] == []
    assert np.array_equal(model.logits(IDS), load(E2B).logits(IDS))


def test_experts_whose_gate_and_up_rows_are_apart(tmp_path):
    source = FIXTURES / "gguf_moe" / "model-Q8_0.gguf"
    file = hostile_gguf.read(source)
    tensors = []
    for t in file.tensors:
        if not t.name.endswith("ffn_gate_up_exps.weight"):
            tensors.append(t)
            continue
        width, rows, experts = t.dims
        halves = np.frombuffer(t.data, np.uint8).reshape(experts, 2, -1)
        for half, name in enumerate(["gate", "up"]):
            data = halves[:, half].tobytes()
            tensors.append(Tensor(t.name.replace("gate_up", name), [width, rows // 2, experts], t.type, data))
    model = load(replace(file, tensors=tensors).write(tmp_path / "a.gguf"))
    assert np.array_equal(model.logits(IDS), load(source).logits(IDS))
    assert model.info["parameters"] == load(source).info["parameters"]


def test_unknown_tensors_are_named(tmp_path, dense):
    path = replace(dense, tensors=[*dense.tensors, tensor("blk.0.extra.weight")]).write(tmp_path / "a.gguf")
    assert load(path).info["unknown_tensors"] == ["blk.0.extra.weight"]


def test_a_head_of_its_own(tmp_path, dense):
    (table,) = [t for t in dense.tensors if t.name == "token_embd.weight"]
    zeros = replace(table, name="output.weight", data=bytes(len(table.data)))
    path = replace(dense, tensors=[*dense.tensors, zeros]).write(tmp_path / "a.gguf")
    model = load(path)
    assert not model.info["config"]["tie_word_embeddings"]
    assert not model.logits(IDS).any()


def test_generation_defaults(tmp_path, dense):
    """End tokens: the one that is named, and those of Gemma's chats by their text."""
    model = load(DENSE)
    tokens = dense.keys["tokenizer.ggml.tokens"][1].items
    ends = {1, tokens.index("<turn|>"), tokens.index("<|tool_response>")}
    defaults = model._defaults
    assert (defaults.temperature, defaults.top_k, defaults.top_p, defaults.min_p) == (1.0, 64, 0.95, 0.0)
    assert (defaults.end_tokens, defaults.suppressed_tokens) == (ends, ())
    changed = dense.with_keys(
        tokenizer__ggml__eos_token_id=(U32, 5),
        tokenizer__ggml__eot_token_id=(U32, 6),
        tokenizer__ggml__suppress_tokens=(ARRAY, Array(I32, [7, 8])),
        general__sampling__temp=(F32, 0.7),
        general__sampling__top_k=None,
        general__sampling__min_p=(F32, 0.05),
    )
    defaults = load(changed.write(tmp_path / "a.gguf"))._defaults
    assert (defaults.temperature, defaults.top_k, defaults.min_p) == (0.7, 0, 0.05)
    assert (defaults.end_tokens, defaults.suppressed_tokens) == (ends | {5, 6}, (7, 8))


@pytest.mark.parametrize(
    ("key", "value"), [("top_p", (F32, 1.5)), ("top_p", (F64, 1e300)), ("temp", (F64, -1e300)), ("temp", (F64, 1e300))]
)
def test_wrong_generation_defaults(tmp_path, dense, key, value):
    """Doubles that float32 does not hold among them; numpy does not warn of those."""
    path = dense.with_keys(**{"general__sampling__" + key: value}).write(tmp_path / "a.gguf")
    with pytest.raises(gemmule.FormatError, match=key) as error:
        load(path)
    assert error.value.file == str(path)


def test_metadata():
    metadata = load(DENSE)._core.metadata
    assert metadata["general.architecture"] == "gemma4"
    assert metadata["gemma4.attention.sliding_window_pattern"] == [True, True, False] * 2
    assert metadata["tokenizer.ggml.add_space_prefix"] is False
    assert gemmule.load("fairy")._core.metadata == {}


def test_metadata_leaves_long_arrays_out_and_survives_any_bytes(tmp_path, dense):
    changed = dense.with_keys(x__long=(ARRAY, Array(I32, [0] * 1025)), x__text=(STRING, b"\2" + bytes(7) + b"\xff\xfe"))
    metadata = load(changed.write(tmp_path / "a.gguf"))._core.metadata
    assert "x.long" not in metadata
    assert metadata["x.text"] == "\ufffd\ufffd"


def test_placeholders_without_their_content_are_embedded_as_pad(dense):
    tokens = dense.keys["tokenizer.ggml.tokens"][1].items
    soft = [tokens.index(text) for text in ["<|image|>", "<|audio|>", "<|video|>"]]
    ids = np.concatenate([IDS[:8], soft, IDS[8:12], [tokens.index("<|image>")]]).astype(np.int32)
    model = load(FIXTURES / "gguf_dense" / "model-BF16.gguf")
    assert np.array_equal(model.logits(ids), load(FIXTURES / "dense").logits(ids))
    as_pad = np.where(np.isin(ids, soft), 0, ids)
    assert np.array_equal(model.logits(ids), model.logits(as_pad))


# Where a model's files may lie


def test_any_name(tmp_path, dense_logits):
    shutil.copy(DENSE, tmp_path / "weights")
    assert np.array_equal(load(tmp_path / "weights").logits(IDS), dense_logits)


def test_a_folder_with_one_file(tmp_path, dense_logits):
    shutil.copy(DENSE, tmp_path / "a.gguf")
    assert np.array_equal(load(tmp_path).logits(IDS), dense_logits)
    shutil.copy(DENSE, tmp_path / "b.gguf")
    with pytest.raises(gemmule.ArgumentError, match=r"a\.gguf, b\.gguf") as error:
        load(tmp_path)
    assert "a.gguf" in error.value.remedy


def test_a_folder_of_both_kinds_is_read_by_its_config(tmp_path):
    for file in (FIXTURES / "dense").glob("*"):
        shutil.copy(file, tmp_path)
    shutil.copy(DENSE, tmp_path / "a.gguf")
    assert "bf16" in load(tmp_path).info["encodings"]
    assert "f16" in load(tmp_path / "a.gguf").info["encodings"]


def test_a_single_file_of_a_folder():
    file = next((FIXTURES / "dense").glob("*.safetensors"))
    with pytest.raises(gemmule.UnsupportedError, match="single file") as error:
        load(file)
    assert str(FIXTURES / "dense") in error.value.remedy


def test_a_safetensors_file_by_the_name_of_gguf(tmp_path):
    shutil.copy(next((FIXTURES / "dense").glob("*.safetensors")), tmp_path / "model.gguf")
    with pytest.raises(gemmule.FormatError, match="safetensors file") as error:
        load(tmp_path)
    assert error.value.file == str(tmp_path / "model.gguf")


@pytest.mark.parametrize("head", [b"version https://git-lfs.github.com/spec/v1\n", b"<!doctype html><html>"])
def test_failed_downloads(tmp_path, head):
    (tmp_path / "model.gguf").write_bytes(head)
    with pytest.raises(gemmule.FormatError, match="was not downloaded"):
        load(tmp_path / "model.gguf")


def split(file: Gguf, count: int) -> list[Gguf]:
    """The parts as llama-gguf-split makes them: all keys in the first, and the tensors in order."""
    each = -(-len(file.tensors) // count)
    marks = {"split.count": (U16, count), "split.tensors.count": (I32, len(file.tensors))}
    return [
        Gguf(
            (file.keys if number == 0 else {}) | {"split.no": (U16, number)} | marks,
            file.tensors[number * each : (number + 1) * each],
        )
        for number in range(count)
    ]


def write_parts(folder, parts: list[Gguf]) -> list:
    names = [f"model-{number + 1:05}-of-{len(parts):05}.gguf" for number in range(len(parts))]
    return [part.write(folder / name) for part, name in zip(parts, names, strict=True)]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_split_files(tmp_path, dense, dense_logits, count):
    """Any part stands for the whole, and so does their folder."""
    paths = write_parts(tmp_path, split(dense, count))
    for path in [*paths, tmp_path]:
        assert np.array_equal(load(path).logits(IDS), dense_logits)


def test_the_first_part_may_hold_no_tensor(tmp_path, dense, dense_logits):
    first, second = split(replace(dense, tensors=[]), 2)
    second = replace(second, tensors=dense.tensors)
    first = first.with_keys(split__tensors__count=(I32, len(dense.tensors)))
    assert np.array_equal(load(write_parts(tmp_path, [first, second])[0]).logits(IDS), dense_logits)


def change_second(**changes):
    return lambda parts: [parts[0], parts[1].with_keys(**changes), *parts[2:]]


SPLIT_LIES = {
    "a part that says it is another": (
        change_second(split__no=(U16, 2)),
        1,
        "split.no",
        "another part.*part 2.*part 3",
    ),
    "a part of another number of parts": (change_second(split__count=(U16, 4)), 1, "split.no", "part 2 of 4"),
    "a part that says nothing": (change_second(split__count=None), 1, "split.no", "another part than its name"),
    "a part without its number": (change_second(split__no=None), 1, "split.no", "key is missing"),
    "a tensor less": (
        lambda parts: [parts[0], replace(parts[1], tensors=parts[1].tensors[1:]), parts[2]],
        0,
        "split.tensors.count",
        "do not hold as many tensors.*85.*84 tensors",
    ),
    "a tensor in two parts": (
        lambda parts: [
            parts[0].with_keys(split__tensors__count=(I32, 86)),
            replace(parts[1], tensors=[*parts[1].tensors, parts[0].tensors[0]]),
            parts[2],
        ],
        None,
        "rope_freqs.weight",
        "stands in two files",
    ),
    "no parts at all": (
        lambda parts: [parts[0].with_keys(split__count=(U16, 0)), *parts[1:]],
        0,
        "split.count",
        "wrong",
    ),
    "a part beyond the last": (
        lambda parts: [parts[0].with_keys(split__no=(U16, 3)), *parts[1:]],
        0,
        "split.no",
        "out of range.*0 to 2",
    ),
    "a number of parts that is text": (
        lambda parts: [parts[0].with_keys(split__count=(STRING, "3")), *parts[1:]],
        0,
        "split.count",
        "wrong type",
    ),
}


@pytest.mark.parametrize(("change", "blamed", "name", "message"), SPLIT_LIES.values(), ids=SPLIT_LIES.keys())
def test_split_files_that_lie(tmp_path, dense, change, blamed, name, message):
    paths = write_parts(tmp_path, change(split(dense, 3)))
    with pytest.raises(gemmule.FormatError, match=message) as error:
        load(paths[0])
    assert error.value.tensor == name
    assert error.value.file in map(str, paths if blamed is None else [paths[blamed]])


def test_a_missing_part(tmp_path, dense):
    paths = write_parts(tmp_path, split(dense, 3))
    paths[1].unlink()
    with pytest.raises(gemmule.FormatError, match="part of the model is missing") as error:
        load(paths[0])
    assert error.value.expected == str(paths[1])


def test_a_part_by_another_name(tmp_path, dense):
    paths = write_parts(tmp_path, split(dense, 2))
    paths[0].rename(tmp_path / "model.gguf")
    with pytest.raises(gemmule.FormatError, match="its name does not say which") as error:
        load(tmp_path / "model.gguf")
    assert error.value.expected.endswith("-00001-of-00002.gguf")


@pytest.mark.parametrize(("file", "message"), [(lie[0], lie[2]) for lie in LIES.values()], ids=LIES.keys())
def test_lies_are_found_by_load(tmp_path, dense, file, message):
    """As the reader finds them (test_gguf.py), in a file alone and in a second part."""
    path = file.write(tmp_path / "lie.gguf")
    parts = write_parts(tmp_path, [split(dense, 2)[0], file])
    for given, blamed in ((path, path), (parts[0], parts[1])):
        with pytest.raises(gemmule.FormatError, match=message) as error:
            gemmule.load(given)
        assert error.value.file == str(blamed)


def test_joint_queries_keys_and_values(tmp_path, dense):
    joint = tensor("blk.0.attn_qkv.weight", [64, 256], 1, bytes(2 * 64 * 256))
    path = replace(dense, tensors=[*dense.tensors, joint]).write(tmp_path / "a.gguf")
    with pytest.raises(gemmule.UnsupportedError, match="one matrix") as error:
        load(path)
    assert error.value.tensor == "blk.0.attn_qkv.weight"


def with_divisors(file: Gguf, values: list[float]) -> Gguf:
    divisors = tensor("rope_freqs.weight", [len(values)], 0, np.array(values, "<f4").tobytes())
    return replace(file, tensors=[divisors, *(t for t in file.tensors if t.name != divisors.name)])


def test_angles_that_turn(tmp_path, dense, dense_logits):
    """The fixture's divisors say that a quarter turns. Without divisors every angle does, as with 1 for all."""
    quarter = with_divisors(dense, [1.0] * 8 + [1e30] * 24).write(tmp_path / "quarter")
    assert np.array_equal(load(quarter).logits(IDS), dense_logits)
    whole = load(with_divisors(dense, [1.0] * 32).write(tmp_path / "whole")).logits(IDS)
    without = load(dense.without("rope_freqs.weight").write(tmp_path / "without")).logits(IDS)
    assert np.array_equal(whole, without)
    assert np.abs(whole - dense_logits).max() > 0.1
    more = load(with_divisors(dense, [1.0] * 9 + [1e30] * 23).write(tmp_path / "more")).logits(IDS)
    assert np.abs(more - dense_logits).max() > 0.01


@pytest.mark.parametrize("values", [[1.0] * 8 + [2.0] * 24, [1e30] * 8 + [1.0] * 24, [1.0] * 31 + [float("nan")]])
def test_other_divisors_of_angles(tmp_path, dense, values):
    path = with_divisors(dense, values).write(tmp_path / "a.gguf")
    with pytest.raises(gemmule.UnsupportedError, match="other divisors") as error:
        load(path)
    assert (error.value.file, error.value.tensor) == (str(path), "rope_freqs.weight")


def test_wrong_number_of_divisors(tmp_path, dense):
    with pytest.raises(gemmule.FormatError, match=r"\[32\].*\[16\]") as error:
        load(with_divisors(dense, [1.0] * 16).write(tmp_path / "a.gguf"))
    assert error.value.tensor == "rope_freqs.weight"


def test_a_pattern_of_full_layers_alone(tmp_path, dense):
    """Then nothing of the sliding layers' keys is asked for."""
    tensors = [t for t in dense.tensors if not t.name.startswith("blk.") or t.name.startswith("blk.2.")]
    only = replace(dense, tensors=[replace(t, name=t.name.replace("blk.2.", "blk.0.")) for t in tensors]).with_keys(
        gemma4__block_count=(U32, 1),
        gemma4__attention__sliding_window_pattern=(ARRAY, Array(BOOL, [False])),
        gemma4__attention__head_count_kv=(U32, 1),
        gemma4__attention__key_length_swa=None,
        gemma4__rope__freq_base_swa=None,
    )
    assert np.isfinite(load(only.write(tmp_path / "a.gguf")).logits(IDS)).all()


def test_text_needs_a_tokenizer(tmp_path, dense):
    model = load(dense.with_keys(tokenizer__ggml__tokens=None).write(tmp_path / "a.gguf"))
    assert model.tokenizer is None
    with pytest.raises(gemmule.UnsupportedError, match="token ids only"):
        model.generate("Once")


def test_a_file_without_a_chat_template_has_no_room_for_one(tmp_path, dense):
    path = dense.with_keys(tokenizer__chat_template=None).write(tmp_path / "a.gguf")
    with pytest.raises(gemmule.UnsupportedError, match="no chat template") as caught:
        load(path).chat()
    assert "folder that gemmule convert makes" in caught.value.remedy


def test_a_chat_template_without_thinking_in_a_file(tmp_path, dense):
    template = (STRING, "{{ messages[0].content }}")
    path = dense.with_keys(tokenizer__chat_template=template).write(tmp_path / "a.gguf")
    with pytest.raises(gemmule.UnsupportedError, match="no switch for thinking") as caught:
        load(path).chat(thinking=True)
    assert caught.value.file == str(path)
    assert "folder that gemmule convert makes" in caught.value.remedy


@pytest.mark.parametrize("kind", [U8, I8, I16, U32, I64, U64])
def test_token_types_of_any_integer_type(tmp_path, dense, kind):
    types = dense.keys["tokenizer.ggml.token_type"][1].items
    path = dense.with_keys(tokenizer__ggml__token_type=(ARRAY, Array(kind, types))).write(tmp_path / "a.gguf")
    tokenizer, want = load(path).tokenizer, load(DENSE).tokenizer
    for id in range(tokenizer.vocab_size):
        assert tokenizer.has_text(id) == want.has_text(id)


@pytest.mark.parametrize("kind", [U16, I32, U64, F64])
def test_a_softcap_of_any_type(tmp_path, dense, dense_logits, kind):
    path = dense.with_keys(gemma4__final_logit_softcapping=(kind, 30)).write(tmp_path / "a.gguf")
    assert np.array_equal(load(path).logits(IDS), dense_logits)


def test_a_softcap_of_zero_is_none(tmp_path, dense):
    path = dense.with_keys(gemma4__final_logit_softcapping=(F32, 0.0)).write(tmp_path / "a.gguf")
    none = dense.with_keys(gemma4__final_logit_softcapping=None).write(tmp_path / "b.gguf")
    assert np.array_equal(load(path).logits(IDS), load(none).logits(IDS))


def test_positions_that_are_not_stretched(tmp_path, dense, dense_logits):
    path = dense.with_keys(gemma4__rope__scaling__type=(STRING, "none")).write(tmp_path / "a.gguf")
    assert np.array_equal(load(path).logits(IDS), dense_logits)


def test_unused_and_unknown_tokens(tmp_path, dense):
    types = [*dense.keys["tokenizer.ggml.token_type"][1].items[:-2], 2, 5]
    path = dense.with_keys(tokenizer__ggml__token_type=(ARRAY, Array(I32, types))).write(tmp_path / "a.gguf")
    tokenizer = load(path).tokenizer
    assert [tokenizer.has_text(id) for id in (638, 639)] == [False, True]


@pytest.mark.parametrize("kind", [F32, F64])
def test_scores_of_any_float_type(tmp_path, dense, kind):
    """Merges by score: "he" comes before "th"."""
    tokens = dense.keys["tokenizer.ggml.tokens"][1].items
    scores = [{"he": -1.0, "th": -2.0}.get(token, -3.0) for token in tokens]
    path = dense.with_keys(
        tokenizer__ggml__model=(STRING, "llama"), tokenizer__ggml__scores=(ARRAY, Array(kind, scores))
    ).write(tmp_path / "a.gguf")
    ids = load(path).tokenizer.encode("the", add_special_tokens=False)
    assert [tokens[id] for id in ids] == ["t", "he"]


def test_text_from_the_metadata():
    """The tokenizer in the file is the one of the folder it was made from."""
    tokenizer = gemmule.load(E2B).tokenizer
    assert tokenizer is not None
    for case in json.loads((FIXTURES / "tokenizer" / "strings.json").read_text()):
        assert tokenizer.encode(case["text"]) == case["ids"]
        assert tokenizer.decode(case["ids"]) == case["decoded"]
        assert tokenizer.decode(case["ids"], skip_special_tokens=True) == case["decoded_skip"]
