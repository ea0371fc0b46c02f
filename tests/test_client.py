"""The client library against a hand-written peer that breaks off where it is told to."""

import dataclasses
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import hand_written_peer as hand
import numpy as np
import pytest
from hand_written_peer import Peer
from hypothesis import given, settings
from hypothesis import strategies as st

from mods_grpc import errors
from mods_grpc.client import Client, Observation, ObservationBatch, ResumePolicy, Verdict, VerdictStatus
from mods_grpc.client.failures import CLASS_OF_REASON, error_from_status
from mods_grpc.client.times import nanos_of, nanos_of_all
from mods_grpc.errors import Reason
from mods_grpc.server.status import status_of

START = datetime(2019, 1, 1, tzinfo=UTC)
START_NANOS = 1_546_300_800 * 10**9
QUICK = ResumePolicy(total_seconds=10, first_wait_seconds=0.001, longest_wait_seconds=0.01)


@pytest.fixture(scope="module")
def serving() -> Iterator[tuple[Peer, Client]]:
    peer = Peer()
    server, address = hand.start(peer)
    with Client(address, timeout_seconds=5) as client:
        yield peer, client
    server.stop(None).wait()


@pytest.fixture
def peer_and_client(serving: tuple[Peer, Client]) -> tuple[Peer, Client]:
    peer, client = serving
    peer.__dict__.update(Peer().__dict__)
    return peer, client


def rows(count: int, series: str = "site") -> list[Observation]:
    """Rows with a jump at every fourth, so that verdicts differ."""
    return [
        Observation(series, START + timedelta(seconds=hand.SLIDE_SECONDS * i), (float(i % 5), 50.0 * (i % 4 == 3)))
        for i in range(count)
    ]


def comparable(verdicts: list[Verdict]) -> list[Verdict]:
    return [dataclasses.replace(verdict, error=None) for verdict in verdicts]


# Unary calls


def test_models_are_listed_over_all_pages(peer_and_client: tuple[Peer, Client]) -> None:
    _, client = peer_and_client
    models = client.models()
    assert [(model.name, model.version) for model in models] == [("campus", 2), ("campus", 1), ("lab", 1)]
    assert models[0].feature_names == hand.FEATURES
    assert models[0].slide_seconds == 600
    assert models[0].create_time == START
    assert models[0].features[0].kind == "count"


def test_one_model_is_described(peer_and_client: tuple[Peer, Client]) -> None:
    _, client = peer_and_client
    assert client.model("lab", 1).name == "lab"
    assert client.model().version == 2


def test_a_forecast_comes_back_as_arrays_with_times(peer_and_client: tuple[Peer, Client]) -> None:
    peer, client = peer_and_client
    windows = np.arange(12, dtype=np.float64).reshape(2, 3, 2)
    windows[0, 1, 1] = np.nan
    result = client.forecast(windows, [START, START + timedelta(days=1)], horizon=2, coverages=[0.5, 0.9])
    assert result.values.tolist() == [[[4.0, 5.0]] * 2, [[10.0, 11.0]] * 2]
    assert result.lower.shape == result.upper.shape == (2, 2, 2, 2)
    assert result.upper[1, 0, 0].tolist() == [4.9, 5.9]
    assert result.times[1].tolist() == [START_NANOS + 10**9 * (86_400 + 1800 + 600 * step) for step in (0, 1)]
    assert (result.model.name, result.features, result.coverages) == ("campus", hand.FEATURES, (0.5, 0.9))
    sent = peer.requests[-1]
    assert list(sent.batch.missing) == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert np.isfinite(np.frombuffer(sent.batch.values)).all()


def test_a_single_window_needs_no_outer_axis(peer_and_client: tuple[Peer, Client]) -> None:
    _, client = peer_and_client
    result = client.forecast([[1, 2], [3, None], [5, 6]], START)
    assert result.values.tolist() == [[[5.0, 6.0], [5.0, 6.0]]]
    assert result.lower.shape == (0, 1, 2, 2)


@pytest.mark.parametrize(
    ("windows", "times"),
    [(np.zeros(3), [START]), (np.zeros((2, 3, 2)), [START] * 3), ([[1, 2], [3]], [START]), ([["x", "y"]], [START])],
)
def test_windows_of_a_wrong_shape_are_refused_before_they_are_sent(
    peer_and_client: tuple[Peer, Client], windows: object, times: list[datetime]
) -> None:
    peer, client = peer_and_client
    with pytest.raises(errors.InvalidInputError) as caught:
        client.forecast(windows, times)  # type: ignore[arg-type]
    assert caught.value.reason is Reason.SHAPE_MISMATCH
    assert not peer.requests


