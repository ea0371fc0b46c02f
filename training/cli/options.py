"""Options of the command line, under the names MODS gave them, and their way into the frozen configurations."""

import argparse
from dataclasses import fields
from typing import get_args

from training.data.query import DEFAULT_QUERY
from training.data.source import DEFAULT_WINDOW_SLIDE, SourceConfig
from training.network.config import DEFAULT_MEMBERS, MODEL_TYPES, FitConfig, Loss, ModelConfig

# The example of the original system: two days to train on, one to test on.
DEFAULT_TRAIN_RANGE = "<2019-06-01,2019-06-03)"
DEFAULT_TEST_RANGE = "<2019-06-03,2019-06-04)"

_WITH_DEFAULTS = ("series_folders", "time_column", "data_select_query", "interpolate", "interpolate_limit")
_RANGE = "such as <2019-06-01,2019-06-03); < and > include a bound, ( and ) leave it out; a -- b includes both"


def add_source_options(parser: argparse.ArgumentParser, *, ranges: bool = True) -> None:
    """Add where the data is and how it is read.

    Args:
        parser: Gets the options.
        ranges: Whether the ranges of training are options too, with MODS' example as default. Without them what is not said is
            empty or None, for the command to fill in.
    """
    group = parser.add_argument_group("data")
    place = group.add_mutually_exclusive_group(required=True)
    place.add_argument(
        "--datapool", default="", metavar="DIR", help="folder of protocol/YYYY/MM/DD/w01h-s10m.tsv, loose or in zips"
    )
    place.add_argument("--csv", default="", metavar="FILE", help="a comma- or tab-separated table with a time column instead")
    group.add_argument(
        "--series-column",
        default="",
        metavar="S",
        help="column of --csv that names the series of a row: one model for all of them",
    )
    _switch(
        group,
        "--series-folders",
        False,
        "each folder in the datapool is that of a series, as aggregate writes them by host: one model for all",
    )
    group.add_argument("--only-series", default="", metavar="A,B", help="names of the series to read (default: all)")
    group.add_argument(
        "--time-column",
        default="window_start",
        metavar="T",
        help="column of times of --csv (default: window_start)",
    )
    group.add_argument(
        "--features", default="", metavar="A,B", help="columns of --csv, name or name:count|sum|mean; default: those of the query"
    )
    group.add_argument(
        "--data-select-query",
        default=DEFAULT_QUERY,
        metavar="QUERY",
        help=f"protocol|column~alias|column;protocol|column#window_start (default: {DEFAULT_QUERY})",
    )
    group.add_argument(
        "--window-slide",
        default="",
        metavar="WS",
        help=f"window and slide (default: {DEFAULT_WINDOW_SLIDE}, or a table's own step)",
    )
    group.add_argument("--zero-fill", default="", metavar="A,B", help='features whose empty cells mean "no event" and become 0')
    _switch(group, "--interpolate", True, "fill short gaps linearly; longer ones stay missing and are not trained or scored on")
    group.add_argument(
        "--interpolate-limit",
        type=int,
        default=3,
        metavar="ROWS",
        help="longest gap that is filled (default: 3)",
    )
    if ranges:
        _add_ranges(group)
    else:
        parser.set_defaults(**dict.fromkeys(_WITH_DEFAULTS))


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add what the network looks like and how it is fitted."""
    _add_network(parser)
    _add_fit(parser)


def source_config(arguments: argparse.Namespace) -> SourceConfig:
    """Make the data options."""
    return SourceConfig(**{field.name: getattr(arguments, field.name) for field in fields(SourceConfig)})


def model_config(arguments: argparse.Namespace) -> ModelConfig:
    """Make the network's options."""
    return ModelConfig(**{field.name: getattr(arguments, field.name) for field in fields(ModelConfig)})


def fit_config(arguments: argparse.Namespace) -> FitConfig:
    """Make the options of fitting."""
    return FitConfig(
        epochs=arguments.epochs,
        patience=arguments.epochs_patience,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        loss=arguments.loss,
        averaging=arguments.averaging,
        seed=arguments.seed,
    )


def _switch(group: "argparse._ArgumentGroup", option: str, default: bool, told: str) -> None:
    """Add an option that is there as `--no-…` too."""
    told = f"{told} (default: {'yes' if default else 'no'})".lstrip()
    group.add_argument(option, action=argparse.BooleanOptionalAction, default=default, help=told)


