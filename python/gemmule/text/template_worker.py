"""Renders one chat template. As a program it is the helper process for templates that nobody has looked at.

It imports nothing of gemmule, because it is run by its path: it reads {"source", "context", "path", limits} as JSON
from standard input and writes {"text"} or {"error", "kind"} to standard output. A template may ask for any amount of
time and memory, so the system's limits end the process; fuel alone bounds neither (one filter call may build a long
string, and minijinja aborts when memory runs out).
"""

import json
import sys
from typing import Any

_LONGEST_ERROR = 1000  # characters: a template may say anything


class RefusalError(Exception):
    """What a template says through raise_exception(): the messages do not suit it."""


def render(source: str, context: dict[str, Any], fuel: int | None = None) -> str:
    """The text that the template makes of `context`. Raises RefusalError, or minijinja's TemplateError."""
    import minijinja  # here: the helper learns where it lies from its input

    environment = minijinja.Environment(
        trim_blocks=True,  # both as transformers sets them
        lstrip_blocks=True,
        fuel=fuel,
        debug=False,
        finalizer=_final,
        filters={"tojson": _to_json},
        globals={"raise_exception": _raise_exception},
    )
    return environment.render_str(source, **context)


def _raise_exception(message: Any = "") -> None:
    raise RefusalError(str(message))


def _final(value: Any) -> Any:
    # minijinja's own way writes 1e+20 with all its zeros; transformers' templates write numbers as Python does.
    return repr(value) if isinstance(value, float) else NotImplemented


def _to_json(value: Any, indent: int | None = None, **others: Any) -> str:
    # minijinja's own filter writes < and > as escapes; transformers' does not.
    return json.dumps(value, indent=indent, ensure_ascii=False, sort_keys=bool(others.get("sort_keys")))


def main() -> None:
    import resource
    import signal

    job = json.load(sys.stdin.buffer)
    sys.path.append(job["path"])
    import minijinja  # noqa: F401  loaded before the clock runs and memory is counted

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (job["memory_bytes"], job["memory_bytes"]))
    signal.setitimer(signal.ITIMER_REAL, job["seconds"])  # SIGALRM ends the process, inside minijinja too
    try:
        text = render(job["source"], job["context"], job["fuel"])
        if len(text) > job["longest"]:
            answer = {"error": f"it renders more than {job['longest']} characters", "kind": "limit"}
        else:
            answer = {"text": text}
    except RefusalError as error:
        answer = {"error": str(error)[:_LONGEST_ERROR], "kind": "refusal"}
    except MemoryError:
        answer = {"error": "out of memory", "kind": "limit"}
    except Exception as error:  # whatever it is, it is the template's fault: the caller says so
        answer = {"error": str(error).partition("\n")[0][:_LONGEST_ERROR], "kind": "failure"}
    sys.stdout.buffer.write(json.dumps(answer, ensure_ascii=False).encode(errors="replace"))


if __name__ == "__main__":
    main()
