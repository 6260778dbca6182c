"""Kernels read no byte after a matrix: the mapped file may end there.

The rows lie right before a page without access, where an overread ends the process; so this file runs itself.
"""
# ruff: noqa: N806  (dimensions have capital letters)

import ctypes
import mmap
import signal
import subprocess
import sys

import numpy as np
from block_formats import LAYOUTS

import gemmule

testing = gemmule._core.testing


def before_forbidden_page(data: np.ndarray) -> np.ndarray:
    """A copy of data (..., uint8) whose last byte is the last one of a readable page. Never given back."""
    pages = -(-data.nbytes // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    whole = np.frombuffer(memory, np.uint8)
    end = pages * mmap.PAGESIZE
    place = whole[end - data.nbytes : end].reshape(data.shape)
    place[:] = data
    libc = ctypes.CDLL(None, use_errno=True)
    address = ctypes.c_void_p(whole.ctypes.data + end)
    if libc.mprotect(address, ctypes.c_size_t(mmap.PAGESIZE), 0) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    return place


def read_everything() -> None:
    """Every target, encoding and some widths, as a product and as single rows."""
    random = np.random.default_rng(0)
    for target in testing.targets():
        testing.set_target(target)
        for encoding, bits in (("c2", 2), ("c4", 4), ("c8", 8), ("u8", 8), ("bf16", 16), ("f16", 16), ("f32", 32)):
            for K in (4, 12, 32, 36, 96, 160, 260):
                for rows in (1, 3, 4, 5, 17):
                    # Small bytes: a float of such bits is tiny, never NaN.
                    stored = random.integers(0, 48, (rows, K * bits // 8)).astype(np.uint8)
                    weight = before_forbidden_page(stored)
                    scale = np.ones(rows, np.float32) if bits <= 8 else None
                    for tokens in (1, 5):
                        x = random.standard_normal((tokens, K)).astype(np.float32)
                        got = testing.matmul_f32(weight, encoding, scale, x)
                        assert np.array_equal(got, testing.matmul_f32(stored, encoding, scale, x))
                        if bits <= 8:
                            testing.matmul_i8(weight, encoding, scale, x, 0.05)
                            testing.matmul_i8(weight, encoding, scale, x, 0.0)
                    testing.decode_row(weight[-1], encoding, None if scale is None else scale[:1], K)


def read_blocks() -> None:
    """The same for blocks: elements and bytes of one, and how many make a row."""
    sizes = {"g4": (32, 16)} | {name: (layout.elements, layout.size) for name, layout in LAYOUTS.items()}
    random = np.random.default_rng(1)
    for target in testing.targets():
        testing.set_target(target)
        for encoding, (elements, size) in sizes.items():
            for blocks in (1, 2, 3, 7, 9):
                for rows in (1, 3, 17):
                    weight = before_forbidden_page(random.integers(0, 48, (rows, blocks * size)).astype(np.uint8))
                    scales = None
                    if encoding == "g4":
                        scales = before_forbidden_page(np.ones((rows, blocks * 4), np.uint8)).view(np.float32)
                    for tokens in (1, 5, 16):
                        x = random.standard_normal((tokens, blocks * elements)).astype(np.float32)
                        testing.matmul_f32(weight, encoding, scales, x)
                        testing.matmul_blocks_i8(weight, encoding, scales, x)
                    testing.decode_row(weight[-1], encoding, None if scales is None else scales[-1], x.shape[1])


def encode_rows() -> None:
    """Floats that end where the page does, to everything that rows are encoded as."""
    random = np.random.default_rng(2)
    for target in testing.targets():
        testing.set_target(target)
        for encoding, elements in (("f32", 1), ("f16", 1), ("bf16", 1), ("q4_0", 32), ("q8_0", 32), ("q6_k", 256)):
            for blocks in (1, 2, 3, 7, 33):
                stored = random.standard_normal((1, blocks * elements)).astype(np.float32)
                x = before_forbidden_page(stored.view(np.uint8)).view(np.float32)
                for grid in ("llama", "recover"):
                    got, _ = testing.encode(x, "f32", encoding, grid)
                    assert np.array_equal(got, testing.encode(stored, "f32", encoding, grid)[0])
        for codes in ("c2", "c4", "c8"):
            for n in (4, 12, 32, 36, 132, 1028):
                stored = random.standard_normal((1, n)).astype(np.float32)
                x = before_forbidden_page(stored.view(np.uint8)).view(np.float32)
                for rule in ("absmax", "search", "recover"):
                    scales = testing.find_scales(x, rule, codes, "f32", "f32", 1)
                    got, _ = testing.encode_codes(x, codes, "f32", scales)
                    assert np.array_equal(got, testing.encode_codes(stored, codes, "f32", scales)[0])


def run_this_file(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, timeout=120)


def test_nothing_is_read_after_the_last_row():
    done = run_this_file()
    assert done.returncode == 0, f"exit status {done.returncode} ({-signal.SIGSEGV}: read past the end)\n{done.stderr}"


def test_the_guard_catches_one_byte():
    """Without this the test above could not fail."""
    assert run_this_file("overread").returncode == -signal.SIGSEGV


if __name__ == "__main__":
    if sys.argv[1:] == ["overread"]:
        ctypes.string_at(before_forbidden_page(np.ones(5, np.uint8)).ctypes.data, 6)
    else:
        read_everything()
        read_blocks()
        encode_rows()
