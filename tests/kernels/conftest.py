"""Every kernel test runs once on each instruction set that this processor has."""

import pytest

import gemmule

testing = gemmule._core.testing


@pytest.fixture(params=testing.targets())
def target(request):
    testing.set_target(request.param)
    yield request.param
    testing.set_target(None)
