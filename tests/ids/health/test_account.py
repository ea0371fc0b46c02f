"""The account of what was read: a balance of lines and records, short text, and differences."""

from pathlib import Path

from mods_grpc.features.aggregate_rows import AggregatorCounters
from mods_grpc.ids.health.account import Account, RejectedLines, format_account, make_account
from mods_grpc.ids.logs.line_rules import ReadCounters
from mods_grpc.ids.sources.log_files import LeftOutFile

SECOND = 10**9
TIME = 1_713_571_200 * SECOND  # 2024-04-20


def left_out(path, reason, detail=""):
    return LeftOutFile(path=Path(path), reason=reason, detail=detail)


def test_a_clean_account_is_one_line_without_zeros():
    account = Account(files_read=1, lines=5, records_by_protocol={"conn": 5}, added=5, newest_ns=TIME)
    assert (
        format_account(account, TIME + 2 * SECOND)
        == "read 5 records (conn) in 5 lines of 1 file; newest 2024-04-20T00:00:00Z, now\n"
    )
    assert format_account(Account(files_read=1)) == "read 0 records in 0 lines of 1 file\n"


def test_what_was_lost_comes_first_and_the_most_frequent_reason_before_the_others():
    account = Account(
        files_read=2,
        left_out=[
            left_out("logs/http.log", "unreadable", "denied"),
            *(left_out(f"logs/{name}.log", "other log") for name in ("weird", "ftp", "x509", "ntp")),
            left_out("logs/a.gz", "copy", "of a"),
        ],
        damaged_files={"damaged file": 2},
        first_damaged={"damaged file": "a.gz"},
        lines=1_300,
        records_by_protocol={"dns": 200, "conn": 1_000},
        ignored=90,
        malformed={"time": 3, "columns": 7},
        damaged_fields={"duration": 1},
        added=1_000,
        late=50,
        remote_by_protocol={"conn": 140, "dns": 10},
        partly_over_limit=1,
        newest_ns=TIME,
    )
    assert format_account(account).splitlines() == [
        "dropped 150 with neither end local, 50 late, of 1,200 records",
        "malformed 10 lines: 7 columns, 3 time",
        "not read to the end: 2 damaged files (a.gz, …)",
        "fields left out of records: duration",
        "1 record over the limit of series at one end",
        "left out 4 of other logs (ftp.log, ntp.log, weird.log, …), 1 unreadable (http.log: denied), 1 copy (a.gz of a)",
        "read 1,200 records (1,000 conn, 200 dns) in 1,300 lines of 2 files; newest 2024-04-20T00:00:00Z",
    ]


def test_the_account_since_an_earlier_one_balances_with_the_records_that_were_held_between():
    read, counted = ReadCounters(), AggregatorCounters()
    for _ in range(3):
        read.lines += 1
        read.accept("conn", TIME)
    read.lines, counted.added = 4, 1
    read.reject("time")
    earlier = make_account(read, counted, files_read=1, ahead=2, windows=1, judged=0)
    read.lines += 2
    read.accept("dns", TIME + SECOND)
    read.ignored += 1
    counted.added, counted.late = 2, 1
    counted.add_remote("dns", unflagged=1)
    account = make_account(read, counted, files_read=1, ahead=0, windows=5, judged=3).since(earlier)
    assert (account.lines, account.records, account.ignored, account.malformed) == (2, 1, 1, {})
    assert account.records + account.carried == account.added + account.late + account.remote == 3
    assert (account.windows, account.judged, account.remote_by_protocol) == (4, 3, {"dns": 1})


def test_the_first_malformed_line_of_each_reason_is_an_example_and_lines_are_counted_by_log():
    rejected = RejectedLines()
    for path, reason, line in (
        ("logs/conn.00:00:00-01:00:00.log.gz", "time", b"a\t\xff" + b"x" * 500 + b"\n"),
        ("logs/conn.log", "time", b"b\n"),
        ("logs/dns.log", "columns", b"c\n"),
    ):
        rejected.add(Path(path), reason, line)
    assert rejected.by_log == {"conn": 2, "dns": 1}
    assert rejected.examples["columns"].text == "c"
    assert rejected.examples["time"].file == "conn.00:00:00-01:00:00.log.gz"
    assert len(rejected.examples["time"].text) <= 200


def test_an_account_is_json_with_the_files_that_were_left_out_by_reason():
    account = Account(
        left_out=[left_out("a/ftp.log", "other log"), left_out("b/ftp.log", "other log")], records_by_protocol={"ssh": 1}
    )
    value = account.to_json()
    assert value["left_out"] == [{"reason": "other log", "number": 2, "first": ["ftp.log", "ftp.log"]}]
    assert (value["records"], value["newest"], "judged" in value) == (1, None, False)
