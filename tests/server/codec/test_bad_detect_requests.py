"""Every row of the table of bad input for Detect."""

import grpc
import pytest

from mods_grpc.protobuf.arrays import timestamp_from_nanos
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import values_pb2
from tests.support.rpc.client import assert_fails, at, detect_request, observation, observation_batch, series

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NAN, INF = float("nan"), float("inf")


def where(index, row=0):
    return f"series[{index}].observations.observations[{row}]"


def listed(*observations):
    return detect_request(series(observations=list(observations)))


GOOD = [observation(row, series="") for row in range(8)]
NAMED = [values_pb2.NamedValue(feature="conn_in", value=1), values_pb2.NamedValue(feature="bytes_in", value=1)]

DETECTS = {
    "no series": (pb.DetectRequest(), "EMPTY_INPUT", "series"),
    "no rows": (listed(), "EMPTY_INPUT", "series[0].observations"),
    "no input": (detect_request(pb.DetectSeries(series="web")), "FIELD_REQUIRED", "series[0].input"),
    "nothing to judge": (detect_request(series(range(4))), "WINDOW_TOO_SHORT", "series[0].input"),
    "more to judge than there is": (detect_request(series(judge_rows=5)), "WINDOW_TOO_SHORT", "series[0].judge_rows"),
    "none to judge": (detect_request(series(judge_rows=0)), "FIELD_INVALID", "series[0].judge_rows"),
    "too many rows": (detect_request(series(range(65))), "WINDOW_TOO_LONG", "series[0].observations"),
    "too many rows in all": (detect_request(*[series(range(20))] * 4), "BATCH_TOO_LARGE", "series"),
    "a series without name": (detect_request(series(name="")), "SERIES_ID_INVALID", "series[0].series"),
    "a series of 129 bytes": (detect_request(series(), series(name="s" * 129)), "SERIES_ID_INVALID", "series[1].series"),
    "an unknown enum": (detect_request(explain=9), "ENUM_UNKNOWN", "explain"),
    "times that repeat": (listed(*GOOD, GOOD[7]), "TIMESTAMP_OUT_OF_ORDER", where(0, 8) + ".observe_time"),
    "times that fall": (listed(*GOOD[:6], GOOD[7], GOOD[6]), "TIMESTAMP_OUT_OF_ORDER", where(0, 7) + ".observe_time"),
    "times off the grid": (
        listed(*GOOD[:7], observation(7, series="", observe_time=timestamp_from_nanos(at(7) + 10**9))),
        "INTERVAL_MISMATCH",
        where(0, 7) + ".observe_time",
    ),
    "a gap": (listed(*GOOD[:6], GOOD[7]), "GAP", where(0, 6) + ".observe_time"),
    "no time": (listed(*GOOD[:7], values_pb2.Observation(values=[1, 1])), "TIMESTAMP_INVALID", where(0, 7) + ".observe_time"),
    "NaN": (listed(*GOOD[:7], observation(7, [1, NAN], "")), "VALUE_NAN", where(0, 7) + ".values[1]"),
    "negative": (listed(*GOOD[:7], observation(7, [-1, 1], "")), "VALUE_NEGATIVE", where(0, 7) + ".values[0]"),
    "a value too few": (listed(*GOOD[:7], observation(7, [1], "")), "SHAPE_MISMATCH", where(0, 7) + ".values"),
    "values said twice": (
        listed(*GOOD[:7], observation(7, [1, 1], "", named_values=NAMED)),
        "FIELD_INVALID",
        where(0, 7) + ".named_values",
    ),
    "a feature absent": (
        listed(*GOOD[:7], observation(7, [], "", named_values=NAMED[:1])),
        "FEATURE_MISSING",
        where(0, 7) + ".named_values",
    ),
    "a feature unknown": (
        listed(*GOOD[:7], observation(7, [], "", named_values=[*NAMED, values_pb2.NamedValue(feature="x")])),
        "FEATURE_UNKNOWN",
        where(0, 7) + ".named_values[2].feature",
    ),
    "a feature twice": (
        listed(*GOOD[:7], observation(7, [], "", named_values=[*NAMED, NAMED[0]])),
        "FEATURE_DUPLICATE",
        where(0, 7) + ".named_values[2].feature",
    ),
    "a row without values": (
        listed(*GOOD[:7], observation(7, [0, 0], "", missing=[True, True])),
        "EMPTY_INPUT",
        "series[0].input",
    ),
    "a first row that is not complete": (
        listed(observation(0, [0, 1], "", missing=[True, False]), *GOOD[1:]),
        "FEATURE_MISSING",
        "series[0].input",
    ),
    "bytes that do not fit": (
        detect_request(pb.DetectSeries(series="web", batch=observation_batch([0], values=[1, 2, 3]))),
        "SHAPE_MISMATCH",
        "series[0].batch.values",
    ),
    "significance 0": (
        detect_request(sensitivity=pb.Sensitivity(significance=0)),
        "FIELD_INVALID",
        "sensitivity.significance",
    ),
    "a budget below 0": (
        detect_request(sensitivity=pb.Sensitivity(false_alarms_per_day=-1)),
        "FIELD_INVALID",
        "sensitivity.false_alarms_per_day",
    ),
    "a budget above the observations of a day": (
        detect_request(sensitivity=pb.Sensitivity(false_alarms_per_day=144)),
        "FIELD_INVALID",
        "sensitivity.false_alarms_per_day",
    ),
    "too long a gap policy": (
        detect_request(gap_policy=pb.GapPolicy(impute_rows=145)),
        "FIELD_INVALID",
        "gap_policy.impute_rows",
    ),
}


@pytest.mark.parametrize("case", DETECTS)
def test_a_bad_detect_request_is_answered_with_its_violations(inference, case):
    request, reason, field = DETECTS[case]
    assert_fails(inference.Detect, request, INVALID, reason, field)


def test_a_value_far_outside_the_training_range_is_no_error_but_flagged(inference):
    response = inference.Detect(listed(*GOOD[:7], observation(7, [1e9, 1e15], "")), timeout=10)
    verdict = response.series[0].verdicts[-1]
    assert verdict.out_of_distribution
    assert verdict.anomalous
