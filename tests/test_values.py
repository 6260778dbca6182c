"""Numbers at the ends: NaN and infinity in weights and scales, rows and blocks of zeros, activations beyond a static
range, sampling with every extreme of its parameters."""

import itertools
import shutil

import numpy as np
import pytest

import gemmule
import hostile_gguf
from checkpoints import make_checkpoint, write_safetensors
from compressed_folders import grouped
from gemmule import _core
from gemmule.reference import Reference, read_folder
from gguf_models import make_gguf
from golden_cases import FIXTURES
from hostile_gguf import TYPES

PREFIX = "model.language_model."
IDS = np.arange(3, 40, dtype=np.int32)
ODD = [np.nan, np.inf, -np.inf]
HISTORY = np.zeros(0, np.int32)
# Rows of whole blocks, whatever the type.
OF_256 = {
    "hidden_size": 256,
    "intermediate_size": 256,
    "head_dim": 64,
    "global_head_dim": 64,
    "hidden_size_per_layer_input": 0,
}
NONE = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0, "seed": 5}


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("values") / "mobile", mobile=True, tie_word_embeddings=False)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("values") / "plain", dtype="F32")


def spoiled(source, folder, *names, change):
    """A copy of a folder with some tensors changed; what was bfloat16 is float32."""
    shutil.copytree(source, folder)
    tensors = read_folder(folder)
    for name in names:
        tensors[name] = change(tensors[name].copy())
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def put(place, value):
    def change(x):
        x[place] = value
        return x

    return change


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize(
    "name",
    [
        "norm.weight",
        "layers.0.input_layernorm.weight",
        "layers.1.self_attn.q_norm.weight",
        "per_layer_projection_norm.weight",
    ],
)
def test_norms_are_looked_at(plain, tmp_path, name, value):
    folder = spoiled(plain, tmp_path / "a", PREFIX + name, change=put(3, value))
    with pytest.raises(gemmule.FormatError, match=r"not a finite number.*as element 3") as error:
        gemmule.load(folder)
    assert error.value.tensor == PREFIX + name
    assert error.value.file == str(folder / "model.safetensors")


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize(
    "name", ["layers.0.self_attn.q_proj.weight_scale", "layers.3.mlp.down_proj.weight_scale", "lm_head.weight_scale"]
)
def test_scales_of_rows_are_looked_at(mobile, tmp_path, name, value):
    """Behind a rounding to a static scale nobody could see them."""
    stored = name if name.startswith("lm_head") else PREFIX + name
    damaged = spoiled(mobile, tmp_path / "a", stored, change=put((7, 0), value))
    with pytest.raises(gemmule.FormatError, match="as element 7") as error:
        gemmule.load(damaged)
    assert error.value.tensor == stored


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("kind", ["plain", "mobile"])
@pytest.mark.parametrize("table", ["embed_tokens", "embed_tokens_per_layer"])
def test_rows_of_tables_are_looked_at(kind, table, value, tmp_path, request):
    """Of the tokens that a text has, and only those."""
    name = f"{PREFIX}{table}." + ("embedding_scale" if kind == "mobile" else "weight")
    folder = spoiled(request.getfixturevalue(kind), tmp_path / "a", name, change=put((5, 0), value))
    model = gemmule.load(folder)
    assert np.isfinite(model.logits([7, 8])[:, 6:]).all()
    with pytest.raises(gemmule.FormatError, match="in row 5") as error:
        model.logits([7, 5])
    assert error.value.tensor == PREFIX + table
    assert error.value.file == str(folder / "model.safetensors")
    assert np.isfinite(model.logits([7, 8])[:, 6:]).all()  # the model can be used as before


# The best instruction set and the last, which has no float16 of its own on x86-64; a sanitized build may have one.
TARGETS = gemmule._core.testing.targets()


@pytest.fixture(params=list(dict.fromkeys([TARGETS[0], TARGETS[-1]])))
def any_target(request):
    gemmule._core.testing.set_target(request.param)
    yield
    gemmule._core.testing.set_target(None)


