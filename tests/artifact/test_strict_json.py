"""Values as JSON: what each type becomes."""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from mods_grpc.artifact.strict_json import to_jsonable


@dataclass(frozen=True)
class Pair:
    first: Any
    second: Any


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Pair(1, ("a", None, True)), {"first": 1, "second": ["a", None, True]}),
        (MappingProxyType({"key": Pair([], {})}), {"key": {"first": [], "second": {}}}),
        (datetime(2019, 5, 1, 12, tzinfo=UTC), "2019-05-01T12:00:00+00:00"),
        (date(2019, 5, 1), "2019-05-01"),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (Pair(np.float32(0.5), np.int64(7)), {"first": 0.5, "second": 7}),
    ],
    ids=["a dataclass", "a mapping", "a time", "a date", "an array", "numpy scalars"],
)
def test_a_value_becomes_dicts_lists_and_scalars(value, expected):
    assert to_jsonable(value) == expected
    assert json.loads(json.dumps(value, default=to_jsonable)) == expected


def test_numbers_that_are_not_finite_become_null_where_asked():
    assert to_jsonable([1.5, float("inf"), np.array([np.nan])], non_finite_as_null=True) == [1.5, None, [None]]


def test_a_converter_is_tried_first_and_its_result_is_converted():
    assert to_jsonable(
        {"at": date(2019, 5, 1)}, convert=lambda value: Pair(value.year, 0) if isinstance(value, date) else value
    ) == {"at": {"first": 2019, "second": 0}}


def test_a_value_without_a_json_form_is_an_error():
    with pytest.raises(TypeError, match="object has no JSON form"):
        to_jsonable([object()])
