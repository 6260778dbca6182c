"""Makes what the fuzzers start from: small files of every kind that a target reads, and the words in them.

python tests/fuzz/make_seeds.py FOLDER writes FOLDER/TARGET/... and FOLDER/TARGET.dict for each fuzz_TARGET.cc.
"""

import json
import struct
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

import hostile_gguf  # noqa: E402
from checkpoints import FULL, SLIDING, make_checkpoint  # noqa: E402
from compressed_folders import grouped, repacked  # noqa: E402
from drafter_folders import make_drafter  # noqa: E402
from gguf_folders import as_gguf  # noqa: E402
from hostile import write_safetensors  # noqa: E402
from hostile_gguf import ARRAY, BOOL, STRING, Array, Gguf  # noqa: E402

FIXTURES = TESTS / "fixtures"
GGUF = FIXTURES / "gguf_e2b" / "model-Q4_0.gguf"
# What JSON is broken with.
JSON_WORDS = {
    r"\u001b",
    r"\u0000",
    r"\ud800",
    r"\udc00",
    '":',
    "[[",
    "{}",
    "null",
    "true",
    "-1",
    "1e999",
    "0.5",
    str(2**63),
}
# Gemma 4 with all its parts, in under 10 KB.
TINY = {
    "layer_types": [SLIDING, FULL, SLIDING, FULL],
    "hidden_size": 4,
    "hidden_size_per_layer_input": 2,
    "intermediate_size": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 2,
    "global_head_dim": 4,
    "vocab_size": 8,
}
# What fuzz_drafter.cc has for a model.
TARGET = {
    "layer_types": [SLIDING, FULL, FULL],
    "layers": [{"head_dim": size, "num_key_value_heads": 1} for size in (2, 4, 4)],
    "hidden_size": 4,
    "vocab_size": 16,
    "sliding_window": 16,
    "rope_sliding": {"rope_theta": 1e4},
    "rope_full": {"rope_theta": 1e6, "partial_rotary_factor": 0.25},
}


def safetensors(folder: Path) -> None:
    """The smallest tensors of each file, 1 KB at most."""
    for source in sorted(FIXTURES.glob("*/*.safetensors")):
        data = source.read_bytes()
        (length,) = struct.unpack_from("<Q", data)
        tensors = json.loads(data[8 : 8 + length])
        header = {"__metadata__": tensors.pop("__metadata__", {})}
        kept = b""
        for name, entry in sorted(
            tensors.items(), key=lambda item: item[1]["data_offsets"][1] - item[1]["data_offsets"][0]
        ):
            begin, end = (8 + length + at for at in entry["data_offsets"])
            if len(kept) + end - begin > 1024 or len(header) > 8:
                break
            header[name] = entry | {"data_offsets": [len(kept), len(kept) + end - begin]}
            kept += data[begin:end]
        write_safetensors(folder / f"{source.parent.name}-{source.stem}", header, kept)


def config(folder: Path) -> None:
    for source in sorted(FIXTURES.glob("*/config.json")):
        (folder / source.parent.name).write_text(json.dumps(json.loads(source.read_text())))


def tokenizer(folder: Path) -> None:
    """The first entries of the vocabulary, and the merges that join them."""
    whole = json.loads((FIXTURES / "tokenizer" / "tokenizer.json").read_text())
    for count in (8, 300, 400):
        vocabulary = {text: id for text, id in whole["model"]["vocab"].items() if id < count}
        merges = [pair for pair in whole["model"]["merges"] if all(x in vocabulary for x in (*pair, "".join(pair)))]
        added = [token for token in whole["added_tokens"] if token["id"] < count]
        model = whole["model"] | {"vocab": vocabulary, "merges": merges}
        (folder / f"first-{count}").write_text(json.dumps(whole | {"model": model, "added_tokens": added}))


