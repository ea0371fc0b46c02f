"""Rows that tests of the client send, and the comparison of their verdicts."""

import dataclasses
from datetime import UTC, datetime, timedelta

from mods_grpc.client import Observation, ResumePolicy, Verdict
from tests.support.rpc import scripted_server

START = datetime(2019, 1, 1, tzinfo=UTC)
START_NANOS = 1_546_300_800 * 10**9
QUICK = ResumePolicy(total_seconds=10, first_wait_seconds=0.001, longest_wait_seconds=0.01)


def make_rows(count: int, series: str = "site") -> list[Observation]:
    """Make rows with a jump at every fourth, so that verdicts differ."""
    return [
        Observation(series, START + timedelta(seconds=scripted_server.SLIDE_SECONDS * i), (float(i % 5), 50.0 * (i % 4 == 3)))
        for i in range(count)
    ]


def remove_errors(verdicts: list[Verdict]) -> list[Verdict]:
    """Return the verdicts less their errors, which are compared by identity."""
    return [dataclasses.replace(verdict, error=None) for verdict in verdicts]
