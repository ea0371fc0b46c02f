"""Who may call: tokens, certificates, quotas, unix sockets."""

import hashlib
import logging
import shutil
import ssl
from pathlib import Path

import grpc
import pytest
from certificates import authority, needs_openssl, signed
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from running_server import running_server
from talking import forecast_request
from tiny_model import LEVELS, publish_tiny

from mods_grpc.client import Client, ResumePolicy
from mods_grpc.errors import (
    ConnectionFailedError,
    DeadlineError,
    PermissionDeniedError,
    QuotaError,
    Reason,
    UnauthenticatedError,
)
from mods_grpc.server.access import Identity, Scope, Tokens
from mods_grpc.server.admission import Backlog, Rates
from mods_grpc.server.config import host_and_port
from mods_grpc.server.watched_file import WatchedFiles
from mods_grpc.v1 import inference_pb2_grpc


def line(name, token, scopes="infer,models"):
    return f"{name} {hashlib.sha256(token.encode()).hexdigest()} {scopes}\n"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    publish_tiny(folder)
    return folder


@pytest.fixture(scope="module")
def guarded(repository, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text(
        "# who may call\n\n" + line("zeek", "secret-1") + line("suricata", "secret-2", "infer") + line("cli", "s3", "models")
    )
    with running_server(repository=repository, token_file=str(path), max_streams_per_identity=2) as server:
        yield server


def forecast(client):
    return client.forecast(LEVELS[:4], 1_556_668_800 * 10**9)


def rows(count, first=0):
    return [("web", (1_556_668_800 + row * 600) * 10**9, LEVELS[row]) for row in range(first, first + count)]


@pytest.mark.parametrize("token", [None, "", "wrong", "secret-1x", "SECRET-1", "ünbekannt".encode().decode("latin1")])
def test_without_a_known_token_every_rpc_is_refused(guarded, token):
    with grpc.insecure_channel(guarded.address) as channel:
        metadata = (("authorization", f"Bearer {token}"),) if token is not None and token.isascii() else ()
        for method in (
            "InferenceService/Forecast",
            "InferenceService/Detect",
            "ModelService/ListModels",
            "ModelService/GetModel",
        ):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(f"/mods.v1.{method}")(b"", metadata=metadata, timeout=10)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        call = channel.stream_stream("/mods.v1.InferenceService/StreamDetect")(iter([b""]), metadata=metadata, timeout=10)
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_known_token_may_do_what_its_scopes_say(guarded):
    with Client(guarded.address, token="secret-1") as client:
        assert forecast(client).values.size
        assert client.models()
        assert len(list(client.stream_detect(rows(6)))) == 6
    with Client(guarded.address, token="secret-2") as client:
        assert forecast(client).values.size
        with pytest.raises(PermissionDeniedError, match="scope models") as caught:
            client.models()
        assert caught.value.reason is Reason.SCOPE_MISSING
    with Client(guarded.address, token="s3") as client:
        assert client.models()
        for call in (lambda: forecast(client), lambda: list(client.stream_detect(rows(1)))):
            with pytest.raises(PermissionDeniedError):
                call()
    with Client(guarded.address) as client, pytest.raises(UnauthenticatedError) as refused:
        client.models()
    assert refused.value.reason is Reason.AUTH_REQUIRED


def test_reflection_takes_a_token_that_may_read_models(guarded):
    def services(token):
        class WithToken(grpc.StreamStreamClientInterceptor):
            def intercept_stream_stream(self, continuation, details, requests):
                return continuation(details._replace(metadata=(("authorization", f"Bearer {token}"),)), requests)

        with grpc.insecure_channel(guarded.address) as channel:
            return ProtoReflectionDescriptorDatabase(grpc.intercept_channel(channel, WithToken())).get_services()

    assert "mods.v1.InferenceService" in services("secret-1")
    with pytest.raises(grpc.RpcError) as caught:
        services("unknown")
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_the_series_of_two_callers_are_apart_although_their_sensor_has_the_same_name(guarded):
    for token in ("secret-1", "secret-2"):
        with Client(guarded.address, token=token) as client:
            stream = client.stream_detect(rows(5), sensor="shared")
            assert not stream.opened.resumed
            assert len(list(stream)) == 5
    with Client(guarded.address, token="secret-2") as client:
        stream = client.stream_detect(rows(1, 5), sensor="shared")
        assert stream.opened.resumed
        stream.close()


def test_one_caller_can_not_take_all_streams(guarded):
    with Client(guarded.address, token="secret-1") as one, Client(guarded.address, token="secret-2") as other:
        held = [one.stream_detect(iter(rows(1)), sensor=f"s{i}") for i in range(2)]
        with pytest.raises(ConnectionFailedError, match="2 streams of this caller are open") as caught:
            list(one.stream_detect(rows(1), sensor="third", resume=ResumePolicy(total_seconds=0.0)))
        assert caught.value.__cause__.reason is Reason.STREAM_QUOTA
        assert len(list(other.stream_detect(rows(1)))) == 1
        for stream in held:
            stream.close()


def test_a_token_file_is_read_again_when_it_changes_and_kept_when_it_breaks(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(line("one", "old"))
    tokens = Tokens(path)
    tokens._files._check_seconds = tokens._files._next_check = 0.0
    assert tokens.find("old") == Identity(name="one", scopes=frozenset(Scope), proven=True)
    path.write_text(line("one", "new") + line("two", "more", "infer"))
    assert tokens.find("old") is None
    assert tokens.find("more").scopes == {Scope.INFER}
    path.write_text("not a token file\n")
    assert tokens.find("new").name == "one"
    path.unlink()
    assert tokens.find("new").name == "one"


@pytest.mark.parametrize("text", ["a b c", "name " + "0" * 64, "name " + "0" * 64 + " root", "na/me " + "0" * 64 + " infer"])
def test_a_token_file_with_a_bad_line_is_refused_without_repeating_it(tmp_path, text):
    path = tmp_path / "tokens"
    path.write_text(f"# fine\n{text}\n")
    with pytest.raises(ValueError, match="line 2 of the token file") as caught:
        Tokens(path)
    assert "0000" not in str(caught.value)


def test_a_rate_is_a_limit_with_a_time_to_wait(repository):
    with (
        running_server(repository=repository, max_messages_per_second=5.0) as server,
        grpc.insecure_channel(server.address) as ch,
    ):
        inference = inference_pb2_grpc.InferenceServiceStub(ch)
        calls = [inference.Forecast.future(forecast_request(), timeout=10) for _ in range(50)]
        assert {call.code() for call in calls} == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}


def test_rates_are_counted_by_identity():
    rates = Rates(2.0)
    for _ in range(4):
        rates.take("one")
    with pytest.raises(QuotaError) as caught:
        rates.take("one")
    assert caught.value.reason is Reason.RATE_LIMIT
    assert 0 < caught.value.retry_seconds <= 0.5
    rates.take("other")


def test_a_full_backlog_sheds_load_at_once():
    backlog = Backlog(2, 1)
    backlog.admit(None)
    backlog.admit(None)
    with pytest.raises(QuotaError) as caught:
        backlog.admit(None)
    assert caught.value.reason is Reason.OVERLOADED
    backlog.done(1.0)
    backlog.admit(None)


def test_a_deadline_that_can_not_be_met_is_refused_at_once_but_not_for_ever():
    backlog = Backlog(8, 1)
    backlog.admit(None)
    backlog.done(1.0)
    with pytest.raises(DeadlineError) as caught:
        backlog.admit(0.5)
    assert caught.value.reason is Reason.DEADLINE_TOO_SHORT
    for _ in range(4):
        try:
            backlog.admit(0.5)
        except DeadlineError:
            continue
    assert backlog.pending > 0


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    ours, others = authority(folder), authority(folder, "others")
    return {
        "authority": ours,
        "others": others,
        "server": signed(folder, ours, "server"),
        "zeek": signed(folder, ours, "zeek"),
        "stranger": signed(folder, others, "stranger"),
    }


def channel_credentials(keys, client=None):
    key, certificate = (path.read_bytes() for path in keys[client]) if client else (None, None)
    return grpc.ssl_channel_credentials(keys["authority"][1].read_bytes(), key, certificate)


def tls(keys, **more):
    return {"tls_key": str(keys["server"][0]), "tls_certificate": str(keys["server"][1])} | more


@needs_openssl
def test_tls_serves_those_who_trust_its_authority_and_nobody_in_the_clear(repository, keys):
    with running_server(repository=repository, **tls(keys)) as server:
        with Client(server.address, credentials=channel_credentials(keys)) as client:
            assert client.models()
        with Client(server.address, timeout_seconds=2) as client, pytest.raises((ConnectionFailedError, DeadlineError)):
            client.models()


@needs_openssl
def test_mutual_tls_names_the_caller_and_refuses_strangers(repository, keys):
    options = tls(keys, tls_client_ca=str(keys["authority"][1]), max_streams_per_identity=1)
    with running_server(repository=repository, **options) as server:
        with Client(server.address, credentials=channel_credentials(keys, "zeek")) as client:
            assert client.models()
            stream = client.stream_detect(rows(1))
            assert list(server.app._streams._open) == ["zeek"]
            stream.close()
        for who in ("stranger", None):
            credentials = channel_credentials(keys, who)
            refused = pytest.raises((ConnectionFailedError, DeadlineError))
            with Client(server.address, credentials=credentials, timeout_seconds=2) as client, refused:
                client.models()


@needs_openssl
def test_a_renewed_certificate_is_shown_to_new_connections_and_open_ones_live_on(repository, keys, tmp_path):
    served = {"tls_key": str(tmp_path / "key"), "tls_certificate": str(tmp_path / "certificate")}

    def install(name):
        for source, target in zip(keys[name], served.values(), strict=True):
            shutil.copy(source, f"{target}.new")
            Path(f"{target}.new").replace(target)

    install("server")
    with running_server(repository=repository, **served) as server:
        before = ssl.get_server_certificate(host_and_port(server.address))
        with Client(server.address, credentials=channel_credentials(keys)) as client:
            stream = client.stream_detect(iter(rows(3)))
            next(stream)
            install("zeek")
            after = before
            while after == before:
                after = ssl.get_server_certificate(host_and_port(server.address))
            assert len(list(stream)) == 2
        assert after == keys["zeek"][1].read_text()


@needs_openssl
def test_a_pair_that_is_half_renewed_leaves_the_old_certificate_in_place(repository, keys, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    served = {"tls_key": str(tmp_path / "key"), "tls_certificate": str(tmp_path / "certificate")}
    for source, target in zip(keys["server"], served.values(), strict=True):
        shutil.copy(source, target)
    with running_server(repository=repository, **served) as server:

        def shown():
            return ssl.get_server_certificate(host_and_port(server.address))

        before = shown()
        shutil.copy(keys["zeek"][1], served["tls_certificate"])
        while "credentials_renewed" not in caplog.text:
            assert shown() == before
        assert shown() == before
        shutil.copy(keys["zeek"][0], served["tls_key"])
        while (after := shown()) == before:
            pass
        assert after == keys["zeek"][1].read_text()


@needs_openssl
def test_renewed_authorities_admit_their_clients_and_no_others(repository, keys, tmp_path):
    trusted = tmp_path / "authorities"
    shutil.copy(keys["authority"][1], trusted)

    def admitted(server, name):
        with Client(server.address, credentials=channel_credentials(keys, name), timeout_seconds=0.5) as client:
            try:
                return bool(client.models())
            except (ConnectionFailedError, DeadlineError):
                return False

    with running_server(repository=repository, **tls(keys, tls_client_ca=str(trusted))) as server:
        assert (admitted(server, "zeek"), admitted(server, "stranger")) == (True, False)
        shutil.copy(keys["others"][1], trusted)
        while not admitted(server, "stranger"):
            pass
        assert not admitted(server, "zeek")


@pytest.mark.parametrize("given", [{"tls_key": "k"}, {"tls_certificate": "c"}, {"tls_client_ca": "a"}])
def test_files_that_do_not_go_together_are_refused(repository, given):
    with pytest.raises(ValueError, match="--tls"):
        running(repository, **given)


def test_a_file_that_is_not_there_is_refused(repository, tmp_path):
    for given in (
        {"token_file": str(tmp_path / "no")},
        {"tls_key": str(tmp_path / "no"), "tls_certificate": str(tmp_path / "no")},
    ):
        with pytest.raises(OSError, match="No such file"):
            running(repository, **given)


def running(repository, **options):
    with running_server(repository=repository, **options):
        raise AssertionError("it must not start")


def test_a_unix_socket_is_held_by_one_server_and_free_afterwards(repository, tmp_path):
    address = f"unix:{tmp_path}/mods.sock"
    for _ in range(2):  # the second time the first one's socket file lies there
        with running_server(repository=repository, address=address), Client(address) as client:
            assert client.models()
            with pytest.raises(OSError, match="another server holds its lock"):
                running(repository, address=address)
            assert client.models()


def test_a_unix_socket_takes_the_place_of_nothing_else(repository, tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OSError, match="something else than a socket"):
        running(repository, address=f"unix:{tmp_path}/file")
    assert (tmp_path / "file").read_text() == "precious"


def test_files_that_can_not_be_read_at_first_are_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        WatchedFiles((tmp_path / "no",), lambda: None)


@pytest.mark.parametrize("address", ["9000", ":9000", "host:", "host:x", "host:70000"])
def test_an_address_of_metrics_is_host_and_port(address):
    with pytest.raises(ValueError, match="expected host:port"):
        host_and_port(address)
    assert host_and_port("[::1]:9") == ("::1", 9)
