"""What is written as bytes is what protocol buffers write."""

import numpy as np
import pytest

from mods_grpc.detection import Verdicts
from mods_grpc.protobuf.arrays import pack_float64
from mods_grpc.protobuf.wire import encode_length_delimited, read_varint
from mods_grpc.server.codec.encode import encode_scores, encode_statuses
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import verdict_pb2

RNG = np.random.default_rng(1)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 20_000])
def test_a_field_is_written_with_its_number_and_length(size):
    answer = pb.StreamAnswer(sequence=size, scores=pb.ScoreColumns(p_value=bytes(size)))
    expected = pb.StreamDetectResponse(answer=answer).SerializeToString()
    assert encode_length_delimited(pb.StreamDetectResponse.ANSWER_FIELD_NUMBER, answer.SerializeToString()) == expected


@pytest.mark.parametrize("n", [0, 1, 300])
def test_scores_are_the_columns_that_lists_would_make(n):
    verdicts = Verdicts.unscored(RNG.normal(size=(n, 2)), 1)
    verdicts.outcome[:] = RNG.integers(1, 8, n)
    verdicts.anomalous[:] = RNG.random(n) < 0.5
    verdicts.p_value[::2] = RNG.random(len(verdicts.p_value[::2]))
    times = RNG.integers(-(2**63), 2**63 - 1, n)
    columns = encode_scores(times, encode_statuses(verdicts), verdicts.p_value, verdicts.anomalous)
    assert columns == pb.ScoreColumns(
        observe_time_unix_nano=times.tolist(),
        status=encode_statuses(verdicts).tolist(),
        p_value=pack_float64(verdicts.p_value),
        anomalous=verdicts.anomalous.tolist(),
    )
    statuses = verdict_pb2.VerdictStatus.DESCRIPTOR.values_by_number
    assert set(columns.status) <= set(statuses) - {0}


@pytest.mark.parametrize("number", [1, 127, 128, 300, 2**32, 2**63])
def test_a_varint_is_read_back_with_the_position_after_it(number):
    message = bytes(3) + pb.StreamAnswer(sequence=number).SerializeToString()
    assert read_varint(message, 4) == (number, len(message))  # after the tag of the field


@pytest.mark.parametrize(("message", "error"), [(b"\xff", IndexError), (b"\xff" * 11, ValueError)])
def test_a_varint_without_an_end_raises(message, error):
    with pytest.raises(error):
        read_varint(message, 0)
