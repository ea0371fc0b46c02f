"""`mods-grpc watch` and `replay`: the same alerts from live logs, recorded logs, their aggregates, and in pieces."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import pytest

from mods_grpc.cli.main import main
from mods_grpc.exit_codes import EXIT_DOUBTFUL, EXIT_FAILED
from tests.support.cutting_proxy import cutting_proxy
from tests.support.ids import live_day

MINUTES = 210
COMPLETE_UNTIL = "2026-03-02T03:10:00Z"  # windows that are complete at the end, less a lateness of 20 minutes
OPTIONS = ["--false-alarms-per-day", "4", "--local", "10.0.0.0/24", "--sensor", "tap"]


@pytest.fixture(scope="module")
def day():
    return live_day.make_lines(MINUTES, live_day.PER_MINUTE / len(live_day.HOSTS))


def write_logs(folder, lines):
    """Add lines to the logs of a folder, as Zeek would."""
    folder.mkdir(exist_ok=True)
    for log in live_day.COLUMNS:
        path = folder / f"{log}.log"
        with path.open("a") as file:
            if not file.tell():
                file.write(live_day.format_header(log))
            file.writelines(line for _, of, line in lines if of == log)


@pytest.fixture(scope="module")
def logs(day, tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    write_logs(folder, day)
    return folder


@pytest.fixture(scope="module")
def short_logs(day, tmp_path_factory):
    """Logs of the first bursts of both hosts."""
    folder = tmp_path_factory.mktemp("short_logs")
    write_logs(folder, [entry for entry in day if entry[0] < live_day.START + 145 * 60])
    return folder


def alerts(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def leave_out_evidence(raised):
    """Return what alerts say without evidence, which needs logs: it also says what leads, and so raises further alerts."""
    of_evidence = {"evidence", "techniques"}
    of_further = {"id", "parent", "number", "rank"}  # that count all
    by_model = [alert for alert in raised if alert["trigger"] not in {"feature", "entity"}]
    without = [{name: alert[name] for name in alert.keys() - of_evidence - of_further} for alert in by_model]
    for alert in without:
        first, *_, last = alert["reason"].split("; ")  # who made it is between them
        alert["reason"] = first, last
    return without


def replay(source, server, output, *options):
    assert main(["replay", str(source), "--server", server, *OPTIONS, "--alerts", f"jsonl:{output}", *options]) == 0
    return alerts(output)


@pytest.fixture(scope="module")
def expected(logs, server, tmp_path_factory):
    raised = replay(logs, server, tmp_path_factory.mktemp("expected") / "alerts.jsonl", "--ends")
    assert {alert["phase"] for alert in raised} >= {"start", "end"}
    assert len(raised) >= 5
    return raised


def test_a_burst_raises_an_alert_within_minutes_with_observed_and_expected_values(expected):
    first = expected[0]
    assert first["features"][0]["observed"] > 1_300
    assert re.match(
        r"conn_in (1,\d{3}, )+1,\d{3} in the last \d windows up to 2026-03-02 00:5.*; usual was 1,\d{3} ", first["reason"]
    )
    assert "249 sources" in first["reason"]
    reported_at = datetime.fromisoformat(first["window"]["end"]).timestamp()
    assert 70 < (reported_at - live_day.START) / 60 <= 78


def test_replaying_aggregates_raises_the_same_alerts_as_their_logs(logs, server, expected, tmp_path):
    pool = tmp_path / "pool"
    assert (
        main(["aggregate", str(logs), "--output", str(pool), "--window", "20m", "--slide", "1m", "--local", "10.0.0.0/24"]) == 0
    )
    raised = replay(pool, server, tmp_path / "alerts.jsonl", "--ends")
    assert [alert["evidence"] for alert in raised] == [None] * len(raised)
    assert any(alert["evidence"] for alert in expected)
    assert leave_out_evidence(raised) == leave_out_evidence(expected)


def test_the_series_and_times_of_a_table_are_in_the_columns_that_are_named(logs, server, tmp_path):
    table = tmp_path / "aggregates.csv"
    rows = [
        f"2026-03-02T{minute // 60:02}:{minute % 60:02}:00Z,{host},{1000 + minute % 7 + (9000 if minute == 40 else 0)},1000"
        for minute in range(60)
        for host in "ab"
    ]
    table.write_text("\n".join(["began,host,conn_in,ssh_in", *rows]) + "\n")
    raised = replay(table, server, tmp_path / "alerts.jsonl", "--series-column", "host", "--time-column", "began")
    assert [(alert["series"], alert["window"]["start"]) for alert in raised] == [(host, "2026-03-02T00:40:00Z") for host in "ab"]


@pytest.mark.parametrize(("flags", "members"), [([], [12]), (["--no-roll-up"], [0] * 12)])
def test_what_all_hosts_have_at_once_is_one_alert(server, tmp_path, capsys, flags, members):
    table = tmp_path / "aggregates.csv"
    rows = [
        f"2026-03-02T{minute // 60:02}:{minute % 60:02}:00Z,{host},{1000 + minute % 7 + (9000 if minute == 40 else 0)},1000"
        for minute in range(60)
        for host in "abcdefghijkl"
    ]
    table.write_text("\n".join(["window_start,host,conn_in,ssh_in", *rows]) + "\n")
    raised = replay(table, server, tmp_path / "alerts.jsonl", "--series-column", "host", *flags)
    assert [alert["member_count"] for alert in raised] == members
    has_joined = "11 alerts joined another with the same cause" in capsys.readouterr().err
    assert has_joined == (not flags)


def test_each_host_can_be_a_series(short_logs, server, tmp_path):
    raised = replay(short_logs, server, tmp_path / "alerts.jsonl", "--group-by", "host")
    assert {alert["series"] for alert in raised} == set(live_day.HOSTS)


def test_a_dry_run_prints_and_writes_nothing(logs, server, tmp_path, capsys, expected):
    assert main(["replay", str(logs), "--server", server, *OPTIONS, "--dry-run", "--alerts", f"jsonl:{tmp_path / 'x'}"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == sum(alert["phase"] != "end" for alert in expected)
    assert printed[0].startswith("2026-03-02T0")
    assert expected[0]["reason"] in printed[0]
    assert not (tmp_path / "x").exists()


def test_suppressed_alerts_are_not_raised_and_their_windows_counted(short_logs, server, tmp_path, expected, capsys):
    rules = tmp_path / "rules.toml"
    end = expected[0]["window"]["end"]
    rules.write_text(f'[[planned]]\nname = "tests"\nstart = 2026-03-02T00:00:00Z\nend = {end}\nseries = ["si*"]\n')
    raised = replay(short_logs, server, tmp_path / "alerts.jsonl", "--suppress", str(rules))
    assert raised[0]["window"]["start"] >= end
    none = tmp_path / "none.jsonl"
    rules.write_text('allow = ["site"]\n')
    options = ["--alerts", f"jsonl:{none}", "--suppress", str(rules), "--json"]
    capsys.readouterr()
    assert main(["replay", str(short_logs), "--server", server, *OPTIONS, *options]) == 0
    assert not none.exists()
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert summary["account"]["suppressed"] == summary["anomalous"] > 0
    assert f"{summary['anomalous']} anomalous windows raised no alert: suppressed" in printed.err
    assert summary["account"]["suppressed_by"] == {"allow": summary["anomalous"]}
    rules.write_text('[[mute]]\nid = "a"\nfeature = ["*"]\nseries = ["site"]\n[[mute]]\nid = "b"\nentity = ["203.0.113.7"]\n')
    assert main(["replay", str(short_logs), "--server", server, *OPTIONS, *options]) == 0
    assert not none.exists()
    printed = capsys.readouterr()
    assert f"suppressed by rule: {summary['anomalous']} mute a, 0 mute b\n" in printed.err
    assert json.loads(printed.out)["account"]["suppressed_by"] == {"mute a": summary["anomalous"], "mute b": 0}


@contextmanager
def watching(server, folder, *source):
    """Run a watch as a separate process, to be killed or stopped by the caller."""
    command = ["watch", *source, "--server", server, *OPTIONS, "--ends", "--lateness", "20m"]
    outputs = ["--state", folder / "state"]
    for form, file in (("jsonl", "alerts.jsonl"), ("eve", "eve.json")):
        outputs += ["--alerts", f"{form}:{folder / file}"]
    words = [sys.executable, "-m", "mods_grpc", *map(str, [*command, *outputs])]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until_read(folder, process, until_ns):
    """Wait until the checkpoint says that the records up to a time were read."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(FileNotFoundError):
            if json.loads((folder / "state" / "checkpoint.json").read_text())["feed"]["clock"]["latest"] >= until_ns:
                return
        time.sleep(0.05)


