"""What fuzzing found: each file here once got past a reader, or was refused in the wrong way."""

import pytest
from gemmule._core.testing import parse_json, safetensors

from gemmule.errors import FormatError
from hostile import entry, write_safetensors

# Clears a terminal's screen; is a line of its own; likewise in the two bytes that C1 controls have in UTF-8.
CONTROLS = ["\x1b[2J", "\nall is well", "\x7f", "\x9b2J", "\x85"]


@pytest.mark.parametrize("control", CONTROLS)
def test_a_tensors_name_cannot_speak_to_the_terminal(tmp_path, control):
    header = {f"a{control}": entry("F32", [1], 4, 8)}  # bytes before it belong to none
    path = write_safetensors(tmp_path / "a", header, bytes(8))
    with pytest.raises(FormatError, match=r"a\\x\w\w") as error:
        safetensors(str(path))
    cause, _, remedy = str(error.value).partition("\n")
    assert (cause + remedy).isprintable()
    assert error.value.tensor == f"a{control}"


@pytest.mark.parametrize("control", CONTROLS)
def test_nor_can_a_key(control):
    with pytest.raises(FormatError, match=r"a\\x\w\w") as error:
        parse_json(('{"a%s": 1, "a%s": 2}' % ((control.replace("\n", "\\n").replace("\x1b", "\\u001b"),) * 2)).encode())
    assert str(error.value).replace("\n", "").isprintable()


def test_a_name_of_megabytes_does_not_fill_the_screen(tmp_path):
    path = write_safetensors(tmp_path / "a", {"x" * 2_000_000: entry("F32", [1], 4, 8)}, bytes(8))
    with pytest.raises(
        FormatError, match=r"xxx\.\.\.: a tensor's name of a wrong length at byte \d+; expected 1 to 1024"
    ) as error:
        safetensors(str(path))
    assert len(str(error.value)) < 2000