def test_detect_gives_columns_and_the_explained_verdicts(peer_and_client: tuple[Peer, Client]) -> None:
    _peer, client = peer_and_client
    given = rows(8)
    result = client.detect([row.time for row in given], [row.values for row in given], series="site", judge_rows=4)
    assert result.series == "site"
    assert len(result.status) == len(result.p_values) == len(result.times) == 4
    assert set(result.status) == {VerdictStatus.SCORED}
    explained = {np.datetime64(verdict.observe_time.replace(tzinfo=None), "ns") for verdict in result.verdicts}
    assert result.anomalous.tolist() == [time in explained for time in result.times]
    assert result.verdicts[0].reason.startswith("conn_in")
    assert result.verdicts[0].features[0].feature == "conn_in"
    assert result.significance == 0.05


def test_both_ways_to_set_the_sensitivity_exclude_each_other(peer_and_client: tuple[Peer, Client]) -> None:
    _, client = peer_and_client
    with pytest.raises(errors.InvalidInputError, match="both"):
        client.detect([START], [[1, 2]], false_alarms_per_day=1, significance=0.1)


def test_the_request_says_what_the_caller_said(peer_and_client: tuple[Peer, Client]) -> None:
    peer, client = peer_and_client
    given = rows(4)
    client.detect(
        [row.time for row in given],
        [row.values for row in given],
        model="campus",
        version=7,
        significance=0.25,
        explain="all",
        impute_rows=0,
    )
    request = peer.requests[-1]
    assert (request.model.name, request.model.version) == ("campus", 7)
    assert request.sensitivity.significance == 0.25
    assert request.explain == 3
    assert request.gap_policy.reset


def test_the_token_travels_as_bearer(serving: tuple[Peer, Client]) -> None:
    peer, client = serving
    with Client(client.address, token="secret") as other:
        other.models()
    assert peer.metadata[-1]["authorization"] == "Bearer secret"


# Errors


def test_every_error_of_the_server_comes_back_as_it_was() -> None:
    for reason, cls in CLASS_OF_REASON.items():
        if cls is errors.InvalidInputError:
            continue
        error = cls(reason, "expected this, found that", limit=3, actual=4, retry_seconds=1.5)
        back = error_from_status(status_of(error))
        assert type(back) is cls
        assert vars(back) == vars(error)
    assert set(CLASS_OF_REASON) == set(Reason)


def test_violations_come_back_one_by_one() -> None:
    error = errors.InvalidInputError(
        [
            errors.Violation(field="a[0]", reason=Reason.VALUE_NAN, message="is NaN", limit="1", actual="2"),
            errors.Violation(field="b", reason=Reason.GAP, message="a gap"),
        ]
    )
    back = error_from_status(status_of(error))
    assert isinstance(back, errors.InvalidInputError)
    assert back.violations == error.violations
    assert str(back) == str(error)


def test_a_call_raises_the_error_of_the_server(peer_and_client: tuple[Peer, Client]) -> None:
    peer, client = peer_and_client
    peer.open_faults.append(errors.ModelNotFoundError(Reason.MODEL_NOT_FOUND, "no model lab", actual="lab"))
    with pytest.raises(errors.ModelNotFoundError, match="no model lab") as caught:
        client.model("lab")
    assert caught.value.actual == "lab"


def test_a_unary_call_is_repeated_while_the_server_is_unavailable(peer_and_client: tuple[Peer, Client]) -> None:
    peer, client = peer_and_client
    peer.open_faults.extend(["UNAVAILABLE", "UNAVAILABLE"])
    assert client.model().name == "campus"
    assert len(peer.requests) == 3


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("UNIMPLEMENTED", errors.ConnectionFailedError),
        ("UNAUTHENTICATED", errors.ConnectionFailedError),
        ("RESOURCE_EXHAUSTED", errors.QuotaError),
        ("DEADLINE_EXCEEDED", errors.DeadlineError),
        ("UNKNOWN", errors.InternalError),
    ],
)
def test_a_status_without_details_becomes_an_error_too(
    peer_and_client: tuple[Peer, Client], code: str, expected: type[errors.ModsError]
) -> None:
    peer, client = peer_and_client
    peer.open_faults.append(code)
    with pytest.raises(expected):
        client.model()


