"""`mods-grpc feedback`: an alert is marked, and a rule for those like it goes to the file of suppression."""

import gzip
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mods_grpc.cli.main import main
from mods_grpc.errors import DataError
from mods_grpc.exit_codes import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from mods_grpc.ids.alerts.alert import Alert, Member, alert_to_json
from mods_grpc.ids.alerts.feedback import FEEDBACK_FILE, FeedbackVerdict, read_feedback
from mods_grpc.ids.alerts.formats.jsonl import format_jsonl, format_jsonl_rule_alert
from mods_grpc.ids.alerts.mutes.mute_writer import append_mute, make_mute
from mods_grpc.ids.alerts.mutes.suppression_file import parse_suppression, read_suppression
from mods_grpc.ids.evidence.evidence import Dimension, DimensionEvidence, Entity, Evidence, FeatureEvidence, Unit
from tests.support.alerts.hostile_names import HOSTILE
from tests.support.alerts.sample_alerts import ALERT, RULE, UPDATE

Run = Callable[..., tuple[int, str, str]]

HOSTILE_PATH = '/*?[x]"\\\u2028☃\x1b\n]]'


def with_evidence(**values: str | None) -> Alert:
    """Return an alert with the dominant value of some dimensions, None for those that are spread."""
    dimensions = tuple(
        DimensionEvidence(
            dimension=Dimension(name),
            entities=(Entity(value=value or "x", count=9.0, before=0.0, share=0.4 if value is None else 0.9),),
            distinct=9,
        )
        for name, value in values.items()
    )
    feature = FeatureEvidence(
        feature="http_in",
        protocol="http",
        column="in_count_uid",
        unit=Unit.RECORDS,
        is_fall=False,
        total=10.0,
        before=1.0,
        dimensions=dimensions,
    )
    return replace(ALERT, evidence=Evidence(features=(feature,)))


SCAN = with_evidence(method="GET", source="203.0.113.7", port="80/tcp", path=None)


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "state").mkdir()
    lines = [format_jsonl(SCAN), '{"id": "' + SCAN.id + '", "series', format_jsonl(UPDATE), format_jsonl_rule_alert(RULE)]
    (tmp_path / "state" / "alerts.jsonl").write_text("\n".join(lines) + "\n")

    def command(*words: str) -> tuple[int, str, str]:
        try:
            code = main(["feedback", *words, "--state", "state"])
        except SystemExit as error:
            code = int(error.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def verdicts() -> dict[str, FeedbackVerdict]:
    return {identifier: entry.verdict for identifier, entry in read_feedback(Path("state")).current.items()}


def test_an_alert_is_marked_by_the_beginning_of_its_id(run: Run) -> None:
    code, printed, complaint = run(SCAN.id[:8].upper(), "--false-alarm", "--note", "our own scanner")
    assert (code, printed) == (EXIT_OK, f"{SCAN.id} of site: false alarm\n")
    assert complaint == "state/alerts.jsonl: 1 line left out: damaged, or not of the format jsonl\n"
    (entry,) = read_feedback(Path("state")).entries
    assert (entry.note, entry.series, entry.alert_time, entry.first_id) == ("our own scanner", "site", SCAN.window_end, SCAN.id)
    assert entry.user
    assert run(UPDATE.id, "--confirmed")[0] == EXIT_OK
    assert verdicts() == {SCAN.id: "false_alarm", UPDATE.id: "confirmed"}
    assert run(SCAN.id, "--withdraw")[0] == EXIT_OK
    assert verdicts() == {UPDATE.id: "confirmed"}


def test_json_is_what_was_recorded(run: Run) -> None:
    code, printed, _ = run(RULE.id, "--confirmed", "--json")
    assert code == EXIT_OK
    recorded = json.loads((Path("state") / FEEDBACK_FILE).read_text())
    assert json.loads(printed) == recorded | {"mute": None}
    assert (recorded["rule"], recorded["series"]) == ("host-scan", "10.1.2.3")


def test_an_alert_is_looked_up_in_other_files_too(run: Run, tmp_path: Path) -> None:
    other = replace(ALERT, series="lab")
    with gzip.open("more.jsonl.gz", "wt") as file:
        file.write(format_jsonl(other) + "\n")
    assert run(other.id, "--confirmed")[0] == EXIT_USAGE
    assert run(other.id, "--confirmed", "--alerts", "more.jsonl.gz")[:2] == (EXIT_OK, f"{other.id} of lab: confirmed\n")
    whole = Path("more.jsonl.gz").read_bytes()
    Path("cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    code, _, complaint = run(other.id, "--confirmed", "--alerts", "cut.jsonl.gz")
    assert (code, "cut.jsonl.gz: is damaged, and was read up to there" in complaint) == (EXIT_USAGE, True)
    assert "no.jsonl: No such file" in run(other.id, "--confirmed", "--alerts", "no.jsonl")[2]


def test_an_alert_that_is_nowhere_is_refused_unless_forced(run: Run) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    code, _, complaint = run(unknown, "--confirmed")
    assert code == EXIT_USAGE
    assert f"error: {unknown}: no such alert in state/alerts.jsonl\nhint: --state is the folder of the watch" in complaint
    assert not (Path("state") / FEEDBACK_FILE).exists()
    assert "hint: --force takes whole ids only" in run(unknown[:8], "--confirmed", "--force")[2]
    assert run(unknown, "--confirmed", "--force")[:2] == (EXIT_OK, f"{unknown}: confirmed\n")
    code, _, complaint = run(unknown, "--false-alarm", "--force", "--mute", "series", "--suppress", "rules.toml")
    assert (code, "a rule is made of the alert" in complaint, Path("rules.toml").exists()) == (EXIT_USAGE, True, False)


def test_a_beginning_of_several_ids_is_refused(run: Run) -> None:
    twin = json.loads(format_jsonl(ALERT)) | {"id": f"{SCAN.id[:-1]}{'0' if SCAN.id[-1] != '0' else '1'}"}
    Path("twin.jsonl").write_text(json.dumps(twin) + "\n")
    code, _, complaint = run(SCAN.id[:9], "--confirmed", "--alerts", "twin.jsonl")
    assert code == EXIT_USAGE
    assert f"{SCAN.id[:9]}: 2 alerts begin so: {SCAN.id}, {twin['id']}; give more of the id" in complaint


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["1234567", "--confirmed"], "expected the id of an alert, or its first characters, at least 8"),
        (["../../etc/passwd", "--confirmed"], "expected the id of an alert"),
        ([SCAN.id], "one of the arguments --false-alarm --confirmed --withdraw is required"),
        ([SCAN.id, "--confirmed", "--false-alarm"], "not allowed with argument"),
        ([SCAN.id, "--confirmed", "--note", "a\nb"], "--note: expected text without control characters"),
        ([SCAN.id, "--confirmed", "--note", "x" * 2_001], "--note: expected up to 2,000 characters, found 2,001"),
        ([SCAN.id, "--confirmed", "--mute", "series", "--suppress", "x"], "--mute: expected --false-alarm with it"),
        ([SCAN.id, "--false-alarm", "--mute", "series"], "--mute: expected --suppress FILE"),
        ([SCAN.id, "--false-alarm", "--mute", "colour", "--suppress", "x"], "--mute: expected parts of an alert"),
        ([SCAN.id, "--false-alarm", "--expires", "30d"], "--expires: expected --mute"),
        ([SCAN.id, "--false-alarm", "--suppress", "x"], "--suppress: expected --mute"),
        ([SCAN.id, "--false-alarm", "--until", "2026-06-01"], "--until: expected a time with its zone"),
    ],
)
def test_wrong_flags_are_refused(run: Run, words: list[str], complaint: str) -> None:
    code, _, printed = run(*words)
    assert (code, complaint in printed) == (EXIT_USAGE, True), printed
    assert not (Path("state") / FEEDBACK_FILE).exists()


