"""MODEL_CARD.md: data, metrics, limits and reproduction of a model, for people who decide whether to trust it."""

from collections.abc import Mapping, Sequence

from mods_grpc.artifact import Manifest, Metric
from mods_grpc.detection import BudgetReach
from training.data.panes.recovery import describe_panes
from training.data.series import DataReport
from training.data.windows import PARTS
from training.evaluation.metrics import find_metric
from training.evaluation.scoring import Replay
from training.fitting.prepare import MIN_CALIBRATION_SAMPLES
from training.fitting.run import TrainingRun

REPORTED_STEPS = (1, 3, 6, 12, 24, 36)


def write_card(
    run: TrainingRun,
    manifest: Manifest,
    replayed: Replay | None,
    *,
    parity_error: float,
    batch_graph: str = "",
    title: str = "",
    command: str = "",
) -> str:
    """Return the card of a model version in Markdown.

    Args:
        run: The training run.
        manifest: The model's manifest.
        replayed: The detector's alerts on the test range; None without a test range.
        parity_error: Largest error of ONNX Runtime against Keras, in the units of the parity vectors.
        batch_graph: A sentence on the second graph; empty if none was asked for.
        title: A line on what the data is.
        command: The command line that exported the model.
    """
    sections = [
        _head(run, manifest, title),
        _data(run),
        _metrics(manifest),
        _detection(manifest, replayed),
        _limits(run, manifest),
        _reproduction(run, manifest, parity_error, batch_graph, command),
    ]
    return "\n\n".join(sections) + "\n"


def write_recalibrated_card(card: str, manifest: Manifest, replayed: Replay | None, *, command: str) -> str:
    """Return the card of a model that `command` calibrated again, made from its previous card."""
    head, _, rest = card.partition("\n\n")
    data_sections, detection, later_sections = rest.partition("## Detection")
    limits = later_sections[later_sections.find("## Limits") :] if detection else ""
    ranges = manifest.calibration_range
    text = _detection(manifest, replayed) + (
        f"\n\nCalibrated again on {ranges.start} to {ranges.end}, with the same graph, by\n\n```\n{command}\n```"
    )
    assert head.startswith("# ")
    return f"# {manifest.name}, version {manifest.version}\n\n{data_sections}{text}\n\n{limits}"


def reported_steps(horizon: int) -> list[int]:
    """Return the steps that tables report: those of REPORTED_STEPS within the horizon, and the last one."""
    return sorted({step for step in REPORTED_STEPS if step <= horizon} | {horizon})


SPACES = {
    "none": "the raw values",
    "log1p": "log(1 + x) of the raw values",
    "level": "the raw values in units of each feature's level at the window's end",
}


def _head(run: TrainingRun, manifest: Manifest, title: str) -> str:
    model = run.model
    sees = ("first differences and the last level of " if model.level else "first differences of ") if model.model_delta else ""
    space = SPACES[model.transform]
    if model.transform == "level":
        sees = "the last level and " if model.level else ""
    space += ", scaled by the size of each window's own differences" if model.window_scale else ""
    lines = [
        f"# {manifest.name}, version {manifest.version}",
        *([title] if title else []),
        (
            f"{_architecture(run)} with {manifest.parameters:,} parameters. From the last {manifest.rows} rows of raw values it "
            f"forecasts the next {manifest.horizon}, one row per {manifest.slide_seconds} s over windows of "
            f"{manifest.window_seconds} s. It sees {sees}{space}, {model.sequence_len} steps; scaling and its inverse are inside "
            "the graph."
        ),
        _table(
            ["feature", "unit", "from", "kind", "training range"],
            [
                [
                    f.name,
                    f.unit,
                    f"`{f.protocol}\\|{f.column}`" if f.protocol else f"`{f.column}`",
                    f.kind,
                    f"{f.training_minimum:g} to {f.training_maximum:g}",
                ]
                for f in manifest.features
            ],
        ),
    ]
    return "\n\n".join(lines)


