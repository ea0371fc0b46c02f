"""Windows on their way to the server: all series of one start, in the model's features and units."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mods_grpc.client.results import FeatureInfo
from mods_grpc.errors import DataError
from mods_grpc.features import AggregateRow, Definition

UNIT_DIVISORS = {"kB": 1024.0, "MB": 1024.0**2, "GB": 1024.0**3}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WindowBatch:
    """The windows that begin at one time: `values` is `(series, features)`, NaN where one is missing."""

    start_ns: int
    series: tuple[str, ...]
    values: NDArray[np.float64]

    def to_json(self) -> list[Any]:
        """Return the windows for JSON."""
        values = np.where(np.isnan(self.values), None, self.values).tolist()  # type: ignore[call-overload]
        return [self.start_ns, list(self.series), values]

    @classmethod
    def from_json(cls, saved: list[Any]) -> "WindowBatch":
        """Read what `to_json` returned."""
        start, series, values = saved
        return cls(start_ns=start, series=tuple(series), values=np.array(values, dtype=np.float64))


class WindowColumns:
    """Where a model's features are found among the aggregates.

    Args:
        features: The model's features, in its order.
        renamed: Aggregate of a feature, such as `conn|in_count_uid`, where the model does not say it.

    Raises:
        DataError: A feature without an aggregate.
    """

    def __init__(self, features: Sequence[FeatureInfo], renamed: dict[str, str] | None = None) -> None:
        renamed = renamed or {}
        if unknown := renamed.keys() - {feature.name for feature in features}:
            raise DataError(f"the model has no feature {', '.join(sorted(unknown))}")
        self.keys = tuple(renamed.get(feature.name) or f"{feature.protocol}|{feature.column}" for feature in features)
        nowhere = [feature.name for feature in features if not feature.protocol and feature.name not in renamed]
        if nowhere:
            raise DataError(
                f"the model does not say which aggregate its feature {nowhere[0]} is; "
                f"say it with --features {nowhere[0]}=PROTOCOL|COLUMN, such as conn|in_count_uid"
            )
        self.divisors = np.array([UNIT_DIVISORS.get(feature.unit, 1.0) for feature in features])
        self.definition = Definition.of(self.keys)

    def batches(self, rows: Iterable[AggregateRow]) -> Iterator[WindowBatch]:
        """Gather rows by start, which ascends; a row without any value is left out, as if it were not there."""
        for start, group in groupby(rows, key=lambda row: row.start_ns):
            members = list(group)
            values = np.array([[row.values[key] for key in self.keys] for row in members]) / self.divisors
            there = ~np.isnan(values).all(axis=1)
            if there.any():
                names = tuple(row.series for row, is_kept in zip(members, there, strict=True) if is_kept)
                yield WindowBatch(start_ns=start, series=names, values=values[there])
