"""Python's sub-interpreters: refused in time, and the main one goes on."""

import subprocess
import sys

import pytest

SCRIPT = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
IMPORT = '''
try:
    import gemmule
except ImportError as error:
    print(error, flush=True)
'''
there = interpreters.create({})
interpreters.run_string(there, IMPORT)
interpreters.destroy(there)
import gemmule
print(gemmule.load("fairy", threads=1).generate("Once", max_tokens=3, ignore_eos=True).usage.completion_tokens)
"""
REFUSED = "gemmule does not run in a sub-interpreter of Python\nUse it in the main one, "


@pytest.mark.parametrize("config", ["'legacy'", "'isolated'"] if sys.version_info >= (3, 13) else [""])
def test_an_import_is_refused(config):
    child = subprocess.run([sys.executable, "-c", SCRIPT.format(config)], capture_output=True, text=True, timeout=60)
    assert child.returncode == 0, child.stderr
    assert child.stdout.startswith(REFUSED)
    assert child.stdout.endswith("\n3\n")
