"""Where the server listens and how it proves who it is: TLS files that rotate, unix sockets that are not stolen."""

import fcntl
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

import grpc

from mods_grpc.server.config import ServerConfig
from mods_grpc.server.watched_file import WatchedFiles

log = logging.getLogger(__name__)


class Listener:
    """Binds the main server to its address.

    Args:
        config: Address and files.

    Raises:
        OSError: A file can't be read, or another server holds the socket.
        ValueError: Files are named that do not go together.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._address = config.address
        self._lock: IO[bytes] | None = None
        self._credentials = _credentials(config)
        if config.address.startswith("unix:"):
            self._lock = _lock_socket(Path(config.address.removeprefix("unix://").removeprefix("unix:")))

    def bind(self, server: grpc.aio.Server) -> int:
        """Bind the server and return its port; 0 for a unix socket.

        Raises:
            OSError: The address can't be bound.
        """
        try:
            if self._credentials is not None:
                return server.add_secure_port(self._address, self._credentials)
            return server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._address}; is another server running there?") from error

    def close(self) -> None:
        """Let another server have the socket."""
        if self._lock is not None:
            self._lock.close()


def _credentials(config: ServerConfig) -> grpc.ServerCredentials | None:
    if bool(config.tls_certificate) != bool(config.tls_key):
        raise ValueError("--tls-certificate and --tls-key go together")
    if not config.tls_certificate:
        if config.tls_client_ca:
            raise ValueError("--tls-client-ca needs --tls-certificate and --tls-key")
        return None
    names = [config.tls_certificate, config.tls_key, *([config.tls_client_ca] if config.tls_client_ca else [])]
    paths = tuple(Path(name) for name in names)
    mutual = bool(config.tls_client_ca)

    def read() -> grpc.ServerCertificateConfiguration:
        certificate, key, *authority = (path.read_bytes() for path in paths)
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authority[0] if mutual else None)

    files = WatchedFiles(paths, read)
    given = files.content()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        """Return the certificates if they changed since the last handshake."""
        nonlocal given
        now = files.content()
        if now is given:
            return None
        given = now
        return now

    fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", renewed)  # None means: as before
    return grpc.dynamic_ssl_server_credentials(given, fetch, require_client_authentication=mutual)


def _lock_socket(path: Path) -> IO[bytes]:
    """Hold a lock beside a unix socket, which a second server would otherwise take over without a word."""
    lock = path.with_name(path.name + ".lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise OSError(f"cannot listen on {path}: another server holds its lock") from error
    if path.exists() and not stat.S_ISSOCK(os.lstat(path).st_mode):
        lock.close()
        raise OSError(f"cannot listen on {path}: something else than a socket is there")
    return lock
