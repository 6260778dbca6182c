"""Static scales of activations and of the key/value cache, found from what a text makes of a model."""

from __future__ import annotations

from pathlib import Path

from .. import _core
from ..arguments import TokenIds
from ..model import Model
from ..progress import Progress
from ..quality.windows import spread

# 8,192 tokens: more changed the demo's perplexity by less than chance, and E2B takes some minutes
# (docs/decisions/0018-calibration.md). A window of 512 fills E2B's sliding ones.
WINDOW = 512
WINDOWS = 16
LEAST_TOKENS = 64


def calibrate(path: Path, text: str | Path | TokenIds, *, threads: int, progress: bool) -> dict[str, float]:
    """The scales with the least squared error over a text, for codes of 8 bits; of 4 bits for keys and values of full
    layers. Modules that the format gives one scale are taken together: gate and up, keys and values.

    The model runs in float32 on at most WINDOWS windows of WINDOW tokens that lie evenly over the text, each beginning
    with BOS as text does. Scales that the checkpoint has already are not looked at.

    Args:
        path: a folder or a GGUF file.
        text: as for `perplexity`.
        threads: 0: the default number.
        progress: show a bar, where standard error is a terminal or a notebook.

    Returns:
        By the names of the tensors in a mobile checkpoint, without the prefix of its files: input_activation_scale and
        output_activation_scale of every quantized module, k_cache_scale and v_cache_scale of every layer; those that
        share another's keys and values repeat its scales. 0, which means no rounding, where all values were 0. The head
        has none: nothing is rounded there.

    Raises:
        ArgumentError: the text has less than LEAST_TOKENS tokens; an id is out of range.
        MissingFileError, FormatError: no such file; it is not UTF-8; the model's values are not finite.
        UnsupportedError: text for a checkpoint without tokenizer.
    """
    calibration = _core.Calibration(str(path), threads)
    sample = spread(text, Model(calibration.model, path), window=WINDOW, windows=WINDOWS, least=LEAST_TOKENS)
    with Progress(len(sample), "window", wanted=progress) as bar:
        for ids, _ in sample:
            calibration.observe(ids)
            bar.advance(1, "calibrating")
        return dict(calibration.scales())
