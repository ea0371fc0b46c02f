"""Texts of logs: of Zeek and Suricata, valid, mixed and damaged."""

import json
import random
from pathlib import Path
from typing import Any

from mods_grpc.ids.logs.log_names import ZEEK_LOGS
from tests.support.ids.damaged_logs import HOSTILE, make_log_text
from tests.support.ids.log_cases import CASES_FOLDER, read_text

EVENTS = (Path(__file__).parent / "events.json").read_text().splitlines()
HOSTILE_VALUES = (
    *(None, True, -1, 0, 1 << 31, 1 << 53, 1 << 64, 10**400, 1.5, -0.0, 1e308, "", " ", "a\x00b", "\ud800", "x" * 70_000),
    *([], {}, [None], [[]], {"a": {"b": []}}, "2024-04-19T00:00:00.123456+0000", "2024-04-19", "9999-12-31T23:59:59Z"),
    *("1713484800", "1713484800.5", 1_713_484_800_000, 1_713_484_800.25, "::1", "::ffff:10.0.0.1", "10.0.0.01", "fe80::1%eth0"),
    *("65536", 65_536, "NaN", "Infinity", "é", "\u2028", "flow", "dns", "query", "response", ["10.0.0.1"]),
)
WORDS = (
    *b'{}[]",:\\',
    b"\\u0000",
    b"\\ud800",
    b"NaN",
    b"1e999",
    b"-",
    b"null",
    b"\xff",
    b"\x00",
    b"\t",
    b"\r",
    b"\n",
    b"\xef\xbb\xbf",
)


def make_text(draw: random.Random) -> bytes:
    """Return the text of a log, perhaps damaged."""
    kind = draw.randrange(10)
    if kind < 5:
        text = make_log_text(draw, draw.choice(ZEEK_LOGS), draw.choice((2, 30, 60)))
    elif kind < 9:
        end = draw.choice((b"\n", b"\n", b"\r\n"))
        text = b"".join(make_event(draw) + end for _ in range(draw.randrange(40)))
    else:
        text = _case_text(draw)
    for _ in range(draw.choice((0, 0, 0, 1, 5))):
        text = _damage_bytes(draw, text)
    return text


def make_event(draw: random.Random) -> bytes:
    """Return an event of Suricata, perhaps as a shipper changes it, perhaps with wrong values."""
    event = json.loads(draw.choice(EVENTS))
    for _ in range(draw.choice((0, 0, 0, 1, 2, 5))):
        _change_value(draw, event)
    event = _ship(draw, event)
    try:
        text = json.dumps(event, ensure_ascii=draw.random() < 0.5, separators=draw.choice((None, (",", ":"))))
        return text.encode("utf-8", "replace")
    except ValueError:  # an integer of too many digits
        return b"{}"


def _change_value(draw: random.Random, event: dict[str, Any]) -> None:
    blocks = [event, *(value for value in event.values() if isinstance(value, dict) and value)]
    block = draw.choice(blocks)
    if not block:
        return
    name = draw.choice(list(block))
    change = draw.randrange(6)
    if change == 0:
        del block[name]
    elif change == 1:
        block[draw.choice((name.upper(), f"{name} ", f"x.{name}", name.replace("_", ".")))] = block.pop(name)
    elif change == 2:
        block[name] = [block[name]]
    else:
        block[name] = draw.choice((*HOSTILE_VALUES, draw.choice(HOSTILE).decode("utf-8", "replace")))


def _ship(draw: random.Random, event: dict[str, Any]) -> dict[str, Any]:
    """Return an event as a shipper stores it."""
    way = draw.randrange(14)
    if way == 0:
        event["@timestamp"] = event.pop("timestamp", None)
    elif way == 1:
        return {"@timestamp": "2024-04-19T00:00:00.000Z", "suricata": {"eve": event}}
    elif way == 2:
        return {"@timestamp": "2024-04-19T00:00:00.000Z", "json": event, "host": {"name": "s1"}}
    elif way == 3:
        return {"message": json.dumps(event, default=str)[:100_000] if draw.random() < 0.9 else None}
    elif way == 4:
        event["host"] = draw.choice(({"name": "s1"}, {"hostname": "s1"}, {}, ["s1"], "s1", {"name": {"name": 1}}))
    elif way == 5:
        return {**{name: value for name, value in event.items() if not isinstance(value, dict)}, **_flatten(event)}
    elif way == 6:
        return {"_source": event, "_index": "x"}
    return event


def _flatten(event: dict[str, Any]) -> dict[str, Any]:
    blocks = {name: value for name, value in event.items() if isinstance(value, dict)}
    return {f"{name}.{inner}": value for name, block in blocks.items() for inner, value in block.items()}


def _case_text(draw: random.Random) -> bytes:
    """Return the text of a file of the shared cases, where they are there."""
    files = sorted(path for path in CASES_FOLDER.rglob("*") if path.is_file() and path.name != "README")
    if not files:
        return b""
    lines = read_text(draw.choice(files)).splitlines(keepends=True)
    begin = draw.randrange(len(lines) + 1)
    return b"".join([*lines[: draw.choice((8, 20))], *lines[begin : begin + 40]])


def _damage_bytes(draw: random.Random, text: bytes) -> bytes:
    at = draw.randrange(len(text) + 1)
    kind = draw.randrange(6)
    if kind == 0:
        return text[:at]
    if kind == 1:
        return text[:at] + text[at + draw.choice((1, 2, 40)) :]
    if kind == 2:
        word = draw.choice((*WORDS, *HOSTILE))
        return text[:at] + (bytes([word]) if isinstance(word, int) else word) + text[at:]
    if kind == 3 and text:
        at = draw.randrange(len(text))
        return text[:at] + bytes([draw.randrange(256)]) + text[at + 1 :]
    if kind == 4:
        other = draw.randrange(len(text) + 1)
        return text[:at] + text[min(at, other) : max(at, other)] + text[at:]
    return draw.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\x00" * 100, b"\x1f\x8b", b"BZh", b"\n\n", b" ")) + text
