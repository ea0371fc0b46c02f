"""Decodes an answer on a stream into one verdict per observation of its message."""

import dataclasses
from collections.abc import Mapping

from mods_grpc.client.codec.decode import decode_served_model, decode_statuses, decode_verdict, make_column_verdict
from mods_grpc.client.codec.times import to_datetime
from mods_grpc.client.results import ServedModel, Verdict, VerdictStatus
from mods_grpc.client.rpc.errors import stream_error_from_status
from mods_grpc.client.streaming.observations import Message
from mods_grpc.errors import InternalError, ModsError, Reason
from mods_grpc.protobuf.arrays import unpack_float64
from mods_grpc.v1 import inference_pb2


def decode_answer(message: Message, response: inference_pb2.StreamDetectResponse) -> list[Verdict]:
    """Decode the verdicts on a message's observations, in their order.

    Raises:
        InternalError: The answer does not fit the message.
    """
    model, answer = decode_served_model(response.model), response.answer
    if answer.HasField("error"):
        error = stream_error_from_status(answer.error)
        return [_make_rejected(message, index, error, model) for index in range(len(message.series))]
    errors = {entry.index: stream_error_from_status(entry.status) for entry in answer.errors}
    if message.single:
        if not answer.HasField("verdict") or not answer.verdict.HasField("observe_time"):
            return [_make_rejected(message, 0, errors.get(0), model)]
        return [_with_error(decode_verdict(answer.verdict, model), errors.get(0))]
    return _decode_batch(message, answer, errors, model)


def _decode_batch(
    message: Message, answer: inference_pb2.StreamAnswer, errors: Mapping[int, ModsError], model: ServedModel
) -> list[Verdict]:
    count, scores = len(message.series), answer.scores
    if len(scores.status) != count or len(scores.anomalous) != count:
        raise InternalError(Reason.INTERNAL, f"expected {count} scores in the answer, found {len(scores.status)}")
    p_values = unpack_float64(scores.p_value, (count,), "p_value").tolist()
    full_verdicts = [decode_verdict(entry, model) for entry in reversed(answer.verdicts)]
    verdicts = []
    columns = zip(message.series, message.nanos.tolist(), decode_statuses(scores), p_values, scores.anomalous, strict=True)
    for index, column in enumerate(columns):
        # Full verdicts are in the message's order, so only the next one can be this observation's.
        candidate = full_verdicts[-1] if full_verdicts else None
        if candidate is not None and candidate.series == column[0] and candidate.observe_time == to_datetime(column[1]):
            verdict = full_verdicts.pop()
        else:
            verdict = make_column_verdict(*column, model)
        verdicts.append(_with_error(verdict, errors.get(index)))
    return verdicts


def _with_error(verdict: Verdict, error: ModsError | None) -> Verdict:
    return verdict if error is None else dataclasses.replace(verdict, error=error)


def _make_rejected(message: Message, index: int, error: ModsError | None, model: ServedModel) -> Verdict:
    late = error is not None and error.reason is Reason.OBSERVATION_LATE
    return Verdict(
        series=message.series[index],
        observe_time=to_datetime(int(message.nanos[index])),
        status=VerdictStatus.LATE if late else VerdictStatus.REJECTED,
        error=error,
        model=model,
    )
