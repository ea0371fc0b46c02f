"""The results of a comparison: candidates and baselines on the same test windows, as a table and as JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mods_grpc.artifact import Metric
from mods_grpc.artifact.strict_json import to_jsonable
from mods_grpc.errors import DataError
from training.data.series import DataReport, Series, per_series
from training.data.source import SourceConfig, load_series
from training.data.time_range import Interval, parse_interval
from training.data.windows import Samples, make_samples
from training.evaluation.baselines import fit_baselines
from training.evaluation.boosted import fit_lightgbm
from training.evaluation.metrics import PERSISTENCE, find_metric, geometric_mean
from training.evaluation.scoring import score_forecasts, score_model
from training.experiments.candidates import Candidate
from training.export.model_card import reported_steps
from training.export.onnx_forecaster import open_graph
from training.fitting.prepare import TrainingData
from training.network.config import ModelConfig
from training.network.original_sizes import count_original_parameters

SCHEMA = 1

TEST, APART = "test", "apart"
"""Ranges to score on: the test range, and an optional further range that is reported apart."""

Scores = Mapping[str, tuple[Metric, ...]]
"""Metrics by name of the candidate or baseline."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringRange:
    """The samples of a range, and the series that they are from."""

    series: Series
    samples: Samples


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Candidates in the order of fitting, and the scores of candidates and baselines by range, for the ranges that there are."""

    candidates: tuple[Candidate, ...]
    scores: Mapping[str, Scores]
    names: tuple[str, ...]
    horizon: int
    report: DataReport

    @property
    def steps(self) -> list[int]:
        """Steps that tables report: 1, 6 and 12 as far as the horizon reaches, and the last."""
        return [step for step in reported_steps(self.horizon) if step in {1, 6, 12, self.horizon}]

    def scored(self, part: str = TEST) -> Scores:
        """Return the metrics on a range, candidates first. Without a test range the candidates have no metrics."""
        unscored: Scores = {candidate.run.model.model_type: () for candidate in self.candidates} if part == TEST else {}
        return {**unscored, **self.scores.get(part, {})}


def select_scoring_ranges(source: SourceConfig, model: ModelConfig, data: TrainingData, apart: str) -> dict[str, ScoringRange]:
    """Return the test range and the further range, those of them that there are.

    Args:
        source: Options of the data.
        model: Options of the candidates.
        data: The data up to the end of the test range.
        apart: The further time range, which may lie after all others; empty for none.

    Raises:
        DataError: Not a range, or one without a window without missing values.
    """
    parts = {TEST: ScoringRange(series=data.series, samples=data.samples["test"])} if "test" in data.samples else {}
    if apart:
        interval = parse_interval(apart)
        series = load_series(source, Interval(start=source.ranges().train.start, end=interval.end))
        samples = make_samples(series, per_series(series, series.slice(interval)), model.rows, model.steps_ahead)
        if not len(samples):
            raise DataError(f"no windows without missing values in {interval}")
        parts[APART] = ScoringRange(series=series, samples=samples)
    return parts


def score_candidate(candidate: Candidate, parts: Mapping[str, ScoringRange]) -> dict[str, tuple[Metric, ...]]:
    """Score a candidate's graph on each range. The metrics of the test range are those of its manifest."""
    graph = open_graph(candidate.exported.model)
    return {
        name: candidate.exported.manifest.metrics
        if name == TEST
        else score_model(graph, part.samples, part.series, candidate.run.naive_error)
        for name, part in parts.items()
    }


