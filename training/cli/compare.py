"""The command `compare`: architectures and baselines on the same data, as a table, JSON and a picture."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from mods_grpc.artifact import Metric
from mods_grpc.errors import DataError
from training.cli.console import console, epoch_progress, show_data
from training.cli.options import fit_config, model_config, source_config
from training.cli.redacted_command import tell
from training.experiments.comparison import Comparison, Scores, parts_to_score, score_baselines, score_contender, table_rows, tree
from training.experiments.comparison_plot import comparison_figure
from training.experiments.contenders import Contender, compare
from training.export.publish import publish_run
from training.fitting.prepare import Prepared, prepare, warnings_about
from training.network.config import MODEL_TYPES, ModelType
from training.reporting.figures import render

TABLE_FILE, TREE_FILE, PICTURE_FILE = "compare.tsv", "compare.json", "compare.png"


def compare_command(arguments: argparse.Namespace) -> None:
    """Fit, export and measure architectures on the same data; what is done is written after each."""
    source, model, options = source_config(arguments), model_config(arguments), fit_config(arguments)
    model_types = _model_types(arguments.models)
    prepared = prepare(source, model)
    show_data(prepared, warnings_about(source, prepared))
    parts = parts_to_score(source, model, prepared, arguments.apart_time_range)
    folder = Path(arguments.output)
    contenders: list[Contender] = []
    scores: dict[str, dict[str, tuple[Metric, ...]]] = {name: {} for name in parts}
    baselines: Mapping[str, Scores] = {}
    with epoch_progress(options.epochs) as listener_of:
        for contender in compare(
            source,
            model,
            options,
            prepared,
            name=arguments.name,
            model_types=model_types,
            command=tell(arguments.argv),
            listener_of=listener_of,
        ):
            contenders.append(contender)
            baselines = baselines or score_baselines(prepared, parts, contender.run.naive_error)
            for name, metrics in score_contender(contender, parts).items():
                scores[name][contender.run.model.model_type] = metrics
            comparison = _gather(contenders, prepared, {name: {**scores[name], **baselines[name]} for name in parts})
            _write(folder, comparison)
            if arguments.repository:
                publish_run(Path(arguments.repository), contender.run, contender.exported)
    rows = table_rows(comparison, features=False)
    apart = f"; apart: the same on {arguments.apart_time_range}" if arguments.apart_time_range else ""
    title = f"comparison on the test range; mean: MAE / no change over all features{apart}"
    table = Table(*rows[0], title=title)
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table)
    console.print(f"{TABLE_FILE}, {TREE_FILE} and {PICTURE_FILE} written to {folder}", highlight=False)


def _model_types(text: str) -> tuple[ModelType, ...]:
    """Read a comma-separated list of architectures; empty means all."""
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in MODEL_TYPES]:
        raise DataError(f"no architecture {', '.join(unknown)}; there are {', '.join(MODEL_TYPES)}")
    return tuple(known for known in MODEL_TYPES if known in wanted) if wanted else MODEL_TYPES


def _gather(contenders: Sequence[Contender], prepared: Prepared, scores: Mapping[str, Scores]) -> Comparison:
    return Comparison(
        contenders=tuple(contenders),
        scores=scores,
        names=tuple(prepared.series.names),
        horizon=prepared.samples["train"].targets.shape[1],
        report=prepared.series.report,
    )


def _write(folder: Path, comparison: Comparison) -> None:
    text = "\n".join("\t".join(row) for row in table_rows(comparison)) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TABLE_FILE).write_text(text, encoding="utf-8")
        (folder / TREE_FILE).write_text(json.dumps(tree(comparison), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (folder / PICTURE_FILE).write_bytes(render(lambda: comparison_figure(comparison)))
    except OSError as error:
        raise DataError(f"cannot write the comparison to {folder}: {error.strerror}") from error
