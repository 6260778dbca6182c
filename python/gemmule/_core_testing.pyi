"""`gemmule._core.testing`: every kernel alone, for the project's own tests (numpy in, numpy out)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._core import Decoder, Drafter, Model, Tokenizer

F32 = NDArray[np.float32]
Scales = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.uint16]  # uint16: bfloat16

def targets() -> list[str]:
    """Instruction sets compiled in that this CPU has, best first: e.g. ["AVX3_DL", "AVX3", "AVX2", "SSE2"]."""

def set_target(name: str | None) -> None:
    """Kernels use this one from now on, in the whole process (None: the best)."""

def exp(x: F32) -> F32: ...
def rms_norm(x: F32, weight: F32 | None, eps: float) -> F32:
    """x (n,)."""

def rope(x: F32, cos: F32, sin: F32) -> F32:
    """x (d,); cos, sin (d/2,)."""

def gelu_mul(gate: F32, up: F32) -> F32:
    """gelu_tanh(gate) * up, (n,)."""

def round_to_grid(x: F32, scale: float) -> F32:
    """clamp(round_half_even(x / scale), -128, 127) * scale, (n,); scale 0: x."""

def softcap(x: F32, cap: float) -> F32:
    """cap * tanh(x / cap), (n,)."""

def sum_of_squares(x: F32) -> float:
    """x (n,): in float64."""

def largest_of_blocks(x: F32, block: int) -> F32:
    """x (n,) -> the largest of each `block` of them."""

def largest(x: F32) -> float: ...
def log_sum_exp(x: F32) -> float: ...
def kl_divergence(reference: F32, logits: F32) -> float:
    """Rows of logits, (n,) each -> nats."""

def matmul_i8(weight: NDArray[np.uint8], encoding: str, row_scale: Scales, x: F32, input_scale: float) -> F32:
    """x (T, K) float32 -> (T, rows). weight (rows, K*bits/8) packed codes as in the file, row_scale (rows,); encoding
    "c2" "c4" "c8", or "u8" for 8 bits stored with an offset of 128.
    x is rounded to int8 by input_scale; input_scale 0: to two int8 digits by its own largest value (16 bits)."""

def pieces(n: int, threads: int) -> list[int]:
    """Where each piece of n elements begins, and n (cpp/base/pieces.h)."""

def matmul_block_rows(
    weight: NDArray[np.uint8], encoding: str, scales: Scales | None, x: F32, begin: int, end: int
) -> F32:
    """matmul_blocks_i8 of rows [begin, end) alone: the other columns are NaN."""

def matmul_blocks_i8(weight: NDArray[np.uint8], encoding: str, scales: Scales | None, x: F32) -> F32:
    """x (T, K) -> (T, rows). encoding "q4_0" "q4_1" "q5_0" "q5_1" "q8_0" "q4_k" "q5_k" "q6_k", or "g4" with scales
    (rows, K/32). x is rounded to int8 in groups of 32, each with its own scale."""

def matmul_f32(weight: NDArray[np.uint8], encoding: str, scales: Scales | None, x: F32) -> F32:
    """x (T, K) -> (T, rows), float32 products. encoding "f32" "f16" "bf16" (scales None), "c2" "c4" "c8" "u8"
    (scales (rows,)) or as for matmul_blocks_i8."""

def decode_row(row: NDArray[np.uint8], encoding: str, scales: Scales | None, n: int) -> F32:
    """One stored row -> (n,) float32; scales (S,), for codes and g4: element i uses scales[i * S // n]."""

def encode(x: F32, source: str, target: str, grid: str) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """x (rows, K), widened from source "f32" | "f16" | "bf16" -> (rows, bytes) in target "f32" | "f16" | "bf16" |
    "q4_0" | "q8_0" | "q6_k", and what became of all rows: elements, on_grid, saturated, squares, error_squares.
    grid "recover" | "llama", of q4_0."""

def find_scales(x: F32, rule: str, codes: str, source: str, scale_type: str, groups: int) -> F32:
    """x (rows, K), widened from source "f32" | "f16" | "bf16" -> (rows, groups), by rule "absmax" | "search" |
    "recover", for codes "c2" | "c4" | "c8" | "u8" | "g4"; scale_type "f32" | "bf16"."""

def encode_codes(x: F32, codes: str, source: str, scales: F32) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """x (rows, K), scales (rows, G) -> packed codes (rows, bytes), and what became of all rows: elements, on_grid,
    saturated, squares, error_squares."""

def error_scale(x: F32, rule: str, codes: str) -> float:
    """x (n,). rule "expected" | "least" squared error."""

def trained_scale(x: F32, bits: int, expected: float) -> float | None:
    """x (n,), 2 or 4 bits; None where x shows no training."""

def training_marks(bits: int) -> tuple[F32, float]:
    """2 or 4 bits: scores (2, bins) of positive and negative weights, and the deviation of one score."""

def recovered_scale(x: F32, codes: str, source: str, scale_type: str) -> float | None:
    """x (n,), codes times a scale, rounded to source: that scale."""

def attend(q: F32, k: F32, v: F32, element: str, k_scale: float, v_scale: float) -> F32:
    """One head: q (d,), k and v (n, d) float32, stored as element "f32" | "bf16" | "i8" | "i4" -> (d,).
    Score scale 1, softmax over the n keys."""

def linear(model: Model, name: str, x: F32) -> F32:
    """One linear module of a loaded model by its name in the file without `.weight`, x (T, K) -> (T, out)."""

def embed(model: Model, name: str, ids: NDArray[np.int32]) -> F32:
    """`...embed_tokens` or `...embed_tokens_per_layer`: scaled rows (T, width)."""

def draft_step(drafter: Drafter, decoder: Decoder, inputs: F32) -> tuple[F32, F32]:
    """One step of a drafter on inputs (2 D,), an embedding and a hidden state of its target. Returns logits (V,) and
    the vector (D,) for the next step."""

def layer_outputs(model: Model, ids: NDArray[np.int32], inputs: F32) -> F32:
    """inputs (L, T, D): layer i runs on inputs[i] (and on the keys and values of earlier layers, made from theirs);
    returns (L, T, D), each layer's output. ids (T,) give the per-layer inputs, which come from the embedding."""

def least_squares_scale(x: F32, bits: int) -> float:
    """The scale that rounds x (n,) to codes of `bits` with the least squared error; found from a histogram."""

def parse_json(text: bytes) -> Any:
    """What the checkpoint reader's JSON parser reads, as Python objects."""

def safetensors(path: str) -> list[tuple[str, str, tuple[int, ...], int]]:
    """(name, dtype, shape, byte length) of each tensor of one file, in the file's order."""

def text_hash(text: str, seed: int) -> int:
    """Of the vocabulary's table; 32 bits."""

def tokenizer(
    *,
    model: str,
    tokens: list[bytes],
    scores: list[float],
    token_types: list[int],
    merges: list[bytes],
    add_space_prefix: bool = False,
) -> Tokenizer:
    """The tokenizer of a GGUF file with these arrays. model "gemma4" (by merges) | "llama" (by scores)."""

def gguf(path: str) -> tuple[list[tuple[str, str]], list[tuple[str, str, tuple[int, ...], int]]]:
    """(key, type) of each value, sorted by key, and the tensors of one file as `safetensors` gives them."""