def _architecture(run: TrainingRun) -> str:
    model = run.model
    name = f"Mean of {' and '.join(model.member_types)}" if model.member_types else model.model_type
    name += ", each with a linear map of the window added," if model.member_types and model.linear else ""
    name += " with a linear map of the window added," if model.linear and not model.member_types else ""
    name += " which sees time of day and day of week," if model.calendar else ""
    return name + (f", which also emits the quantiles {model.quantiles}," if model.quantiles else "")


def _unseen(run: TrainingRun) -> str:
    if run.fit.refit == "none" or run.interrupted:
        return "calibration and test parts were not used in fitting."
    if run.fit.refit == "validation":
        return (
            "model was then fitted again on training and validation part with as many epochs and trees; calibration and test "
            "parts were not used in fitting."
        )
    return (
        "model was then fitted on all three parts with as many epochs and trees. The detector was calibrated on the forecasts of "
        "a model fitted on training and validation part alone, which is not published; the test part was not used in fitting."
    )


def _data(run: TrainingRun) -> str:
    rows = [
        [name, run.ranges[name].start, run.ranges[name].end, str(run.ranges[name].rows), str(run.samples[name])]
        for name in PARTS
        if name in run.ranges
    ]
    gap = run.model.rows + run.model.steps_ahead
    return "\n\n".join(
        [
            "## Data",
            _table(["part", "from", "to (exclusive)", "rows", "windows without missing values"], rows),
            (
                f"Between neighbouring parts there is a gap of {gap} rows (one window plus one horizon) at the end of the "
                "earlier one. The scaler was fitted on the training part only; early stopping used the validation part; the "
                f"{_unseen(run)} Digest of the data: `{run.data_digest}`."
            ),
            _report(run.report),
            *_panes(run),
        ]
    )


def _panes(run: TrainingRun) -> list[str]:
    """Return a paragraph on the features that come as panes; none if none do."""
    chosen = [feature.name for feature in run.features if feature.pane]
    if not chosen:
        return []
    others = [feature.name for feature in run.features if not feature.is_additive]
    text = (
        f"**Rows hold the last {run.slide_seconds} s alone of {', '.join(chosen)}** (the newest pane of the window of "
        f"{run.window_seconds} s), and must be sent so. Windows overlap, and these are plain counts or sums, which add up from "
        "panes: the graph makes the windows, knows exactly what of them will still be in the next ones, and forecasts what is "
        f"fresh. Forecasts are of whole windows. Rows by origin of their panes: {describe_panes(run.report)}."
    )
    if others:
        text += f" Distinct counts, means and the like don't add up, so rows hold the whole window of {', '.join(others)}."
    return [text]


def _report(report: DataReport) -> str:
    def by_name(counts: Mapping[str, int]) -> str:
        return ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "none"

    return (
        f"Read: {report.series} series, {report.rows} rows. Duplicates: {report.duplicates}. Contradicting rows: "
        f"{report.contradictions}. Rows off the grid: {report.off_grid}. Missing rows inserted: {report.inserted}. Gaps: "
        f"{report.holes}, the longest of {report.longest_hole} rows. Clock changes: {report.clock_changes}. Missing "
        f"values: {by_name(report.missing)}; of these interpolated: {by_name(report.interpolated)}. Empty cells read as 0: "
        f"{by_name(report.zero_filled)}. "
        f"Rows in excluded ranges: {report.excluded}. Windows with missing values were neither trained nor scored on."
    )


