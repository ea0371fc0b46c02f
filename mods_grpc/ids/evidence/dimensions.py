"""Which fields of a log are counted by value, and what a feature counts of each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from mods_grpc.array_types import NANOS_PER_SECOND, Floats
from mods_grpc.features.definitions import Feature, Kind, Measure
from mods_grpc.features.records import ICMP, Dns, Record
from mods_grpc.ids.evidence.evidence import Dimension, Unit

MAX_VALUE_CHARACTERS = 200

Values = list[str | None]
"""Of each of n records its value of a dimension; None where it has none."""

Reader = Callable[[Sequence[Any]], Values]


def _read(attribute: str) -> Reader:
    """Return a reader of an attribute that is a text."""

    def read(records: Sequence[Any]) -> Values:
        return [getattr(record, attribute) or None for record in records]

    return read


def _read_sources(records: Sequence[Any]) -> Values:
    return [record.orig_h for record in records]


def _read_destinations(records: Sequence[Any]) -> Values:
    return [record.resp_h for record in records]


@cache
def _name_port(port: int | None, transport: str | None) -> str | None:
    if transport in ICMP:
        return transport
    return None if port is None else f"{port}/{transport}" if transport else str(port)


def _read_ports(records: Sequence[Any]) -> Values:
    return [_name_port(record.resp_p, record.proto) for record in records]


def _read_tcp_ports(records: Sequence[Any]) -> Values:
    return [_name_port(record.resp_p, "tcp") for record in records]


def _read_plain_ports(records: Sequence[Any]) -> Values:
    return [_name_port(record.resp_p, None) for record in records]


def _cut(text: str | None) -> str | None:
    return text or None if text is None or len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 1] + "…"


def _read_cut(attribute: str) -> Reader:
    """Return a reader of an attribute that may be a long text."""

    def read(records: Sequence[Any]) -> Values:
        return [_cut(getattr(record, attribute)) for record in records]

    return read


def _first(names: str | tuple[str | None, ...] | None) -> str | None:
    return names[0] if isinstance(names, tuple) else names


def _read_queries(records: Sequence[Dns]) -> Values:
    return [_cut(_first(record.asked)) for record in records]


def _read_domains(records: Sequence[Dns]) -> Values:
    return [_cut(_first(record.asked_domain)) for record in records]


def _read_paths(records: Sequence[Any]) -> Values:
    return [None if record.uri is None else _cut(record.uri.partition("?")[0]) for record in records]


def _read_statuses(records: Sequence[Any]) -> Values:
    return [None if record.status is None else str(record.status) for record in records]


def _read_auth(records: Sequence[Any]) -> Values:
    return [None if record.failed is None else "failed" if record.failed else "succeeded" for record in records]


_ENDS: dict[Dimension, Reader] = {Dimension.SOURCE: _read_sources, Dimension.DESTINATION: _read_destinations}
_BY_PROTOCOL: Mapping[str, dict[Dimension, Reader]] = {
    "conn": {Dimension.PORT: _read_ports, Dimension.SERVICE: _read("service"), Dimension.CONN_STATE: _read("conn_state")},
    "dns": {
        Dimension.QUERY: _read_queries,
        Dimension.DOMAIN: _read_domains,
        Dimension.QUERY_TYPE: _read("qtype"),
        Dimension.RCODE: _read("rcode"),
    },
    "http": {
        Dimension.PORT: _read_tcp_ports,
        Dimension.HOST: _read_cut("host"),
        Dimension.PATH: _read_paths,
        Dimension.METHOD: _read_cut("method"),
        Dimension.STATUS: _read_statuses,
        Dimension.USER_AGENT: _read_cut("user_agent"),
    },
    "ssl": {Dimension.PORT: _read_tcp_ports, Dimension.SERVER_NAME: _read_cut("server_name")},
    "ssh": {Dimension.PORT: _read_tcp_ports, Dimension.CLIENT: _read_cut("client"), Dimension.AUTH: _read_auth},
    "sip": {Dimension.USER_AGENT: _read_cut("user_agent")},
    "alert": {Dimension.PORT: _read_plain_ports, Dimension.SIGNATURE: _read_cut("signature")},
    "notice": {Dimension.NAME: _read_cut("name")},
    "weird": {Dimension.NAME: _read_cut("name")},
}


def dimensions_of(protocol: str) -> dict[Dimension, Reader]:
    """Return what is counted of a protocol's records; domains only where the list of public suffixes is installed."""
    readers = _ENDS | _BY_PROTOCOL[protocol]
    if find_spec("publicsuffixlist") is None:
        readers.pop(Dimension.DOMAIN, None)
    return readers


@dataclass(frozen=True, slots=True)
class Weight:
    """What a record counts for a feature.

    Attributes:
        unit: What is counted.
        attribute: Attribute of the record that is counted.
        is_true: If the attribute is a truth value, the one that counts; if it is any value that a record may lack, None.
    """

    unit: Unit
    attribute: str
    is_true: bool | None = None

    def read(self, records: Sequence[Record]) -> Floats:
        """Return what each of n records counts, `(n,)`."""
        attribute = self.attribute
        values = [getattr(record, attribute) for record in records]
        if self.is_true is not None:
            return np.array([value is self.is_true for value in values], dtype=np.float64)
        if self.unit is Unit.RECORDS and attribute != "transactions":
            return np.array([value is not None for value in values], dtype=np.float64)
        numbers = np.array([value or 0 for value in values], dtype=np.float64)
        return numbers / NANOS_PER_SECOND if self.unit is Unit.SECONDS else numbers


RECORDS = Weight(Unit.RECORDS, "transactions")
_MAY_LACK = frozenset({"admin_host", "server_name"})  # of different values: a record without one counts for nothing


def weight_of(feature: Feature) -> Weight:
    """Return what the records of a feature count, so that the entities with the most of it made the feature."""
    measure: Measure = feature.measure
    match measure.kind:
        case Kind.SUM | Kind.MAX | Kind.BALANCE:
            return Weight(Unit.BYTES, measure.field)
        case Kind.NEW_SUM | Kind.TOP_SUM:
            return Weight(Unit.BYTES, measure.second)
        case Kind.MEAN:
            return Weight(Unit.SECONDS, measure.field)
        case Kind.TRUE | Kind.FALSE:
            return Weight(Unit.RECORDS, measure.field, is_true=measure.kind is Kind.TRUE)
        case Kind.DISTINCT | Kind.NEW if measure.field in _MAY_LACK:
            return Weight(Unit.RECORDS, measure.field)
    return RECORDS
