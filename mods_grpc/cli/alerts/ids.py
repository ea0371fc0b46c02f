"""Finds an alert by its id or the first characters of it, for all commands by the same rules."""

import re
from collections.abc import Sequence
from pathlib import Path

from mods_grpc.cli.alerts.history import Damage, read_alerts
from mods_grpc.command_line import refusal
from mods_grpc.errors import DataError
from mods_grpc.ids.alerts.notice import Notice
from mods_grpc.ids.alerts.stored_alerts import StoredAlert

MIN_PREFIX = 8
UUID_LENGTH = 36
MAX_MATCHES = 5  # that are named
_UUID_START = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{0,4}){0,3}(-[0-9a-f]{0,12})?", re.IGNORECASE)


def parse_id(value: str) -> str:
    """Return an id, or the beginning of one, in small letters.

    Raises:
        argparse.ArgumentTypeError: It is neither.
    """
    if len(value) > UUID_LENGTH or not _UUID_START.fullmatch(value):
        raise refusal(f"the id of an alert, or its first characters, at least {MIN_PREFIX}", value)
    return value.lower()


def find_alert(start: str, paths: Sequence[Path], damage: Damage, *, with_notices: bool = False) -> StoredAlert | None:
    """Return the alert whose id begins with a text; None if there is none.

    Args:
        start: What `parse_id` returned.
        paths: Files of alerts.
        damage: Gets what can't be read of lines that hold the text.
        with_notices: Whether a notice will do.

    Raises:
        DataError: Several begin so.
        OSError: A file can't be opened.
    """
    matches = [
        stored
        for stored in read_alerts(paths, damage, containing=start.encode())
        if stored.id.startswith(start) and (with_notices or not isinstance(stored.item, Notice))
    ]
    if len(matches) > 1:
        named = ", ".join(stored.id for stored in matches[:MAX_MATCHES]) + (", …" if len(matches) > MAX_MATCHES else "")
        raise DataError(f"{start}: {len(matches):,} alerts begin so: {named}; give more of the id")
    return matches[0] if matches else None
