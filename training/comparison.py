"""What a comparison found: contenders beside baselines on the same test windows, as table and JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mods_grpc.artifact import Metric
from training.baselines import fit_baselines
from training.card import milestones
from training.compare import Contender
from training.evaluate import score_forecasts
from training.evaluation import finite
from training.metrics import find, geometric_mean
from training.original import original_parameters
from training.prepare import Prepared
from training.series import DataReport

SCHEMA = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Contenders in the order they were fitted, and metrics of the baselines by name; none without a test range."""

    contenders: tuple[Contender, ...]
    baselines: Mapping[str, tuple[Metric, ...]]
    names: tuple[str, ...]
    horizon: int
    report: DataReport

    @property
    def steps(self) -> list[int]:
        """Steps that are told of in tables: 1, 6 and 12 as far as the horizon reaches, and the last."""
        return [step for step in milestones(self.horizon) if step in {1, 6, 12, self.horizon}]

    def scored(self) -> dict[str, tuple[Metric, ...]]:
        """Return the metrics of contenders and baselines by name."""
        found: dict[str, tuple[Metric, ...]] = {c.run.model.model_type: c.exported.manifest.metrics for c in self.contenders}
        return {**found, **self.baselines}


def score_baselines(prepared: Prepared, naive_error: Sequence[float]) -> dict[str, tuple[Metric, ...]]:
    """Fit the baselines and score them on the test windows; nothing without a test range."""
    test = prepared.samples.get("test")
    if test is None:
        return {}
    baselines = fit_baselines(prepared.series, prepared.samples["train"], prepared.samples["validation"])
    return {
        str(baseline): score_forecasts(baseline.forecast(prepared.series, test.origins), test, prepared.series, naive_error)
        for baseline in baselines
    }


def table_rows(comparison: Comparison, *, features: bool = True) -> list[list[str]]:
    """Lay out the comparison, header first.

    "mean k" is the MAE over that of no change, averaged geometrically over features; "original" the number of parameters
    that the original system gives the architecture, see `original`.

    Args:
        comparison: What was found.
        features: Whether every feature has columns of its own, and operators are told.
    """
    steps, names = comparison.steps, comparison.names
    rows = [
        ["model", "parameters", "original", "best epoch", "fit s", "epoch ms", "us", "parity", *(f"mean k={k}" for k in steps)]
    ]
    if features:
        rows[0] += [f"{name} k={k}" for k in steps for name in names]
        rows[0] += [f"SMAPE {name} k={k}" for k in steps for name in names] + ["operators"]
    known: dict[str, Contender] = {contender.run.model.model_type: contender for contender in comparison.contenders}
    for name, metrics in comparison.scored().items():
        contender = known.get(name)
        row = [name, *(_sizes(contender, len(names)) if contender else [""] * 7)]
        row += [_cell(geometric_mean(metrics, "RELATIVE_MAE", k)) for k in steps]
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
    contenders = []
    for contender in comparison.contenders:
        manifest = contender.exported.manifest
        contenders.append(
            {
                "model_type": contender.run.model.model_type,
                "parameters": manifest.parameters,
                "model": asdict(contender.run.model),
                "fit": asdict(contender.run.fit),
                "epochs": len(contender.run.history["loss"]),
                "best_epoch": contender.run.best_epoch,
                "validation_loss": min(contender.run.history["val_loss"]),
                "fit_seconds": contender.fit_seconds,
                "epoch_seconds": contender.epoch_seconds,
                "microseconds": contender.microseconds,
                "parity_error": contender.exported.parity_error,
                "operators": dict(contender.operators),
                **_metrics(manifest.metrics, comparison.horizon),
            }
        )
    return finite(
        {
            "schema": SCHEMA,
            "features": list(comparison.names),
            "horizon": comparison.horizon,
            "data": asdict(comparison.report),
            "contenders": contenders,
            "baselines": [{"name": n, **_metrics(m, comparison.horizon)} for n, m in comparison.baselines.items()],
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
