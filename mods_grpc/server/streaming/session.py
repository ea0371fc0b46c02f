"""StreamDetect, free of transport: one session per stream, a message in, the answer out.

What ends the stream is raised; what is wrong with a data message is said in its answer, and changes nothing.
"""

import asyncio

from mods_grpc.errors import (
    InvalidInputError,
    ModsError,
    QuotaError,
    Reason,
    SequenceGapError,
    StreamProtocolError,
)
from mods_grpc.server.codec.decode import EXPLAIN_VALUES
from mods_grpc.server.codec.encode import encode_opened
from mods_grpc.server.codec.validation import raise_violations, check_name, require_enum_value
from mods_grpc.server.config import ServerConfig
from mods_grpc.server.models.repository import Repository
from mods_grpc.server.rpc.boundary import Edge, note_end, parse
from mods_grpc.server.rpc.status import status_of
from mods_grpc.server.scheduling.fair_lock import INLINE_SECONDS
from mods_grpc.server.security.authentication import Identity
from mods_grpc.server.series.replay_cache import CachedReply, ReplayCache, serialize_request, with_reply
from mods_grpc.server.series.row_batcher import PendingRow
from mods_grpc.server.streaming.session_model import StreamModel, unbound_model
from mods_grpc.v1 import inference_pb2 as pb


