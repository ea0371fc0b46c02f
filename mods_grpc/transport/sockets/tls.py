"""TLS for HTTP/2: what a server offers, and what a connection shows of who called."""

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path

ALPN = "h2"
# What RFC 9113 leaves of TLS 1.2: keys of one use, and ciphers that authenticate.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
NAMES = {"commonName": "x509_common_name"}


def server_context(certificate: Path, key: Path, client_authorities: Path | None) -> ssl.SSLContext:
    """Read what a server proves itself with.

    Args:
        certificate: File of its certificate chain (PEM).
        key: File of its private key (PEM).
        client_authorities: File of those that client certificates must come from; None where none is asked for.

    Raises:
        OSError, ValueError: A file can't be read, or is not as it must be; ssl.SSLError is an OSError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([ALPN])
    context.load_cert_chain(certificate, key)
    if client_authorities is not None:
        context.load_verify_locations(client_authorities)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def speaks_http2(transport: asyncio.BaseTransport) -> bool:
    """Tell whether HTTP/2 was agreed on, which is so where there is no TLS."""
    found = transport.get_extra_info("ssl_object")
    return found is None or found.selected_alpn_protocol() == ALPN


def auth_context(transport: asyncio.BaseTransport) -> Mapping[str, list[bytes]]:
    """Return what a connection shows of its peer, under the names that gRPC uses."""
    if transport.get_extra_info("ssl_object") is None:
        return {}
    shown: dict[str, list[bytes]] = {"transport_security_type": [b"ssl"]}
    certificate = transport.get_extra_info("peercert") or {}
    for part in certificate.get("subject", ()):
        for name, value in part:
            if name in NAMES:
                shown.setdefault(NAMES[name], []).append(value.encode())
    return shown
