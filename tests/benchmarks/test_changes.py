"""The benchmark of changes injects what it says, into the hosts that it says, and counts the alerts that this causes."""

import numpy as np
import pytest

from benchmarks.detection.changes import MONITOR_OPTIONS, Settings, measure
from benchmarks.detection.simulated import cases, changes, hosts
from benchmarks.detection.simulated.hosts import ROWS_PER_DAY, ROWS_PER_HOUR, ROWS_PER_WEEK, SENT
from benchmarks.detection.simulated.outcomes import Judged, count_together, find_caused_alerts, measure_outcome
from benchmarks.detection.simulated.tables import format_rows, format_tables

FIRST = 2 * ROWS_PER_WEEK


@pytest.fixture(scope="module")
def fleet():
    return hosts.simulate_hosts(3, 1, 4, seed=1)


@pytest.fixture(scope="module")
def made(fleet):
    return cases.make_cases(fleet, FIRST, seed=1)


def added(case, fleet):
    """Return what a case adds to the hosts, `(k, rows, columns)`."""
    return case.values - fleet.values[case.hosts, FIRST:]


def find(made, title):
    return next(case for case in (*made[0], *made[2]) if case.title == title)


def test_simulated_hosts_are_whole_counts_with_a_rhythm_and_the_same_for_the_same_seed(fleet):
    values = fleet.values
    assert (values >= 0).all()
    assert (values == np.floor(values)).all()
    assert (values[..., hosts.MAX_SENT] <= values[..., SENT]).all()
    assert (values[..., hosts.PORTS] <= values[..., hosts.CONNECTIONS]).all()
    by_hour = values[..., hosts.CONNECTIONS].reshape(4, -1, 7, ROWS_PER_DAY)
    assert (by_hour[:3, :, :5, 60:96].mean((1, 2, 3)) > 4 * by_hour[:3, :, :5, :30].mean((1, 2, 3))).all()
    assert (by_hour[:3, :, 5:].mean((1, 2, 3)) < 0.5 * by_hour[:3, :, :5].mean((1, 2, 3))).all()
    assert np.array_equal(hosts.simulate_hosts(1, 1, 4, seed=1).values, values[[0, 3]])
    assert not np.array_equal(hosts.simulate_hosts(1, 1, 4, seed=2).values, values[[0, 3]])


@pytest.mark.parametrize("factor", cases.RAMP_FACTORS)
def test_a_ramp_grows_evenly_in_log_space_for_a_week_to_a_multiple_of_the_daily_peak(fleet, made, factor):
    case = find(made, f"ramp to {factor} peaks")
    sent = added(case, fleet)[..., SENT]
    peaks = [hosts.compute_daily_peak(fleet.values[host, :FIRST]) for host in case.hosts]
    assert case.end - case.start == ROWS_PER_WEEK
    assert sent[:, case.start] == pytest.approx(changes.FIRST_BYTES)
    assert sent[:, case.end - 1] == pytest.approx(factor * np.array(peaks), rel=1e-6)
    steps = np.diff(np.log(sent[:, case.start : case.end]), axis=1)
    assert steps == pytest.approx(np.repeat(steps.mean(axis=1, keepdims=True), steps.shape[1], axis=1), abs=2e-3)
    assert not sent[:, : case.start].any()
    assert not sent[:, case.end :].any()
    assert np.array_equal(sent[:, case.start : case.end], case.ramp)
    assert (case.values[..., hosts.MAX_SENT][:, case.start : case.end] >= case.ramp).all()


def test_an_update_touches_every_host_within_the_hour_and_uploads_some_hundred_megabytes(fleet, made):
    for title, low, high in (("update, downloaded", 1e4, 1e6), ("update, also uploaded", 200e6, 400e6)):
        case = find(made, title)
        change = added(case, fleet)
        assert case.hosts.tolist() == [0, 1, 2, 3]
        assert case.end - case.start == ROWS_PER_HOUR
        assert not change[:, : case.start].any()
        assert not change[:, case.end :].any()
        assert ((change[..., SENT].sum(axis=1) > low) & (change[..., SENT].sum(axis=1) < high)).all()
        assert (change[..., hosts.CONNECTIONS].sum(axis=1) >= 3 * 20).all()
        assert (change[..., hosts.NEW_CONNECTIONS].sum(axis=1) >= 20).all()


