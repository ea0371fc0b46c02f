"""Listeners: TLS files that rotate, client certificates, unix sockets."""

import asyncio
import logging
import os
import re
import shutil
import ssl
from pathlib import Path

import grpc
import pytest

from mods_grpc.client import Client
from mods_grpc.errors import ConnectionFailedError, DeadlineError
from mods_grpc.server.config import split_host_port
from mods_grpc.server.security.file_watcher import FileWatcher
from tests.support.certificates import make_authority, make_certificate, needs_openssl
from tests.support.models.tiny import LEVELS
from tests.support.running_server import running_server


def rows(count, first=0):
    return [("web", (1_556_668_800 + row * 600) * 10**9, LEVELS[row]) for row in range(first, first + count)]


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    ours, others = make_authority(folder), make_authority(folder, "others")
    return {
        "authority": ours,
        "others": others,
        "server": make_certificate(folder, ours, "server"),
        "zeek": make_certificate(folder, ours, "zeek"),
        "stranger": make_certificate(folder, others, "stranger"),
    }


@pytest.fixture(autouse=True)
def frequent_checks(monkeypatch):
    """Let servers look for renewed files 20 times per second, so that tests poll briefly."""
    monkeypatch.setattr(FileWatcher.__init__, "__defaults__", (0.05,))


def channel_credentials(keys, client=None):
    key, certificate = (path.read_bytes() for path in keys[client]) if client else (None, None)
    return grpc.ssl_channel_credentials(keys["authority"][1].read_bytes(), key, certificate)


def tls(keys, **more):
    return {"tls_key": str(keys["server"][0]), "tls_certificate": str(keys["server"][1])} | more


@needs_openssl
def test_tls_serves_clients_that_trust_its_authority_and_none_in_plaintext(repository, keys):
    with running_server(repository=repository, **tls(keys)) as server:
        with Client(server.address, credentials=channel_credentials(keys)) as client:
            assert client.models()
        with Client(server.address, timeout_seconds=2) as client, pytest.raises((ConnectionFailedError, DeadlineError)):
            client.models()


@needs_openssl
def test_mutual_tls_identifies_the_caller_and_rejects_unknown_certificates(repository, keys):
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
def test_new_connections_get_a_renewed_certificate_and_open_ones_stay(repository, keys, tmp_path):
    served = {"tls_key": str(tmp_path / "key"), "tls_certificate": str(tmp_path / "certificate")}

    def install(name):
        for source, target in zip(keys[name], served.values(), strict=True):
            shutil.copy(source, f"{target}.new")
            Path(f"{target}.new").replace(target)

    install("server")
    with running_server(repository=repository, **served) as server:
        old_certificate = ssl.get_server_certificate(split_host_port(server.address))
        with Client(server.address, credentials=channel_credentials(keys)) as client:
            stream = client.stream_detect(iter(rows(3)))
            next(stream)
            install("zeek")
            new_certificate = old_certificate
            while new_certificate == old_certificate:
                new_certificate = ssl.get_server_certificate(split_host_port(server.address))
            assert len(list(stream)) == 2
        assert new_certificate == keys["zeek"][1].read_text()


@needs_openssl
def test_a_reload_reads_a_certificate_that_looks_as_it_did(repository, keys, tmp_path):
    served = {"tls_key": str(tmp_path / "key"), "tls_certificate": str(tmp_path / "certificate")}
    for source, target in zip(keys["server"], served.values(), strict=True):
        shutil.copy(source, target)
    with running_server(repository=repository, **served) as server:
        for source, target in zip(keys["zeek"], map(Path, served.values()), strict=True):
            status, content = target.stat(), source.read_bytes()
            target.write_bytes(content.ljust(status.st_size, b"\n")[: max(status.st_size, len(content))])
            os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
        asyncio.run_coroutine_threadsafe(server.app.reload(), server._loop).result(30)
        assert ssl.get_server_certificate(split_host_port(server.address)) == keys["zeek"][1].read_text()


@needs_openssl
def test_a_half_renewed_pair_leaves_the_old_certificate_in_force(repository, keys, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    served = {"tls_key": str(tmp_path / "key"), "tls_certificate": str(tmp_path / "certificate")}
    for source, target in zip(keys["server"], served.values(), strict=True):
        shutil.copy(source, target)
    with running_server(repository=repository, **served) as server:

        def served_certificate():
            return ssl.get_server_certificate(split_host_port(server.address))

        old_certificate = served_certificate()
        shutil.copy(keys["zeek"][1], served["tls_certificate"])
        while not re.search("credentials_(renewed|unreadable)", caplog.text):  # over grpcio the pair shows at the handshake
            assert served_certificate() == old_certificate
        assert served_certificate() == old_certificate
        shutil.copy(keys["zeek"][0], served["tls_key"])
        while (new_certificate := served_certificate()) == old_certificate:
            pass
        assert new_certificate == keys["zeek"][1].read_text()


@needs_openssl
def test_renewed_authorities_accept_only_their_own_clients(repository, keys, tmp_path):
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
def test_inconsistent_tls_options_are_rejected(repository, given):
    with pytest.raises(ValueError, match="--tls"):
        running(repository, **given)


def test_a_missing_tls_file_is_rejected(repository, tmp_path):
    for given in (
        {"token_file": str(tmp_path / "no")},
        {"tls_key": str(tmp_path / "no"), "tls_certificate": str(tmp_path / "no")},
    ):
        with pytest.raises(OSError, match="No such file"):
            running(repository, **given)


def running(repository, **options):
    with running_server(repository=repository, **options):
        raise AssertionError("it must not start")


def test_a_unix_socket_is_locked_by_one_server_and_free_after_it_stops(repository, tmp_path):
    address = f"unix:{tmp_path}/mods.sock"
    for _ in range(2):  # the second time the first one's socket file lies there
        with running_server(repository=repository, address=address), Client(address) as client:
            assert client.models()
            assert not (tmp_path / "mods.sock").stat().st_mode & 0o002  # to connect one must be allowed to write
            with pytest.raises(OSError, match="another server holds its lock"):
                running(repository, address=address)
            assert client.models()


def test_a_unix_socket_replaces_no_other_kind_of_file(repository, tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OSError, match="the path exists and is not a socket"):
        running(repository, address=f"unix:{tmp_path}/file")
    assert (tmp_path / "file").read_text() == "precious"


def test_files_that_are_unreadable_at_the_start_raise(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        FileWatcher((tmp_path / "no",), lambda: None)


@pytest.mark.parametrize("address", ["9000", ":9000", "host:", "host:x", "host:70000"])
def test_a_metrics_address_must_be_host_and_port(address):
    with pytest.raises(ValueError, match="expected host:port"):
        split_host_port(address)
    assert split_host_port("[::1]:9") == ("::1", 9)
