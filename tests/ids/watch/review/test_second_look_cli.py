"""`mods-grpc alerts show ID --logs`: the evidence of alerts of a replay, counted again from its logs."""

import json
from collections import Counter
from datetime import datetime
from functools import cache

import pytest

from mods_grpc.cli.main import main
from mods_grpc.exit_codes import EXIT_FAILED, EXIT_OK
from tests.support.ids import live_day
from tests.support.ids.bursts import make_day

SCANNER, OWN_HOST = "203.0.113.7", live_day.HOSTS[0]
LOCAL = ["--local", "10.0.0.0/24"]


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    entries = make_day(140, {70: SCANNER})
    for log in live_day.COLUMNS:
        (folder / f"{log}.log").write_text(live_day.format_header(log) + "".join(line for _, of, line in entries if of == log))
    return folder


@pytest.fixture(scope="module")
def replay(logs, server, tmp_path_factory):
    """Replay the logs once for each way of grouping; gives the file of the alerts and the alerts."""
    return cache(lambda group_by: run_replay(logs, server, tmp_path_factory.mktemp(group_by), group_by))


def run_replay(logs, server, folder, group_by):
    """Replay logs where few values are counted and nothing is read again."""
    path = folder / "alerts.jsonl"
    options = ["--false-alarms-per-day", "4", "--no-rule", "all", "--ends", *LOCAL, "--group-by", group_by]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mods_grpc.ids.evidence.counts.MAX_GROUP_ENTRIES", 16)
        patch.setattr("mods_grpc.ids.evidence.counts.HEAVY_ROWS", 16)
        patch.setattr("mods_grpc.ids.windows.second_look.MAX_BYTES", 1)
        assert main(["replay", str(logs), "--server", server, *options, "--alerts", f"jsonl:{path}"]) == EXIT_OK
    return path, [json.loads(line) for line in path.read_text().splitlines()]


def count_sources(logs, start, end, hosts):
    """Count the connections to hosts that began in a time, by who made them."""
    counts = Counter()
    for line in (logs / "conn.log").read_text().splitlines():
        if not line.startswith("#"):
            ts, _, source, _, destination, *_ = line.split("\t")
            counts[source] += start <= float(ts) < end and destination in hosts
    return +counts


def show(capsys, path, alert, *options):
    capsys.readouterr()
    assert main(["alerts", "show", alert["id"][:8], str(path), *map(str, options)]) == EXIT_OK
    return capsys.readouterr().out


@pytest.mark.parametrize(("group_by", "hosts"), [("site", live_day.HOSTS), ("host", [OWN_HOST])])
def test_evidence_is_what_the_logs_of_the_window_hold(logs, replay, capsys, group_by, hosts):
    path, alerts = replay(group_by)
    first = next(alert for alert in alerts if alert["phase"] == "start" and alert["series"] in {"site", OWN_HOST})
    assert not first["evidence"]["is_exact"]
    start, end = (datetime.fromisoformat(first["window"][name]).timestamp() for name in ("start", "end"))
    expected = count_sources(logs, start, end, hosts)
    options = ["--logs", logs, *LOCAL, "--group-by", group_by]
    evidence = json.loads(show(capsys, path, first, *options, "--json"))["evidence"]
    assert evidence["is_exact"]
    leading = next(each for each in evidence["features"] if each["feature"] == "conn_in")
    assert leading["total"] == sum(expected.values())
    sources = next(each for each in leading["dimensions"] if each["dimension"] == "source")
    assert sources["distinct"] == len(expected)
    assert {each["value"]: each["count"] for each in sources["entities"]} == {
        each["value"]: expected[each["value"]] for each in sources["entities"]
    }
    assert sources["entities"][0]["value"] == evidence["source_ip"] == SCANNER
    assert any(SCANNER in str(text) for text in evidence["filters"].values())
    stored, exact = show(capsys, path, first), show(capsys, path, first, *options)
    assert "too low" in stored
    assert "too low" not in exact
    assert f"{len(expected):,} sources" in exact


def test_the_end_of_an_episode_is_about_its_peak(logs, replay, capsys):
    path, alerts = replay("site")
    end = next(alert for alert in alerts if alert["phase"] == "end")
    start = datetime.fromisoformat(end["episode"]["peak_time"]).timestamp()
    expected = count_sources(logs, start, start + 20 * 60, live_day.HOSTS)
    evidence = json.loads(show(capsys, path, end, "--logs", logs, *LOCAL, "--json"))["evidence"]
    (counted,) = [each for each in evidence["features"] if each["feature"] == "conn_in"]
    assert counted["total"] == sum(expected.values())


def test_logs_that_do_not_hold_it_are_refused(logs, replay, tmp_path, capsys):
    path, alerts = replay("host")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "conn.log").write_text(live_day.format_header("conn"))
    for options in (["--logs", logs, *LOCAL], ["--logs", tmp_path / "other", *LOCAL, "--group-by", "host"]):
        assert main(["alerts", "show", alerts[0]["id"], str(path), *map(str, options)]) == EXIT_FAILED
        complaint = capsys.readouterr().err
        assert "error: --logs: the logs hold no record of the alert's window" in complaint
        assert "hint: give the logs of that time, and --local and --group-by as the watch had them" in complaint
