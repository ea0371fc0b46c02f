"""Streams of the client: order, broken connections, restarts and rejections."""

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mods_grpc import errors
from mods_grpc.client import Client, Observation, ObservationBatch, ResumePolicy, VerdictStatus
from mods_grpc.client.streaming.row_history import RowHistory
from mods_grpc.errors import Reason
from tests.support.client_rows import QUICK, START, START_NANOS, make_rows, remove_errors
from tests.support.rpc import scripted_server
from tests.support.rpc.scripted_server import ScriptedServer


def test_a_stream_gives_one_verdict_per_observation_in_order(peer_and_client: tuple[ScriptedServer, Client]) -> None:
    peer, client = peer_and_client
    observations = make_rows(9)
    stream = client.stream_detect(observations, model="campus", sensor="s1", false_alarms_per_day=0.5, explain="all")
    assert stream.opened.features == scripted_server.FEATURES
    assert not stream.opened.resumed
    verdicts = list(stream)
    assert [verdict.observe_time for verdict in verdicts] == [row.time for row in observations]
    assert [verdict.status for verdict in verdicts] == [VerdictStatus.WARMING_UP] * 3 + [VerdictStatus.SCORED] * 6
    assert verdicts[3].anomalous
    assert verdicts[3].episode is not None
    assert verdicts[3].model is not None
    config = peer.configs[-1]
    assert (config.sensor, config.sensitivity.false_alarms_per_day, config.explain) == ("s1", 0.5, 3)
    assert peer.ended == 1


def test_the_sensor_defaults_to_a_stable_name(peer_and_client: tuple[ScriptedServer, Client]) -> None:
    peer, client = peer_and_client
    for _ in range(2):
        client.stream_detect([]).close()
    assert peer.configs[0].sensor == peer.configs[1].sensor != ""


def test_a_verdict_is_returned_before_the_next_observation_is_taken(peer_and_client: tuple[ScriptedServer, Client]) -> None:
    _, client = peer_and_client
    taken = []

    def live() -> Iterator[Observation]:
        for row in make_rows(5):
            taken.append(row)
            yield row

    for count, _ in enumerate(client.stream_detect(live()), start=1):
        assert len(taken) == count


def test_batches_and_rows_get_the_same_verdicts(peer_and_client: tuple[ScriptedServer, Client]) -> None:
    peer, client = peer_and_client
    observations = make_rows(12)
    one_by_one = list(client.stream_detect(observations, sensor="rows"))
    batch = ObservationBatch(series="site", times=[row.time for row in observations], values=[row.values for row in observations])
    peer.max_observations = 5
    batched = list(client.stream_detect([batch], sensor="batch"))
    assert [len(data.batch.observe_time_unix_nano) for data in peer.data[-3:]] == [5, 5, 2]
    assert [(v.observe_time, v.status, v.p_value, v.anomalous, v.reason) for v in batched] == [
        (v.observe_time, v.status, v.p_value, v.anomalous, v.reason) for v in one_by_one
    ]


def test_a_missing_value_is_sent_in_the_mask(peer_and_client: tuple[ScriptedServer, Client]) -> None:
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
def test_verdicts_do_not_depend_on_how_often_the_connection_broke(
    serving: tuple[ScriptedServer, Client], faults: list[str], in_flight: int, cuts: list[int]
) -> None:
    peer, client = serving
    peer.__dict__.update(ScriptedServer().__dict__)
    observations = [row for group in zip(make_rows(8, "a"), make_rows(8, "b"), make_rows(8, "c"), strict=True) for row in group]
    parts: list[Observation | ObservationBatch] = []
    rest = list(observations)
    for cut in cuts:
        part, rest = rest[:cut], rest[cut:]
        if part:
            names, times, values = zip(*part, strict=True)
            parts.append(ObservationBatch(series=names, times=times, values=values))
    parts.extend(rest)
    unbroken = list(client.stream_detect(parts, sensor="unbroken"))
    peer.faults.extend(faults)
    broken = list(client.stream_detect(parts, sensor="broken", in_flight=in_flight, resume=QUICK))
    assert remove_errors(broken) == remove_errors(unbroken)
    assert [(v.series, v.observe_time) for v in broken] == [(row.series, row.time) for row in observations]


