"""Options that several commands share, under the names MODS gave them, and the configurations made of them."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

from mods_grpc.artifact import Artifact, list_versions, read_artifact
from mods_grpc.artifact.manifest import NAME_PATTERN
from mods_grpc.command_line import checked, number, numbers, parse_optional_text, parse_text, refusal, whole_number
from mods_grpc.data.datapool_layout import parse_window_slide
from mods_grpc.errors import ArtifactError, DataError
from mods_grpc.features.presets import PRESETS, find_preset
from training.cli.console import console
from training.cli.member_options import add_member_options, add_refit_options
from training.data.datapool import list_columns
from training.data.default_ranges import choose_ranges
from training.data.preset_columns import DEFAULT_PRESET, select_columns
from training.data.query import DEFAULT_QUERY, parse_query
from training.data.source import SourceConfig
from training.data.time_range import parse_interval, parse_intervals
from training.network.config import DEFAULT_MEMBERS, MODEL_TYPES, FitConfig, Loss, ModelConfig, Transform

DEFAULT_REPOSITORY = "exported"
MAX_VERSION = 10**9 - 1
MAX_SEED = 2**32 - 1
MAX_BUDGET = 86_400.0  # false alarms per day: one for each window, if windows start each second

parse_range = checked(parse_interval)
"""Type of a time range."""

_WITH_DEFAULTS = ("series_folders", "data_select_query", "interpolate", "interpolate_limit")
_ALL_TIME = "<1970,2200)"
_RANGE = "such as <2019-06-01,2019-06-03); < and > include a bound, ( and ) exclude it; a -- b includes both"


@contextmanager
def usage_errors(arguments: argparse.Namespace) -> Iterator[None]:
    """Report a DataError raised in the block as wrong usage of the command: the block only reads values of options."""
    try:
        yield
    except DataError as error:
        arguments.usage_error(error.message)


def add_source_options(parser: argparse.ArgumentParser, *, ranges: bool = True) -> None:
    """Add where the data is and how to read it.

    Args:
        parser: The parser to add to.
        ranges: Whether to add the time ranges of training, with MODS' example as default. If not, options that are not given
            are empty or None, for the command to fill in.
    """
    group = parser.add_argument_group("data")
    place = group.add_mutually_exclusive_group(required=True)
    place.add_argument(
        "--datapool",
        type=parse_optional_text,
        default="",
        metavar="DIR",
        help="folder of protocol/YYYY/MM/DD/w01h-s10m.tsv, as files or in zip archives",
    )
    place.add_argument(
        "--csv",
        type=parse_optional_text,
        default="",
        metavar="FILE",
        help="a table with a time column: CSV, TSV, gzip or Parquet",
    )
    group.add_argument(
        "--series-column",
        type=parse_optional_text,
        default="",
        metavar="S",
        help="column of --csv that names the series of each row: one model for all series",
    )
    _add_switch(
        group,
        "--series-folders",
        False,
        "each folder of the datapool holds one series, as `mods-grpc aggregate` writes them by host: one model for all",
    )
    group.add_argument(
        "--only-series", type=parse_optional_text, default="", metavar="A,B", help="names of the series to read (default: all)"
    )
    group.add_argument(
        "--time-column",
        type=parse_optional_text,
        default="",
        metavar="T",
        help="column of times of --csv (default: window_start, time, timestamp, ...)",
    )
    group.add_argument(
        "--features",
        type=parse_optional_text,
        default="",
        metavar="A,B",
        help="columns of --csv, name or name:count|sum|mean (default: those of the query)",
    )
    columns = group.add_mutually_exclusive_group()
    columns.add_argument(
        "--data-select-query",
        type=checked(parse_query),
        metavar="QUERY",
        help=f"protocol|column~alias|column;protocol|column#window_start (default: {DEFAULT_QUERY})",
    )
    if ranges:
        columns.add_argument(
            "--preset",
            choices=list(PRESETS),
            help="select the columns of a preset, those that `mods-grpc features` lists (default with --series-folders: "
            f"{DEFAULT_PRESET}, if the datapool has its columns)",
        )
    group.add_argument(
        "--window-slide",
        type=optional(parse_window_slide),
        default="",
        metavar="WS",
        help="window and slide, as in w01h-s10m (default: those of the datapool, or the step of the table)",
    )
    group.add_argument(
        "--zero-fill",
        type=parse_optional_text,
        default="",
        metavar="A,B",
        help='features whose empty cells mean "no event" and become 0',
    )
    if ranges:
        group.add_argument(
            "--panes",
            type=parse_optional_text,
            default="",
            metavar="A,B",
            help="features of which the model sees what each window's last slide counted alone, so that it forecasts only what "
            "is new in the next windows; auto: all counts and sums of which that is known (default: none)",
        )
    group.add_argument(
        "--panes-csv",
        type=parse_optional_text,
        default="",
        metavar="FILE",
        help="a table like --csv in windows of one slide, for --panes (default: panes are from w10m-s10m beside w01h-s10m in the "
        "datapool, else recovered from the sliding windows)",
    )
    _add_switch(group, "--interpolate", True, "fill short gaps linearly; longer ones are neither trained nor scored on")
    group.add_argument(
        "--interpolate-limit",
        type=whole_number(0),
        default=3,
        metavar="ROWS",
        help="longest gap to fill (default: 3)",
    )
    if ranges:
        _add_ranges(group)
    else:
        parser.set_defaults(**dict.fromkeys(_WITH_DEFAULTS))


def add_model_version_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a published model version."""
    parser.add_argument(
        "--model",
        type=parse_text,
        required=True,
        metavar="NAME",
        help="a published model; or a version of one, as in exported/campus/1",
    )
    parser.add_argument(
        "--model-version", type=whole_number(1, MAX_VERSION), default=0, metavar="N", help="its version (default: the newest)"
    )
    parser.add_argument(
        "--repository",
        type=parse_optional_text,
        default="",
        metavar="DIR",
        help=f"model repository (default: {DEFAULT_REPOSITORY}, or that of the folder)",
    )


