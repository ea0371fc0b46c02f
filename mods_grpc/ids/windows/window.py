"""Batches of windows for the server: all series of one start, in the model's features and units."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from mods_grpc.array_types import Bools, Floats
from mods_grpc.client.results import FeatureInfo
from mods_grpc.data.units import BYTES_PER_UNIT
from mods_grpc.errors import DataError
from mods_grpc.features import AggregateRow, Definition
from mods_grpc.features.definitions import ADDITIVE_KINDS


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WindowBatch:
    """The windows that start at one time.

    Attributes:
        start_ns: Their start, nanoseconds since 1970.
        series: Name of the series of each.
        values: `(series, features)`, NaN where one is missing.
        rows: The same as the model takes it: where its rows hold panes, what the window's last slide alone holds; None for the
            values themselves.
    """

    start_ns: int
    series: tuple[str, ...]
    values: Floats
    rows: Floats | None = None

    def to_json(self) -> list[Any]:
        """Return the windows as values for JSON."""
        arrays = [self.values] if self.rows is None else [self.values, self.rows]
        return [self.start_ns, list(self.series), *map(_array_to_json, arrays)]

    @classmethod
    def from_json(cls, saved: list[Any]) -> "WindowBatch":
        """Return the windows that `to_json` described."""
        start, series, *arrays = saved
        values, rows, *_ = [*(np.array(array, dtype=np.float64) for array in arrays), None]
        assert values is not None
        return cls(start_ns=start, series=tuple(series), values=values, rows=rows)


def _array_to_json(values: Floats) -> Any:
    return np.where(np.isnan(values), None, values).tolist()  # type: ignore[call-overload]


@dataclass(frozen=True, slots=True)
class LastPanes:
    """The panes of the last window that was counted, by series `(panes, features)` in order of time; NaN where there are none."""

    start_ns: int
    panes: Mapping[str, Floats]


class WindowColumns:
    """Selects a model's features, in its order and units, from the aggregates.

    Args:
        features: The model's features, in its order.
        renamed: By feature, the aggregate that it is, such as `conn|in_count_uid`; needed where the model does not name it.

    Attributes:
        names: The features.
        keys: The aggregate of each feature.
        protocols: The protocol of each feature.
        divisors: `(features,)`; an aggregate divided by it is in the unit of the feature.
        has_panes: `(features,)`, whether the model's rows hold what the last slide of a window alone holds.
        constant: The aggregates of features that had one value in training.
        definition: The aggregates to compute.

    Raises:
        DataError: A feature without an aggregate, or whose rows hold panes while windows of the aggregate are no sums of them, or
            a name that is not of a feature.
    """

    def __init__(self, features: Sequence[FeatureInfo], renamed: dict[str, str] | None = None) -> None:
        renamed = renamed or {}
        if unknown := renamed.keys() - {feature.name for feature in features}:
            raise DataError(f"the model has no feature {', '.join(sorted(unknown))}")
        self.names = tuple(feature.name for feature in features)
        self.keys = tuple(renamed.get(feature.name) or f"{feature.protocol}|{feature.column}" for feature in features)
        self.protocols = tuple(key.partition("|")[0] for key in self.keys)
        unnamed = [feature.name for feature in features if not feature.protocol and feature.name not in renamed]
        if unnamed:
            raise DataError(
                f"the model does not say which aggregate its feature {unnamed[0]} is; "
                f"name it with --features {unnamed[0]}=PROTOCOL|COLUMN, such as conn|in_count_uid"
            )
        pairs = zip(self.keys, features, strict=True)
        self.constant = frozenset(key for key, feature in pairs if not feature.training_minimum < feature.training_maximum)
        self.divisors = np.array([BYTES_PER_UNIT.get(feature.unit, 1.0) for feature in features])
        try:
            self.definition = Definition.of(self.keys)
        except DataError as error:
            raise DataError(
                f"{error.message}, for each feature of the model; map them with --features NAME=PROTOCOL|COLUMN, "
                "or use a model that was fitted on what `mods-grpc aggregate` wrote"
            ) from error
        self.has_panes: Bools = np.array([feature.pane for feature in features], np.bool_)
        kinds = {feature.key: feature.measure.kind for feature in self.definition.features}
        for name, key, has_pane in zip(self.names, self.keys, self.has_panes.tolist(), strict=True):
            if has_pane and kinds[key] not in ADDITIVE_KINDS:
                raise DataError(
                    f"the model's rows hold panes of {name}, but windows of {key} are no sums of them; "
                    "map it to a count or a sum with --features, or name a version without panes"
                )

    def batches(self, rows: Iterable[AggregateRow], missing: Collection[str] = ()) -> Iterator[WindowBatch]:
        """Yield the rows in batches of one start. Rows without any value are left out.

        Args:
            rows: Rows in order of start.
            missing: Protocols whose log is missing, and aggregates whose field is, so that their values are missing too, not 0.
        """
        is_missing = np.array(
            [bool({protocol, key} & set(missing)) for protocol, key in zip(self.protocols, self.keys, strict=True)]
        )
        for start, group in groupby(rows, key=lambda row: row.start_ns):
            members = list(group)
            values = np.array([[row.values[key] for key in self.keys] for row in members]) / self.divisors
            values[:, is_missing] = np.nan
            has_values = ~np.isnan(values).all(axis=1)
            if has_values.any():
                names = tuple(row.series for row, has_value in zip(members, has_values, strict=True) if has_value)
                model_rows = self._join_panes(values, members)[has_values] if self.has_panes.any() else None
                yield WindowBatch(start_ns=start, series=names, values=values[has_values], rows=model_rows)

    def select_panes(self, panes: Sequence[Mapping[str, float]]) -> Floats:
        """Return panes by aggregate as `(n, features)` in the units of the features; NaN where the model's rows hold none."""
        columns = [
            [pane[key] if has_pane else np.nan for key, has_pane in zip(self.keys, self.has_panes.tolist(), strict=True)]
            for pane in panes
        ]
        return np.asarray(np.array(columns) / self.divisors)

    def _join_panes(self, values: Floats, members: Sequence[AggregateRow]) -> Floats:
        """Return the rows as the model takes them, of windows `(n, features)`; what is missing there is missing here."""
        panes = self.select_panes([row.panes for row in members])
        return np.where(self.has_panes & ~np.isnan(values), panes, values)