def _metrics(manifest: Manifest) -> str:
    if not manifest.metrics:
        return "## Metrics\n\nThere was no test range, so the model's errors on unseen data are not known."
    steps = reported_steps(manifest.horizon)
    parts = [
        "## Metrics",
        "On the test range. The forecast for t+k is compared with the value at t+k. After the slash: persistence (no change).",
    ]
    for metric, caption in (("MAE", "MAE"), ("SMAPE", "SMAPE, %"), ("RMSE", "RMSE"), ("R2", "R2"), ("MASE", "MASE")):
        parts.append(_metric_table(manifest.metrics, metric, caption, manifest, steps))
    parts.append(
        "MAE relative to persistence (no change), and to the value one day before (below 1 is better):\n\n"
        + _relative_table(manifest, steps)
    )
    if manifest.window_seconds > manifest.slide_seconds:
        overlap = -(-manifest.window_seconds // manifest.slide_seconds)
        parts.append(f"Windows overlap: up to k = {overlap - 1} the forecast window shares events with the last input window.")
    return "\n\n".join(parts)


def _metric_table(metrics: Sequence[Metric], metric: str, caption: str, manifest: Manifest, steps: Sequence[int]) -> str:
    rows = []
    for feature in manifest.features:
        by_step = [find_metric(metrics, metric, feature.name, step) for step in steps]
        rows.append([feature.name, *(f"{m.value:.4g} / {m.persistence:.4g}" if m else "-" for m in by_step)])
    return _table([caption, *(f"k = {step}" for step in steps)], rows)


def _relative_table(manifest: Manifest, steps: Sequence[int]) -> str:
    rows = []
    for feature in manifest.features:
        pairs = [
            tuple(
                find_metric(manifest.metrics, metric, feature.name, step) for metric in ("RELATIVE_MAE", "RELATIVE_MAE_SEASONAL")
            )
            for step in steps
        ]
        rows.append([feature.name, *(" / ".join(f"{m.value:.2f}" if m else "-" for m in pair) for pair in pairs)])
    return _table(["no change / day before", *(f"k = {step}" for step in steps)], rows)


def _detection(manifest: Manifest, replayed: Replay | None) -> str:
    calibration = manifest.calibration
    text = (
        f"## Detection\n\nCalibrated on {calibration.samples} windows of the calibration range, forecast by the exported graph. "
        f"Default budget: {manifest.false_alarms_per_day:g} false alarms per series and day; an episode ends after "
        f"{calibration.holdoff_rows} rows without an anomaly."
    )
    if (interval := calibration.interval) is not None:
        text += (
            " Evidence of the forecasts is how far a value lies outside the interval between its quantiles "
            f"{interval.levels[0]:g} and {interval.levels[-1]:g}, in widths of it."
        )
    if replayed is not None and replayed.scored:
        text += (
            f" Replayed over the test range at that budget: {len(replayed.episodes)} episodes in {replayed.days:.1f} days, "
            f"{replayed.episodes_per_day:.2f} per day. The test range may contain real anomalies, so not all of them are false."
        )
    warnings = BudgetReach.of(manifest, manifest.false_alarms_per_day).warnings()
    return "\n\n".join([text, *(f"**{warning[0].upper()}{warning[1:]}.**" for warning in warnings)])


def _limits(run: TrainingRun, manifest: Manifest) -> str:
    calibration = run.samples["calibration"]
    lines = [
        "## Limits",
        (
            "- Fitted on one network. On another one, do not rely on forecasts and false-alarm rate until the model is fitted "
            "and calibrated there."
        ),
        (
            "- The false-alarm rate holds while traffic resembles that of the calibration range, "
            f"{manifest.calibration_range.start} to {manifest.calibration_range.end}; it does not cover holidays, new services "
            "and growth."
        ),
        "- Changes over days are indistinguishable from growth.",
    ]
    if calibration < MIN_CALIBRATION_SAMPLES:
        lines.append(f"- **Only {calibration} calibration windows**: p-values are coarse; use this model as an example only.")
    if not run.source.validation_time_range or not run.source.calibration_time_range:
        lines.append("- Validation and calibration parts that were not given are the end of the training range.")
    if run.interrupted:
        lines.append(f"- The fit was interrupted after {len(run.history['loss'])} epochs.")
    return "\n".join([lines[0], "", *lines[1:]])


def _reproduction(run: TrainingRun, manifest: Manifest, parity_error: float, batch_graph: str, command: str) -> str:
    libraries = ", ".join(f"{name} {version}" for name, version in sorted(manifest.libraries.items()))
    commands = "\n".join(line for line in (run.command, command) if line)
    return (
        f"## Reproduction\n\n```\n{commands}\n```\n\nSeed {manifest.seed}; best epoch {run.best_epoch} of "
        f"{len(run.history['loss'])}. Made with {libraries}. ONNX Runtime and Keras differ by at most {parity_error:.1e} "
        f"of what the network's output is worth, at batches of 1, 3 and 257. {batch_graph}".rstrip()
        + f"\n\nCreated {run.created}."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
