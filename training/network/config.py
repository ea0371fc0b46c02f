"""Options of a network and of fitting it, under the names MODS gave them."""

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
    "branches",
    "ridge",
    "trees",
    "boosted",
    "ensemble",
]
MODEL_TYPES: tuple[ModelType, ...] = get_args(ModelType)
DIRECT_TYPES: tuple[ModelType, ...] = ("ridge", "trees", "boosted")
"""Models that are not fitted by gradient descent. With a calendar they see the clock as numbers."""
Blend = Literal["mean", "validation"]
Transform = Literal["none", "log1p", "level"]
Refit = Literal["none", "validation", "all"]
Loss = Literal["mse", "mae", "huber", "pinball"]
MEDIAN = 0.5
CALENDAR_CHANNELS = 4
"""Sine and cosine of the time of day, sine and cosine of the time of week."""
CLOCK_CHANNELS = 4
"""Slot and minute of the day, day of the week, minute of the hour: after the others, for models that see the clock as numbers."""
MAX_SEEDS = 16
MAX_LEAVES = 255
MAX_TREES = 4000
DEFAULT_MEMBERS = "TSMixer,Conv1D"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Options of the network.

    Attributes:
        model_type: Architecture.
        sequence_len: Steps that the network sees. With `model_delta` these are differences, so a window has one row more.
        steps_ahead: Horizon: the network emits all steps 1..steps_ahead.
        blocks: Width: units or filters of a layer.
        stacked_blocks: Depth: layers or residual blocks on top of each other. What it means for an architecture is stated in
            its file; DLinear and NLinear have no hidden layers.
        batch_normalization: Whether hidden layers are batch-normalised.
        dropout_rate: Dropout between hidden layers while fitting, 0 to below 1.
        model_delta: Whether the network sees first differences and forecasts the change since the last row.
        level: Whether the network sees the level of the last row instead of the oldest difference, so that it can forecast a
            return to the usual level. Needs `model_delta`.
        window_scale: Whether each window is scaled by the size of its own differences, so that one network fits series of
            different size (Kim et al. 2022, RevIN, applied to differences). Needs `model_delta`.
        transform: Applied to raw values first. "log1p" is for counts and sums; "level" divides all values of a window, and its
            forecast, by the feature's level at the window's end.
        linear: Whether a linear map from the window to the forecast is added to the network's output (the autoregressive
            part of LSTNet, Lai et al. 2018).
        calendar: Whether the network sees time of day and day of week, see `calendar`. The graph then takes the time.
        quantiles: Comma-separated levels between 0 and 1 that the network emits as a second output; the median must be one of
            them and is the forecast. Empty for none.
        members: Comma-separated architectures that an ensemble averages; one may occur more than once. Empty for
            `DEFAULT_MEMBERS`, and for any other architecture.
        blend: How an ensemble weighs its members: equally, or by step and feature as fits the validation range best.
        seeds: Networks of each architecture that start from other weights and whose forecasts are averaged in one graph. There is
            one ridge and one forest of trees whatever it says.
        leaves: Leaves of a tree.
        trees: Maximum number of trees of all features together, which decides how long a forecast takes; there are as many as the
            validation range asks for, and of a boosted model as many as this.
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
    blend: Blend = "mean"
    seeds: int = 1
    leaves: int = 24
    trees: int = 600

    def __post_init__(self) -> None:
        if self.model_type not in MODEL_TYPES:
            raise DataError(f"model_type is {self.model_type!r}, expected one of {', '.join(MODEL_TYPES)}")
        for name, minimum, maximum in (
            ("sequence_len", 2, 4096),
            ("steps_ahead", 1, 1024),
            ("blocks", 1, 4096),
            ("stacked_blocks", 1, 32),
            ("seeds", 1, MAX_SEEDS),
            ("leaves", 2, MAX_LEAVES),
            ("trees", 1, MAX_TREES),
        ):
            if not minimum <= getattr(self, name) <= maximum:
                raise DataError(f"{name} is {getattr(self, name)}, expected {minimum} to {maximum}")
        if not 0 <= self.dropout_rate < 1:
            raise DataError(f"dropout_rate is {self.dropout_rate}, expected 0 to below 1")
        if self.level and not self.model_delta:
            raise DataError("level adds nothing to a network that sees levels; use it with model_delta")
        if self.window_scale and not self.model_delta:
            raise DataError("window_scale scales windows by their differences; use it with model_delta")
        if self.window_scale and self.transform == "level":
            raise DataError("window_scale and the transform level both scale windows; use one of them")
        if self.levels and (list(self.levels) != sorted(set(self.levels)) or not 0 < self.levels[0] <= self.levels[-1] < 1):
            raise DataError(f"quantiles are {self.quantiles!r}, expected levels between 0 and 1 in ascending order")
        if self.levels and (MEDIAN not in self.levels or len(self.levels) < 2):
            raise DataError(f"quantiles are {self.quantiles!r}, expected 0.5, which is the forecast, and at least one more")
        if self.blend not in get_args(Blend):
            raise DataError(f"blend is {self.blend!r}, expected one of {', '.join(get_args(Blend))}")
        for member in self.member_types:
            if member not in MODEL_TYPES or member == "ensemble":
                raise DataError(f"members has {member!r}, expected architectures other than ensemble")
        if self.members and (self.model_type != "ensemble" or len(self.member_types) < 2):
            raise DataError(f"members is {self.members!r}, expected two architectures or more, of an ensemble")

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels of the quantiles in ascending order; empty if only the forecast is emitted.

        Raises:
            DataError: One is not a number.
        """
        try:
            return tuple(float(level) for level in self.quantiles.split(",")) if self.quantiles else ()
        except ValueError:
            raise DataError(f"quantiles are {self.quantiles!r}, expected comma-separated numbers") from None

    @property
    def median(self) -> int:
        """Number of the median among the levels."""
        return self.levels.index(MEDIAN)

    @property
    def heads(self) -> int:
        """Numbers that the network emits per value: one per quantile, or the forecast alone."""
        return len(self.levels) or 1

    @property
    def member_types(self) -> tuple[ModelType, ...]:
        """Architectures of an ensemble; empty for any other model."""
        members = self.members or (DEFAULT_MEMBERS if self.model_type == "ensemble" else "")
        return cast("tuple[ModelType, ...]", tuple(name.strip() for name in members.split(",") if name.strip()))

    @property
    def channels(self) -> int:
        """Input channels of every step besides the features."""
        if not self.calendar:
            return 0
        has_clock = any(model_type in DIRECT_TYPES for model_type in (self.model_type, *self.member_types))
        return CALENDAR_CHANNELS + (CLOCK_CHANNELS if has_clock else 0)

    @property
    def rows(self) -> int:
        """Raw rows of the input window."""
        return self.sequence_len + self.model_delta


@dataclass(frozen=True, kw_only=True, slots=True)
class FitConfig:
    """Options of fitting: Adam on `loss`, early stopping on the validation range, best weights restored.

    Attributes:
        epochs: Maximum number of epochs.
        patience: Epochs without a lower validation loss after which the fit stops.
        batch_size: Windows per step.
        learning_rate: Learning rate of Adam.
        tree_rate: Learning rate of trees: what share of its leaves a tree adds.
        loss: Loss on scaled targets. Quantiles need "pinball"; for the median alone it equals "mae".
        averaging: Momentum of the moving average of the weights, 0 to below 1, which is validated and restored instead of the
            weights themselves (Polyak and Juditsky 1992); 0 for no averaging.
        seed: Seed of weights, order of batches, dropout and trees.
        refit: What the model is fitted on again, with as many epochs and trees as the validation range has chosen: nothing, the
            validation range as well, or all up to the test range. In the last case the detector is calibrated on the forecasts of
            a model that was fitted on training and validation range alone.
    """

    epochs: int = 50
    patience: int = 8
    batch_size: int = 64
    learning_rate: float = 1e-3
    tree_rate: float = 0.1
    loss: Loss = "mae"
    averaging: float = 0.0
    seed: int = 1
    refit: Refit = "none"

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch_size"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} is {getattr(self, name)}, expected 1 or more")
        for name in ("learning_rate", "tree_rate"):
            if not getattr(self, name) > 0:
                raise DataError(f"{name} is {getattr(self, name)}, expected above 0")
        if self.refit not in get_args(Refit):
            raise DataError(f"refit is {self.refit!r}, expected one of {', '.join(get_args(Refit))}")
        if not 0 <= self.averaging < 1:
            raise DataError(f"averaging is {self.averaging}, expected 0 to below 1")
        if not 0 <= self.seed < 2**32:
            raise DataError(f"seed is {self.seed}, expected 0 to {2**32 - 1}")
