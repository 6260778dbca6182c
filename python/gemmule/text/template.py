"""The chat template of a checkpoint: where it stands in the folder, and how it is rendered without trusting it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import minijinja

from .. import _core, forks, paths
from ..checkpoints.checkpoint import is_gguf, read_json
from ..errors import ArgumentError, FormatError
from . import template_worker

# Templates that were read and found harmless are rendered in this process.
KNOWN_SHA256 = {
    "85a08664d16d8f3be4416c92427b3ac10df1024ac566cc0b4bc3bab409393f98",  # of Gemma 4 31B, as Google publishes it
}

# What an unknown template may use. Google's, measured on 1,000 messages, takes 0.1 s, 20 MB and 3.6 million units of
# fuel, which grow with the square of the number.
MEMORY_BYTES = 256 << 20
SECONDS = 2.0
FUEL = 50_000_000
LONGEST = 2 << 20  # characters of the rendered text: more than a context of 262,144 tokens holds
LONGEST_SOURCE = 1 << 20  # bytes of a template; Google's has 12 thousand

_GGUF_KEY = "tokenizer.chat_template"

# Waiting for the helper, start-up included: its own clock of SECONDS runs only while it renders.
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class ChatTemplate:
    """A template's source and the file it came from."""

    source: str
    file: Path
    trusted: bool = False

    def __post_init__(self) -> None:
        _refuse_long(self.file, len(self.source.encode(errors="surrogatepass")))

    @classmethod
    def find(cls, folder: Path, *, trusted: bool = False) -> ChatTemplate | None:
        """chat_template.jinja, else "chat_template" of tokenizer_config.json, else of chat_template.json; else None."""
        file = folder / "chat_template.jinja"
        if paths.is_file(file):
            _core.refuse_stand_in(str(file))
            _refuse_long(file, file.stat().st_size)
            try:
                with paths.reading(file):
                    text = file.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise FormatError(
                    f"{file}: not UTF-8 at byte {error.start}",
                    remedy="Download the file again.",
                    file=str(file),
                    offset=error.start,
                    expected="UTF-8",
                    found=f"the byte {error.object[error.start]:#04x}",
                ) from None
            return cls(text, file, trusted)
        for file in (folder / "tokenizer_config.json", folder / "chat_template.json"):
            source = _default(read_json(file).get("chat_template"), file)
            if source:
                return cls(source, file, trusted)
        return None

    @classmethod
    def of_gguf(cls, metadata: Mapping[str, Any], file: Path, *, trusted: bool = False) -> ChatTemplate | None:
        """That of a GGUF file's metadata; None where there is none, or an empty one."""
        source = metadata.get(_GGUF_KEY)
        if source is None or isinstance(source, str):
            return cls(source, file, trusted) if source else None
        raise FormatError(
            f"{file}: {_GGUF_KEY}: a value of the wrong type; expected a string; found {source!r:.80}",
            remedy=f"{put_another(file)}, which leaves this one out.",
            file=str(file),
            tensor=_GGUF_KEY,
            expected="a string",
            found=f"{source!r:.80}",
        )

    def render(self, context: dict[str, Any]) -> str:
        """The text of `context` (messages and the rest, plain data). Raises ArgumentError where the template refuses
        the messages, FormatError where it fails or asks for too much."""
        if self.trusted or hashlib.sha256(self.source.encode(errors="surrogatepass")).hexdigest() in KNOWN_SHA256:
            return self._render_here(context)
        return self._render_apart(context)

    def _render_here(self, context: dict[str, Any]) -> str:
        try:
            return template_worker.render(self.source, context)
        except template_worker.RefusalError as error:
            raise self._refusal(str(error)) from None
        except MemoryError:
            raise
        except Exception as error:  # minijinja's own, and those of the filters it calls
            raise self._failure(str(error).partition("\n")[0]) from None

    def _render_apart(self, context: dict[str, Any]) -> str:
        job = {
            "source": self.source,
            "context": context,
            "path": str(Path(minijinja.__file__).parents[1]),  # -I hides the user's own packages
            "memory_bytes": MEMORY_BYTES,
            "seconds": SECONDS,
            "fuel": FUEL,
            "longest": LONGEST,
        }
        if not sys.executable:
            raise self._failure("no Python is known to start a helper process with: sys.executable is empty")
        try:
            with TemporaryFile() as file:  # no pipe: a process forked meanwhile would keep its end open
                file.write(json.dumps(job).encode())
                file.seek(0)
                out, errors, code = _run([sys.executable, "-I", template_worker.__file__], file)
        except subprocess.TimeoutExpired:
            raise self._failure(f"no answer within {_PATIENCE_S:g} s") from None
        except OSError as error:
            raise self._failure(f"the helper process does not start: {error}") from None
        if code != 0:
            raise self._failure(_cause_of_death(code, errors))
        try:
            answer = json.loads(out)
        except ValueError:
            raise self._failure(f"sys.executable, {sys.executable}, does not run Python") from None
        if "text" in answer:
            return str(answer["text"])
        raise self._refusal(answer["error"]) if answer["kind"] == "refusal" else self._failure(answer["error"])

    def _refusal(self, reason: str) -> ArgumentError:
        return ArgumentError(
            f"the chat template refuses the messages: {reason}",
            remedy="Change the messages: their roles, their order or their parts.",
            file=str(self.file),
            found=reason,
        )

    def _failure(self, reason: str) -> FormatError:
        return FormatError(
            f"{self.file}: the chat template cannot be rendered: {reason}",
            remedy=f"{put_another(self.file)}, or, if you trust this one and it only needs more, load with "
            "trust_template=True.",
            file=str(self.file),
            expected="a template that can be rendered",
            found=reason,
        )


