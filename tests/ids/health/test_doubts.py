"""Doubts about what was read: each names what is probably wrong and what to do; the severe ones make the exit status 3."""

from pathlib import Path

import pytest

from mods_grpc.ids.health.account import Account, RejectedExample
from mods_grpc.ids.health.doubts import MAX_DROPPED_SHARE, Expectation, find_doubts, format_doubts, is_doubtful
from mods_grpc.ids.sources.log_files import LeftOutFile
from mods_grpc.ids.windows.unset_fields import UnsetField

SECOND = 10**9
HOUR = 3_600 * SECOND
NOW = 1_713_571_200 * SECOND  # 2024-04-20T00:00:00Z
EXPECTED = Expectation(protocols=("conn", "dns"), window_seconds=3_600, slide_seconds=600, lateness_seconds=300, now_ns=NOW)


UNSET = UnsetField(protocol="ssh", attribute="failed", records=4_211, columns=("ssh|in_failed", "ssh|out_failed"))


def expect(**changed):
    return Expectation(**{name: getattr(EXPECTED, name) for name in EXPECTED.__slots__} | changed)


def account(**changed):
    """Return the account of a good day, changed."""
    good = {
        "files_read": 2,
        "lines": 1_000,
        "records_by_protocol": {"conn": 900, "dns": 100},
        "added": 1_000,
        "oldest_ns": NOW - 24 * HOUR,
        "newest_ns": NOW - 60 * SECOND,
        "windows": 138,
    }
    return Account(**good | changed)


def rejected(reason, number, text="", **changed):
    example = {reason: RejectedExample("conn.log", text)} if text else {}
    return account(malformed={reason: number}, examples=example, **changed)


def nothing(**changed):
    return account(records_by_protocol={}, added=0, oldest_ns=0, newest_ns=0, windows=0, **changed)


def left_out(path, reason, detail=""):
    return LeftOutFile(path=Path(path), reason=reason, detail=detail)


def worst(made, expected=EXPECTED):
    return find_doubts(made, expected)[-1]


def test_notices_about_hosts_elsewhere_alone_raise_no_doubt():
    made = account(records_by_protocol={"conn": 900, "notice": 100}, added=905, remote_by_protocol={"notice": 95})
    assert find_doubts(made, EXPECTED) == []
    made = account(records_by_protocol={"conn": 900, "weird": 100}, added=905, remote_by_protocol={"weird": 95})
    assert [doubt.code for doubt in find_doubts(made, EXPECTED)] == ["unflagged"]


def test_an_unset_field_is_a_warning_without_a_model_and_severe_with_one():
    (warning,) = find_doubts(account(unset=(UNSET,)), EXPECTED)
    assert not warning.is_severe
    assert warning.message.startswith(
        "none of 4,211 ssh records has auth_success of Zeek, which Suricata does not log: ssh|in_failed"
    )
    assert is_doubtful(find_doubts(account(unset=(UNSET,), judged=120), expect(window_rows=12)))


def test_hosts_that_a_rule_had_no_room_for_are_a_warning():
    (doubt,) = find_doubts(account(rules_over_limit=16), EXPECTED)
    assert (doubt.code, doubt.is_severe) == ("rules_over_limit", False)
    assert "dropped the 16 hosts" in doubt.message


def test_a_good_day_raises_no_doubt():
    assert find_doubts(account(), EXPECTED) == []
    assert find_doubts(account(judged=120), expect(window_rows=12, needed=("conn", "dns"))) == []


