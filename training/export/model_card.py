"""MODEL_CARD.md: what a person should know before trusting a model."""

from collections.abc import Mapping, Sequence

from mods_grpc.artifact import Manifest, Metric
from training.data.series import DataReport
from training.data.windows import PARTS
from training.evaluation.metrics import find
from training.evaluation.scoring import Replay
from training.fitting.prepare import LEAST_CALIBRATION_SAMPLES
from training.fitting.run import Run

MILESTONES = (1, 3, 6, 12, 24, 36)


def write_card(
    run: Run,
    manifest: Manifest,
    replayed: Replay | None,
    *,
    parity_error: float,
    batch_graph: str = "",
    title: str = "",
    command: str = "",
) -> str:
    """Write the card of a model version in Markdown; `batch_graph` is what there is to say of the second graph."""
    sections = [
        _head(run, manifest, title),
        _data(run),
        _metrics(manifest),
        _detection(manifest, replayed),
        _limits(run, manifest),
        _reproduction(run, manifest, parity_error, batch_graph, command),
    ]
    return "\n\n".join(sections) + "\n"


def recalibrated_card(card: str, manifest: Manifest, replayed: Replay | None, *, command: str) -> str:
    """Return the card of a model that was calibrated anew by `command`, from the one that it had."""
    head, _, rest = card.partition("\n\n")
    before, detection, after = rest.partition("## Detection")
    limits = after[after.find("## Limits") :] if detection else ""
    ranges = manifest.calibration_range
    text = _detection(manifest, replayed) + (
        f"\n\nCalibrated anew on {ranges.start} to {ranges.end}, the graph as it was, by\n\n```\n{command}\n```"
    )
    assert head.startswith("# ")
    return f"# {manifest.name}, version {manifest.version}\n\n{before}{text}\n\n{limits}"


def milestones(horizon: int) -> list[int]:
    """Return the steps worth showing: 1, 6, 12 and so on, and the last one."""
    return sorted({step for step in MILESTONES if step <= horizon} | {horizon})


def _head(run: Run, manifest: Manifest, title: str) -> str:
    model = run.model
    sees = ("first differences and the last level of " if model.level else "first differences of ") if model.model_delta else ""
    space = "log(1 + x) of the raw values" if model.transform == "log1p" else "the raw values"
    space += ", measured by the size of each window's own differences" if model.window_scale else ""
    lines = [
        f"# {manifest.name}, version {manifest.version}",
        *([title] if title else []),
        (
            f"{_architecture(run)} with {manifest.parameters:,} parameters. From the last {manifest.rows} rows of raw values it "
            f"forecasts the next {manifest.horizon}, one row every {manifest.slide_seconds} s over windows of "
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


def _architecture(run: Run) -> str:
    model = run.model
    name = f"Mean of {' and '.join(model.member_types)}" if model.member_types else model.model_type
    name += ", each beside a linear map of the window," if model.member_types and model.linear else ""
    name += " beside a linear map of the window," if model.linear and not model.member_types else ""
    name += " which sees time of day and day of week," if model.calendar else ""
    return name + (f", which emits the quantiles {model.quantiles} too," if model.quantiles else "")


def _data(run: Run) -> str:
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
                f"Between neighbouring parts lies a gap of {gap} rows (one window plus one horizon) at the end of the earlier "
                "one. The scaler saw the training part only; early stopping watched the validation part; calibration and test "
                f"parts were not used in fitting. Digest of the data: `{run.data_digest}`."
            ),
            _report(run.report),
        ]
    )


def _report(report: DataReport) -> str:
    def by_name(counts: Mapping[str, int]) -> str:
        return ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "none"

    return (
        f"Read: {report.series} series, {report.rows} rows. Duplicates: {report.duplicates}. Contradicting rows: "
        f"{report.contradictions}. Rows off the grid: {report.off_grid}. Missing rows inserted: {report.inserted}. Holes: "
        f"{report.holes}, the longest of {report.longest_hole} rows. Changes of the clock: {report.clock_changes}. Missing "
        f"values: {by_name(report.missing)}; of these interpolated: {by_name(report.interpolated)}. Empty cells read as no "
        f"event: {by_name(report.zero_filled)}. "
        f"Rows in excluded ranges: {report.excluded}. What stayed missing was neither trained nor scored on."
    )


