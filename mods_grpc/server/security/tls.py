"""How the server proves who it is, and keeps its address: TLS files that rotate, unix sockets that are not stolen."""

import fcntl
import os
import ssl
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import grpc

from mods_grpc.server.config import ServerConfig
from mods_grpc.server.security.file_watcher import FileWatcher
from mods_grpc.transport.sockets.tls import server_context


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files that TLS needs: certificate chain and key, and the authorities of client certificates, if those are asked for."""

    certificate: Path
    key: Path
    client_authorities: Path | None

    @classmethod
    def from_config(cls, config: ServerConfig) -> "TlsFiles | None":
        """Return the files of a configuration; None where there is no TLS.

        Raises:
            ValueError: Files are named that do not go together.
        """
        if bool(config.tls_certificate) != bool(config.tls_key):
            raise ValueError("--tls-certificate and --tls-key go together")
        if not config.tls_certificate:
            if config.tls_client_ca:
                raise ValueError("--tls-client-ca needs --tls-certificate and --tls-key")
            return None
        authorities = Path(config.tls_client_ca) if config.tls_client_ca else None
        return cls(Path(config.tls_certificate), Path(config.tls_key), authorities)

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        return (self.certificate, self.key, *([self.client_authorities] if self.client_authorities else []))

    def grpcio_credentials(self) -> grpc.ServerCredentials:
        """Return credentials of grpcio, which follow the files.

        Raises:
            OSError: A file can't be read.
        """
        mutual = self.client_authorities is not None

        def read() -> grpc.ServerCertificateConfiguration:
            certificate, key, *authority = (path.read_bytes() for path in self.paths)
            return grpc.ssl_server_certificate_configuration([(key, certificate)], authority[0] if mutual else None)

        files = FileWatcher(self.paths, read)
        given = files.read()

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            """Return the certificates if they changed since the last handshake."""
            nonlocal given
            now = files.read()
            if now is given:
                return None
            given = now
            return now

        fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", renewed)  # None means: as before
        return grpc.dynamic_ssl_server_credentials(given, fetch, require_client_authentication=mutual)

    def ssl_context_provider(self) -> Callable[[], ssl.SSLContext]:
        """Return what tells the context of the next handshake.

        Raises:
            OSError: A file can't be read, or is not what it must be.
        """
        return FileWatcher(self.paths, lambda: server_context(self.certificate, self.key, self.client_authorities)).read


def lock_socket(address: str) -> IO[bytes] | None:
    """Hold a lock beside a unix socket, which a second server would otherwise take over without a word.

    Args:
        address: Where a server listens.

    Returns:
        The lock; None where the address is no file.

    Raises:
        OSError: Another server holds it, or something else is there.
    """
    if not address.startswith("unix:"):
        return None
    path = Path(address.removeprefix("unix://").removeprefix("unix:"))
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
