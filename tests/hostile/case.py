"""One hostile file: how it is made, and what opening it must end in."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gemmule
from gemmule.errors import FormatError, GemmuleError

LOOKS = (gemmule.inspect, gemmule.estimate, gemmule.verify)


@dataclass(frozen=True)
class Case:
    """A checkpoint that lies.

    Attributes:
        name: of the case; says what is wrong.
        write: makes it in an empty folder and returns what `open` is given.
        match: a pattern of the message and its remedy.
        error: the class of the exception, exactly.
        file: a pattern of the path of the file that is blamed, from that folder; ".": the folder itself.
        tensor: a pattern of the whole name of the tensor or key that is blamed; "" where the file is as a whole.
        open: who reads it first.
    """

    name: str
    write: Callable[[Path], Path]
    match: str
    error: type[GemmuleError] = FormatError
    file: str = r"\."
    tensor: str = ".*"
    open: Callable[[Path], object] = gemmule.load

    def check(self, error: GemmuleError, folder: Path) -> None:
        """Holds what was raised to all of this, and to being complete."""
        assert type(error) is self.error, repr(error)
        assert re.search(self.match, str(error), re.DOTALL), str(error)
        assert re.fullmatch(self.file, Path(error.file).relative_to(folder).as_posix()), error.file
        assert re.fullmatch(self.tensor, error.tensor or ""), error.tensor
        assert error.expected
        assert error.found
        assert error.remedy
        assert len(str(error)) < 20_000
        assert str(error).replace("\n", "", 1).isprintable(), repr(str(error))
