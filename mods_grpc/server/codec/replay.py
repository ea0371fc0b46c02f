"""Stream messages as the replay cache holds them, and responses made from their bytes without parsing."""

from google.protobuf.message import DecodeError

from mods_grpc.protobuf.wire import LENGTH_DELIMITED, encode_varint
from mods_grpc.v1 import inference_pb2 as pb

_ANSWER_TAG = encode_varint(pb.StreamDetectResponse.ANSWER_FIELD_NUMBER << 3 | LENGTH_DELIMITED)


def serialize_request(data: pb.StreamData) -> bytes:
    """Serialize a request for the replay cache: without its sequence, which is removed from `data`."""
    data.sequence = 0
    return data.SerializeToString()


def first_series(data: pb.StreamData) -> str:
    """Return the first series of a request; empty where it has none."""
    return data.observation.series or next(iter(data.batch.series), "")


def first_series_of(request: bytes) -> str:
    """Return the first series of a serialized request; empty where it has none, or can't be parsed."""
    try:
        return first_series(pb.StreamData.FromString(request))
    except DecodeError:
        return ""


def with_sequence(reply: bytes, sequence: int) -> bytes:
    """Return a serialized StreamAnswer under another sequence."""
    answer = pb.StreamAnswer.FromString(reply)
    answer.sequence = sequence
    return answer.SerializeToString()


def with_reply(response: bytes, reply: bytes) -> bytes:
    """Append a StreamAnswer to a StreamDetectResponse, both serialized."""
    return b"".join((response, _ANSWER_TAG, encode_varint(len(reply)), reply))