class StreamSession:
    """One stream.

    Args:
        repository: The models.
        config: The limits.
        identity: Who sends; its name is the namespace of the series where the client names none.
        edge: What is counted and limited.

    Attributes:
        last_sequence: Of the last data message that was taken. ended: whether the client has closed the stream.
    """

    def __init__(self, repository: Repository, config: ServerConfig, identity: Identity, edge: Edge) -> None:
        self._identity = identity
        self._edge = edge
        self._repository = repository
        self._config = config
        self._model: StreamModel | None = None
        self._bad_in_a_row = 0
        self._replay_cache = ReplayCache()
        self.last_sequence = 0
        self.ended = False

    async def handle(self, message: bytes) -> bytes:
        """Take one StreamDetectRequest and return a StreamDetectResponse. Cancelled, it still does what it began.

        Raises:
            ModsError: The stream ends: a protocol error, a model that can't be used, or too many bad messages.
        """
        request = parse(pb.StreamDetectRequest, message)
        kind = request.WhichOneof("message")
        if self._model is None:
            if kind != "config":
                text = "expected config as the first message"
                raise StreamProtocolError(Reason.CONFIG_REQUIRED, text)
            return await self._open(request.config)
        if kind == "config":
            raise StreamProtocolError(Reason.CONFIG_REPEATED, "config was sent twice")
        self._model.follow()
        if kind == "end":
            self.ended = True
            return self._reply(pb.StreamDetectResponse(ended=pb.StreamEnded(last_sequence=self.last_sequence)))
        answer = await self._answer(self._model, request.data, found=kind is not None)
        return with_reply(self._model.said_by, answer)

    def draining(self) -> bytes:
        """Return what a client is told before the server shuts down."""
        return self._reply(pb.StreamDetectResponse(draining=pb.StreamDraining(last_sequence=self.last_sequence)))

    def _reply(self, response: pb.StreamDetectResponse) -> bytes:
        said_by = b"" if self._model is None else self._model.said_by
        return said_by + response.SerializeToString()

    async def _open(self, message: pb.StreamConfig) -> bytes:
        model, sensor = await unbound_model(self._repository, message.model), self._identity.name
        require_enum_value(message.explain, EXPLAIN_VALUES, "config.explain")
        if message.sensor:
            raise_violations([check_name(message.sensor, "config.sensor")])
            sensor = message.sensor
        if self._identity.proven:  # nobody else's series can be reached
            sensor = f"{self._identity.name}\x1f{sensor}"
        metrics = self._edge.metrics
        self._model = StreamModel(self._repository, self._config, metrics, opening=message, sensor=sensor, model=model)
        held = model.states.count_series(sensor)
        certain = held > 0 and not model.states.clear_stale(sensor)
        asked_before = model.states.swap_replies(sensor, self._replay_cache.entries)
        if held:
            self._replay_cache.attach(asked_before)
        state = pb.STATE_ORIGIN_RESUMED if certain else pb.STATE_ORIGIN_FRESH
        said = encode_opened(model, self._config, significance=self._model.judge.significance, state=state, held=held)
        return self._reply(pb.StreamDetectResponse(opened=said))

    def close(self) -> None:
        """Let go of the model."""
        model, self._model = self._model, None
        if model is not None:
            model.let_go()

    async def _answer(self, model: StreamModel, data: pb.StreamData, *, found: bool) -> bytes:
        sequence = data.sequence
        try:
            if not found:
                raise InvalidInputError.of("message", Reason.FIELD_REQUIRED, "expected data or end, found neither")
            if sequence != self.last_sequence + 1:
                expected = self.last_sequence + 1
                text = f"data.sequence: expected {expected}, found {sequence}"
                raise SequenceGapError(Reason.SEQUENCE_GAP, text, limit=expected, actual=sequence)
            self._edge.rates.acquire(self._identity.name)
        except ModsError as error:
            return self._reject(sequence, error)
        self.last_sequence = sequence
        sent = serialize_request(data)
        known = self._replay_cache.lookup(sent, sequence)
        if known is not None:
            return self._answered(sent, known, bad=False)
        if not data.warm_up:
            self._replay_cache.end_replay()
        return await self._score_inline(model, data, sequence, sent)

    async def _score_inline(self, model: StreamModel, data: pb.StreamData, sequence: int, sent: bytes) -> bytes:
        """Judge a message as soon as may be: at once, with rows of other streams, or when it is its turn."""
        judge = model.judge
        seconds, gatherer = judge.estimate_seconds(data), judge.model.rows
        if seconds <= INLINE_SECONDS and not judge.model.states.lock.locked:
            if gatherer is None or not judge.is_single_row(data) or not gatherer.has_concurrent_streams(self):
                try:
                    answer = judge.score(data)
                except ModsError as error:
                    return self._reject(sequence, error)
                judge.prefetch_next(data)
                return self._judged(sequence, sent, answer)
            gathered = await gatherer.score(
                PendingRow(
                    scorer=judge,
                    data=data,
                    is_current=lambda: model.stays,
                    finish=lambda found: self._finish(sequence, sent, found),
                )
            )
            if gathered is not None:
                return gathered
        working = asyncio.ensure_future(self._score_queued(model, data, sequence, sent, seconds))
        working.add_done_callback(note_end)
        return await asyncio.shield(working)

    def _finish(self, sequence: int, sent: bytes, found: pb.StreamAnswer | ModsError) -> bytes:
        return self._reject(sequence, found) if isinstance(found, ModsError) else self._judged(sequence, sent, found)

    async def _score_queued(self, model: StreamModel, data: pb.StreamData, sequence: int, sent: bytes, seconds: float) -> bytes:
        try:
            turn = await model.turn(seconds)
            judge = model.judge
            try:
                if seconds <= INLINE_SECONDS:
                    answer = judge.score(data)
                else:
                    answer = await turn.run_in_executor(self._edge.pool, lambda: judge.score(data))
            finally:
                turn.release()
        except ModsError as error:
            return self._reject(sequence, error)
        return self._judged(sequence, sent, answer)

    def _reject(self, sequence: int, error: ModsError) -> bytes:
        self._edge.metrics.rejected(error.reason)
        self._count_invalid(True)
        return pb.StreamAnswer(sequence=sequence, error=status_of(error)).SerializeToString()

    def _judged(self, sequence: int, sent: bytes, answer: pb.StreamAnswer) -> bytes:
        answer.sequence = sequence
        bad = bool(answer.errors) and len(answer.errors) == max(1, len(answer.scores.status))
        return self._answered(sent, answer.SerializeToString(), bad=bad)

    def _answered(self, sent: bytes, answer: bytes, *, bad: bool) -> bytes:
        self._count_invalid(bad)
        self._replay_cache.store(CachedReply(sent, answer))
        return answer

    def _count_invalid(self, bad: bool) -> None:
        self._bad_in_a_row = self._bad_in_a_row + 1 if bad else 0
        limit = self._config.max_bad_messages
        if self._bad_in_a_row > limit:
            text = f"{self._bad_in_a_row} messages in a row were refused, at most {limit} are accepted"
            raise QuotaError(Reason.TOO_MANY_BAD_OBSERVATIONS, text, limit=limit, actual=self._bad_in_a_row, retry_seconds=60.0)
