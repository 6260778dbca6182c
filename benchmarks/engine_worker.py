"""A process with one engine in it: reads calls from its input, one JSON object a line, and answers each with another.

    python engine_worker.py gemmule_engine

{"call": "decode", "tokens": [5, 6]} calls the engine's method of that name with the other fields.
"""

from __future__ import annotations

import importlib
import json
import os
import sys


def main(module: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    engine = importlib.import_module(module).Engine()
    for line in sys.stdin:
        call = json.loads(line)
        answer = getattr(engine, call.pop("call"))(**call)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
