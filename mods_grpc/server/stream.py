"""StreamDetect, free of transport: one session per stream, a message in, the answer out.

What ends the stream is raised; what is wrong with a data message is said in its answer, and changes nothing.
"""

import asyncio
from collections import deque

from mods_grpc.errors import (
    InvalidInputError,
    ModelUnusableError,
    ModsError,
    QuotaError,
    Reason,
    SequenceGapError,
    StreamProtocolError,
)
from mods_grpc.messages import duration_from_seconds
from mods_grpc.server.access import Identity
from mods_grpc.server.checks import first_of, name_violation, require_known
from mods_grpc.server.config import ServerConfig
from mods_grpc.server.edge import Edge
from mods_grpc.server.loading import LoadedModel
from mods_grpc.server.observations import Judge
from mods_grpc.server.repository import Repository
from mods_grpc.server.requests import EXPLAIN_VALUES, find_model, impute_rows_of, significance_of
from mods_grpc.server.responses import served
from mods_grpc.server.status import status_of
from mods_grpc.server.turn import INLINE_SECONDS, Turn
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import values_pb2

REMEMBERED_BYTES = 64 * 1024  # of one stream; the last message is remembered whatever its size


class StreamSession:
    """One stream.

    Args:
        repository: The models.
        config: The limits.
        identity: Who sends; its name is the namespace of the series where the client names none.
        edge: What is counted and limited.
    """

    def __init__(self, repository: Repository, config: ServerConfig, identity: Identity, edge: Edge) -> None:
        self._identity = identity
        self._edge = edge
        self._repository = repository
        self._config = config
        self._sensor = identity.name
        self._model: LoadedModel | None = None
        self._generation = repository.generation
        self._bad_in_a_row = 0
        self._answered: deque[tuple[pb.StreamData, pb.StreamAnswer]] = deque()
        self._answered_bytes = 0
        self.last_sequence = 0

    async def handle(self, request: pb.StreamDetectRequest) -> pb.StreamDetectResponse:
        """Take one message and return its answer. Cancelled, it still does what it began.

        Raises:
            ModsError: The stream ends: a protocol error, a model that can't be used, or too many bad messages.
        """
        kind = request.WhichOneof("message")
        if self._model is None:
            if kind != "config":
                text = "expected config as the first message"
                raise StreamProtocolError(Reason.CONFIG_REQUIRED, text)
            return await self._open(request.config)
        if kind == "config":
            raise StreamProtocolError(Reason.CONFIG_REPEATED, "config was sent twice")
        if self._generation != self._repository.generation:
            self._move(self._model)
        if kind == "end":
            return pb.StreamDetectResponse(model=self._served, ended=pb.StreamEnded(last_sequence=self.last_sequence))
        answer = await self._answer(request)
        return pb.StreamDetectResponse(model=self._served, answer=answer)

    def draining(self) -> pb.StreamDetectResponse:
        """Return what a client is told before the server shuts down."""
        response = pb.StreamDetectResponse(draining=pb.StreamDraining(last_sequence=self.last_sequence))
        if self._model is not None:
            response.model.CopyFrom(served(self._model))
        return response

    async def _open(self, message: pb.StreamConfig) -> pb.StreamDetectResponse:
        model = find_model(self._repository, message.model)
        while model.states.turn.busy:
            await model.states.turn.idle()
            before, model = model, find_model(self._repository, message.model)
            if model is before:
                break
        self._generation = self._repository.generation
        require_known(message.explain, EXPLAIN_VALUES, "config.explain")
        if message.sensor:
            first_of([name_violation(message.sensor, "config.sensor")])
            self._sensor = message.sensor
        if self._identity.proven:  # nobody else's series can be reached
            self._sensor = f"{self._identity.name}\x1f{self._sensor}"
        self._opening = message
        self._use(model)
        if self._pinned:
            model.states.pins += 1
        manifest, config = model.manifest, self._config
        held = model.states.held(self._sensor)
        certain = held > 0 and not model.states.trust(self._sensor)
        previous = model.states.hand_over(self._sensor, self._answered)
        self._lost = previous if held else deque()  # still growing if the old stream is not done
        for kept in tuple(self._lost):  # this stream may break too before they are asked for
            self._keep(*kept)
        opened = pb.StreamOpened(
            features=model.feature_names,
            window_rows=manifest.rows,
            window=duration_from_seconds(manifest.window_seconds),
            slide=duration_from_seconds(manifest.slide_seconds),
            significance=self._judge.significance,
            state=pb.STATE_ORIGIN_RESUMED if certain else pb.STATE_ORIGIN_FRESH,
            series_held=held,
            limits=pb.StreamLimits(
                max_observations=config.max_observations,
                max_series=config.max_series_per_sensor,
                max_impute_rows=config.max_impute_rows,
                state_idle_time=duration_from_seconds(config.state_idle_seconds),
                stream_idle_time=duration_from_seconds(config.stream_idle_seconds),
            ),
        )
        return pb.StreamDetectResponse(model=served(model), opened=opened)

    def close(self) -> None:
        """Let go of the version that the stream pinned."""
        if self._model is not None and self._pinned:
            self._model.states.pins -= 1

    @property
    def _pinned(self) -> bool:
        return self._opening.model.HasField("version")

    def _use(self, model: LoadedModel) -> None:
        message, manifest, config = self._opening, model.manifest, self._config
        self._judge = Judge(
            model=model,
            monitor=model.monitor(model.states.table, adapt=_adapts(message)),
            sensor=self._sensor,
            significance=significance_of(message.sensitivity, manifest),
            explain=message.explain,
            impute_rows=impute_rows_of(message.gap_policy, config.default_impute_rows, config.max_impute_rows),
            max_observations=config.max_observations,
            max_series=config.max_series_per_sensor,
            max_future_seconds=config.max_future_seconds,
            metrics=self._edge.metrics,
        )
        self._model = model
        self._served = served(model)

    def _move(self, old: LoadedModel) -> None:
        """Go on with the version that serves now, whose series the repository has moved.

        Raises:
            ModelUnusableError: MODEL_RETIRED, there is none, or it has other features.
        """
        self._generation = self._repository.generation
        if self._pinned:
            return
        name = old.manifest.name
        try:
            model = self._repository.serving(name, None)
        except ModsError:
            raise ModelUnusableError(Reason.MODEL_RETIRED, f"model {name} was withdrawn") from None
        if not model.follows(old):
            text = f"version {model.manifest.version} of model {name}, which serves now, has other features"
            raise ModelUnusableError(Reason.MODEL_RETIRED, text)
        if model is not old:
            self._use(model)

    async def _answer(self, request: pb.StreamDetectRequest) -> pb.StreamAnswer:
        data = request.data
        try:
            if request.WhichOneof("message") is None:
                raise InvalidInputError.of("message", Reason.FIELD_REQUIRED, "expected data or end, found neither")
            if data.sequence != self.last_sequence + 1:
                expected = self.last_sequence + 1
                text = f"data.sequence: expected {expected}, found {data.sequence}"
                raise SequenceGapError(Reason.SEQUENCE_GAP, text, limit=expected, actual=data.sequence)
            self._edge.rates.take(self._identity.name)
            self.last_sequence = data.sequence
            answer = self._recall(data)
            if answer is None:
                seconds = self._judge.seconds(data)
                if seconds > INLINE_SECONDS or self._judge.model.states.turn.busy:
                    working = asyncio.ensure_future(self._judged_in_turn(data, seconds))
                    working.add_done_callback(_forget)
                    return await asyncio.shield(working)
                answer = self._judge.judge(data)
        except ModsError as error:
            return self._refused(data, error)
        return self._judged(data, answer)

    async def _judged_in_turn(self, data: pb.StreamData, seconds: float) -> pb.StreamAnswer:
        try:
            turn = await self._turn(seconds)
            try:
                if seconds <= INLINE_SECONDS:
                    answer = self._judge.judge(data)
                else:
                    judge = self._judge
                    answer = await turn.on_thread(self._edge.pool, lambda: judge.judge(data))
            finally:
                turn.give_back()
        except ModsError as error:
            return self._refused(data, error)
        return self._judged(data, answer)

    async def _turn(self, seconds: float) -> Turn:
        """Wait for the turn on the model that serves then."""
        while True:
            model = self._judge.model
            await model.states.turn.take(seconds)
            if self._generation == self._repository.generation:
                return model.states.turn
            try:
                self._move(model)
            except ModsError:
                model.states.turn.give_back()
                raise
            if self._judge.model is model:
                return model.states.turn
            model.states.turn.give_back()

    def _refused(self, data: pb.StreamData, error: ModsError) -> pb.StreamAnswer:
        self._edge.metrics.rejected(error.reason)
        self._count_bad(True)
        return pb.StreamAnswer(sequence=data.sequence, error=status_of(error))

    def _judged(self, data: pb.StreamData, answer: pb.StreamAnswer) -> pb.StreamAnswer:
        self._count_bad(bool(answer.errors) and len(answer.errors) == max(1, len(answer.scores.status)))
        self._keep(data, answer)
        return answer

    def _count_bad(self, bad: bool) -> None:
        self._bad_in_a_row = self._bad_in_a_row + 1 if bad else 0
        limit = self._config.max_bad_messages
        if self._bad_in_a_row > limit:
            text = f"{self._bad_in_a_row} messages in a row were refused, at most {limit} are accepted"
            raise QuotaError(Reason.TOO_MANY_BAD_OBSERVATIONS, text, limit=limit, actual=self._bad_in_a_row, retry_seconds=60.0)

    def _keep(self, data: pb.StreamData, answer: pb.StreamAnswer) -> None:
        self._answered.append((data, answer))
        self._answered_bytes += data.ByteSize() + answer.ByteSize()
        while self._answered_bytes > REMEMBERED_BYTES and len(self._answered) > 1:
            old_data, old_answer = self._answered.popleft()
            self._answered_bytes -= old_data.ByteSize() + old_answer.ByteSize()

    def _recall(self, data: pb.StreamData) -> pb.StreamAnswer | None:
        """Return the answer that was given to the same message on the sensor's last stream, in case it was lost there."""
        for sent, answer in tuple(self._lost):
            if _same(sent, data):
                found = pb.StreamAnswer()
                found.CopyFrom(answer)
                found.sequence = data.sequence
                return found
        if not data.warm_up:
            self._lost = deque()
        return None


