"""The encoders' bytes against files that llama-quantize wrote from weights that we have."""

import re

import numpy as np
import pytest
from kernel_checks import testing

import hostile_gguf
from gemmule.reference import read_file
from golden_cases import FIXTURES

F32, Q4_0, Q8_0, BF16 = 0, 2, 8, 30  # GGUF's numbers of types

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "per_layer_input_gate": "inp_gate",
    "per_layer_projection": "proj",
}
OTHERS = {"embed_tokens": "token_embd", "embed_tokens_per_layer": "per_layer_token_embd"}


def name_in_gguf(name: str) -> str | None:
    """Of a matrix; None of what stays float in every file."""
    name = name.removeprefix("model.language_model.").removesuffix(".weight")
    layer = re.fullmatch(r"layers\.(\d+)\.(.*)", name)
    if layer:
        return f"blk.{layer[1]}.{NAMES[layer[2]]}.weight" if layer[2] in NAMES else None
    return f"{OTHERS[name]}.weight" if name in OTHERS else None


def e2b() -> dict[str, np.ndarray]:
    """Matrices of the bfloat16 checkpoint by their names in GGUF."""
    weights = {}
    for path in sorted((FIXTURES / "e2b").glob("model-*.safetensors")):
        weights |= {name_in_gguf(name): tensor for name, tensor in read_file(path).items()}
    del weights[None]
    return weights


def dense() -> dict[str, np.ndarray]:
    tensors = hostile_gguf.read(FIXTURES / "gguf_dense" / "model-BF16.gguf").tensors
    return {
        t.name: testing.decode_row(np.frombuffer(t.data, np.uint8), "bf16", None, t.dims[0] * t.dims[1]).reshape(
            t.dims[::-1]
        )
        for t in tensors
        if t.type == BF16
    }


@pytest.mark.parametrize(
    ("weights", "file", "matrices"),
    [
        (e2b, "gguf_e2b/model-Q4_0-pure.gguf", {Q4_0: 65}),
        (e2b, "gguf_e2b/model-Q4_0.gguf", {Q4_0: 63, Q8_0: 2}),
        (e2b, "gguf_e2b/model-Q8_0.gguf", {Q8_0: 65}),
        (dense, "gguf_dense/model-Q4_0.gguf", {Q4_0: 40, Q8_0: 1}),
    ],
)
def test_the_bytes_of_llama_quantize(target, weights, file, matrices):
    sources = weights()
    found = dict.fromkeys(matrices, 0)
    for tensor in hostile_gguf.read(FIXTURES / file).tensors:
        if tensor.type != F32:
            found[tensor.type] += 1
            encoding = {Q4_0: "q4_0", Q8_0: "q8_0"}[tensor.type]
            stored, _ = testing.encode(sources[tensor.name], "bf16", encoding, "llama")
            assert stored.tobytes() == bytes(tensor.data), tensor.name
    assert found == matrices
