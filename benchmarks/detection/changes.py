"""Measure what is raised when hosts change slowly, for good, every week, or all at once.

Hosts are simulated, a series each (see `simulated.hosts`). One MLP is fitted to all of them and calibrated on the last of the
training weeks, as for a pool; the weeks after them are judged as in a stream with an adapting level. A changed host is a copy
that is judged as a series of its own, beside the same host without the change. The cases: an attacker who ramps for a week, a
software update on all hosts within an hour, a new service that stays, and a backup every Sunday night, new or there in training.

Usage: python benchmarks/detection/changes.py [--own-scales] [--seed 1]
"""

import argparse
import sys
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from benchmarks.detection.simulated.cases import make_cases
from benchmarks.detection.simulated.hosts import COLUMNS, DAYS_PER_WEEK, ROWS_PER_WEEK, SLIDE_SECONDS, simulate_hosts
from benchmarks.detection.simulated.outcomes import Judged
from benchmarks.detection.simulated.tables import format_tables
from mods_grpc.detection import Detector, Monitor, Phase, significance_from_budget
from mods_grpc.detection.scores.residuals import ResidualSpace
from training.data.feature import describe_column
from training.data.pool import join_series
from training.data.series import DataReport, make_series
from training.data.time_range import Interval, to_nanoseconds
from training.data.windows import SplitRanges, make_samples, split_series
from training.export.calibration import calibrate_parts
from training.export.onnx_forecaster import open_graph
from training.export.to_onnx import export_graph
from training.fitting.fit import fit
from training.network.architectures import build
from training.network.config import FitConfig, ModelConfig

MODEL = ModelConfig(model_type="MLP", sequence_len=20, steps_ahead=12, transform="log1p")
MONITOR_OPTIONS = {"adapt": True}  # as for streams; `--own-scales` adds to them
BUDGETS = {"1 a day": 1.0, "1 a week": 1 / 7, "1 a month": 1 / 30}
IMPUTE_ROWS = 3
LEAD_WEEKS = 2  # judged before, from which series learn what they usually reach


@dataclass(frozen=True, slots=True)
class Settings:
    """How many hosts and weeks, and how long to fit."""

    workstations: int = 24
    servers: int = 6
    training_weeks: int = 4
    judged_weeks: int = 3
    epochs: int = 8
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Model:
    """A fitted model with its detector."""

    forecast: object
    detector: Detector


def fit_model(times, values, training_weeks, epochs, seed):
    """Fit a model to hosts `(hosts, rows, columns)` and calibrate it on the last of the training weeks."""
    features = [describe_column(key.replace("|", "_"), *key.split("|")) for key in COLUMNS]
    rows = training_weeks * ROWS_PER_WEEK
    named = {
        f"host-{number:03}": make_series(
            times[:rows], host[:rows], features, window_seconds=SLIDE_SECONDS, slide_seconds=SLIDE_SECONDS, report=DataReport()
        )
        for number, host in enumerate(values)
    }
    pool, last_week = join_series(named), times[rows - ROWS_PER_WEEK]
    ranges = SplitRanges(
        train=Interval(start=times[0], end=last_week), calibration=Interval(start=last_week, end=times[rows - 1] + 1)
    )
    parts = split_series(pool, ranges, MODEL.rows, MODEL.steps_ahead)
    samples = [make_samples(pool, parts[name], MODEL.rows, MODEL.steps_ahead) for name in ("train", "validation")]
    fitted = fit(MODEL, FitConfig(epochs=epochs, patience=epochs, batch_size=256, seed=seed), *samples)
    network = build(MODEL, len(features))  # not compiled, as when a run is exported
    network.set_weights(fitted.network.get_weights())
    forecast = open_graph(export_graph(network, MODEL, fitted.scaler, len(features)))
    calibration = calibrate_parts(forecast, pool, parts["train"], parts["calibration"], rows=MODEL.rows)
    training = np.concatenate([pool.values[part] for part in parts["train"]])
    training_range = training.min(axis=0), training.max(axis=0)
    return Model(forecast, Detector(calibration, ResidualSpace([feature.kind for feature in features]), training_range))


