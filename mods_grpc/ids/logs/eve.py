"""Suricata's EVE JSON: flow, dns, tls, ssh, http, sip and alert events as records.

The byte counts of a flow include packet headers, Zeek's count payload only: a model of one does not fit the other. Suricata does
not say whether a TLS handshake or a log-in by SSH succeeded, nor how long the body of an HTTP request is. A flow of ICMP has the
type of its first message where Zeek has it, instead of a port; one without `icmp_type` may be of a request or a reply.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mods_grpc.features.records import ICMP, Alert, Conn, Http, Record, Sip, Ssh, Ssl
from mods_grpc.ids.logs import line_rules
from mods_grpc.ids.logs.eve_dns import DnsEvents, turn_around
from mods_grpc.ids.logs.field_values import read_application, read_tcp_flags
from mods_grpc.ids.logs.line_rules import MalformedLineError, read_optional
from mods_grpc.ids.logs.shipper_fields import look_up, nested, sensor_host
from mods_grpc.ids.logs.zeek_fields import with_zeek_names

PROTOCOL_OF = {"flow": "conn", "dns": "dns", "http": "http", "tls": "ssl", "ssh": "ssh", "sip": "sip", "alert": "alert"}
_PORTS = {"orig_p": "src_port", "resp_p": "dest_port"}
FIELDS: Mapping[str, Mapping[str, str]] = {
    "conn": {
        **_PORTS,
        "duration": "flow.end",
        "orig_bytes": "flow.bytes_toserver",
        "resp_bytes": "flow.bytes_toclient",
        "proto": "proto",
        "failed": "flow.pkts_toclient and tcp",
    },
    "dns": {
        **{name: f"dns.{name.lower()}" for name in ("AA", "TC", "RD", "RA")},
        "query": "dns.rrname",
        "proto": "proto",
        "rejected": "dns.answers",
        "qtype": "dns.rrtype",
        "nxdomain": "dns.rcode",
    },
    "http": {
        "method": "http.http_method",
        "host": "http.hostname",
        "uri": "http.url",
        "status": "http.status",
        "user_agent": "http.http_user_agent",
    },
    "ssl": {"server_name": "tls.sni", "self_signed": "tls.subject and tls.issuerdn"},
    "sip": _PORTS,
    "alert": {"severity": "alert.severity"},
}
"""By protocol, the fields that attributes for features are read from, for messages; such that are not here are never set."""

_TIMES = ("timestamp", "@timestamp", "date")
_MOVED = {
    "src_ip": "id.orig_h",
    "src_port": "id.orig_p",
    "dest_ip": "id.resp_h",
    "dest_port": "id.resp_p",
    "proto": "proto",
    "app_proto": "network.protocol",
    "community_id": "community_id",
}
_ENDS = ("src_ip", "src_port", "dest_ip", "dest_port")
_SYN, _RST, _ACK = 0x02, 0x04, 0x10


class EveParser:
    """Parses the events of one file, in order.

    Args:
        latest_ns: Records after this time are malformed; None for a day from now.
        damaged_fields: Counts the fields that records went without, by name.
    """

    def __init__(self, latest_ns: int | None, damaged_fields: dict[str, int]) -> None:
        self._latest_ns = latest_ns
        self._damaged_fields = damaged_fields
        self._read_optional = partial(read_optional, damaged_fields=damaged_fields)
        self._dns_events = DnsEvents(damaged_fields)
        self._readers: Mapping[str, Callable[[Mapping[str, Any]], Record | None]] = {
            "flow": self._read_flow,
            "dns": self._read_dns,
            "http": self._read_http,
            "tls": self._read_tls,
            "ssh": self._read_ssh,
            "sip": self._read_sip,
            "alert": self._read_alert,
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
            event = {**event, **{ours: renamed[theirs] for ours, theirs in _MOVED.items() if theirs in renamed}}
        return read(event)

    def _read_common(self, event: Mapping[str, Any], *, ts: int | None = None) -> dict[str, Any]:
        damaged, community_id = self._damaged_fields, event.get("community_id")
        return {
            "ts": self._read_time(event, _TIMES) if ts is None else ts,
            "orig_h": _require_address(event, "src_ip"),
            "resp_h": _require_address(event, "dest_ip"),
            "uid": read_optional("flow_id", line_rules.check_text, event.get("flow_id"), damaged),
            "orig_p": read_optional("src_port", line_rules.check_port, event.get("src_port"), damaged),
            "resp_p": read_optional("dest_port", line_rules.check_port, event.get("dest_port"), damaged),
            "sensor": read_optional("host", line_rules.check_text, sensor_host(event) or event.get("in_iface"), damaged) or "",
            "community_id": None if community_id is None else self._read_text("community_id", community_id),
        }

    def _read_text(self, name: str, value: object) -> str | None:
        return self._read_optional(name, line_rules.check_text, value)

    def _read_common_text(self, name: str, value: object) -> str | None:
        return self._read_optional(name, line_rules.check_common_text, value)

    def _read_time(self, event: Mapping[str, Any], names: tuple[str, ...], block: str = "") -> int:
        for name in names:
            if (value := event.get(name)) is not None:
                return line_rules.check_time(value, self._latest_ns)
        raise MalformedLineError(f"no {block}{names[0]}")

    def _read_flow(self, event: Mapping[str, Any]) -> Record:
        flow = _require_object(event, "flow")
        common = self._read_common(event, ts=self._read_time(flow, ("start",), "flow."))
        damaged = self._damaged_fields
        end = flow.get("end")
        if end is None:
            end = next((event[name] for name in _TIMES if event.get(name) is not None), None)
        proto = self._read_text("proto", event.get("proto"))
        proto = None if proto is None else proto.lower()
        if proto in ICMP:
            icmp_type = read_optional("icmp_type", line_rules.check_port, event.get("icmp_type"), damaged)
            common |= {"orig_p": icmp_type, "resp_p": None}
        return Conn(
            **common,
            proto=proto,
            duration=read_optional("flow.end", partial(self._read_duration, common["ts"]), end, damaged),
            orig_bytes=read_optional("flow.bytes_toserver", line_rules.check_count, flow.get("bytes_toserver"), damaged),
            resp_bytes=read_optional("flow.bytes_toclient", line_rules.check_count, flow.get("bytes_toclient"), damaged),
            failed=self._has_failed(event, flow),
            service=read_optional("app_proto", read_application, event.get("app_proto"), damaged),
            conn_state=read_optional("flow.state", line_rules.check_common_text, flow.get("state"), damaged),
        )

    def _has_failed(self, event: Mapping[str, Any], flow: Mapping[str, Any]) -> bool | None:
        """Return whether the responder never answered, or refused; None if the event does not say.

        As Zeek's states do, it calls no exchange of ICMP failed.
        """
        proto = event.get("proto")
        proto = proto.upper() if isinstance(proto, str) else ""
        if "ICMP" in proto:
            return False
        packets = self._read_optional("flow.pkts_toclient", line_rules.check_count, flow.get("pkts_toclient"))
        if packets is None:
            return None
        if proto != "TCP":
            # what came back in a new flow are errors of ICMP alone
            return True if not packets else flow.get("state") == "new" if proto else None
        tcp = nested(event, "tcp")
        orig = self._read_optional("tcp.tcp_flags_ts", read_tcp_flags, tcp.get("tcp_flags_ts"))
        if orig is not None and not orig & _SYN:
            return False  # the rest of a connection that was open before: Zeek's OTH
        if not packets:
            return True
        resp = self._read_optional("tcp.tcp_flags_tc", read_tcp_flags, tcp.get("tcp_flags_tc"))
        if orig is None or resp is None:
            return None
        is_open = resp & _SYN and orig & _ACK
        return bool(resp & _RST and not is_open)

    def _read_duration(self, start_ns: int, end: object) -> int:
        return line_rules.to_duration_ns((line_rules.check_time(end, self._latest_ns) - start_ns) / 1e9)

    def _read_dns(self, event: Mapping[str, Any]) -> Record | None:
        if isinstance(event.get("http"), dict):
            return self._read_http(event)  # DNS over HTTPS: Zeek and Suricata 7 see the request alone
        dns = _require_object(event, "dns")
        return self._dns_events.read(dns, self._read_common(event), event.get("proto"))

    def _read_http(self, event: Mapping[str, Any]) -> Record:
        http = nested(event, "http")
        return Http(
            **self._read_common(event),
            method=self._read_common_text("http.http_method", http.get("http_method")),
            host=self._read_text("http.hostname", http.get("hostname")),
            uri=self._read_text("http.url", http.get("url")),
            status=self._read_optional("http.status", line_rules.check_count, http.get("status")),
            user_agent=self._read_text("http.http_user_agent", http.get("http_user_agent")),
        )

    def _read_tls(self, event: Mapping[str, Any]) -> Record:
        tls = nested(event, "tls")
        subject = self._read_text("tls.subject", tls.get("subject"))
        issuer = self._read_text("tls.issuerdn", tls.get("issuerdn"))
        return Ssl(
            **self._read_common(event),
            server_name=self._read_text("tls.sni", tls.get("sni")),
            self_signed=None if subject is None or issuer is None else subject == issuer,
        )

    def _read_ssh(self, event: Mapping[str, Any]) -> Record:
        software = look_up(nested(event, "ssh"), "client.software_version")
        return Ssh(**self._read_common(event), client=self._read_common_text("ssh.client.software_version", software))

    def _read_alert(self, event: Mapping[str, Any]) -> Record | None:
        """Return the record of an alert, in the direction of its flow; None for one about frames that have no addresses.

        An alert on an answer has the ends of the packet, whose source is the responder.
        """
        if event.get("src_ip") is None and event.get("dest_ip") is None:
            return None
        alert = nested(event, "alert")
        severity = self._read_optional("alert.severity", line_rules.check_count, alert.get("severity"))
        signature = self._read_common_text("alert.signature", alert.get("signature"))
        flow = nested(event, "flow")
        if flow.get("src_ip") is not None and flow.get("dest_ip") is not None:
            common = self._read_common({**event, **{name: flow.get(name) for name in _ENDS}})
        else:
            common = self._read_common(event)
            common = turn_around(common) if event.get("direction") == "to_client" else common
        return Alert(**common, severity=severity, signature=signature)

    def _read_sip(self, event: Mapping[str, Any]) -> Record:
        """Return the record of a SIP message. A response counts for no transaction, in the direction of its request."""
        common = self._read_common(event)
        sip = event.get("sip")
        if isinstance(sip, dict) and "method" not in sip and "code" in sip:
            return Sip(**turn_around(common), transactions=0)
        return Sip(**common)


def _require_object(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the object of an event, such as `flow`, also where a shipper made it flat: `flow.start`."""
    value = nested(event, name)
    if not value:
        raise MalformedLineError(f"no {name}")
    return value


def _require_address(event: Mapping[str, Any], name: str) -> str:
    if event.get(name) is None:
        raise MalformedLineError(f"no {name}")
    return line_rules.check_address(event[name])