def stop(process):
    """Stop in good order, and return what was logged."""
    process.send_signal(signal.SIGTERM)
    log = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 0, log
    return log


def test_a_watch_that_is_killed_and_restarted_raises_the_alerts_of_the_whole_recording(day, server, expected, tmp_path):
    cut = len(day) * 3 // 5
    for part in (day[:cut], day[cut:]):
        write_logs(tmp_path / "logs", part)
        with watching(server, tmp_path, "--zeek", tmp_path / "logs") as process:
            wait_until_read(tmp_path, process, round(part[-1][0] * 1e9) - 1_000)
            log = stop(process)
    assert "resumed=true" in log
    assert "late=0" in log
    assert "false_alarm_budget=4.0" in log  # of the one series
    raised = alerts(tmp_path / "alerts.jsonl")
    complete = [alert for alert in expected if alert["window"]["end"] <= COMPLETE_UNTIL]
    assert raised == complete == alerts(tmp_path / "state" / "alerts.jsonl")
    assert [json.loads(line)["mods"] for line in (tmp_path / "eve.json").read_text().splitlines()] == raised


def test_a_watch_whose_connection_is_lost_without_a_word_raises_the_alerts_of_the_whole_recording(
    day, server, expected, tmp_path
):
    cut = len(day) * 3 // 5
    with cutting_proxy(server) as proxy:
        write_logs(tmp_path / "logs", day[:cut])
        with watching(proxy.address, tmp_path, "--zeek", tmp_path / "logs", "--timeout", "1") as process:
            wait_until_read(tmp_path, process, round(day[cut - 1][0] * 1e9) - 1_000)
            proxy.lose_connections()
            write_logs(tmp_path / "logs", day[cut:])
            wait_until_read(tmp_path, process, round(day[-1][0] * 1e9) - 1_000)
            log = stop(process)
    assert "connection_replaced" in log
    assert alerts(tmp_path / "alerts.jsonl") == [alert for alert in expected if alert["window"]["end"] <= COMPLETE_UNTIL]


