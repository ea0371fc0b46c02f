"""One StreamDetect call without its transport: bytes of a request in, bytes of the response out.

Errors that end the stream are raised. An invalid data message is answered with its error, and changes nothing.
"""

import asyncio
from typing import Any

from mods_grpc.alarm_rules.total_budget import learning_budget
from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.errors import (
    InvalidInputError,
    ModelUnusableError,
    ModsError,
    QuotaError,
    Reason,
    SequenceGapError,
    StreamProtocolError,
)
from mods_grpc.server.codec.decode import EXPLAIN_VALUES, decode_impute_rows, decode_significance, decode_total, find_model
from mods_grpc.server.codec.encode import encode_opened, encode_served_model
from mods_grpc.server.codec.replay import first_series, serialize_request, with_reply, with_sequence
from mods_grpc.server.codec.validation import check_name, raise_violations, require_enum_value
from mods_grpc.server.config import ServerConfig
from mods_grpc.server.models.loaded_model import LoadedModel
from mods_grpc.server.models.repository import Repository
from mods_grpc.server.persistence.journal import NOT_RECORDED, StateJournal
from mods_grpc.server.rpc.boundary import RpcBoundary
from mods_grpc.server.rpc.outcome import consume_exception, parse_request
from mods_grpc.server.rpc.status import to_status
from mods_grpc.server.scheduling.fair_lock import INLINE_SECONDS, LIGHT_SECONDS
from mods_grpc.server.security.authentication import CallerIdentity
from mods_grpc.server.series.replay_cache import ReplayCache
from mods_grpc.server.series.row_batcher import PendingRow
from mods_grpc.server.series.slots import SeriesSlots
from mods_grpc.server.series.total_alarms import TotalAlarms
from mods_grpc.server.streaming.row_scorer import RowScorer
from mods_grpc.v1 import inference_pb2 as pb

TOO_MANY_INVALID_RETRY_SECONDS = 60.0


