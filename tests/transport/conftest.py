"""Connections in memory, on a loop whose time stands until it is moved."""

from collections.abc import Iterator

import pytest

from tests.support.http2.wire import SteppedLoop, Wire


@pytest.fixture
def stepped() -> Iterator[SteppedLoop]:
    loop = SteppedLoop()
    yield loop
    loop.settle()
    loop.close()


@pytest.fixture
def wire(stepped: SteppedLoop) -> Wire:
    return Wire(stepped)


@pytest.fixture
def echo(stepped: SteppedLoop) -> Wire:
    return Wire(stepped, echoing=True)
