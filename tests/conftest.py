"""What tests of all packages share: the transport to use, a repository, and a client and the peer it talks to."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from mods_grpc.client import Client
from mods_grpc.server.config import TRANSPORTS
from tests.support import running_server
from tests.support.rpc import scripted_server
from tests.support.rpc.scripted_server import ScriptedServer


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--transport", choices=TRANSPORTS, default=TRANSPORTS[0], help="what carries the calls of the servers that tests start"
    )


settings.register_profile("no deadline", deadline=None)  # how long an example takes depends on what else the machine does
settings.load_profile("no deadline")


def pytest_configure(config: pytest.Config) -> None:
    running_server.transport = config.getoption("--transport")


@pytest.fixture(scope="session", autouse=True)
def frozen_modules() -> Iterator[None]:
    """Have the collector of cycles pass over what was imported, also after a command that ends with `gc.unfreeze`.

    With TensorFlow in memory a look at everything takes half a second, and each replay begins with one.
    """
    gc.collect()
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "unfreeze", lambda: None)
        yield


@pytest.fixture(scope="module")
def serving() -> Iterator[tuple[ScriptedServer, Client]]:
    peer = ScriptedServer()
    server, address = scripted_server.start(peer)
    with Client(address, timeout_seconds=5) as client:
        yield peer, client
    server.stop(None).wait()


@pytest.fixture
def peer_and_client(serving: tuple[ScriptedServer, Client]) -> tuple[ScriptedServer, Client]:
    peer, client = serving
    peer.__dict__.update(ScriptedServer().__dict__)
    return peer, client


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the tiny model in it."""
    from tests.support.models.tiny import publish_tiny

    folder = tmp_path_factory.mktemp("repository")
    publish_tiny(folder)
    return folder
