"""The client library against a hand-written peer with faults."""

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from mods_grpc import errors
from mods_grpc.client import Client, VerdictStatus
from mods_grpc.client.codec.times import to_nanos, to_nanos_array
from mods_grpc.client.rpc.errors import CLASS_OF_REASON, error_from_status
from mods_grpc.errors import Reason
from mods_grpc.server.rpc.status import to_status
from tests.support.client_rows import START, START_NANOS, make_rows
from tests.support.rpc import scripted_server
from tests.support.rpc.scripted_server import ScriptedServer

# Unary calls


def test_models_are_listed_from_all_pages(peer_and_client: tuple[ScriptedServer, Client]) -> None:
    _, client = peer_and_client
    models = client.models()
    assert [(model.name, model.version) for model in models] == [("campus", 2), ("campus", 1), ("lab", 1)]
    assert models[0].feature_names == scripted_server.FEATURES
    assert models[0].slide_seconds == 600
    assert models[0].create_time == START
    assert models[0].features[0].kind == "count"


def test_one_model_is_described(peer_and_client: tuple[ScriptedServer, Client]) -> None:
    _, client = peer_and_client
    assert client.model("lab", 1).name == "lab"
    assert client.model().version == 2


def test_a_forecast_is_returned_as_arrays_with_times(peer_and_client: tuple[ScriptedServer, Client]) -> None:
    peer, client = peer_and_client
    windows = np.arange(12, dtype=np.float64).reshape(2, 3, 2)
    windows[0, 1, 1] = np.nan
    result = client.forecast(windows, [START, START + timedelta(days=1)], horizon=2, coverages=[0.5, 0.9])
    assert result.values.tolist() == [[[4.0, 5.0]] * 2, [[10.0, 11.0]] * 2]
    assert result.lower.shape == result.upper.shape == (2, 2, 2, 2)
    assert result.upper[1, 0, 0].tolist() == [4.9, 5.9]
    assert result.times[1].tolist() == [START_NANOS + 10**9 * (86_400 + 1800 + 600 * step) for step in (0, 1)]
    assert (result.model.name, result.features, result.coverages) == ("campus", scripted_server.FEATURES, (0.5, 0.9))
    sent = peer.requests[-1]
    assert list(sent.batch.missing) == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert np.isfinite(np.frombuffer(sent.batch.values)).all()


def test_a_single_window_needs_no_outer_axis(peer_and_client: tuple[ScriptedServer, Client]) -> None:
    _, client = peer_and_client
    result = client.forecast([[1, 2], [3, None], [5, 6]], START)
    assert result.values.tolist() == [[[5.0, 6.0], [5.0, 6.0]]]
    assert result.lower.shape == (0, 1, 2, 2)


@pytest.mark.parametrize(
    ("windows", "times"),
    [(np.zeros(3), [START]), (np.zeros((2, 3, 2)), [START] * 3), ([[1, 2], [3]], [START]), ([["x", "y"]], [START])],
)
def test_windows_of_a_wrong_shape_are_rejected_before_they_are_sent(
    peer_and_client: tuple[ScriptedServer, Client], windows: object, times: list[datetime]
) -> None:
    peer, client = peer_and_client
    with pytest.raises(errors.InvalidInputError) as caught:
        client.forecast(windows, times)  # type: ignore[arg-type]
    assert caught.value.reason is Reason.SHAPE_MISMATCH
    assert not peer.requests


def test_detect_returns_columns_and_the_explained_verdicts(peer_and_client: tuple[ScriptedServer, Client]) -> None:
    _peer, client = peer_and_client
    observations = make_rows(8)
    result = client.detect([row.time for row in observations], [row.values for row in observations], series="site", judge_rows=4)
    assert result.series == "site"
    assert len(result.status) == len(result.p_values) == len(result.times) == 4
    assert set(result.status) == {VerdictStatus.SCORED}
    explained = {np.datetime64(verdict.observe_time.replace(tzinfo=None), "ns") for verdict in result.verdicts}
    assert result.anomalous.tolist() == [time in explained for time in result.times]
    assert result.verdicts[0].reason.startswith("conn_in")
    assert result.verdicts[0].features[0].feature == "conn_in"
    assert result.significance == 0.05