@pytest.fixture(scope="module")
def nobody() -> str:
    """An address at which nobody listens."""
    server, address = hand.start(Peer())
    server.stop(None).wait()
    return address


def test_a_server_that_is_not_there_is_named(nobody: str) -> None:
    with Client(nobody, timeout_seconds=5) as client:
        with pytest.raises(errors.ConnectionFailedError, match=nobody):
            client.models()
        with pytest.raises(errors.ConnectionFailedError, match=nobody):
            client.stream_detect(rows(1))


# Streams


def test_a_stream_gives_one_verdict_per_observation_in_order(peer_and_client: tuple[Peer, Client]) -> None:
    peer, client = peer_and_client
    given = rows(9)
    stream = client.stream_detect(given, model="campus", sensor="s1", false_alarms_per_day=0.5, explain="all")
    assert stream.opened.features == hand.FEATURES
    assert not stream.opened.resumed
    verdicts = list(stream)
    assert [verdict.observe_time for verdict in verdicts] == [row.time for row in given]
    assert [verdict.status for verdict in verdicts] == [VerdictStatus.WARMING_UP] * 3 + [VerdictStatus.SCORED] * 6
    assert verdicts[3].anomalous
    assert verdicts[3].episode is not None
    assert verdicts[3].model is not None
    config = peer.configs[-1]
    assert (config.sensor, config.sensitivity.false_alarms_per_day, config.explain) == ("s1", 0.5, 3)
    assert peer.ended == 1


def test_the_sensor_defaults_to_a_name_that_stays(peer_and_client: tuple[Peer, Client]) -> None:
    peer, client = peer_and_client
    for _ in range(2):
        client.stream_detect([]).close()
    assert peer.configs[0].sensor == peer.configs[1].sensor != ""


def test_a_verdict_comes_before_the_next_observation_is_asked_for(peer_and_client: tuple[Peer, Client]) -> None:
    _, client = peer_and_client
    taken = []

    def live() -> Iterator[Observation]:
        for row in rows(5):
            taken.append(row)
            yield row

    for count, _ in enumerate(client.stream_detect(live()), start=1):
        assert len(taken) == count


def test_batches_and_rows_get_the_same_verdicts(peer_and_client: tuple[Peer, Client]) -> None:
    peer, client = peer_and_client
    given = rows(12)
    one_by_one = list(client.stream_detect(given, sensor="rows"))
    batch = ObservationBatch(series="site", times=[row.time for row in given], values=[row.values for row in given])
    peer.max_observations = 5
    batched = list(client.stream_detect([batch], sensor="batch"))
    assert [len(data.batch.observe_time_unix_nano) for data in peer.data[-3:]] == [5, 5, 2]
    assert [(v.observe_time, v.status, v.p_value, v.anomalous, v.reason) for v in batched] == [
        (v.observe_time, v.status, v.p_value, v.anomalous, v.reason) for v in one_by_one
    ]


def test_a_missing_value_travels_in_the_mask(peer_and_client: tuple[Peer, Client]) -> None:
    peer, client = peer_and_client
    list(client.stream_detect([("site", START, [1.0, None]), ("site", START + timedelta(hours=1), [1.0, 2.0])]))
    assert list(peer.data[0].observation.missing) == [False, True]
    assert list(peer.data[1].observation.missing) == []


FAULTS = ("", "break before", "break after", "restart before", "restart after", "drain before", "drain after", "idle before")


@settings(max_examples=40, deadline=None)
@given(
    faults=st.lists(st.sampled_from(FAULTS), max_size=24),
    in_flight=st.integers(1, 4),
    cuts=st.lists(st.integers(1, 6), max_size=10),
)
def test_no_verdict_depends_on_how_often_the_connection_broke(
    serving: tuple[Peer, Client], faults: list[str], in_flight: int, cuts: list[int]
) -> None:
    peer, client = serving
    peer.__dict__.update(Peer().__dict__)
    given = [row for group in zip(rows(8, "a"), rows(8, "b"), rows(8, "c"), strict=True) for row in group]
    parts: list[Observation | ObservationBatch] = []
    rest = list(given)
    for cut in cuts:
        part, rest = rest[:cut], rest[cut:]
        if part:
            names, times, values = zip(*part, strict=True)
            parts.append(ObservationBatch(series=names, times=times, values=values))
    parts.extend(rest)
    unbroken = list(client.stream_detect(parts, sensor="unbroken"))
    peer.faults.extend(faults)
    broken = list(client.stream_detect(parts, sensor="broken", in_flight=in_flight, resume=QUICK))
    assert comparable(broken) == comparable(unbroken)
    assert [(v.series, v.observe_time) for v in broken] == [(row.series, row.time) for row in given]


