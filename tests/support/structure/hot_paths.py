"""The hot paths that the structure is measured on: rows of a stream, a forecast, a log record, a table row."""

import queue
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np

from mods_grpc.data.tables import TableLayout, read_rows
from mods_grpc.features.aggregator import Aggregator
from mods_grpc.ids.sources.reader import LogReader
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import values_pb2, verdict_pb2
from mods_grpc.v1.inference_pb2_grpc import InferenceServiceStub as Stub
from tests.support.paths import EXPORTED
from tests.support.running_server import running_server
from tests.support.structure.tracing import Trace, Tracer

MODEL = "campus"
WARM_UP_ROWS = 60
SLIDE_SECONDS = 600
START_SECONDS = 1_767_571_200  # 2026-01-05
POLL_SECONDS = 0.05  # without a call, and what follows an answer, such as the prefetch of the next row, is done
MAX_POLLS = 20
TIMEOUT_SECONDS = 60
CLIENT_OPTIONS = (("grpc.http2.bdp_probe", 0),)  # no pings that measure the path: they come now and then
ROUNDS = 5  # the median counts: now and then an answer needs a frame more or less
ZEEK_HEADER = "".join(
    f"#{line}\n"
    for line in (
        "separator \\x09",
        "set_separator\t,",
        "empty_field\t(empty)",
        "unset_field\t-",
        "path\tconn",
        "fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tlocal_orig\tlocal_resp",
        "types\ttime\tstring\taddr\tport\taddr\tport\tenum\tbool\tbool",
    )
)
ZEEK_LINE = "{}.0\tC1\t203.0.113.9\t40000\t10.0.0.1\t443\ttcp\tF\tT\n"
TABLE = "window_start\tconn_in\tdns_in\n2026-01-05T00:00:00Z\t1\t2\n2026-01-05T00:10:00Z\t3\t4\n"
TYPICAL_VALUES = np.array([43_000.0, 21_000.0, 30.0, 3_400.0])


def trace_all(tracer: Tracer) -> dict[str, Trace]:
    """Return the trace of each hot path, by title; the server's thread is traced, the client's is not."""
    with (
        running_server(repository=EXPORTED, transport="direct") as server,
        grpc.insecure_channel(server.address, options=CLIENT_OPTIONS) as channel,
    ):
        stub = Stub(channel)
        rows = {
            "StreamDetect row": (verdict_pb2.EXPLAIN_NONE, 0),
            "StreamDetect row, explained": (verdict_pb2.EXPLAIN_ALL, 0),
            "StreamDetect row after a gap of one row": (verdict_pb2.EXPLAIN_NONE, 1),
            "StreamDetect row after a gap of three rows": (verdict_pb2.EXPLAIN_NONE, 3),
        }
        traces = {}
        for title, (explain, missing_rows) in rows.items():
            attempts = [_trace_row(tracer, stub, f"{title} {i}", explain, missing_rows) for i in range(ROUNDS)]
            traces[title] = _median(attempts)
        forecasts = [_trace_forecast(tracer, stub) for _ in range(ROUNDS)]
        traces["Forecast of one window"] = _median(forecasts)
    return traces | {"Zeek record of a followed log": _trace_record(tracer), "table row": _trace_table_row(tracer)}


def _median(traces: list[Trace]) -> Trace:
    return sorted(traces, key=lambda trace: trace.calls)[len(traces) // 2]


def _trace_record(tracer: Tracer) -> Trace:
    """Trace a connection from its line in a followed log to the cell that counts it."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "conn.log")
        log.write_text(ZEEK_HEADER + ZEEK_LINE.format(START_SECONDS))
        aggregator = Aggregator()
        with LogReader(Path(folder), follow=True) as reader:

            def read() -> int:
                return sum(aggregator.add(record) for record in reader.poll())

            assert read() == 1
            with log.open("a") as file:
                file.write(ZEEK_LINE.format(START_SECONDS + 1))
            added: list[int] = []
            trace = tracer.in_this_thread(lambda: added.append(read()))
            assert added == [1]
    return trace


def _trace_table_row(tracer: Tracer) -> Trace:
    """Trace the second row of a table on its way to numbers."""
    rows = read_rows(TABLE.splitlines(), TableLayout(features=("conn_in", "dns_in")), "table.tsv")
    next(rows)
    return tracer.in_this_thread(lambda: next(rows))


def _trace_row(tracer: Tracer, stub: Stub, sensor: str, explain: int, missing_rows: int) -> Trace:
    """Trace the row that follows a window of rows, and a gap of `missing_rows`."""
    config = pb.StreamConfig(sensor=sensor, explain=explain, gap_policy=pb.GapPolicy(impute_rows=8))
    config.model.name = MODEL
    config.sensitivity.false_alarms_per_day = 1.0
    requests: queue.Queue[pb.StreamDetectRequest | None] = queue.Queue()
    answers = stub.StreamDetect(iter(requests.get, None), timeout=TIMEOUT_SECONDS)
    requests.put(pb.StreamDetectRequest(config=config))
    next(answers)
    *earlier, last = _rows(missing_rows)
    for row in earlier:
        requests.put(row)
        next(answers)
    _wait_until_quiet(tracer.start())
    trace = tracer.start()
    requests.put(last)
    answer = next(answers).answer
    _wait_until_quiet(trace)
    tracer.stop()
    requests.put(None)
    assert answer.scores.status == [verdict_pb2.VERDICT_STATUS_SCORED] or answer.HasField("verdict"), answer
    return trace


def _rows(missing_rows: int) -> Iterator[pb.StreamDetectRequest]:
    generator = np.random.default_rng(0)
    for i in range(WARM_UP_ROWS + 1):
        row = values_pb2.Observation(series="site")
        row.observe_time.FromSeconds(START_SECONDS + (i + missing_rows * (i == WARM_UP_ROWS)) * SLIDE_SECONDS)
        row.values.extend((TYPICAL_VALUES * (1 + 0.05 * generator.normal(size=TYPICAL_VALUES.size))).tolist())
        yield pb.StreamDetectRequest(data=pb.StreamData(sequence=i + 1, observation=row))


def _trace_forecast(tracer: Tracer, stub: Stub) -> Trace:
    request = pb.ForecastRequest()
    request.model.name = MODEL
    window = request.windows.windows.add(series="site")
    window.start_time.FromSeconds(START_SECONDS)
    for _ in range(37):
        window.rows.add(values=TYPICAL_VALUES.tolist())
    stub.Forecast(request, timeout=TIMEOUT_SECONDS)
    _wait_until_quiet(tracer.start())
    trace = tracer.start()
    stub.Forecast(request, timeout=TIMEOUT_SECONDS)
    _wait_until_quiet(trace)
    tracer.stop()
    return trace


def _wait_until_quiet(trace: Trace) -> None:
    for _ in range(MAX_POLLS):
        calls = trace.calls
        time.sleep(POLL_SECONDS)
        if calls == trace.calls:
            break