def judge(model, times, values, warm_up, budget, options):
    """Judge series `(series, rows, columns)` at a budget of false alarms per day; the first `warm_up` rows have no verdicts.

    Returns:
        The verdicts on the rows after those.
    """
    table = model.detector.table(MODEL.rows)
    slots = np.array([table.allocate() for _ in values])
    monitor = Monitor(
        model.detector,
        model.forecast,
        table,
        slide_seconds=SLIDE_SECONDS,
        holdoff_rows=model.detector.calibration.holdoff_rows,
        **options,
    )
    level = significance_from_budget(budget, SLIDE_SECONDS, model.detector.calibration)
    judged = Judged.empty(values.shape[:2])
    for row, time in enumerate(to_nanoseconds(times)):
        verdicts = monitor.observe(
            slots,
            np.full(len(slots), time),
            values[:, row],
            reported=np.full(len(slots), row >= warm_up),
            significance=level,
            impute_rows=IMPUTE_ROWS,
        )
        judged.write(row, verdicts.p_value, verdicts.anomalous, verdicts.phase == Phase.STARTED, verdicts.drift)
    return judged.after(warm_up)


def judge_cases(model, times, values, first, cases, budgets, options):
    """Judge hosts `(hosts, rows, columns)` from row `first` on, and changed copies of them beside them.

    Returns:
        By budget, the verdicts on the hosts and a list of those on the copies of each case.
    """
    warm_up = LEAD_WEEKS * ROWS_PER_WEEK
    begin = first - warm_up
    lead = [np.concatenate([values[case.hosts, begin:first], case.values], axis=1) for case in cases]
    together = np.concatenate([values[:, begin:], *lead])
    ends = np.cumsum([len(values), *(len(case.hosts) for case in cases)])
    results = {}
    for title, budget in budgets.items():
        judged = judge(model, times[begin:], together, warm_up, budget, options)
        results[title] = judged[: ends[0]], [judged[start:end] for start, end in pairwise(ends.tolist())]
        print(f"judged {len(together)} series at {title}", file=sys.stderr)
    return results


def measure(settings, options, budgets=BUDGETS):
    """Fit a model to ordinary weeks and one to weeks with backups, and judge the hosts and the changed copies.

    Returns:
        The hosts, and per model its cases with the result of `judge_cases`.
    """
    hosts = simulate_hosts(
        settings.workstations, settings.servers, settings.training_weeks + settings.judged_weeks, settings.seed
    )
    first = settings.training_weeks * ROWS_PER_WEEK
    cases, with_backups, known_cases = make_cases(hosts, first, settings.seed)
    results = []
    for trained_on, cases_of_model in ((hosts.values, cases), (with_backups, known_cases)):
        model = fit_model(hosts.times, trained_on, settings.training_weeks, settings.epochs, settings.seed)
        judged = judge_cases(model, hosts.times, hosts.values, first, cases_of_model, budgets, options)
        results.append((cases_of_model, judged))
    return hosts, results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--own-scales", action="store_true", help="let each series move to its own scales")
    parser.add_argument("--own-envelope", action="store_true", help="judge each series by what it usually reaches itself")
    parser.add_argument("--seed", type=int, default=1, help="seed of hosts, changes and fits (default: %(default)s)")
    arguments = parser.parse_args()
    own = {"own_scales": arguments.own_scales, "own_envelope": arguments.own_envelope}
    options = MONITOR_OPTIONS | {name: True for name, is_asked_for in own.items() if is_asked_for}
    settings = Settings(seed=arguments.seed)
    hosts, results = measure(settings, options)
    print(format_tables(hosts, results, BUDGETS, settings.judged_weeks * DAYS_PER_WEEK))


if __name__ == "__main__":
    main()