def test_a_false_alarm_becomes_a_rule_that_mutes_it(run: Run) -> None:
    before = '# our rules\nallow = ["lab-*"]  # quiet\n'
    Path("rules.toml").write_text(before)
    Path("rules.toml").chmod(0o640)
    words = [
        "--false-alarm",
        "--note",
        'the "weekly" scan',
        "--mute",
        "entity,feature",
        "--expires",
        "30d",
        "--suppress",
        "rules.toml",
    ]
    code, printed, _ = run(SCAN.id, *words)
    assert code == EXIT_OK
    text = Path("rules.toml").read_text()
    assert text.startswith(before)
    assert printed.endswith(f"added to rules.toml:\n{text[len(before) + 1 :]}")
    assert Path("rules.toml").stat().st_mode & 0o777 == 0o640
    rules = read_suppression(Path("rules.toml"))
    (mute,) = rules.mutes
    assert (mute.id, mute.reason, mute.features) == (SCAN.id[:8], 'the "weekly" scan', ("http_in",))
    assert timedelta(days=29, hours=23) < (mute.until or SCAN.window_end) - datetime.now(UTC) <= timedelta(days=30)
    assert rules.find_mute(SCAN) == f"mute {SCAN.id[:8]}"
    assert rules.find_mute(with_evidence(source="203.0.113.8", method="GET")) is None
    assert run(SCAN.id, *words)[0] == EXIT_OK
    assert [each.id for each in read_suppression(Path("rules.toml")).mutes] == [SCAN.id[:8], f"{SCAN.id[:8]}-2"]


def test_a_rule_that_cannot_be_written_is_not_half_recorded(run: Run) -> None:
    Path("rules.toml").write_text("[[mute]\n")
    words = ["--false-alarm", "--mute", "series", "--suppress", "rules.toml"]
    assert run(SCAN.id, *words)[0] == EXIT_FAILED
    assert Path("rules.toml").read_text() == "[[mute]\n"
    code, _, complaint = run(SCAN.id, "--false-alarm", "--mute", "path", "--suppress", "new.toml")
    assert (code, "--mute path: no one value of it stands for the alert" in complaint) == (EXIT_FAILED, True)
    assert not Path("new.toml").exists()
    assert not (Path("state") / FEEDBACK_FILE).exists()


