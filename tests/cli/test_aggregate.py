"""`mods-grpc aggregate` and bulk aggregation: the same rows to the bit as line by line, and hostile logs that stop nothing."""

import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mods_grpc.cli.main import main
from mods_grpc.errors import DataError
from mods_grpc.exit_codes import EXIT_DOUBTFUL
from mods_grpc.features import Aggregator, AggregatorOptions, GroupBy
from mods_grpc.features.records import Notice
from mods_grpc.ids.bulk.aggregate import BulkAggregator
from mods_grpc.ids.logs.pipes import copying_pipes
from mods_grpc.ids.sources.reader import LogReader
from tests.support.ids.full_disk import full_disk
from tests.support.ids.log_records import SECOND, START, ZEEK_KINDS, random_records, write_zeek_tsv
from training.data.datapool import read_datapool
from training.data.query import parse_query
from training.data.time_range import parse_interval

NETWORKS = ("10.0.0.0/16", "10.0.7.0/24", "fd00::/8")


def aggregate_both_ways(path, options, **batch_options):
    """Return the rows and counters of bulk aggregation, and those of aggregation line by line."""
    batch = BulkAggregator([path], options=options, frame_bytes=0, **batch_options)
    columnar = list(batch.rows())
    single = Aggregator(options=options)
    with LogReader(path) as reader:
        records = list(reader.poll())
        single.add_many(records)
        rows = list(single.flush(max((record.logged_ns for record in records), default=None)))
    return (columnar, batch.counters, batch.aggregator.counters), (rows, reader.counters, single.counters)


@pytest.mark.parametrize("group_by", list(GroupBy))
@pytest.mark.parametrize("networks", [(), NETWORKS])
def test_bulk_and_single_line_aggregation_give_the_same_rows(tmp_path, group_by, networks):
    records = random_records(3, 4_000, 3 * 3_600)
    write_zeek_tsv(tmp_path, records, rows_per_file=700)
    options = AggregatorOptions(group_by=group_by, local_networks=networks, distinct_limit=40)
    columnar, single = aggregate_both_ways(tmp_path, options, block_bytes=20_000)
    assert len(columnar[0]) >= 10
    assert repr(columnar[0]) == repr(single[0])
    assert columnar[1:] == single[1:]
    direct = Aggregator(options=options)
    direct.add_many(records)
    assert repr(list(direct.flush(max(record.logged_ns for record in records)))) == repr(columnar[0])


def test_only_lines_that_do_not_fit_columns_are_parsed_one_by_one(tmp_path, monkeypatch):
    kinds = [kind for kind in ZEEK_KINDS if kind is not Notice]  # a notice may name its hosts in other fields
    records = random_records(3, 4_000, 3_600, kinds)
    write_zeek_tsv(tmp_path, records)
    batch = BulkAggregator([tmp_path], frame_bytes=0)
    one_by_one = []
    single = batch._parse_rows
    monkeypatch.setattr(batch, "_parse_rows", lambda *arguments: one_by_one.extend(arguments[2]) or single(*arguments))
    list(batch.rows())
    assert batch.counters.records == len(records) == 4_000
    assert all(line.startswith(b"#") for line in one_by_one)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 19), st.integers(0, 12), st.sampled_from("\t\n\r\x00-x9+. _\"'#é\ufffd(") | st.text(max_size=3)),
        max_size=12,
    )
)
def test_damaged_lines_are_read_the_same_both_ways(tmp_path_factory, damages):
    folder = tmp_path_factory.mktemp("logs")
    write_zeek_tsv(folder, [record for record in random_records(5, 40, 600) if record.protocol in {"conn", "dns"}])
    for log in folder.iterdir():
        lines = log.read_text().split("\n")
        for row, column, text in damages:
            index = 7 + row % (len(lines) - 7)
            cells = lines[index].split("\t")
            cells[column % len(cells)] = text
            lines[index] = "\t".join(cells)
        log.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    columnar, single = aggregate_both_ways(folder, AggregatorOptions(window_seconds=60, slide_seconds=60))
    assert repr(columnar[0]) == repr(single[0])
    assert columnar[1:] == single[1:]


def test_records_out_of_order_within_the_lateness_change_nothing(tmp_path):
    records = sorted(random_records(6, 3_000, 6 * 3_600), key=lambda record: record.ts)
    draw = random.Random(2)
    records.sort(key=lambda record: record.ts + draw.randrange(600) * SECOND)
    write_zeek_tsv(tmp_path, records)
    rows = [list(BulkAggregator([tmp_path], lateness_seconds=late, block_bytes=8_192).rows()) for late in (7_200, 10**9)]
    assert len(rows[0]) > 20
    assert repr(rows[0]) == repr(rows[1])


