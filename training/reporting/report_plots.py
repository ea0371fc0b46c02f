"""The figures of the report on an evaluation."""

import numpy as np
from matplotlib.figure import Figure

from mods_grpc.array_types import Floats, Integers
from training.data.time_range import DateTimes
from training.evaluation.evaluation import Evaluation
from training.evaluation.intervals import CURVE_COVERAGES, REPORTED_COVERAGES
from training.evaluation.metrics import find_metric
from training.export.model_card import reported_steps
from training.reporting.figures import (
    BAND,
    COLORS,
    FAINT,
    INK,
    MAX_PANELS,
    add_legend,
    format_date_axis,
    line_color,
    make_figure,
    mark_steps,
)

DAYS_SHOWN = 7


def draw_forecasts(evaluation: Evaluation) -> Figure:
    """Draw observed values, forecast and intervals over seven days, one step ahead and at the horizon."""
    names = evaluation.names[:MAX_PANELS]
    steps = sorted({1, evaluation.manifest.horizon})
    figure, panels = make_figure(len(names), len(steps), sharex="col", sharey="row")
    for column, step in enumerate(steps):
        times, shown = _shown_rows(evaluation, step)
        forecast = evaluation.forecasts[shown]
        bands = [
            (nominal, evaluation.detector.path_interval(forecast, nominal))
            for nominal in sorted(REPORTED_COVERAGES, reverse=True)
        ]
        for row, name in enumerate(names):
            axes = panels[row, column]
            observed = evaluation.samples.targets[shown, step - 1, row]
            gaps = np.flatnonzero(np.diff(times) > np.timedelta64(evaluation.series.slide_seconds, "s")) + 1
            broken = np.insert(times, gaps, times[gaps - 1] + np.timedelta64(1, "s")) if gaps.size else times
            for shade, (nominal, (low, high)) in zip((0.12, 0.2, 0.32), bands, strict=True):
                lower, upper = (np.insert(end[:, step - 1, row], gaps, np.nan) for end in (low, high))
                axes.fill_between(broken, lower, upper, color=BAND, alpha=shade, linewidth=0, label=f"{nominal:.0%} interval")
            axes.plot(broken, np.insert(forecast[:, step - 1, row], gaps, np.nan), color=BAND, linewidth=1.1, label="forecast")
            axes.plot(broken, np.insert(observed, gaps, np.nan), color=COLORS[1], linewidth=0.9, label="observed")
            axes.set_title(f"{name}, {step} step{'s' if step > 1 else ''} ahead")
            _limit_axis(axes, np.concatenate([observed, forecast[:, step - 1, row]]), bands[-2][1], step, row)
            format_date_axis(axes)
    add_legend(figure, panels[0, 0])
    return figure


def draw_residuals(evaluation: Evaluation) -> Figure:
    """Draw residuals one step ahead in the space in which they are scored: over time, as a histogram, by hour of the day."""
    names = evaluation.names[:MAX_PANELS]
    space = evaluation.detector.space
    observed = evaluation.samples.targets[:, 0]
    residuals = space.forward(observed) - space.forward(evaluation.forecasts[:, 0, : observed.shape[1]])
    times = evaluation.series.times[evaluation.samples.origins]
    hours = times.astype("datetime64[h]").astype(np.int64) % 24
    figure, panels = make_figure(len(names), 3, width_ratios=[2.2, 1, 1.6])
    for row, name in enumerate(names):
        residual, (over_time, spread, by_hour) = residuals[:, row], panels[row]
        reach = max(float(np.quantile(np.abs(residual), 0.995)), 1e-9)
        over_time.plot(times, residual.clip(-2 * reach, 2 * reach), ".", color=BAND, markersize=1.6)
        over_time.axhline(0, color=INK, linewidth=0.7)
        over_time.set_title(f"{name}: observed minus forecast")
        over_time.set_ylim(-2.05 * reach, 2.05 * reach)
        format_date_axis(over_time)
        spread.hist(residual.clip(-reach, reach), bins=60, color=BAND, alpha=0.75)
        spread.axvline(0, color=INK, linewidth=0.7)
        spread.set_title("distribution")
        spread.set_yticks([])
        quantiles = np.array(
            [
                np.quantile(residual[hours == h], [0.05, 0.25, 0.5, 0.75, 0.95]) if (hours == h).any() else [np.nan] * 5
                for h in range(24)
            ]
        )
        by_hour.fill_between(range(24), quantiles[:, 0], quantiles[:, 4], color=BAND, alpha=0.15, linewidth=0, label="90 %")
        by_hour.fill_between(range(24), quantiles[:, 1], quantiles[:, 3], color=BAND, alpha=0.3, linewidth=0, label="50 %")
        by_hour.plot(range(24), quantiles[:, 2], color=BAND, label="median")
        by_hour.axhline(0, color=INK, linewidth=0.7)
        by_hour.set_title("by hour of the day")
        by_hour.set_xticks(range(0, 24, 6))
    add_legend(figure, panels[0, 2])
    return figure


