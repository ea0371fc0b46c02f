"""The server of the tests that judge logs."""

from collections.abc import Iterator

import pytest

from tests.support.models.time_of_day import publish_day_model
from tests.support.running_server import running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the model of a day; yields the address."""
    folder = tmp_path_factory.mktemp("models")
    publish_day_model(folder)
    with running_server(repository=folder) as running:
        yield running.address