def test_a_watch_goes_on_while_one_output_or_the_checkpoint_can_not_be_written(day, server, expected, tmp_path):
    disk, output = tmp_path / "disk", tmp_path / "disk" / "more.jsonl"
    cut = len(day) * 3 // 5
    write_logs(tmp_path / "logs", day[:cut])
    source = ["--zeek", tmp_path / "logs", "--alerts", f"jsonl:{output}"]
    with watching(server, tmp_path, *source) as process:
        wait_until_read(tmp_path, process, round(day[cut - 1][0] * 1e9) - 1_000)
        disk.rename(tmp_path / "moved")
        disk.write_text("")
        (tmp_path / "state" / "checkpoint.json").rename(tmp_path / "checkpoint.json")
        (tmp_path / "state" / "checkpoint.json").mkdir()
        write_logs(tmp_path / "logs", day[cut:])
        complete = [alert for alert in expected if alert["window"]["end"] <= COMPLETE_UNTIL]
        wait_for_alerts(tmp_path / "alerts.jsonl", process, len(complete) + 1)
        (tmp_path / "state" / "checkpoint.json").rmdir()
        process.send_signal(signal.SIGTERM)
        log = process.communicate(timeout=30)[1].decode()
    assert process.returncode == EXIT_FAILED, log
    assert all(log.count(f" {event} ") == 1 for event in ("alerts_unwritable", "checkpoint_unwritable", "alerts_unwritten")), log
    assert "is written after the next start" in log, log
    raised = alerts(tmp_path / "alerts.jsonl")
    assert [alert for alert in raised if alert.get("kind") != "notice"] == complete
    assert {notice["subject"] for notice in raised if notice.get("kind") == "notice"} >= {f"jsonl:{output}"}
    disk.unlink()
    (tmp_path / "moved").rename(disk)
    with watching(server, tmp_path, *source) as process:
        log = [process.stderr.readline().decode() for _ in range(2)]
        assert " budget_unproven " in log[0], log
        assert " watching " in log[1], log
        stop(process)
    assert {alert["id"] for alert in alerts(output)} == {alert["id"] for alert in raised}
    assert len(alerts(output)) == len(raised) == len(alerts(tmp_path / "alerts.jsonl"))


