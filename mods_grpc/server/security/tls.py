"""TLS credentials that rotate with their files, and lock files that keep a second server from a unix socket."""

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
from mods_grpc.transport.sockets.tls import load_server_context


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files of TLS: certificate chain, private key and, for mutual TLS, the authorities of client certificates."""

    certificate: Path
    key: Path
    client_authorities: Path | None

    @classmethod
    def from_config(cls, config: ServerConfig) -> "TlsFiles | None":
        """Return the files of a configuration; None without TLS.

        Raises:
            ValueError: The options are inconsistent.
        """
        if bool(config.tls_certificate) != bool(config.tls_key):
            raise ValueError("--tls-certificate and --tls-key must be given together")
        if not config.tls_certificate:
            if config.tls_client_ca:
                raise ValueError("--tls-client-ca needs --tls-certificate and --tls-key")
            return None
        authorities = Path(config.tls_client_ca) if config.tls_client_ca else None
        return cls(Path(config.tls_certificate), Path(config.tls_key), authorities)

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files."""
        return (self.certificate, self.key, *([self.client_authorities] if self.client_authorities else []))

    def make_grpcio_credentials(self) -> tuple[grpc.ServerCredentials, FileWatcher[grpc.ServerCertificateConfiguration]]:
        """Return credentials for grpcio that follow changes of the files, and what watches these.

        Raises:
            OSError: A file can't be read or is no valid PEM file.
        """
        mutual = self.client_authorities is not None

        def read() -> grpc.ServerCertificateConfiguration:
            certificate, key, *authority = (path.read_bytes() for path in self.paths)
            return grpc.ssl_server_certificate_configuration([(key, certificate)], authority[0] if mutual else None)

        files = FileWatcher(self.paths, read)
        self._load_context()  # grpcio would find out at the first handshake
        current = files.read()

        def fetch_changed() -> grpc.ServerCertificateConfiguration | None:
            """Return the certificates if they changed since the last handshake, else None."""
            nonlocal current
            latest = files.read()
            if latest is current:
                return None
            current = latest
            return latest

        fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", fetch_changed)  # the stubs do not know of None
        return grpc.dynamic_ssl_server_credentials(current, fetch, require_client_authentication=mutual), files

    def watch_ssl_context(self) -> FileWatcher[ssl.SSLContext]:
        """Return what gives the SSL context for the next handshake, with the files as they are then.

        Raises:
            OSError: A file can't be read or is no valid PEM file.
        """
        return FileWatcher(self.paths, self._load_context)

    def _load_context(self) -> ssl.SSLContext:
        for path in self.paths:
            path.read_bytes()  # names the file that can't be read
        try:
            return load_server_context(self.certificate, self.key, self.client_authorities)
        except ssl.SSLError as error:
            names = ", ".join(map(str, self.paths))
            expected = "a certificate chain, its private key without a password, and authorities, in PEM"
            raise OSError(f"{names}: expected {expected} ({error.reason})") from error


def lock_socket(address: str) -> IO[bytes] | None:
    """Lock a file next to a unix socket. Without it a second server would silently take the socket over.

    Args:
        address: Address of the server.

    Returns:
        The lock file, locked until it is closed; None if the address is not a socket file.

    Raises:
        OSError: Another server holds the lock, or the path is something other than a socket.
    """
    if not address.startswith("unix:"):
        return None
    path = Path(address.removeprefix("unix://").removeprefix("unix:"))
    if not path.parent.is_dir():
        raise OSError(f"cannot listen on {path}: the folder {path.parent} is missing")
    lock = path.with_name(path.name + ".lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise OSError(f"cannot listen on {path}: another server holds its lock") from error
    if path.exists() and not stat.S_ISSOCK(os.lstat(path).st_mode):
        lock.close()
        raise OSError(f"cannot listen on {path}: the path exists and is not a socket")
    return lock
