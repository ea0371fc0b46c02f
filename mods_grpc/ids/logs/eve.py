"""Suricata's EVE JSON: flow, dns, tls, ssh, http and sip events as records.

The byte counts of a flow include packet headers, Zeek's count payload only: a model of one does not fit the other.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mods_grpc.features.records import Conn, Http, Record, Sip, Ssh, Ssl
from mods_grpc.ids.logs import line_rules
from mods_grpc.ids.logs.eve_dns import DnsEvents, turn_around
from mods_grpc.ids.logs.line_rules import MalformedLineError, read_optional
from mods_grpc.ids.logs.shipper_fields import sensor_host
from mods_grpc.ids.logs.zeek_fields import with_zeek_names

PROTOCOL_OF = {"flow": "conn", "dns": "dns", "http": "http", "tls": "ssl", "ssh": "ssh", "sip": "sip"}
_TIMES = ("timestamp", "@timestamp", "date")
_ENDPOINTS = {"src_ip": "id.orig_h", "src_port": "id.orig_p", "dest_ip": "id.resp_h", "dest_port": "id.resp_p", "proto": "proto"}


class EveParser:
    """Parses the events of one file, in order.

    Args:
        latest_ns: Records after this time are malformed; None for a day from now.
        damaged_fields: Counts the fields that records went without, by name.
    """

    def __init__(self, latest_ns: int | None, damaged_fields: dict[str, int]) -> None:
        self._latest_ns = latest_ns
        self._damaged_fields = damaged_fields
        self._dns_events = DnsEvents(damaged_fields)
        self._readers: Mapping[str, Callable[[Mapping[str, Any]], Record | None]] = {
            "flow": self._read_flow,
            "dns": self._read_dns,
            "http": partial(self._read, Http),
            "tls": partial(self._read, Ssl),
            "ssh": partial(self._read, Ssh),
            "sip": self._read_sip,
        }

    def parse(self, event: Mapping[str, Any]) -> Record | None:
        """Return the record of an event; None for event types without features, and for the repeated answers of DNS version 1.

        Raises:
            MalformedLineError: It is not a record.
        """
        kind = event["event_type"]
        if not isinstance(kind, str):
            raise MalformedLineError("no event_type")
        read = self._readers.get(kind)
        if read is None:
            return None
        if "src_ip" not in event or "dest_ip" not in event:  # as shippers rename them
            renamed = with_zeek_names(event)
            event = {**event, **{ours: renamed[theirs] for ours, theirs in _ENDPOINTS.items() if theirs in renamed}}
        return read(event)

    def _read_common(self, event: Mapping[str, Any], *, ts: int | None = None) -> dict[str, Any]:
        damaged = self._damaged_fields
        return {
            "ts": self._read_time(event, _TIMES) if ts is None else ts,
            "orig_h": _require_address(event, "src_ip"),
            "resp_h": _require_address(event, "dest_ip"),
            "uid": read_optional("flow_id", line_rules.check_text, event.get("flow_id"), damaged),
            "orig_p": read_optional("src_port", line_rules.check_port, event.get("src_port"), damaged),
            "resp_p": read_optional("dest_port", line_rules.check_port, event.get("dest_port"), damaged),
            "sensor": read_optional("host", line_rules.check_text, sensor_host(event) or event.get("in_iface"), damaged) or "",
        }

    def _read_time(self, event: Mapping[str, Any], names: tuple[str, ...], block: str = "") -> int:
        for name in names:
            if (value := event.get(name)) is not None:
                return line_rules.check_time(value, self._latest_ns)
        raise MalformedLineError(f"no {block}{names[0]}")

    def _read(self, kind: type[Record], event: Mapping[str, Any]) -> Record:
        return kind(**self._read_common(event))

    def _read_flow(self, event: Mapping[str, Any]) -> Record:
        flow = _require_object(event, "flow")
        common = self._read_common(event, ts=self._read_time(flow, ("start",), "flow."))
        damaged = self._damaged_fields
        end = flow.get("end")
        if end is None:
            end = next((event[name] for name in _TIMES if event.get(name) is not None), None)
        return Conn(
            **common,
            duration=read_optional("flow.end", partial(self._read_duration, common["ts"]), end, damaged),
            orig_bytes=read_optional("flow.bytes_toserver", line_rules.check_count, flow.get("bytes_toserver"), damaged),
            resp_bytes=read_optional("flow.bytes_toclient", line_rules.check_count, flow.get("bytes_toclient"), damaged),
        )

    def _read_duration(self, start_ns: int, end: object) -> int:
        return line_rules.to_duration_ns((line_rules.check_time(end, self._latest_ns) - start_ns) / 1e9)

    def _read_dns(self, event: Mapping[str, Any]) -> Record | None:
        if isinstance(event.get("http"), dict):
            return self._read(Http, event)  # DNS over HTTPS: Zeek and Suricata 7 see the request alone
        dns = _require_object(event, "dns")
        return self._dns_events.read(dns, self._read_common(event), event.get("proto"))

    def _read_sip(self, event: Mapping[str, Any]) -> Record:
        """Return the record of a SIP message. A response counts for no transaction, in the direction of its request."""
        common = self._read_common(event)
        sip = event.get("sip")
        if isinstance(sip, dict) and "method" not in sip and "code" in sip:
            return Sip(**turn_around(common), transactions=0)
        return Sip(**common)


def _require_object(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the object of an event, such as `flow`, also where a shipper made it flat: `flow.start`."""
    value = event.get(name)
    if value is None:
        value = {key.removeprefix(f"{name}."): inner for key, inner in event.items() if key.startswith(f"{name}.")}
    if not value or not isinstance(value, dict):
        raise MalformedLineError(f"no {name}")
    return value


def _require_address(event: Mapping[str, Any], name: str) -> str:
    if event.get(name) is None:
        raise MalformedLineError(f"no {name}")
    return line_rules.check_address(event[name])