def wait_for_alerts(path, process, number):
    """Wait until a file of alerts has a number of them."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(FileNotFoundError):
            if len(path.read_text().splitlines()) >= number:
                return
        time.sleep(0.05)


def replay_account(server, capsys, *words):
    """Return the exit status of a replay, its account and the last line of its errors."""
    status = main(["replay", *map(str, words), "--server", server, "--sensor", "tap", "--dry-run", "--json"])
    captured = capsys.readouterr()
    return status, json.loads(captured.out.splitlines()[-1])["account"], captured.err.splitlines()[-1]


def test_replay_prints_its_account(short_logs, server, capsys):
    status, account, summary = replay_account(server, capsys, short_logs, "--local", "10.0.0.0/24", "--no-rule", "all")
    assert status == 0
    assert (account["files_read"], account["records"], account["doubts"]) == (2, account["added"], [])
    assert account["lines"] == account["records"] + account["ignored"]
    assert account["windows"] > account["judged"] > 100
    assert summary.startswith(f"{account['windows']} windows, {account['judged']} judged, ")


def test_a_replay_that_can_not_be_trusted_exits_with_3_and_says_why_last(short_logs, server, tmp_path, capsys):
    status, account, last = replay_account(server, capsys, short_logs, "--local", "172.16.0.0/12")
    assert (status, account["remote"]) == (EXIT_DOUBTFUL, account["records"])
    assert last == "doubtful: 100 % of the records have neither end in 172.16.0.0/12: is --local right?"
    (tmp_path / "ftp.log").write_text("#fields\tts\n")
    status, account, last = replay_account(server, capsys, tmp_path)
    assert (status, account["left_out"]) == (EXIT_DOUBTFUL, [{"reason": "other log", "number": 1, "first": ["ftp.log"]}])
    assert "no log of conn, ssh was there to read: only 1 of another log (ftp.log)" in last
    table = tmp_path / "one.csv"
    table.write_text("window_start,conn_in,ssh_in\n2026-03-02T00:00:00Z,5,5\n")
    status, account, last = replay_account(server, capsys, table)
    assert (status, account["windows"], account["judged"]) == (EXIT_DOUBTFUL, 1, 0)
    assert "none of 1 window was judged: the model needs 4 before it in a row, 1m apart" in last


def test_a_watch_logs_its_account_on_request_and_at_its_end_and_exits_with_3_if_it_is_doubtful(day, server, tmp_path):
    connections = [entry for entry in day if entry[1] == "conn"]
    write_logs(tmp_path / "logs", connections)
    (tmp_path / "logs" / "ssh.log").unlink()
    with watching(server, tmp_path, "--zeek", tmp_path / "logs") as process:
        for line in process.stderr:
            if b" watching " in line:
                process.send_signal(signal.SIGUSR1)
            if b" account " in line:
                break
        wait_until_read(tmp_path, process, round(connections[-1][0] * 1e9) - 1_000)
        process.send_signal(signal.SIGTERM)
        log = process.communicate(timeout=30)[1].decode()
    assert process.returncode == EXIT_DOUBTFUL, log
    account = next(line for line in log.splitlines() if " account " in line)
    assert f" lines={len(connections) + 8} records={len(connections)} records_conn={len(connections)}" in account
    doubt, stopped = log.splitlines()[-2:]
    assert "level=ERROR" in doubt
    assert "no record of ssh, which the model needs" in doubt
    assert " stopped " in stopped


def as_event(when, log, line):
    """Write a line of the day as Suricata would, when it was logged."""
    ts, uid, orig, port, resp, _, *rest = line.split("\t")
    start, end = (datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f+0000") for at in (float(ts), when))
    event = {"timestamp": end, "flow_id": int(uid[1:], 16), "event_type": "flow" if log == "conn" else "ssh"}
    event |= {"src_ip": orig, "src_port": int(port), "dest_ip": resp, "dest_port": 22, "proto": "TCP"}
    if log == "conn":
        event["flow"] = {"start": start, "end": end, "bytes_toserver": int(rest[2]), "bytes_toclient": 9}
    return json.dumps(event).encode() + b"\n"


def connected(path, process):
    """Connect as Suricata does: when there is somebody to listen."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
        except OSError:
            connection.close()
            time.sleep(0.05)
        else:
            return connection
    raise AssertionError(process.communicate()[1].decode())


