"""Chat templates: where they are found, and what an unknown one reaches. Endless ones: test_hostile.py."""

import errno
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

import gemmule
from fakes import TOKENIZER

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def folder(tmp_path):
    """The tokenizer fixture without its template."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(TOKENIZER / name, tmp_path / name)
    return tmp_path


def render(folder, template, messages=MESSAGES, **options):
    (folder / "chat_template.jinja").write_text(template)
    return gemmule.Tokenizer.from_pretrained(folder, **options).apply_chat_template(messages)


def test_without_one(folder):
    tokenizer = gemmule.Tokenizer.from_pretrained(folder)
    assert tokenizer.chat_template is None
    with pytest.raises(gemmule.UnsupportedError, match="no chat template"):
        tokenizer.apply_chat_template(MESSAGES)


def test_an_empty_template_is_none(folder):
    (folder / "tokenizer_config.json").write_text('{"chat_template": ""}')
    assert gemmule.Tokenizer.from_pretrained(folder).chat_template is None


@pytest.mark.parametrize(
    "value", ["{{ 1 }}", [{"name": "tool_use", "template": "{{ 2 }}"}, {"name": "default", "template": "{{ 1 }}"}]]
)
@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.json"])
def test_is_found_in_json(folder, name, value):
    (folder / name).write_text(json.dumps({"chat_template": value}))
    assert gemmule.Tokenizer.from_pretrained(folder).chat_template == "{{ 1 }}"
    assert render(folder, "{{ 3 }}") == "3"  # its own file comes first


@pytest.mark.parametrize("name", [[], {}, None, 7])
def test_names_of_other_templates_are_not_looked_at(folder, name):
    others = [{"name": name, "template": "{{ 2 }}"}, {"name": "default", "template": "{{ 1 }}"}, {"template": 7}, 7]
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": others}))
    assert gemmule.Tokenizer.from_pretrained(folder).chat_template == "{{ 1 }}"
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": others[:1]}))
    assert gemmule.Tokenizer.from_pretrained(folder).chat_template is None


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("template", ["{{ raise_exception('TEXT') }}", "{{ 'TEXT' | nosuchfilter }}", "{% TEXT %}"])
def test_its_own_words_in_messages_are_printable(folder, trust, template):
    with pytest.raises(gemmule.GemmuleError) as error:
        render(folder, template.replace("TEXT", "\x1b[2J\x07\u202e"), trust_template=trust)
    assert str(error.value).replace("\n", "", 1).isprintable()


def test_a_disk_that_fails(folder, monkeypatch):
    (folder / "chat_template.jinja").write_text("{{ 1 }}")

    def fail(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_text", fail)
    with pytest.raises(gemmule.ResourceError, match=r"chat_template\.jinja: Input/output error"):
        gemmule.Tokenizer.from_pretrained(folder)


def test_no_memory_is_not_the_templates_fault(folder, monkeypatch):
    def render_nothing(source, context):
        raise MemoryError

    monkeypatch.setattr("gemmule.text.template_worker.render", render_nothing)
    with pytest.raises(MemoryError):
        render(folder, "{{ 1 }}", trust_template=True)


def test_unknown_and_known_render_alike(folder):
    known = (TOKENIZER / "chat_template.jinja").read_text()
    unknown = "{#- another file -#}" + known
    assert render(folder, unknown) == render(folder, known) == render(folder, unknown, trust_template=True)


@pytest.mark.parametrize("trust", [False, True])
def test_what_templates_expect(folder, trust):
    template = (
        "{{ bos_token }}{% for m in messages %}\n  {% if m.role == 'user' %}\n{{ m['content'] | tojson }}\n"
        "  {% endif %}\n{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    )
    messages = [{"role": "user", "content": "<é>"}, {"role": "model", "content": "x"}]
    assert render(folder, template, messages, trust_template=trust) == '<bos>"<é>"\n>'


@pytest.mark.parametrize("trust", [False, True])
def test_numbers_are_written_as_python_writes_them(folder, trust):
    values = [1e20, -2.5e-7, 0.1, 1.0, 7, 2**70, True, None]
    messages = [{"role": "user", "content": value} for value in values]
    template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    assert render(folder, template, messages, trust_template=trust).split() == [str(value) for value in values]


@pytest.mark.parametrize("trust", [False, True])
def test_a_refusal_is_the_caller_s(folder, trust):
    with pytest.raises(gemmule.ArgumentError, match="roles must alternate"):
        render(folder, "{{ raise_exception('roles must alternate') }}", trust_template=trust)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("template", ["{% for %}", "{{ 1 + {} }}", "{{ messages | nosuchfilter }}"])
def test_a_broken_one_says_why(folder, template, trust):
    with pytest.raises(gemmule.FormatError, match=r"chat_template\.jinja.*cannot be rendered"):
        render(folder, template, trust_template=trust)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__class__ }}",
        "{{ raise_exception.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os }}",
    ],
)
def test_reaches_nothing_outside(folder, template):
    for trust in (False, True):
        try:
            text = render(folder, template, trust_template=trust)
        except gemmule.FormatError:
            continue
        assert text in ("", "undefined")


@pytest.mark.parametrize("program", [None, "", "/bin/true"])
def test_no_python_to_render_with(folder, program, monkeypatch):
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(gemmule.FormatError, match=r"sys\.executable"):
        render(folder, "{{ 1 }}")


def test_not_utf8(folder):
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(gemmule.FormatError, match="UTF-8"):
        gemmule.Tokenizer.from_pretrained(folder)
