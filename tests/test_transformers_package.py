"""Tiny random models that transformers saves itself, one of each published structure: the same logits."""

import numpy as np
import pytest

import gemmule

WHY = "the extra `oracle` is not installed"
torch = pytest.importorskip("torch", reason=WHY)
transformers = pytest.importorskip("transformers", reason=WHY)

pytestmark = pytest.mark.filterwarnings("ignore")  # of the packages
torch.set_num_threads(1)  # the models are tiny

SLIDING, FULL = "sliding_attention", "full_attention"

SMALL = {
    "vocab_size": 640,
    "vocab_size_per_layer_input": 640,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "head_dim": 32,
    "global_head_dim": 64,
    "sliding_window": 16,
    "hidden_size_per_layer_input": 0,
    "final_logit_softcapping": 30.0,
    "max_position_embeddings": 1024,
}
K_EQ_V = {"attention_k_eq_v": True, "num_key_value_heads": 4, "num_global_key_value_heads": 2}
K_EQ_V |= {"use_bidirectional_attention": "vision", "layer_types": ([SLIDING] * 5 + [FULL]) * 2}
EXPERTS = {"enable_moe_block": True, "num_experts": 8, "top_k_experts": 2, "moe_intermediate_size": 32}

# Size -> fields of the text config.
TEXTS = {
    "E2B": {
        "hidden_size_per_layer_input": 32,
        "num_key_value_heads": 1,
        "num_kv_shared_layers": 4,
        "use_double_wide_mlp": True,
        "layer_types": ([SLIDING] * 3 + [FULL]) * 2,
    },
    "E4B": {
        "hidden_size_per_layer_input": 32,
        "num_key_value_heads": 2,
        "num_kv_shared_layers": 3,
        "layer_types": ([SLIDING] * 2 + [FULL]) * 3,
    },
    "12B": K_EQ_V,
    "26B-A4B": K_EQ_V | EXPERTS,
    "31B": K_EQ_V,
}


def random_model(size: str):
    """Values of which none is dead; 12B, whose towers can be small, has them."""
    text = SMALL | {"num_hidden_layers": len(TEXTS[size]["layer_types"])} | TEXTS[size]
    if size == "12B":
        text = {key: value for key, value in text.items() if "per_layer" not in key}
        config = transformers.Gemma4UnifiedConfig(
            text_config=text,
            vision_config={"patch_size": 2, "mm_embed_dim": 64, "mm_posemb_size": 8},
            audio_config={"audio_embed_dim": 32},
        )
        model = transformers.Gemma4UnifiedForConditionalGeneration(config)
    else:
        config = transformers.Gemma4Config(text_config=text, vision_config=None, audio_config=None)
        model = transformers.Gemma4ForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(0)
    for value in [*model.parameters(), *model.buffers()]:
        noise = torch.randn(value.shape, generator=generator)
        if value.dim() >= 2:
            value.data = noise / value.shape[-1] ** 0.5
        elif value.is_floating_point() and value.dim() == 1 and value.numel() > 1:
            value.data = 1 + 0.1 * noise
    model.model.language_model.norm.weight.data *= 5
    return model.to(torch.bfloat16)


@pytest.mark.parametrize("size", TEXTS)
@pytest.mark.parametrize("whole", [True, False])
def test_saved_models(tmp_path, size, whole):
    """With towers' names and as a text model alone; the reference computes in float32 on the same bfloat16 weights."""
    saved = random_model(size)
    saved.save_pretrained(tmp_path / "saved")
    reference = type(saved).from_pretrained(tmp_path / "saved", dtype=torch.float32).eval()
    folder = tmp_path / "saved"
    if not whole:
        causal = "Gemma4UnifiedForCausalLM" if size == "12B" else "Gemma4ForCausalLM"
        text = getattr(transformers, causal)(reference.config.text_config)
        text.model.load_state_dict(reference.model.language_model.state_dict())
        text.tie_weights()
        folder = tmp_path / "text"
        text.to(torch.bfloat16).save_pretrained(folder)
    ids = np.random.default_rng(0).integers(3, 600, 60).astype(np.int32)
    with torch.no_grad():
        want = reference(input_ids=torch.tensor(ids[None]).long()).logits[0].numpy()
    model = gemmule.load(folder, kv="float32")
    assert model.info["unknown_tensors"] == []
    assert want.std() > 3
    assert np.abs(model.logits(ids) - want).max() <= 2e-3
