"""What quantization costs, and what training for it saves: one model, float and quantized, trained for it and not.

    python benchmarks/quality.py --float FLOAT --mobile MASTERS --q4_0 MASTERS --calibrate TRAIN.txt --text TEST.txt

FLOAT is a checkpoint that was trained as usual; the masters are the unquantized weights of quantization-aware training
for the mobile format and for Q4_0. A folder of masters for the mobile format may hold activation_scales.safetensors and
weight_scales.safetensors, the scales that training learned. Every checkpoint is converted here, runs as it does by
default, and is compared with FLOAT on TEST.txt, second halves of windows of 512 tokens.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import conditions
import gemmule
import program

DECODED_TOKENS = 128
REPEAT = 5


@dataclass(frozen=True)
class Row:
    """A model of the table. arguments: of gemmule.convert; None: the source as it is."""

    label: str
    training: str
    source: Path
    arguments: dict[str, Any] | None


def main() -> int:
    options = parse_options()
    where = conditions.conditions()
    reference = gemmule.load(options.float)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for number, row in enumerate(rows(options)):
            path = row.source
            if row.arguments is not None:
                path = Path(folder) / (f"{number}.gguf" if row.arguments["to"] == "q4_0" else str(number))
                gemmule.convert(row.source, path, **row.arguments)
            results.append(measure(row, path, reference, options.text))
            print(line(results[-1]), flush=True)
    report = {"benchmark": "quality", "conditions": where, "text": options.text.name, "results": results}
    program.write(report, options.json)
    if options.plot:
        draw(results).savefig(options.plot)
    print()
    print(table(results))
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Size, perplexity, divergence and speed of one model in every format.")
    parser.add_argument("--float", type=Path, required=True, help="the float-trained checkpoint")
    parser.add_argument("--mobile", type=Path, required=True, help="masters trained for the mobile format")
    parser.add_argument("--q4_0", type=Path, required=True, help="masters trained for Q4_0")
    parser.add_argument("--calibrate", type=Path, required=True, help="text for the scales of activations and caches")
    parser.add_argument("--text", type=Path, required=True, help="text to be scored")
    parser.add_argument("--json", type=Path, help="write conditions and results here")
    parser.add_argument("--plot", type=Path, help="draw the results (.png, .svg, .pdf)")
    return parser.parse_args()


def rows(options: argparse.Namespace) -> list[Row]:
    plain, masters, q4_0 = options.float, options.mobile, options.q4_0
    calibrated = {"to": "mobile", "calibrate": options.calibrate}
    rows = [
        Row("float", "float", plain, None),
        Row("mobile", "float", plain, calibrated),
        Row("mobile, scales searched", "mobile", masters, calibrated),
    ]
    learned = masters / "activation_scales.safetensors", masters / "weight_scales.safetensors"
    if all(path.is_file() for path in learned):
        activations, weights = learned
        given = {"to": "mobile", "activation_scales": activations, "weight_scales": weights}
        rows.append(Row("mobile, scales learned", "mobile", masters, given))
    for source, training in ((plain, "float"), (q4_0, "Q4_0")):
        for grid in ("llama", "recover"):
            rows.append(Row(f"Q4_0, {grid}", training, source, {"to": "q4_0", "pure": True, "grid": grid}))
    return rows


def measure(row: Row, path: Path, reference: gemmule.Model, text: Path) -> dict[str, Any]:
    model = gemmule.load(path)
    distance = gemmule.compare(model, reference, text, progress=False)
    files = [path] if path.is_file() else list(path.glob("*.safetensors"))
    return {
        "model": row.label,
        "training": row.training,
        "bytes": sum(file.stat().st_size for file in files),
        "perplexity": distance.model.perplexity,
        "perplexity_stderr": distance.model.perplexity_stderr,
        "mean_kl_nats": distance.mean_kl,
        "stderr_kl_nats": distance.stderr_kl,
        "same_top": distance.same_top,
        "decode_tokens_per_s": decode_speed(model),
    }


def decode_speed(model: gemmule.Model) -> list[float]:
    """Of some runs after one to warm up, tokens/s, sorted."""
    speeds = []
    for _ in range(REPEAT + 1):
        start = time.perf_counter()
        count = len(model.generate("Once upon a time", max_tokens=DECODED_TOKENS, seed=0).tokens)
        speeds.append(count / (time.perf_counter() - start))
    return sorted(speeds[1:])


def cells(result: dict[str, Any]) -> list[str]:
    return [
        result["model"],
        result["training"],
        f"{result['bytes'] / 1e6:.2f}",
        f"{result['perplexity']:.3f} ± {result['perplexity_stderr']:.2f}",
        f"{result['mean_kl_nats']:.4f}",
        f"{100 * result['same_top']:.1f}",
        f"{statistics.median(result['decode_tokens_per_s']):.0f}",
    ]


def line(result: dict[str, Any]) -> str:
    return "  ".join(cells(result))


def table(results: list[dict[str, Any]]) -> str:
    """In Markdown."""
    head = ["model", "trained for", "MB", "perplexity", "KL to float, nats", "same top, %", "tokens/s"]
    lines = [head, ["---"] * len(head), *(cells(result) for result in results)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def draw(results: list[dict[str, Any]]) -> Any:
    """Perplexity over size, and the divergence from the float model."""
    from gemmule.plotting import new_figure

    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    for result in results:
        is_trained = result["training"] not in ("float",) and result["mean_kl_nats"] > 0
        left.errorbar(
            result["bytes"] / 1e6,
            result["perplexity"],
            yerr=result["perplexity_stderr"],
            marker="o" if is_trained else "s",
            label=f"{result['model']} (trained for {result['training']})",
        )
    left.set(xlabel="MB (1e6 bytes)", ylabel="perplexity", title="size and quality")
    left.legend(fontsize="x-small")
    names = [f"{result['model']}\n({result['training']})" for result in results[1:]]
    right.barh(names, [result["mean_kl_nats"] for result in results[1:]])
    right.invert_yaxis()
    right.set(xlabel="nats per token", title="KL divergence from the float model")
    return figure


if __name__ == "__main__":
    raise SystemExit(main())
