"""benchmarks/quality.py: every row of its table, from tiny checkpoints."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gemmule
from golden_cases import FIXTURES

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "quality.py"

if not SCRIPT.is_file():
    pytest.skip("the benchmarks are not beside the tests", allow_module_level=True)


def test_the_table(tmp_path):
    masters = shutil.copytree(FIXTURES / "mobile_source", tmp_path / "masters")
    text = tmp_path / "text.txt"
    text.write_text("".join(chr(97 + n) for n in np.random.default_rng(0).integers(0, 26, 1500)))
    assert len(gemmule.Tokenizer.from_pretrained(masters).encode(text.read_text())) > 512
    command = [sys.executable, str(SCRIPT), "--float", str(FIXTURES / "e2b"), "--mobile", str(masters)]
    command += ["--q4_0", str(FIXTURES / "e2b"), "--calibrate", str(text), "--text", str(text)]
    command += ["--json", str(tmp_path / "report.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "report.json").read_text())["results"]
    assert [(row["model"], row["training"]) for row in rows] == [
        ("float", "float"),
        ("mobile", "float"),
        ("mobile, scales searched", "mobile"),
        ("Q4_0, llama", "float"),
        ("Q4_0, recover", "float"),
        ("Q4_0, llama", "Q4_0"),
        ("Q4_0, recover", "Q4_0"),
    ]
    assert rows[0]["mean_kl_nats"] < 1e-9
    assert rows[0]["same_top"] == 1
    assert all(row["mean_kl_nats"] > 0 for row in rows[1:])
    assert rows[1]["bytes"] < rows[3]["bytes"] < rows[0]["bytes"]
    assert rows[3]["perplexity"] == rows[5]["perplexity"]  # the same checkpoint
    assert done.stdout.count("\n| ") == 2 + len(rows)