def find_model_version(arguments: argparse.Namespace) -> tuple[Path, Artifact]:
    """Find and read the version that `add_model_version_options` named.

    Returns:
        The folder of the version, and what is in it.

    Raises:
        DataError: The repository has no such model or version.
        ArtifactError: The version can't be read. The message names its folder.
        SystemExit: The options contradict each other, or name no version.
    """
    if "/" in arguments.model:
        folder = Path(arguments.model)
        if arguments.model_version:
            arguments.usage_error("--model-version needs --model NAME; a folder already says which version")
        if not folder.name.isdigit():
            arguments.usage_error(f"--model is {arguments.model!r}, expected NAME or REPOSITORY/NAME/VERSION")
    else:
        repository = Path(arguments.repository or DEFAULT_REPOSITORY)
        published = list_versions(repository)
        versions = [version for name, version in published if name == arguments.model]
        if not versions:
            names = ", ".join(dict.fromkeys(name for name, _ in published)) or "none"
            raise DataError(f"no model {arguments.model} in {repository}; there are: {names}")
        folder = repository / arguments.model / str(arguments.model_version or max(versions))
    if not folder.is_dir():
        raise DataError(f"no model version {folder}")
    try:
        return folder, read_artifact(folder.parent.parent, folder.parent.name, int(folder.name))
    except ArtifactError as error:
        raise ArtifactError(f"{folder}: {error.message}") from error


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the network and of fitting it."""
    _add_network(parser)
    _add_fit(parser)


def source_config(arguments: argparse.Namespace) -> SourceConfig:
    """Make the data options, with ranges chosen from the data where they are not given, which is shown.

    Values that can't be used are reported as wrong usage.

    Raises:
        DataError: Ranges are to be chosen from data that can't be read.
    """
    given = {field.name: getattr(arguments, field.name) for field in fields(SourceConfig)}
    if arguments.preset and not arguments.datapool:
        arguments.usage_error("--preset names columns of a --datapool; name those of --csv with --features")
    with usage_errors(arguments):
        texts = {name: value for name, value in given.items() if value is not None}
        config = SourceConfig(**{"train_time_range": _ALL_TIME, **texts})
        config.ranges()
        config.excluded()
    if config.datapool and given["data_select_query"] is None:
        config = _select_preset(config, arguments.preset)
    missing = [name for name in ("train_time_range", "test_time_range") if given[name] is None]
    if not missing:
        return config
    config = choose_ranges(config, missing)
    shown = ", ".join(f"--{name.replace('_', '-')} {getattr(config, name) or 'none'}" for name in missing)
    console.print(f"note: chosen from the data: {shown}", style="yellow", highlight=False)
    return config


def _select_preset(config: SourceConfig, name: str | None) -> SourceConfig:
    """Select the columns of a preset, the default one for series in folders, as far as the datapool has their logs."""
    preset = find_preset(name or DEFAULT_PRESET)
    if name is None and not config.series_folders:
        return config
    columns = list_columns(Path(config.datapool), config.window_slide, newest=True)
    selected = select_columns(preset, columns)
    if name is None:
        if selected.absent or not selected.query:
            return config
        console.print(f"note: chosen from the data: --preset {DEFAULT_PRESET}", style="yellow", highlight=False)
    if selected.absent:
        raise DataError(
            f"--preset {name}: {config.datapool} has no column {', '.join(selected.absent)}; "
            "aggregate the logs again without --columns, or choose columns with --data-select-query"
        )
    if not selected.query:
        raise DataError(
            f"--preset {name}: {config.datapool} has none of {', '.join(preset.protocols)}; there are {', '.join(columns)}"
        )
    if selected.without_log:
        left_out = ", ".join(selected.without_log)
        console.print(f"note: left out, because the datapool has no such log: {left_out}", style="yellow", highlight=False)
    return replace(config, data_select_query=selected.query)


def model_config(arguments: argparse.Namespace) -> ModelConfig:
    """Make the network's options. Values that can't be used are reported as wrong usage."""
    with usage_errors(arguments):
        config = ModelConfig(**{field.name: getattr(arguments, field.name) for field in fields(ModelConfig)})
    return config  # noqa: RET504  # for mypy a context manager may swallow the error


def fit_config(arguments: argparse.Namespace) -> FitConfig:
    """Make the options of fitting. Values that can't be used are reported as wrong usage."""
    with usage_errors(arguments):
        config = FitConfig(
            epochs=arguments.epochs,
            patience=arguments.epochs_patience,
            batch_size=arguments.batch_size,
            learning_rate=arguments.learning_rate,
            tree_rate=arguments.tree_rate,
            refit=arguments.refit,
            loss=arguments.loss,
            averaging=arguments.averaging,
            seed=arguments.seed,
        )
    return config  # noqa: RET504  # as above


