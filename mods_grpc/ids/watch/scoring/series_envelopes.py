"""The envelope of each series: what it usually reaches, by the same rule as on the server.

The watch keeps the envelopes itself and saves them in the checkpoint, like the levels: a server that was restarted and warmed up
again has lost what its series usually reach, and windows that are judged again after a crash must get the same verdict.
"""

import base64
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mods_grpc.alarm_rules.envelope import NO_BLOCK, NUMBERS, Envelope
from mods_grpc.alarm_rules.reason import describe_peak, restate_p_value
from mods_grpc.alarm_rules.training_range import TrainingRange
from mods_grpc.array_types import Floats, Indices
from mods_grpc.artifact.calibration import EnvelopeReference
from mods_grpc.artifact.strict_json import read_json
from mods_grpc.client.results import ModelInfo, Verdict, VerdictStatus
from mods_grpc.errors import ArtifactError

logger = logging.getLogger(__name__)
_COLUMNS = ("envelope", "envelope_block", "envelope_blocks")
MIN_CAPACITY = 64


@dataclass(frozen=True, slots=True)
class OwnEvidence:
    """What the envelope of a series says of a window.

    Attributes:
        by_feature: `(features,)`, -log10 p of each feature; all 0 where the strongest evidence is that of the model.
        usual: `(features,)`, the usual peaks in raw units, NaN where there is none.
        model_p: p-value of the model.
    """

    by_feature: Floats
    usual: Floats
    model_p: float

    def explain(self, verdict: Verdict) -> Verdict:
        """Return a verdict that the model explained with the shares of the features in this evidence, and its reason."""
        if len(verdict.features) != len(self.by_feature) or verdict.p_value is None:
            return verdict
        whole = self.by_feature.sum()
        if not whole:
            return replace(verdict, reason=restate_p_value(verdict.reason, self.model_p, verdict.p_value))
        shares = (self.by_feature / whole).tolist()
        features = tuple(replace(feature, share=share) for feature, share in zip(verdict.features, shares, strict=True))
        top = int(self.by_feature.argmax())
        named = features[top]
        if named.observed is None:
            return verdict
        reason = describe_peak(named.feature, named.observed, float(self.usual[top]), named.share, verdict.p_value)
        return replace(verdict, features=features, reason=reason)


class SeriesEnvelopes:
    """The envelopes of all series.

    Args:
        model: The model, with the reference that its calibration has for envelopes; without one, the model judges alone.

    Attributes:
        envelope, envelope_block, envelope_blocks: As of `EnvelopeState`, by slot.
        level: p-value at or below which a window is anomalous.
    """

    def __init__(self, model: ModelInfo) -> None:
        self.level = 0.0
        self._slots: dict[str, int] = {}
        self.envelope = np.zeros((0, NUMBERS, len(model.features) + 1), np.float32)
        self.envelope_block, self.envelope_blocks = np.zeros(0, np.int64), np.zeros(0, np.int32)
        self._rule = _make_rule(model)

    def follow(self, model: ModelInfo) -> None:
        """Judge by the reference of another version with the same features from here on; the envelopes stay, as on the server."""
        self._rule = _make_rule(model)

    @property
    def smallest_p(self) -> float:
        """Smallest p-value of a series that is known, but for what the model decides; 0 if it is not known."""
        return self._rule.smallest_p if self._rule else 0.0

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")  # any finite number may come
    def judge(self, verdicts: Sequence[Verdict], nanos: int, values: Floats) -> list[tuple[Verdict, OwnEvidence | None]]:
        """Judge windows of different series that start at the same time, and learn from them.

        Args:
            verdicts: Of the model, n of them.
            nanos: Start of the windows, nanoseconds since 1970.
            values: `(n, features)`, NaN where missing.

        Returns:
            The verdicts, those of series that are known with the p-value of the envelope, and what it says.
        """
        judged: list[tuple[Verdict, OwnEvidence | None]] = [(verdict, None) for verdict in verdicts]
        scored = [index for index, verdict in enumerate(verdicts) if verdict.status is VerdictStatus.SCORED]
        if not scored or self._rule is None:
            return judged
        slots = self._find_slots([verdicts[index].series for index in scored])
        observed, p_value = values[scored], np.array([verdicts[index].p_value for index in scored], np.float64)
        evidence = self._rule.judge(self, slots, np.full(len(scored), nanos), observed, p_value)
        score = -np.log10(evidence.p_value)
        for row, (index, p) in enumerate(zip(scored, evidence.p_value.tolist(), strict=True)):
            verdict = replace(verdicts[index], p_value=p, score=float(score[row]), anomalous=p <= self.level)
            judged[index] = verdict, OwnEvidence(evidence.by_feature[row], evidence.usual[row], float(p_value[row]))
        return judged

    def forget(self, series: str) -> None:
        """Begin the envelope of a series anew."""
        if (slot := self._slots.get(series)) is not None:
            self.envelope[slot], self.envelope_block[slot], self.envelope_blocks[slot] = np.nan, NO_BLOCK, 0

    def _find_slots(self, names: Sequence[str]) -> Indices:
        slots = np.array([self._slots.setdefault(name, len(self._slots)) for name in names], np.intp)
        if len(self._slots) > len(self.envelope_block):
            self._grow(max(MIN_CAPACITY, 2 * len(self._slots)))
        return slots

    def _grow(self, capacity: int) -> None:
        held = len(self.envelope_block)
        empty = np.full((capacity - held, *self.envelope.shape[1:]), np.nan, np.float32)
        self.envelope = np.concatenate([self.envelope, empty])
        self.envelope_block = np.concatenate([self.envelope_block, np.full(capacity - held, NO_BLOCK)])
        self.envelope_blocks = np.concatenate([self.envelope_blocks, np.zeros(capacity - held, np.int32)])

    def state(self) -> dict[str, Any]:
        """Return the envelopes as values for JSON."""
        count = len(self._slots)
        arrays = {name: base64.b64encode(getattr(self, name)[:count].tobytes()).decode() for name in _COLUMNS}
        return {"series": list(self._slots), "features": self.envelope.shape[2] - 1, **arrays}

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the envelopes by what `state` returned.

        Raises:
            ValueError: It is damaged, or of a model with another number of features.
        """
        names = [str(name) for name in state["series"]]
        if state["features"] != self.envelope.shape[2] - 1:
            raise ValueError("its envelopes are of another number of features")
        for name in _COLUMNS:
            empty = getattr(self, name)
            numbers = np.frombuffer(base64.b64decode(state[name]), empty.dtype)
            setattr(self, name, numbers.reshape(len(names), *empty.shape[1:]).copy())
        self._slots = {name: slot for slot, name in enumerate(names)}


def _make_rule(model: ModelInfo) -> Envelope | None:
    """Return the rule of a model; None if its calibration has none, or one of a later server that can't be read here."""
    if not model.envelope:
        return None
    try:
        reference = read_json(EnvelopeReference, model.envelope.encode(), "the envelope of the model")
    except ArtifactError as error:
        hint = "update the watch; until then series are judged by the model's calibration alone"
        logger.warning(
            "envelope_unreadable", extra={"model": model.name, "version": model.version, "error": str(error), "hint": hint}
        )
        return None
    low = np.array([feature.training_minimum for feature in model.features])
    high = np.array([feature.training_maximum for feature in model.features])
    training_range = TrainingRange(low, high, [feature.kind for feature in model.features], reference.samples)
    return Envelope(**reference.arguments, training_range=training_range)
