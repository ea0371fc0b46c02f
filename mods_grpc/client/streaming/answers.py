"""From one answer on a stream to one verdict per observation of the message it answers."""

import dataclasses
from collections.abc import Mapping

from mods_grpc.client.codec.decode import column_verdict, served_model, statuses, verdict
from mods_grpc.client.codec.times import datetime_of
from mods_grpc.client.results import ServedModel, Verdict, VerdictStatus
from mods_grpc.client.rpc.errors import refusal_from_status
from mods_grpc.client.streaming.observations import Message
from mods_grpc.errors import InternalError, ModsError, Reason
from mods_grpc.protobuf.arrays import unpack_float64
from mods_grpc.v1 import inference_pb2


def verdicts_of(message: Message, response: inference_pb2.StreamDetectResponse) -> list[Verdict]:
    """Read the verdicts on a message's observations, in the order they were sent.

    Raises:
        InternalError: The answer does not fit the message.
    """
    model, answer = served_model(response.model), response.answer
    if answer.HasField("error"):
        error = refusal_from_status(answer.error)
        return [_refused(message, index, error, model) for index in range(len(message.series))]
    errors = {entry.index: refusal_from_status(entry.status) for entry in answer.errors}
    if message.single:
        if not answer.HasField("verdict") or not answer.verdict.HasField("observe_time"):
            return [_refused(message, 0, errors.get(0), model)]
        return [_with_error(verdict(answer.verdict, model), errors.get(0))]
    return _batch_verdicts(message, answer, errors, model)


def _batch_verdicts(
    message: Message, answer: inference_pb2.StreamAnswer, errors: Mapping[int, ModsError], model: ServedModel
) -> list[Verdict]:
    count, scores = len(message.series), answer.scores
    if len(scores.status) != count or len(scores.anomalous) != count:
        raise InternalError(Reason.INTERNAL, f"expected {count} scores in the answer, found {len(scores.status)}")
    p_values = unpack_float64(scores.p_value, (count,), "p_value").tolist()
    full = [verdict(entry, model) for entry in answer.verdicts]
    full.reverse()
    verdicts = []
    columns = zip(message.series, message.nanos.tolist(), statuses(scores), p_values, scores.anomalous, strict=True)
    for index, column in enumerate(columns):
        # Full verdicts come in the order sent, so the next one is the only candidate.
        explained = full and full[-1].series == column[0] and full[-1].observe_time == datetime_of(column[1])
        found = full.pop() if explained else column_verdict(*column, model)
        verdicts.append(_with_error(found, errors.get(index)))
    return verdicts


def _with_error(found: Verdict, error: ModsError | None) -> Verdict:
    return found if error is None else dataclasses.replace(found, error=error)


def _refused(message: Message, index: int, error: ModsError | None, model: ServedModel) -> Verdict:
    late = error is not None and error.reason is Reason.OBSERVATION_LATE
    return Verdict(
        series=message.series[index],
        observe_time=datetime_of(int(message.nanos[index])),
        status=VerdictStatus.LATE if late else VerdictStatus.REJECTED,
        error=error,
        model=model,
    )
