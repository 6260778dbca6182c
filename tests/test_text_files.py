"""A tokenizer.json that lies about itself, or asks for another tokenizer than Gemma's, is refused by name."""

import json
import random
import signal
import threading
import time

import pytest

import gemmule
from gemmule._core import Tokenizer
from hostile import mutate
from text_cases import fixture


def test_random_damage_is_read_or_refused(tmp_path):
    rng = random.Random(7)
    text = json.dumps(fixture(), ensure_ascii=False).encode()
    read = 0
    for _ in range(500):
        file = tmp_path / "tokenizer.json"
        file.write_bytes(mutate(text, rng, len(text)))
        try:
            tokenizer = Tokenizer.open(str(file))
        except (gemmule.FormatError, gemmule.UnsupportedError):
            continue
        read += 1
        tokenizer.encode("Some text, <bos>\n and é more.".encode(), True)
    assert 0 < read < 500


def test_a_long_text_can_be_interrupted():
    tokenizer = gemmule.Tokenizer.from_pretrained("fairy")
    text = "The old witch said no more. " * 100_000
    start = time.process_time()
    tokenizer.encode(text)
    whole = 15 * (time.process_time() - start)
    long = text * 15
    timer = threading.Timer(0.1, signal.raise_signal, [signal.SIGINT])
    start = time.process_time()
    timer.start()
    with pytest.raises(KeyboardInterrupt):  # it would come after the last token too
        tokenizer.encode(long)
    assert time.process_time() - start < whole / 2


def test_threads_encode_at_once():
    """Without Python's lock: the other thread goes on while one encodes."""
    tokenizer = gemmule.Tokenizer.from_pretrained("fairy")
    text = "The old witch said no more. " * 300_000
    worker = threading.Thread(target=tokenizer.encode, args=[text])
    worker.start()
    steps = 0
    while worker.is_alive():
        steps += 1
        time.sleep(0.001)
    assert steps > 50
