"""What a comparison found: contenders beside baselines on the same test windows, as table and JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mods_grpc.artifact import Metric
from mods_grpc.errors import DataError
from training.data.series import DataReport, Series, in_each
from training.data.source import SourceConfig, load
from training.data.time_range import Interval, parse_interval
from training.data.windows import Samples, take
from training.evaluation.baselines import fit_baselines
from training.evaluation.evaluation import finite
from training.evaluation.metrics import find, geometric_mean
from training.evaluation.scoring import evaluate, score_forecasts
from training.experiments.contenders import Contender
from training.export.model_card import milestones
from training.export.onnx_forecaster import open_graph
from training.fitting.prepare import Prepared
from training.network.config import ModelConfig
from training.network.original_sizes import original_parameters

SCHEMA = 1

TEST, APART = "test", "apart"
"""Ranges that models are scored on: that of the test, and one that is told of apart from it."""

Scores = Mapping[str, tuple[Metric, ...]]
"""Metrics by the name of a contender or a baseline."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Windows of a range and the series that they are of."""

    series: Series
    samples: Samples


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Contenders in the order they were fitted, and what they and the baselines scored, by range; none without one."""

    contenders: tuple[Contender, ...]
    scores: Mapping[str, Scores]
    names: tuple[str, ...]
    horizon: int
    report: DataReport

    @property
    def steps(self) -> list[int]:
        """Steps that are told of in tables: 1, 6 and 12 as far as the horizon reaches, and the last."""
        return [step for step in milestones(self.horizon) if step in {1, 6, 12, self.horizon}]

    def scored(self, part: str = TEST) -> Scores:
        """Return the metrics on a range, contenders first; without a test range the contenders have none."""
        unscored: Scores = {contender.run.model.model_type: () for contender in self.contenders} if part == TEST else {}
        return {**unscored, **self.scores.get(part, {})}


def parts_to_score(source: SourceConfig, model: ModelConfig, prepared: Prepared, apart: str) -> dict[str, Part]:
    """Return the test range and the one apart, as far as there are such.

    Args:
        source: Where the data is.
        model: Options of the contenders.
        prepared: The data up to the end of the test range.
        apart: A range of time; empty for none. It may lie after the rest.

    Raises:
        DataError: Not a range, or one without a whole window.
    """
    parts = {TEST: Part(series=prepared.series, samples=prepared.samples["test"])} if "test" in prepared.samples else {}
    if apart:
        interval = parse_interval(apart)
        series = load(source, Interval(start=source.ranges().train.start, end=interval.end))
        samples = take(series, in_each(series, series.slice(interval)), model.rows, model.steps_ahead)
        if not len(samples):
            raise DataError(f"no windows without missing values in {interval}")
        parts[APART] = Part(series=series, samples=samples)
    return parts


def score_contender(contender: Contender, parts: Mapping[str, Part]) -> dict[str, tuple[Metric, ...]]:
    """Score an exported graph, by range; the metrics of the test range are in its manifest."""
    graph = open_graph(contender.exported.model)
    return {
        name: contender.exported.manifest.metrics
        if name == TEST
        else evaluate(graph, part.samples, part.series, contender.run.naive_error)
        for name, part in parts.items()
    }


def score_baselines(prepared: Prepared, parts: Mapping[str, Part], naive_error: Sequence[float]) -> dict[str, Scores]:
    """Fit the baselines and score them, by range."""
    if not parts:
        return {}
    baselines = fit_baselines(prepared.series, prepared.samples["train"], prepared.samples["validation"])
    return {
        name: {
            str(baseline): score_forecasts(
                baseline.forecast(part.series, part.samples.origins), part.samples, part.series, naive_error
            )
            for baseline in baselines
        }
        for name, part in parts.items()
    }


def table_rows(comparison: Comparison, *, features: bool = True) -> list[list[str]]:
    """Lay out the comparison, header first.

    "mean k" is the MAE over that of no change, averaged geometrically over features; "original" the number of parameters
    that the original system gives the architecture, see `original`. "apart k" is the mean on the range that is told of apart.

    Args:
        comparison: What was found.
        features: Whether every feature has columns of its own, and operators are told.
    """
    steps, names = comparison.steps, comparison.names
    rows = [
        ["model", "parameters", "original", "best epoch", "fit s", "epoch ms", "us", "parity", *(f"mean k={k}" for k in steps)]
    ]
    apart = comparison.scored(APART)
    rows[0] += [f"apart k={k}" for k in steps] if apart else []
    if features:
        rows[0] += [f"{name} k={k}" for k in steps for name in names]
        rows[0] += [f"SMAPE {name} k={k}" for k in steps for name in names] + ["operators"]
    known: dict[str, Contender] = {contender.run.model.model_type: contender for contender in comparison.contenders}
    for name, metrics in comparison.scored().items():
        contender = known.get(name)
        row = [name, *(_sizes(contender, len(names)) if contender else [""] * 7)]
        row += [_cell(geometric_mean(metrics, "RELATIVE_MAE", k)) for k in steps]
        row += [_cell(geometric_mean(apart[name], "RELATIVE_MAE", k)) for k in steps] if apart else []
        if features:
            for metric in ("RELATIVE_MAE", "SMAPE"):
                found = [find(metrics, metric, feature, k) for k in steps for feature in names]
                row += [_cell(m.value if m else math.nan) for m in found]
            operators = contender.operators.items() if contender else ()
            row.append(" ".join(f"{operator}:{count}" for operator, count in operators))
        rows.append(row)
    return rows


def tree(comparison: Comparison) -> Any:
    """Make the form for JSON."""
    horizon = comparison.horizon
    scored, apart = comparison.scored(), comparison.scored(APART)
    contenders = []
    for contender in comparison.contenders:
        run = contender.run
        contenders.append(
            {
                "model_type": run.model.model_type,
                "parameters": contender.exported.manifest.parameters,
                "model": asdict(run.model),
                "fit": asdict(run.fit),
                "epochs": len(run.history["loss"]),
                "best_epoch": run.best_epoch,
                "validation_loss": min(run.history["val_loss"]),
                "fit_seconds": contender.fit_seconds,
                "epoch_seconds": contender.epoch_seconds,
                "microseconds": contender.microseconds,
                "parity_error": contender.exported.parity_error,
                "operators": dict(contender.operators),
                **_metrics(scored[run.model.model_type], horizon),
            }
        )
    known = {contender["model_type"] for contender in contenders}
    return finite(
        {
            "schema": SCHEMA,
            "features": list(comparison.names),
            "horizon": horizon,
            "data": asdict(comparison.report),
            "contenders": contenders,
            "baselines": [{"name": n, **_metrics(m, horizon)} for n, m in scored.items() if n not in known],
            "apart": [{"name": n, **_metrics(m, horizon)} for n, m in apart.items()],
        }
    )


def _metrics(metrics: Sequence[Metric], horizon: int) -> dict[str, Any]:
    means = [geometric_mean(metrics, "RELATIVE_MAE", step + 1) for step in range(horizon)]
    return {"relative_mae_geometric_mean": means, "metrics": [asdict(metric) for metric in metrics]}


def _sizes(contender: Contender, features: int) -> list[str]:
    run, manifest = contender.run, contender.exported.manifest
    return [
        str(manifest.parameters),
        str(original_parameters(run.model.model_type, manifest.sequence_len, features) or "-"),
        f"{run.best_epoch}/{len(run.history['loss'])}",
        f"{contender.fit_seconds:.1f}",
        f"{1000 * contender.epoch_seconds:.0f}" if math.isfinite(contender.epoch_seconds) else "-",
        f"{contender.microseconds:.0f}",
        f"{contender.exported.parity_error:.0e}",
    ]


def _cell(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"
