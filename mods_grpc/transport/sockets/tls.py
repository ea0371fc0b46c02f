"""TLS for HTTP/2: the server's context, and what a connection proves about its client."""

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path

ALPN = "h2"
# The ciphers of TLS 1.2 that RFC 9113 permits: forward secret and authenticated.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
PROPERTY_NAMES = {"commonName": "x509_common_name"}


def load_server_context(certificate: Path, key: Path, client_authorities: Path | None) -> ssl.SSLContext:
    """Load the TLS context of a server.

    Args:
        certificate: File of its certificate chain (PEM).
        key: File of its private key (PEM).
        client_authorities: File of the authorities that client certificates must come from; None to ask for none.

    Raises:
        OSError, ValueError: A file can't be read, or is invalid; ssl.SSLError is an OSError.
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


def negotiated_http2(transport: asyncio.BaseTransport) -> bool:
    """Return whether ALPN chose HTTP/2; True without TLS."""
    ssl_object = transport.get_extra_info("ssl_object")
    return ssl_object is None or ssl_object.selected_alpn_protocol() == ALPN


def read_auth_context(transport: asyncio.BaseTransport) -> Mapping[str, list[bytes]]:
    """Return the properties of the client that TLS proves, under the names that grpc uses; {} without TLS."""
    if transport.get_extra_info("ssl_object") is None:
        return {}
    properties: dict[str, list[bytes]] = {"transport_security_type": [b"ssl"]}
    certificate = transport.get_extra_info("peercert") or {}
    for part in certificate.get("subject", ()):
        for name, value in part:
            if name in PROPERTY_NAMES:
                properties.setdefault(PROPERTY_NAMES[name], []).append(value.encode())
    return properties