@pytest.mark.parametrize(
    ("made", "expected", "code", "words"),
    [
        (nothing(files_read=0, lines=0), EXPECTED, "nothing_read", "no log of conn, dns was there"),
        (
            nothing(files_read=0, lines=0, left_out=[left_out("ftp.log", "other log"), left_out("x509.log", "other log")]),
            EXPECTED,
            "nothing_read",
            "only 2 of other logs (ftp.log, x509.log); is this the folder",
        ),
        (nothing(lines=0), EXPECTED, "nothing_read", "all 2 files are empty; does the sensor write here"),
        (nothing(ignored=1_000), EXPECTED, "nothing_read", "none of 1,000 lines is a record of conn, dns"),
        (
            nothing(malformed={"header": 9}, examples={"header": RejectedExample("conn.csv", "1.5,C1,10.0.0.1,80,8.8.8.8,53")}),
            EXPECTED,
            "malformed",
            "all lines are malformed, most for header, such as conn.csv: '1.5,C1,10.0.0.1,80,8.8.8.8,53': this is CSV",
        ),
        (
            nothing(malformed={"time": 9}, examples={"time": RejectedExample("conn.log", "17.5\tC1\t10.0.0.1")}),
            EXPECTED,
            "malformed",
            "the clock of the sensor was not set; 17.5 is before 2000",
        ),
        (
            nothing(
                malformed={"time": 9}, examples={"time": RejectedExample("conn.log", '{"ts": 1713571200000.0, "uid": "C1"}')}
            ),
            EXPECTED,
            "malformed",
            "1713571200000.0 is not in seconds",
        ),
        (
            nothing(malformed={"time": 9}, examples={"time": RejectedExample("conn.log", "1814571200.0\tC1")}),
            EXPECTED,
            "malformed",
            "the record is 1169 days ahead of this machine's clock",
        ),
        (
            nothing(malformed={"time": 9}, examples={"time": RejectedExample("eve.json", '{"timestamp":"20 April 2024"}')}),
            EXPECTED,
            "malformed",
            "write times as seconds since 1970 or ISO 8601",
        ),
        (
            rejected("columns", 500),
            EXPECTED,
            "malformed",
            "33 % of the lines are malformed, most for columns: the number of cells",
        ),
        (
            account(added=20, remote_by_protocol={"conn": 880, "dns": 100}),
            expect(local_networks=("10.0.0.0/8",)),
            "remote",
            "98 % of the records have neither end in 10.0.0.0/8: is --local right?",
        ),
        (
            account(added=20, remote_by_protocol={"conn": 880, "dns": 100}, public_local=frozenset({"131.243.1.9"})),
            expect(local_networks=("10.0.0.0/8",)),
            "remote",
            "is --local right? The log calls 131.243.1.9/32 local",
        ),
        (
            account(added=20, remote_by_protocol={"conn": 880, "dns": 100}),
            EXPECTED,
            "remote",
            "neither end in the private networks, and their log does not say which are local: give your networks with --local",
        ),
        (
            account(
                added=900,
                remote_by_protocol={"dns": 100},
                unflagged_remote={"dns": 100},
                public_local=frozenset({"131.243.1.9"}),
            ),
            EXPECTED,
            "unflagged",
            "other logs call public ones local; give --local 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 131.243.1.9/32, corrected",
        ),
        (
            account(unset=(UNSET,), judged=120),
            expect(window_rows=12),
            "unset",
            "of Zeek, which Suricata does not log, which the model's ssh|in_failed, ssh|out_failed need: have the sensor log it",
        ),
        (account(added=600, late=400), EXPECTED, "late", "40 % of the records came over 5m after newer ones"),
        (
            account(added=0, before_begin=1_000, windows=0),
            expect(begin_ns=NOW + HOUR),
            "before_begin",
            "--from 2024-04-20T01:00:00Z leaves out 100 % of the records; the newest is of 2024-04-19T23:59:00Z",
        ),
        (
            account(windows=0),
            expect(end_ns=NOW - 30 * HOUR),
            "no_window",
            "from 2024-04-19T00:00:00Z to 2024-04-19T23:59:00Z: --to 2024-04-18T18:00:00Z leaves no window",
        ),
        (
            account(windows=0, oldest_ns=NOW - HOUR // 2),
            EXPECTED,
            "no_window",
            "no window of 1h is complete; give longer logs, or a shorter --window",
        ),
        (
            account(windows=7, judged=0),
            expect(window_rows=12),
            "not_judged",
            "none of 7 windows was judged: the model needs 12 before it in a row, 10m apart",
        ),
        (
            account(records_by_protocol={"conn": 1_000}),
            expect(needed=("conn", "dns"), needed_by="the model needs", window_rows=12),
            "missing",
            "no record of dns, which the model needs; does the sensor log that",
        ),
        (
            account(records_by_protocol={"conn": 1_000}),
            expect(needed=("conn", "dns")),
            "missing",
            "no record of dns, which this command needs; does the sensor log that",
        ),
        (
            account(
                records_by_protocol={"conn": 1_000},
                malformed={"columns": 5},
                malformed_by_log={"dns": 5},
            ),
            expect(needed=("conn", "dns"), window_rows=12),
            "missing",
            "all lines of dns are malformed (columns)",
        ),
        (
            account(added=500, over_series_limit=500),
            EXPECTED,
            "over_series_limit",
            "50 % of the records are of series over the limit",
        ),
        (account(newest_ns=NOW + 5 * HOUR), EXPECTED, "ahead", "the newest record is of 2024-04-20T05:00:00Z, 5 h ahead of this"),
        (
            account(left_out=[left_out("logs/http.log", "unreadable", "Permission denied")]),
            EXPECTED,
            "unread",
            "1 unreadable (http.log: Permission denied): let this user read them",
        ),
        (
            account(damaged_files={"damaged file": 2}, first_damaged={"damaged file": "conn.log.gz"}),
            EXPECTED,
            "damaged_files",
            "2 of 2 files could not be read to the end (damaged file)",
        ),
        (account(damaged_fields={"orig_bytes": 400}), EXPECTED, "damaged_fields", "orig_bytes could not be read in 40 %"),
    ],
)
def test_a_wrong_set_up_is_named_with_what_to_do(made, expected, code, words):
    doubt = worst(made, expected)
    assert (doubt.code, doubt.is_severe) == (code, True)
    assert words in doubt.message


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (rejected("time", 120, records_by_protocol={"conn": 880}), "malformed"),
        (account(added=900, late=100), "late"),
        (account(unset=(UNSET,)), "unset"),
        (account(added=850, remote_by_protocol={"conn": 150}), "remote"),
        (account(added=998, ahead=2), "ahead"),
        (account(damaged_files={"damaged file": 1}, first_damaged={"damaged file": "conn.log.gz"}), "damaged_files"),
        (account(damaged_fields={"duration": 100}), "damaged_fields"),
    ],
)
def test_a_smaller_share_is_a_warning(made, code):
    doubts = find_doubts(made, EXPECTED)
    assert [doubt.code for doubt in doubts] == [code]
    assert not is_doubtful(doubts)
    assert format_doubts(doubts).startswith("warning: ")


