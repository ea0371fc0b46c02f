"""Options of models that consist of several: seeds, trees and members, and of fitting them again on more data."""

import argparse
from typing import get_args

from mods_grpc.command_line import number, whole_number
from training.network.config import MAX_LEAVES, MAX_SEEDS, MAX_TREES, Blend, FitConfig, ModelConfig, Refit


def add_member_options(group: "argparse._ArgumentGroup") -> None:
    """Add the options of seeds, trees and the shares of members."""
    model = ModelConfig()
    group.add_argument(
        "--blend",
        choices=get_args(Blend),
        default=model.blend,
        help="weigh the members of an ensemble equally, or as fits the validation range best (default: %(default)s)",
    )
    group.add_argument(
        "--seeds",
        type=whole_number(1, MAX_SEEDS),
        default=model.seeds,
        metavar="N",
        help="average N networks that start from other weights, in one graph (default: %(default)s)",
    )
    group.add_argument(
        "--trees",
        type=whole_number(1, MAX_TREES),
        default=model.trees,
        metavar="N",
        help="maximum number of trees of all features together; each makes a forecast slower (default: %(default)s)",
    )
    group.add_argument(
        "--leaves",
        type=whole_number(2, MAX_LEAVES),
        default=model.leaves,
        metavar="N",
        help="leaves of a tree (default: %(default)s)",
    )


def add_refit_options(group: "argparse._ArgumentGroup") -> None:
    """Add the options of boosting and of fitting again."""
    fit = FitConfig()
    group.add_argument(
        "--tree-rate",
        type=number(above=0, maximum=1),
        default=fit.tree_rate,
        metavar="X",
        help="learning rate of trees (default: %(default)s)",
    )
    group.add_argument(
        "--refit",
        choices=get_args(Refit),
        default=fit.refit,
        help="fit again with as many epochs and trees, on the validation range as well or on all up to the test range; then the "
        "detector is calibrated on a model without the calibration range (default: %(default)s)",
    )
