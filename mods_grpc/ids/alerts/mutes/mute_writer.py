"""Makes a mute rule of an alert that was a false alarm, and appends it to the file of suppression."""

import fcntl
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from mods_grpc.atomic_file import replacing
from mods_grpc.errors import DataError
from mods_grpc.ids.alerts.mutes.mute_rules import parse_value
from mods_grpc.ids.alerts.mutes.suppression_file import escape_pattern, format_mute, parse_suppression
from mods_grpc.ids.evidence.evidence import Dimension, Evidence, FeatureEvidence, evidence_from_json

SERIES, FEATURE, ENTITY = "series", "feature", "entity"
MUTE_PARTS = (SERIES, FEATURE, ENTITY, *map(str, Dimension))
"""What a mute rule can take from an alert; `entity` is the host, name, path or port that stands for it."""

_ENTITIES = (
    *(Dimension.SOURCE, Dimension.DESTINATION, Dimension.DOMAIN, Dimension.QUERY, Dimension.SERVER_NAME, Dimension.HOST),
    *(Dimension.PATH, Dimension.USER_AGENT, Dimension.CLIENT, Dimension.SIGNATURE, Dimension.NAME, Dimension.PORT),
)
"""Dimensions that `entity` can be, in this order; a method or a result code says too little."""

_ID_LENGTH = 8
_MODE = 0o644

Fields = dict[str, str | datetime | list[str]]


def make_mute(saved: Mapping[str, Any], parts: Collection[str], *, reason: str, until: datetime | None) -> Fields:
    """Return the keys of a `[[mute]]` table that means alerts like one.

    Args:
        saved: The alert as values for JSON, such as a line of the `jsonl` format.
        parts: What must be the same, of `MUTE_PARTS`.
        reason: Why; empty if not said.
        until: When the rule expires; None for never.

    Raises:
        DataError: The alert has no such part: no one entity stands for it, or an alert of a fixed rule has no feature.
    """
    try:
        fields: Fields = {"id": str(saved["id"])[:_ID_LENGTH]}
        if reason:
            fields["reason"] = reason
        is_rule = saved.get("kind") == "rule"
        fields |= _take_from_rule(saved, parts) if is_rule else _take_from_anomaly(saved, parts)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"not an alert: {error!r}") from error
    if until is not None:
        fields["until"] = until
    return fields


def append_mute(path: Path, fields: Mapping[str, str | datetime | list[str]]) -> str:
    """Append a `[[mute]]` table to a file of suppression, or create it; all that is there stays as it is.

    The file is replaced whole, after it was read with the table as a watch reads it. If the id is taken, a number is added.

    Args:
        path: The file; its folder must exist.
        fields: The keys of the table, see `make_mute`.

    Returns:
        The table as it was written.

    Raises:
        DataError: The file was not one of suppression before, or can't be extended; it is unchanged.
        OSError: It can't be read or written.
    """
    path = Path(os.path.realpath(path))
    with _locked_folder(path.parent):
        try:
            before, mode = path.read_bytes(), path.stat().st_mode & 0o7777
        except FileNotFoundError:
            before, mode = b"", _MODE
        taken = {mute.id for mute in parse_suppression(before, path).mutes}
        table = format_mute({**fields, "id": _choose_id(str(fields["id"]), taken)})
        newline = b"\r\n" if b"\r\n" in before else b"\n"
        gap = b"" if not before else newline if before.endswith(b"\n") else newline * 2
        after = before + gap + table.encode().replace(b"\n", newline)
        if len(parse_suppression(after, path).mutes) != len(taken) + 1:
            raise DataError(f"{path}: a [[mute]] table can't be appended to it; write it by hand:\n{table}")
        with replacing(path, mode) as file:
            os.fchmod(file.fileno(), mode)  # whatever the umask is
            file.write(after)
    return table


def _take_from_anomaly(saved: Mapping[str, Any], parts: Collection[str]) -> Fields:
    fields: Fields = {}
    evidence = Evidence() if saved.get("evidence") is None else evidence_from_json(saved["evidence"])
    if SERIES in parts:
        members = [str(member["series"]) for member in saved.get("members") or ()]
        fields["series"] = [escape_pattern(each) for each in members or [str(saved["series"])]]
    if FEATURE in parts:
        fields["feature"] = [escape_pattern(_find_feature(saved, evidence))]
    for dimension, value in _find_values(evidence.leading, parts):
        pattern = value if dimension is Dimension.PORT else escape_pattern(value)
        try:
            parse_value(dimension, pattern)
        except ValueError as error:
            raise DataError(f"--mute {dimension}: {error}") from error
        fields[str(dimension)] = [pattern]
    return fields


def _find_feature(saved: Mapping[str, Any], evidence: Evidence) -> str:
    if evidence.leading is not None:
        return evidence.leading.feature
    features = saved.get("features") or ()
    if not features:
        raise DataError("--mute feature: the alert has no features; choose among series and the dimensions of its evidence")
    return str(max(features, key=lambda each: each.get("share") or 0.0)["feature"])


def _find_values(leading: FeatureEvidence | None, parts: Collection[str]) -> list[tuple[Dimension, str]]:
    dominant = {}
    if leading is not None:
        dominant = {each.dimension: each.dominant.value for each in leading.dimensions if each.dominant is not None}
    there = f"one value does in {', '.join(dominant)}" if dominant else "choose series or feature"
    values = []
    if ENTITY in parts:
        entity = next((each for each in _ENTITIES if each in dominant), None)
        if entity is None:
            raise DataError(f"--mute entity: no one host, name, path or port stands for the alert; {there}")
        values.append((entity, dominant[entity]))
    for part in parts:
        if part in set(Dimension):
            if Dimension(part) not in dominant:
                raise DataError(f"--mute {part}: no one value of it stands for the alert; {there}")
            values.append((Dimension(part), dominant[Dimension(part)]))
    return values


def _take_from_rule(saved: Mapping[str, Any], parts: Collection[str]) -> Fields:
    if FEATURE in parts:
        raise DataError("--mute feature: an alert of a fixed rule has no feature; its rule is always taken")
    fields: Fields = {"rule": [str(saved["rule"])]}
    if SERIES in parts:
        fields["series"] = [escape_pattern(str(saved["host"]))]
    source = str(saved["source_ip"])
    port = saved.get("destination_port")
    ends = {
        Dimension.SOURCE: source,
        Dimension.DESTINATION: saved.get("destination_ip"),
        Dimension.PORT: None if port is None else f"{port}/tcp",
    }
    chosen = [Dimension(part) for part in parts if part in set(Dimension)]
    if ENTITY in parts:  # the other end, if there is one
        others = [Dimension.DESTINATION, Dimension.PORT] if source == saved["host"] else []
        chosen.insert(0, next((each for each in others if ends[each] is not None), Dimension.SOURCE))
    for dimension in chosen:
        if (value := ends.get(dimension)) is None:
            raise DataError(f"--mute {dimension}: the alert of a fixed rule has none; choose series, source, destination or port")
        fields[str(dimension)] = [str(value)]
    return fields


def _choose_id(wanted: str, taken: Collection[str]) -> str:
    if wanted not in taken:
        return wanted
    number = 2
    while f"{re.sub(r'-[0-9]+$', '', wanted)}-{number}" in taken:
        number += 1
    return f"{re.sub(r'-[0-9]+$', '', wanted)}-{number}"


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    """Lock a folder, whose files are replaced, against other writers of rules."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
