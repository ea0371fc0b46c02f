"""Options of a model and of its fitting, frozen, under the names MODS gave them."""

from dataclasses import dataclass
from typing import Literal, cast, get_args

from mods_grpc.errors import DataError

ModelType = Literal[
    "MLP",
    "Conv1D",
    "autoencoderMLP",
    "LSTM",
    "GRU",
    "bidirectLSTM",
    "seq2seqLSTM",
    "stackedLSTM",
    "attentionLSTM",
    "TCN",
    "stackedTCN",
    "DLinear",
    "NLinear",
    "TSMixer",
    "GRU-FCN",
    "ensemble",
]
MODEL_TYPES: tuple[ModelType, ...] = get_args(ModelType)
Transform = Literal["none", "log1p"]
Loss = Literal["mse", "mae", "huber", "pinball"]
MEDIAN = 0.5
CHANNELS = 4  # of the calendar: sine and cosine of the day, sine and cosine of the week
DEFAULT_MEMBERS = "TSMixer,Conv1D"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """What the network looks like.

    Attributes:
        model_type: Architecture.
        sequence_len: Steps the network sees. When `model_delta`, those are differences, so a window has one row more.
        steps_ahead: Horizon: the network emits the whole path 1..steps_ahead.
        blocks: Width: units or filters of a layer.
        stacked_blocks: Depth: layers, or residual blocks, one on the other (architectures that are not stacked ignore
            nothing: their depth is stated in their file; DLinear and NLinear have no hidden layer to widen or deepen).
        batch_normalization: Whether hidden layers are batch-normalised.
        dropout_rate: Dropout between hidden layers while fitting, 0 to below 1.
        model_delta: Whether the network sees first differences and forecasts the change since the last row.
        level: Whether the network sees the level of the last row too, in place of the oldest difference, so that it can
            forecast a return to the usual; needs `model_delta`.
        window_scale: Whether each window is measured by the size of its own differences, so that quiet and lively series
            look alike to one network (Kim et al. 2022, RevIN, on differences); needs `model_delta`.
        transform: Applied to raw values before anything else; "log1p" is for counts and sums.
        linear: Whether a linear map from the window to the path stands beside the network, their sum being the output
            (the autoregressive part of Lai et al. 2018, LSTNet).
        calendar: Whether the network sees time of day and day of week, see `calendar`; the graph takes the time then.
        quantiles: Comma-separated levels between 0 and 1, the median among them, that the network emits beside the
            forecast, which is the median; empty for none.
        members: Comma-separated architectures that an ensemble averages; the same one may occur more than once. Empty for
            all other models, and for the usual ones.
    """

    model_type: ModelType = "LSTM"
    sequence_len: int = 12
    steps_ahead: int = 1
    blocks: int = 32
    stacked_blocks: int = 2
    batch_normalization: bool = False
    dropout_rate: float = 0.0
    model_delta: bool = True
    level: bool = False
    window_scale: bool = False
    transform: Transform = "none"
    linear: bool = False
    calendar: bool = False
    quantiles: str = ""
    members: str = ""

    def __post_init__(self) -> None:
        if self.model_type not in MODEL_TYPES:
            raise DataError(f"model_type is {self.model_type!r}, expected one of {', '.join(MODEL_TYPES)}")
        for name, least, most in (
            ("sequence_len", 2, 4096),
            ("steps_ahead", 1, 1024),
            ("blocks", 1, 4096),
            ("stacked_blocks", 1, 32),
        ):
            if not least <= getattr(self, name) <= most:
                raise DataError(f"{name} is {getattr(self, name)}, expected {least} to {most}")
        if not 0 <= self.dropout_rate < 1:
            raise DataError(f"dropout_rate is {self.dropout_rate}, expected 0 to below 1")
        if self.level and not self.model_delta:
            raise DataError("level adds nothing to a network that sees levels; use it with model_delta")
        if self.window_scale and not self.model_delta:
            raise DataError("window_scale measures windows by their differences; use it with model_delta")
        if self.levels and (list(self.levels) != sorted(set(self.levels)) or not 0 < self.levels[0] <= self.levels[-1] < 1):
            raise DataError(f"quantiles are {self.quantiles!r}, expected levels between 0 and 1 in rising order")
        if self.levels and (MEDIAN not in self.levels or len(self.levels) < 2):
            raise DataError(f"quantiles are {self.quantiles!r}, expected 0.5, which is the forecast, and one more at least")
        for member in self.member_types:
            if member not in MODEL_TYPES or member == "ensemble":
                raise DataError(f"members has {member!r}, expected architectures other than ensemble")
        if self.members and (self.model_type != "ensemble" or len(self.member_types) < 2):
            raise DataError(f"members is {self.members!r}, expected two architectures or more, of an ensemble")

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels of the quantiles in rising order, none where only the forecast is emitted.

        Raises:
            DataError: One is not a number.
        """
        try:
            return tuple(float(level) for level in self.quantiles.split(",")) if self.quantiles else ()
        except ValueError:
            raise DataError(f"quantiles are {self.quantiles!r}, expected comma-separated numbers") from None

    @property
    def heads(self) -> int:
        """Numbers that the network emits for one value: its quantiles, or the forecast alone."""
        return len(self.levels) or 1

    @property
    def member_types(self) -> tuple[ModelType, ...]:
        """Architectures of an ensemble; none where the model is none."""
        members = self.members or (DEFAULT_MEMBERS if self.model_type == "ensemble" else "")
        return cast("tuple[ModelType, ...]", tuple(name.strip() for name in members.split(",") if name.strip()))

    @property
    def channels(self) -> int:
        """Numbers beside the features at every step that the network sees."""
        return CHANNELS if self.calendar else 0

    @property
    def rows(self) -> int:
        """Raw rows of the input window."""
        return self.sequence_len + self.model_delta


@dataclass(frozen=True, kw_only=True, slots=True)
class FitConfig:
    """How the network is fitted: Adam on `loss`, early stopping on the validation range, best weights restored.

    Attributes:
        epochs: Most epochs.
        patience: Epochs without a lower validation loss after which the fit stops.
        batch_size: Windows of a step.
        learning_rate: Of Adam.
        loss: Over scaled targets. Quantiles are fitted by "pinball", and so is the median, for which "mae" is the same.
        averaging: Momentum of the moving average of weights that is validated and kept, 0 to below 1 (Polyak and
            Juditsky 1992); 0 keeps the weights themselves.
        seed: Of weights, order of batches and dropout.
    """

    epochs: int = 50
    patience: int = 8
    batch_size: int = 64
    learning_rate: float = 1e-3
    loss: Loss = "mae"
    averaging: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch_size"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if not self.learning_rate > 0:
            raise DataError(f"learning_rate is {self.learning_rate}, expected above 0")
        if not 0 <= self.averaging < 1:
            raise DataError(f"averaging is {self.averaging}, expected 0 to below 1")
        if not 0 <= self.seed < 2**32:
            raise DataError(f"seed is {self.seed}, expected 0 to {2**32 - 1}")
