"""What a model looks at, and how it is fitted: recipes by name."""

from dataclasses import dataclass

from mods_grpc.features.definitions import Definition
from mods_grpc.features.presets import PRESETS
from training.data.query import format_query

# how docs/tutorials/first-alert.md fits
FIT_OPTIONS = (
    *("--model-type", "MLP", "--sequence-len", "20", "--transform", "log1p"),
    *("--epochs", "40", "--batch-size", "64", "--calibration-share", "0.4"),
)
_INBOUND = ("conn|in_count_uid", "dns|in_count_uid", "http|in", "ssh|in")
_OUTWARD = (
    *("conn|out_count_uid", "conn|out_sum_orig_bytes", "conn|out_sum_resp_bytes"),
    *("dns|out_count_uid", "dns|out_distinct_query", "dns|out_rejected_true", "http|out", "ssl|out", "ssh|out"),
)
_BY_NAME = {
    "old": ("five counts, mostly inbound, of the first tutorial", ("conn|in_count_uid", "conn|out_count_uid", *_INBOUND[1:])),
    "datapool": ("13 of the datapool's columns, inbound and outward", (*_INBOUND, *_OUTWARD)),
    "datapool-outward": ("the 9 outward ones of those", _OUTWARD),
}
RECIPES = tuple(_BY_NAME) + tuple(PRESETS)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A choice of columns.

    Attributes:
        name: Its name.
        purpose: What it is, in a line.
        keys: The columns, such as `conn|out_count_uid`.
    """

    name: str
    purpose: str
    keys: tuple[str, ...]

    @property
    def query(self):
        """The columns as `python -m training fit` selects them."""
        columns = {}
        for key in self.keys:
            protocol, _, column = key.partition("|")
            columns.setdefault(protocol, []).append(column)
        return format_query(columns)

    @property
    def features(self):
        """The names of the columns in the model, in its order."""
        return tuple(name.rpartition("~")[2] for part in self.query.split(";") for name in part.split("|")[1:])

    @property
    def ordered_keys(self):
        """The columns in the order of `features`."""
        protocols = dict.fromkeys(key.partition("|")[0] for key in self.keys)
        return tuple(key for protocol in protocols for key in self.keys if key.partition("|")[0] == protocol)

    def without(self, absent):
        """Return the recipe without some columns."""
        return Recipe(self.name, self.purpose, tuple(key for key in self.keys if key not in absent))


def find_recipe(text):
    """Return the recipe of a name, or of `NAME=KEY,KEY`.

    Raises:
        ValueError: There is none, or no such column.
    """
    name, has_keys, keys = text.partition("=")
    if has_keys:
        recipe = Recipe(name, "columns named on the command line", tuple(keys.split(",")))
    elif name in _BY_NAME:
        recipe = Recipe(name, *_BY_NAME[name])
    elif name in PRESETS:
        recipe = Recipe(name, f"preset: {PRESETS[name].purpose}", tuple(PRESETS[name].keys))
    else:
        raise ValueError(f"no recipe {name}; there are {', '.join(RECIPES)}, or NAME=KEY,KEY")
    Definition.of(recipe.keys)
    return recipe
