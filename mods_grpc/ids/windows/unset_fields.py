"""Columns that would read 0 although nothing is known, because records do not have the field that they are made from.

The log's format lacks it, such as Suricata's the outcome of a log-in by SSH, or the sensor leaves it out: always, since it was
set up anew, or one of several sensors.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.features import Definition
from mods_grpc.features.records import RECORD_TYPES, Record
from mods_grpc.ids.logs import eve, zeek_fields
from mods_grpc.ids.windows.recent_values import RecentValues

if TYPE_CHECKING:
    import polars as pl

MIN_RECORDS = 100  # of a protocol, before a column without values is missing; before that it reads 0
MIN_DOUBTED_RECORDS = 20  # before it is worth a warning
MIN_LACKING_SECONDS = 3_600  # without a field in headers, or in lines of JSON, before a column that had values is missing again
MIN_QUIET_SECONDS = 86_400  # the same in lines of JSON of a field that there is only with some traffic

# attributes that not every record has, because traffic gives no value: no answer came, or the client named nothing
BY_TRAFFIC: Mapping[str, frozenset[str]] = {
    "conn": frozenset({"duration", "orig_bytes", "resp_bytes", "resp_p"}),  # ICMP has no port
    "dns": frozenset({"nxdomain", "AA", "TC", "RD", "RA", "rejected"}),
    "http": frozenset({"host", "status", "user_agent"}),
    "ssl": frozenset({"server_name", "self_signed"}),
    "ssh": frozenset({"failed"}),
    "sip": frozenset({"user_agent"}),
}

# derived attributes of records, and what they are derived from
BASES = {
    "is_unanswered": "failed",
    "is_long": "duration",
    "port": "resp_p",
    "is_admin": "resp_p",
    "admin_host": "resp_p",
    "domain": "query",
    "subdomain": "query",
    "query_bytes": "query",
    "has_rare_type": "qtype",
    "has_error": "status",
    "url": "uri",
    **dict.fromkeys(("is_severity_1", "is_severity_2", "is_severity_3"), "severity"),
}
Lacks = tuple[str, ...] | None
ALWAYS_SET = frozenset({"transactions", "orig_h", "resp_h", "remote_host", "responder"})


@dataclass(frozen=True, kw_only=True, slots=True)
class UnsetField:
    """A field that no record of a protocol had so far, that the logs of some never have, or that is gone.

    Attributes:
        protocol: The protocol.
        attribute: The record's attribute.
        records: Number of records without it: all, those of logs whose header lacks it, or the last ones.
        columns: Keys of the columns that are made from it, such as `ssh|in_failed`.
        of_records: Number of all records, of which others have the field; None if none has.
        until_ns: When a record had it last, of one that is gone from lines of JSON, nanoseconds since 1970; None of others.
    """

    protocol: str
    attribute: str
    records: int
    columns: tuple[str, ...]
    of_records: int | None = None
    until_ns: int | None = None

    @property
    def subject(self) -> str:
        """Protocol and attribute, such as `ssh failed`."""
        return f"{self.protocol} {self.attribute}"

    @property
    def description(self) -> str:
        """What lacks which field, in the words of the logs."""
        zeek = next((field.name for field in zeek_fields.FIELDS[self.protocol] if field.attribute == self.attribute), None)
        suricata = eve.FIELDS.get(self.protocol, {}).get(self.attribute)
        names = [f"{name} of {sensor}" for name, sensor in ((zeek, "Zeek"), (suricata, "Suricata")) if name]
        lacking = [sensor for name, sensor in ((zeek, "Zeek"), (suricata, "Suricata")) if not name]
        without = f", which {lacking[0]} does not log" if lacking else ""
        if self.of_records is not None:
            logs = f"{self.records:,} of {self.of_records:,} {self.protocol} records"
            return f"{logs} are of logs whose header has no {zeek or self.attribute}"
        has = f"has {' or '.join(names)}{without}"
        if self.until_ns is not None:
            until = f"{datetime.fromtimestamp(self.until_ns // NANOS_PER_SECOND, UTC):%Y-%m-%dT%H:%MZ}"
            return f"none of the last {self.records:,} {self.protocol} records in JSON {has}; earlier ones had it, until {until}"
        return f"none of {self.records:,} {self.protocol} records {has}"

    def to_json(self) -> dict[str, Any]:
        """Return the field as values for JSON."""
        numbers: dict[str, Any] = {"records": self.records}
        if self.of_records is not None:
            numbers["of_records"] = self.of_records
        if self.until_ns is not None:
            numbers["until"] = datetime.fromtimestamp(self.until_ns // NANOS_PER_SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"protocol": self.protocol, "field": self.attribute, **numbers, "columns": list(self.columns)}


class UnsetFields:
    """Follows which of the fields that columns are made from no record has had, and which logs lack or lost.

    A field that records had is unset again when all records of `MIN_LACKING_SECONDS` were of logs whose header lacks it. A line
    of JSON does not tell a field that is gone from one that has no value: there it is unset again when none of the last
    `recent_values.MIN_RECORDS` records of the protocol had it, nor any of `MIN_LACKING_SECONDS`, or of `MIN_QUIET_SECONDS` if it
    is one of `BY_TRAFFIC`. It is set as soon as one record has it. All this depends on the records, not on their order.

    Args:
        definition: The columns.
    """

    def __init__(self, definition: Definition) -> None:
        self._columns: dict[type[Record], dict[str, list[str]]] = {}
        for feature in definition.features:
            of_protocol = self._columns.setdefault(RECORD_TYPES[feature.protocol], {})
            for name in (feature.measure.field, feature.measure.second):
                if name and name not in ALWAYS_SET:
                    of_protocol.setdefault(BASES.get(name, name), []).append(feature.key)
        self._unset = {kind: set(attributes) for kind, attributes in self._columns.items() if attributes}
        self._records = {kind: Counter[Lacks]() for kind in self._unset}  # by what their logs lack
        self._latest: dict[type[Record], dict[Lacks, int]] = {kind: {} for kind in self._unset}  # their time, likewise
        self._recent = {kind: RecentValues(attributes) for kind, attributes in self._columns.items() if attributes}  # of JSON

    def note(self, record: Record) -> None:
        """Take note of a record."""
        kind = type(record)
        unset = self._unset.get(kind)
        if unset is None:
            return
        lacks, logged_ns, latest = record.lacks, record.logged_ns, self._latest[kind]
        self._records[kind][lacks] += 1
        if unset and (values := [name for name in unset if getattr(record, name) is not None]):
            unset.difference_update(values)
        if logged_ns > latest.get(lacks, 0):
            latest[lacks] = logged_ns
        if lacks is None:
            self._recent[kind].note(record, logged_ns)

    def note_columns(self, protocol: str, frame: "pl.DataFrame", lacks: tuple[str, ...] = ()) -> None:
        """Take note of records whose attributes are columns, of logs whose headers lack the same."""
        kind = RECORD_TYPES[protocol]
        unset = self._unset.get(kind)
        if unset is None:
            return
        self._records[kind][lacks] += len(frame)
        unset.difference_update([name for name in unset if frame[name].null_count() < len(frame)])
        latest = self._latest[kind]
        logged = frame["ts"] + frame["duration"].fill_null(0) if "duration" in frame.columns else frame["ts"]
        latest[lacks] = max(latest.get(lacks, 0), int(logged.to_numpy().max(initial=0)))

    def list_unset(self, min_records: int, *, without: Iterable[str] = ()) -> tuple[UnsetField, ...]:
        """Return the fields of protocols with at least so many records that none of them had, or none of the last.

        Args:
            min_records: The number.
            without: Keys of columns to leave out.
        """
        return tuple(field for field, is_missing in self._list(min_records, frozenset(without)) if is_missing)

    def list_lacking(self, min_records: int, *, without: Iterable[str] = ()) -> tuple[UnsetField, ...]:
        """Return also the fields that at least so many records could not have, by their log's header, and others had."""
        return tuple(field for field, _ in self._list(min_records, frozenset(without)))

    def _list(self, min_records: int, left_out: frozenset[str]) -> Iterator[tuple[UnsetField, bool]]:
        """Yield the fields that records do not have, each with whether its columns are missing."""
        for kind, unset in self._unset.items():
            number = self._records[kind].total()
            for attribute, keys in sorted(self._columns[kind].items()):
                columns = tuple(key for key in keys if key not in left_out)
                if not columns:
                    continue
                field = UnsetField(protocol=columns[0].partition("|")[0], attribute=attribute, records=number, columns=columns)
                if attribute in unset:
                    if number >= min_records:
                        yield field, True
                    continue
                lacking = sum(of_log for lacks, of_log in self._records[kind].items() if attribute in (lacks or ()))
                gone = self._count_gone(kind, field.protocol, attribute)
                if not (gone or (lacking and lacking >= min_records)):
                    continue
                had_ns = self._find_latest(kind, attribute, is_gone=gone > 0)
                is_missing = max(self._latest[kind].values()) - had_ns >= MIN_LACKING_SECONDS * NANOS_PER_SECOND
                if lacking and lacking >= min_records:
                    yield replace(field, records=lacking, of_records=number), is_missing
                elif is_missing or (until_ns := self._recent[kind].had_ns(attribute)):
                    yield replace(field, records=gone, until_ns=had_ns if is_missing else until_ns), is_missing

    def _count_gone(self, kind: type[Record], protocol: str, attribute: str) -> int:
        """Return how many of the last records in JSON are without a field that is gone from them; 0 if it is not."""
        seconds = MIN_QUIET_SECONDS if attribute in BY_TRAFFIC.get(protocol, ()) else MIN_LACKING_SECONDS
        return self._recent[kind].count_without(attribute, self._latest[kind].get(None, 0), seconds)

    def _find_latest(self, kind: type[Record], attribute: str, *, is_gone: bool) -> int:
        """Return the time of the latest record that could have a field, nanoseconds since 1970; 0 if none could."""
        latest = self._latest[kind]
        of_logs = [at for lacks, at in latest.items() if lacks is not None and attribute not in lacks]
        return max([*of_logs, self._recent[kind].had_ns(attribute) if is_gone else latest.get(None, 0)])

    def state(self) -> dict[str, list[Any]]:
        """Return the state by protocol, as values for JSON.

        It holds the unset fields, numbers and latest times of records by what their logs lack, and what the last ones had.
        """
        names = {kind: name for name, kind in RECORD_TYPES.items()}
        return {
            names[kind]: [
                sorted(unset),
                [
                    [None if lacks is None else list(lacks), number, self._latest[kind].get(lacks, 0)]
                    for lacks, number in self._records[kind].items()
                ],
                self._recent[kind].state(),
            ]
            for kind, unset in self._unset.items()
        }

    def restore(self, state: Mapping[str, list[Any]]) -> None:
        """Replace the state by what `state` returned, of the same columns."""
        for protocol, (unset, logs, recent) in state.items():
            kind = RECORD_TYPES[protocol]
            if kind in self._unset:
                saved = [(None if lacks is None else tuple(lacks), int(number), int(latest)) for lacks, number, latest in logs]
                self._records[kind] = Counter({lacks: number for lacks, number, _ in saved})
                self._latest[kind] = {lacks: latest for lacks, _, latest in saved}
                self._unset[kind] &= set(unset)
                self._recent[kind].restore(recent)