class StreamSession:
    """One stream. It is bound to the model version that serves, unless the client pinned a version.

    Args:
        repository: The models.
        config: The limits.
        identity: The caller; its name is the namespace of the series where the client names no sensor.
        boundary: Rate limit, thread pool and metrics.
        journal: Records which sensors change.
        connection: The connection, as `peer` of its context names it: connections share a model by the time they take.

    Attributes:
        last_sequence: Of the last data message that was accepted. ended: whether the client has closed the stream.
    """

    def __init__(
        self,
        repository: Repository,
        config: ServerConfig,
        identity: CallerIdentity,
        boundary: RpcBoundary,
        journal: StateJournal,
        connection: str,
    ) -> None:
        self._identity = identity
        self._connection = connection
        self._boundary = boundary
        self._journal = journal
        self._recorded = NOT_RECORDED  # number of the saved state since which the journal has this sensor
        self._repository = repository
        self._config = config
        self._opening = pb.StreamConfig()
        self._sensor = identity.name
        self._scorer: RowScorer | None = None  # None before config, after close, and while the version it is of is replaced
        self._generation = 0
        self._model_name = ""
        self._grid: Any = None  # of the model; None before config
        self._is_stale = False  # whether the sensor has stale series
        self._replayed: set[str] = set()  # those of them that this client asked about when it opened, or has sent again
        self._response_prefix = b""  # the served model, which every response begins with
        self._invalid_in_a_row = 0
        self._replay_cache = ReplayCache()
        self._first_series = ""  # of the message that is handled
        self._handling = False
        self._queued = False
        self._closed = False
        self.last_sequence = 0
        self.ended = False

    async def handle(self, message: bytes) -> bytes:
        """Take one StreamDetectRequest and return a StreamDetectResponse. If cancelled, scoring that has begun is completed.

        Raises:
            ModsError: The stream ends: a protocol error, a model that can't be used, or too many invalid messages.
        """
        self._handling = True
        try:
            return await self._handle(parse_request(pb.StreamDetectRequest, message))
        finally:
            self._handling = False
            self.release_replaced()

    async def _handle(self, request: pb.StreamDetectRequest) -> bytes:
        kind, scorer = request.WhichOneof("message"), self._scorer
        if self._grid is None:
            if kind != "config":
                raise StreamProtocolError(Reason.CONFIG_REQUIRED, "expected config as the first message")
            return await self._open(request.config)
        if kind == "config":
            raise StreamProtocolError(Reason.CONFIG_REPEATED, "config was sent twice")
        if scorer is None or self._generation != self._repository.generation:
            scorer = self._rebind()
        if kind == "end":
            self.ended = True
            return self._respond(pb.StreamDetectResponse(ended=pb.StreamEnded(last_sequence=self.last_sequence)))
        reply = await self._reply(scorer, request.data, has_data=kind is not None)
        return with_reply(self._response_prefix, reply)

    def release_replaced(self) -> None:
        """Release the model version if another one may serve now, which the next message binds. A pinned stream keeps its own."""
        if self._generation != self._repository.generation and not self._handling and not self.is_pinned:
            self._scorer = None

    def encode_draining(self) -> bytes:
        """Encode the message that announces the server's shutdown to the client."""
        return self._respond(pb.StreamDetectResponse(draining=pb.StreamDraining(last_sequence=self.last_sequence)))

    def close(self) -> None:
        """Release the model: a pinned version, and the reference once queued work has ended."""
        self._closed = True
        if self._scorer is not None and self.is_pinned:
            self._scorer.model.series.unpin(self._sensor)
        if not self._queued:
            self._scorer = None
            self._replay_cache.close()

    @property
    def is_pinned(self) -> bool:
        """Whether the client named a model version, with which the stream stays."""
        return self._opening.model.HasField("version")

    def _respond(self, response: pb.StreamDetectResponse) -> bytes:
        return self._response_prefix + response.SerializeToString()

    async def _open(self, opening: pb.StreamConfig) -> bytes:
        model, sensor = await find_unlocked_model(self._repository, opening.model, opening.panes), self._identity.name
        require_enum_value(opening.explain, EXPLAIN_VALUES, "config.explain")
        if opening.sensor:
            raise_violations([check_name(opening.sensor, "config.sensor")])
            sensor = opening.sensor
        self._opening, self._sensor = opening, self._identity.own_sensor(sensor)
        self._generation = self._repository.generation
        sensor = self._sensor
        held = model.series.count_series(sensor)
        scorer = self._bind(model)
        if self.is_pinned:
            model.series.pin(sensor)
        if self._is_stale:
            self._replayed = set(opening.series) & model.series.stale_series(sensor)
        resumed = held > 0 and not self._is_stale
        previous_replies = model.series.swap_replies(sensor, self._replay_cache.entries)
        self._replay_cache.open(model.series.last_replies(sensor), opening.model.version if self.is_pinned else None)
        self._replay_cache.attach(previous_replies, has_series=held > 0)
        state = pb.STATE_ORIGIN_RESUMED if resumed else pb.STATE_ORIGIN_FRESH
        last_times = model.series.last_times(sensor, opening.series)
        opening.ClearField("series")  # perhaps thousands, and `opening` stays as long as the stream
        opened = encode_opened(
            model, self._config, significance=scorer.significance, state=state, series_held=held, last_times=last_times
        )
        return self._respond(pb.StreamDetectResponse(opened=opened))

    def _bind(self, model: LoadedModel) -> RowScorer:
        """Make the scorer for a model version.

        Raises:
            InvalidInputError: The stream's config is out of range.
        """
        opening, config = self._opening, self._config
        total, sensitivity = decode_total(opening), opening.sensitivity
        adapt = total is None and _adapts(opening)
        if total is not None:
            sensitivity = pb.Sensitivity(false_alarms_per_day=learning_budget(model.manifest.slide_seconds))
        significance = decode_significance(sensitivity, model.manifest)
        scorer = RowScorer(
            model=model,
            monitor=model.monitor(
                model.series.table,
                adapt=adapt,
                own_scales=opening.own_scales,
                own_envelope=opening.own_envelope,
                own_intervals=opening.own_intervals,
            ),
            adapt=adapt,
            own_scales=opening.own_scales,
            own_envelope=opening.own_envelope,
            own_intervals=opening.own_intervals,
            sensor=self._sensor,
            significance=significance,
            explain=opening.explain,
            impute_rows=decode_impute_rows(opening.gap_policy, config.default_impute_rows, config.max_impute_rows),
            max_observations=config.max_observations,
            max_series=config.max_series_per_sensor,
            max_future_seconds=config.max_future_seconds,
            metrics=self._boundary.metrics,
            total=None if total is None else self._share_budget(model, total, significance),
        )
        self._scorer, self._model_name, self._grid = scorer, model.manifest.name, model.grid
        self._is_stale = self._sensor in model.series.stale_sensors
        self._response_prefix = pb.StreamDetectResponse(model=encode_served_model(model)).SerializeToString()
        return scorer

    def _share_budget(self, model: LoadedModel, total: float, lenient_level: float) -> TotalAlarms:
        """Return the alarms of the sensor, whose series have one budget together, as a model version judges them."""
        manifest = model.manifest
        holdoff = manifest.calibration.holdoff_rows * manifest.slide_seconds * NANOS_PER_SECOND
        alarms = model.series.total_alarms(self._sensor, total, holdoff, manifest.slide_seconds)
        alarms.rule.lenient_level = lenient_level
        return alarms

    def _rebind(self) -> RowScorer:
        """Bind the version that serves now, to which the repository has handed the series over, or again the one it has pinned.

        The same version too: its series may have been elsewhere in between.

        Raises:
            ModelUnusableError: MODEL_RETIRED, none serves, or it has other features.
        """
        self._generation = self._repository.generation
        if self.is_pinned and self._scorer is not None:
            return self._bind(self._scorer.model)
        name = self._model_name
        try:
            model = self._repository.serving(name, None, self._opening.panes)
        except ModsError:
            raise ModelUnusableError(Reason.MODEL_RETIRED, f"model {name} was withdrawn") from None
        if model.grid != self._grid:
            text = f"version {model.manifest.version} of model {name}, which serves now, has other features"
            raise ModelUnusableError(Reason.MODEL_RETIRED, text)
        return self._bind(model)

    async def _reply(self, scorer: RowScorer, data: pb.StreamData, *, has_data: bool) -> bytes:
        """Return the serialized StreamAnswer to a data message."""
        sequence, expected = data.sequence, self.last_sequence + 1
        try:
            if not has_data:
                text = "expected data or end, found neither"
                raise InvalidInputError.for_field("message", Reason.FIELD_REQUIRED, text)
            if sequence != expected:
                text = f"data.sequence: expected {expected}, found {sequence}"
                raise SequenceGapError(Reason.SEQUENCE_GAP, text, limit=expected, actual=sequence)
            self._boundary.rate_limiter.acquire(self._identity.name)
        except ModsError as error:
            return self._reject(sequence, error)
        self.last_sequence = sequence
        request, self._first_series = serialize_request(data), first_series(data)
        if self._replay_cache.is_replaying:
            replayed = self._replay(sequence, request)
            if replayed is not None:
                return replayed
            if not data.warm_up:
                self._replay_cache.note_new()
        if self._is_stale:
            self._clear_stale(scorer.model.series, data)
        return await self._score(scorer, data, sequence, request)

    def _replay(self, sequence: int, request: bytes) -> bytes | None:
        """Return the reply that another stream of the sensor was given to the same request; None where there is none."""
        cached = self._replay_cache.lookup(self._first_series, request)
        return None if cached is None else self._store(request, with_sequence(cached, sequence), invalid=False)

    def _clear_stale(self, series: SeriesSlots, data: pb.StreamData) -> None:
        """Clear the marks of series that the client has replayed, or need not, once it sends a row that is new."""
        names = (data.observation.series,) if data.WhichOneof("input") == "observation" else data.batch.series
        self._replayed |= series.stale_series(self._sensor) & set(names)
        if not data.warm_up:
            series.clear_stale(self._sensor, self._replayed)
            self._replayed, self._is_stale = set(), self._sensor in series.stale_sensors

    async def _score(self, scorer: RowScorer, data: pb.StreamData, sequence: int, request: bytes) -> bytes:
        """Score a message: inline, in one call with rows of other streams, or queued for the lock of the series."""
        model, is_single_row = scorer.model, scorer.is_single_row(data)
        seconds = model.cost.seconds[0] if is_single_row else scorer.estimate_seconds(data)
        if seconds <= (INLINE_SECONDS if is_single_row else LIGHT_SECONDS) and not model.series.lock.locked:
            batcher = model.row_batcher
            is_alone = not is_single_row or self._replay_cache.is_replaying
            if batcher is None or is_alone or not batcher.has_concurrent_streams(self):
                try:
                    answer = scorer.score(data)
                except ModsError as error:
                    return self._reject(sequence, error)
                scorer.prefetch_next(data)
                return self._accept(sequence, request, answer)
            reply = await batcher.score(
                PendingRow(
                    scorer=scorer,
                    message=data,
                    is_current=lambda: self._generation == self._repository.generation,
                    finish=lambda outcome: self._finish(sequence, request, outcome),
                )
            )
            if reply is not None:
                return reply
        self._queued = True
        task = asyncio.ensure_future(self._score_queued(scorer, data, sequence, request, seconds))
        task.add_done_callback(self._end_queued)
        return await asyncio.shield(task)

    async def _score_queued(self, scorer: RowScorer, data: pb.StreamData, sequence: int, request: bytes, seconds: float) -> bytes:
        """Score a message under the lock of the series.

        Raises:
            ModelUnusableError: As `_rebind`; the stream ends.
        """
        scorer = await self._lock(scorer, seconds)
        lock = scorer.model.series.lock
        release = lock.release_later if LIGHT_SECONDS < seconds <= INLINE_SECONDS else lock.release
        try:
            if self._replay_cache.is_replaying and (reply := self._replay(sequence, request)) is not None:
                return reply  # another stream of the sensor had the lock before
            if seconds <= INLINE_SECONDS:
                answer = scorer.score(data)
            else:
                answer = await lock.run_in_executor(self._boundary.pool, lambda: scorer.score(data))
        except ModsError as error:
            return self._reject(sequence, error)
        finally:
            release()
        return self._accept(sequence, request, answer)

    def _end_queued(self, task: "asyncio.Task[bytes]") -> None:
        self._queued = False
        if self._closed:
            self._scorer = None
            self._replay_cache.close()
        consume_exception(task)

    async def _lock(self, scorer: RowScorer, seconds: float) -> RowScorer:
        """Acquire the lock of the series, and return the scorer of the version that serves then.

        Args:
            scorer: Of the version that serves now.
            seconds: How long the lock is expected to be held.

        Raises:
            ModelUnusableError: As `_rebind`; the lock is not held then.
        """
        while True:
            lock, model = scorer.model.series.lock, scorer.model
            await lock.acquire(seconds, self._connection)
            try:
                if self._generation != self._repository.generation:
                    scorer = self._rebind()
            except ModsError:
                lock.release()
                raise
            if scorer.model is model:
                return scorer
            lock.release()

    def _finish(self, sequence: int, request: bytes, outcome: Any) -> bytes:
        """Return the reply for the answer or the error of a row that was scored with others."""
        return self._reject(sequence, outcome) if isinstance(outcome, ModsError) else self._accept(sequence, request, outcome)

    def _accept(self, sequence: int, request: bytes, answer: pb.StreamAnswer) -> bytes:
        answer.sequence = sequence
        invalid = bool(answer.errors) and len(answer.errors) == max(1, len(answer.scores.status))
        return self._store(request, answer.SerializeToString(), invalid=invalid)

    def _store(self, request: bytes, reply: bytes, *, invalid: bool) -> bytes:
        if invalid:
            self._count_invalid()
        else:
            self._invalid_in_a_row = 0
        self._replay_cache.store(self._first_series, request, reply)
        if self._recorded != self._journal.number:  # now that the series have changed, and before the client learns of it
            self._recorded = self._journal.record(self._model_name, self._sensor)
        return reply

    def _reject(self, sequence: int, error: ModsError) -> bytes:
        self._boundary.metrics.count_rejected(error.reason)
        self._count_invalid()
        return pb.StreamAnswer(sequence=sequence, error=to_status(error)).SerializeToString()

    def _count_invalid(self) -> None:
        self._invalid_in_a_row += 1
        limit = self._config.max_bad_messages
        if self._invalid_in_a_row > limit:
            text = f"{self._invalid_in_a_row} messages in a row were refused, at most {limit} are accepted"
            raise QuotaError(
                Reason.TOO_MANY_BAD_OBSERVATIONS,
                text,
                limit=limit,
                actual=self._invalid_in_a_row,
                retry_seconds=TOO_MANY_INVALID_RETRY_SECONDS,
            )


async def find_unlocked_model(repository: Repository, reference: pb.ModelReference, panes: bool) -> LoadedModel:
    """Find the model that a stream refers to, once the job in progress on its series has ended and its reply is stored.

    Raises:
        ModsError: As `Repository.serving`.
    """
    model = find_model(repository, reference, panes)
    while model.series.lock.held:
        await model.series.lock.wait_idle()
        previous, model = model, find_model(repository, reference, panes)
        if model is previous:
            break
    return model


def _adapts(opening: pb.StreamConfig) -> bool:
    """Return whether the level adapts: it does for a budget, which is a rate to reach, and not for a significance level."""
    return not opening.fixed_level and opening.sensitivity.WhichOneof("level") != "significance"