def _add_network(parser: argparse.ArgumentParser) -> None:
    model = ModelConfig()
    group = parser.add_argument_group("model")
    group.add_argument("--model-type", default=model.model_type, choices=MODEL_TYPES, help="architecture (default: %(default)s)")
    group.add_argument(
        "--sequence-len", type=int, default=model.sequence_len, metavar="N", help="steps it sees (default: %(default)s)"
    )
    group.add_argument(
        "--steps-ahead",
        type=int,
        default=model.steps_ahead,
        metavar="N",
        help="it forecasts the path 1..N (default: %(default)s)",
    )
    _switch(group, "--model-delta", model.model_delta, "see and forecast first differences")
    _switch(group, "--level", model.level, "with --model-delta, see the level of the last row in place of the oldest difference")
    _switch(
        group,
        "--window-scale",
        model.window_scale,
        "with --model-delta, measure each window by its own differences: for series of different size",
    )
    group.add_argument(
        "--transform", choices=("none", "log1p"), default=model.transform, help="of raw values (default: %(default)s)"
    )
    _switch(group, "--linear", model.linear, "add a linear map from the window to the path")
    _switch(group, "--calendar", model.calendar, "see time of day and day of week; the graph takes the time of each window then")
    group.add_argument(
        "--quantiles", default=model.quantiles, metavar="Q,Q", help="levels to emit beside the forecast, such as 0.05,0.5,0.95"
    )
    group.add_argument(
        "--members", default=model.members, metavar="M,M", help=f"model types of an ensemble (default: {DEFAULT_MEMBERS})"
    )
    group.add_argument(
        "--blocks", type=int, default=model.blocks, metavar="N", help="units or filters of a layer (default: %(default)s)"
    )
    group.add_argument(
        "--stacked-blocks", type=int, default=model.stacked_blocks, metavar="N", help="layers (default: %(default)s)"
    )
    _switch(group, "--batch-normalization", model.batch_normalization, "")
    group.add_argument(
        "--dropout-rate",
        type=float,
        default=model.dropout_rate,
        metavar="P",
        help="share dropped, 0 is none (default: %(default)s)",
    )


def _add_fit(parser: argparse.ArgumentParser) -> None:
    fit = FitConfig()
    group = parser.add_argument_group("fit")
    group.add_argument(
        "--epochs", "--num-epochs", type=int, default=fit.epochs, metavar="N", help="most epochs (default: %(default)s)"
    )
    group.add_argument(
        "--epochs-patience",
        type=int,
        default=fit.patience,
        metavar="N",
        help="epochs without a better validation loss (default: %(default)s)",
    )
    group.add_argument("--batch-size", type=int, default=fit.batch_size, metavar="N", help="(default: %(default)s)")
    group.add_argument(
        "--learning-rate", type=float, default=fit.learning_rate, metavar="X", help="of Adam (default: %(default)s)"
    )
    group.add_argument("--loss", choices=get_args(Loss), default=fit.loss, help="(default: %(default)s)")
    group.add_argument(
        "--averaging",
        type=float,
        default=fit.averaging,
        metavar="M",
        help="momentum of the moving average of weights that is kept (default: none)",
    )
    group.add_argument("--seed", type=int, default=fit.seed, metavar="N", help="(default: %(default)s)")


def _add_ranges(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--train-time-range", default=DEFAULT_TRAIN_RANGE, metavar="RANGE", help=f"{_RANGE} (default: %(default)s)"
    )
    group.add_argument("--train-time-ranges-excluded", default="", metavar="RANGES", help="comma-separated ranges to leave out")
    group.add_argument(
        "--validation-time-range", default="", metavar="RANGE", help="default: cut from the end of the training range"
    )
    group.add_argument(
        "--calibration-time-range", default="", metavar="RANGE", help="default: cut from the very end of the training range"
    )
    group.add_argument(
        "--test-time-range", default=DEFAULT_TEST_RANGE, metavar="RANGE", help="(default: %(default)s; empty for none)"
    )
    group.add_argument("--test-time-ranges-excluded", default="", metavar="RANGES", help="comma-separated ranges to leave out")
    group.add_argument("--validation-share", type=float, default=0.15, metavar="P", help="of a cut range (default: %(default)s)")
    group.add_argument("--calibration-share", type=float, default=0.25, metavar="P", help="of a cut range (default: %(default)s)")
