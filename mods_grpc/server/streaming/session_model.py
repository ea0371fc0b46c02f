"""Which model a stream is with: the one it asked for, or, unless it pinned a version, whatever serves by that name then."""

from mods_grpc.errors import ModelUnusableError, ModsError, Reason
from mods_grpc.server.codec.decode import find_model, decode_impute_rows, decode_significance
from mods_grpc.server.codec.encode import encode_served_model
from mods_grpc.server.config import ServerConfig
from mods_grpc.server.models.loader import LoadedModel
from mods_grpc.server.models.repository import Repository
from mods_grpc.server.scheduling.fair_lock import FairLock
from mods_grpc.server.streaming.row_scorer import RowScorer
from mods_grpc.server.telemetry.metrics import Metrics
from mods_grpc.v1 import inference_pb2 as pb


class StreamModel:
    """The model of one stream.

    Args:
        repository: The models.
        config: The limits.
        metrics: What is counted.
        opening: How the stream was opened.
        sensor: Namespace of its series.
        model: The model it begins with.

    Attributes:
        judge: Judges its observations. said_by: what every response begins with.

    Raises:
        InvalidInputError: The opening asks for what there is not.
    """

    def __init__(
        self,
        repository: Repository,
        config: ServerConfig,
        metrics: Metrics,
        *,
        opening: pb.StreamConfig,
        sensor: str,
        model: LoadedModel,
    ) -> None:
        self._repository, self._config, self._metrics = repository, config, metrics
        self._opening, self._sensor = opening, sensor
        self._generation = repository.generation
        self._use(model)
        if self._pinned:
            model.states.pins += 1

    def let_go(self) -> None:
        """Let go of the version that the stream pinned."""
        if self._pinned:
            self.judge.model.states.pins -= 1

    @property
    def stays(self) -> bool:
        """Whether nothing has changed in the repository since the model was looked for."""
        return self._generation == self._repository.generation

    def follow(self) -> None:
        """Go on with the version that serves now, whose series the repository has moved.

        Raises:
            ModelUnusableError: MODEL_RETIRED, there is none, or it has other features.
        """
        if self.stays:
            return
        self._generation = self._repository.generation
        if self._pinned:
            return
        old = self.judge.model
        name = old.manifest.name
        try:
            model = self._repository.serving(name, None)
        except ModsError:
            raise ModelUnusableError(Reason.MODEL_RETIRED, f"model {name} was withdrawn") from None
        if not model.follows(old):
            text = f"version {model.manifest.version} of model {name}, which serves now, has other features"
            raise ModelUnusableError(Reason.MODEL_RETIRED, text)
        self._use(model)  # even the same one: its series may have been elsewhere in between

    async def turn(self, seconds: float) -> FairLock:
        """Wait for the turn on the model that serves then; `seconds` is how long the work is expected to take.

        Raises:
            ModelUnusableError: As `follow`.
        """
        while True:
            model = self.judge.model
            await model.states.lock.acquire(seconds)
            try:
                self.follow()
            except ModsError:
                model.states.lock.release()
                raise
            if self.judge.model is model:
                return model.states.lock
            model.states.lock.release()

    @property
    def _pinned(self) -> bool:
        return self._opening.model.HasField("version")

    def _use(self, model: LoadedModel) -> None:
        opening, manifest, config = self._opening, model.manifest, self._config
        adapt = _adapts(opening)
        self.judge = RowScorer(
            model=model,
            monitor=model.monitor(model.states.table, adapt=adapt, own_scales=opening.own_scales),
            adapt=adapt,
            own_scales=opening.own_scales,
            sensor=self._sensor,
            significance=decode_significance(opening.sensitivity, manifest),
            explain=opening.explain,
            impute_rows=decode_impute_rows(opening.gap_policy, config.default_impute_rows, config.max_impute_rows),
            max_observations=config.max_observations,
            max_series=config.max_series_per_sensor,
            max_future_seconds=config.max_future_seconds,
            metrics=self._metrics,
        )
        self.said_by = pb.StreamDetectResponse(model=encode_served_model(model)).SerializeToString()


async def unbound_model(repository: Repository, reference: pb.ModelReference) -> LoadedModel:
    """Find the model of a request, once nobody works on its series any more.

    Raises:
        ModsError: As `Repository.serving`.
    """
    model = find_model(repository, reference)
    while model.states.lock.locked:
        await model.states.lock.wait_idle()
        before, model = model, find_model(repository, reference)
        if model is before:
            break
    return model


def _adapts(message: pb.StreamConfig) -> bool:
    """Tell whether the level adapts: a budget is a rate to come to, a significance level is a level."""
    return not message.fixed_level and message.sensitivity.WhichOneof("level") != "significance"
