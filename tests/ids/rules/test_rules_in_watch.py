"""Fixed rules in `mods-grpc replay` and `watch`: beside the detector, before it judges, and across a kill."""

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from mods_grpc.cli.main import main
from mods_grpc.ids.rules.rule import RULE_NAMES
from tests.support.ids import live_day

MINUTES = 22  # too few for the model to judge a window
HOSTS = ("10.0.0.7", "10.0.0.8")
OPTIONS = ["--local", "10.0.0.0/24", "--sensor", "tap"]


def scan(host, minute):
    """Return (time of writing, line) of 60 failed connections in 200 s, as Zeek writes JSON."""
    lines = []
    for number in range(60):
        ts = live_day.START + 60 * minute + 3.3 * number
        record = {"ts": ts, "uid": f"S{host}x{minute}n{number}", "id.orig_h": host, "id.orig_p": 40_000 + number}
        record |= {"id.resp_h": f"198.51.100.{number}", "id.resp_p": 445, "proto": "tcp", "conn_state": "S0"}
        lines.append((ts, json.dumps(record) + "\n"))
    return lines


def write_logs(folder, scans, minutes=MINUTES):
    """Write the logs of quiet traffic and scans, as (host, minute)."""
    folder.mkdir()
    entries = live_day.make_lines(minutes, 2.0)
    for log in live_day.COLUMNS:
        written = [(when, line) for when, of, line in entries if of == log]
        for host, minute in scans if log == "conn" else ():
            written += scan(host, minute)
        (folder / f"{log}.log").write_text(live_day.format_header(log) + "".join(line for _, line in sorted(written)))
    return folder


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    return write_logs(tmp_path_factory.mktemp("logs") / "current", [(HOSTS[0], 4), (HOSTS[1], 13)])


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def rule_alerts(path):
    return [alert for alert in read(path) if alert.get("kind") == "rule"]


def replay(source, server, output, *options):
    words = ["replay", str(source), "--server", server, *OPTIONS, "--alerts", f"jsonl:{output}", *options]
    assert main(words) in {0, 3}  # nothing is judged
    return rule_alerts(output)


def test_rules_raise_alerts_where_the_model_judges_nothing_yet(logs, server, tmp_path, capsys):
    raised = replay(logs, server, tmp_path / "alerts.jsonl", "--json", "--ends")
    assert [(alert["rule"], alert["host"], alert["phase"]) for alert in raised] == [
        ("host-scan", HOSTS[0], "start"),
        ("host-scan", HOSTS[0], "end"),
        ("host-scan", HOSTS[1], "start"),
        ("host-scan", HOSTS[1], "end"),
    ]
    assert raised[0]["uids"][0] == f"S{HOSTS[0]}x4n0"
    printed = capsys.readouterr()
    assert "2 alerts of fixed rules: 2 host-scan" in printed.err
    assert "ssh records has auth_success of Zeek" in printed.err
    assert "--no-rule ssh-guessing --no-rule ssh-break-in" in printed.err
    summary = json.loads(printed.out)
    assert summary["account"]["rule_alerts"] == {"host-scan": 2}
    assert {(unset["protocol"], unset["field"]) for unset in summary["account"]["blind_rules"]} == {("ssh", "failed")}
    assert summary["alerts"] == summary["account"]["judged"] == 0


@pytest.mark.parametrize("options", [["--no-rule", "all"], ["--no-rule", "host-scan"], ["--rule", "host-scan=61"]])
def test_a_rule_is_switched_off_or_given_another_threshold(logs, server, tmp_path, options):
    assert replay(logs, server, tmp_path / "alerts.jsonl", *options) == []


def test_all_rules_but_one_are_switched_off(logs, server, tmp_path):
    alone = replay(logs, server, tmp_path / "alone.jsonl", "--no-rule", "all", "--rule", "port-scan=1")
    assert {alert["rule"] for alert in alone} == {"port-scan"}
    raised = replay(logs, server, tmp_path / "alerts.jsonl", "--no-rule", "all", "--rule", "host-scan=25")
    assert [alert["host"] for alert in raised] == list(HOSTS)


def test_a_name_that_is_no_rule_is_refused(logs, server, capsys):
    for words in (["--no-rule", "scan"], ["--rule", "scan=3"], ["--rule", "host-scan=0"], ["--rule", "host-scan"]):
        with pytest.raises(SystemExit):
            main(["replay", str(logs), "--server", server, *words])
    assert ", ".join(RULE_NAMES) in capsys.readouterr().err


