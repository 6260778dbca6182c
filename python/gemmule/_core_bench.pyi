"""`gemmule._core.bench`: where time goes, and what the machine can do at most. For `gemmule.benchmark`."""

from typing import final

import numpy as np
from numpy.typing import NDArray

from ._core import Decoder, Model

F32 = NDArray[np.float32]

@final
class Matrix:
    """One linear module."""

    def __init__(
        self,
        name: str,
        encoding: str,
        codes: NDArray[np.uint8],
        scales: F32 | None,
        input_scale: float,
        output_scale: float,
        is_last: bool,
    ) -> None:
        """codes (rows, bytes) as in a file, any encoding but "g4"; scales (rows,) for codes with one scale a row, else
        None; input_scale, output_scale 0: none; is_last: the head."""
    @property
    def name(self) -> str: ...
    @property
    def encoding(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def cols(self) -> int: ...
    @property
    def bytes(self) -> int:
        """Scales included."""
    @property
    def input_scale(self) -> float: ...
    @property
    def output_scale(self) -> float: ...
    def row(self, row: int) -> F32:
        """(cols,), decoded."""

def matrices(model: Model) -> list[Matrix]:
    """All linear modules of a model, those of each expert too."""

@final
class KernelBench:
    """Threads to measure kernels with. Every call releases the GIL; the first value that it returns is the seconds
    that it took. Not for two threads at once."""

    def __init__(self, threads: int, float32: bool) -> None:
        """float32: of products with codes, as activations="float32" has it."""
    @property
    def threads(self) -> int: ...
    def read(self, data: NDArray[np.uint8]) -> tuple[float, int]:
        """Reads a multiple of 64 bytes once; also the sum of their 32-bit words, modulo 2^32."""
    def multiply_adds(self, rounds: int) -> tuple[float, int]:
        """Each thread multiplies and adds bytes in registers; also their number, 0 if the sums were wrong."""
    def linears(self, matrices: list[Matrix], x: F32) -> tuple[float, F32]:
        """Modules of one shape, one after the other, on x (T, K); also the result (T, rows) of the last one."""
    def attention(
        self,
        cache: NDArray[np.uint8],
        encoding: str,
        k_scale: float,
        v_scale: float,
        kv_heads: int,
        positions: int,
        window: int,
        q: F32,
    ) -> tuple[float, F32]:
        """q (T, H, E), the last T of `positions`, each of which sees itself and up to window - 1 before it; also the
        result (T, H, E). cache (blocks, bytes), as cpp/kernels/kv_block.h says: for KV_BLOCK_TOKENS positions the keys,
        (kv_heads, 4, 32-bit words of E, 16 positions), then the values (kv_heads, positions, E); encoding "f32" "bf16"
        "c8" "c4"."""
    def rows(self, kernel: str, x: F32) -> tuple[float, F32]:
        """A kernel on each row of x (rows, n) on this thread, and what it made of x: "rms_norm", "rope" (45 degrees),
        "gelu_mul" (of the row and itself), "softcap" (30), "round_to_grid", "quantize_static" (steps of 1/32)."""

@final
class Profile:
    """The time of a decoder's calls, by layer and operation."""

    def __init__(self, model: Model) -> None: ...
    def watch(self, decoder: Decoder) -> None:
        """From now on this one is told of the decoder's calls, and no other. The decoder must be of the same model."""
    @property
    def places(self) -> list[tuple[int | None, str, float, float, int]]:
        """Layer (None: outside of the layers), operation, seconds, of these waiting for other threads, parallel
        regions; what took no time is left out."""