def spoiled_gguf(path, type, value, folder):
    """With the scale of the first block of a matrix set."""
    file = hostile_gguf.read(path)
    half = np.float16(value).tobytes()
    place = {"Q6_K": 208}.get(type, 0)
    number = TYPES[type][0]
    for each in file.tensors:
        if each.name == "blk.0.ffn_down.weight":
            assert each.type == number
            data = each.data[:place] + half + each.data[place + 2 :]
            each = hostile_gguf.Tensor(each.name, each.dims, each.type, data)
            file.tensors = [each if old.name == each.name else old for old in file.tensors]
    return file.write(folder / "model.gguf")


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("activations", ["float32", "int8"])
@pytest.mark.parametrize("type", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"])
def test_scales_of_blocks_reach_the_logits(tmp_path, type, activations, value, any_target):
    """NaN or infinity in one block: no crash, no ordinary numbers, and no token is drawn."""
    path = make_gguf(tmp_path, matrices=type, **OF_256)
    model = gemmule.load(spoiled_gguf(path, type, value, tmp_path), activations=activations)
    assert not np.isfinite(model.logits(IDS)[-1]).any()
    for temperature in (0.0, 1.0):
        with pytest.raises(gemmule.GemmuleError, match="damaged"):
            model.generate(IDS, max_tokens=4, temperature=temperature)
    assert np.isnan(gemmule.perplexity(model, IDS, window=16).mean_nll)


@pytest.mark.parametrize("value", ODD)
def test_a_weight_that_is_not_finite_reaches_the_logits(plain, tmp_path, value):
    folder = spoiled(plain, tmp_path / "a", PREFIX + "layers.1.mlp.up_proj.weight", change=put((0, 0), value))
    model = gemmule.load(folder)
    assert not np.isfinite(model.logits(IDS)[-1]).any()
    with pytest.raises(gemmule.GemmuleError, match="damaged"):
        model.generate(IDS, max_tokens=4)


@pytest.mark.parametrize("kv", ["float32", "static"])
@pytest.mark.parametrize("activations", ["auto", "float32"])
def test_nan_is_not_rounded_to_a_number(mobile, tmp_path, activations, kv):
    """Behind the one matrix of floats of a mobile checkpoint, all that follows is rounded to static scales."""
    name = PREFIX + "per_layer_model_projection.weight"
    folder = spoiled(mobile, tmp_path / "a", name, change=put(slice(0, 32), np.nan))
    model = gemmule.load(folder, activations=activations, kv=kv)
    assert np.isnan(model.logits(IDS)).all()
    with pytest.raises(gemmule.GemmuleError, match="damaged"):
        model.generate(IDS, max_tokens=4)


@pytest.mark.parametrize("value", ODD)
def test_a_router_that_is_not_finite(tmp_path, value):
    """The experts are chosen by comparing its numbers."""
    folder = make_checkpoint(
        tmp_path / "moe",
        dtype="F32",
        enable_moe_block=True,
        num_experts=8,
        top_k_experts=2,
        moe_intermediate_size=32,
        hidden_size_per_layer_input=0,
        num_kv_shared_layers=0,
        use_double_wide_mlp=False,
    )
    damaged = spoiled(folder, tmp_path / "a", PREFIX + "layers.0.router.proj.weight", change=put((2, 0), value))
    model = gemmule.load(damaged)
    for _ in range(3):
        model.logits(IDS)  # whatever it is: it comes back


@pytest.mark.parametrize("kind", ["plain", "mobile", "w4a16"])
def test_rows_of_zeros(kind, tmp_path, mobile, plain):
    """A token whose embedding is zeros, and a matrix with rows of zeros: as the reference has it."""
    source = mobile if kind == "mobile" else plain
    what = ["embed_tokens.embedding_scale", "layers.0.mlp.down_proj.weight_scale"]
    if kind != "mobile":
        what = ["embed_tokens.weight", "layers.0.mlp.down_proj.weight"]
    folder = spoiled(source, tmp_path / "a", *(PREFIX + name for name in what), change=put(slice(3, 9), 0.0))
    ids = np.array([5, 5, 7, 20, 5], np.int32)
    want = Reference(folder).logits(ids)
    if kind == "w4a16":
        with np.errstate(invalid="ignore"):  # 0 / 0
            folder = grouped(folder, tmp_path / "b")
    got = gemmule.load(folder, kv="float32", activations="float32").logits(ids)
    assert np.isfinite(got).all()
    if kind == "plain":
        assert np.abs(got - want).max() < 2e-3


@pytest.mark.parametrize("type", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"])
@pytest.mark.parametrize("activations", ["float32", "int8"])
def test_blocks_of_zeros(tmp_path, type, activations):
    """A model of nothing else: every activation behind a matrix is 0, and every token as likely as the next."""
    path = make_gguf(tmp_path, matrices=type, tables=type, **OF_256)
    file = hostile_gguf.read(path)
    matrices = [each for each in file.tensors if each.type == TYPES[type][0]]
    assert len(matrices) > 10
    file.tensors = [
        hostile_gguf.Tensor(each.name, each.dims, each.type, bytes(len(each.data))) if each in matrices else each
        for each in file.tensors
    ]
    logits = gemmule.load(file.write(tmp_path / "zeros.gguf"), activations=activations).logits(IDS)
    assert (logits == 0).all()


@pytest.mark.parametrize("factor", [1e-3, 1e-30, 2.0**-149])
def test_activations_beyond_the_static_range_saturate(mobile, tmp_path, factor):
    """Far too small a scale of inputs: all that is rounded is at an end of its range, as in the reference."""
    names = [PREFIX + f"layers.{name}" for name in ("0.self_attn.q_proj", "1.mlp.gate_proj", "0.per_layer_projection")]
    scales = [f"{name}.input_activation_scale" for name in names]
    least = np.float32(2.0**-149)
    folder = spoiled(
        mobile, tmp_path / "a", *scales, change=lambda scale: np.maximum(scale * np.float32(factor), least)
    )
    reference = Reference(folder)
    for activations in ("auto", "float32"):
        core = gemmule.load(folder, activations=activations)._core
        for name in names:
            module = reference.linear(name, 32 if "per_layer" in name else 64)
            for x in beyond(module.weight.shape[1]):
                want = module.before_output_rounding(x.astype(np.float64))
                got = _core.testing.linear(core, name, x)
                assert np.isfinite(got).all()
                # Rounded to the output's grid, half a step away; and at its ends.
                ends = np.clip(want, -128 * module.output_scale, 127 * module.output_scale)
                assert np.abs(got - ends).max() <= 0.501 * module.output_scale + 1e-5 * np.abs(ends).max(), name


def beyond(columns: int) -> list[np.ndarray]:
    """Rows of inputs (3, columns): of both signs, up to the largest float and infinity."""
    random = np.random.default_rng(0)
    rows = []
    for size in (1.0, 1e6, 1e30, np.finfo(np.float32).max, np.inf):
        signs = np.where(random.random((3, columns)) < 0.5, -1.0, 1.0)
        rows.append((signs * size).astype(np.float32))
    return rows


EXTREMES = {
    "temperature": [5e-324, 1e-300, 1e-40, 1e-10, 1e10, 1e300, np.finfo(np.float64).max],
    "top_k": [1, 2, 2**31 - 1, 2**63 - 1],
    "top_p": [5e-324, 1e-300, 1e-17, 1 - 2**-53, 1.0],
    "min_p": [5e-324, 1e-300, 1 - 2**-53, 1.0],
    "repetition_penalty": [5e-324, 1e-300, 1e-45, 1e-38, 1e38, 1e39, 1e300, np.finfo(np.float64).max],
    "seed": [0, 1, 2**32, 2**63, 2**64 - 1],
}
TINY, LARGE = np.float32(2.0**-149), np.finfo(np.float32).max
LOGITS = {
    "one": [1.5],
    "one that is the least": [-LARGE],
    "alike": [0.0] * 70,
    "the largest": [LARGE, -LARGE, 0.0],
    "two of the largest": [LARGE, LARGE, -LARGE],
    "the smallest": [TINY, -TINY, 0.0],
    "holes": [np.nan, 1.0, -np.inf, 1.0, np.nan],
    "a hole at each side": [-np.inf, 3.0, -np.inf],
}


def draws(logits, history=HISTORY, **options) -> set[int]:
    sampler = _core.Sampler(**NONE | options)
    return {sampler.sample(np.array(logits, np.float32), history) for _ in range(40)}


@pytest.mark.parametrize("logits", LOGITS.values(), ids=LOGITS.keys())
def test_extremes_of_sampling(logits):
    """Alone and in pairs: a token that can be drawn is, and no other."""
    x = np.array(logits, np.float32)
    possible = set(np.flatnonzero(np.isfinite(x)).tolist())
    best = set(np.flatnonzero(x == np.nanmax(x)).tolist())
    history = np.arange(len(x), dtype=np.int32)
    settings = [(key, value) for key, values in EXTREMES.items() for value in values]
    for first, second in itertools.combinations(settings, 2):
        options = dict([first, second])
        drawn = draws(logits, history, **options)
        assert drawn <= possible, options
        cold = options.get("temperature", 1.0) < 1e-200
        if (cold or options.get("top_k") == 1) and "repetition_penalty" not in options:
            assert drawn <= best, options
        if options.get("top_k") == 1 or options.get("top_p", 1) < 1e-200:
            assert len(drawn) == 1, options


def test_the_largest_min_p_leaves_the_best():
    assert draws([1.0, 3.0, 3.0, 2.0], min_p=1.0) == {1, 2}
    assert draws([1.0, 3.0, 3.0, 2.0], min_p=1.0, top_p=1e-300) == {1}


def test_a_penalty_beyond_float32_orders_as_a_large_one():
    """What was said last falls behind all that was not, or comes before it; nothing becomes NaN."""
    logits, history = [2.0, 1.0, -1.0, 0.0], np.array([0, 2], np.int32)
    assert draws(logits, history, repetition_penalty=1e300, top_k=1) == {1}
    assert draws(logits, history, repetition_penalty=1e-300, top_k=1) == {0}
    assert draws([0.0, 0.0], np.array([0], np.int32), repetition_penalty=1e300) == {0, 1}
    assert draws([0.0, 0.0], np.array([0], np.int32), repetition_penalty=1e-300) == {0, 1}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in ("temperature", "top_p", "min_p", "repetition_penalty") for value in (-1.0, *ODD)]
    + [("top_p", 0.0), ("top_p", 1.1), ("min_p", 1.1), ("repetition_penalty", 0.0)],
)
def test_parameters_out_of_range(name, value):
    with pytest.raises(gemmule.ArgumentError, match=name):
        _core.Sampler(**NONE | {name: value})


def test_logits_of_the_fixtures_are_finite():
    for name in ("e2b", "mobile", "ct_w4a16"):
        assert np.isfinite(gemmule.load(FIXTURES / name).logits(IDS)).all()
