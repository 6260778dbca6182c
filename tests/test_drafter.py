"""The compiled drafter against golden values and the numpy one; which drafters are refused."""

import shutil

import numpy as np
import pytest

import gemmule
from checkpoints import E4B_MOBILE, FULL, SLIDING, make_checkpoint
from drafter_folders import make_drafter
from gemmule.checkpoints.drafters import find, published
from gemmule.reference import Reference, ReferenceDrafter, draft
from golden_cases import DRAFTER_FIXTURES, FIXTURES, draft_calls, read_case

_core = gemmule._core

# As for the model's own logits: case.json.
LOGIT_BOUND = 2e-3
VECTOR_BOUND = 1e-3


def loaded(folder, drafter, kv="float32"):
    """The target, and a drafter for sequences of it."""
    core = _core.Model.load(str(folder), 0, 0, "auto", kv)
    return core, _core.Drafter(_core.DraftModel.load(str(drafter), core, "auto"))


@pytest.mark.parametrize("name", DRAFTER_FIXTURES)
def test_recorded_steps(name):
    """Drafts behind the prompt and, where no rejected draft was seen then, behind the first round."""
    case = read_case(name)
    core, drafter = loaded(FIXTURES / "e2b", case.folder)
    said = np.concatenate([case.ids, case.golden["assisted_ids"]]).astype(np.int32)
    seen = 0
    for call in draft_calls(case):
        if call.position != len(case.ids) and case.facts["accepted_per_round"][1] < case.facts["num_assistant_tokens"]:
            continue
        decoder = _core.Decoder(core)
        decoder.prefill(said[: call.position])
        logits, vector = _core.testing.draft_step(drafter, decoder, call.inputs)
        assert np.abs(logits - call.logits).max() <= LOGIT_BOUND
        assert np.abs(vector - call.vector).max() <= VECTOR_BOUND
        seen += 1
    assert seen == {"mtp": 8, "mtp_ordered": 4}[name]


@pytest.mark.parametrize("name", DRAFTER_FIXTURES)
def test_accepted_drafts(name):
    case = read_case(name)
    core, drafter = loaded(FIXTURES / "e2b", case.folder)
    decoder = _core.Decoder(core)
    said = [int(np.argmax(decoder.prefill(case.ids)))]
    accepted = [0]
    while len(said) < len(case.golden["plain_ids"]):
        drafts = drafter.draft(decoder, said[-1], 4)
        rows = decoder.logits(np.array([said[-1], *drafts], np.int32)).argmax(axis=1).tolist()
        agreed = [ours == theirs for ours, theirs in zip(drafts, rows, strict=False)]
        accepted.append((*agreed, False).index(False))
        said += rows[: accepted[-1] + 1]
        assert decoder.rewind(len(case.ids) + len(said) - 1)
    assert said[: len(case.golden["plain_ids"])] == case.golden["plain_ids"].tolist()
    assert accepted == case.facts["accepted_per_round"]


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 18, 63, 64, 65, 96])
@pytest.mark.parametrize("name", DRAFTER_FIXTURES)
def test_drafts_are_those_of_the_reference(name, length):
    """Around the window, and with fewer keys than it."""
    case = read_case(name)
    ids = np.concatenate([case.ids[:length], [7]])
    core, drafter = loaded(FIXTURES / "e2b", case.folder)
    decoder = _core.Decoder(core)
    decoder.prefill(case.ids[:length])
    want = draft(Reference(FIXTURES / "e2b", np.float32), ReferenceDrafter(case.folder, np.float32), ids, 5)
    assert drafter.draft(decoder, 7, 5) == want


SHAPES = {
    "e2b": {},
    "groups, k_eq_v, no sharing": {
        "attention_k_eq_v": True,
        "num_key_value_heads": 4,
        "num_global_key_value_heads": 2,
        "hidden_size_per_layer_input": 0,
        "num_kv_shared_layers": 0,
        "sliding_window": 5,
    },
    "mobile": {"mobile": True, **E4B_MOBILE},
}


@pytest.mark.parametrize("ordered", [False, True], ids=["dense", "ordered"])
@pytest.mark.parametrize("shape", SHAPES)
def test_other_shapes(tmp_path, shape, ordered):
    target = make_checkpoint(tmp_path / "target", seed=3, **SHAPES[shape])
    config = _core.Model.load(str(target), 0, 0, "auto", "auto").info["config"]
    folder = make_drafter(tmp_path / "drafter", config, ordered=ordered, unified=shape.startswith("groups"))
    ids = np.random.default_rng(1).integers(3, 160, 40).astype(np.int32)
    core, drafter = loaded(target, folder)
    decoder = _core.Decoder(core)
    decoder.prefill(ids[:-1])
    want = draft(Reference(target, np.float32), ReferenceDrafter(folder, np.float32), ids, 4)
    assert drafter.draft(decoder, int(ids[-1]), 4) == want