def parse_model_name(text: str) -> str:
    """Accept the name of a model to publish."""
    if not NAME_PATTERN.fullmatch(text):
        raise refusal("a name of 1 to 64 of a-z, 0-9, _ and -, beginning with a letter or digit", text)
    return text


def optional(check: Callable[[str], object]) -> Callable[[str], str]:
    """Return a type for text that may be empty; else `check` must accept it."""
    return checked(lambda text: check(text) if text else None, parse_optional_text)


def _add_switch(group: "argparse._ArgumentGroup", option: str, default: bool, help_text: str) -> None:
    """Add an option that can be negated as `--no-…`."""
    help_text = f"{help_text} (default: {'yes' if default else 'no'})".lstrip()
    group.add_argument(option, action=argparse.BooleanOptionalAction, default=default, help=help_text)


def _add_network(parser: argparse.ArgumentParser) -> None:
    model = ModelConfig()
    group = parser.add_argument_group("model")
    group.add_argument("--model-type", default=model.model_type, choices=MODEL_TYPES, help="architecture (default: %(default)s)")
    group.add_argument(
        "--sequence-len",
        type=whole_number(2, 4096),
        default=model.sequence_len,
        metavar="N",
        help="steps that the network sees (default: %(default)s)",
    )
    group.add_argument(
        "--steps-ahead",
        type=whole_number(1, 1024),
        default=model.steps_ahead,
        metavar="N",
        help="horizon: forecast the steps 1..N (default: %(default)s)",
    )
    _add_switch(group, "--model-delta", model.model_delta, "see and forecast first differences")
    _add_switch(group, "--level", model.level, "with --model-delta, replace the oldest difference by the level of the last row")
    _add_switch(
        group,
        "--window-scale",
        model.window_scale,
        "with --model-delta, scale each window by its own differences: for series of different size",
    )
    group.add_argument(
        "--transform",
        choices=get_args(Transform),
        default=model.transform,
        help="transform of raw values; level divides them by the feature's level at the window's end (default: %(default)s)",
    )
    _add_switch(group, "--linear", model.linear, "add a linear map from the window to the forecast")
    _add_switch(
        group, "--calendar", model.calendar, "see time of day and day of week; the graph then takes the time of each window"
    )
    group.add_argument(
        "--quantiles",
        type=optional(numbers(number(above=0, below=1))),
        default=model.quantiles,
        metavar="Q,Q",
        help="quantiles to emit as a second output, such as 0.05,0.5,0.95",
    )
    group.add_argument(
        "--members",
        type=parse_optional_text,
        default=model.members,
        metavar="M,M",
        help=f"model types of an ensemble (default: {DEFAULT_MEMBERS})",
    )
    add_member_options(group)
    group.add_argument(
        "--blocks",
        type=whole_number(1, 4096),
        default=model.blocks,
        metavar="N",
        help="units or filters of a layer (default: %(default)s)",
    )
    group.add_argument(
        "--stacked-blocks",
        type=whole_number(1, 32),
        default=model.stacked_blocks,
        metavar="N",
        help="layers (default: %(default)s)",
    )
    _add_switch(group, "--batch-normalization", model.batch_normalization, "normalize hidden layers over the batch")
    group.add_argument(
        "--dropout-rate",
        type=number(minimum=0, below=1, what="a share"),
        default=model.dropout_rate,
        metavar="P",
        help="dropout between hidden layers; 0 is none (default: %(default)s)",
    )