@pytest.mark.parametrize(
    ("alert", "parts", "complaint"),
    [
        (with_evidence(source=None, method="GET"), ["entity"], "--mute entity: no one host, name, path or port stands"),
        (ALERT, ["entity"], "--mute entity: .* choose series or feature"),
        (replace(ALERT, features=()), ["feature"], "--mute feature: the alert has no features"),
        (RULE, ["feature"], "--mute feature: an alert of a fixed rule has no feature"),
        (RULE, ["destination"], "--mute destination: the alert of a fixed rule has none"),
        (RULE, ["path"], "--mute path: the alert of a fixed rule has none"),
    ],
)
def test_what_an_alert_does_not_have_cannot_be_muted(alert: Any, parts: list[str], complaint: str) -> None:
    saved = json.loads(format_jsonl(alert) if isinstance(alert, Alert) else format_jsonl_rule_alert(alert))
    with pytest.raises(DataError, match=complaint):
        make_mute(saved, parts, reason="", until=None)


@pytest.mark.parametrize(
    "damage", [{"evidence": 3}, {"evidence": {"features": 3}}, {"members": 3}, {"features": [3], "evidence": None}]
)
def test_a_damaged_alert_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        make_mute(alert_to_json(SCAN) | damage, ["series", "feature", "entity"], reason="", until=None)


def test_values_that_an_attacker_chose_mean_themselves_alone(tmp_path: Path) -> None:
    alert = replace(with_evidence(path=HOSTILE_PATH), series="[a-z]*")
    fields = make_mute(alert_to_json(alert), ["series", "entity"], reason=HOSTILE.replace("\ud800", ""), until=None)
    append_mute(tmp_path / "rules.toml", fields)
    rules = read_suppression(tmp_path / "rules.toml")
    assert rules.mutes[0].reason == HOSTILE.replace("\ud800", "")
    assert rules.find_mute(alert) is not None
    assert rules.find_mute(replace(alert, series="abc")) is None
    assert rules.find_mute(replace(with_evidence(path="/anything?x"), series="[a-z]*")) is None
    with pytest.raises(DataError, match="can't be written to a TOML file"):
        append_mute(tmp_path / "rules.toml", fields | {"reason": "\ud800"})
    assert len(read_suppression(tmp_path / "rules.toml").mutes) == 1


def test_a_rule_of_a_rolled_up_alert_means_all_its_series() -> None:
    members = tuple(Member(series=f"10.0.0.{number}", p_value=1e-6, observed=None) for number in (1, 2))
    fields = make_mute(alert_to_json(replace(SCAN, members=members)), ["series"], reason="", until=None)
    assert fields["series"] == ["10.0.0.1", "10.0.0.2"]


def test_an_alert_of_a_fixed_rule_is_muted_by_its_rule_and_other_end(run: Run) -> None:
    words = ["--false-alarm", "--mute", "series,entity", "--until", "2019-06-01T00:00:00+02:00", "--suppress", "rules.toml"]
    assert run(RULE.id, *words)[0] == EXIT_OK
    (mute,) = read_suppression(Path("rules.toml")).mutes
    assert (mute.rules, mute.series, mute.until) == (("host-scan",), ("10.1.2.3",), datetime(2019, 5, 31, 22, tzinfo=UTC))
    assert mute.covers_rule_alert(RULE, [["10.1.2.3"]])
    assert not mute.covers_rule_alert(replace(RULE, destination_port=22), [["10.1.2.3"]])


def test_rules_of_writers_at_the_same_time_are_all_there_and_windows_line_ends_stay(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_bytes(b'allow = ["a"]\r\n# end')
    threads = [threading.Thread(target=append_mute, args=(path, {"id": "x", "series": [f"s{n}"]})) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = path.read_bytes()
    assert data.startswith(b'allow = ["a"]\r\n# end\r\n\r\n[[mute]]\r\n')
    assert data.count(b"\n") == data.count(b"\r\n")
    mutes = parse_suppression(data, path).mutes
    assert {mute.series for mute in mutes} == {(f"s{number}",) for number in range(12)}
    assert len({mute.id for mute in mutes}) == 12


def test_a_file_that_is_a_link_stays_one_and_an_inline_table_is_not_extended(tmp_path: Path) -> None:
    (tmp_path / "real.toml").write_text('allow = ["a"]\n')
    (tmp_path / "rules.toml").symlink_to("real.toml")
    append_mute(tmp_path / "rules.toml", {"id": "x", "series": ["s"]})
    assert (tmp_path / "rules.toml").is_symlink()
    assert len(read_suppression(tmp_path / "real.toml").mutes) == 1
    inline = 'mute = [{ series = ["a"] }]\n'
    (tmp_path / "inline.toml").write_text(inline)
    with pytest.raises(DataError, match=r"inline.toml: expected TOML"):
        append_mute(tmp_path / "inline.toml", {"id": "x", "series": ["s"]})
    assert (tmp_path / "inline.toml").read_text() == inline