def test_a_killed_watch_on_a_socket_resumes_where_it_stopped(day, server, tmp_path):
    events = [as_event(*entry) for entry in day]
    (tmp_path / "recorded.json").write_bytes(b"".join(events))
    expected = replay(tmp_path / "recorded.json", server, tmp_path / "expected.jsonl", "--ends")
    assert len(expected) >= 5
    cut = len(day) * 3 // 5
    for part, last in ((events[:cut], day[cut - 1]), (events[cut:], day[-1])):
        with watching(server, tmp_path, "--eve-socket", tmp_path / "eve.sock") as process:
            with connected(tmp_path / "eve.sock", process) as suricata:
                for at in range(0, len(part), 100):
                    suricata.sendall(b"".join(part[at : at + 100]))
            wait_until_read(tmp_path, process, round(last[0] * 1e9) - 1_000)
            if last is day[-1]:
                stop(process)
    complete = [alert for alert in expected if alert["window"]["end"] <= COMPLETE_UNTIL]
    assert alerts(tmp_path / "alerts.jsonl") == complete
    assert sorted(path.name for path in (tmp_path / "state" / "events").iterdir()) == ["eve.json"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--window", "1h"], "--window: tiny was trained with 1200 s, found 3600 s"),
        (["--features", "x=conn|in_count_uid"], "the model has no feature x"),
        (["--features", "ssh_in=conn|nothing"], "no feature conn|nothing"),
    ],
)
def test_options_that_do_not_fit_the_model_are_rejected_in_one_line(logs, server, capsys, arguments, complaint):
    assert main(["replay", str(logs), "--server", server, *arguments]) == 1
    assert complaint in capsys.readouterr().err


def test_missing_logs_are_reported(server, tmp_path, capsys):
    assert main(["replay", str(tmp_path / "nowhere"), "--server", server]) == 1
    assert "no such file or folder" in capsys.readouterr().err


def test_a_watch_waits_for_a_server_that_accepts_connections_and_does_not_answer_and_ends_with_3(logs, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as hung:
        address = f"127.0.0.1:{hung.getsockname()[1]}"
        command = [sys.executable, "-m", "mods_grpc", "watch", "--zeek", str(logs), "--server", address, *OPTIONS]
        command += ["--timeout", "1", "--state", str(tmp_path / "state"), "--alerts", f"jsonl:{tmp_path / 'alerts'}"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            line = process.stderr.readline()
            assert "server_unreachable" in line
            assert "did not answer in time" in line
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
    assert process.returncode == EXIT_DOUBTFUL