def _add_fit(parser: argparse.ArgumentParser) -> None:
    fit = FitConfig()
    group = parser.add_argument_group("fit")
    group.add_argument(
        "--epochs",
        "--num-epochs",
        type=whole_number(1),
        default=fit.epochs,
        metavar="N",
        help="maximum number of epochs (default: %(default)s)",
    )
    group.add_argument(
        "--epochs-patience",
        type=whole_number(1),
        default=fit.patience,
        metavar="N",
        help="stop after N epochs without a better validation loss (default: %(default)s)",
    )
    group.add_argument(
        "--batch-size", type=whole_number(1), default=fit.batch_size, metavar="N", help="windows per step (default: %(default)s)"
    )
    group.add_argument(
        "--learning-rate",
        type=number(above=0, maximum=10),
        default=fit.learning_rate,
        metavar="X",
        help="learning rate of Adam (default: %(default)s)",
    )
    group.add_argument("--loss", choices=get_args(Loss), default=fit.loss, help="loss to minimize (default: %(default)s)")
    group.add_argument(
        "--averaging",
        type=number(minimum=0, below=1),
        default=fit.averaging,
        metavar="M",
        help="momentum of the moving average of weights to keep instead of the last weights (default: none)",
    )
    group.add_argument(
        "--seed",
        type=whole_number(0, MAX_SEED),
        default=fit.seed,
        metavar="N",
        help="seed of weights, batches, dropout and trees (default: %(default)s)",
    )
    add_refit_options(group)


def _add_ranges(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--train-time-range",
        type=parse_range,
        metavar="RANGE",
        help=f"{_RANGE} (default: all data before the test range)",
    )
    group.add_argument(
        "--train-time-ranges-excluded",
        type=optional(parse_intervals),
        default="",
        metavar="RANGES",
        help="comma-separated ranges to exclude",
    )
    group.add_argument(
        "--validation-time-range",
        type=optional(parse_interval),
        default="",
        metavar="RANGE",
        help="default: the end of the training range, before calibration",
    )
    group.add_argument(
        "--calibration-time-range",
        type=optional(parse_interval),
        default="",
        metavar="RANGE",
        help="default: the very end of the training range",
    )
    group.add_argument(
        "--test-time-range",
        type=optional(parse_interval),
        metavar="RANGE",
        help="default: the data after the training range, or the last fifth of all data, in whole days; empty for none",
    )
    group.add_argument(
        "--test-time-ranges-excluded",
        type=optional(parse_intervals),
        default="",
        metavar="RANGES",
        help="comma-separated ranges to exclude",
    )
    group.add_argument(
        "--validation-share",
        type=number(above=0, below=1, what="a share"),
        default=0.15,
        metavar="P",
        help="share of the training range (default: %(default)s)",
    )
    group.add_argument(
        "--calibration-share",
        type=number(above=0, below=1, what="a share"),
        default=0.25,
        metavar="P",
        help="share of the training range (default: %(default)s)",
    )