def draw_calibration(evaluation: Evaluation) -> Figure:
    """Draw realised against nominal coverage, and the distribution of the detector's p-values."""
    steps = [step for step in reported_steps(evaluation.manifest.horizon) if step in {1, 6, 12, evaluation.manifest.horizon}][:3]
    figure, panels = make_figure(1, len(steps) + 2, row_height=3.1)
    for axes, step in zip(panels[0], steps, strict=False):
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle="--")
        for index, name in enumerate(evaluation.names[:MAX_PANELS]):
            realised = [evaluation.coverage_of(name, step, nominal).realised for nominal in CURVE_COVERAGES]
            axes.plot(CURVE_COVERAGES, realised, color=line_color(index), marker=".", markersize=3, label=name)
        axes.set_title(f"intervals, k = {step}")
        axes.set_xlabel("nominal coverage")
    panels[0, 0].set_ylabel("realised coverage")
    add_legend(figure, panels[0, 0])
    p_values = evaluation.replay.p_values
    uniform, tail = panels[0, -2:]
    uniform.hist(
        p_values, bins=20, range=(0, 1), weights=np.full(len(p_values), 20 / max(len(p_values), 1)), color=BAND, alpha=0.75
    )
    uniform.axhline(1, color=INK, linewidth=0.9, linestyle="--")
    uniform.set_title("detector's p-values")
    uniform.set_xlabel("p (uniform: all bars at 1)")
    if len(p_values):
        rank = np.arange(1, len(p_values) + 1) / len(p_values)
        tail.loglog(np.sort(p_values).clip(1e-8), rank, color=BAND)
        tail.loglog([rank[0], 1], [rank[0], 1], color=FAINT, linewidth=1, linestyle="--")
    tail.set_title("its tail")
    tail.set_xlabel("p")
    tail.set_ylabel("share of rows at or below")
    return figure


def draw_coverage(evaluation: Evaluation) -> Figure:
    """Draw coverage and relative width of intervals by step."""
    figure, panels = make_figure(2, len(REPORTED_COVERAGES), sharex=True, row_height=2.4)
    steps = range(1, evaluation.manifest.horizon + 1)
    for column, nominal in enumerate(REPORTED_COVERAGES):
        above, below = panels[:, column]
        above.axhline(nominal, color=INK, linewidth=0.9, linestyle="--")
        for index, name in enumerate(evaluation.names[:MAX_PANELS]):
            coverages = [evaluation.coverage_of(name, step, nominal) for step in steps]
            marker = "o" if len(coverages) == 1 else "."
            above.plot(steps, [c.realised for c in coverages], color=line_color(index), marker=marker, label=name)
            below.plot(steps, [c.relative_width for c in coverages], color=line_color(index), marker=marker)
        above.set_title(f"{nominal:.0%} intervals")
        below.set_xlabel("steps ahead")
        above.set_ylim(top=min(1.005, above.get_ylim()[1] + 0.01))
        below.set_ylim(bottom=0)
        mark_steps(below, evaluation.manifest.horizon)
    panels[0, 0].set_ylabel("realised coverage")
    panels[1, 0].set_ylabel("median width / forecast")
    add_legend(figure, panels[0, 0])
    return figure


def draw_skill(evaluation: Evaluation) -> Figure:
    """Draw the MAE relative to persistence by step, of the model and the baselines; the last panel is the geometric mean."""
    names = evaluation.names[: MAX_PANELS - 1]
    columns = min(len(names) + (len(evaluation.names) > 1), 3)
    count = len(names) + (len(evaluation.names) > 1)
    figure, panels = make_figure(-(-count // columns), columns, row_height=2.7)
    horizon = evaluation.manifest.horizon
    steps = range(1, horizon + 1)
    scored = {evaluation.manifest.architecture: evaluation.metrics, **evaluation.baselines}
    for axes, name in zip(panels.flat, [*names, ""], strict=False):
        if not name and count == len(names):
            break
        for index, (label, metrics) in enumerate(scored.items()):
            if name:
                by_step = [find_metric(metrics, "RELATIVE_MAE", name, step) for step in steps]
                values = [m.value if m else np.nan for m in by_step]
            else:
                values = [evaluation.mean_skill(metrics, step) for step in steps]
            style = {"linewidth": 2.2, "marker": "o", "markersize": 3.5} if index == 0 else {"marker": ".", "markersize": 4}
            color = line_color(0) if index == 0 else FAINT if label == "persistence" else line_color(index)
            axes.plot(steps, values, color=color, label=label, zorder=5 if index == 0 else 3, **style)
        axes.set_title(name or "geometric mean of all features")
        axes.set_ylim(0, min(1.6, max(1.15, axes.get_ylim()[1])))
        axes.set_xlabel("steps ahead")
        mark_steps(axes, horizon)
    for axes in panels.flat[count:]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("MAE / no change")
    add_legend(figure, panels.flat[0])
    return figure


def _shown_rows(evaluation: Evaluation, step: int) -> tuple[DateTimes, Integers]:
    """Return the rows of seven days in the middle of the range: times of the forecast rows, indices of their samples."""
    series, origins = evaluation.series, evaluation.samples.origins
    times = series.times[origins] + (step - 1) * np.timedelta64(series.slide_seconds, "s")
    days = np.timedelta64(DAYS_SHOWN, "D")
    start = times[0] + max((times[-1] - times[0] - days) // 2, np.timedelta64(0, "s"))
    chosen = np.flatnonzero((times >= start) & (times < start + days))
    return times[chosen], chosen


def _limit_axis(axes: object, values: Floats, band: tuple[Floats, Floats], step: int, row: int) -> None:
    """Limit the y axis so that a few extreme values and unbounded intervals don't flatten everything else."""
    ends = np.concatenate([end[:, step - 1, row] for end in band])
    finite = np.concatenate([values, ends[np.isfinite(ends)]])
    low, high = np.quantile(finite, [0.002, 0.998])
    margin = 0.12 * (high - low) or 1.0
    axes.set_ylim(low - margin, high + margin)  # type: ignore[attr-defined]