def test_a_few_dropped_records_are_not_mentioned():
    few = rejected("time", 5, late=5, added=985, remote_by_protocol={"conn": 10}, damaged_files={"truncated file": 1})
    assert find_doubts(few, EXPECTED) == []


def test_the_share_that_is_stated_is_the_limit():
    at = round(1_000 * MAX_DROPPED_SHARE)
    assert not is_doubtful(find_doubts(account(added=1_000 - at, late=at), EXPECTED))
    assert is_doubtful(find_doubts(account(added=999 - at, late=at + 1), EXPECTED))


def test_the_cause_comes_last_and_warnings_before_severe_doubts():
    made = account(added=0, remote_by_protocol={"conn": 900, "dns": 100}, windows=0, damaged_fields={"duration": 100})
    doubts = find_doubts(made, EXPECTED)
    assert [doubt.code for doubt in doubts] == ["damaged_fields", "remote"]
    assert format_doubts(doubts).splitlines()[-1].startswith("doubtful: 100 % of the records have neither end")


def test_a_watch_that_just_began_waits_for_its_first_window_without_a_doubt():
    live = expect(is_live=True, window_rows=12, slide_seconds=60, window_seconds=600)
    assert find_doubts(account(windows=0, judged=0, oldest_ns=NOW - HOUR // 6), live) == []
    assert worst(account(windows=60, judged=0), live).code == "not_judged"


def test_lines_that_are_shown_are_cut_and_printable():
    doubt = worst(rejected("text", 900, "\x1b[2J" + "x" * 150))
    assert "\x1b" not in doubt.message
    assert "x" * 60 in doubt.message
    assert len(doubt.message) < 250


def test_records_of_which_all_are_remote_raise_one_doubt_also_if_some_protocol_has_few():
    by_protocol = {"conn": 900, "http": 90, "dns": 10}
    nothing = account(added=0, windows=0, records_by_protocol=by_protocol, remote_by_protocol=by_protocol)
    assert [doubt.code for doubt in find_doubts(nothing, expect(local_networks=("10.99.0.0/16",)))] == ["remote"]