def test_a_service_stays_and_its_remote_host_is_new_once(fleet, made):
    case = find(made, "service of 1 peak")
    change = added(case, fleet)
    peaks = np.array([hosts.compute_daily_peak(fleet.values[host, :FIRST]) for host in case.hosts])
    assert not change[:, : case.start].any()
    assert change[:, case.start :, SENT].mean(axis=1) == pytest.approx(peaks, rel=0.1)
    assert (change[:, case.start :, SENT] > 0).all()
    assert change[..., hosts.NEW_NAMES].sum(axis=1).tolist() == [1] * len(case.hosts)


def test_backups_run_on_sundays_at_two_in_training_as_well_if_they_were_there(fleet, made):
    with_backups = made[1]
    new, usual = find(made, "backup, new"), find(made, "backup, in training")
    trained = with_backups[usual.hosts, :FIRST] - fleet.values[usual.hosts, :FIRST]
    for change in (added(new, fleet), added(usual, fleet), trained):
        rows = np.flatnonzero(change[0, :, SENT])
        expected = [start + row for start in cases.list_sundays(change.shape[1]) for row in range(ROWS_PER_HOUR)]
        assert rows.tolist() == expected
    sunday = fleet.times[FIRST + new.start]
    assert str(sunday) == "2026-01-25T02:00:00"
    assert sunday.item().isoweekday() == 7
    assert added(new, fleet)[..., hosts.NEW_NAMES].sum(axis=1).tolist() == [1] * len(new.hosts)
    assert added(usual, fleet)[..., hosts.NEW_NAMES].sum() == 0
    untouched = np.setdiff1d(np.arange(4), usual.hosts)
    assert np.array_equal(with_backups[untouched], fleet.values[untouched])


def make_judged(starts, rows=20, p_value=1e-6):
    """Return the verdicts on one series that raises in some rows, each an episode of a row."""
    started = np.zeros((1, rows), np.bool_)
    started[0, starts] = True
    return Judged(np.where(started, p_value, 0.5), started, started, np.zeros((1, rows), np.bool_))


def test_an_alert_is_caused_by_a_change_if_it_does_not_come_without_it():
    changed, untouched = make_judged([2, 8, 12, 17]), make_judged([7, 16])
    assert np.flatnonzero(find_caused_alerts(changed, untouched, start=5)).tolist() == [12]
    outcome = measure_outcome(changed, untouched, start=5, end=10)
    assert outcome["raising"] == 1
    assert outcome["delay"].tolist() == [8]
    assert outcome["rows_after_end"].tolist() == [3]
    assert outcome["alerts"] == (3.0, 2.0)


def test_an_alert_of_an_unchanged_row_is_that_of_the_level():
    changed, untouched = make_judged([12], p_value=0.4), make_judged([])
    assert not find_caused_alerts(changed, untouched, start=5).any()


def test_hosts_that_raise_together_are_counted_within_any_hour():
    alerts = np.zeros((3, 30), np.bool_)
    alerts[0, 4] = alerts[1, 9] = alerts[2, 10] = alerts[2, 11] = True
    assert count_together(alerts, ROWS_PER_HOUR) == 2
    assert count_together(alerts, ROWS_PER_HOUR + 1) == 3


def test_times_are_in_readable_units():
    assert [format_rows(rows) for rows in ([], [3], [12, 18], [720])] == ["-", "30 min", "2.5 h", "5.0 days"]


@pytest.mark.train
@pytest.mark.slow
def test_the_benchmark_runs_and_finds_an_upload_on_all_hosts():
    settings = Settings(workstations=3, servers=1, training_weeks=3, judged_weeks=2, epochs=1)
    fleet, results = measure(settings, MONITOR_OPTIONS, budgets={"1 a day": 1.0})
    titles = [case.title for cases_of_model, _ in results for case in cases_of_model]
    assert len(titles) == len(set(titles)) == 8
    cases_of_model, judged = results[0]
    untouched, copies = judged["1 a day"]
    case, changed = next((c, one) for c, one in zip(cases_of_model, copies, strict=True) if c.title == "update, also uploaded")
    assert np.array_equal(changed.p_value[:, : case.start], untouched.p_value[:, : case.start])
    assert (changed.p_value[:, case.start : case.end].min(1) < untouched.p_value[:, case.start : case.end].min(1)).all()
    text = format_tables(fleet, results, {"1 a day": 1.0}, 14)
    assert all(f"| {title}, 1 a day |" in text for title in titles)
