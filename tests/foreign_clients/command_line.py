"""The scenarios with programs of the command line, as far as these can: curl, and nghttp for its SETTINGS.

Usage: python -m tests.foreign_clients.command_line curl|nghttp ADDRESS FOLDER
"""

import base64
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path

LIMIT_SECONDS = 30
DETECT = "mods.v1.InferenceService/Detect"
FORECAST = "mods.v1.InferenceService/Forecast"
GET_MODEL = "mods.v1.ModelService/GetModel"
STREAM = "mods.v1.InferenceService/StreamDetect"
REQUIRED_HEADERS = ("te: trailers", "content-type: application/grpc", "grpc-timeout: 20S")
OK, NOT_FOUND = "0", "5"


@dataclass(slots=True)
class Count:
    """A scenario: its calls, and those that ended otherwise than they had to."""

    scenario: str
    calls: int = 0
    lost: int = 0
    detail: str = ""

    def add(self, loss: str) -> None:
        """Count a call, and its loss if it is not empty."""
        self.calls += 1
        if loss:
            self.lost += 1
            self.detail = self.detail or loss


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call brought: messages with their frames, and the fields of headers and trailers."""

    body: bytes
    fields: dict[str, str]

    def check(self, status: str | None, body: bytes, details: bytes = b"") -> str:
        """Return what differs from what had to come; None for a status that the program may not show."""
        if status is not None and self.fields.get("grpc-status") != status:
            return f"{self.fields.get('grpc-status')}: {self.fields.get('grpc-message')}"
        if self.body != body:
            return "another answer"
        return "" if base64.b64decode(self.fields.get("grpc-status-details-bin", "") + "==") == details else "other details"


@dataclass(slots=True)
class ScenarioPlan:
    """The files that say what to send and what must come back."""

    folder: Path
    frames: dict[str, bytes] = field(default_factory=dict)

    def read(self, name: str) -> bytes:
        """Return the contents of a file."""
        return (self.folder / name).read_bytes()

    def read_frame(self, name: str) -> bytes:
        """Return a message in its frame."""
        message = self.read(name)
        return b"\0" + len(message).to_bytes(4, "big") + message


class Curl:
    """Calls with curl; one process for those of a scenario, on one connection."""

    def __init__(self, address: str, plan: ScenarioPlan) -> None:
        self._address = address
        self._plan = plan

    def call(self, method: str, body: bytes, times: int, headers: Iterable[str] = (), at_once: bool = False) -> Iterable[Outcome]:
        """Make one call several times, one after another or all at once."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "request").write_bytes(body)
            (folder / "headers").write_bytes("".join(f"{header}\r\n" for header in (*REQUIRED_HEADERS, *headers)).encode())
            transfers = [
                f'url = "http://{self._address}/{method}"\n{_version_option(number)}\ndata-binary = "@{folder}/request"\n'
                f'header = "@{folder}/headers"\noutput = "{folder}/{number}"\ndump-header = "{folder}/{number}.head"\n'
                for number in range(times)
            ]
            (folder / "config").write_text("next\n".join(transfers))
            parallel = ["--parallel", "--parallel-max", str(times)] if at_once else []
            command = ["curl", "--silent", "--show-error", *parallel, "--config", str(folder / "config")]
            ended = subprocess.run(command, check=False, timeout=LIMIT_SECONDS, capture_output=True, text=True)
            for number in range(times):
                answer, head = folder / str(number), folder / f"{number}.head"
                lines = head.read_text("latin-1").splitlines() if head.exists() else []
                yield Outcome(
                    answer.read_bytes() if answer.exists() else b"",
                    {"grpc-message": ended.stderr}
                    | {name.lower(): value for name, separator, value in (line.partition(": ") for line in lines) if separator},
                )


def _version_option(number: int) -> str:
    """Return the option that asks for HTTP/2; curl 7.88 fails to have prior knowledge of a connection that is there."""
    return "http2" if number else "http2-prior-knowledge"


