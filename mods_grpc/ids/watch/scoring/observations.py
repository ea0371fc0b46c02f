"""Windows as messages to the server, and the history with which it is warmed up."""

from collections.abc import Iterator, Sequence

import numpy as np

from mods_grpc.array_types import Floats
from mods_grpc.client import ObservationBatch
from mods_grpc.client.streaming.row_history import RowStore


def make_observations(names: Sequence[str], nanos: int, rows: Floats) -> ObservationBatch:
    """Return rows `(n, features)` of n series and one time, nanoseconds since 1970, as they are sent."""
    return ObservationBatch(series=names, times=np.full(len(names), nanos), values=rows)


def batch_history(store: RowStore, series: Sequence[str] = ()) -> Iterator[ObservationBatch]:
    """Yield the rows of some stored series, or of all if none is given, one batch per time.

    The server rejects rows before the first complete one of their series, so they are left out.
    """
    names, name_indices, times, values = store.all_rows(series)
    first_complete = np.full(len(names), np.iinfo(np.int64).max)
    is_complete = ~np.isnan(values).any(axis=1)
    np.minimum.at(first_complete, name_indices[is_complete], times[is_complete])
    accepted = times >= first_complete[name_indices]
    name_indices, times, values = name_indices[accepted], times[accepted], values[accepted]
    order = np.argsort(times, kind="stable")
    starts = np.flatnonzero(np.diff(times[order], prepend=np.iinfo(np.int64).min))
    for rows in np.split(order, starts)[1:]:
        yield make_observations([names[index] for index in name_indices[rows].tolist()], int(times[rows[0]]), values[rows])
