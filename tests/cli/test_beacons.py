"""`mods-grpc beacons`: the table, JSON, and what it says of logs that can't be trusted."""

import json
import random

import pytest

from mods_grpc.cli.main import main
from mods_grpc.exit_codes import EXIT_DOUBTFUL, EXIT_OK

START = 1_772_409_600
LOCAL = ["--local", "10.0.0.0/24"]


@pytest.fixture
def logs(tmp_path):
    """Write an hour of one host: a beacon each 30 s by TLS, and pages at random."""
    draw, conns, names = random.Random(3), [], []
    for number in range(100):
        ids = {"id.orig_h": "10.0.0.5", "id.orig_p": 5_000 + number, "id.resp_h": "198.51.100.9", "id.resp_p": 8_443}
        ts = START + 30 * number + draw.random()
        names.append({"ts": ts, "uid": f"B{number}", **ids, "server_name": "api.[bold]example.com"})
        conns.append({"ts": ts, "uid": f"B{number}", **ids, "proto": "tcp", "duration": 0.5, "orig_bytes": 517, "resp_bytes": 9})
        ids = {"id.orig_h": "10.0.0.5", "id.orig_p": 9_000 + number, "id.resp_h": "203.0.113.4", "id.resp_p": 443}
        ts = START + draw.choice((0, 700, 2_000)) + draw.expovariate(0.02)
        conns.append({"ts": ts, "uid": f"P{number}", **ids, "proto": "tcp", "duration": 2, "orig_bytes": draw.randrange(9_999)})
    folder = tmp_path / "logs"
    folder.mkdir()
    for log, records in (("conn", conns), ("ssl", names)):
        records.sort(key=lambda record: record["ts"] + record.get("duration", 0))
        (folder / f"{log}.log").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_the_table_ranks_the_beacon_first_with_its_evidence(logs, capsys):
    assert main(["beacons", str(logs), *LOCAL]) == EXIT_OK
    printed = capsys.readouterr()
    header, first, second = printed.out.splitlines()
    assert header.split()[:4] == ["score", "host", "destination", "by"]
    assert "api.[bold]example.com:8443" in first
    assert " name " in first
    assert " address " in second
    assert "100 " in first
    assert "30 s ±" in first
    assert "517 ±0" in first
    assert "1 (100%)" in first
    assert "203.0.113.4:443" in second
    assert "2 contacts ranked of 4 pairs of 1 own host and names, domains and addresses\n" in printed.err
    assert "left out: 2 the same connections as a better row\n" in printed.err


def test_json_has_scores_counters_and_the_account(logs, capsys):
    assert main(["beacons", str(logs), *LOCAL, "--json", "--top", "1"]) == EXIT_OK
    written = json.loads(capsys.readouterr().out)
    (best,) = written["beacons"]
    assert (best["destination"], best["connections"], best["bytes_sent"]) == ("api.[bold]example.com", 100, 51_700)
    assert best["scores"]["sizes"] == 1
    assert best["score"] > 0.9
    assert (written["ranked"], written["pairs"], written["hosts"], written["forgotten_pairs"]) == (2, 4, 1, 0)
    assert written["left_out"] == {"connections": 0, "prevalence": 0, "age": 0, "seconds": 0, "score": 0, "same": 2}
    assert (best["key"], best["names"], best["names_elsewhere"]) == ("name", ["api.[bold]example.com"], [])
    assert written["account"]["records_by_protocol"] == {"conn": 200, "ssl": 100}


