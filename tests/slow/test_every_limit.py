"""tests/test_address_space.py, with a limit every few kilobytes."""

import pytest

from test_address_space import check


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("work", ["generate", "chat", "convert"])
def test_every_seven_kilobytes(work, tmp_path):
    check(work, tmp_path, [*range(0, 2600, 7), *range(2600, 26000, 200)])