def test_two_messages_in_flight_never_share_a_series(peer_and_client: tuple[ScriptedServer, Client]) -> None:
    _peer, client = peer_and_client
    taken: list[str] = []

    def source() -> Iterator[Observation]:
        for row in (*make_rows(2, "a"), *make_rows(2, "b")):
            taken.append(row.series)
            yield row

    stream = client.stream_detect(source(), in_flight=3)
    assert next(stream).series == "a"
    assert taken == ["a", "a"]
    assert [verdict.series for verdict in stream] == ["a", "b", "b"]


def test_a_server_without_state_is_warmed_up_with_the_last_windows(peer_and_client: tuple[ScriptedServer, Client]) -> None:
    peer, client = peer_and_client
    peer.faults.extend([""] * 20 + ["restart before"])
    verdicts = list(client.stream_detect(make_rows(21), sensor="s", resume=QUICK))
    assert verdicts[-1].status is VerdictStatus.SCORED
    warm_up = [data for data in peer.data if data.warm_up]
    assert len(warm_up) == 1
    assert len(warm_up[0].batch.observe_time_unix_nano) == 3 * scripted_server.WINDOW_ROWS


def test_a_history_given_to_a_stream_warms_the_server_up_and_gets_the_applied_rows(
    peer_and_client: tuple[ScriptedServer, Client],
) -> None:
    peer, client = peer_and_client
    history = RowHistory(window_rows=scripted_server.WINDOW_ROWS, max_series=0)
    list(client.stream_detect(make_rows(8), sensor="first", resume=QUICK, history=history))
    assert history.store.last_time("site") == START_NANOS + 7 * scripted_server.SLIDE_SECONDS * 10**9
    peer.faults.extend(["restart before"])
    (verdict,) = client.stream_detect(make_rows(9)[8:], sensor="second", resume=QUICK, history=history)
    assert verdict.status is VerdictStatus.SCORED
    (warm_up,) = [data for data in peer.data if data.warm_up]
    assert len(warm_up.batch.observe_time_unix_nano) == min(8, 3 * scripted_server.WINDOW_ROWS)


def test_a_history_given_to_a_stream_keeps_more_series_than_the_server_holds(
    peer_and_client: tuple[ScriptedServer, Client],
) -> None:
    _, client = peer_and_client
    history = RowHistory(window_rows=scripted_server.WINDOW_ROWS, max_series=0)
    for number in range(1_001):  # the server holds 1,000
        history.store.append(f"host-{number}", START_NANOS, np.ones(len(scripted_server.FEATURES)))
    list(client.stream_detect(make_rows(2), resume=QUICK, history=history))
    assert len(history) == 1_002


def test_a_server_that_does_not_answer_counts_as_lost(serving: tuple[ScriptedServer, Client]) -> None:
    peer, client = serving
    peer.__dict__.update(ScriptedServer(faults=scripted_server.deque(["silent before"])).__dict__)
    with Client(client.address, timeout_seconds=0.2) as impatient:
        verdicts = list(impatient.stream_detect(make_rows(2), resume=QUICK))
    assert len(verdicts) == 2


def test_a_stream_waits_for_a_model_that_is_loading(peer_and_client: tuple[ScriptedServer, Client]) -> None:
    peer, client = peer_and_client
    loading = errors.ModelUnavailableError(Reason.MODEL_LOADING, "loading", retry_seconds=0.01)
    peer.open_faults.extend([loading, loading, "UNAVAILABLE", loading])
    assert len(list(client.stream_detect(make_rows(2), resume=QUICK))) == 2


