"""The exceptions: their classes, their text, and that they survive pickling."""

import pickle

import pytest

import gemmule
from gemmule.errors import GemmuleError

BASES = {
    gemmule.FormatError: ValueError,
    gemmule.UnsupportedError: NotImplementedError,
    gemmule.ResourceError: OSError,
    gemmule.MissingFileError: FileNotFoundError,
    gemmule.AccessError: PermissionError,
    gemmule.NetworkError: ConnectionError,
    gemmule.ArgumentError: ValueError,
    gemmule.ContextError: gemmule.ArgumentError,
}

FIELDS = {"file": "a.safetensors", "tensor": "w", "offset": 7, "expected": "F32", "found": "I8"}


@pytest.mark.parametrize("kind", BASES)
def test_fits_the_builtin_class(kind):
    assert issubclass(kind, GemmuleError)
    assert issubclass(kind, BASES[kind])


@pytest.mark.parametrize("kind", [GemmuleError, *BASES])
def test_keeps_what_it_was_told(kind):
    error = kind("a.safetensors: w: wrong type", remedy="Download it again.", **FIELDS)
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert type(each) is kind
        assert str(each) == "a.safetensors: w: wrong type\nDownload it again."
        assert each.message == "a.safetensors: w: wrong type"
        assert {name: getattr(each, name) for name in FIELDS} == FIELDS


@pytest.mark.parametrize("kind", [GemmuleError, *BASES])
def test_needs_only_a_message(kind):
    error = kind("no memory")
    assert str(error) == "no memory"
    assert (error.remedy, error.file, error.offset) == ("", None, None)


def test_nothing_from_outside_colours_a_terminal_breaks_a_line_or_fills_a_log():
    name = "\x1b[31mred\n\u202egnp\udcff" + "x" * 100_000
    error = GemmuleError(f"{name}: wrong type", remedy=f"Rename {name}.", tensor=name).within(name)
    assert error.tensor == name
    assert error.message.startswith(r"\u001b[31mred\n\u202egnp\udcffxxx")
    for text in (*str(error).split("\n", 1), error.args[0]):
        assert text.isprintable()
        assert len(text) < 10_000
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_details_stand_between_message_and_remedy():
    error = GemmuleError("too large", remedy="Take less.", details="a 1\nb 2")
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert str(each) == "too large\na 1\nb 2\nTake less."
