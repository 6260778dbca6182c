"""Fixtures that several test files use."""

import pytest

from golden_cases import FLOAT_FIXTURES, MOBILE_FIXTURES, Case, read_case


@pytest.fixture(params=FLOAT_FIXTURES)
def float_case(request) -> Case:
    return read_case(request.param)


@pytest.fixture(params=MOBILE_FIXTURES)
def mobile_case(request) -> Case:
    return read_case(request.param)