def go_through_curl(address: str, plan: ScenarioPlan) -> Iterable[Count | dict[str, str]]:
    """Yield each scenario, or why it was skipped."""
    curl = Curl(address, plan)
    small, small_answer = plan.read_frame("small.request"), plan.read_frame("small.answer")

    def count(scenario: str, outcomes: Iterable[Outcome], status: str | None, body: bytes, details: bytes = b"") -> Count:
        counted = Count(scenario)
        for outcome in outcomes:
            counted.add(outcome.check(status, body, details))
        return counted

    yield count("unary", curl.call(DETECT, small, 100), OK, small_answer)
    missing = curl.call(GET_MODEL, plan.read_frame("missing.request"), 20)
    yield count("error_details", missing, NOT_FOUND, b"", plan.read("missing.details"))
    yield {"scenario": "deadlines", "skipped": "curl sends a whole request, which is answered at once"}
    yield {"scenario": "cancel_at_start", "skipped": "curl cancels by closing its connection"}
    yield {"scenario": "cancel_answers", "skipped": "curl cancels by closing its connection"}
    large = curl.call(FORECAST, plan.read_frame("large.request"), 20, at_once=True)
    # curl 7.88 may drop trailers that it reads together with the last bytes of a body that it has to buffer.
    yield count("large_answers", large, None, plan.read_frame("large.answer"))
    every_byte = base64.b64encode(bytes(range(256))).decode()
    headers = [
        f"x-all-bytes-bin: {every_byte}",
        *(f"x-key-{number}: {'value ' * 10}{number}" for number in range(60)),
        *(f'x-twice: a, b;c="{number}"' for number in range(3)),
        "x-city: Zürich, \u4e0a\u6d77",
        "x-tabs: a\tb",
    ]
    yield count("metadata", curl.call(DETECT, small, 20, headers), OK, small_answer)
    with ThreadPoolExecutor() as pool:  # a process opens a second connection for more than a hundred
        hundreds = pool.map(lambda _: list(curl.call(DETECT, small, 100, at_once=True)), range(3))
        yield count("at_once", chain.from_iterable(hundreds), OK, small_answer)
    yield count(
        "stream", map(_drop_opened, curl.call(STREAM, plan.read("stream.requests"), 1)), OK, _tail(plan.read("stream.answers"))
    )
    yield {"scenario": "settings", "skipped": "curl has no option for any"}
    yield {"scenario": "drain", "skipped": "curl's windows of 32 MiB take in every answer at once"}


def _tail(frames: bytes) -> bytes:
    """Return messages without the first one."""
    return frames[5 + int.from_bytes(frames[1:5], "big") :]


def _drop_opened(outcome: Outcome) -> Outcome:
    return Outcome(_tail(outcome.body), outcome.fields)


class Nghttp:
    """Calls with nghttp, which prints the frames."""

    def __init__(self, address: str, plan: ScenarioPlan) -> None:
        self._address = address
        self._plan = plan

    def call(self, method: str, request: str, *options: str) -> str:
        """Return what it prints."""
        with tempfile.NamedTemporaryFile() as body:
            body.write(self._plan.read_frame(request))
            body.flush()
            headers = [f"--header={header}" for header in REQUIRED_HEADERS]
            command = ["nghttp", "-v", "-n", f"--data={body.name}", *headers, *options, f"http://{self._address}/{method}"]
            return subprocess.run(command, capture_output=True, check=False, timeout=LIMIT_SECONDS).stdout.decode("latin-1")


def _count_statuses(scenario: str, printed: str, status: str, times: int) -> Count:
    statuses = re.findall(r"grpc-status: (\d+)", printed)
    counted = Count(scenario)
    for number in range(times):
        got = statuses[number] if number < len(statuses) else "no status"
        counted.add("" if got == status else f"{got}: {printed[-300:]}")
    return counted


NGHTTP_SETTINGS = (
    ("--header-table-size=0",),
    ("--header-table-size=100",),
    ("--header-table-size=1", "--header-table-size=65536"),
    ("--encoder-header-table-size=0",),
    ("--window-bits=1",),
    ("--window-bits=10", "--connection-window-bits=10"),
    ("--window-bits=30", "--connection-window-bits=30"),
    ("--max-concurrent-streams=1",),
    ("--no-dep",),
    ("--padding=200",),
    ("--expect-continue",),
)


def go_through_nghttp(address: str, plan: ScenarioPlan) -> Iterable[Count | dict[str, str]]:
    """Yield each scenario, or why it was skipped."""
    nghttp = Nghttp(address, plan)
    yield _count_statuses("unary", nghttp.call(DETECT, "small.request"), OK, 1)
    printed = nghttp.call(GET_MODEL, "missing.request")
    counted = _count_statuses("error_details", printed, NOT_FOUND, 1)
    details = re.search(r"grpc-status-details-bin: (\S+)", printed)
    counted.add("" if details and base64.b64decode(details[1] + "==") == plan.read("missing.details") else "other details")
    yield counted
    for scenario in ("deadlines", "cancel_at_start", "cancel_answers"):
        yield {"scenario": scenario, "skipped": "nghttp cancels nothing"}
    yield _count_statuses("large_answers", nghttp.call(FORECAST, "large.request", "--multiply=20"), OK, 20)
    yield {"scenario": "metadata", "skipped": "as curl"}
    yield _count_statuses("at_once", nghttp.call(DETECT, "small.request", "--multiply=300"), OK, 300)
    yield {"scenario": "stream", "skipped": "as curl"}
    counted = Count("settings")
    for options in NGHTTP_SETTINGS:
        other = _count_statuses("", nghttp.call(DETECT, "small.request", *options), OK, 1)
        counted.add(other.detail and f"{' '.join(options)}: {other.detail}")
    yield counted
    yield {"scenario": "drain", "skipped": "nghttp reads all it can"}


PROGRAMS: dict[str, Callable[[str, ScenarioPlan], Iterable[Count | dict[str, str]]]] = {
    "curl": go_through_curl,
    "nghttp": go_through_nghttp,
}


def main(words: Sequence[str]) -> None:
    """Go through all scenarios and print one JSON object for each."""
    program, address, folder = words
    for outcome in PROGRAMS[program](address, ScenarioPlan(Path(folder))):
        sys.stdout.write(json.dumps(outcome if isinstance(outcome, dict) else asdict(outcome)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