def test_a_message_is_sent_again_to_an_overloaded_server(peer_and_client: tuple[ScriptedServer, Client]) -> None:
    peer, client = peer_and_client
    peer.refusal = errors.QuotaError(Reason.OVERLOADED, "too much", retry_seconds=0.01)
    peer.faults.extend(["refuse", "refuse"])
    verdicts = list(client.stream_detect(make_rows(1), resume=QUICK))
    assert [verdict.status for verdict in verdicts] == [VerdictStatus.WARMING_UP]


def test_a_rejected_message_is_reported_in_its_verdicts_and_the_stream_continues(
    peer_and_client: tuple[ScriptedServer, Client],
) -> None:
    peer, client = peer_and_client
    peer.refusal = errors.InvalidInputError.for_field("batch", Reason.BATCH_TOO_LARGE, "too many")
    peer.faults.extend(["", "refuse"])
    verdicts = list(client.stream_detect(make_rows(3), resume=QUICK))
    assert [verdict.status for verdict in verdicts][1] is VerdictStatus.REJECTED
    assert verdicts[1].error is not None
    assert verdicts[1].error.reason is Reason.BATCH_TOO_LARGE
    assert verdicts[2].error is None


def test_a_rejected_stream_raises_without_a_retry(peer_and_client: tuple[ScriptedServer, Client]) -> None:
    peer, client = peer_and_client
    peer.open_faults.append(errors.ModelNotFoundError(Reason.MODEL_NOT_FOUND, "no such model"))
    with pytest.raises(errors.ModelNotFoundError):
        client.stream_detect(make_rows(2))
    assert len(peer.configs) == 1


def test_a_stream_ends_when_the_features_of_the_model_change(peer_and_client: tuple[ScriptedServer, Client]) -> None:
    peer, client = peer_and_client
    peer.faults.extend(["", "break before"])
    stream = client.stream_detect(make_rows(3), resume=QUICK)
    next(stream)
    peer.features = ("other", "ssh_in")
    with pytest.raises(errors.ModelUnusableError, match="other"):
        list(stream)


def test_a_client_gives_up_after_its_time_without_an_answer(peer_and_client: tuple[ScriptedServer, Client]) -> None:
    peer, client = peer_and_client
    peer.faults.extend(["break before"] * 10_000)
    policy = ResumePolicy(total_seconds=0.1, first_wait_seconds=0.001, longest_wait_seconds=0.01)
    with pytest.raises(errors.ConnectionFailedError, match="gave up"):
        list(client.stream_detect(make_rows(1), resume=policy))


def test_a_stream_survives_a_restart_of_the_server() -> None:
    peer = ScriptedServer()
    server, address = scripted_server.start(peer)
    observations = make_rows(12)
    with Client(address, timeout_seconds=5) as client:
        expected = list(client.stream_detect(observations, sensor="unbroken"))
        verdicts = []
        with client.stream_detect(observations, sensor="broken", resume=QUICK) as stream:
            for verdict in stream:
                verdicts.append(verdict)
                if len(verdicts) % 4 == 0:
                    server.stop(None).wait()
                    peer.forget()
                    server, _ = scripted_server.start(peer, address)
    server.stop(None).wait()
    assert remove_errors(verdicts) == remove_errors(expected)


def test_a_stream_that_is_closed_early_can_be_continued(peer_and_client: tuple[ScriptedServer, Client]) -> None:
    _, client = peer_and_client
    expected = list(client.stream_detect(make_rows(8), sensor="whole"))
    with client.stream_detect(make_rows(8), sensor="parts") as stream:
        first = [next(stream) for _ in range(5)]
    second = list(client.stream_detect(make_rows(8)[5:], sensor="parts"))
    assert first + second == expected


@pytest.mark.parametrize("bad", [("site", "yesterday", [1, 2]), ("site", START, ["x", 2])])
def test_an_invalid_observation_is_rejected(peer_and_client: tuple[ScriptedServer, Client], bad: object) -> None:
    _, client = peer_and_client
    with pytest.raises(errors.InvalidInputError):
        list(client.stream_detect([bad]))  # type: ignore[list-item]
