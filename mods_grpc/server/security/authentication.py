"""Who calls and what they may do: bearer tokens from a file, or the name in a client certificate, or the peer's address."""

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


class Scope(StrEnum):
    """What a token may be used for: forecasts and verdicts, or descriptions of models and reflection."""

    INFER = "infer"
    MODELS = "models"


class CallerContext(Protocol):
    """The parts of a call's context that tell who calls."""

    def invocation_metadata(self) -> Any: ...  # noqa: D102
    def auth_context(self) -> Any: ...  # noqa: D102
    def peer(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True, slots=True)
class CallerIdentity:
    """A caller. `proven` tells whether the name comes from a credential or is only where the call came from."""

    name: str
    scopes: frozenset[Scope] = frozenset(Scope)
    authenticated: bool = False


class TokenFile:
    """Tokens of a file, which holds one a line: name, SHA-256 of the token in hexadecimal, scopes with commas between.

    Lines that are empty or begin with # are skipped. The file is read again when it changes.

    Args:
        path: The file.

    Raises:
        OSError: It can't be read.
        ValueError: A line is not as described; the message gives its number and never what it holds.
    """

    def __init__(self, path: Path) -> None:
        self._files = FileWatcher((path,), lambda: read_tokens(path))

    def lookup(self, token: str) -> CallerIdentity | None:
        """Return whose token it is. Takes as long for one that is unknown."""
        digest = hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()
        found = None
        for known, identity in self._files.read():
            if hmac.compare_digest(known, digest):
                found = identity
        return found


def read_tokens(path: Path) -> tuple[tuple[str, CallerIdentity], ...]:
    """Read a token file.

    Raises:
        OSError: It can't be read.
        ValueError: A line is not as described.
    """
    with path.open("rb") as file:
        text = file.read(MAX_FILE_BYTES + 1)
    if len(text) > MAX_FILE_BYTES:
        raise ValueError(f"the token file is larger than {MAX_FILE_BYTES} bytes")
    found = []
    for number, line in enumerate(text.decode().splitlines(), 1):
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
        found.append((fields[1], CallerIdentity(name=fields[0], scopes=frozenset(map(Scope, scopes)), authenticated=True)))
    return tuple(found)


class Authenticator:
    """Lets callers in.

    Args:
        tokens: The tokens that are known; None where none is asked for.
        certificates: Whether callers have shown a certificate.
    """

    def __init__(self, tokens: TokenFile | None, *, certificates: bool) -> None:
        self._tokens = tokens
        self._certificates = certificates

    def authenticate(self, call: CallerContext, scope: Scope) -> CallerIdentity:
        """Tell who calls.

        Raises:
            UnauthenticatedError: AUTH_REQUIRED.
            PermissionDeniedError: SCOPE_MISSING.
        """
        if self._tokens is None:
            return _identity_from_certificate(call) if self._certificates else _anonymous_identity(call.peer())
        identity = self._tokens.lookup(_bearer_token(call))
        if identity is None:
            raise UnauthenticatedError(Reason.AUTH_REQUIRED, "expected authorization: Bearer with a token that is known here")
        if scope not in identity.scopes:
            raise PermissionDeniedError(Reason.SCOPE_MISSING, f"the token lacks the scope {scope}", limit=scope)
        return identity


@lru_cache(maxsize=1024)
def _anonymous_identity(peer: str) -> CallerIdentity:
    return CallerIdentity(name=peer_host(peer))


def peer_host(peer: str) -> str:
    """Drop the port of a peer, which changes with every connection."""
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
