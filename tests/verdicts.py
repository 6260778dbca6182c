"""Prints what each hostile file of hostile/ ends in, a line for each: python tests/verdicts.py

Builds of gemmule are compared by it (.ci/coverage): compilers, assertions and optimisation change no verdict.
"""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from gemmule.errors import GemmuleError
from hostile.case import Case
from hostile.families import FAMILIES


def verdict(case: Case) -> str:
    with TemporaryDirectory() as folder:
        path = case.write(Path(folder))
        try:
            case.open(str(path))
        except GemmuleError as error:
            said = str(error).replace(folder, "FOLDER")
            # Of a chat's cache, whose bits are those of the instruction set.
            return f"{type(error).__name__}: {re.sub('[0-9a-f]{64}', 'SHA-256', said)}"
    return "accepted"


def main() -> None:
    for family in FAMILIES:
        for case in family.cases():
            print(ascii(f"{family.__name__}: {case.name}: {verdict(case)}"))


if __name__ == "__main__":
    main()
