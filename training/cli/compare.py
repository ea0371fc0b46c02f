"""The command `compare`: architectures and baselines on the same data, as a table, JSON and a picture."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from mods_grpc.artifact import Metric
from mods_grpc.command_line import parse_optional_text, parse_text
from mods_grpc.errors import DataError
from training.cli.console import console, epoch_progress, format_command, show_data
from training.cli.options import (
    add_model_options,
    add_source_options,
    fit_config,
    model_config,
    optional,
    parse_model_name,
    source_config,
)
from training.data.time_range import parse_interval
from training.experiments.candidates import Candidate, fit_candidates
from training.experiments.comparison import (
    Comparison,
    Scores,
    describe_verdict,
    score_baselines,
    score_candidate,
    select_scoring_ranges,
    table_rows,
    to_tree,
)
from training.experiments.comparison_plot import draw_comparison
from training.fitting.prepare import TrainingData, list_warnings, prepare_data
from training.network.config import MODEL_TYPES, ModelType
from training.reporting.figures import render_figure

TABLE_FILE, TREE_FILE, PICTURE_FILE = "compare.tsv", "compare.json", "compare.png"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `compare`."""
    add_source_options(parser)
    add_model_options(parser)
    parser.add_argument(
        "--name",
        type=parse_model_name,
        default="compare",
        metavar="NAME",
        help="prefix of the models' names (default: %(default)s)",
    )
    parser.add_argument(
        "--repository", type=parse_optional_text, default="", metavar="DIR", help="publish every model in this repository"
    )
    parser.add_argument(
        "--model-types",
        "--models",
        dest="model_types",
        type=optional(_parse_model_types),
        default="",
        metavar="A,B",
        help="architectures (default: all); ridge and trees see level and calendar in any case",
    )
    parser.add_argument(
        "--lightgbm",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare with LightGBM of as many trees as it wants, which takes minutes and is not exported (default: yes)",
    )
    parser.add_argument(
        "--apart-time-range",
        type=optional(parse_interval),
        default="",
        metavar="RANGE",
        help="score this range as well, reported apart from the test range",
    )
    parser.add_argument(
        "--output",
        type=parse_text,
        default="build/comparison",
        metavar="DIR",
        help="write compare.tsv, .json, .png here (default: %(default)s)",
    )


def run_command(arguments: argparse.Namespace) -> None:
    """Fit, export and measure architectures on the same data. The results so far are written after each.

    Raises:
        KeyboardInterrupt: Ctrl-C ended the comparison; the models that were finished are shown and written.
    """
    model, options = model_config(arguments), fit_config(arguments)
    source = source_config(arguments)
    model_types = _parse_model_types(arguments.model_types)
    data = prepare_data(source, model)
    show_data(data, list_warnings(source, data))
    ranges = select_scoring_ranges(source, model, data, arguments.apart_time_range)
    folder = Path(arguments.output)
    candidates: list[Candidate] = []
    scores: dict[str, dict[str, tuple[Metric, ...]]] = {name: {} for name in ranges}
    baselines: Mapping[str, Scores] = {}
    comparison: Comparison | None = None
    try:
        with epoch_progress(options.epochs) as make_listener:
            for candidate in fit_candidates(
                source,
                model,
                options,
                data,
                name=arguments.name,
                model_types=model_types,
                command=format_command(arguments.argv),
                make_listener=make_listener,
            ):
                candidates.append(candidate)
                baselines = baselines or score_baselines(data, ranges, candidate.run.naive_error, lightgbm=arguments.lightgbm)
                for name, metrics in score_candidate(candidate, ranges).items():
                    scores[name][candidate.run.model.model_type] = metrics
                comparison = _make_comparison(candidates, data, {name: {**scores[name], **baselines[name]} for name in ranges})
                _write(folder, comparison)
                if arguments.repository:
                    _publish(Path(arguments.repository), candidate)
    except KeyboardInterrupt:
        console.print(f"interrupted after {len(candidates)} of {len(model_types)} models", style="yellow", highlight=False)
        if comparison is not None:
            _show(comparison, arguments.apart_time_range, folder)
        raise
    if comparison is not None:
        _show(comparison, arguments.apart_time_range, folder)


def _publish(repository: Path, candidate: Candidate) -> None:
    from training.export.publish import publish_run  # noqa: PLC0415  # TensorFlow takes seconds to load

    publish_run(repository, candidate.run, candidate.exported)


def _show(comparison: Comparison, apart_time_range: str, folder: Path) -> None:
    rows = table_rows(comparison, features=False)
    apart = f"; apart: the same on {apart_time_range}" if apart_time_range else ""
    table = Table(*rows[0], title=f"comparison on the test range; mean: MAE / no change over all features{apart}")
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table)
    if verdict := describe_verdict(comparison.scored(), comparison.steps):
        console.print(verdict, highlight=False)
    console.print(f"{TABLE_FILE}, {TREE_FILE} and {PICTURE_FILE} written to {folder}", highlight=False)


def _parse_model_types(text: str) -> tuple[ModelType, ...]:
    """Parse a comma-separated list of architectures; empty means all. They are returned in the order of MODEL_TYPES."""
    requested = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in requested if name not in MODEL_TYPES]:
        raise DataError(f"expected architectures of {', '.join(MODEL_TYPES)}, found {', '.join(unknown)}")
    return tuple(name for name in MODEL_TYPES if name in requested) if requested else MODEL_TYPES


def _make_comparison(candidates: Sequence[Candidate], data: TrainingData, scores: Mapping[str, Scores]) -> Comparison:
    return Comparison(
        candidates=tuple(candidates),
        scores=scores,
        names=tuple(data.series.names),
        horizon=data.samples["train"].targets.shape[1],
        report=data.series.report,
    )


def _write(folder: Path, comparison: Comparison) -> None:
    text = "\n".join("\t".join(row) for row in table_rows(comparison)) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TABLE_FILE).write_text(text, encoding="utf-8")
        (folder / TREE_FILE).write_text(json.dumps(to_tree(comparison), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (folder / PICTURE_FILE).write_bytes(render_figure(lambda: draw_comparison(comparison)))
    except OSError as error:
        raise DataError(f"cannot write the comparison to {folder}: {error.strerror}") from error
