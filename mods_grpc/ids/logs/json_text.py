"""Decodes JSON objects."""

import json
from typing import Any

from mods_grpc.ids.logs.line_rules import MalformedLineError

_decode = json.JSONDecoder(strict=False).decode  # names may hold control characters
_MAX_DIGITS = 19


def _parse_int(digits: str) -> float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


_decode_absurd = json.JSONDecoder(strict=False, parse_int=_parse_int).decode  # int() refuses numbers of thousands of digits


def decode_json(text: str) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        MalformedLineError: The text is not JSON, or not of an object.
    """
    try:
        try:
            value = _decode(text)
        except json.JSONDecodeError:
            raise
        except ValueError:
            value = _decode_absurd(text)
    except (ValueError, RecursionError):
        raise MalformedLineError("json") from None
    if not isinstance(value, dict):
        raise MalformedLineError("json")
    return value
