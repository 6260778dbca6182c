"""Fixtures that several test files use."""

import signal

import pytest

from golden_cases import FLOAT_FIXTURES, MOBILE_FIXTURES, Case, read_case

# A shell starts a background job with SIGINT ignored, and so would be the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=FLOAT_FIXTURES)
def float_case(request) -> Case:
    return read_case(request.param)


@pytest.fixture(params=MOBILE_FIXTURES)
def mobile_case(request) -> Case:
    return read_case(request.param)