def put_another(file: Path) -> str:
    """What to do where a template will not do, without a full stop. A GGUF file has no room for another."""
    where = " of the folder that gemmule convert makes of this file" if is_gguf(file) else ""
    return f"Put the template that the model's maker publishes into chat_template.jinja{where}"


def _refuse_long(file: Path, length: int) -> None:
    if length > LONGEST_SOURCE:
        raise FormatError(
            f"{file}: the chat template is too long: expected at most {LONGEST_SOURCE} bytes; found {length}",
            remedy=f"{put_another(file)}.",
            file=str(file),
            tensor="chat_template",
            expected=f"at most {LONGEST_SOURCE} bytes",
            found=f"{length}",
        )


def _default(value: object, file: Path) -> str | None:
    """The template in a JSON field: a string, or the last one named "default" in a list of {name, template}."""
    if isinstance(value, list):
        named = [each for each in value if isinstance(each, dict) and each.get("name") == "default"]
        value = named[-1].get("template") if named else None
    if value is None or isinstance(value, str):
        return value
    found = type(value).__name__
    raise FormatError(
        f"{file}: chat_template: expected a string; found {found}",
        remedy="Put the template that the model's maker publishes into chat_template.jinja.",
        file=str(file),
        tensor="chat_template",
        expected="a string",
        found=found,
    )


def _run(command: list[str], job: IO[bytes]) -> tuple[bytes, bytes, int]:
    """What a program that reads `job` writes to its two outputs, and its exit code. Raises TimeoutExpired, OSError."""
    with forks.held_up():
        process = subprocess.Popen(command, stdin=job, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        try:
            out, errors = process.communicate(timeout=_PATIENCE_S)
        except BaseException:
            process.kill()
            raise
    return out, errors, process.returncode


def _cause_of_death(code: int, errors: bytes) -> str:
    """Why the helper ended without an answer."""
    import signal

    if code == -signal.SIGALRM:
        return f"it takes longer than {SECONDS:g} s"
    if b"memory" in errors.lower() or code in (-signal.SIGABRT, -signal.SIGKILL, -signal.SIGSEGV):
        return f"it needs more than {MEMORY_BYTES >> 20} MB of memory"
    last = errors.decode(errors="replace").strip().rpartition("\n")[2]
    return f"the helper process ended with code {code}: {last}"
