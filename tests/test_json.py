"""The JSON reader: the same values as Python's own where the text is JSON, a named error where it is not."""

import json
import random

import pytest
from gemmule._core.testing import parse_json

from gemmule.errors import FormatError
from hostile import mutate

VALID = [
    "null",
    "true",
    " \t\r\n false \n",
    "0",
    "-0",
    "-17",
    "9223372036854775807",
    "-9223372036854775808",
    "0.5",
    "-0.0",
    "1e5",
    "1E+5",
    "2.5e-3",
    "5e-324",
    "1.7976931348623157e308",
    "0e-999",
    '""',
    '"fox"',
    r'"\" \\ \/ \b \f \n \r \t"',
    r'"\u0041\u00e9\u20ac\uFFFF\u0000"',
    r'"\ud83e\udd8a"',
    '"é € 🦊 \U0010ffff \u007f"',
    "[]",
    "[ ]",
    "[1,[2,[3,[]]],{}]",
    "{}",
    '{"a":1,"b":{"a":[true,false,null]},"":"empty key"}',
    '{"z":1,"a":2,"m":3}',
]


@pytest.mark.parametrize("text", VALID)
def test_reads_what_python_reads(text):
    got, want = parse_json(text.encode()), json.loads(text)
    assert repr(got) == repr(want)  # types and the order of keys count too


@pytest.mark.parametrize("place", range(20))
def test_indentation_is_spaces_alone(place):
    """Of any length; what looks like a space and is none ends it."""
    spaces = b"\n" + b" " * 20
    assert parse_json(b"[" + spaces[: place + 1] + b"1]") == [1]
    for byte in b"\0\x1f\x21\xa0\x0b":
        with pytest.raises(FormatError, match=f"byte {place + 2}"):
            parse_json(b"[" + spaces[: place + 1] + bytes([byte]) + spaces + b"1]")


def test_integers_beyond_int64_become_floats():
    got = parse_json(b"[9223372036854775808, -9223372036854775809]")
    assert got == [2.0**63, -(2.0**63)]
    assert all(isinstance(value, float) for value in got)


INVALID = {
    "nothing": b"",
    "only space": b" ",
    "two values": b"1 2",
    "a rest": b"{}x",
    "a zero byte after": b"{}\0",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "NaN": b"NaN",
    "Infinity": b"[Infinity]",
    "minus Infinity": b"-Infinity",
    "a capital": b"True",
    "half a word": b"tru",
    "a line comment": b"[1, // one\n2]",
    "a block comment": b"/* */ 1",
    "a trailing comma in an array": b"[1,]",
    "a trailing comma in an object": b'{"a":1,}',
    "a leading comma": b"[,1]",
    "no comma": b"[1 2]",
    "no colon": b'{"a" 1}',
    "no value": b'{"a":}',
    "no key": b"{:1}",
    "a bare key": b"{a:1}",
    "a number as key": b"{1:1}",
    "single quotes": b"'a'",
    "an open array": b"[1",
    "an open object": b'{"a":1',
    "an open string": b'"abc',
    "an open escape": b'"\\',
    "the wrong bracket": b"[1}",
    "a leading zero": b"01",
    "a plus": b"+1",
    "a bare minus": b"-",
    "no digit before the point": b".5",
    "no digit after the point": b"1.",
    "no digit in the exponent": b"1e",
    "a hexadecimal number": b"0x10",
    "too large a number": b"1e400",
    "too large a negative number": b"-1e400",
    "too small a number": b"1e-400",
    "a duplicate key": b'{"a":1,"b":2,"a":3}',
    "a duplicate key by an escape": b'{"a":1,"\\u0061":2}',
    "a newline in a string": b'"a\nb"',
    "a zero byte in a string": b'"a\0b"',
    "an unknown escape": b'"\\x41"',
    "a short unicode escape": b'"\\u12"',
    "no hexadecimal digits": b'"\\u12g4"',
    "a lone high surrogate": b'"\\ud83e"',
    "a high surrogate before text": b'"\\ud83eabc"',
    "a high surrogate before another": b'"\\ud83e\\ud83e"',
    "a high surrogate before a letter": b'"\\ud83e\\u0041"',
    "a high surrogate before a private character": b'"\\ud83e\\ue000"',
    "a lone low surrogate": b'"\\udd8a"',
    "a stray continuation byte": b'"\x80"',
    "an overlong form of two": b'"\xc0\xaf"',
    "an overlong form of three": b'"\xe0\x80\xaf"',
    "an overlong form of four": b'"\xf0\x80\x80\xaf"',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "a character above U+10FFFF": b'"\xf4\x90\x80\x80"',
    "a cut character": b'"\xe2\x82"',
    "a byte that UTF-8 never has": b'"\xff"',
}


@pytest.mark.parametrize("text", INVALID.values(), ids=INVALID.keys())
def test_refuses(text):
    with pytest.raises(FormatError) as error:
        parse_json(text)
    assert error.value.offset is not None
    assert 0 <= error.value.offset <= len(text)
    assert error.value.expected


def test_error_names_place_and_finding():
    with pytest.raises(FormatError, match="at byte 7") as error:
        parse_json(b'{"a": [&]}')
    assert error.value.offset == 7
    assert error.value.found == '"&"'


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth(opening, closing):
    parse_json(opening * 63 + b"[]" + closing * 63)
    with pytest.raises(FormatError, match="64 levels"):
        parse_json(opening * 64 + b"[]" + closing * 64)
    with pytest.raises(FormatError, match="64 levels"):
        parse_json(opening * 1_000_000)


def test_number_of_values():
    with pytest.raises(FormatError, match="too many"):
        parse_json(b"[" + b"0," * (1 << 22) + b"0]")


def test_duplicate_among_many_keys():
    members = [f'"k{i}":{i}' for i in range(10_000)]
    assert len(parse_json(("{" + ",".join(members) + "}").encode())) == 10_000
    with pytest.raises(FormatError, match=r'twice.*"k77"'):
        parse_json(("{" + ",".join([*members, '"k77":0']) + "}").encode())


def _integer(digits: str) -> int | float:
    value = int(digits)
    return value if -(2**63) <= value < 2**63 else float(value)


def test_random_damage_is_read_or_refused():
    """Where the text is still JSON, the value is Python's; everywhere else there is a FormatError and nothing worse."""
    rng = random.Random(0)
    text = json.dumps({"a": [1, -2.5, None, True, "é\n🦊"], "b": {"c": [[], {}, [0]], "d": "x" * 20}}).encode()
    read = 0
    for _ in range(3000):
        damaged = mutate(text, rng, len(text))
        try:
            got = parse_json(damaged)
        except FormatError:
            continue
        read += 1
        assert got == json.loads(damaged, parse_int=_integer)
    assert 0 < read < 3000