def test_two_open_messages_never_share_a_series(peer_and_client: tuple[Peer, Client]) -> None:
    _peer, client = peer_and_client
    taken: list[str] = []

    def source() -> Iterator[Observation]:
        for row in (*rows(2, "a"), *rows(2, "b")):
            taken.append(row.series)
            yield row

    stream = client.stream_detect(source(), in_flight=3)
    assert next(stream).series == "a"
    assert taken == ["a", "a"]
    assert [verdict.series for verdict in stream] == ["a", "b", "b"]


def test_a_fresh_server_is_warmed_up_with_the_last_windows(peer_and_client: tuple[Peer, Client]) -> None:
    peer, client = peer_and_client
    peer.faults.extend([""] * 20 + ["restart before"])
    verdicts = list(client.stream_detect(rows(21), sensor="s", resume=QUICK))
    assert verdicts[-1].status is VerdictStatus.SCORED
    warm_up = [data for data in peer.data if data.warm_up]
    assert len(warm_up) == 1
    assert len(warm_up[0].batch.observe_time_unix_nano) == 2 * hand.WINDOW_ROWS


def test_a_server_that_says_nothing_counts_as_lost(serving: tuple[Peer, Client]) -> None:
    peer, client = serving
    peer.__dict__.update(Peer(faults=hand.deque(["silent before"])).__dict__)
    with Client(client.address, timeout_seconds=0.2) as impatient:
        verdicts = list(impatient.stream_detect(rows(2), resume=QUICK))
    assert len(verdicts) == 2


def test_a_model_that_is_still_loading_is_waited_for(peer_and_client: tuple[Peer, Client]) -> None:
    peer, client = peer_and_client
    loading = errors.ModelUnavailableError(Reason.MODEL_LOADING, "loading", retry_seconds=0.01)
    peer.open_faults.extend([loading, loading, "UNAVAILABLE", loading])
    assert len(list(client.stream_detect(rows(2), resume=QUICK))) == 2


def test_an_overloaded_server_gets_the_message_again(peer_and_client: tuple[Peer, Client]) -> None:
    peer, client = peer_and_client
    peer.refusal = errors.QuotaError(Reason.OVERLOADED, "too much", retry_seconds=0.01)
    peer.faults.extend(["refuse", "refuse"])
    verdicts = list(client.stream_detect(rows(1), resume=QUICK))
    assert [verdict.status for verdict in verdicts] == [VerdictStatus.WARMING_UP]


def test_a_refused_message_is_told_in_its_verdicts_and_the_stream_lives(peer_and_client: tuple[Peer, Client]) -> None:
    peer, client = peer_and_client
    peer.refusal = errors.InvalidInputError.of("batch", Reason.BATCH_TOO_LARGE, "too many")
    peer.faults.extend(["", "refuse"])
    verdicts = list(client.stream_detect(rows(3), resume=QUICK))
    assert [verdict.status for verdict in verdicts][1] is VerdictStatus.REJECTED
    assert verdicts[1].error is not None
    assert verdicts[1].error.reason is Reason.BATCH_TOO_LARGE
    assert verdicts[2].error is None


def test_a_refused_stream_raises_at_once(peer_and_client: tuple[Peer, Client]) -> None:
    peer, client = peer_and_client
    peer.open_faults.append(errors.ModelNotFoundError(Reason.MODEL_NOT_FOUND, "no such model"))
    with pytest.raises(errors.ModelNotFoundError):
        client.stream_detect(rows(2))
    assert len(peer.configs) == 1


def test_features_that_changed_under_a_stream_end_it(peer_and_client: tuple[Peer, Client]) -> None:
    peer, client = peer_and_client
    peer.faults.extend(["", "break before"])
    stream = client.stream_detect(rows(3), resume=QUICK)
    next(stream)
    peer.features = ("other", "ssh_in")
    with pytest.raises(errors.ModelUnusableError, match="other"):
        list(stream)