def gguf(folder: Path) -> None:
    """Whole tiny models, vocabularies, and every lie that the tests know."""
    for name, changes in {"e2b": {}, "dense": {"hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0}}.items():
        with tempfile.TemporaryDirectory() as scratch:
            model = as_gguf(make_checkpoint(Path(scratch), **TINY | changes))
        vocabulary = dict(cut_vocabulary(hostile_gguf.read(GGUF), TINY["vocab_size"]))
        replace(model, keys=model.keys | vocabulary).write(folder / name)
    gemma3 = {key.replace("gemma4.", "gemma3."): value for key, value in model.keys.items()}
    replace(model, keys=gemma3 | {"general.architecture": (STRING, "gemma3")}).write(folder / "gemma3")

    ranked = Gguf(dict(cut_vocabulary(hostile_gguf.read(GGUF), 300)))  # all bytes are among these tokens
    ranked.write(folder / "ranked")
    scored = {"tokenizer.ggml.model": (STRING, "llama"), "tokenizer.ggml.add_space_prefix": (BOOL, False)}
    Gguf(ranked.keys | scored).write(folder / "scored")
    for number, (file, *_) in enumerate([*hostile_gguf.LIES.values(), *hostile_gguf.REFUSED.values()]):
        if len(file.pack()) < 4096:
            file.write(folder / f"lie-{number}")


def folder(to: Path) -> None:
    """Whole tiny models in every form."""
    two = TINY | {"layer_types": [SLIDING, FULL], "num_kv_shared_layers": 0}
    experts = {"enable_moe_block": True, "num_experts": 2, "top_k_experts": 1, "moe_intermediate_size": 2}
    words = {"hidden_size": 16, "intermediate_size": 16, "head_dim": 8, "global_head_dim": 8}
    groups = {"hidden_size": 32, "intermediate_size": 32, "head_dim": 16, "global_head_dim": 16}
    without_inputs = {"hidden_size_per_layer_input": 0}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        forms = {
            "float": make_checkpoint(root / "float", **TINY),
            "experts": make_checkpoint(root / "experts", **two | experts | without_inputs),
            "mobile": make_checkpoint(root / "mobile", mobile=True, **two | words | without_inputs),
        }
        forms["channels"] = repacked(forms["mobile"], root / "channels")
        forms["groups"] = grouped(make_checkpoint(root / "wide", **two | groups | without_inputs), root / "groups")
        for name, form in forms.items():
            (to / name).write_bytes(in_one_file(form))


def drafter(to: Path) -> None:
    """Drafters for TARGET, likewise."""
    with tempfile.TemporaryDirectory() as scratch:
        for name, options in {"plain": {}, "ordered": {"ordered": True}, "unified": {"unified": True}}.items():
            made = make_drafter(Path(scratch) / name, TARGET, width=4, mlp_width=4, **options)
            (to / name).write_bytes(in_one_file(made))


def state(to: Path) -> None:
    """Caches as they are, and with a state that is longer, shorter or missing: fuzz_state.cc has the header."""
    for kv, (sliding, full) in enumerate([(4, 4), (2, 2), (1, 0.5)]):  # bytes of an element
        for length in (1, 20, 70):
            window, half_head_dim = 8, 2
            bytes_of = 4 * (1 + half_head_dim) * (min(length, window) * sliding + length * full)
            for odd_state, odd_bytes in ((255, 0), (0, 1), (1, -1), (2, 0)):
                header = bytes([kv, window, half_head_dim, half_head_dim, 0, 0, odd_state, odd_bytes & 255])
                (to / f"{kv}-{length}-{odd_state}").write_bytes(
                    header + struct.pack("<Q", length) + bytes(int(bytes_of))
                )


def in_one_file(folder: Path) -> bytes:
    """As InputFolder takes it: config.json, a zero byte, model.safetensors."""
    config = json.dumps(json.loads((folder / "config.json").read_text())).encode()
    return config + bytes(1) + (folder / "model.safetensors").read_bytes()


def cut_vocabulary(file: Gguf, count: int) -> Iterator[tuple[str, tuple[int, object]]]:
    for key, (kind, value) in file.keys.items():
        if not key.startswith("tokenizer.") or key.endswith("chat_template"):
            continue
        yield key, (kind, Array(value.kind, value.items[:count]) if kind == ARRAY else value)


def words(value: object) -> Iterator[str]:
    """Keys and texts of a JSON value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from words(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from words(inner)
    elif isinstance(value, str):
        yield value


def dictionary(target: str, seeds: Path) -> set[str]:
    if target == "state":
        return set()
    if target == "gguf":
        files = [hostile_gguf.read(path) for path in seeds.iterdir() if not path.name.startswith("lie-")]
        return {key for file in files for key in file.keys} | {tensor.name for file in files for tensor in file.tensors}
    headers = [path.read_bytes()[8 if target == "safetensors" else 0 :] for path in sorted(seeds.iterdir())]
    values = [json.JSONDecoder().raw_decode(text.decode(errors="replace"))[0] for text in headers]
    return JSON_WORDS.union(*map(words, values))


def main() -> None:
    for target in (safetensors, gguf, config, folder, drafter, tokenizer, state):
        seeds = Path(sys.argv[1]) / target.__name__
        seeds.mkdir(parents=True)
        target(seeds)
        lines = ["# Words of the seeds.\n"]  # libFuzzer takes no empty file
        for word in sorted(dictionary(target.__name__, seeds)):
            escaped = "".join(chr(b) if 0x20 <= b < 0x7F and b not in b'\\"' else f"\\x{b:02x}" for b in word.encode())
            if word and len(word.encode()) <= 64:
                lines.append(f'"{escaped}"\n')
        seeds.with_suffix(".dict").write_text("".join(lines))


if __name__ == "__main__":
    main()
