"""The report on an evaluation: one HTML file that contains its figures and loads nothing."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np

from mods_grpc.artifact import Metric, TimeRange
from training.evaluation.evaluation import Evaluation
from training.evaluation.intervals import REPORTED_COVERAGES
from training.evaluation.metrics import PERSISTENCE, find_metric
from training.export.model_card import reported_steps
from training.reporting.figures import MAX_PANELS, embed_figure
from training.reporting.report_plots import draw_calibration, draw_coverage, draw_forecasts, draw_residuals, draw_skill

MAX_EPISODES = 15
_METRIC_HEADINGS = {
    "MAE": "MAE",
    "RMSE": "RMSE",
    "SMAPE": "SMAPE, %",
    "MAPE": "MAPE, %",
    "R2": "R2",
    "COSINE": "cosine",
    "MASE": "MASE",
}

_CSS = """
:root { color: #1f2933; background: #f5f7fa; font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
body { max-width: 1180px; margin: 0 auto; padding: 24px; }
h1 { margin: 0; font-size: 28px; } h2 { margin: 0 0 4px; font-size: 19px; }
p { margin: 4px 0 12px; } .faint { color: #616e7c; }
section { background: #fff; border: 1px solid #e4e7eb; border-radius: 8px; padding: 18px 22px; margin: 18px 0; }
img { width: 100%; height: auto; display: block; }
.verdict { font-size: 17px; }
@media (max-width: 720px) { body { padding: 8px; } section { padding: 12px; } .wide img { width: 860px; } }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px; margin: 18px 0; }
.tile { background: #fff; border: 1px solid #e4e7eb; border-radius: 8px; padding: 12px 16px; }
.tile b { display: block; font-size: 24px; line-height: 1.25; } .tile span { color: #616e7c; font-size: 13px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { padding: 4px 10px; text-align: right; border-bottom: 1px solid #e4e7eb; white-space: nowrap; }
td { font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; } th { color: #52606d; font-weight: 600; }
.good { color: #0b6e4f; font-weight: 600; } .bad { color: #b3261e; font-weight: 600; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 2px 28px; margin: 8px 0 0; }
dl div { font-size: 13px; display: flex; justify-content: space-between; border-bottom: 1px solid #e4e7eb; padding: 4px 0; }
dt { color: #52606d; } dd { margin: 0; font-variant-numeric: tabular-nums; }
.note { background: #fff8e6; border-color: #f0d58c; }
footer { color: #616e7c; font-size: 13px; }
"""


def write_report(evaluation: Evaluation, *, command: str = "") -> str:
    """Return the report as HTML.

    Args:
        evaluation: The evaluation.
        command: The command line that reproduces it.
    """
    manifest = evaluation.manifest
    title = f"{manifest.name}, version {manifest.version}"
    parts = [
        _head(evaluation, title),
        f"<p class=verdict>{escape(describe_verdict(evaluation))}</p>",
        _tiles(evaluation),
        *(f"<section class=note>{escape(note)}</section>" for note in evaluation.notes),
        _section(
            "Skill by horizon",
            "Mean absolute error relative to persistence (no change), on the same windows: below 1 is better.",
            embed_figure(lambda: draw_skill(evaluation), "Relative error by step and feature"),
            _table(*_skill_rows(evaluation)),
        ),
        _section(
            "Forecast against reality",
            "Seven days in the middle of the range, with conformal intervals at 80, 95 and 99 %.",
            embed_figure(lambda: draw_forecasts(evaluation), "Observed values, forecasts and intervals", "png"),
        ),
        _section(
            "Calibration",
            "An interval of 95 % should contain 95 % of the values; below the dashed line it contains fewer. The detector's "
            "p-values should be uniform without anomalies: above the dashed line of the tail there are more small ones than the "
            "budget allows for, including those of real anomalies.",
            embed_figure(lambda: draw_calibration(evaluation), "Realised against nominal coverage, and p-values"),
        ),
        _section(
            "Intervals by step",
            "Realised coverage, and median width relative to the forecast.",
            embed_figure(lambda: draw_coverage(evaluation), "Coverage and width by step"),
            _table(*_coverage_rows(evaluation)),
        ),
        _section(
            "Intervals of the series' own",
            "Those of the calibration are the same for all hours and series. A series' own, as a stream with own_intervals has "
            "them, move with its residuals from row to row. CRPS of both over the MAE of no change: lower is better.",
            _table(*_own_interval_rows(evaluation)),
        ),
        _section(
            "Residuals, one step ahead",
            "In the space in which they are scored: log(1 + x) for counts and sums, the value itself for means.",
            embed_figure(
                lambda: draw_residuals(evaluation), "Residuals over time, their distribution, by hour of the day", "png"
            ),
        ),
        _section(
            "Worst hours",
            "The hours with the largest errors one step ahead, with the feature of the largest error; means over the hour.",
            _table(["hour", "feature", "observed", "forecast", "error, times the usual"], list(_worst_rows(evaluation))),
        ),
        _section("Detector", *_detector(evaluation)),
        _section("Metrics", "", _table(*_metric_rows(evaluation))),
        _section("Data", "", _data(evaluation)),
    ]
    again = f"<code>{escape(command)}</code><br>" if command else ""
    ranges = f"Trained on {_range(manifest.training_range)}; calibrated on {_range(manifest.calibration_range)}."
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_CSS}</style></head>\n<body>\n"
        + "\n".join(parts)
        + f"\n<footer><p>{again}{ranges}</p></footer>\n</body></html>\n"
    )


def _head(evaluation: Evaluation, title: str) -> str:
    manifest = evaluation.manifest
    text = (
        f"{manifest.architecture}, {manifest.parameters:,} parameters; forecasts {manifest.horizon} rows of "
        f"{_duration(manifest.slide_seconds)} from the last {manifest.rows}. Evaluated on "
        f"{_minute(evaluation.interval.start)} to {_minute(evaluation.interval.end)}, "
        f"{len(evaluation.samples):,} windows without missing values."
    )
    if len(evaluation.names) > MAX_PANELS:
        text += f" Of {len(evaluation.names)} features the first {MAX_PANELS} are drawn; the tables hold all."
    return f"<header><h1>{escape(title)}</h1><p class=faint>{escape(text)}</p></header>"


def describe_verdict(evaluation: Evaluation) -> str:
    """Say whether the model beats no change, by how much, which baseline beats it, and whether its intervals are right."""
    horizon = evaluation.manifest.horizon
    steps = [step for step in reported_steps(horizon) if step in (1, 6, 12)] or [horizon]
    gains: list[str] = []
    losses: list[str] = []
    worse: list[str] = []
    for step in steps:
        skill = evaluation.mean_skill(evaluation.metrics, step)
        if not np.isfinite(skill):
            continue
        (gains if skill < 1 else losses).append(f"{abs(1 - skill):.0%} at k = {step}")
        others = {name: evaluation.mean_skill(metrics, step) for name, metrics in evaluation.baselines.items()}
        best = min(others, key=lambda name: (not np.isfinite(others[name]), others[name]), default="")
        if best and best != PERSISTENCE and others[best] < skill:
            worse.append(f"{best} does better at k = {step} ({others[best]:.3f} against {skill:.3f})")
    parts = [f"Its mean error is below that of no change by {', '.join(gains)}."] if gains else []
    parts += [f"It does not beat no change: its error is above by {', '.join(losses)}."] if losses else []
    parts += [f"A baseline is better: {'; '.join(worse)}."] if worse else []
    for nominal in (0.8, 0.95):
        realised = [entry.realised for entry in evaluation.coverage if entry.nominal == nominal]
        if realised:
            parts.append(f"Of its {nominal:.0%} intervals {np.mean(realised):.0%} hold the value.")
    return " ".join(parts)


def _tiles(evaluation: Evaluation) -> str:
    steps = [step for step in reported_steps(evaluation.manifest.horizon) if step in (1, 6, 12)] or [evaluation.manifest.horizon]
    tiles = [
        (f"{evaluation.mean_skill(evaluation.metrics, step):.3f}", f"MAE over no change, k = {step} (geometric mean)")
        for step in steps
    ]
    realised = [entry.realised for entry in evaluation.coverage if entry.nominal == 0.95]
    tiles.append((f"{np.mean(realised):.1%}", "realised by the 95 % intervals"))
    rate = f"{evaluation.replay.episodes_per_day:.2f}" if evaluation.replay.days else "-"
    tiles.append((rate, f"alarms a day; the budget is {evaluation.budget:g} false a day"))
    if evaluation.events:
        detected = sum(delay is not None for delay in evaluation.event_matches.delays_minutes)
        tiles.append((f"{detected} of {len(evaluation.events)}", "labelled events detected"))
    inside = "".join(f"<div class=tile><b>{value}</b><span>{escape(caption)}</span></div>" for value, caption in tiles)
    return f"<div class=tiles>{inside}</div>"


def _skill_rows(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    steps = reported_steps(evaluation.manifest.horizon)
    scored: Mapping[str, Sequence[Metric]] = {evaluation.manifest.architecture: evaluation.metrics, **evaluation.baselines}
    rows = []
    for step in steps:
        for name, metrics in scored.items():
            values = [find_metric(metrics, "RELATIVE_MAE", feature, step) for feature in evaluation.names]
            cells = [_rate_ratio(metric.value if metric else float("nan")) for metric in values]
            rows.append([f"k = {step}: {escape(name)}", *cells, _rate_ratio(evaluation.mean_skill(metrics, step))])
    return ["MAE / no change", *map(escape, evaluation.names), "geometric mean"], rows


def _coverage_rows(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    rows = []
    for name in evaluation.names:
        for step in reported_steps(evaluation.manifest.horizon):
            coverages = [evaluation.coverage_of(name, step, nominal) for nominal in REPORTED_COVERAGES]
            rows.append(
                [escape(name), str(step), *(f"{c.realised:.1%}" for c in coverages), *(_number(c.width) for c in coverages)]
            )
    labels = [f"{nominal:.0%}" for nominal in REPORTED_COVERAGES]
    return ["feature", "k", *(f"in {w}" for w in labels), *(f"median width, {w}" for w in labels)], rows


def _own_interval_rows(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    rows = []
    for entry in evaluation.crps:
        kinds = (evaluation.coverage_of, evaluation.own_coverage_of)
        realised = [f"{of(entry.feature, entry.step, c).realised:.1%}" for of in kinds for c in REPORTED_COVERAGES]
        rows.append([escape(entry.feature), str(entry.step), *realised, f"{entry.calibration:.3f}", f"{entry.own:.3f}"])
    labels = [f"{kind}, {nominal:.0%}" for kind in ("calibration", "own") for nominal in REPORTED_COVERAGES]
    return ["feature", "k", *labels, "CRPS, calibration", "CRPS, own"], rows


def _worst_rows(evaluation: Evaluation) -> Iterator[list[str]]:
    for hour in evaluation.hours:
        start = str(hour.start.astype("datetime64[m]")).replace("T", " ")
        yield [start, escape(hour.feature), _number(hour.observed), _number(hour.forecast), f"{hour.times_usual:.1f}"]


def _detector(evaluation: Evaluation) -> tuple[str, str]:
    """Return the detector's alerts, as text and as a table."""
    replay = evaluation.replay
    text = (
        f"At a budget of {evaluation.budget:g} false alarms per day: {len(replay.episodes)} episodes in {replay.days:.1f} days "
        f"of scored rows, {replay.episodes_per_day:.2f} per day. "
    )
    if evaluation.events:
        text += f"{evaluation.event_matches.false_episodes} of them match no labelled event."
    else:
        text += "Without labelled events, the number of false ones among them is not known."
    strongest = sorted(replay.episodes, key=lambda episode: -episode.score)[:MAX_EPISODES]
    rows = [[_minute(e.start), _minute(e.peak_time), _minute(e.end), escape(e.reason), f"{e.score:.1f}"] for e in strongest]
    return text, _table(["strongest episodes: start", "peak", "end", "first of the reasons", "-log10 p at the peak"], rows)


def _metric_rows(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    rows = []
    for name in evaluation.names:
        for step in reported_steps(evaluation.manifest.horizon):
            cells = [_with_persistence(find_metric(evaluation.metrics, metric, name, step)) for metric in _METRIC_HEADINGS]
            rows.append([escape(name), str(step), *cells])
    return ["feature (no change in brackets)", "k", *_METRIC_HEADINGS.values()], rows


def _with_persistence(metric: Metric | None) -> str:
    """Format a metric with that of persistence in brackets: ratios with three decimals, percentages with one."""
    if metric is None:
        return "-"
    decimals = {"SMAPE": 1, "MAPE": 1, "R2": 3, "COSINE": 3, "MASE": 3}.get(metric.metric)
    return " ".join(
        form.format(_number(value) if decimals is None else f"{value:.{decimals}f}")
        for form, value in (("{}", metric.value), ("({})", metric.persistence))
    )


def _data(evaluation: Evaluation) -> str:
    report = evaluation.series.report
    counts = {
        "files": report.files,
        "rows read": report.rows,
        "duplicates": report.duplicates,
        "contradictions": report.contradictions,
        "off the grid": report.off_grid,
        "missing rows inserted": report.inserted,
        "gaps": report.holes,
        "rows of the longest gap": report.longest_hole,
        "clock changes": report.clock_changes,
        "values missing": sum(report.missing.values()),
        "interpolated": sum(report.interpolated.values()),
        "empty cells read as 0": sum(report.zero_filled.values()),
        "rows excluded": report.excluded,
    }
    inside = "".join(f"<div><dt>{name}</dt><dd>{count:,}</dd></div>" for name, count in counts.items())
    return f"<dl>{inside}</dl>"


def _section(title: str, text: str, *contents: str) -> str:
    intro = f"<p class=faint>{escape(text)}</p>" if text else ""
    parts = (f"<div class=wide>{content}</div>" if content.startswith("<img") else content for content in contents)
    return f"<section><h2>{escape(title)}</h2>{intro}{''.join(parts)}</section>"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _rate_ratio(ratio: float) -> str:
    if not np.isfinite(ratio):
        return "-"
    kind = "good" if ratio < 0.995 else "bad" if ratio > 1.005 else ""
    return f'<span class="{kind}">{ratio:.3f}</span>' if kind else f"{ratio:.3f}"


def _number(value: float) -> str:
    if not np.isfinite(value):
        return "unbounded"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _minute(time: np.datetime64) -> str:
    return str(time.astype("datetime64[m]")).replace("T", " ")


def _range(time_range: TimeRange) -> str:
    return f"{_minute(np.datetime64(time_range.start))} to {_minute(np.datetime64(time_range.end))}"


def _duration(seconds: int) -> str:
    return f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"