def hostile_lines():
    good = f"{START // SECOND + 5}.000000\tC1\t203.0.113.1\t1024\t10.0.0.1\t22\t1.0\t10\t20\n".encode()
    fields = good.rstrip().split(b"\t")

    def with_field(index, value):
        return b"\t".join([*fields[:index], value, *fields[index + 1 :]]) + b"\n"

    return (
        good,
        {
            "long": b"x" * (10 << 20) + b"\n",
            "columns": good[:30] + b"\n",
            "text": with_field(1, b"\x1b[2J\x00"),
            "count": with_field(7, b"-10"),
            "address": with_field(2, b"not an address"),
            "port": with_field(3, b"99999"),
            "time": with_field(0, b"4294967295.0"),
            "number": with_field(6, b"long"),
            "no id.resp_h": with_field(4, b"-"),
        },
        with_field(0, b"0.000000"),
    )


@pytest.mark.parametrize("packed", [False, True])
def test_hostile_lines_are_counted_and_quarantined(tmp_path, packed, capsys):
    good, bad, in_1970 = hostile_lines()
    header = (
        b"#separator \\x09\n#unset_field\t-\n#path\tconn\n"
        b"#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tduration\torig_bytes\tresp_bytes\n"
        b"#types\ttime\tstring\taddr\tport\taddr\tport\tinterval\tcount\tcount\n"
    )
    text = (
        header
        + good * 500
        + b"".join(line + good for line in bad.values())
        + in_1970
        + bytes(range(11, 256)) * 4
        + b"\n"
        + good[:20]
    )
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / ("conn.log.gz" if packed else "conn.log")).write_bytes(gzip.compress(text) if packed else text)
    quarantine = tmp_path / "malformed.jsonl"
    arguments = [str(logs), "--output", str(tmp_path / "pool"), "--quarantine", str(quarantine), "--json"]
    assert main(["aggregate", *arguments, "--from", "2024-04-19", "--to", "2024-04-19T02:00"]) == 0
    summary = json.loads(capsys.readouterr().out)
    harmless = {"text": None, "count": "orig_bytes", "port": "id.orig_p", "number": "duration"}  # no feature reads the uid
    assert summary["records"] == summary["added"] == 500 + len(bad) + len(harmless)
    assert summary["damaged_fields"] == {field: 1 for field in harmless.values() if field}
    bad = {reason: line for reason, line in bad.items() if reason not in harmless}
    assert summary["malformed"] == dict.fromkeys(bad, 1) | {"time": 2, "columns": 3}
    assert summary["lines"] == summary["records"] + summary["ignored"] + sum(summary["malformed"].values())
    entries = [json.loads(line) for line in quarantine.read_text().splitlines()]
    assert sorted(entry["reason"] for entry in entries) == sorted([*bad, "time", "columns", "columns"])
    assert max(len(entry["line"]) for entry in entries) <= 4_096
    first = (tmp_path / "pool/conn/2024/04/19/w01h-s10m.tsv").read_text().splitlines()[1].split("\t")
    assert first[5] == str(summary["records"])


def test_a_line_longer_than_a_block_is_rejected_in_bounded_memory(tmp_path):
    good, _, _ = hostile_lines()
    fields = b"#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tduration\torig_bytes\tresp_bytes\n"
    (tmp_path / "conn.log").write_bytes(fields + good + b"z" * 3_000_000 + b"\n" + good * 2 + b"z" * 3_000_000)
    batch = BulkAggregator([tmp_path], block_bytes=100_000)
    list(batch.rows())
    assert batch.counters.records == 3
    assert batch.counters.malformed == {"long": 2}


def test_small_rotated_files_are_read_together_and_a_bad_line_names_its_file(tmp_path):
    write_zeek_tsv(tmp_path, random_records(4, 1_000, 3_600), rows_per_file=50)
    files = sorted(tmp_path.glob("conn.*"))
    for number, log in enumerate(files):
        log.write_text(log.read_text().replace("#close", f"torn line {number}\n#close"))
    rejected = []
    batch = BulkAggregator(
        [tmp_path], frame_bytes=0, on_rejected=lambda path, reason, line: rejected.append((path, reason, line))
    )
    list(batch.rows())
    assert sorted(rejected) == [(log, "columns", b"torn line %d" % number) for number, log in enumerate(files)]
    assert batch.counters.records == 1_000


def test_each_series_has_a_datapool_that_training_reads(tmp_path, capsys):
    logs = tmp_path / "logs"
    logs.mkdir()
    write_zeek_tsv(logs, random_records(8, 6_000, 4 * 3_600))
    pool = tmp_path / "pool"
    arguments = ["--group-by", "subnet", "--local", "10.0.0.0/16", "10.0.7.0/24", "--window", "30m"]
    assert main(["aggregate", str(logs), "--output", str(pool), *arguments]) == 0
    assert "windows of conn, dns, http, notice, sip, ssh, ssl, weird to" in capsys.readouterr().out
    assert sorted(folder.name for folder in pool.iterdir()) == ["10.0.0.0%2F16", "10.0.7.0%2F24"]
    query = parse_query("conn|in_count_uid~conn_in;dns|out_distinct_query#window_start,window_end")
    interval = parse_interval("<2024-04-19,2024-04-20)")
    series = read_datapool(pool / "10.0.0.0%2F16", query, interval, window_slide="w30m-s10m")
    options = AggregatorOptions(group_by="subnet", local_networks=("10.0.0.0/16", "10.0.7.0/24"), window_seconds=1_800)
    rows = [row for row in BulkAggregator([logs], options=options).rows() if row.series == "10.0.0.0/16"]
    expected = [[row.values["conn|in_count_uid"], row.values["dns|out_distinct_query"]] for row in rows]
    assert series.values.tolist() == expected
    assert len(expected) > 10


