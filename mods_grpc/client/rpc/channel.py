"""The channel to the server: its options, and the retry policy of unary calls."""

import json
from typing import Any

import grpc

MAX_MESSAGE_BYTES = 64 * 1024 * 1024

# Unary calls change nothing on the server, so they may be retried. Streams reconnect in `client.streaming.reconnecting`.
_RETRIED = (
    {"service": "mods.v1.ModelService"},
    {"service": "mods.v1.InferenceService", "method": "Forecast"},
    {"service": "mods.v1.InferenceService", "method": "Detect"},
)
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": _RETRIED,
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

CHANNEL_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.enable_retries", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # gRPC's default backoff grows from one second to two minutes, which is too slow to notice a restarted server.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Names are looked up again after a failed connection, by default at most twice a minute: too slow for a fail-over by name.
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    # Channels with equal options share a connection by default, and a channel that replaces another must have one of its own.
    ("grpc.use_local_subchannel_pool", 1),
    # Finds a connection that died while no answer was due. mods-grpc itself sends a PING after 20 s of silence, so it never gets
    # one; other servers of gRPC's library may end the connection after several.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),  # alone it only sets TCP_USER_TIMEOUT
)


def open_channel(address: str, credentials: grpc.ChannelCredentials | None, connect_seconds: float) -> grpc.Channel:
    """Open a channel with a connection of its own.

    Args:
        address: host:port, unix:path or any other gRPC target.
        credentials: TLS credentials; None for a connection without TLS.
        connect_seconds: Time limit for an attempt to connect.
    """
    options = (*CHANNEL_OPTIONS, ("grpc.min_reconnect_backoff_ms", round(connect_seconds * 1000)))  # despite its name
    if credentials is None:
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, credentials, options=options)