@pytest.mark.parametrize("command", [["replay", "/nowhere"], ["watch", "--zeek", "/nowhere"]])
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            ["--rule", "bytes-out=5", "--no-rule", "bytes-out"],
            "--rule bytes-out=5: expected a rule that runs, found --no-rule bytes-out; leave one of them out",
        ),
        (
            ["--no-rule", "all", "--no-rule", "bytes-out", "--rule", "bytes-out=5"],
            "--rule bytes-out=5: expected a rule that runs, found --no-rule bytes-out; leave one of them out",
        ),
        (
            ["--rule", "bytes-out=5", "--rule", "bytes-out=6"],
            "--rule: expected one threshold of bytes-out, found 5 and 6",
        ),
    ],
)
def test_flags_about_rules_that_contradict_each_other_are_refused(capsys, command, options, complaint):
    assert main([*command, *options]) == 2
    assert capsys.readouterr().err == f"error: {complaint}\n"


def test_a_suppressed_host_raises_none_and_its_pattern_is_not_called_useless(logs, server, tmp_path, caplog):
    rules = tmp_path / "rules.toml"
    rules.write_text(f'allow = ["{HOSTS[0]}"]\n')
    raised = replay(logs, server, tmp_path / "alerts.jsonl", "--suppress", str(rules))
    assert [alert["host"] for alert in raised] == [HOSTS[1]]
    assert "pattern_matches_nothing" not in caplog.text


def test_what_a_rule_of_suppression_mutes_is_counted(logs, server, tmp_path, capsys):
    rules = tmp_path / "rules.toml"
    rules.write_text(f'[[rule]]\nname = "host-scan"\nhosts = ["{HOSTS[0]}"]\n')
    raised = replay(logs, server, tmp_path / "alerts.jsonl", "--suppress", str(rules), "--json")
    assert [alert["host"] for alert in raised] == [HOSTS[1]]
    printed = capsys.readouterr()
    assert "1 alert of fixed rules suppressed: 1 host-scan" in printed.err
    account = json.loads(printed.out)["account"]
    assert (account["rule_alerts"], account["rules_suppressed"]) == ({"host-scan": 1}, {"host-scan": 1})


