"""Files are shortened at random moments of calls, hundreds of times: each result is right, or there is none."""

import os
import random
import shutil
import threading

import pytest

import gemmule
from test_shrinking_files import CHECKPOINTS, IDS, copied, repeat, weights


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_steps(name, tmp_path):
    place = copied(name, tmp_path)
    want = gemmule.load(place, threads=3).logits(IDS)
    source = random.Random(name)
    for turn in range(60):
        copy = tmp_path / f"{turn}{place.suffix}"
        (shutil.copy if place.is_file() else shutil.copytree)(place, copy)
        model = gemmule.load(copy, threads=3)
        file = weights(copy)
        size = source.randrange(file.stat().st_size)
        timer = threading.Timer(source.uniform(0, 0.02), os.truncate, (file, size))
        timer.start()
        with pytest.raises(gemmule.ResourceError):
            repeat(model, want)
        timer.join()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_loading(name, tmp_path):
    """A broken file while it is read, or whole and then shorter: an exception of ours, whichever."""
    place = copied(name, tmp_path)
    source = random.Random(name)
    refused = 0
    for turn in range(100):
        copy = tmp_path / f"{turn}{place.suffix}"
        (shutil.copy if place.is_file() else shutil.copytree)(place, copy)
        files = (
            [copy] if copy.is_file() else [file for file in copy.iterdir() if file.suffix in (".json", ".safetensors")]
        )
        file = source.choice(files)
        timer = threading.Timer(source.uniform(0, 0.004), os.truncate, (file, source.randrange(file.stat().st_size)))
        timer.start()
        try:
            model = gemmule.load(copy, threads=1)
            if model.tokenizer is not None:
                model.tokenizer.encode("A fox")
        except gemmule.GemmuleError:
            refused += 1
        timer.join()
    assert refused > 3
