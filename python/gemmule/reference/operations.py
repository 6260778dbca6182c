"""The decoder's operations, one function each, named like the kernels. Letters as in `cpp/model/config.h`.

Results have the dtype of the first argument.
"""
# mypy: disable-error-code="no-any-return"
# ruff: noqa: N806  (dimensions have capital letters)

from typing import Any

import numpy as np

from .safetensors import Array


def rms_norm(x: Array, weight: Array | None, eps: float) -> Array:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis. The weight is used as stored: Gemma 4 does not add 1."""
    y = x / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + x.dtype.type(eps))
    return y if weight is None else y * weight.astype(x.dtype)


def inverse_frequencies(head_dim: int, theta: float, share: float, factor: float) -> Array:
    """(E/2,) float32, radians per position: theta^(-2j/E) for the first `share` of the angles, 0 for the others."""
    angle = np.arange(head_dim // 2)
    live = angle < int(share * head_dim / 2)
    return np.where(live, theta ** (-2.0 * angle / head_dim) / factor, 0.0).astype(np.float32)


def rope(x: Array, cos: Array, sin: Array) -> Array:
    """Turns the pairs (x[j], x[j + d/2]). x (..., d); cos, sin (..., d/2)."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def gelu(x: Array) -> Array:
    """The tanh approximation."""
    inner = np.sqrt(x.dtype.type(2 / np.pi)) * (x + x.dtype.type(0.044715) * x * x * x)
    return x.dtype.type(0.5) * x * (1 + np.tanh(inner))


def gelu_mul(gate: Array, up: Array) -> Array:
    """gelu(gate) * up."""
    return gelu(gate) * up


def to_codes(x: Array, scale: float, bits: int) -> Array:
    """clamp(round_half_even(x / scale)) to the signed range of `bits`, as integers in x's dtype."""
    return np.clip(np.rint(x / x.dtype.type(scale)), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def round_to_grid(x: Array, scale: float, bits: int = 8) -> Array:
    """The nearest multiple of `scale` whose code fits into `bits`; x itself where scale is 0 (not calibrated)."""
    return x if scale == 0 else to_codes(x, scale, bits) * x.dtype.type(scale)


def softcap(x: Array, cap: float) -> Array:
    """cap * tanh(x / cap); x itself where cap is 0."""
    return x if cap == 0 else x.dtype.type(cap) * np.tanh(x / x.dtype.type(cap))


def log_sum_exp(x: Array) -> Array:
    """ln(sum(exp(x))) over the last axis."""
    top = np.max(x, axis=-1)
    return top + np.log(np.sum(np.exp(x - top[..., None]), axis=-1))


def kl_divergence(reference: Array, logits: Array) -> Array:
    """sum(p (ln p - ln q)) over the last axis, p = softmax(reference), q = softmax(logits); nats."""
    ln_p = reference - log_sum_exp(reference)[..., None]
    ln_q = logits - log_sum_exp(logits)[..., None]
    return np.sum(np.exp(ln_p) * (ln_p - ln_q), axis=-1)


def softmax(x: Array) -> Array:
    """Over the last axis; -inf gets weight 0."""
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def attend(q: Array, k: Array, v: Array) -> Array:
    """One head, one query: q (d,), k and v (n, d) -> (d,). The scores are not scaled: q_norm and k_norm carry that."""
    return softmax(k @ q) @ v


def attention(q: Array, k: Array, v: Array, window: int | None) -> Array:
    """All heads, all positions: q (T, H, E), k and v (T, G, E) -> (T, H, E).

    Position t sees the keys t - window + 1 ... t; without a window, 0 ... t. Head h reads key/value head h // (H/G).
    """
    T, H, _ = q.shape
    group = H // k.shape[1]
    at = np.arange(T)
    distance = at[:, None] - at[None, :]
    seen = (distance >= 0) if window is None else (distance >= 0) & (distance < window)
    out = np.empty_like(q)
    for h in range(H):
        scores = np.where(seen, q[:, h] @ k[:, h // group].T, -np.inf)
        out[:, h] = softmax(scores) @ v[:, h // group]
    return out


def unpack_codes(packed: Array, bits: int) -> Array:
    """packed (rows, bytes) as in the file -> (rows, bytes * 8 / bits) signed codes, int8.

    8 bits: signed bytes. 4 and 2 bits: low bits first, stored with 2^(bits-1) added.
    """
    if bits == 8:
        return packed.view(np.int8)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = (packed.view(np.uint8)[..., None] >> shifts) & (2**bits - 1)
    return codes.reshape(*packed.shape[:-1], -1).astype(np.int8) - np.int8(2 ** (bits - 1))


def pack_codes(codes: Array, bits: int) -> Array:
    """The reverse of `unpack_codes`."""
    if bits == 8:
        return codes.astype(np.int8)
    per_byte = 8 // bits
    offset = (codes.astype(np.int16) + 2 ** (bits - 1)).reshape(*codes.shape[:-1], -1, per_byte)
    return (offset << np.arange(0, 8, bits)).sum(axis=-1).astype(np.uint8)


def decode(codes: Array, scales: Array, dtype: type[np.floating[Any]]) -> Array:
    """codes (rows, n), scales (rows, S) -> codes * scales (rows, n): column i has the scale i * S // n."""
    return codes.astype(dtype) * np.repeat(scales, codes.shape[-1] // scales.shape[-1], axis=-1).astype(dtype)