def test_a_protocol_that_was_not_logged_has_no_table(tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    write_zeek_tsv(logs, [record for record in random_records(8, 500, 7_200) if record.protocol in {"ssh", "dns"}])
    assert main(["aggregate", str(logs), "--output", str(tmp_path / "pool")]) == 0
    assert sorted(folder.name for folder in (tmp_path / "pool").iterdir()) == ["dns", "ssh"]


def test_a_missing_package_and_a_folder_that_is_not_empty_are_errors(tmp_path, capsys, monkeypatch):
    (tmp_path / "conn.log").write_text("#fields\tts\n")
    assert main(["aggregate", str(tmp_path), "--output", str(tmp_path)]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert main(["aggregate", str(tmp_path / "nothing"), "--output", str(tmp_path / "pool")]) == 1
    monkeypatch.setitem(sys.modules, "polars", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["aggregate", str(tmp_path), "--output", str(tmp_path / "pool")]) == 2
    assert "mods-grpc[ids]" in capsys.readouterr().err


def test_a_path_that_does_not_exist_is_said_to_be_absent(tmp_path, capsys):
    assert main(["aggregate", str(tmp_path / "absent"), "--output", str(tmp_path / "pool")]) == 1
    assert "absent: no such file or folder" in capsys.readouterr().err


@pytest.mark.parametrize("is_compressed", [False, True])
def test_pipes_and_standard_input_give_the_tables_of_their_files(tmp_path, is_compressed):
    (tmp_path / "logs").mkdir()
    write_zeek_tsv(tmp_path / "logs", random_records(3, 4_000, 3 * 3_600))
    logs = sorted((tmp_path / "logs").glob("*.log"))
    tables = []
    for number, words in enumerate((list(map(str, logs)), ["-", *map(str, logs[1:])], ["/dev/fd/{}", *map(str, logs[1:])])):
        output = tmp_path / str(number)
        pipe = subprocess.Popen(["gzip", "-c", logs[0]] if is_compressed else ["cat", logs[0]], stdout=subprocess.PIPE)
        with pipe:
            fd = pipe.stdout.fileno()
            command = [sys.executable, "-m", "mods_grpc", "aggregate", *words, "--output", str(output)]
            command = [word.format(fd) for word in command]
            subprocess.run(command, stdin=pipe.stdout, pass_fds=[fd], check=True, capture_output=True, timeout=60)
        tables.append({path.relative_to(output): path.read_bytes() for path in output.rglob("*") if path.is_file()})
    assert tables[0] == tables[1] == tables[2] != {}


def test_json_from_a_pipe_that_does_not_say_its_log_is_told_what_to_do(tmp_path):
    line = '{"ts":1772409600.5,"uid":"C1","id.orig_h":"192.0.2.1","id.resp_h":"10.0.0.1"}\n'
    command = [sys.executable, "-m", "mods_grpc", "aggregate", "-", "--output", str(tmp_path / "pool")]
    result = subprocess.run(command, input=line * 5, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == EXIT_DOUBTFUL
    assert "give it as a file with its usual name, such as conn.log" in result.stderr


def test_a_pipe_that_does_not_fit_on_the_disk_is_said_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool, full_disk(limit_bytes=1_000):
        pool.submit((tmp_path / "pipe").write_bytes, bytes(10_000))
        with (
            pytest.raises(DataError, match=r"is a pipe and could not be copied .* set TMPDIR"),
            copying_pipes([tmp_path / "pipe"]),
        ):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_columns_that_the_logs_can_not_give_are_named(tmp_path, capsys):
    events = []
    for number in range(30):
        at = f"2024-04-19T00:{number:02}:00.000000+0000"
        ends = {"src_ip": "10.0.0.5", "dest_ip": "203.0.113.9", "timestamp": at, "flow_id": number}
        events.append({"event_type": "ssh", **ends})
        events.append({"event_type": "http", **ends, "http": {"url": "/", "status": 404, "http_user_agent": "curl"}})
    (tmp_path / "eve.json").write_text("".join(json.dumps(event) + "\n" for event in events))
    words = ["aggregate", str(tmp_path / "eve.json"), "--output", str(tmp_path / "pool"), "--window", "10m", "--json"]
    assert main(words) == 0
    printed = capsys.readouterr()
    unset = {(each["protocol"], each["field"]): each["columns"] for each in json.loads(printed.out)["unset"]}
    assert unset == {
        ("http", "request_bytes"): ["http|out_request_bytes", "http|internal_request_bytes"],
        ("ssh", "failed"): ["ssh|in_failed", "ssh|out_failed", "ssh|internal_failed"],
    }
    assert "warning: none of 30 ssh records has auth_success of Zeek, which Suricata does not log: ssh|in_failed" in printed.err
