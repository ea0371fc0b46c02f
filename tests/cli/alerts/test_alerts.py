"""`mods-grpc alerts`: what it lists and shows, in what order, in 80 columns, and nothing that a terminal would obey."""

import gzip
import io
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from mods_grpc.cli.alerts.details import format_details
from mods_grpc.cli.alerts.history import Damage, StoredEpisode, order_by_rank, order_by_time, read_episodes
from mods_grpc.cli.alerts.listing import format_list
from mods_grpc.cli.alerts.summaries import summarize
from mods_grpc.cli.alerts.terminal_text import fit, fit_right, format_quantity, format_short, wrap
from mods_grpc.cli.main import main
from mods_grpc.exit_codes import EXIT_DOUBTFUL, EXIT_FAILED, EXIT_OK, EXIT_USAGE
from mods_grpc.features import GroupBy
from mods_grpc.ids import windows
from mods_grpc.ids.alerts.alert import AlertPhase, Member, Rank, Trigger
from mods_grpc.ids.alerts.feedback import read_feedback
from mods_grpc.ids.alerts.feedback_summary import AlertDays
from mods_grpc.ids.alerts.formats.registry import FORMATS
from mods_grpc.ids.alerts.stored_alerts import read_stored_alert
from mods_grpc.ids.evidence.evidence import Dimension, DimensionEvidence, Entity, Evidence, FeatureEvidence, Unit
from mods_grpc.ids.watch.checkpoint import CHECKPOINT_VERSION
from tests.support.alerts.sample_alerts import (
    ALERT,
    CLEARED,
    FEATURES,
    NOTICE,
    RULE,
    RULE_END,
    START,
    hostile_alerts,
    hostile_notices,
    hostile_rule_alerts,
    names,
)

PATHS = DimensionEvidence(
    dimension=Dimension.PATH, entities=(Entity(value="/wp-login.php", count=90, before=0, share=0.97),), distinct=2
)
SOURCES = DimensionEvidence(
    dimension=Dimension.SOURCE,
    entities=(
        Entity(value="203.0.113.7", count=61, before=0.2, share=0.48),
        Entity(value="203.0.113.9", count=20, before=0, share=0.2),
    ),
    distinct=12,
    covering=4,
    covered=96,
    max_error=3,
)
HTTP = FeatureEvidence(
    feature="http_in",
    protocol="http",
    column="in_count_uid",
    unit=Unit.RECORDS,
    is_fall=False,
    total=103,
    before=40.2,
    dimensions=(PATHS, SOURCES),
)
EVIDENCE = Evidence(features=(HTTP,), uids=("CBpnZL3085IfcJzSAe",), before_start=START - timedelta(hours=24), before_end=START)
SCAN = replace(
    ALERT,
    evidence=EVIDENCE,
    features=(replace(FEATURES[0], feature="http_in", observed=103.0, lower=31.0, upper=92.0, share=0.9), FEATURES[1]),
    reason="http_in 103 in 10:20-10:30 UTC, forecast 31-92; 4 sources account for 96: 203.0.113.7 (61); mostly /wp-login.php",
    rank=Rank(position=2, total=14),
    recent=(30.0, 35.0, 103.0),
)
FURTHER = replace(
    SCAN,
    number=1,
    trigger=Trigger.FEATURE,
    features=FEATURES,
    evidence=None,
    window_start=START + timedelta(hours=1),
    window_end=START + timedelta(hours=2),
)
OVER = replace(
    SCAN, phase=AlertPhase.END, number=2, window_start=START + timedelta(hours=5), window_end=START + timedelta(hours=6)
)
WEAK = replace(
    ALERT, series="10.1.2.9", peak_score=2.3, window_start=START + timedelta(days=3), window_end=START + timedelta(days=4)
)
TUNNEL = replace(
    ALERT,
    series="10.1.2.77",
    peak_score=9.0,
    evidence=replace(EVIDENCE, source_ip="10.1.2.77", features=()),
    members=(Member(series="2001:db8::9", p_value=1e-9, observed=4.0),),
    member_count=1,
)


