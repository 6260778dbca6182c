"""How fast the tokenizer opens and encodes, with a vocabulary of Gemma's size, and what memory it takes.

    python benchmarks/tokenizer_speed.py [--folder FOLDER] [--text FILE] [--repeat N] [--json FILE]

Without a folder that holds a tokenizer.json, one of 262,144 entries is made. Times are those of the processor, so that
other programs disturb them less; the first one is not counted. Exits with 1 where the text does not come back.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gemmule
import synthetic_tokenizer
from conditions import conditions
from gemmule.benchmark import Samples
from gemmule.checkpoints.memory import own_bytes


def main() -> int:
    options = parse_options()
    tokenizer_file = options.folder / "tokenizer.json"
    if not tokenizer_file.is_file():
        synthetic_tokenizer.write(options.folder, options.entries)
    text = (options.text or options.folder / "text.txt").read_text()
    report = {"conditions": conditions(), "file_bytes": tokenizer_file.stat().st_size} | measure(options, text)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    print(
        f"{report['entries']} entries, a file of {report['file_bytes'] / 1e6:.1f} MB\n"
        f"open    {report['open_ms']['median']:.0f} ms, at most {report['open_peak_bytes'] / 1e6:.0f} MB of memory\n"
        f"encode  {report['encode_bytes_per_second']['median'] / 1e6:.1f} MB/s, {report['tokens']} tokens"
    )
    return 0 if report["text_comes_back"] else 1


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "gemmule-tokenizer")
    parser.add_argument("--text", type=Path, help="a file to encode instead of the made one")
    parser.add_argument(
        "--entries", type=int, default=synthetic_tokenizer.ENTRIES, help="of the tokenizer that is made"
    )
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def measure(options: argparse.Namespace, text: str) -> dict[str, Any]:
    before = own_bytes("RssAnon") + own_bytes("RssFile")
    tokenizer = gemmule.Tokenizer.from_pretrained(options.folder)
    peak = own_bytes("VmHWM") - before
    size = len(text.encode())
    encoded = [seconds(lambda: tokenizer.encode(text)) for _ in range(options.repeat + 1)][1:]
    opened = [seconds(lambda: gemmule.Tokenizer.from_pretrained(options.folder)) for _ in range(options.repeat)]
    ids = tokenizer.encode(text, add_special_tokens=False, parse_special=False)
    return {
        "entries": tokenizer.vocab_size,
        "open_ms": asdict(Samples.of([1000 * each for each in opened])),
        "open_peak_bytes": peak,
        "text_bytes": size,
        "tokens": len(ids),
        "encode_bytes_per_second": asdict(Samples.of([size / each for each in encoded])),
        "text_comes_back": tokenizer.decode(ids) == text,
    }


def seconds(work: Any) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    sys.exit(main())
