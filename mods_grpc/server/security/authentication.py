"""Authentication and scopes of callers: bearer tokens from a file, names of client certificates, or the peer's address."""

import hashlib
import hmac
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from mods_grpc.errors import PermissionDeniedError, Reason, UnauthenticatedError
from mods_grpc.server.security.file_watcher import FileWatcher

MAX_TOKEN_CHARACTERS = 1024
MAX_FILE_BYTES = 1024 * 1024
BEARER = "bearer "
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
DIGEST_PATTERN = re.compile(r"[0-9a-f]{64}")
SENSOR_SEPARATOR = "\x1f"


class Scope(StrEnum):
    """What a token permits: INFER for forecasts and verdicts, MODELS for model descriptions and reflection."""

    INFER = "infer"
    MODELS = "models"


class CallerContext(Protocol):
    """The parts of a call's context that identify the caller."""

    def invocation_metadata(self) -> Any: ...  # noqa: D102
    def auth_context(self) -> Any: ...  # noqa: D102
    def peer(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True, slots=True)
class CallerIdentity:
    """Identity of a caller.

    Attributes:
        name: From the token or certificate, else the address of the peer.
        authenticated: Whether the name comes from a credential.
    """

    name: str
    scopes: frozenset[Scope] = frozenset(Scope)
    authenticated: bool = False

    def own_sensor(self, sensor: str) -> str:
        """Return the namespace of the series of a sensor: of authenticated callers their own, which no other can reach."""
        return f"{self.name}{SENSOR_SEPARATOR}{sensor}" if self.authenticated else sensor


class TokenFile:
    """The bearer tokens of a file, which is read again when it changes.

    Each line holds a name, the SHA-256 of the token in hexadecimal, and comma-separated scopes. Empty lines and lines that begin
    with # are skipped.

    Args:
        path: The file.

    Raises:
        OSError: The file can't be read.
        ValueError: A line is malformed. The message gives its number, never its content.
    """

    def __init__(self, path: Path) -> None:
        self._file = FileWatcher((path,), lambda: read_tokens(path))

    def refresh(self) -> None:
        """Read the file now."""
        self._file.refresh()

    def lookup(self, token: str) -> CallerIdentity | None:
        """Return the identity that a token belongs to; None if it is unknown, which takes as long as to find a known one."""
        digest = hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()
        match = None
        for stored_digest, identity in self._file.read():
            if hmac.compare_digest(stored_digest, digest):
                match = identity
        return match


def read_tokens(path: Path) -> tuple[tuple[str, CallerIdentity], ...]:
    """Read a token file.

    Raises:
        OSError: It can't be read.
        ValueError: It is too large, or a line is malformed.
    """
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"the token file is larger than {MAX_FILE_BYTES} bytes")
    tokens = []
    for number, line in enumerate(content.decode().splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        fields = line.split()
        scopes = set(fields[2].split(",")) if len(fields) == 3 else set()
        if (
            not scopes
            or not scopes <= set(Scope)
            or not NAME_PATTERN.fullmatch(fields[0])
            or not DIGEST_PATTERN.fullmatch(fields[1])
        ):
            raise ValueError(f"line {number} of the token file: expected a name, a SHA-256 and scopes of {', '.join(Scope)}")
        tokens.append((fields[1], CallerIdentity(name=fields[0], scopes=frozenset(map(Scope, scopes)), authenticated=True)))
    return tuple(tokens)


class Authenticator:
    """Identifies the caller of a call.

    Args:
        tokens: The accepted tokens; None if no token is required.
        certificates: Whether the transport requires client certificates, which then name the caller.
    """

    def __init__(self, tokens: TokenFile | None, *, certificates: bool) -> None:
        self._tokens = tokens
        self._certificates = certificates

    def authenticate(self, call: CallerContext, scope: Scope) -> CallerIdentity:
        """Return the identity of the caller.

        Raises:
            UnauthenticatedError: AUTH_REQUIRED, without a valid token or certificate.
            PermissionDeniedError: SCOPE_MISSING, the token lacks `scope`.
        """
        if self._tokens is None:
            return _identity_from_certificate(call) if self._certificates else _anonymous_identity(call.peer())
        identity = self._tokens.lookup(_bearer_token(call))
        if identity is None:
            raise UnauthenticatedError(Reason.AUTH_REQUIRED, "expected authorization: Bearer with a valid token")
        if scope not in identity.scopes:
            raise PermissionDeniedError(Reason.SCOPE_MISSING, f"the token lacks the scope {scope}", limit=scope)
        return identity


@lru_cache(maxsize=1024)
def _anonymous_identity(peer: str) -> CallerIdentity:
    return CallerIdentity(name=strip_port(peer))


def strip_port(peer: str) -> str:
    """Return the address of a peer without its port, which changes with every connection."""
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer or "peer"


def _bearer_token(call: CallerContext) -> str:
    for key, value in call.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value[: len(BEARER)].lower() == BEARER:
            return value[len(BEARER) :].strip()[:MAX_TOKEN_CHARACTERS]
    return ""


def _identity_from_certificate(call: CallerContext) -> CallerIdentity:
    names = call.auth_context().get("x509_common_name") or ()
    for name in names:
        return CallerIdentity(name=name.decode(errors="replace")[:128], authenticated=True)
    raise UnauthenticatedError(Reason.AUTH_REQUIRED, "expected a client certificate with a common name")