@pytest.fixture(autouse=True)
def zone_of_berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def store(folder, *items, name="alerts.jsonl"):
    folder.mkdir(exist_ok=True)
    with (folder / name).open("a") as file:
        file.writelines(FORMATS["jsonl"].format(item) + "\n" for item in items)
    return folder


def say(folder, item, verdict, **more):
    said = {"time": "2019-05-04T00:00:00Z", "id": item.id, "verdict": verdict, **more}
    with (folder / "feedback.jsonl").open("a") as file:
        file.write(json.dumps(said) + "\n")


@pytest.fixture
def state(tmp_path):
    return store(tmp_path / "state", SCAN, FURTHER, WEAK, RULE, NOTICE, TUNNEL, OVER, RULE_END)


def list_ids(capsys, *words):
    """Return the ids of the episodes that the command lists as JSON."""
    assert main(["alerts", *map(str, words), "--json"]) == EXIT_OK
    return [episode["id"] for episode in json.loads(capsys.readouterr().out)]


def run(capsys, *words):
    status = main(["alerts", *map(str, words)])
    return status, capsys.readouterr()


def test_the_strongest_comes_first_and_further_alerts_stand_under_their_episode(state, capsys):
    _, printed = run(capsys, "--state", state)
    lines = printed.out.splitlines()
    assert [line.split()[-1] for line in lines[1:7]] == [each.id[:8] for each in (TUNNEL, SCAN, FURTHER, RULE, NOTICE, WEAK)]
    assert lines[0].split() == ["2019", "local", "sev", "series", "what", "who", "id"]
    assert lines[2].split() == ["05-03", "12:20", "crit", "site", "http_in", "103", "(31-92)", "4", "sources", SCAN.id[:8]]
    assert " + new feature ssh_in 19.7k (3.0k-5.9k)" in lines[3]
    assert "5 episodes, 3 open  (o open)" in lines
    assert lines[1].split()[3] == "o"  # the tunnel is open, the scan is over


def test_time_and_limit(state, capsys):
    assert list_ids(capsys, "--state", state, "--sort", "time", "--limit", 2)[:1] == [WEAK.id]
    _, printed = run(capsys, "--state", state, "--limit", 2)
    assert "\n2 of 5 episodes, 1 open" in printed.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--series", "10.1.2.0/24"], [TUNNEL, RULE, WEAK]),
        (["--series", "site"], [SCAN]),
        (["--kind", "rule,notice"], [RULE, NOTICE]),
        (["--severity", "high"], [TUNNEL, SCAN, RULE]),
        (["--feature", "http_in"], [SCAN]),
        (["--feature", "ssh_in"], [TUNNEL, SCAN, WEAK]),
        (["--feature", "conn_in"], [TUNNEL, SCAN, WEAK]),
        (["--feature", "dns"], []),
        (["--entity", "203.0.113.0/24"], [SCAN]),
        (["--entity", "/wp-login.php"], [SCAN]),
        (["--entity", "2001:db8::/32"], [TUNNEL]),
        (["--entity", "CIHAbb28smxUBNvwmd"], [RULE]),
        (["--open"], [TUNNEL, NOTICE, WEAK]),
        (["--since", "2019-05-05"], [WEAK]),
        (["--since", "2019-05-03T15:00"], [SCAN, NOTICE, WEAK]),
        (["--until", "2019-05-05"], [TUNNEL, SCAN, RULE, NOTICE]),
        (["--since", "1h"], []),
        (["--unreviewed"], [TUNNEL, SCAN, RULE, NOTICE, WEAK]),
        (["--entity", "203.0.113.7", "--kind", "rule"], []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value[0] if value else "", str) else "",
)
def test_filters(state, capsys, words, expected):
    assert list_ids(capsys, "--state", state, *words) == [each.id for each in expected]