def test_info():
    core = gemmule.load(FIXTURES / "e2b", mtp=FIXTURES / "mtp_ordered")
    info = core.info["drafter"]
    assert info["model_type"] == "gemma4_assistant"
    assert info["unknown_tensors"] == []
    tensors = read_case("mtp_ordered").folder / "model.safetensors"
    sizes = {name: tensor.size for name, tensor in gemmule.reference.read_file(tensors).items()}
    assert info["parameters"] == sum(sizes.values()) - sizes["masked_embedding.token_ordering"]
    assert info["weight_bytes"] == 2 * info["parameters"] + 8 * 640  # and the order of the tokens
    assert gemmule.load(FIXTURES / "e2b").info["drafter"] is None


# When a draft can be made


def test_a_draft_follows_logits():
    """Of the last token, or of later ones that were taken back."""
    case = read_case("mtp")
    core, drafter = loaded(FIXTURES / "e2b", case.folder)
    decoder = _core.Decoder(core)
    with pytest.raises(gemmule.ArgumentError, match="nothing can be drafted"):
        drafter.draft(decoder, 5, 1)
    decoder.prefill(case.ids[:40])
    want = drafter.draft(decoder, 5, 4)
    decoder.logits(np.arange(5, 13, dtype=np.int32))
    assert decoder.rewind(40)
    assert decoder.rewind(40)
    with pytest.raises(gemmule.ArgumentError, match="nothing can be drafted"):
        drafter.draft(decoder, 5, 1)  # of position 39 nothing is kept by now
    decoder = _core.Decoder(core)
    decoder.prefill(case.ids[:38])
    decoder.logits(np.concatenate([case.ids[38:40], np.arange(5, 13, dtype=np.int32)]))
    assert decoder.rewind(40)
    assert drafter.draft(decoder, 5, 4) == want
    twin = decoder.fork()
    _core.Batch(core).step([decoder], np.array([5], np.int32))
    twin.prefill(np.array([5], np.int32))
    assert drafter.draft(decoder, 6, 4) == drafter.draft(twin, 6, 4)


def test_wrong_arguments():
    case = read_case("mtp")
    core, drafter = loaded(FIXTURES / "e2b", case.folder)
    other = _core.Decoder(_core.Model.load(str(FIXTURES / "e2b"), 0, 0, "auto", "float32"))
    other.prefill(case.ids)
    with pytest.raises(gemmule.ArgumentError, match="another model"):
        drafter.draft(other, 5, 1)
    decoder = _core.Decoder(core)
    decoder.prefill(case.ids)
    for token in (-1, 640):
        with pytest.raises(gemmule.ArgumentError, match="outside the vocabulary"):
            drafter.draft(decoder, token, 1)
    assert drafter.draft(decoder, 5, 0) == []


# Which drafters are refused


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("backbone_hidden_size", {"whole": {"backbone_hidden_size": 128}}),
        ("vocab_size", {"changed": {"vocab_size": 320}}),
        ("head_dim", {"changed": {"head_dim": 16}}),
        ("head_dim", {"changed": {"per_layer_config": {"3": {"head_dim": 32}}}}),
        ("num_key_value_heads", {"changed": {"num_key_value_heads": 2}}),
        ("sliding_window", {"changed": {"sliding_window": 32}}),
    ],
)
def test_of_another_size(tmp_path, name, changes):
    config = gemmule.load(FIXTURES / "e2b").info["config"]
    changes.setdefault("changed", {}).setdefault("per_layer_config", {"3": {"head_dim": 64}})
    folder = make_drafter(tmp_path, config, **changes)
    with pytest.raises(gemmule.UnsupportedError, match="made for another model") as error:
        gemmule.load(FIXTURES / "e2b", mtp=folder)
    assert error.value.tensor == name
    assert error.value.file == str(folder / "config.json")
    assert error.value.expected
    assert error.value.found


def test_of_another_model():
    for target in ("dense", "e4b", "moe"):
        with pytest.raises(gemmule.UnsupportedError, match="made for another model"):
            gemmule.load(FIXTURES / target, mtp=FIXTURES / "mtp")


def test_of_a_model_with_other_types_of_layers(tmp_path):
    """Its sliding layers have no keys to read."""
    model = make_checkpoint(tmp_path / "model", layer_types=[FULL, FULL], num_kv_shared_layers=0)
    config = gemmule.load(model).info["config"]
    folder = make_drafter(
        tmp_path / "drafter",
        config | {"rope_sliding": config["rope_full"]},
        changed={"layer_types": [SLIDING, SLIDING, SLIDING, FULL]},
    )
    with pytest.raises(gemmule.UnsupportedError, match="made for another model") as error:
        gemmule.load(model, mtp=folder)
    assert error.value.tensor == "layer_types"


