"""Alerts to real receivers of syslog: each arrives whole, in order and once, also over a restart of the receiver."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mods_grpc.ids.alerts.alert import Alert
from mods_grpc.ids.alerts.sinks.destination import open_sinks
from tests.support.alerts.sample_alerts import ALERT
from tests.support.alerts.syslog_receivers import PROGRAMS, SyslogReceiver, find_receiver

pytestmark = pytest.mark.slow

COUNT = 60
FRAMINGS = ("octet-counting", "newline")


@pytest.fixture(params=PROGRAMS)
def kind(request: pytest.FixtureRequest) -> str:
    if find_receiver(request.param) is None:
        pytest.skip(f"no {request.param}; .ci/run unpacks it")
    return str(request.param)


def make_alerts() -> list[Alert]:
    """Make alerts of different length, with characters that a receiver might change."""
    return [replace(ALERT, series=f"{index}-ä ☃ \t\"'\\<1>{'x' * (index * 100 % 6_000)}") for index in range(COUNT)]


def ids(lines: list[str]) -> list[str]:
    """Return the id of each alert, and check that the rest is there as well."""
    alerts = [json.loads(line[line.index("{") :]) for line in lines]
    by_id = {alert.id: alert.series for alert in make_alerts()}
    assert all(by_id[alert["id"]] == alert["series"] for alert in alerts)
    return [alert["id"] for alert in alerts]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_alerts_over_tcp_arrive_in_order_and_once_over_a_restart(tmp_path: Path, kind: str, framing: str) -> None:
    alerts = make_alerts()
    with SyslogReceiver(kind, framing, tmp_path) as receiver:
        sinks = open_sinks([f"jsonl:tcp://127.0.0.1:{receiver.port}#framing={framing}"], tmp_path / "state")
        for alert in alerts[:20]:
            sinks.write(alert)
        assert len(receiver.wait_for(20)) == 20
        receiver.stop()
        for alert in alerts[20:40]:
            sinks.write(alert)
        receiver.start()
        for alert in alerts[40:]:
            sinks.write(alert)
        receiver.wait_for(COUNT)
        sinks.close()
        assert ids(receiver.lines()) == [alert.id for alert in alerts]


def test_octet_counting_is_the_default(tmp_path: Path, kind: str) -> None:
    with SyslogReceiver(kind, "octet-counting", tmp_path) as receiver:
        sinks = open_sinks([f"jsonl:tcp://127.0.0.1:{receiver.port}"], tmp_path / "state")
        sinks.write(make_alerts()[0])
        lines = receiver.wait_for(1)
        sinks.close()
    assert ids(lines) == [make_alerts()[0].id]


def test_alerts_over_udp_arrive_whole_and_in_order(tmp_path: Path, kind: str) -> None:
    alerts = make_alerts()
    with SyslogReceiver(kind, "udp", tmp_path) as receiver:
        sinks = open_sinks([f"jsonl:udp://127.0.0.1:{receiver.port}"], tmp_path / "state")
        for alert in alerts:
            sinks.write(alert)
        lines = receiver.wait_for(COUNT)
        sinks.close()
    assert ids(lines) == [alert.id for alert in alerts]
