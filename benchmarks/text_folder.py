"""What text needs, beside an E2B-shaped checkpoint: a vocabulary of its size, a chat template, sampling defaults."""

from __future__ import annotations

import json
from pathlib import Path

import synthetic_tokenizer

# As Gemma 4's generation_config.json has them.
SAMPLING = {"do_sample": True, "temperature": 1.0, "top_k": 64, "top_p": 0.95}

# Turns as Gemma marks them, without tools and thoughts.
TEMPLATE = """{{ bos_token }}{% for message in messages -%}
<|turn>{{ message['role'] }}
{{ message['content'] | trim }}<turn|>
{% endfor %}{% if add_generation_prompt %}<|turn>model
{% endif %}"""


def find_or_write(folder: Path, checkpoint: Path, entries: int) -> Path:
    """A folder with links to the checkpoint's files and the text files beside them, so that those who measure the
    checkpoint alone do not find them. Returns the folder."""
    target = folder / f"{checkpoint.name}-text"
    target.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        link = target / name
        if not link.is_symlink():
            link.symlink_to((checkpoint / name).resolve())
    (target / "generation_config.json").write_text(json.dumps(SAMPLING))
    (target / "chat_template.jinja").write_text(TEMPLATE)
    if not (target / "text.txt").is_file():  # what is written last
        synthetic_tokenizer.write(target, entries)
    return target
