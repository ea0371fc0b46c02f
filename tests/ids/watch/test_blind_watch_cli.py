"""`mods-grpc watch` and `replay` say when they are blind: in alerts, metrics, the log, and to the service manager."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import closing, contextmanager

import pytest

from mods_grpc.cli.main import main
from mods_grpc.exit_codes import EXIT_DOUBTFUL
from tests.ids.watch.test_watch_cli import OPTIONS, write_logs
from tests.support.ids import live_day

MINUTES = 100


@pytest.fixture(scope="module")
def day():
    return live_day.make_lines(MINUTES, live_day.PER_MINUTE / len(live_day.HOSTS))


@pytest.fixture
def logs(day, tmp_path):
    """The log of connections alone; the model needs that of ssh too."""
    write_logs(tmp_path / "logs", day)
    (tmp_path / "logs" / "ssh.log").unlink()
    return tmp_path / "logs"


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def replay(source, server, *options):
    return main(["replay", str(source), "--server", server, *OPTIONS, *options])


def test_a_replay_without_a_log_that_the_model_needs_judges_nothing_and_says_so(logs, server, tmp_path):
    assert replay(logs, server, "--alerts", f"jsonl:{tmp_path / 'alerts.jsonl'}") == EXIT_DOUBTFUL
    notices = {notice["code"]: notice for notice in read(tmp_path / "alerts.jsonl")}
    assert set(notices) == {"log_missing", "not_judged"}
    assert notices["log_missing"]["subject"] == "ssh"
    assert "ssh_in is missing, and there is no complete window" in notices["not_judged"]["message"]


def test_a_replay_with_an_empty_log_counts_zeros(logs, server, tmp_path):
    (logs / "ssh.log").write_text(live_day.format_header("ssh"))
    replay(logs, server, "--alerts", f"jsonl:{tmp_path / 'alerts.jsonl'}")
    assert "log_missing" not in (tmp_path / "alerts.jsonl").read_text()


def test_the_same_recording_gives_the_same_notices(logs, server, tmp_path):
    for name in ("first", "second"):
        replay(logs, server, "--alerts", f"jsonl:{tmp_path / name}")
    assert (tmp_path / "first").read_text() == (tmp_path / "second").read_text() != ""


def test_a_dry_run_prints_notices_once(logs, server, capsys):
    replay(logs, server, "--dry-run")
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert any("  high      raised  Monitoring is impaired: no ssh record ever came" in line for line in lines)
    assert "no ssh record ever came" not in captured.err


@contextmanager
def watching(server, folder, notify):
    """Run a watch; yields the process and the address of its metrics when it is ready and has looked for notices."""
    command = ["watch", "--zeek", folder / "logs", "--server", server, *OPTIONS, "--state", folder / "state"]
    command += ["--alerts", f"jsonl:{folder / 'alerts.jsonl'}", "--metrics-address", "127.0.0.1:0"]
    words = [sys.executable, "-m", "mods_grpc", *map(str, command)]
    environment = {**os.environ, "NOTIFY_SOCKET": notify.getsockname()}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            sent = []
            while not sent or not sent[-1].startswith("STATUS="):
                sent.append(notify.recv(4096).decode())
            assert sent[0] == "READY=1"
            lines = iter(process.stderr.readline, "")
            port = next(line for line in lines if " metrics " in line).rpartition("port=")[2]
            yield process, f"http://127.0.0.1:{int(port)}/metrics", sent[-1]
        finally:
            process.kill()


def test_a_log_that_can_not_be_read_is_reported_at_once_and_once_over_restarts(logs, server, tmp_path):
    (logs / "ssh.log").symlink_to("ssh.log")  # not even root can open it
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(60)
        for end in (signal.SIGKILL, signal.SIGTERM):
            with watching(server, tmp_path, notify) as (process, url, status):
                assert "ssh.log can't be read: Too many levels of symbolic links" in status
                with urllib.request.urlopen(url, timeout=30) as response:
                    metrics = response.read().decode()
                assert 'mods_watch_open_notices{code="log_unreadable"} 1.0' in metrics
                assert 'mods_watch_windows_total{status="scored"} 0.0' in metrics
                process.send_signal(end)
                process.communicate(timeout=60)
        (notice,) = read(tmp_path / "alerts.jsonl")
        assert (notice["code"], notice["state"], notice["sensor"]) == ("log_unreadable", "raised", "tap")


def test_a_metrics_address_without_a_port_is_refused(capsys):
    with pytest.raises(SystemExit) as refused:
        main(["watch", "--zeek", ".", "--metrics-address", "localhost"])
    assert refused.value.code == 2
    assert "the port is missing" in capsys.readouterr().err