def test_what_is_no_drafter(tmp_path):
    with pytest.raises(gemmule.UnsupportedError, match="no drafter"):
        gemmule.load(FIXTURES / "e2b", mtp=FIXTURES / "e2b")
    with pytest.raises(gemmule.UnsupportedError, match="single files"):
        gemmule.load(FIXTURES / "e2b", mtp=next((FIXTURES / "gguf_e2b").glob("*.gguf")))
    with pytest.raises(gemmule.MissingFileError):
        gemmule.load(FIXTURES / "e2b", mtp=tmp_path / "none")
    with pytest.raises(gemmule.MissingFileError):
        gemmule.load(FIXTURES / "e2b", mtp=tmp_path)
    with pytest.raises(gemmule.UnsupportedError, match="mtp= this"):
        gemmule.load(FIXTURES / "mtp")


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"whole": {"use_ordered_embeddings": 1}}, gemmule.FormatError, "use_ordered_embeddings"),
        ({"whole": {"num_centroids": 17}}, gemmule.FormatError, "num_centroids"),
        ({"whole": {"centroid_intermediate_top_k": 17}}, gemmule.FormatError, "centroid_intermediate_top_k"),
        ({"changed": {"hidden_size_per_layer_input": 8}}, gemmule.UnsupportedError, "hidden_size_per_layer_input"),
        ({"changed": {"enable_moe_block": True}}, gemmule.UnsupportedError, "enable_moe_block"),
        ({"changed": {"num_kv_shared_layers": 5}}, gemmule.FormatError, "num_kv_shared_layers"),
        ({"tensors": {"pre_projection.weight": None}}, gemmule.FormatError, r"pre_projection\.weight"),
        ({"tensors": {"post_projection.weight": np.zeros((8, 8), np.float32)}}, gemmule.FormatError, "post_projection"),
        ({"tensors": {"masked_embedding.token_ordering": None}}, gemmule.FormatError, "token_ordering"),
        (
            {"tensors": {"masked_embedding.token_ordering": np.arange(640, dtype=np.int32)}},
            gemmule.FormatError,
            "token_ordering.*I64",
        ),
        (
            {"tensors": {"masked_embedding.token_ordering": np.arange(1, 641)}},
            gemmule.FormatError,
            "outside the vocabulary",
        ),
        (
            {"tensors": {"masked_embedding.token_ordering": np.arange(-1, 639)}},
            gemmule.FormatError,
            "outside the vocabulary",
        ),
    ],
)
def test_broken(tmp_path, changes, error, words):
    config = gemmule.load(FIXTURES / "e2b").info["config"]
    folder = make_drafter(tmp_path, config, ordered=True, **changes)
    with pytest.raises(error, match=words):
        gemmule.load(FIXTURES / "e2b", mtp=folder)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("name", ["pre_projection.weight", "masked_embedding.centroids.weight"])
def test_weights_that_are_no_numbers(tmp_path, ordered, name):
    """NaN in the head's scores: an error or other drafts, no crash."""
    model = gemmule.load(FIXTURES / "e2b")
    config = model.info["config"]
    good = gemmule.reference.read_file(make_drafter(tmp_path / "good", config, ordered=True) / "model.safetensors")
    folder = make_drafter(tmp_path / "bad", config, ordered=ordered, tensors={name: np.full_like(good[name], np.nan)})
    core, drafter = loaded(FIXTURES / "e2b", folder)
    decoder = _core.Decoder(core)
    decoder.prefill(np.arange(3, 20, dtype=np.int32))
    if name == "pre_projection.weight":
        with pytest.raises(gemmule.FormatError, match="no numbers"):
            drafter.draft(decoder, 5, 2)
    else:
        assert len(drafter.draft(decoder, 5, 2)) == 2


# Where "auto" looks


def test_published_names(tmp_path):
    assert published("google/gemma-4-E2B-it") == "google/gemma-4-E2B-it-assistant"
    assert published("google/gemma-4-26B-A4B-it-qat-q4_0-gguf:x.gguf") == "google/gemma-4-26B-A4B-it-assistant"
    assert published("someone/gemma-4-E4B-it-qat-mobile-transformers") == "google/gemma-4-E4B-it-assistant"
    for name in ("google/gemma-4-E2B", "google/gemma-4-E2B-italian", "google/gemma-3-4b-it", "./fairy", "org/model"):
        assert published(name) is None
    model = tmp_path / "gemma-4-E2B-it-qat-mobile-transformers"
    shutil.copytree(FIXTURES / "e2b", model)
    assert published(model) is None
    assert gemmule.load(model, mtp="auto").info["drafter"] is None
    shutil.copytree(FIXTURES / "mtp", tmp_path / "gemma-4-E2B-it-assistant")
    assert gemmule.load(model, mtp="auto").info["drafter"] is not None


def test_names_on_the_hub(monkeypatch, tmp_path):
    """The drafter comes from there with the access that was given for the model."""
    asked = []

    def locate(name, **options):
        asked.append((name, options))
        return FIXTURES / "mtp"

    monkeypatch.setattr("gemmule.checkpoints.hub.locate", locate)
    access = {"token": "t", "cache_dir": tmp_path, "local_files_only": True}
    assert find("auto", "google/gemma-4-E2B-it-qat-q4_0-gguf", **access) == FIXTURES / "mtp"
    assert find("someone/drafter", "someone/model", **access) == FIXTURES / "mtp"
    assert asked == [("google/gemma-4-E2B-it-assistant", access), ("someone/drafter", access)]
    assert find(None, "google/gemma-4-E2B-it", **access) is None
    assert len(asked) == 2
