"""The module as users get it is hardened (cmake/Hardening.cmake): what its ELF file says of that."""

import struct
from pathlib import Path

import pytest

from gemmule import _core

MODULE = Path(_core.__file__).read_bytes()
PT_DYNAMIC, PT_GNU_STACK, PT_GNU_RELRO = 2, 0x6474E551, 0x6474E552
DT_FLAGS, DF_BIND_NOW, PF_X = 30, 8, 1

if b"__asan_init" in MODULE or b"__tsan_init" in MODULE:
    pytest.skip("built with sanitizers", allow_module_level=True)


@pytest.fixture(scope="module")
def segments():
    """Type -> flags, offset and bytes in the file."""
    (table,) = struct.unpack_from("<Q", MODULE, 32)
    size, count = struct.unpack_from("<HH", MODULE, 54)
    entries = [struct.unpack_from("<IIQQQQ", MODULE, table + i * size) for i in range(count)]
    return {kind: (flags, offset, size) for kind, flags, offset, _, _, size in entries}


def test_addresses_are_read_only_once_it_is_loaded(segments):
    assert PT_GNU_RELRO in segments
    _, offset, size = segments[PT_DYNAMIC]
    assert dict(struct.iter_unpack("<QQ", MODULE[offset : offset + size])).get(DT_FLAGS, 0) & DF_BIND_NOW


def test_nothing_runs_on_the_stack(segments):
    assert not segments[PT_GNU_STACK][0] & PF_X


def test_frames_and_bounds_are_checked():
    assert b"\0__stack_chk_fail\0" in MODULE
    assert b"__glibcxx_assert_fail" in MODULE