def test_a_client_gives_up_when_nothing_answers_for_long_enough(peer_and_client: tuple[Peer, Client]) -> None:
    peer, client = peer_and_client
    peer.faults.extend(["break before"] * 10_000)
    policy = ResumePolicy(total_seconds=0.1, first_wait_seconds=0.001, longest_wait_seconds=0.01)
    with pytest.raises(errors.ConnectionFailedError, match="gave up"):
        list(client.stream_detect(rows(1), resume=policy))


def test_a_stream_survives_the_restart_of_the_server_on_its_port() -> None:
    peer = Peer()
    server, address = hand.start(peer)
    given = rows(12)
    with Client(address, timeout_seconds=5) as client:
        expected = list(client.stream_detect(given, sensor="unbroken"))
        verdicts = []
        with client.stream_detect(given, sensor="broken", resume=QUICK) as stream:
            for verdict in stream:
                verdicts.append(verdict)
                if len(verdicts) % 4 == 0:
                    server.stop(None).wait()
                    peer.forget()
                    server, _ = hand.start(peer, address)
    server.stop(None).wait()
    assert comparable(verdicts) == comparable(expected)


def test_a_stream_that_is_left_early_can_be_gone_on_with(peer_and_client: tuple[Peer, Client]) -> None:
    _, client = peer_and_client
    expected = list(client.stream_detect(rows(8), sensor="whole"))
    with client.stream_detect(rows(8), sensor="parts") as stream:
        first = [next(stream) for _ in range(5)]
    second = list(client.stream_detect(rows(8)[5:], sensor="parts"))
    assert first + second == expected


@pytest.mark.parametrize("bad", [("site", "yesterday", [1, 2]), ("site", START, ["x", 2])])
def test_an_observation_that_makes_no_sense_is_refused(peer_and_client: tuple[Peer, Client], bad: object) -> None:
    _, client = peer_and_client
    with pytest.raises(errors.InvalidInputError):
        list(client.stream_detect([bad]))  # type: ignore[list-item]


def test_a_closed_client_says_so_and_leaves_no_thread_behind(serving: tuple[Peer, Client]) -> None:
    _, client = serving
    other = Client(client.address)
    stream = other.stream_detect(rows(3))
    next(stream)
    watchers = [thread for thread in threading.enumerate() if thread.name == "mods-stream-watch"]
    other.close()
    for thread in watchers:
        thread.join(5)
    assert not any(thread.is_alive() for thread in watchers)
    with pytest.raises(errors.ConnectionFailedError, match="closed"):
        other.model()
    with pytest.raises(errors.ConnectionFailedError, match="closed"):
        list(stream)


# Times


@pytest.mark.parametrize(
    "time",
    [
        START,
        START.replace(tzinfo=None),
        START.astimezone(timezone(timedelta(hours=2))),
        np.datetime64("2019-01-01"),
        np.datetime64("2019-01-01T00:00:00.000", "ms"),
        START_NANOS,
        np.int64(START_NANOS),
    ],
)
def test_a_time_may_be_written_in_many_ways(time: object) -> None:
    assert nanos_of(time) == START_NANOS  # type: ignore[arg-type]
    assert nanos_of_all([time]).tolist() == [START_NANOS]  # type: ignore[list-item]


@pytest.mark.parametrize("time", ["2019-01-01", 1.5, True, np.datetime64("NaT"), 2**63, datetime(3000, 1, 1, tzinfo=UTC)])
def test_what_is_not_a_time_is_refused(time: object) -> None:
    with pytest.raises(errors.InvalidInputError) as caught:
        nanos_of(time)  # type: ignore[arg-type]
    assert caught.value.reason is Reason.TIMESTAMP_INVALID


# Imports


def test_the_package_alone_imports_no_grpc_and_offers_the_client() -> None:
    code = "import sys, mods_grpc; assert 'grpc' not in sys.modules; mods_grpc.Client; assert 'grpc' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_the_client_imports_nothing_of_the_server() -> None:
    code = (
        "import sys, mods_grpc.client; "
        "assert not {m for m in sys.modules if m.startswith(('mods_grpc.server', 'onnxruntime', 'training', 'pandas'))}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
