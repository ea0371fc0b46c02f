"""Times, numbers and masks on their way to and from arrays."""

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.errors import InvalidInputError, Reason
from mods_grpc.protobuf import arrays


@pytest.mark.parametrize("nanos", [0, 1, -1, 1_546_300_800_000_000_000, arrays.INT64_MIN, arrays.INT64_MAX])
def test_a_time_survives_the_way_there_and_back(nanos: int) -> None:
    timestamp = arrays.timestamp_from_nanos(nanos)
    assert 0 <= timestamp.nanos < NANOS_PER_SECOND
    assert arrays.nanos_from_timestamp(timestamp) == nanos


@pytest.mark.parametrize("timestamp", [Timestamp(nanos=-1), Timestamp(nanos=10**9), Timestamp(seconds=10**11)])
def test_an_absurd_timestamp_is_refused(timestamp: Timestamp) -> None:
    with pytest.raises(InvalidInputError) as caught:
        arrays.nanos_from_timestamp(timestamp, "observe_time")
    assert caught.value.reason is Reason.TIMESTAMP_INVALID
    assert caught.value.violations[0].field == "observe_time"


@pytest.mark.parametrize("seconds", [0.0, 600.0, 0.25, -1.5])
def test_a_span_survives_the_way_there_and_back(seconds: float) -> None:
    assert arrays.seconds_from_duration(arrays.duration_from_seconds(seconds)) == seconds


def test_numbers_keep_every_bit_and_their_order() -> None:
    array = np.array([[1e8 + 1 / 3, -0.0, 5e-324], [1e308, 2.0, 3.0]])
    packed = arrays.pack_float64(array.T)
    assert packed == array.T.astype("<f8").tobytes(order="C")
    assert arrays.unpack_float64(packed, (3, 2)).tobytes() == np.ascontiguousarray(array.T).tobytes()
    assert arrays.unpack_float64(packed, (-1, 2)).shape == (3, 2)


@pytest.mark.parametrize("shape", [(2, 2), (-1, 4), (4,), (-1, 0)])
def test_bytes_that_do_not_fit_the_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        arrays.unpack_float64(bytes(8 * 3), shape, "batch.values")
    assert caught.value.reason is Reason.SHAPE_MISMATCH
    assert caught.value.actual == "24"


def test_a_number_of_bytes_that_is_no_multiple_of_a_number_is_refused() -> None:
    with pytest.raises(InvalidInputError) as caught:
        arrays.unpack_float64(bytes(65), (-1, 4))
    assert caught.value.reason is Reason.SHAPE_MISMATCH


def test_no_bytes_are_no_rows() -> None:
    assert arrays.unpack_float64(b"", (-1, 4)).shape == (0, 4)


def test_a_mask_that_hides_nothing_takes_no_bytes() -> None:
    assert arrays.pack_mask(np.zeros((2, 3), dtype=np.bool_)) == b""
    assert not arrays.unpack_mask(b"", (2, 3)).any()
    assert arrays.unpack_mask(b"", (2, 3)).shape == (2, 3)


def test_a_mask_survives_the_way_there_and_back() -> None:
    mask = np.array([[True, False], [False, True]])
    np.testing.assert_array_equal(arrays.unpack_mask(arrays.pack_mask(mask), (2, 2)), mask)


@pytest.mark.parametrize(("data", "reason"), [(b"\x00\x02", Reason.FIELD_INVALID), (b"\x00", Reason.SHAPE_MISMATCH)])
def test_a_malformed_mask_is_refused(data: bytes, reason: Reason) -> None:
    with pytest.raises(InvalidInputError) as caught:
        arrays.unpack_mask(data, (2,))
    assert caught.value.reason is reason
