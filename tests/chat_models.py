"""Small models that chat: the fixtures' weights with a chat template."""

import shutil
from functools import cache
from pathlib import Path

import gemmule
from golden_cases import FIXTURES
from scratch import new_folder

# Fixture and cache: every kind of element.
KINDS = [("e2b", "float32"), ("e2b", "bf16"), ("mobile", "static")]
TEMPLATE = (FIXTURES / "tokenizer" / "chat_template.jinja").read_text()
_ROOT = new_folder()


def chat_folder(name: str, folder: Path) -> Path:
    """A copy of a fixture that has the published template."""
    shutil.copytree(FIXTURES / name, folder, ignore=shutil.ignore_patterns("golden*", "case*"))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(FIXTURES / "tokenizer" / file, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@cache
def chat_model(name: str, kv: str, **options) -> gemmule.Model:
    folder = _ROOT / name
    if not folder.is_dir():
        chat_folder(name, folder)
    return gemmule.load(folder, kv=kv, threads=1, trust_template=True, **options)


def logits_behind(chat: gemmule.Chat, text: str):
    """The first token's logits of a next turn, computed in a fork."""
    twin = chat.fork()
    run, _ = twin._begin(twin._question(text), {"max_tokens": 1})
    return run.decoder.prefill(run.unread)