@pytest.mark.parametrize(("flag", "value"), [("--rule", "host-scan=61"), ("--no-rule", "host-scan"), ("--no-rule", "all")])
@pytest.mark.parametrize("name", ["pool", "rows.csv.gz"])
def test_flags_about_rules_are_refused_where_no_logs_are_read(tmp_path, capsys, name, flag, value):
    (tmp_path / "pool" / "conn" / "2026" / "03" / "02").mkdir(parents=True)
    (tmp_path / "pool" / "conn" / "2026" / "03" / "02" / "w20m-s01m.tsv").touch()
    (tmp_path / "rows.csv.gz").touch()
    assert main(["replay", str(tmp_path / name), "--server", "127.0.0.1:1", flag, value]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {flag}: {tmp_path / name} holds windows that were aggregated, and fixed rules count")
    assert line.endswith("leave the flag out, or give the logs")


def test_a_mute_rule_of_a_fixed_rule_that_does_not_exist_is_refused(logs, server, tmp_path, capsys):
    rules = tmp_path / "rules.toml"
    rules.write_text('[[mute]]\nrule = ["scan"]\n')
    assert main(["replay", str(logs), "--server", server, *OPTIONS, "--suppress", str(rules)]) == 1
    assert f"error: {rules}:2: mute.rule: no fixed rule is called scan; expected host-scan" in capsys.readouterr().err


def test_a_rule_of_suppression_that_does_not_exist_is_refused(logs, server, tmp_path, capsys):
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nname = "scan"\n')
    assert main(["replay", str(logs), "--server", server, *OPTIONS, "--suppress", str(rules)]) == 1
    assert "no fixed rule is called scan; expected host-scan" in capsys.readouterr().err


def test_a_group_that_a_muted_rule_can_not_have_is_refused(logs, server, tmp_path, capsys):
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nname = "dns-nxdomain"\ngroups = ["example.com"]\n')
    assert main(["replay", str(logs), "--server", server, *OPTIONS, "--suppress", str(rules)]) == 1
    assert f"error: {rules}:3: rule.groups: dns-nxdomain has no groups; leave them out" in capsys.readouterr().err


def test_a_dry_run_prints_them_as_lines(logs, server, capsys):
    assert main(["replay", str(logs), "--server", server, *OPTIONS, "--dry-run"]) in {0, 3}
    lines = [line for line in capsys.readouterr().out.splitlines() if "threshold 25" in line]
    assert len(lines) == 2
    assert HOSTS[0] in lines[0]
    assert " high " in lines[0]


@contextmanager
def watching(server, folder, source, *options):
    words = ["watch", "--zeek", source, "--server", server, *OPTIONS, "--state", folder / "state", "--ends", *options]
    words += ["--alerts", f"jsonl:{folder / 'alerts.jsonl'}"]
    command = [sys.executable, "-m", "mods_grpc", *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(path, number):
    deadline = time.monotonic() + 60
    while len(rule_alerts(path)) < number:
        assert time.monotonic() < deadline, read(path)
        time.sleep(0.05)


def test_a_killed_watch_loses_and_repeats_no_alert_of_a_rule(server, tmp_path):
    scans = [(HOSTS[0], 5), (HOSTS[1], 15), (HOSTS[0], 25)]
    whole = write_logs(tmp_path / "whole", scans, minutes=45)
    expected = [alert["id"] for alert in replay(whole, server, tmp_path / "expected.jsonl", "--ends")]
    assert len(set(expected)) == 6
    live, alerts = tmp_path / "current", tmp_path / "alerts.jsonl"
    for minutes, number in ((14, 1), (24, 3), (34, 5)):  # a scan is reported 7.5 minutes after its begin, and its end 5 later
        with watching(server, tmp_path, live_until(live, whole, minutes)) as process:
            wait_for(alerts, number)
            process.send_signal(signal.SIGKILL)
    with watching(server, tmp_path, live_until(live, whole, 45)) as process:
        wait_for(alerts, 6)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert [alert["id"] for alert in rule_alerts(alerts)] == expected


def wait_for_line(process, event):
    """Return the lines of the log until one is of an event."""
    lines = []
    while event not in (line := process.stderr.readline().decode()):
        assert line, lines
        lines.append(line)
    return [*lines, line]


def test_a_running_watch_takes_up_feedback_and_changed_rules_of_suppression(server, tmp_path):
    whole = write_logs(tmp_path / "whole", [(HOSTS[0], 5), (HOSTS[1], 15), (HOSTS[0], 25)], minutes=35)
    live, alerts, rules = tmp_path / "current", tmp_path / "alerts.jsonl", tmp_path / "rules.toml"
    old = '[[mute]]\nid = "old"\nentity = ["22/tcp"]\nuntil = 2020-01-01T00:00:00Z\n'
    rules.write_text(f'{old}[[mute]]\nid = "first"\nsource = ["{HOSTS[0]}"]\n')
    log = []
    with watching(server, tmp_path, live_until(live, whole, 24), "--suppress", rules) as process:
        log += wait_for_line(process, " watching ")
        wait_for(alerts, 1)  # of the second scan
        assert {alert["host"] for alert in rule_alerts(alerts)} == {HOSTS[1]}
        (tmp_path / "state" / "alerts.jsonl").write_text(alerts.read_text())
        words = ["feedback", rule_alerts(alerts)[0]["id"], "--false-alarm", "--state", str(tmp_path / "state")]
        assert main([*words, "--mute", "series,entity", "--suppress", str(rules)]) == 0
        log += wait_for_line(process, " suppression_read ")
        rules.write_text("[[mute]]\nseries = 3\n")
        log += wait_for_line(process, " suppression_unreadable ")
        rules.write_text(f'[[mute]]\nid = "second"\nrule = ["host-scan"]\nseries = ["{HOSTS[1]}"]\n')
        log += wait_for_line(process, " suppression_read ")
        live_until(live, whole, 35)
        wait_for(alerts, 3)
        process.send_signal(signal.SIGTERM)
        log += process.communicate(timeout=30)[1].decode().splitlines(keepends=True)
    assert [alert["host"] for alert in rule_alerts(alerts)] == [HOSTS[1], HOSTS[1], HOSTS[0]]
    events = " ".join(log)
    assert "mute_expired" in events
    assert "verdict=false_alarm" in events
    assert f"{rules}:2: mute.series: expected a list" in events
    saved = json.loads((tmp_path / "state" / "checkpoint.json").read_text())["watch"]
    assert saved["suppression_hits"]["mute first"][0] == 1
    assert saved["feedback"]["read"]["offset"] == (tmp_path / "state" / "feedback.jsonl").stat().st_size


def live_until(live, whole, minutes):
    """Write what Zeek has written of the logs after some minutes; the files grow."""
    live.mkdir(exist_ok=True)
    for log in live_day.COLUMNS:
        lines = (whole / f"{log}.log").read_text().splitlines(keepends=True)
        end = live_day.START + 60 * minutes
        grown = "".join(line for line in lines if line.startswith("#") or ts_of(line) < end)
        path = live / f"{log}.log"
        size = path.stat().st_size if path.exists() else 0
        with path.open("a") as file:
            file.write(grown[size:])
    return live


def ts_of(line):
    return json.loads(line)["ts"] if line.startswith("{") else float(line.split("\t")[0])
