"""The rules of HTTP/2 and HPACK, played by a raw peer against the server."""

import pytest

from benchmarks.conformance.http2 import CASES
from tests.support import running_server

MAX_ANSWER_SECONDS = 30.0  # an answer ends the wait
SILENCE_SECONDS = 1.0  # where no answer is expected


@pytest.fixture(scope="module")
def port(repository):
    with running_server.running_server(repository=repository) as server:
        yield server.app.port


@pytest.mark.parametrize("case", CASES, ids=[f"{case.section} {case.sends}" for case in CASES])
def test_the_server_keeps_each_rule_or_a_note_says_why_not(port, case):
    if running_server.transport == "grpcio" and not case.in_use:
        pytest.skip("gRPC's library keeps fewer rules, as docs/results/http2-conformance.md shows; clients need only the others")
    difference = case.play(port, SILENCE_SECONDS if case.note else MAX_ANSWER_SECONDS)
    assert (difference is None) == (not case.note), difference


def test_each_case_of_h2spec_occurs_once():
    numbers = [case.h2spec for case in CASES if case.h2spec]
    assert len(numbers) == len(set(numbers)) == 149