def test_feedback_on_any_alert_of_an_episode_is_about_the_episode_and_can_be_withdrawn(state, capsys):
    say(state, FURTHER, "false_alarm", note="backup", user="ana")
    say(state, TUNNEL, "confirmed")
    say(state, RULE, "false_alarm")
    say(state, RULE, "withdrawn")
    with (state / "feedback.jsonl").open("a") as file:
        file.write('damaged\n{"id": 3}\n[]\n')
    assert list_ids(capsys, "--state", state, "--false-alarms") == [SCAN.id]
    assert list_ids(capsys, "--state", state, "--confirmed") == [TUNNEL.id]
    assert list_ids(capsys, "--state", state, "--unreviewed") == [RULE.id, NOTICE.id, WEAK.id]
    _, printed = run(capsys, "--state", state)
    assert "(o open, f false alarm, c confirmed)" in printed.out
    _, printed = run(capsys, "show", SCAN.id[:8], "--state", state)
    assert re.search(r"feedback +false alarm by ana at 2019-05-04 02:00: backup", printed.out)


def test_who_confirmed_one_alert_of_an_episode_outweighs_who_called_another_a_false_alarm(state, capsys):
    say(state, SCAN, "confirmed")
    say(state, FURTHER, "false_alarm", time="2019-05-05T00:00:00Z")
    assert list_ids(capsys, "--state", state, "--confirmed") == [SCAN.id]
    main(["alerts", "--state", str(state), "--json"])
    said = [episode["feedback"] for episode in json.loads(capsys.readouterr().out) if episode["feedback"]]
    assert [(each["id"], each["verdict"]) for each in said] == [(SCAN.id, "confirmed")]
    say(state, SCAN, "withdrawn")
    assert list_ids(capsys, "--state", state, "--false-alarms") == [SCAN.id]


def test_false_alarms_per_day_of_stored_alerts_stand_below_the_list(state, capsys):
    say(state, FURTHER, "false_alarm")
    _, printed = run(capsys, "--state", state, "--series", "nothing")
    wanted = "3 alerts in 3.96 days: 1 false alarms, 0 confirmed, 2 not marked; false alarms per day: 0.253 marked, at most 0.758"
    assert " ".join(printed.out.splitlines()[1:]) == wanted


def test_the_checkpoint_of_the_watch_says_since_when_it_watches_and_the_budget(state, capsys):
    days = AlertDays()
    days.advance(START - timedelta(days=10))
    days.count(START, 40)
    saved = {"version": CHECKPOINT_VERSION, "watch": {"feedback": {"alerts": days.state(), "budget": 2.5}}}
    (state / "checkpoint.json").write_text(json.dumps(saved))
    say(state, SCAN, "false_alarm", alert_time="2019-05-03T11:20:00Z")
    _, printed = run(capsys, "--state", state)
    line = " ".join(printed.out.splitlines()[-2:]).partition(")")[2].strip()
    assert line.startswith("40 alerts in 10 days: 1 false alarms, 0 confirmed, 39 not marked; false alarms per day: 0.1 marked")
    assert line.endswith("; budget 2.5")
    _, printed = run(capsys, state / "alerts.jsonl", "--state", state)
    assert "3 alerts in 3.96 days" in printed.out  # what files hold has no watch
    (state / "checkpoint.json").write_text("[")
    _, printed = run(capsys, "--state", state)
    assert "3 alerts in 3.96 days" in printed.out


def test_one_alert_is_shown_in_full(state, capsys):
    status, printed = run(capsys, "show", SCAN.id[:8].upper(), "--state", state)
    assert status == EXIT_OK
    for piece in (
        SCAN.id,
        "critical, over, sensor campus-tap",
        "2019-05-03 10:20:00 to 2019-05-03 11:20:00 UTC",
        "2019-05-03 12:20:00 to 2019-05-03 13:20:00 CEST",
        "p = 2.0e-06",
        "2 of 14 alerts",
        "http_in (in_count_uid of http): 103 records, before 40.2; who made it:",
        "12 sources, 4 have 96, counts up to 3 too low",
        "CBpnZL3085IfcJzSAe",
        f"mods-grpc feedback {SCAN.id[:8]} --state {state} --false-alarm",
    ):
        assert piece in printed.out
    assert re.search(r"http_in +103 +31 - 92 +90%\n", printed.out)
    assert re.search(r" +203\.0\.113\.7 +61 +0\.2 +48%\n", printed.out)
    assert re.search(rf"2019-05-03 18:20 crit end +{OVER.id[:8]}\n", printed.out)
    assert "ATT&CK" not in printed.out


