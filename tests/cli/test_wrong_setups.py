"""Wrong set-ups, as operators make them: each is told what is wrong and what to do, and none ends as if all were well."""

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mods_grpc.cli.main import main
from mods_grpc.exit_codes import EXIT_DOUBTFUL, EXIT_FAILED, EXIT_USAGE
from tests.support.ids import live_day
from tests.support.models.time_of_day import publish_day_model
from tests.support.models.tiny import publish_tiny
from tests.support.paths import ROOT
from tests.support.running_server import Process, RunningServer, running_server
from tests.support.small_logs import tsv

LOCAL = ["--local", "10.0.0.0/24"]
MINUTES = 60
EVENT = {"timestamp": "2026-03-02T00:00:00.000000+0000", "event_type": "flow", "src_ip": "192.0.2.1", "dest_ip": "10.0.0.1"}

ZEEK = tsv(count=20).replace(b"203.0.113.1", b"192.0.2.1")

Ask = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("models")
    publish_day_model(folder)
    with running_server(repository=folder) as running:
        yield running


@pytest.fixture
def ask(server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run a command in a folder of its own with the address of the server; returns its exit status and what it printed."""
    monkeypatch.chdir(tmp_path)

    def command(*words: object, address: str = server.address) -> tuple[int, str]:
        needs_server = words[0] not in ("aggregate", "serve")
        try:
            code = main([*map(str, words), *(["--address", address] if needs_server else [])])
        except SystemExit as error:
            code = int(error.code or 0)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return command


def write_logs(folder: Path, logs: tuple[str, ...] = tuple(live_day.COLUMNS)) -> Path:
    folder.mkdir()
    for log in logs:
        rows = [line for _, of, line in log_lines() if of == log]
        (folder / f"{log}.log").write_text(live_day.format_header(log) + "".join(rows))
    return folder


@cache
def log_lines() -> list[tuple[float, str, str]]:
    return live_day.make_lines(MINUTES, live_day.PER_MINUTE / 10)


def write_file(path: Path, content: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def require(answer: tuple[int, str], code: int, *phrases: str) -> None:
    status, printed = answer
    assert status == code, printed
    for phrase in phrases:
        assert phrase in printed
    assert "Traceback" not in printed


# What is read


def test_local_networks_of_another_site(ask: Ask, tmp_path: Path) -> None:
    logs = write_logs(tmp_path / "logs")
    question = "100 % of the records have neither end in 172.16.0.0/12: is --local right?"
    require(ask("aggregate", logs, "--output", "pool", "--local", "172.16.0.0/12"), EXIT_DOUBTFUL, question)
    require(ask("replay", logs, "--local", "172.16.0.0/12"), EXIT_DOUBTFUL, question)


def test_a_log_that_the_model_needs_is_absent(ask: Ask, tmp_path: Path) -> None:
    answer = ask("replay", write_logs(tmp_path / "logs", ("conn",)), *LOCAL)
    require(answer, EXIT_DOUBTFUL, "no record of ssh, which the model needs")


def test_a_model_of_features_that_are_no_aggregates(ask: Ask, tmp_path: Path) -> None:
    publish_tiny(tmp_path / "tiny")
    logs = write_logs(tmp_path / "logs")
    with running_server(repository=tmp_path / "tiny") as other:
        require(ask("replay", logs, address=other.address), EXIT_FAILED, "no feature conn|conn_in", "map them with --features")


@pytest.mark.parametrize("command", ["aggregate", "replay"])
@pytest.mark.parametrize(
    ("name", "content", "advice"),
    [
        ("", b"", "is this the folder of the logs?"),
        ("ftp.log.gz", gzip.compress(b"#separator \\x09\n#path\tftp\n#fields\tts\n", mtime=0), "other log"),
        ("conn.log", b"ts,uid,id.orig_h,id.orig_p\n" + b"1772409600,C1,10.0.0.1,5\n" * 20, "this is CSV"),
        (
            "conn.log",
            b'{"ts":"02/Mar/2026","id.orig_h":"192.0.2.1","id.resp_h":"10.0.0.1"}\n' * 20,
            "write times as seconds since",
        ),
        ("conn.log", bytes(range(128, 256)) * 40 + b"\n", "a capture of packets goes through Zeek or Suricata first"),
        ("trace.pcap", b"\xd4\xc3\xb2\xa1" + bytes(200), "is this the folder of the logs?"),
        ("conn.log", ZEEK.decode().encode("utf-16"), "this is UTF-16, as some editors save text"),
        ("conn.log", ZEEK.replace(b"\t", b"    "), "spaces stand where Zeek writes tabs, as after copying from a terminal"),
        ("conn.log", ZEEK.replace(b"192.0.2.1", b"a1f7"), "a record needs two addresses; are they masked"),
    ],
)
def test_a_folder_without_logs(ask: Ask, tmp_path: Path, command: str, name: str, content: bytes, advice: str) -> None:
    (tmp_path / "logs").mkdir()
    if name:
        write_file(tmp_path / "logs" / name, content)
    options = ["--output", "pool"] if command == "aggregate" else LOCAL
    require(ask(command, tmp_path / "logs", *options), EXIT_DOUBTFUL, advice)


@pytest.mark.parametrize("words", [["aggregate", "nowhere", "--output", "pool"], ["replay", "nowhere"]])
def test_a_folder_that_is_not_there(ask: Ask, words: list[str]) -> None:
    require(ask(*words), EXIT_FAILED, "error: nowhere: no such file or folder")


def test_windows_without_a_unit_or_other_than_the_model(ask: Ask, tmp_path: Path) -> None:
    logs = write_logs(tmp_path / "logs")
    require(ask("aggregate", logs, "--output", "pool", "--window", "10"), EXIT_USAGE, "--window: give a unit: 10s, 10m or 10h")
    require(ask("aggregate", logs, "--output", "pool", "--slide", "2h"), EXIT_USAGE, "--slide: expected a span of at most the")
    require(ask("replay", logs, "--window", "1h"), EXIT_FAILED, "--window: tiny was trained with 1200 s", "leave the flag out")


@pytest.mark.parametrize("name", ["logs.tar.gz", "logs.tar"])
def test_an_archive_of_logs(ask: Ask, tmp_path: Path, name: str) -> None:
    logs = write_logs(tmp_path / "logs")
    with tarfile.open(tmp_path / name, "w:gz" if name.endswith("gz") else "w") as archive:
        archive.add(logs, "logs")
    require(ask("aggregate", name, "--output", "pool"), EXIT_DOUBTFUL, "tar: unpack it first")


def test_times_in_the_wrong_order(ask: Ask, tmp_path: Path) -> None:
    write_logs(tmp_path / "logs")
    words = ["aggregate", "logs", "--output", "pool", "--from", "2026-03-03", "--to", "2026-03-02"]
    require(ask(*words), EXIT_USAGE, "--to: expected a time after --from")


def test_a_log_as_the_place_for_alerts_or_malformed_lines(ask: Ask, tmp_path: Path) -> None:
    logs = write_logs(tmp_path / "logs")
    before = (logs / "conn.log").read_bytes()
    require(ask("replay", logs, *LOCAL, "--alerts", f"jsonl:{logs}/conn.log"), EXIT_FAILED, "is a log that is read")
    words = ["aggregate", "logs", "--output", "pool", "--quarantine"]
    require(ask(*words, "logs/conn.log"), EXIT_FAILED, "--quarantine logs/conn.log: is one of the logs that are read")
    require(ask(*words, "no/where"), EXIT_FAILED, "error: --quarantine no/where: ", "give a file in a folder that is there")
    assert (logs / "conn.log").read_bytes() == before


def test_a_receiver_that_is_not_there(ask: Ask, tmp_path: Path) -> None:
    logs = write_logs(tmp_path / "logs")
    answer = ask("replay", logs, *LOCAL, "--alerts", "cef:tcp://127.0.0.1:1", "--significance", "0.5")
    require(answer, EXIT_FAILED, "of the alerts and notices did not get to cef:tcp://127.0.0.1:1")


def test_a_pipe_called_like_a_log_is_not_opened(ask: Ask, tmp_path: Path, server: RunningServer) -> None:
    (tmp_path / "logs").mkdir()
    os.mkfifo(tmp_path / "logs" / "conn.log")
    with watching("watch", "--zeek", tmp_path / "logs", "--address", server.address, "--state", tmp_path / "state") as watch:
        assert "a log of Zeek, such as conn.log; the folder holds conn.log" in wait_for_line(watch, " waiting ")
        wait_for_line(watch, " watching ")
        watch.send_signal(signal.SIGTERM)
        watch.communicate(timeout=30)
    assert watch.returncode == EXIT_DOUBTFUL


def test_a_folder_of_output_that_is_in_use(ask: Ask, tmp_path: Path) -> None:
    logs = write_logs(tmp_path / "logs")
    require(ask("aggregate", logs, "--output", logs), EXIT_FAILED, "is not empty; give a new folder")
    (tmp_path / "file").write_text("")
    require(ask("aggregate", logs, "--output", "file/pool"), EXIT_FAILED, "error: --output file/pool: ", "Not a directory")


# The source of a watch


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        (["--zeek", "no/where"], "is not there, and neither is the folder"),
        (["--zeek", "suricata"], "give it with --eve suricata/eve.json"),
        (["--zeek", "suricata/eve.json"], "give it with --eve"),
        (["--eve", "logs"], "if these are Zeek's, give the folder with --zeek"),
        (["--eve", "logs/conn.log"], "is a log of Zeek; give its folder with --zeek logs"),
        (["--eve", "trace.pcap"], "is a capture of packets; run Suricata or Zeek on it"),
        (["--eve-socket", "trace.pcap"], "exists and is not a socket"),
        (["--eve-socket", "no/eve.sock"], "the folder no is missing"),
        (["--zeek", "logs", "--archive", "trace.pcap"], "expected a folder of rotated logs, found a file"),
        (["--zeek", "logs", "--suppress", "trace.pcap"], "expected a TOML file in UTF-8"),
        (["--zeek", "logs", "--suppress", "rules.toml"], "rules.toml: expected TOML"),
    ],
)
def test_a_source_that_is_something_else_is_refused_before_anything_is_created(
    ask: Ask, tmp_path: Path, source: list[str], advice: str
) -> None:
    write_logs(tmp_path / "logs")
    write_file(tmp_path / "suricata" / "eve.json", json.dumps(EVENT).encode() + b"\n")
    write_file(tmp_path / "trace.pcap", b"\xd4\xc3\xb2\xa1" + bytes(200))
    write_file(tmp_path / "rules.toml", b"allow = [10.0.0.0/8]\n")
    require(ask("watch", *source, "--state", "state"), EXIT_FAILED, advice)
    assert not (tmp_path / "state").exists()


def test_events_as_datagrams_without_a_socket(ask: Ask) -> None:
    require(ask("watch", "--eve", "eve.json", "--eve-datagram"), EXIT_USAGE, "--eve-datagram: expected --eve-socket PATH")


def test_a_socket_that_another_process_listens_on(ask: Ask, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "eve.sock"))
        listener.listen()
        require(ask("watch", "--eve-socket", "eve.sock"), EXIT_FAILED, "another process listens there, such as another watch")


@pytest.mark.parametrize(
    ("options", "code", "advice"),
    [
        (["--alerts", "cefs:udp://siem"], EXIT_USAGE, "--alerts: expected stdout or FORMAT:DESTINATION"),
        (["--alerts", "cef:tcp://siem#framing=lines"], EXIT_USAGE, "expected a framing of octet-counting or newline"),
        (["--alerts", "jsonl:logs/conn.log"], EXIT_FAILED, "error: --alerts jsonl:logs/conn.log: is a log that is read"),
        (["--alerts", "eve:logs/dns.log"], EXIT_FAILED, "or is called like one; give another file"),
        (["--alerts", "eve:x", "--alerts", "cef:./x"], EXIT_FAILED, "eve:x writes to that file already; give each a file"),
        (["--alerts", "eve:logs"], EXIT_FAILED, "error: --alerts eve:logs: logs: expected a file for alerts, found a folder"),
        (["--alerts", "eve:logs/conn.log/x"], EXIT_FAILED, "error: --alerts eve:logs/conn.log/x: "),
        (["--state", "file/x"], EXIT_FAILED, "give a folder that this user may write"),
        (["--false-alarms-per-day", "1e9"], EXIT_USAGE, "--false-alarms-per-day: expected a number above 0 up to 86400"),
        (["--false-alarms-per-day", "1440"], EXIT_FAILED, "below 1440, the windows of a day"),
    ],
)
def test_outputs_and_budgets_that_a_watch_cannot_use(
    ask: Ask, tmp_path: Path, options: list[str], code: int, advice: str
) -> None:
    write_logs(tmp_path / "logs")
    (tmp_path / "file").touch()
    require(ask("watch", "--zeek", "logs", "--state", "state", *options), code, advice)


def test_a_rule_of_suppression_that_can_never_match_is_named_with_its_line(
    ask: Ask, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logs = write_logs(tmp_path / "logs")
    write_file(tmp_path / "rules.toml", b'# quiet\nallow = [\n  "10.0.0.0/24",\n  "10.0.0.0-10.0.0.9",\n]\n')
    ask("replay", logs, *LOCAL, "--suppress", "rules.toml", "--group-by", "host", "--dry-run")
    (record,) = (record for record in caplog.records if record.message == "pattern_matches_nothing")
    assert record.__dict__["file"] == "rules.toml:4"
    assert "write the range as 10.0.0.0/29 and 10.0.0.8/31" in record.__dict__["hint"]


@pytest.mark.parametrize(
    ("earlier", "place"), [("", "rules.toml:3"), ('# not "smtp"\n', "rules.toml")], ids=["one line", "named on two lines"]
)
def test_a_group_of_a_muted_rule_that_can_never_match_is_refused_with_its_line_if_that_is_certain(
    ask: Ask, tmp_path: Path, earlier: str, place: str
) -> None:
    logs = write_logs(tmp_path / "logs")
    text = f'{earlier}[[rule]]\nname = "host-scan"\ngroups = ["smtp"]\n'
    write_file(tmp_path / "rules.toml", text.encode())
    result = ask("replay", logs, *LOCAL, "--suppress", "rules.toml", "--dry-run")
    require(result, EXIT_FAILED, f"error: {place}: rule.groups: host-scan counts by port; expected ports, each by itself")


def test_a_port_for_metrics_that_is_in_use_or_of_another_machine(ask: Ask, tmp_path: Path) -> None:
    write_logs(tmp_path / "logs")
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        options = ["--zeek", "logs", "--state", "state", "--metrics-address"]
        require(ask("watch", *options, address), EXIT_FAILED, f"error: --metrics-address {address}: Address already in use; give")
    require(ask("watch", *options, "192.0.2.1:9465"), EXIT_FAILED, "192.0.2.1:9465: Cannot assign requested address; give an")
    require(ask("watch", *options, "no.invalid:9465"), EXIT_FAILED, "no.invalid:9465: ")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("state", ["logs", "logs/state"])
def test_a_state_in_the_folder_of_the_logs(tmp_path: Path, server: RunningServer, state: str) -> None:
    logs = write_logs(tmp_path / "logs")
    with watching("watch", "--zeek", logs, *LOCAL, "--state", tmp_path / state, "--address", server.address) as watch:
        assert "the sensor may empty the folder of its logs; give another --state" in wait_for_line(watch, "state_among_logs")


def test_a_second_watch_with_the_same_state(ask: Ask, tmp_path: Path, server: RunningServer) -> None:
    write_logs(tmp_path / "logs")
    words = ["watch", "--zeek", "logs", *LOCAL, "--state", "state"]
    with watching(*words, "--address", server.address) as first:
        wait_for_line(first, " watching ")
        require(ask(*words), EXIT_FAILED, "with this state folder; stop it, or give another --state")


def test_the_state_of_another_sensor(ask: Ask, tmp_path: Path, server: RunningServer) -> None:
    write_logs(tmp_path / "logs")
    words = ["watch", "--zeek", "logs", *LOCAL, "--state", "state"]
    with watching(*words, "--address", server.address, "--sensor", "a") as first:
        wait_for_line(first, " watching ")
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=30)
    require(ask(*words, "--sensor", "b"), EXIT_FAILED, "of another sensor (a, now b)", "move it away")


# The server


@contextmanager
def watching(*words: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "mods_grpc", *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)}) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_line(process: subprocess.Popen[str], phrase: str) -> str:
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if phrase in line:
            return line
    raise AssertionError("".join(lines))


def test_no_server(ask: Ask, tmp_path: Path) -> None:
    hint = "hint: is the server running? start it with: mods-grpc serve exported"
    write_logs(tmp_path / "logs")
    refused = "error: no server answers at 127.0.0.1:1: connection refused"
    require(ask("replay", "logs", *LOCAL, address="127.0.0.1:1"), EXIT_FAILED, refused, hint)
    with watching("watch", "--zeek", "logs", "--address", "127.0.0.1:1", "--state", "state") as watch:
        assert "nothing is judged until it answers" in wait_for_line(watch, "server_unreachable")
        watch.send_signal(signal.SIGTERM)
        watch.communicate(timeout=30)
    assert watch.returncode == EXIT_DOUBTFUL


@pytest.mark.parametrize(
    ("address", "code", "advice"),
    [
        ("localhost", EXIT_USAGE, "--address: the port is missing; expected host:port, such as localhost:50051"),
        ("127.0.0.1:99999", EXIT_USAGE, "expected host:port with a port of 1 to 65535"),
        ("unix:/nowhere/x.sock", EXIT_FAILED, "there is no such socket"),
    ],
)
def test_an_address_that_is_none(ask: Ask, address: str, code: int, advice: str) -> None:
    require(ask("models", address=address), code, advice)


def test_the_port_for_health_checks(ask: Ask, server: RunningServer) -> None:
    require(ask("models", address=server.health_address), EXIT_FAILED, "does not speak mods.v1", "not that for health checks")


def test_a_model_that_is_not_served(ask: Ask, tmp_path: Path) -> None:
    hint = "hint: mods-grpc models lists what the server serves"
    write_logs(tmp_path / "logs")
    require(ask("replay", "logs", "--model", "campus"), EXIT_FAILED, "no model is named campus", hint)
    require(ask("replay", "logs", "--model-version", "7"), EXIT_FAILED, "model tiny has no version 7", hint)


def test_a_server_without_a_model(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_logs(tmp_path / "logs")
    with running_server(repository=tmp_path / "empty") as empty:
        require(ask("models", address=empty.address), EXIT_FAILED, "no model is ready, so the server can't answer")
        require(ask("replay", "logs", address=empty.address), EXIT_FAILED, "the server serves no model", "publish a model")


def test_tokens_that_the_server_does_not_know(ask: Ask, tmp_path: Path, server: RunningServer) -> None:
    write_file(tmp_path / "tokens", f"ops {'a' * 64} infer,models\n".encode())
    write_file(tmp_path / "token", b"wrong\n")
    hint = "hint: --token-file names the file that holds a token of this server"
    options: dict[str, Any] = {"repository": server.config.repository, "token_file": str(tmp_path / "tokens")}
    with running_server(**options) as guarded:
        require(ask("models", address=guarded.address), EXIT_FAILED, hint)
        require(ask("models", "--token-file", "token", address=guarded.address), EXIT_FAILED, hint)
        answer = ask("models", "--token-file", "tokens", address=guarded.address)
        require(answer, EXIT_FAILED, "tokens: expected the bearer token and nothing else")
    require(ask("models", "--token-file", "absent"), EXIT_FAILED, "error: absent: No such file or directory")


def test_tls_on_one_side_only(ask: Ask, tmp_path: Path, server: RunningServer) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost".split()
    subprocess.run(
        [*request, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    require(ask("models", "--tls"), EXIT_FAILED, "it does not use TLS", "leave out --tls and --tls-ca")
    require(ask("models", "--tls-ca", "key.pem"), EXIT_FAILED, "key.pem: expected certificates in PEM")
    files = {"tls_certificate": str(certificate), "tls_key": str(key)}
    with running_server(repository=server.config.repository, **files) as secure:
        require(ask("models", address=secure.address), EXIT_FAILED, "as a server with TLS does", "hint: --tls, or --tls-ca")
        require(ask("models", "--tls", address=secure.address), EXIT_FAILED, "not trusted", "hint: --tls-ca names the file")
        code, _ = ask("models", "--tls-ca", "cert.pem", address=secure.address)
        assert code == 0


def test_serving_a_folder_without_a_model_says_so_and_ends_with_one(tmp_path: Path, server: RunningServer) -> None:
    part = server.config.repository / "tiny"
    addresses = ["--address", "127.0.0.1:0", "--health-address", "127.0.0.1:0"]
    for folder, advice in ((tmp_path, "python -m training export"), (part, f"mods-grpc serve {server.config.repository}")):
        with Process(folder, *addresses) as process:
            process.port()
            process.process.send_signal(signal.SIGTERM)
            assert process.finish() == EXIT_FAILED
        (first, last) = [line for line in process.lines if "no_model_ready" in line]
        assert advice in first
        assert "before it had a model" in last