def test_flags_filter_the_ranking(logs, capsys):
    assert main(["beacons", str(logs), *LOCAL, "--json", "--min-score", "0.9"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["ranked"] == 1
    assert main(["beacons", str(logs), *LOCAL, "--json", "--min-score", "1", "--min-connections", "100"]) == EXIT_OK
    written = json.loads(capsys.readouterr().out)
    assert (written["ranked"], written["left_out"]["score"], written["left_out"]["same"]) == (1, 1, 2)


@pytest.mark.parametrize(
    ("words", "line", "advice"),
    [
        (["--min-connections", "101"], "4 of fewer than 101 connections", "a smaller --min-connections"),
        (["--max-age", "20m"], "4 known for longer than 20m", "a greater --max-age"),
    ],
)
def test_filters_that_leave_nothing_to_score_make_an_empty_list_doubtful(logs, words, line, advice, capsys):
    assert main(["beacons", str(logs), *LOCAL, *words]) == EXIT_DOUBTFUL
    *_, counts, doubt = capsys.readouterr().err.splitlines()
    assert line in counts
    assert doubt.startswith("doubtful: the filters left no contact")
    assert advice in doubt
    assert main(["beacons", str(logs), *LOCAL, *words, "--json"]) == EXIT_DOUBTFUL
    assert json.loads(capsys.readouterr().out)["account"]["doubts"][-1]["code"] == "nothing_ranked"


def test_the_advice_is_about_the_filter_that_stopped_the_pairs_that_got_furthest(logs, capsys):
    with (logs / "conn.log").open("a") as conn:
        for number in range(30):  # more than what is too old
            ids = {"id.orig_h": "10.0.0.5", "id.orig_p": 7, "id.resp_h": f"192.0.2.{number}", "id.resp_p": 443}
            conn.write(json.dumps({"ts": START + 3_600, "uid": f"R{number}", **ids, "proto": "tcp"}) + "\n")
    assert main(["beacons", str(logs), *LOCAL, "--max-age", "10m", "--min-connections", "4"]) == EXIT_DOUBTFUL
    *_, counts, doubt = capsys.readouterr().err.splitlines()
    assert "30 of fewer than 4 connections, 4 known for longer than 10m" in counts
    assert "a greater --max-age" in doubt


def test_logs_without_connections_are_said_in_words_of_this_command(logs, capsys):
    (logs / "conn.log").unlink()
    assert main(["beacons", str(logs), *LOCAL]) == EXIT_DOUBTFUL
    *_, counts, doubt = capsys.readouterr().err.splitlines()
    assert counts == "left out: none"
    assert "no record of conn" in doubt
    assert "--protocols" not in doubt


def test_a_ping_has_no_port_and_an_error_no_row(logs, capsys):
    with (logs / "conn.log").open("a") as conn:
        for number in range(100):
            for kind, resp in ((8, "192.0.2.1"), (3, "192.0.2.2")):
                ids = {"id.orig_h": "10.0.0.5", "id.orig_p": kind, "id.resp_h": resp, "id.resp_p": 3}
                line = {"ts": START + 30 * number, "uid": f"I{kind}{number}", **ids, "proto": "icmp", "orig_bytes": 56}
                conn.write(json.dumps(line) + "\n")
    assert main(["beacons", str(logs), *LOCAL]) == EXIT_OK
    table = capsys.readouterr().out
    assert " 192.0.2.1:icmp " in table
    assert "192.0.2.2" not in table


def test_logs_without_outward_connections_leave_nothing_to_rank(logs, capsys):
    assert main(["beacons", str(logs), "--local", "0.0.0.0/0"]) == EXIT_DOUBTFUL
    assert "no own host has an outward connection" in capsys.readouterr().err.splitlines()[-1]


def test_a_name_that_others_reach_elsewhere_is_said_in_the_row(logs, capsys):
    with (logs / "conn.log").open("a") as conn, (logs / "ssl.log").open("a") as ssl:
        ids = {"id.orig_h": "10.0.0.6", "id.orig_p": 7, "id.resp_h": "192.0.2.9", "id.resp_p": 443}
        ssl.write(json.dumps({"ts": START + 3_600, "uid": "O", **ids, "server_name": "api.[bold]example.com"}) + "\n")
        conn.write(json.dumps({"ts": START + 3_600, "uid": "O", **ids, "proto": "tcp", "duration": 0.1, "orig_bytes": 5}) + "\n")
    assert main(["beacons", str(logs), *LOCAL]) == EXIT_OK
    assert "api.[bold]example.com, which other hosts reach elsewhere" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("networks", [["--local", "192.0.2.0/24"], []])
def test_logs_without_own_hosts_are_doubtful(logs, capsys, networks):
    if not networks:
        for path in logs.iterdir():
            path.write_text("")
    assert main(["beacons", str(logs), *networks]) == EXIT_DOUBTFUL
    assert capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [["--max-prevalence", "0"], ["--max-prevalence", "2"], ["--max-age", "9"], ["--min-connections", "3"], ["--top", "0"]],
)
def test_values_that_make_no_sense_are_refused(logs, words):
    with pytest.raises(SystemExit) as refused:
        main(["beacons", str(logs), *words])
    assert refused.value.code == 2
