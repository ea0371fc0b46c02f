"""Set-up of the tests of training."""

import gc
import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def rare_full_collections() -> Iterator[None]:
    """Collect garbage of the oldest generation rarely: with TensorFlow's graphs in memory it takes half a second."""
    thresholds = gc.get_threshold()
    gc.set_threshold(20_000, thresholds[1], 200)
    yield
    gc.set_threshold(*thresholds)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT interrupt, which it does not in a process that a shell started in the background."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)
