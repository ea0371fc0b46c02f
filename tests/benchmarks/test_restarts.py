"""Sensors that reconnect to a restarted server resume while its models still load, and get the verdicts they would have got."""

import pytest

from benchmarks.robustness.restarts import measure
from tests.support import running_server
from tests.support.models.tiny import publish_tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SENSORS = 60


def test_sensors_resume_after_a_drain_and_after_a_kill_with_the_same_verdicts(tmp_path):
    for name in ("one", "two", "three"):
        publish_tiny(tmp_path, name)
    drained, killed, killed_under_way = measure(tmp_path, SENSORS, running_server.transport)
    assert [drained["resumed"], killed["resumed"]] == [SENSORS] * 2
    assert killed_under_way["resumed"] + killed_under_way["fresh"] == SENSORS
    assert [row["differing_sensors"] for row in (drained, killed, killed_under_way)] == [0] * 3
    assert min(row["verdicts"] for row in (drained, killed, killed_under_way)) > SENSORS
