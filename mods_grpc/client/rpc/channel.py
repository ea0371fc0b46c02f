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
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


def open_channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    """Open a channel to host:port, unix:path or any other gRPC target; without TLS if `credentials` is None."""
    if credentials is None:
        return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
    return grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
