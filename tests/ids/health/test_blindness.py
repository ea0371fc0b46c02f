"""Blindness: each impairment is raised once, does not flap, clears by itself, and survives restarts."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from mods_grpc.client import Verdict, VerdictStatus
from mods_grpc.errors import InvalidInputError, Reason
from mods_grpc.ids.health.blindness import Blindness
from mods_grpc.ids.health.facts import ReadFacts, WatchedFeature
from mods_grpc.ids.windows.unset_fields import UnsetField
from mods_grpc.ids.windows.window import WindowBatch

SECOND = 10**9
START = 1_772_409_600 * SECOND
MINUTE, HOUR, DAY = 60, 3_600, 86_400


def feature(protocol, minimum=0.0, maximum=90.0):
    return WatchedFeature(name=f"{protocol}_in", protocol=protocol, training_minimum=minimum, training_maximum=maximum)


CONN, HTTP = feature("conn", minimum=5.0), feature("http")


class Scene:
    """A watch whose clock, records and verdicts the test moves; it is restarted after every seventh update."""

    def __init__(self, *features, **options):
        self.now = 0
        self._features = features
        self._make = lambda: Blindness("tap", features, window_seconds=HOUR, **options)
        self.blindness = self._make()
        self.facts = {"records_by_protocol": {}, "malformed": 0, "late": 0, "remote": 0}
        self.said = []
        self.ticks = 0

    def judge(self, values=None, status=VerdictStatus.SCORED, *, seconds=None, **fields):
        at = START + (self.now if seconds is None else seconds) * SECOND
        values = [float(self.now % 90)] * len(self._features) if values is None else values
        windows = WindowBatch(start_ns=at, series=("site",), values=np.array([values]))
        fields = {"p_value": 0.5 if status is VerdictStatus.SCORED else None} | fields
        verdict = Verdict(series="site", observe_time=datetime.fromtimestamp(at / SECOND, UTC), status=status, **fields)
        self.blindness.observe(windows, [verdict])

    def tick(self, seconds=MINUTE, *, judged=True, ahead=0, **read):
        self.now += seconds
        self.facts["reached_ns"] = START + (self.now + ahead) * SECOND
        counts = self.facts["records_by_protocol"]
        for key, number in read.items():
            if key in self.facts and isinstance(number, int):
                self.facts[key] += number
            elif isinstance(number, int):
                counts[key] = counts.get(key, 0) + number
            else:
                self.facts[key] = number
        if judged:
            self.judge(seconds=0)
        notices = self.blindness.update(START + self.now * SECOND, ReadFacts(**self.facts))
        self.said += [(str(notice.code), notice.subject, str(notice.state)) for notice in notices]
        self.ticks += 1
        if self.ticks % 7 == 0:
            self.restart()
        return notices

    def pass_time(self, seconds, step=MINUTE, **read):
        for _ in range(seconds // step):
            self.tick(step, **read)

    def restart(self):
        state = json.loads(json.dumps(self.blindness.state(), allow_nan=False))
        self.blindness = self._make()
        self.blindness.restore(state)
        self.facts |= {"records_by_protocol": {}, "malformed": 0, "late": 0, "remote": 0, "lost": {}}


def test_logs_that_are_read_and_judged_raise_nothing():
    scene = Scene(CONN, HTTP)
    scene.pass_time(2 * DAY, step=5 * MINUTE, conn=100, http=3)
    assert scene.said == []


def test_a_log_that_never_came_is_reported_after_an_hour_and_cleared_when_it_comes():
    scene = Scene(CONN, HTTP)
    scene.pass_time(59 * MINUTE, conn=10)
    assert scene.said == []
    assert scene.blindness.open_notices == []
    scene.pass_time(5 * MINUTE, conn=10)
    assert scene.said == [("log_missing", "http", "raised")]
    (notice,) = scene.blindness.open_notices
    assert "no http record ever came; http_in is missing" in notice.message
    scene.pass_time(9 * MINUTE, conn=10, http=1)
    assert len(scene.said) == 1
    scene.pass_time(5 * MINUTE, conn=10, http=1)
    assert scene.said[1:] == [("log_missing", "http", "cleared")]


def test_a_protocol_without_a_record_in_a_shared_log_is_reported_as_counted_as_0():
    scene = Scene(CONN, HTTP)
    scene.pass_time(2 * HOUR, conn=10, zero_logs=frozenset({"http"}))
    assert scene.said == [("log_missing", "http", "raised")]
    (notice,) = scene.blindness.open_notices
    assert "no http record ever came; http_in counts as 0" in notice.message


def test_several_features_of_a_log_are_missing_or_count_as_0_together():
    pair = (CONN, replace(HTTP, name="http_in"), replace(HTTP, name="http_out"))
    for options, outcome in (({}, "are missing, so no series can be judged"), ({"zero_logs": frozenset({"http"})}, "count as 0")):
        scene = Scene(*pair)
        scene.pass_time(2 * HOUR, conn=10, **options)
        (notice,) = scene.blindness.open_notices
        assert notice.message == f"no http record ever came; http_in, http_out {outcome}"
    scene = Scene(*pair)
    scene.tick(http=1)
    scene.pass_time(DAY, step=5 * MINUTE, conn=10)
    (notice,) = scene.blindness.open_notices
    assert notice.message.endswith("; http_in, http_out count as 0")


def test_an_empty_log_that_is_there_is_not_missing():
    scene = Scene(CONN, HTTP)
    scene.pass_time(3 * HOUR, conn=10, logs=frozenset({"http"}))
    assert scene.said == []


def test_a_log_that_had_records_in_every_window_of_training_may_be_silent_for_two_windows():
    scene = Scene(CONN)
    scene.pass_time(HOUR, conn=10)
    scene.pass_time(2 * HOUR - MINUTE)
    assert scene.said == []
    (notice,) = scene.tick()
    assert (notice.code, notice.since) == ("log_silent", datetime.fromtimestamp(START / SECOND + HOUR, UTC))


def test_a_quiet_log_may_be_silent_for_a_day():
    scene = Scene(CONN, HTTP)
    scene.tick(http=1)
    scene.pass_time(DAY - 5 * MINUTE, step=5 * MINUTE, conn=10)
    assert scene.said == []
    scene.pass_time(10 * MINUTE, step=5 * MINUTE, conn=10)
    assert scene.said == [("log_silent", "http", "raised")]
    scene.pass_time(15 * MINUTE, conn=10, http=1)
    assert scene.said[1:] == [("log_silent", "http", "cleared")]


def test_a_log_that_was_never_silent_for_long_in_a_week_is_reported_earlier():
    scene = Scene(CONN, HTTP)
    for _ in range(8 * 24):  # hours
        scene.tick(HOUR // 12, conn=10, http=1)
        scene.pass_time(HOUR * 11 // 12, step=HOUR // 12, conn=10)
    assert scene.said == []
    scene.pass_time(HOUR // 2, step=HOUR // 12, conn=10)
    assert scene.said == []
    scene.pass_time(HOUR, step=HOUR // 12, conn=10)
    assert scene.said == [("log_silent", "http", "raised")]


def test_the_time_in_which_no_watch_ran_is_no_silence():
    scene = Scene(CONN, HTTP)
    scene.pass_time(HOUR, conn=10, http=1)
    scene.tick(7 * DAY)
    scene.pass_time(HOUR)
    assert scene.said == []


def test_in_a_recording_every_hour_counts():
    scene = Scene(CONN, max_step_seconds=None)
    scene.tick(conn=10)
    scene.tick(3 * HOUR)
    assert scene.said == [("log_silent", "conn", "raised")]


def test_an_unreadable_file_is_reported_at_once_and_in_place_of_its_missing_features():
    scene = Scene(CONN, HTTP)
    denied = {"unreadable": {"/logs/http.log": "Permission denied"}, "unreadable_protocols": frozenset({"http"})}
    (notice,) = scene.tick(conn=10, **denied)
    assert notice.message == "/logs/http.log can't be read: Permission denied"
    scene.pass_time(2 * DAY, step=5 * MINUTE, conn=10)
    assert scene.said == [("log_unreadable", "/logs/http.log", "raised")]
    scene.pass_time(20 * MINUTE, conn=10, http=3, unreadable={}, unreadable_protocols=frozenset())
    assert scene.said[1:] == [("log_unreadable", "/logs/http.log", "cleared")]


def test_lost_records_are_reported_once_until_none_was_lost_for_an_hour():
    scene = Scene(CONN)
    scene.tick(conn=10, lost={"conn": 1})
    scene.pass_time(50 * MINUTE, conn=10)
    scene.tick(conn=10, lost={"conn": 1})
    scene.pass_time(HOUR, conn=10)
    assert scene.said == [("records_lost", "conn", "raised")]
    scene.pass_time(HOUR, conn=10)
    assert scene.said[1:] == [("records_lost", "conn", "cleared")]


def test_records_ahead_of_the_clock_are_reported_at_once():
    scene = Scene(CONN)
    scene.pass_time(HOUR, conn=10, ahead=HOUR)
    assert scene.said == []
    (notice,) = scene.tick(conn=10, ahead=2 * HOUR)
    assert (notice.code, notice.subject) == ("records_ahead", "")
    assert notice.message == "the records are 2 h ahead of this machine's clock"
    scene.pass_time(15 * MINUTE, conn=10)
    assert scene.said[1:] == [("records_ahead", "", "cleared")]


@pytest.mark.parametrize(
    ("kind", "number", "code"),
    [("malformed", 10, "records_malformed"), ("late", 10, "records_late"), ("remote", 60, "records_remote")],
)
def test_a_share_of_dropped_records_is_reported_and_cleared_only_below_half_of_its_limit(kind, number, code):
    scene = Scene(CONN)
    scene.tick(conn=99, **{kind: 50})
    assert scene.said == ([(code, "", "raised")] if kind == "malformed" else [])
    scene = Scene(CONN)
    scene.pass_time(HOUR, conn=100, **{kind: number})
    assert scene.said == [(code, "", "raised")]
    scene.pass_time(2 * HOUR, conn=100, **{kind: number // 2})
    assert len(scene.said) == 1
    scene.pass_time(2 * HOUR, conn=100, **{kind: number // 10})
    assert scene.said[1:] == [(code, "", "cleared")]


def test_few_records_say_nothing_about_a_share():
    scene = Scene(CONN)
    scene.pass_time(HOUR - MINUTE, conn=1, malformed=0, late=1, remote=1)
    assert scene.said == []


def test_few_records_do_not_clear_a_share_that_was_reported_unless_they_are_well():
    scene = Scene(feature("conn"))
    scene.pass_time(HOUR, conn=100, remote=90)
    scene.pass_time(2 * HOUR, conn=1, remote=1)
    scene.pass_time(2 * HOUR)
    assert scene.said == [("records_remote", "", "raised")]
    scene.pass_time(2 * HOUR, conn=1)
    assert scene.said[1:] == [("records_remote", "", "cleared")]


def test_more_late_records_than_were_read_in_the_hour_are_all_of_them():
    scene = Scene(CONN)
    (notice,) = scene.tick(conn=200, late=300)
    assert notice.message == "100 % of the records of the last hour came after their windows were complete (300 of 300)"


def test_a_share_below_the_whole_is_not_called_100_percent():
    scene = Scene(CONN)
    (notice,) = scene.tick(conn=10_000, remote=9_990)
    assert notice.message.startswith("99.9 % of the records of the last hour have neither end in the local networks")


def test_records_of_unknown_locality_are_not_reported_as_remote_too():
    scene = Scene(CONN, HTTP)
    public = frozenset({"203.0.113.7"})
    scene.tick(conn=100, http=300, remote=300, public_local=public, unflagged_remote={"http": 300})
    scene.restart()
    assert scene.said == [("locality_unknown", "http", "raised")]


def test_what_a_checkpoint_counted_is_no_share_of_the_last_hour():
    scene = Scene(CONN)
    scene.blindness.begin(ReadFacts(late=5_000, remote=50_000, unflagged_remote={"conn": 50_000}))
    scene.facts |= {"late": 5_000, "remote": 50_000}
    for _ in range(6):
        scene.tick(conn=100, unflagged_remote={"conn": 50_000}, public_local=frozenset({"203.0.113.7"}))
    assert scene.said == []


def test_unknown_locality_names_the_networks_to_give():
    scene = Scene(CONN, HTTP)
    public = frozenset({"203.0.113.7", "203.0.113.9", "2001:db8::7"})
    scene.pass_time(10 * MINUTE, conn=100, http=50, public_local=public, unflagged_remote={"http": 0})
    assert scene.said == []
    (notice,) = scene.tick(conn=100, http=50, public_local=public, unflagged_remote={"http": 300})
    assert (notice.code, notice.subject) == ("locality_unknown", "http")
    assert notice.hint.startswith("name your own networks, for example --local 10.0.0.0/8 ")
    assert notice.hint.endswith(" 203.0.113.0/24 2001:db8::/64")


def test_a_feature_that_is_constant_for_a_day_is_reported_if_it_varied_in_training():
    flat = WatchedFeature(name="flat", protocol="conn", training_minimum=1.0, training_maximum=1.0)
    scene = Scene(feature("conn"), flat)
    for hour in range(25):
        scene.judge(values=(0.0, 1.0), seconds=hour * HOUR)
        scene.tick(judged=False, conn=10)
        assert scene.said == ([("feature_constant", "conn_in", "raised")] if hour >= 24 else [])
    scene.judge(values=(3.0, 1.0), seconds=30 * HOUR)
    scene.pass_time(15 * MINUTE, judged=False, conn=10)
    assert scene.said[1:] == [("feature_constant", "conn_in", "cleared")]


def test_a_silent_log_is_not_reported_again_for_each_of_its_constant_features():
    scene = Scene(feature("conn", minimum=5.0), feature("http"))
    scene.tick(conn=10)
    for hour in range(30):
        scene.judge(values=(0.0, hour), seconds=hour * HOUR)
        scene.pass_time(HOUR, step=30 * MINUTE, judged=False, http=1)
    assert scene.said == [("log_silent", "conn", "raised")]


def judge_windows(scene, numbers, *, share=0, bad=None, good=None):
    """Judge windows of 10 minutes, `share` of them like `bad` and the others like `good`."""
    for number in numbers:
        is_bad = int(number * share) != int((number + 1) * share)
        scene.judge(**({"values": (number % 90, number % 7), "seconds": number * 600} | ((bad if is_bad else good) or {})))
        scene.tick(conn=10, http=1, judged=False)
        assert scene.said == [] or number >= 30


MISFITS = {
    "anomalous": ({"anomalous": True, "p_value": 1e-6}, {}, " h are anomalous ("),
    "out_of_distribution": ({"values": (5.0, 181.0)}, {}, "are far outside what the model was trained on"),
    "drift": ({"p_value": 0.1}, {"p_value": 0.2}, "have a p-value of at most 0.1, where 10 % should"),
}


def test_a_log_of_unknown_locality_is_not_reported_again_for_its_constant_features():
    scene = Scene(CONN, HTTP)
    public = frozenset({"203.0.113.7"})
    for hour in range(30):
        scene.judge(values=(10.0 + hour, 0.0), seconds=hour * HOUR)
        scene.tick(HOUR, judged=False, conn=100, http=300, public_local=public, unflagged_remote={"http": 300 * (hour % 7 + 1)})
    assert scene.said == [("locality_unknown", "http", "raised")]


@pytest.mark.parametrize("aspect", MISFITS)
def test_a_model_that_does_not_fit_is_reported(aspect):
    bad, good, message = MISFITS[aspect]
    scene = Scene(CONN, HTTP)
    judge_windows(scene, range(200), share=0.8 if aspect == "drift" else 0.3, bad=bad, good=good)
    assert scene.said == [("model_unfit", aspect, "raised")]
    assert message in scene.blindness.open_notices[0].message
    judge_windows(scene, range(200, 400), good=good)
    assert scene.said[1:] == [("model_unfit", aspect, "cleared")]


@pytest.mark.parametrize(("aspect", "share"), [("anomalous", 1 / 6), ("out_of_distribution", 0.08), ("drift", 0.4)])
def test_a_few_unusual_windows_do_not_make_a_model_unfit(aspect, share):
    bad, good, _ = MISFITS[aspect]
    scene = Scene(CONN, HTTP)
    judge_windows(scene, range(300), share=share, bad=bad, good=good)
    assert scene.said == []


def test_two_hours_of_alarms_soon_after_the_start_do_not_make_a_model_unfit():
    scene = Scene(CONN, HTTP)
    judge_windows(scene, range(36))
    judge_windows(scene, range(36, 48), good={"anomalous": True})
    judge_windows(scene, range(48, 150))
    assert scene.said == []


def test_the_misfit_of_a_whole_run_does_not_depend_on_how_it_ends():
    misfit, attack = Blindness("tap", [CONN], window_seconds=HOUR), Blindness("tap", [CONN], window_seconds=HOUR)
    for number in range(1_000):
        at = START + number * 600 * SECOND
        windows = WindowBatch(start_ns=at, series=("site",), values=np.array([[50.0]]))
        for blindness, is_anomalous in ((misfit, number < 800), (attack, number >= 900)):
            when = datetime.fromtimestamp(at / SECOND, UTC)
            verdict = Verdict(series="site", observe_time=when, status=VerdictStatus.SCORED, p_value=0.5, anomalous=is_anomalous)
            blindness.observe(windows, [verdict])
    (message,) = misfit.describe_misfit()
    assert message.startswith("80 % of all windows are anomalous (800 of 1,000); see whether an attack lasts")
    assert attack.describe_misfit() == []


def test_a_level_that_no_p_value_reaches_is_reported_until_it_is_another():
    scene = Scene(CONN)
    scene.blindness.set_level(1e-4, 0.0106)
    scene.tick(conn=1)
    assert scene.said == [("budget_unreachable", "", "raised")]
    (notice,) = scene.blindness.open_notices
    assert (
        notice.message
        == "an alert takes a p-value of 0.0001 or less, and the smallest that the model's calibration can give is 0.011, but for "
        "values far above the training range"
    )
    scene.blindness.set_level(1e-4, 1e-9)
    scene.pass_time(15 * MINUTE, conn=1)
    assert scene.said[1:] == [("budget_unreachable", "", "cleared")]


def test_an_hour_without_a_verdict_is_reported_with_its_reason():
    scene = Scene(CONN, feature("ssh"))
    scene.pass_time(HOUR, conn=10, ssh=1)
    for _ in range(70):
        error = InvalidInputError.for_field("values", Reason.FEATURE_MISSING, "ssh_in is missing")
        scene.judge(status=VerdictStatus.REJECTED, error=error)
        scene.tick(judged=False, conn=10, ssh=1)
    assert scene.said == [("not_judged", "", "raised")]
    (notice,) = scene.blindness.open_notices
    assert notice.since == datetime.fromtimestamp(START / SECOND + HOUR, UTC)
    assert "the windows can't be judged (values: ssh_in is missing)" in notice.message
    scene.pass_time(15 * MINUTE, conn=10, ssh=1)
    assert scene.said[1:] == [("not_judged", "", "cleared")]


def test_a_server_that_can_not_be_reached_is_reported_while_the_watch_waits():
    scene = Scene(CONN)
    scene.pass_time(HOUR, conn=10)
    said = []
    for _ in range(80):
        scene.now += MINUTE
        said += scene.blindness.wait_for_server(START + scene.now * SECOND)
    (notice,) = said
    assert (notice.code, notice.severity.name) == ("not_judged", "HIGH")
    assert "the server can't be reached" in notice.message
    scene.pass_time(15 * MINUTE, conn=10)
    assert scene.said == [("not_judged", "", "cleared")]


def test_warming_up_is_reported_live_and_is_usual_in_a_recording():
    live, recorded = Scene(CONN), Scene(CONN, warm_up_seconds=6 * HOUR)
    for scene in (live, recorded):
        for _ in range(90):
            scene.judge(values=(scene.now,), status=VerdictStatus.WARMING_UP)
            scene.tick(judged=False, conn=10)
    assert live.said == [("not_judged", "", "raised")]
    assert "warming up" in live.blindness.open_notices[0].message
    assert recorded.said == []
    for _ in range(6 * 60):
        recorded.judge(values=(recorded.now,), status=VerdictStatus.WARMING_UP)
        recorded.tick(judged=False, conn=10)
    assert recorded.said == [("not_judged", "", "raised")]


def test_a_clock_that_is_set_back_changes_nothing():
    scene = Scene(CONN)
    scene.pass_time(HOUR, conn=10)
    scene.now -= 2 * DAY
    scene.pass_time(30 * MINUTE, conn=10)
    assert scene.said == []


def test_a_field_that_no_record_has_raises_a_notice_that_names_its_columns_and_clears_when_one_has_it():
    unset = UnsetField(protocol="conn", attribute="failed", records=120, columns=("conn|out_failed",))
    scene = Scene(CONN)
    (notice,) = scene.tick(conn=200, unset=(unset,))
    assert (str(notice.code), notice.subject, notice.severity.name) == ("field_missing", "conn failed", "HIGH")
    assert notice.message == (
        "none of 120 conn records has conn_state of Zeek or flow.pkts_toclient and tcp of Suricata; conn|out_failed is missing, "
        "so no series can be judged"
    )
    scene.pass_time(HOUR, conn=10)
    scene.tick(conn=10, unset=())
    scene.pass_time(HOUR, conn=10)
    assert scene.said == [("field_missing", "conn failed", "raised"), ("field_missing", "conn failed", "cleared")]


def test_notices_about_hosts_elsewhere_alone_are_no_finding_about_locality():
    scene = Scene(CONN)
    flags = {"public_local": frozenset({"203.0.113.9"})}
    scene.pass_time(HOUR, conn=100, notice=100, unflagged_remote={"notice": 5_000}, **flags)
    assert scene.said == []


def test_a_rule_without_room_for_all_hosts_raises_a_notice_that_clears_when_it_had_room_for_an_hour():
    scene = Scene(CONN)
    scene.tick(conn=10, rules_over_limit={})
    (notice,) = scene.tick(conn=10, rules_over_limit={"host-scan": 1_200})
    assert (str(notice.code), notice.subject, notice.severity.name) == ("rules_over_limit", "host-scan", "MEDIUM")
    assert "host-scan dropped own hosts 1,200 times" in notice.message
    scene.pass_time(30 * MINUTE, conn=10, rules_over_limit={"host-scan": 1_200})
    scene.pass_time(30 * MINUTE, conn=10, rules_over_limit={"host-scan": 1_201})
    scene.pass_time(35 * MINUTE, conn=10)
    assert scene.said == [("rules_over_limit", "host-scan", "raised")]
    scene.pass_time(10 * MINUTE, conn=10)
    assert scene.said[1:] == [("rules_over_limit", "host-scan", "cleared")]
    scene.tick(conn=10, rules_over_limit={"host-scan": 7})  # it was off, and began anew
    assert scene.said[2:] == [("rules_over_limit", "host-scan", "raised")]
