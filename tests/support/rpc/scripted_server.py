"""A small server for tests of the client that fails as scripted.

Its verdicts can be computed by hand: the p-value of a row is 1 / (1 + |sum of the row - mean of the sums of the
`WINDOW_ROWS` rows before it|), anomalous at or below 0.05. So a verdict shows which window it was computed from.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import numpy as np

from mods_grpc import errors
from mods_grpc.protobuf.arrays import (
    duration_from_seconds,
    nanos_from_timestamp,
    pack_float64,
    timestamp_from_nanos,
    unpack_float64,
    unpack_mask,
)
from mods_grpc.server.rpc.status import to_abort_arguments, to_status
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc, model_pb2, model_pb2_grpc, verdict_pb2

WINDOW_ROWS = 3
FEATURES = ("conn_in", "ssh_in")
HORIZON = 2
SLIDE_SECONDS = 600
SLIDE_NANOS = SLIDE_SECONDS * 10**9
SIGNIFICANCE = 0.05
SERVED = pb.ServedModel(name="campus", version=2, digest="d" * 64)

Row = tuple[int, tuple[float, ...]]


@dataclass
class ScriptedServer(inference_pb2_grpc.InferenceServiceServicer, model_pb2_grpc.ModelServiceServicer):
    """The server. `faults` are consumed one per data message, `open_faults` one per opening; "" means none."""

    faults: deque[str] = field(default_factory=deque)
    open_faults: deque[errors.ModsError | str] = field(default_factory=deque)
    max_observations: int = 100
    features: tuple[str, ...] = FEATURES
    rows: dict[tuple[str, str], list[Row]] = field(default_factory=lambda: defaultdict(list))
    cached_verdicts: dict[tuple[str, str], dict[Row, verdict_pb2.Verdict]] = field(default_factory=dict)
    configs: list[pb.StreamConfig] = field(default_factory=list)
    data: list[pb.StreamData] = field(default_factory=list)
    requests: list[object] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    refusal: errors.ModsError | None = None
    ended: int = 0

    def forget(self) -> None:
        self.rows.clear()
        self.cached_verdicts.clear()

    def ListModels(self, request, context):
        self._record(request, context)
        models = [self._model("campus", 2), self._model("campus", 1), self._model("lab", 1)]
        start = int(request.page_token or 0)
        token = str(start + 2) if start + 2 < len(models) else ""
        return model_pb2.ListModelsResponse(models=models[start : start + 2], next_page_token=token)

    def GetModel(self, request, context):
        self._record(request, context)
        return model_pb2.GetModelResponse(model=self._model(request.name or "campus", request.version or 2))

    def Forecast(self, request, context):
        self._record(request, context)
        windows = unpack_float64(request.batch.values, (-1, WINDOW_ROWS, len(FEATURES)), "batch.values")
        unpack_mask(request.batch.missing, windows.shape)
        horizon = request.horizon if request.HasField("horizon") else HORIZON
        values = np.repeat(windows[:, -1:], horizon, axis=1)
        first = [start + WINDOW_ROWS * SLIDE_NANOS for start in request.batch.start_time_unix_nano]
        halves = np.array(request.coverages).reshape(-1, 1, 1, 1)
        batch = pb.ForecastBatch(
            first_forecast_time_unix_nano=first,
            values=pack_float64(values),
            lower=pack_float64(values - halves),
            upper=pack_float64(values + halves),
        )
        return pb.ForecastResponse(model=SERVED, features=FEATURES, horizon=horizon, batch=batch)

    def Detect(self, request, context):
        self._record(request, context)
        (requested,) = request.series
        nanos = list(requested.batch.observe_time_unix_nano)
        values = unpack_float64(requested.batch.values, (len(nanos), len(FEATURES)), "series[0].batch.values")
        rows = list(zip(nanos, map(tuple, values.tolist()), strict=True))
        verdicts = [self._score(rows[:index], rows[index], requested.series) for index in range(WINDOW_ROWS, len(rows))]
        scored = verdicts[-requested.judge_rows :] if requested.HasField("judge_rows") else verdicts
        series = pb.SeriesVerdicts(
            series=requested.series, scores=self._columns(scored), verdicts=[v for v in scored if v.anomalous]
        )
        return pb.DetectResponse(model=SERVED, significance=SIGNIFICANCE, series=[series])

    def StreamDetect(self, request_iterator, context) -> Iterator[pb.StreamDetectResponse]:
        self.metadata.append(dict(context.invocation_metadata()))
        config = next(request_iterator).config
        self.configs.append(config)
        if self.open_faults:
            fault = self.open_faults.popleft()
            if isinstance(fault, errors.ModsError):
                self._fail(context, fault)
            if fault:
                context.abort(grpc.StatusCode[fault], "the connection broke")
        series_held = sum(1 for sensor, _ in self.rows if sensor == config.sensor)
        opened = pb.StreamOpened(
            features=self.features,
            window_rows=WINDOW_ROWS,
            window=duration_from_seconds(3600),
            slide=duration_from_seconds(SLIDE_SECONDS),
            significance=SIGNIFICANCE,
            state=pb.STATE_ORIGIN_RESUMED if series_held else pb.STATE_ORIGIN_FRESH,
            series_held=series_held,
            limits=pb.StreamLimits(max_observations=self.max_observations, max_series=1000),
        )
        yield pb.StreamDetectResponse(model=SERVED, opened=opened)
        for expected, request in enumerate(request_iterator, start=1):
            if request.HasField("end"):
                self.ended += 1
                yield pb.StreamDetectResponse(model=SERVED, ended=pb.StreamEnded(last_sequence=expected - 1))
                return
            assert request.data.sequence == expected, "the client skipped a sequence number"
            self.data.append(request.data)
            fault = "" if request.data.warm_up or not self.faults else self.faults.popleft()
            if "before" in fault:
                yield from self._break(fault, context)
            answer = self._answer(request.data, config.sensor)
            if "refuse" in fault and self.refusal is not None:
                answer = pb.StreamAnswer(error=to_status(self.refusal))
            if "after" in fault:
                yield from self._break(fault, context)
            answer.sequence = request.data.sequence
            yield pb.StreamDetectResponse(model=SERVED, answer=answer)

    def _break(self, fault: str, context: grpc.ServicerContext) -> Iterator[pb.StreamDetectResponse]:
        if "restart" in fault:
            self.forget()
        if "silent" in fault:
            gone = threading.Event()
            context.add_callback(gone.set)
            gone.wait(10)
        if "drain" in fault:
            yield pb.StreamDetectResponse(model=SERVED, draining=pb.StreamDraining(last_sequence=0))
            self._fail(context, errors.DrainingError(errors.Reason.DRAINING, "shutting down", retry_seconds=0.001))
        if "idle" in fault:
            self._fail(context, errors.StreamTimeoutError(errors.Reason.STREAM_IDLE, "nothing came"))
        context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")

    def _answer(self, data: pb.StreamData, sensor: str) -> pb.StreamAnswer:
        observations = self._observations(data)
        cached = {name: dict(self.cached_verdicts.get((sensor, name), {})) for name, *_ in observations}
        answers: list[verdict_pb2.Verdict] = []
        current: dict[str, dict[Row, verdict_pb2.Verdict]] = defaultdict(dict)
        for name, nanos, values in observations:
            rows, row = self.rows[sensor, name], (nanos, values)
            if row in cached[name]:
                answers.append(cached[name][row])
                current[name][row] = cached[name][row]
                continue
            verdict = self._score(rows, row, name, warm_up=data.warm_up)
            if verdict.status in (verdict_pb2.VERDICT_STATUS_SCORED, verdict_pb2.VERDICT_STATUS_WARMING_UP):
                rows.append(row)
                current[name][row] = verdict
            answers.append(verdict)
        for name, verdicts in current.items():
            self.cached_verdicts[sensor, name] = verdicts
        if data.HasField("observation"):
            return pb.StreamAnswer(verdict=answers[0])
        return pb.StreamAnswer(scores=self._columns(answers), verdicts=[v for v in answers if v.anomalous])

    def _score(self, rows: list[Row], row: Row, series: str, *, warm_up: bool = False) -> verdict_pb2.Verdict:
        nanos, values = row
        verdict = verdict_pb2.Verdict(series=series, observe_time=timestamp_from_nanos(nanos))
        if rows and nanos <= rows[-1][0]:
            is_duplicate = row == rows[-1]
            verdict.status = verdict_pb2.VERDICT_STATUS_DUPLICATE if is_duplicate else verdict_pb2.VERDICT_STATUS_LATE
        elif warm_up or len(rows) < WINDOW_ROWS:
            verdict.status = verdict_pb2.VERDICT_STATUS_WARMING_UP
        else:
            mean = sum(sum(previous) for _, previous in rows[-WINDOW_ROWS:]) / WINDOW_ROWS
            verdict.status = verdict_pb2.VERDICT_STATUS_SCORED
            verdict.p_value = 1 / (1 + abs(sum(values) - mean))
            verdict.score = -float(np.log10(verdict.p_value))
            verdict.anomalous = verdict.p_value <= SIGNIFICANCE
            if verdict.anomalous:
                verdict.reason = f"conn_in {values[0]:g}, expected {mean:g}"
                verdict.episode.id, verdict.episode.phase = f"e{nanos}", verdict_pb2.EPISODE_PHASE_STARTED
                verdict.features.add(feature="conn_in", observed=values[0], expected=mean, share=1.0)
        return verdict

    @staticmethod
    def _observations(data: pb.StreamData) -> list[tuple[str, int, tuple[float, ...]]]:
        if data.HasField("observation"):
            row = data.observation
            return [(row.series, nanos_from_timestamp(row.observe_time), tuple(row.values))]
        batch = data.batch
        nanos = list(batch.observe_time_unix_nano)
        values = unpack_float64(batch.values, (len(nanos), len(FEATURES))).tolist()
        names = [batch.series[i] for i in batch.series_index] or list(batch.series)
        return list(zip(names, nanos, map(tuple, values), strict=True))

    @staticmethod
    def _columns(verdicts: list[verdict_pb2.Verdict]) -> pb.ScoreColumns:
        return pb.ScoreColumns(
            observe_time_unix_nano=[nanos_from_timestamp(v.observe_time) for v in verdicts],
            status=[v.status for v in verdicts],
            p_value=pack_float64(np.array([v.p_value if v.HasField("p_value") else np.nan for v in verdicts])),
            anomalous=[v.anomalous for v in verdicts],
        )

    @staticmethod
    def _model(name: str, version: int) -> model_pb2.Model:
        return model_pb2.Model(
            name=name,
            version=version,
            state=model_pb2.MODEL_STATE_READY,
            digest="d" * 64,
            provider="CPUExecutionProvider",
            features=[model_pb2.ModelFeature(name=feature, unit="1", kind=model_pb2.FEATURE_KIND_COUNT) for feature in FEATURES],
            window_rows=WINDOW_ROWS,
            horizon=HORIZON,
            window=duration_from_seconds(3600),
            slide=duration_from_seconds(SLIDE_SECONDS),
            architecture="LSTM",
            create_time=timestamp_from_nanos(1_546_300_800 * 10**9),
        )

    def _record(self, request: object, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if self.open_faults:
            fault = self.open_faults.popleft()
            if isinstance(fault, errors.ModsError):
                self._fail(context, fault)
            context.abort(grpc.StatusCode[fault], "the connection broke")

    @staticmethod
    def _fail(context: grpc.ServicerContext, error: errors.ModsError) -> None:
        code, message, metadata = to_abort_arguments(error)
        context.set_trailing_metadata(metadata)
        context.abort(code, message)


def start(peer: ScriptedServer, address: str = "127.0.0.1:0") -> tuple[grpc.Server, str]:
    """Start serving; returns the server and its address."""
    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(peer, server)
    model_pb2_grpc.add_ModelServiceServicer_to_server(peer, server)
    port = server.add_insecure_port(address)
    server.start()
    return server, f"127.0.0.1:{port}"