def test_features_and_dimensions_without_entities_are_left_out(tmp_path, capsys):
    nothing = replace(HTTP, feature="ssl_in", protocol="ssl", total=0, before=0, dimensions=())
    unnamed = replace(HTTP, feature="ftp_in", total=3, before=1, dimensions=())
    empty = DimensionEvidence(dimension=Dimension.STATUS, entities=(), distinct=0)
    evidence = replace(EVIDENCE, features=(replace(HTTP, dimensions=(*HTTP.dimensions, empty)), nothing, unnamed))
    state = store(tmp_path / "state", replace(SCAN, evidence=evidence))
    _, printed = run(capsys, "show", SCAN.id, "--state", state)
    assert "http_in (in_count_uid of http): 103 records, before 40.2; who made it:\n" in printed.out
    assert "/wp-login.php" in printed.out
    assert "ftp_in (in_count_uid of http): 3 records, before 1\n" in printed.out
    assert "ssl_in" not in printed.out
    assert "status" not in printed.out


def test_filters_and_techniques_are_shown_if_a_line_has_them(tmp_path, capsys):
    saved = json.loads(FORMATS["jsonl"].format(SCAN))
    command = f"zeek-cut ts uri < http.log | grep {'203.0.113.7 ' * 20}"
    saved["evidence"]["filters"] = {"zeek": command}
    saved["techniques"] = [{"id": "T1110", "name": "Brute Force", "certainty": "possible"}]
    (tmp_path / "alerts.jsonl").write_text(json.dumps(saved) + "\n")
    _, printed = run(capsys, "show", SCAN.id, "--state", tmp_path)
    assert f"\n  zeek: {command.rstrip()}\n" in printed.out
    assert "possible: T1110 Brute Force\n" in printed.out


def test_an_alert_of_a_rule_and_a_notice_are_shown(tmp_path, capsys):
    state = store(tmp_path, RULE, RULE_END, NOTICE, CLEARED)
    _, printed = run(capsys, "show", RULE.id, "--state", state)
    for piece in (
        "high, over",
        "231 hosts that did not answer on port 445",
        "threshold 25",
        "10.1.9.1 10.1.9.2",
        RULE_END.id[:8],
    ):
        assert piece in printed.out
    _, printed = run(capsys, "show", NOTICE.id, "--state", state)
    assert "see whether http.log is still written" in printed.out
    assert "feedback" not in printed.out


def test_a_second_look_shows_exact_evidence_in_place_of_the_stored(state, tmp_path, capsys, monkeypatch):
    asked = []

    def look_again(alert, paths, local_networks, group_by):
        asked.append((alert, paths, local_networks, group_by))
        return replace(EVIDENCE, features=(replace(HTTP, total=104, dimensions=(replace(SOURCES, max_error=0),)),))

    module = ModuleType("mods_grpc.ids.windows.second_look")
    module.look_again = look_again
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(windows, "second_look", module, raising=False)
    flags = ["--logs", tmp_path, "--local", "10.0.0.0/8", "--group-by", "host"]
    _, printed = run(capsys, "show", SCAN.id, "--state", state, *flags)
    assert asked == [(SCAN, [tmp_path], ["10.0.0.0/8"], GroupBy.HOST)]
    assert "104 records" in printed.out
    assert "too low" not in printed.out
    _, printed = run(capsys, "show", SCAN.id, "--state", state, *flags, "--json")
    assert json.loads(printed.out)["evidence"]["features"][0]["total"] == 104
    assert run(capsys, "show", RULE.id, "--state", state, *flags)[0] == EXIT_FAILED
    assert run(capsys, "--state", state, *flags)[0] == EXIT_USAGE