def test_a_budget_and_a_significance_exclude_each_other(peer_and_client: tuple[ScriptedServer, Client]) -> None:
    _, client = peer_and_client
    with pytest.raises(errors.InvalidInputError, match="both"):
        client.detect([START], [[1, 2]], false_alarms_per_day=1, significance=0.1)


def test_the_request_holds_all_arguments(peer_and_client: tuple[ScriptedServer, Client]) -> None:
    peer, client = peer_and_client
    observations = make_rows(4)
    client.detect(
        [row.time for row in observations],
        [row.values for row in observations],
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


def test_the_token_is_sent_as_bearer(serving: tuple[ScriptedServer, Client]) -> None:
    peer, client = serving
    with Client(client.address, token="secret") as other:
        other.models()
    assert peer.metadata[-1]["authorization"] == "Bearer secret"


# Errors


def test_every_error_of_the_server_is_rebuilt_with_all_its_data() -> None:
    for reason, cls in CLASS_OF_REASON.items():
        if cls is errors.InvalidInputError:
            continue
        error = cls(reason, "expected this, found that", limit=3, actual=4, retry_seconds=1.5)
        rebuilt = error_from_status(to_status(error))
        assert type(rebuilt) is cls
        assert vars(rebuilt) == vars(error)
    assert set(CLASS_OF_REASON) == set(Reason)


def test_all_violations_are_rebuilt() -> None:
    error = errors.InvalidInputError(
        [
            errors.Violation(field="a[0]", reason=Reason.VALUE_NAN, message="is NaN", limit="1", actual="2"),
            errors.Violation(field="b", reason=Reason.GAP, message="a gap"),
        ]
    )
    rebuilt = error_from_status(to_status(error))
    assert isinstance(rebuilt, errors.InvalidInputError)
    assert rebuilt.violations == error.violations
    assert str(rebuilt) == str(error)


def test_a_call_raises_the_error_of_the_server(peer_and_client: tuple[ScriptedServer, Client]) -> None:
    peer, client = peer_and_client
    peer.open_faults.append(errors.ModelNotFoundError(Reason.MODEL_NOT_FOUND, "no model lab", actual="lab"))
    with pytest.raises(errors.ModelNotFoundError, match="no model lab") as caught:
        client.model("lab")
    assert caught.value.actual == "lab"


def test_a_unary_call_is_retried_while_the_server_is_unavailable(peer_and_client: tuple[ScriptedServer, Client]) -> None:
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
def test_a_status_without_details_becomes_an_error(
    peer_and_client: tuple[ScriptedServer, Client], code: str, expected: type[errors.ModsError]
) -> None:
    peer, client = peer_and_client
    peer.open_faults.append(code)
    with pytest.raises(expected):
        client.model()


@pytest.fixture(scope="module")
def unused_address() -> str:
    """An address at which no server listens."""
    server, address = scripted_server.start(ScriptedServer())
    server.stop(None).wait()
    return address


def test_an_address_without_a_server_is_named_in_the_error(unused_address: str) -> None:
    with Client(unused_address, timeout_seconds=5) as client:
        with pytest.raises(errors.ConnectionFailedError, match=unused_address):
            client.models()
        with pytest.raises(errors.ConnectionFailedError, match=unused_address):
            client.stream_detect(make_rows(1))


# Streams


def test_a_closed_client_raises_and_leaves_no_thread_behind(serving: tuple[ScriptedServer, Client]) -> None:
    _, client = serving
    other = Client(client.address)
    stream = other.stream_detect(make_rows(3))
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
    assert to_nanos(time) == START_NANOS  # type: ignore[arg-type]
    assert to_nanos_array([time]).tolist() == [START_NANOS]  # type: ignore[list-item]


@pytest.mark.parametrize("time", ["2019-01-01", 1.5, True, np.datetime64("NaT"), 2**63, datetime(3000, 1, 1, tzinfo=UTC)])
def test_what_is_not_a_time_is_rejected(time: object) -> None:
    with pytest.raises(errors.InvalidInputError) as caught:
        to_nanos(time)  # type: ignore[arg-type]
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
