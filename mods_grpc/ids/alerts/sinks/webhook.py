"""Sends alerts to a webhook, one POST each. `Idempotency-Key` is the alert's id, so that the receiver can detect repetitions."""

import http.client
import ssl
from urllib.parse import urlsplit

from mods_grpc.ids.alerts.sinks.spool import PermanentDeliveryError
from mods_grpc.version import __version__

_TIMEOUT_SECONDS = 10.0
_RETRYABLE_STATUSES = {408, 425, 429}


class WebhookSender:
    """Posts messages.

    Args:
        url: URL of the webhook, http or https.
        media_type: Media type of the messages.
        context: Whom to trust with https; None for http.
        token: Bearer token; None for none.
    """

    def __init__(self, url: str, media_type: str, *, context: ssl.SSLContext | None = None, token: str | None = None) -> None:
        self._parts = urlsplit(url)
        self._context = context
        self._headers = {"Content-Type": media_type, "User-Agent": f"mods-grpc/{__version__}"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def __call__(self, message_id: str, content: bytes) -> None:
        """Post one message.

        Raises:
            OSError: The message was not delivered; a later attempt may succeed.
            PermanentDeliveryError: The receiver rejected the message.
        """
        connection = self._open_connection()
        try:
            target = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
            connection.request("POST", target, content, {**self._headers, "Idempotency-Key": message_id})
            response = connection.getresponse()
            status = response.status
            response.read(65_536)
        except http.client.HTTPException as error:
            raise OSError(f"the webhook closed the connection early: {type(error).__name__}") from error
        finally:
            connection.close()
        if status in _RETRYABLE_STATUSES or status >= 500:
            raise OSError(f"the webhook answered {status}")
        if not 200 <= status < 300:
            raise PermanentDeliveryError(f"HTTP {status}")

    def close(self) -> None:
        """Do nothing: every post uses its own connection."""

    def _open_connection(self) -> http.client.HTTPConnection:
        host = self._parts.hostname or ""
        if self._context is not None:
            return http.client.HTTPSConnection(host, self._parts.port, timeout=_TIMEOUT_SECONDS, context=self._context)
        return http.client.HTTPConnection(host, self._parts.port, timeout=_TIMEOUT_SECONDS)
