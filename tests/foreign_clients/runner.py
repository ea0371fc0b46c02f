"""Start a client, let it go through the scenarios against a server of its own, and collect what it reports."""

import json
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from tests.foreign_clients.plan import write_plan
from tests.support.models.tiny import publish_tiny
from tests.support.paths import ROOT
from tests.support.running_server import running_server

SCENARIOS = (
    "unary",
    "error_details",
    "deadlines",
    "cancel_at_start",
    "cancel_answers",
    "large_answers",
    "metadata",
    "at_once",
    "stream",
    "settings",
    "drain",
)
RUN_LIMIT_SECONDS = 100
GRACE_SECONDS = 60.0
HOLD_SECONDS = 0.5  # how long after the start of a drain a client reads nothing
UNDER_WAY = "under_way"
DIFFERENCES = {
    ("nghttp", "settings", "grpcio"): (
        "gRPC's library does not begin with the smaller table after a change to it and back (RFC 7541, section 4.2), "
        "and fails calls whose DATA is padded"
    ),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a client reports of a scenario.

    Attributes:
        calls: Calls that had to end in a certain way.
        lost: Those that did not.
        detail: How the first of them ended.
        skipped: Why it was not gone through; empty if it was.
    """

    calls: int = 0
    lost: int = 0
    detail: str = ""
    skipped: str = ""


@dataclass(slots=True)
class Report:
    """What a client said.

    Attributes:
        outcomes: One for each scenario that it came through.
        stopped_in_time: Whether the server's drain ended within the grace.
        errors: What the client printed besides.
    """

    outcomes: dict[str, Outcome]
    stopped_in_time: bool
    errors: str


def go_through(name: str, command: list[str], transport: str, folder: Path) -> Report:
    """Run a client against a server, which begins to drain when the client says that its last calls are under way.

    Args:
        name: Of the client.
        command: Starts it.
        transport: Of the server.
        folder: An empty folder for its files.
    """
    repository, plan = folder / "repository", folder / "plan"
    repository.mkdir()
    plan.mkdir()
    publish_tiny(repository)
    outcomes: dict[str, Outcome] = {}
    with (
        running_server(repository=repository, transport=transport, grace_seconds=GRACE_SECONDS) as server,
        (folder / "errors").open("w+") as errors,
    ):
        write_plan(plan, server.address, name)
        process = subprocess.Popen(
            [*command, server.address, str(plan)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
        )
        limit = threading.Timer(RUN_LIMIT_SECONDS, process.kill)
        limit.start()
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            for line in process.stdout:
                values = json.loads(line)
                scenario = values.pop("scenario")
                if scenario != UNDER_WAY:
                    outcomes[scenario] = Outcome(**values)
                    continue
                server.begin_stop()
                try:
                    process.wait(HOLD_SECONDS)
                except subprocess.TimeoutExpired:
                    process.stdin.write("\n")
                    process.stdin.flush()
        limit.cancel()
        server.stop()
        errors.seek(0)
        return Report(outcomes, server.stopped_in_time, f"exit status {process.returncode}\n{errors.read()[-4000:]}")
