"""Decodes JSON objects."""

import json
from typing import Any

from mods_grpc.ids.logs.line_rules import MalformedLineError

_decode = json.JSONDecoder(strict=False).decode  # names may hold control characters


def decode_json(text: str) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        MalformedLineError: The text is not JSON, or not of an object.
    """
    try:
        value = _decode(text)
    except (ValueError, RecursionError):
        raise MalformedLineError("json") from None
    if not isinstance(value, dict):
        raise MalformedLineError("json")
    return value
