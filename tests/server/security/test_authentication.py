"""Authentication of callers: tokens, scopes, and what a caller shares with no other."""

import hashlib

import grpc
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from mods_grpc.client import Client, ResumePolicy
from mods_grpc.errors import (
    ConnectionFailedError,
    PermissionDeniedError,
    Reason,
    UnauthenticatedError,
)
from mods_grpc.server.security.authentication import CallerIdentity, Scope, TokenFile
from tests.support.http2.direct_server import Peer
from tests.support.models.tiny import LEVELS
from tests.support.running_server import running_server


def line(name, token, scopes="infer,models"):
    return f"{name} {hashlib.sha256(token.encode()).hexdigest()} {scopes}\n"


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
def test_every_rpc_is_rejected_without_a_valid_token(guarded, token):
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


@pytest.mark.parametrize("value", ["Bearer ünbekannt", "Bearer secret-1\t\x80", "ünbekannt", "Bearer \x01"])
def test_a_token_of_any_bytes_is_rejected_like_another(guarded, value):
    with Peer(guarded.app.port) as peer:
        fields = {":path": "/mods.v1.ModelService/ListModels", "authorization": value.encode("latin-1")}
        assert peer.status(bytes(5), fields=fields)[0] == grpc.StatusCode.UNAUTHENTICATED.value[0]


def test_a_token_permits_what_its_scopes_say(guarded):
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


def test_reflection_needs_a_token_with_the_models_scope(guarded):
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


def test_callers_with_equal_sensor_names_have_separate_series(guarded):
    for token in ("secret-1", "secret-2"):
        with Client(guarded.address, token=token) as client:
            stream = client.stream_detect(rows(5), sensor="shared")
            assert not stream.opened.resumed
            assert len(list(stream)) == 5
    with Client(guarded.address, token="secret-2") as client:
        stream = client.stream_detect(rows(1, 5), sensor="shared")
        assert stream.opened.resumed
        stream.close()


def test_one_caller_cannot_open_all_streams(guarded):
    with Client(guarded.address, token="secret-1") as first, Client(guarded.address, token="secret-2") as other:
        held = [first.stream_detect(iter(rows(1)), sensor=f"s{i}") for i in range(2)]
        with pytest.raises(ConnectionFailedError, match="2 streams of this caller are open") as caught:
            list(first.stream_detect(rows(1), sensor="third", resume=ResumePolicy(total_seconds=0.0)))
        assert caught.value.__cause__.reason is Reason.STREAM_QUOTA
        assert len(list(other.stream_detect(rows(1)))) == 1
        for stream in held:
            stream.close()


def test_a_changed_token_file_is_reloaded_and_a_broken_one_leaves_the_last_tokens_in_force(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(line("one", "old"))
    tokens = TokenFile(path)
    tokens._file._check_seconds = tokens._file._next_check = 0.0
    assert tokens.lookup("old") == CallerIdentity(name="one", scopes=frozenset(Scope), authenticated=True)
    path.write_text(line("one", "new") + line("two", "more", "infer"))
    assert tokens.lookup("old") is None
    assert tokens.lookup("more").scopes == {Scope.INFER}
    path.write_text("not a token file\n")
    assert tokens.lookup("new").name == "one"
    path.unlink()
    assert tokens.lookup("new").name == "one"


@pytest.mark.parametrize("text", ["a b c", "name " + "0" * 64, "name " + "0" * 64 + " root", "na/me " + "0" * 64 + " infer"])
def test_a_malformed_token_file_is_rejected_without_quoting_its_line(tmp_path, text):
    path = tmp_path / "tokens"
    path.write_text(f"# fine\n{text}\n")
    with pytest.raises(ValueError, match="line 2 of the token file") as caught:
        TokenFile(path)
    assert "0000" not in str(caught.value)


def test_a_forecast_has_the_intervals_of_the_callers_own_series_alone(guarded):
    def own_intervals(token):
        with Client(guarded.address, token=token) as client:
            result = client.forecast(LEVELS[:4], 1_556_668_800 * 10**9, coverages=[0.8], sensor="site", series=["web"])
        return bool(result.own_intervals[0])

    with Client(guarded.address, token="secret-1") as client:
        list(client.stream_detect(rows(9), sensor="site", own_intervals=True))
    assert own_intervals("secret-1")
    assert not own_intervals("secret-2")