def score_baselines(
    data: TrainingData, parts: Mapping[str, ScoringRange], naive_error: Sequence[float], *, lightgbm: bool = False
) -> dict[str, Scores]:
    """Fit the baselines, with `lightgbm` also that anchor, and score them on each range."""
    if not parts:
        return {}
    baselines = list(fit_baselines(data.series, data.samples["train"], data.samples["validation"]))
    if lightgbm:
        baselines.append(fit_lightgbm(data.series, data.samples["train"], data.samples["validation"]))
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
    """Lay out the comparison as rows of cells, header first.

    "mean k" is the MAE relative to persistence, averaged geometrically over features; "apart k" is the same on the further
    range. "original" is the number of parameters of the original system's model, see `original_sizes`.

    Args:
        comparison: The results.
        features: Whether to add columns for every feature, and the operators.
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
    candidates: dict[str, Candidate] = {candidate.run.model.model_type: candidate for candidate in comparison.candidates}
    for name, metrics in comparison.scored().items():
        candidate = candidates.get(name)
        row = [name, *(_sizes(candidate, len(names)) if candidate else [""] * 7)]
        row += [_cell(geometric_mean(metrics, "RELATIVE_MAE", k)) for k in steps]
        row += [_cell(geometric_mean(apart[name], "RELATIVE_MAE", k)) for k in steps] if apart else []
        if features:
            for metric in ("RELATIVE_MAE", "SMAPE"):
                values = [find_metric(metrics, metric, feature, k) for k in steps for feature in names]
                row += [_cell(m.value if m else math.nan) for m in values]
            operators = candidate.operators.items() if candidate else ()
            row.append(" ".join(f"{operator}:{count}" for operator, count in operators))
        rows.append(row)
    return rows


def describe_verdict(scores: Scores, steps: Sequence[int]) -> str:
    """Say in one sentence which model is best at each step, and where none beats no change; empty without scores."""
    parts = []
    for step in steps:
        errors = {name: geometric_mean(metrics, "RELATIVE_MAE", step) for name, metrics in scores.items() if metrics}
        errors = {name: error for name, error in errors.items() if math.isfinite(error) and name != PERSISTENCE}
        if not errors:
            continue
        best = min(errors, key=lambda name: errors[name])
        if errors[best] < 1:
            parts.append(f"{best} at k = {step} with {errors[best]:.3f} times the error of no change")
        else:
            parts.append(f"none beats no change at k = {step} (the nearest: {best}, {errors[best]:.3f} times its error)")
    return f"best: {'; '.join(parts)}" if parts else ""


def to_tree(comparison: Comparison) -> Any:
    """Return the form for JSON."""
    horizon = comparison.horizon
    scored, apart = comparison.scored(), comparison.scored(APART)
    candidates = []
    for candidate in comparison.candidates:
        run = candidate.run
        candidates.append(
            {
                "model_type": run.model.model_type,
                "parameters": candidate.exported.manifest.parameters,
                "model": asdict(run.model),
                "fit": asdict(run.fit),
                "epochs": len(run.history["loss"]),
                "best_epoch": run.best_epoch,
                "validation_loss": min(run.history["val_loss"]),
                "fit_seconds": candidate.fit_seconds,
                "epoch_seconds": candidate.epoch_seconds,
                "microseconds": candidate.microseconds,
                "parity_error": candidate.exported.parity_error,
                "operators": dict(candidate.operators),
                **_metrics(scored[run.model.model_type], horizon),
            }
        )
    fitted_names = {candidate["model_type"] for candidate in candidates}
    return to_jsonable(
        {
            "schema": SCHEMA,
            "features": list(comparison.names),
            "horizon": horizon,
            "data": asdict(comparison.report),
            "contenders": candidates,
            "baselines": [{"name": n, **_metrics(m, horizon)} for n, m in scored.items() if n not in fitted_names],
            "apart": [{"name": n, **_metrics(m, horizon)} for n, m in apart.items()],
        },
        non_finite_as_null=True,
    )


def _metrics(metrics: Sequence[Metric], horizon: int) -> dict[str, Any]:
    means = [geometric_mean(metrics, "RELATIVE_MAE", step + 1) for step in range(horizon)]
    return {"relative_mae_geometric_mean": means, "metrics": [asdict(metric) for metric in metrics]}


def _sizes(candidate: Candidate, features: int) -> list[str]:
    run, manifest = candidate.run, candidate.exported.manifest
    return [
        str(manifest.parameters),
        str(count_original_parameters(run.model.model_type, manifest.sequence_len, features) or "-"),
        f"{run.best_epoch}/{len(run.history['loss'])}",
        f"{candidate.fit_seconds:.1f}",
        f"{1000 * candidate.epoch_seconds:.0f}" if math.isfinite(candidate.epoch_seconds) else "-",
        f"{candidate.microseconds:.0f}",
        f"{candidate.exported.parity_error:.0e}",
    ]


def _cell(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"
