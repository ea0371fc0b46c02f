"""The last rows of every series that the server acknowledged: what a server without them is warmed up with."""

from collections.abc import Iterator, Sequence

import numpy as np

from mods_grpc.client.results import Verdict, VerdictStatus
from mods_grpc.client.streaming.kept_rows import KeptRows
from mods_grpc.client.streaming.observations import Message

_APPLIED = frozenset({VerdictStatus.SCORED, VerdictStatus.WARMING_UP, VerdictStatus.DUPLICATE})


class History:
    """Keeps the last applied rows per series, the least recently used series first out.

    Args:
        window_rows: Rows of the model's window. Twice as many are kept: a server imputes a gap inside the last window
            with a forecast, and needs the window before the gap for that.
        max_series: Most series to keep; 0 for no limit.
    """

    def __init__(self, window_rows: int, max_series: int) -> None:
        self._window_rows = window_rows
        self._max_series = max_series
        self._kept = KeptRows(2 * window_rows)

    def __len__(self) -> int:
        return len(self._kept)

    def resize(self, window_rows: int, max_series: int) -> None:
        """Go on with the limits of another server or model version."""
        if window_rows != self._window_rows:
            self._window_rows, self._kept = window_rows, self._kept.resized(2 * window_rows)
        self._max_series = max_series

    def add(self, message: Message, verdicts: Sequence[Verdict]) -> None:
        """Remember those observations of a message that the server applied; one verdict per observation, in order."""
        values = np.where(message.missing, np.nan, message.values)
        for index, (series, verdict) in enumerate(zip(message.series, verdicts, strict=True)):
            if verdict.status not in _APPLIED:
                continue
            nanos, last = int(message.nanos[index]), self._kept.last(series)
            if last is None or last < nanos:
                self._kept.append(series, nanos, values[index])
            else:
                self._kept.touch(series)
        while 0 < self._max_series < len(self._kept):
            self._kept.drop_oldest()

    def messages(self, max_observations: int) -> Iterator[Message]:
        """Write everything down again, series by series in order of time, at most so many observations a message."""
        names, which, times, values = self._kept.all_rows()
        if not names:
            return
        missing = np.isnan(values)
        whole = Message(
            series=tuple(names[index] for index in which.tolist()),
            nanos=times,
            values=np.where(missing, 0.0, values),
            missing=missing,
            single=False,
        )
        yield from whole.split(max_observations)
