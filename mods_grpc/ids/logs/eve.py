"""Suricata's EVE JSON: flow, dns, tls, ssh, http and sip events as records.

The byte counts of a flow include packet headers, Zeek's count payload only: a model of one does not fit the other.
A DNS query and its answer are two events. The query has the name and is counted; the answer has the flags and stands for 0
transactions, so that one counts once.
"""

from collections.abc import Callable, Mapping
from typing import Any

from mods_grpc.features.records import Conn, Dns, Http, Record, Sip, Ssh, Ssl
from mods_grpc.ids.logs import line_rules
from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.zeek import parse_iso_time

PROTOCOL_OF = {"flow": "conn", "dns": "dns", "http": "http", "tls": "ssl", "ssh": "ssh", "sip": "sip"}
DNS_PORT = 53
_QUERIES = {"query", "request"}


def is_eve(event: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is an EVE event."""
    return "event_type" in event and "timestamp" in event


def parse_eve(event: Mapping[str, Any], latest_ns: int | None) -> Record | None:
    """Return the record of an event; None for event types without features.

    Args:
        event: The event.
        latest_ns: Records after this time are malformed; None for a day from now.

    Raises:
        MalformedLineError: A field is missing or has a wrong value.
    """
    kind = event["event_type"]
    read = _READERS.get(kind) if isinstance(kind, str) else None
    return read(event, _read_common(event, latest_ns), latest_ns) if read else None


def _read_common(event: Mapping[str, Any], latest_ns: int | None) -> dict[str, Any]:
    flow = event.get("flow_id")
    sensor = event.get("host") or event.get("in_iface") or ""
    values = {
        "ts": parse_iso_time(event["timestamp"], latest_ns),
        "uid": None if flow is None else str(_check_uint64(flow)),
        "orig_h": line_rules.check_address(event.get("src_ip")),
        "resp_h": line_rules.check_address(event.get("dest_ip")),
        "sensor": line_rules.check_text(sensor),
    }
    for name, attribute in (("src_port", "orig_p"), ("dest_port", "resp_p")):
        if event.get(name) is not None:
            values[attribute] = line_rules.check_port(event[name])
    return values


def _read_flow(event: Mapping[str, Any], common: dict[str, Any], latest_ns: int | None) -> Record:
    flow = _require_object(event, "flow")
    start = parse_iso_time(flow.get("start"), latest_ns)
    end = parse_iso_time(flow["end"], latest_ns) if "end" in flow else common["ts"]
    return Conn(
        **{**common, "ts": start},
        duration=line_rules.to_duration_ns((end - start) / 1e9),
        orig_bytes=line_rules.check_count(flow.get("bytes_toserver", 0)),
        resp_bytes=line_rules.check_count(flow.get("bytes_toclient", 0)),
    )


def _read_dns(event: Mapping[str, Any], common: dict[str, Any], _: int | None) -> Record:
    dns = _require_object(event, "dns")
    is_query = str(dns.get("type")) in _QUERIES
    # an answer is written in the direction of its packet, from the server to the client
    if not is_query and common.get("orig_p") == DNS_PORT != common.get("resp_p"):
        swapped = {"orig_h": common["resp_h"], "orig_p": common.get("resp_p")}
        common |= {"resp_h": common["orig_h"], "resp_p": DNS_PORT} | swapped
    if is_query:
        queries = dns.get("queries")
        first = queries[0] if isinstance(queries, list) and queries and isinstance(queries[0], dict) else dns
        name = first.get("rrname")
        return Dns(**common, proto=_lower(event.get("proto")), query=None if name is None else line_rules.check_text(name))
    sections = ("answers", "authorities", "additionals", "grouped")
    return Dns(
        **common,
        transactions=0,
        AA=line_rules.check_flag(dns.get("aa", False)),
        TC=line_rules.check_flag(dns.get("tc", False)),
        RD=line_rules.check_flag(dns.get("rd", False)),
        RA=line_rules.check_flag(dns.get("ra", False)),
        rejected=not any(dns.get(section) for section in sections),
    )


def _reader_of(kind: type[Record]) -> Callable[[Mapping[str, Any], dict[str, Any], int | None], Record]:
    return lambda _event, common, _latest: kind(**common)


_READERS: Mapping[str, Callable[[Mapping[str, Any], dict[str, Any], int | None], Record]] = {
    "flow": _read_flow,
    "dns": _read_dns,
    "http": _reader_of(Http),
    "tls": _reader_of(Ssl),
    "ssh": _reader_of(Ssh),
    "sip": _reader_of(Sip),
}


def _require_object(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = event.get(name)
    if not isinstance(value, dict):
        raise MalformedLineError(name)
    return value


def _check_uint64(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise MalformedLineError("count")
    return value


def _lower(value: object) -> str | None:
    return None if value is None else line_rules.check_text(value).lower()
