from functools import cache

import pytest

from mods_grpc.server.config import TRANSPORTS
from tests.foreign_clients.clients import BUILD_LIMIT_SECONDS, CLIENTS, ForeignClient
from tests.foreign_clients.runner import DIFFERENCES, RUN_LIMIT_SECONDS, SCENARIOS, Report, go_through

pytestmark = [pytest.mark.slow, pytest.mark.timeout(BUILD_LIMIT_SECONDS + RUN_LIMIT_SECONDS + 30)]

PAIRS = [(client, transport) for client in CLIENTS for transport in TRANSPORTS]


@cache
def build(client: ForeignClient) -> list[str]:
    return client.build()


@pytest.fixture(scope="module", params=PAIRS, ids=[f"{client.name}-{transport}" for client, transport in PAIRS])
def pair(request: pytest.FixtureRequest) -> tuple[ForeignClient, str]:
    return request.param


@pytest.fixture(scope="module")
def report(pair: tuple[ForeignClient, str], tmp_path_factory: pytest.TempPathFactory) -> Report:
    client, transport = pair
    if client.missing:
        pytest.skip(client.missing)
    return go_through(client.name, build(client), transport, tmp_path_factory.mktemp(client.name))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_client_loses_no_call(pair: tuple[ForeignClient, str], report: Report, scenario: str) -> None:
    client, transport = pair
    assert scenario in report.outcomes, report.errors
    outcome = report.outcomes[scenario]
    if outcome.skipped:
        pytest.skip(f"{client.name}: {outcome.skipped}")
    if (client.name, scenario, transport) in DIFFERENCES:
        pytest.skip(f"{client.name}: {DIFFERENCES[client.name, scenario, transport]}")
    assert outcome.calls > 0
    assert outcome.lost == 0, f"{outcome.lost} of {outcome.calls}: {outcome.detail}"


def test_the_drain_ends_in_time(report: Report) -> None:
    assert report.stopped_in_time, report.errors
