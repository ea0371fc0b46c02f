"""Tables of a fleet as arrays."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from mods_grpc.data.datapool_layout import WINDOW_START, series_folder


@dataclass(frozen=True, slots=True)
class FleetTable:
    """Rows of all hosts on one grid of times.

    Attributes:
        hosts: Names of the hosts.
        times: Starts of the windows, seconds since 1970, `(rows,)`.
        keys: The columns.
        values: `(hosts, rows, columns)`, NaN where a cell is empty or a row missing.
    """

    hosts: tuple
    times: np.ndarray
    keys: tuple
    values: np.ndarray

    def is_between(self, start, end):
        """Return which rows begin in a range of seconds since 1970, `(rows,)`."""
        return (self.times >= start) & (self.times < end)

    def select(self, hosts):
        """Return the rows of some hosts."""
        chosen = [self.hosts.index(host) for host in hosts]
        return FleetTable(tuple(hosts), self.times, self.keys, self.values[chosen])


def find_absent(pool, hosts, keys):
    """Return the columns that the tables lack: their log had no record at all, or the product does not write them."""
    columns = {}
    for protocol in {key.partition("|")[0] for key in keys}:
        # all hosts with records have the same columns
        path = next((path for host in hosts for path in (pool / series_folder(host) / protocol).rglob("*.tsv")), None)
        columns[protocol] = [] if path is None else path.read_text().partition("\n")[0].split("\t")
    return [key for key in keys if key.partition("|")[2] not in columns[key.partition("|")[0]]]


def read_tables(pool, hosts, keys, slide):
    """Read columns of all hosts that `mods-grpc aggregate --group-by host` wrote.

    Raises:
        ValueError: There are no rows.
    """
    by_protocol = {}
    for key in keys:
        by_protocol.setdefault(key.partition("|")[0], []).append(key)
    frames = [[_read_series(pool, host, protocol, wanted) for protocol, wanted in by_protocol.items()] for host in hosts]
    starts = [frame[0] for of_host in frames for frame in of_host if len(frame[0])]
    if not starts:
        raise ValueError(f"{pool}: no host has a row")
    first, last = min(int(times.min()) for times in starts), max(int(times.max()) for times in starts)
    times = np.arange(first, last + slide, slide)
    values = np.full((len(hosts), len(times), len(keys)), np.nan)
    for number, of_host in enumerate(frames):
        for (own, cells), wanted in zip(of_host, by_protocol.values(), strict=True):
            values[number, (own - first)[:, np.newaxis] // slide, [keys.index(key) for key in wanted]] = cells
    return FleetTable(tuple(hosts), times, tuple(keys), values)


def _read_series(pool, host, protocol, keys):
    columns = [key.partition("|")[2] for key in keys]
    paths = sorted((pool / series_folder(host) / protocol).rglob("*.tsv"))
    frames = [
        pl.read_csv(path, separator="\t", columns=[WINDOW_START, *columns], null_values=[""], infer_schema=False)
        for path in paths
    ]
    if not frames:
        return np.empty(0, dtype=np.int64), np.empty((0, len(columns)))
    frame = pl.concat(frames).select(
        pl.col(WINDOW_START).str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ").dt.epoch("s"),
        *(pl.col(column).cast(pl.Float64) for column in columns),
    )
    return frame[WINDOW_START].to_numpy(), frame.select(columns).to_numpy()