def _adapts(message: pb.StreamConfig) -> bool:
    """Tell whether the level adapts: a budget is a rate to come to, a significance level is a level."""
    return not message.fixed_level and message.sensitivity.WhichOneof("level") != "significance"


def pack_exchange(data: pb.StreamData, answer: pb.StreamAnswer) -> bytes:
    """Write a request and its answer as bytes."""
    request = pb.StreamDetectRequest(data=data).SerializeToString()
    return len(request).to_bytes(4, "big") + request + pb.StreamDetectResponse(answer=answer).SerializeToString()


def unpack_exchange(packed: bytes) -> tuple[pb.StreamData, pb.StreamAnswer]:
    """Read what `pack_exchange` wrote."""
    end = 4 + int.from_bytes(packed[:4], "big")
    return pb.StreamDetectRequest.FromString(packed[4:end]).data, pb.StreamDetectResponse.FromString(packed[end:]).answer


def _same(one: pb.StreamData, other: pb.StreamData) -> bool:
    if one.warm_up != other.warm_up or one.WhichOneof("input") != other.WhichOneof("input"):
        return False
    kind = one.WhichOneof("input")
    first: values_pb2.Observation | values_pb2.ObservationBatch = one.batch if kind == "batch" else one.observation
    return bool(first == (other.batch if kind == "batch" else other.observation))


def _forget(task: "asyncio.Task[pb.StreamAnswer]") -> None:
    """Take note of how work ended that nobody may wait for any more."""
    if not task.cancelled():
        task.exception()
