"""llama.cpp behind the calls of engine_worker.py, set as suits it best on a CPU.

- As many threads for prompts as for decoding; the library's own spin of some milliseconds at the end of a call stays.
- The file is mapped, and Q4_0 matrices are repacked for the processor into memory of their own, as is the default.
- Batches of 512 tokens, computed 512 at a time, with logits of the last token only.
- Sliding layers keep no more than their window (`swa_full=False`), as llama.cpp's own programs have it.
- With flash attention; where attention takes time (prefill-*, decode-32k), also without, and the faster one counts.
- Only `Llama.eval` is timed.
"""

from __future__ import annotations

import time
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

BATCH_TOKENS = 512


class Engine:
    def load(self, path: str, threads: int, context: int, flash_attention: bool) -> dict[str, Any]:
        """Returns what was loaded."""
        self.llama = open_model(path, threads, context, flash_attention)
        return {
            "version": llama_cpp.__version__,
            "system": llama_cpp.llama_print_system_info().decode(),
            "threads": self.llama.n_threads,
            "flash_attention": flash_attention,
        }

    def prefill(self, tokens: list[int]) -> dict[str, Any]:
        """Reads a new sequence in one call."""
        self.llama.reset()
        return self._timed([tokens])

    def decode(self, tokens: list[int]) -> dict[str, Any]:
        """Appends tokens one by one, with logits behind each."""
        return self._timed([[token] for token in tokens])

    def _timed(self, calls: list[list[int]]) -> dict[str, Any]:
        begin = time.perf_counter()
        for each in calls:
            self.llama.eval(each)
            logits = last_logits(self.llama)
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, "finite": bool(np.isfinite(logits).all())}

    def save_logits(self, file: str) -> dict[str, Any]:
        """Those of the last token that was read, to a .npy file."""
        np.save(file, last_logits(self.llama))
        return {}

    def first_token(self, path: str, threads: int, context: int, flash_attention: bool, text: str) -> dict[str, Any]:
        """From nothing loaded to the first new token of a text."""
        begin = time.perf_counter()
        llama = open_model(path, threads, context, flash_attention)
        llama.eval(llama.tokenize(text.encode(), add_bos=True, special=True))
        token = int(last_logits(llama).argmax())
        return {"seconds": time.perf_counter() - begin, "finite": bool(np.isfinite(last_logits(llama)[token]))}


def open_model(path: str, threads: int, context: int, flash_attention: bool) -> llama_cpp.Llama:
    return llama_cpp.Llama(
        path,
        n_ctx=context,
        n_threads=threads,
        n_threads_batch=threads,
        n_batch=BATCH_TOKENS,
        n_ubatch=BATCH_TOKENS,
        n_gpu_layers=0,
        flash_attn=flash_attention,
        swa_full=False,
        verbose=False,
    )


def last_logits(llama: llama_cpp.Llama) -> NDArray[np.float32]:
    """(V,) as they lie in llama.cpp's memory; asking for them waits for what is still computed."""
    return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(llama.ctx, -1), shape=(llama.n_vocab(),))
