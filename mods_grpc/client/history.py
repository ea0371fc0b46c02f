"""The last rows of every series that the server acknowledged: what a server without them is warmed up with."""

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mods_grpc.client.observations import Message
from mods_grpc.client.results import Verdict, VerdictStatus

_APPLIED = frozenset({VerdictStatus.SCORED, VerdictStatus.WARMING_UP, VerdictStatus.DUPLICATE})
_Row = tuple[int, NDArray[np.float64], NDArray[np.bool_]]


class History:
    """Keeps the last applied rows per series, the least recently used series first out.

    Args:
        window_rows: Rows of the model's window. Twice as many are kept: a server imputes a gap inside the last window
            with a forecast, and needs the window before the gap for that.
        max_series: Most series to keep; 0 for no limit.
    """

    def __init__(self, window_rows: int, max_series: int) -> None:
        self._rows_kept = 2 * window_rows
        self._max_series = max_series
        self._rows: OrderedDict[str, deque[_Row]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def resize(self, window_rows: int, max_series: int) -> None:
        """Go on with the limits of another server or model version."""
        self._rows_kept, self._max_series = 2 * window_rows, max_series
        self._rows = OrderedDict((series, deque(rows, maxlen=self._rows_kept)) for series, rows in self._rows.items())

    def add(self, message: Message, verdicts: Sequence[Verdict]) -> None:
        """Remember those observations of a message that the server applied; one verdict per observation, in order."""
        for index, (series, verdict) in enumerate(zip(message.series, verdicts, strict=True)):
            if verdict.status not in _APPLIED:
                continue
            rows = self._rows.get(series)
            if rows is None:
                rows = self._rows[series] = deque(maxlen=self._rows_kept)
            self._rows.move_to_end(series)
            nanos = int(message.nanos[index])
            if not rows or rows[-1][0] < nanos:
                rows.append((nanos, message.values[index].copy(), message.missing[index].copy()))
        while 0 < self._max_series < len(self._rows):
            self._rows.popitem(last=False)

    def messages(self, max_observations: int) -> Iterator[Message]:
        """Write everything down again, series by series in order of time, at most so many observations a message."""
        entries = [(series, *row) for series, rows in self._rows.items() for row in rows]
        if not entries:
            return
        series, nanos, values, missing = zip(*entries, strict=True)
        whole = Message(
            series=series,
            nanos=np.array(nanos, dtype=np.int64),
            values=np.stack(values),
            missing=np.stack(missing),
            single=False,
        )
        yield from whole.split(max_observations)