def test_what_show_can_not_find(state, capsys):
    for words, status, message in (
        (["show"], EXIT_USAGE, "expected the id of an alert"),
        (["show", "abcdef0"], EXIT_USAGE, "at least 8, found 'abcdef0'"),
        (["show", "zzzzzzzz"], EXIT_USAGE, "expected the id of an alert"),
        (["show", "00000000"], EXIT_USAGE, "00000000: no such alert"),
    ):
        assert main(["alerts", *words, "--state", str(state)]) == status
        assert message in capsys.readouterr().err


def test_an_ambiguous_id_is_not_guessed(tmp_path, capsys):
    lines = [json.loads(FORMATS["jsonl"].format(SCAN)) | {"id": f"abcdef01-{number}"} for number in range(2)]
    (tmp_path / "alerts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["alerts", "show", "ABCDEF01", "--state", str(tmp_path)]) == EXIT_USAGE
    assert "abcdef01: 2 alerts begin so: abcdef01-0, abcdef01-1; give more" in capsys.readouterr().err


def test_damaged_lines_are_counted_aloud(state, capsys):
    with (state / "alerts.jsonl").open("ab") as file:
        file.write(b'{"id": "torn\n\n\xff\xfe\n' + b"[" * (5 << 20) + b"\n")
    status, printed = run(capsys, "--state", state)
    assert status == EXIT_DOUBTFUL
    assert "5 episodes" in printed.out
    assert f"error: {state / 'alerts.jsonl'}: 3 lines left out: damaged" in printed.err


def test_compressed_rotated_and_repeated_files(state, tmp_path, capsys):
    packed = tmp_path / "old.jsonl.gz"
    packed.write_bytes(gzip.compress((state / "alerts.jsonl").read_bytes()))
    assert len(list_ids(capsys, packed, state / "alerts.jsonl")) == 5
    (state / "alerts.jsonl").rename(state / "alerts.1.jsonl")
    store(state, replace(TUNNEL, phase=AlertPhase.END))
    assert list_ids(capsys, "--state", state, "--open") == [NOTICE.id, WEAK.id]
    packed.write_bytes(packed.read_bytes()[:-30])
    status, printed = run(capsys, packed)
    assert status == EXIT_DOUBTFUL
    assert f"{packed}: is damaged, and was read up to there" in printed.err


def test_states_without_alerts(tmp_path, capsys):
    status, printed = run(capsys, "--state", tmp_path / "nowhere")
    assert (status, "no such folder" in printed.err) == (EXIT_FAILED, True)
    status, printed = run(capsys, "--state", tmp_path)
    assert (status, "a watch with this --state writes it" in printed.err) == (EXIT_FAILED, True)
    (tmp_path / "checkpoint.json").write_text("{}")
    status, printed = run(capsys, "--state", tmp_path)
    assert (status, printed.out) == (EXIT_OK, "no alerts\n")
    status, printed = run(capsys, tmp_path / "none.jsonl")
    assert (status, "No such file" in printed.err) == (EXIT_FAILED, True)
    assert list_ids(capsys, "--state", store(tmp_path, WEAK), "--severity", "critical") == []
    _, printed = run(capsys, "--state", tmp_path, "--severity", "critical")
    assert printed.out.startswith("no alerts of 1 are such\n1 alerts in 1 days: 0 false alarms")


def test_an_episode_whose_first_alert_was_rotated_away_is_listed(tmp_path, capsys):
    state = store(tmp_path, FURTHER, OVER)
    assert list_ids(capsys, "--state", state) == [FURTHER.id]
    _, printed = run(capsys, "show", FURTHER.id, "--state", state)
    assert "its first alert is no longer stored" in printed.out


def test_pipes_in_and_out(state, tmp_path):
    command = [sys.executable, "-m", "mods_grpc", "alerts", "-"]
    lines = (state / "alerts.jsonl").read_bytes()
    done = subprocess.run(command, input=lines, capture_output=True, cwd=tmp_path, env=os.environ, check=True, timeout=60)
    assert b"\n5 episodes" in done.stdout
    many = [FORMATS["jsonl"].format(replace(WEAK, series=f"10.0.{n // 250}.{n % 250}")) + "\n" for n in range(3_000)]
    process = subprocess.Popen(
        [*command, "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=os.environ
    )
    process.stdin.write("".join(many).encode())
    process.stdin.close()
    assert process.stdout.readline() == b"[\n"
    process.stdout.close()
    assert process.wait(timeout=60) in {EXIT_OK, EXIT_FAILED}
    assert process.stderr.read() == b""
    process.stderr.close()


def make_episode(*items):
    return StoredEpisode(alerts=[summarize(read_stored_alert(FORMATS["jsonl"].format(item))) for item in items])


@given(
    items=st.lists(hostile_alerts | hostile_rule_alerts | hostile_notices, min_size=1, max_size=5),
    years=st.lists(st.integers(0, 9_999), min_size=5, max_size=5),
    width=st.integers(60, 250),
)
def test_no_line_is_wider_than_the_terminal_or_holds_what_a_terminal_obeys(items, years, width):
    moved = [
        item if hasattr(item, "since") else replace(item, window_start=item.window_start + timedelta(days=days))
        for item, days in zip(items, years, strict=False)
    ]
    lines = format_list([make_episode(item, item) for item in moved], width, datetime.now(UTC))
    for line in lines:
        assert cell_len(line) <= width
        assert line.isprintable()


@given(item=hostile_alerts | hostile_rule_alerts | hostile_notices, value=names | st.text("日本語 a\u0301", min_size=30))
def test_an_alert_in_full_fits_80_columns(item, value):
    if isinstance(item, type(ALERT)):
        entity = Entity(value=value, count=1e14, before=1e-9, share=1.0)
        dimension = replace(SOURCES, dimension=Dimension.USER_AGENT, entities=(entity,) * 5, distinct=10**9)
        feature = replace(HTTP, feature=value, dimensions=(dimension,))
        members = tuple(Member(series=value, p_value=0.0, observed=None) for _ in range(30))
        evidence = replace(EVIDENCE, features=(feature,), uids=(value,) * 10)
        item = replace(item, evidence=evidence, members=members, member_count=10**6, rank=Rank(position=10**6, total=10**9))
    stored = read_stored_alert(FORMATS["jsonl"].format(item))
    for line in format_details(stored, make_episode(item), None, 80):
        is_filter = line.startswith(("  zeek: ", "  jq: ", "  kql: ", "  eve: "))  # to copy whole
        assert is_filter or cell_len(line) <= 80
        assert line.isprintable()


@given(text=names | st.text("日本語 abc"), width=st.integers(2, 40))
def test_text_is_cut_and_wrapped_by_cells(text, width):
    assert cell_len(fit(text, width)) == cell_len(fit_right(text, width)) == width
    lines = wrap(text, width)
    assert all(cell_len(line) <= width for line in lines)
    if text.isprintable():
        assert "".join(lines).replace(" ", "") == "".join(text.split())


@pytest.mark.parametrize(
    ("value", "quantity", "short"),
    [
        (0.0, "0", "0"),
        (0.25, "0.25", "0.25"),
        (999.6, "1,000", "1,000"),
        (1_000.0, "1,000", "1.00k"),
        (19_686.0, "19,686", "19.7k"),
        (999_999.0, "999,999", "1.00M"),
        (2.5e9, "2,500,000,000", "2.50G"),
        (None, "missing", "missing"),
        (float("nan"), "?", "?"),
    ],
)
def test_amounts(value, quantity, short):
    assert format_quantity(value) == quantity
    assert format_short(value) == short


def test_orders_do_not_depend_on_the_order_of_lines(tmp_path):
    items = [SCAN, FURTHER, WEAK, RULE, NOTICE, TUNNEL, OVER]
    there, back = store(tmp_path / "a", *items), store(tmp_path / "b", *items[::-1])
    for order in (order_by_rank, order_by_time):
        first, second = (
            order(read_episodes([folder / "alerts.jsonl"], read_feedback(folder).current.values(), lambda _: True, Damage()))
            for folder in (there, back)
        )
        assert first == second


def test_standard_output_that_can_not_show_a_character_is_no_reason_to_fail(state, capsys, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["alerts", "--state", str(state)]) == EXIT_OK
    stream.flush()
    assert b"5 episodes" in stream.buffer.getvalue()
