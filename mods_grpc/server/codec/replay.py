"""Stream messages as the replay cache holds them, and responses made from their bytes without parsing."""

from mods_grpc.protobuf.wire import length_delimited_field
from mods_grpc.v1 import inference_pb2 as pb


def serialize_request(data: pb.StreamData) -> bytes:
    """Serialize a request for the replay cache: without its sequence, which is removed from `data`."""
    data.sequence = 0
    return data.SerializeToString()


def with_sequence(reply: bytes, sequence: int) -> bytes:
    """Return a serialized StreamAnswer under another sequence."""
    answer = pb.StreamAnswer.FromString(reply)
    answer.sequence = sequence
    return answer.SerializeToString()


def with_reply(response: bytes, reply: bytes) -> bytes:
    """Append a StreamAnswer to a StreamDetectResponse, both serialized."""
    return response + length_delimited_field(pb.StreamDetectResponse.ANSWER_FIELD_NUMBER, reply)