def _metrics(manifest: Manifest) -> str:
    if not manifest.metrics:
        return "## Metrics\n\nThere was no test range, so nothing is known of this model on data that it has not seen."
    steps = milestones(manifest.horizon)
    parts = [
        "## Metrics",
        "On the test range. The forecast for t+k is compared with the value at t+k; beside it, after the slash, no change.",
    ]
    for metric, caption in (("MAE", "MAE"), ("SMAPE", "SMAPE, %"), ("RMSE", "RMSE"), ("R2", "R2"), ("MASE", "MASE")):
        parts.append(_metric_table(manifest.metrics, metric, caption, manifest, steps))
    parts.append(
        "MAE relative to that of no change, and to that of the value one day before (below 1 is better):\n\n"
        + _relative_table(manifest, steps)
    )
    if manifest.window_seconds > manifest.slide_seconds:
        overlap = -(-manifest.window_seconds // manifest.slide_seconds)
        parts.append(f"Windows overlap: up to k = {overlap - 1} a window shares events with the last one seen.")
    return "\n\n".join(parts)


def _metric_table(metrics: Sequence[Metric], metric: str, caption: str, manifest: Manifest, steps: Sequence[int]) -> str:
    rows = []
    for feature in manifest.features:
        found = [find(metrics, metric, feature.name, step) for step in steps]
        rows.append([feature.name, *(f"{m.value:.4g} / {m.persistence:.4g}" if m else "-" for m in found)])
    return _table([caption, *(f"k = {step}" for step in steps)], rows)


def _relative_table(manifest: Manifest, steps: Sequence[int]) -> str:
    rows = []
    for feature in manifest.features:
        pairs = [
            tuple(find(manifest.metrics, metric, feature.name, step) for metric in ("RELATIVE_MAE", "RELATIVE_MAE_SEASONAL"))
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
            f"{replayed.episodes_per_day:.2f} a day. The test range is not known to be free of anomalies, so not all of them are "
            "false."
        )
    return text


def _limits(run: Run, manifest: Manifest) -> str:
    calibration = run.samples["calibration"]
    lines = [
        "## Limits",
        (
            "- Fitted on one network. On another one the forecasts and the false-alarm rate are not to be relied on until it is "
            "fitted and calibrated there."
        ),
        (
            "- The false-alarm rate holds while traffic is like that of the calibration range, "
            f"{manifest.calibration_range.start} to {manifest.calibration_range.end}: holidays, new services and growth are not "
            "in it."
        ),
        "- What changes slowly over days looks like growth.",
    ]
    if calibration < LEAST_CALIBRATION_SAMPLES:
        lines.append(f"- **Only {calibration} calibration windows**: p-values are coarse; take this model as an example.")
    if not run.source.validation_time_range or not run.source.calibration_time_range:
        lines.append("- Validation or calibration part, where not given, are the ends of the training range.")
    if run.interrupted:
        lines.append(f"- The fit was ended by hand after {len(run.history['loss'])} epochs.")
    return "\n".join([lines[0], "", *lines[1:]])


def _reproduction(run: Run, manifest: Manifest, parity_error: float, batch_graph: str, command: str) -> str:
    libraries = ", ".join(f"{name} {version}" for name, version in sorted(manifest.libraries.items()))
    commands = "\n".join(line for line in (run.command, command) if line)
    return (
        f"## How to make it again\n\n```\n{commands}\n```\n\nSeed {manifest.seed}; best epoch {run.best_epoch} of "
        f"{len(run.history['loss'])}. Made with {libraries}. ONNX Runtime and Keras differ by at most {parity_error:.1e} "
        f"relative, at batches of 1, 3 and 257. {batch_graph}".rstrip()
        + f"\n\nCreated {run.created}."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
