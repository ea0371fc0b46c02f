"""The fields of Zeek's logs that records use, by protocol, and the other names that set-ups give to them."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from mods_grpc.features.records import PROTOCOLS


class ZeekField(NamedTuple):
    """A field of a log.

    Attributes:
        name: Its name in Zeek.
        type: Its type in Zeek, `enum` also of texts of which there are few; or one of `VALUE_READERS`.
        attribute: The record's attribute.
        required: Whether a line without it is malformed.
        other: The field that is read where a log lacks this one; may be empty.
    """

    name: str
    type: str
    attribute: str
    required: bool = False
    other: str = ""


_COMMON = (
    ZeekField("ts", "time", "ts", required=True),
    ZeekField("id.orig_h", "addr", "orig_h", required=True),
    ZeekField("id.resp_h", "addr", "resp_h", required=True),
    ZeekField("uid", "string", "uid"),
    ZeekField("id.orig_p", "port", "orig_p"),
    ZeekField("id.resp_p", "port", "resp_p"),
)
_BY_PROTOCOL: dict[str, tuple[ZeekField, ...]] = {
    "conn": (
        ZeekField("duration", "interval", "duration"),
        ZeekField("orig_bytes", "count", "orig_bytes"),
        ZeekField("resp_bytes", "count", "resp_bytes"),
        ZeekField("local_orig", "bool", "local_orig"),
        ZeekField("local_resp", "bool", "local_resp"),
        ZeekField("proto", "enum", "proto"),
        ZeekField("conn_state", "conn_state", "failed"),
    ),
    "dns": (
        ZeekField("proto", "enum", "proto"),
        ZeekField("query", "string", "query"),
        *(ZeekField(name, "bool", name) for name in ("AA", "TC", "RD", "RA", "rejected")),
        ZeekField("qtype_name", "query_type", "qtype", other="qtype"),
        ZeekField("rcode_name", "response_code", "nxdomain", other="rcode"),
    ),
    "http": (
        ZeekField("method", "enum", "method"),
        ZeekField("host", "string", "host"),
        ZeekField("uri", "string", "uri"),
        ZeekField("status_code", "count", "status"),
        ZeekField("request_body_len", "count", "request_bytes"),
        ZeekField("user_agent", "string", "user_agent"),
    ),
    "ssl": (
        ZeekField("server_name", "string", "server_name"),
        ZeekField("established", "negation", "failed"),
        ZeekField("validation_status", "validation", "self_signed"),
    ),
    "ssh": (ZeekField("auth_success", "negation", "failed"),),
    "sip": (ZeekField("user_agent", "string", "user_agent"),),
    "notice": (ZeekField("note", "enum", "name"),),
    "weird": (ZeekField("name", "enum", "name"),),
}
# Fields that no feature is made from, but that tell what made an alert; a log that lacks one lacks nothing.
_EVIDENCE_BY_PROTOCOL: dict[str, tuple[ZeekField, ...]] = {
    "conn": (ZeekField("service", "enum", "service"), ZeekField("conn_state", "state_name", "conn_state")),
    "dns": (ZeekField("rcode_name", "response_name", "rcode", other="rcode"),),
    "ssh": (ZeekField("client", "enum", "client"),),
}
# Of logs that have lines about no host, which are ignored: by address, the field that may have it where it is unset.
HOST_FIELDS: Mapping[str, Mapping[str, str]] = {
    "notice": {"id.orig_h": "src", "id.resp_h": "dst"},
    "weird": {"id.orig_h": "", "id.resp_h": ""},
}
# Of these a line may name one host alone, such as one that scans a network: it is both ends.
ONE_HOST_LOGS = {"notice"}

# the required ones come first
FIELDS = {protocol: (*_COMMON, *_BY_PROTOCOL.get(protocol, ())) for protocol in PROTOCOLS}
EVIDENCE_FIELDS = {
    protocol: (ZeekField("community_id", "string", "community_id"), *_EVIDENCE_BY_PROTOCOL.get(protocol, ()))
    for protocol in PROTOCOLS
}
# Fields in which clusters and log shippers put the sensor's name.
SENSOR_FIELDS = ("_node_name", "_system_name", "@system", "_node")

# `Log::default_scope_sep` joins the parts of a name, a point by default.
_SCOPED = re.compile(r"id[^a-z0-9]{0,4}(orig|resp)_([hp])", re.IGNORECASE)
# Names that mean one thing only, from field-name maps (`Log::default_field_name_map`) and the Elastic Common Schema.
_ALIASES = {
    "id.orig_h": "src src_ip src_addr src_ip_addr srcip source_ip source_address source.ip source.address",
    "id.orig_p": "src_port srcport source_port source.port sport",
    "id.resp_h": "dst dst_ip dst_addr dst_ip_addr dstip dest dest_ip"
    " destination_ip destination_address destination.ip destination.address",
    "id.resp_p": "dst_port dstport dest_port destination_port destination.port dport",
    "ts": "@timestamp timestamp date",
    "proto": "network.transport",
    "uid": "zeek.session_id",
    "community_id": "network.community_id",
}
_NAME_BY_ALIAS = {alias: name for name, aliases in _ALIASES.items() for alias in aliases.split()}
_NESTED = ("id", "source", "destination", "network")
_MAX_NAME_CHARACTERS = 100


def zeek_name(name: str) -> str:
    """Return Zeek's name of a field, such as `id.orig_h` for `id_orig_h`; the name unchanged if it is not another name of one."""
    return _cached_name(name) if len(name) <= _MAX_NAME_CHARACTERS else name


@lru_cache(maxsize=10_000)
def _cached_name(name: str) -> str:
    if match := _SCOPED.fullmatch(name):
        return f"id.{match[1]}_{match[2]}".lower()
    return _NAME_BY_ALIAS.get(name.lower(), name)


def with_zeek_names(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with its fields by Zeek's names, those of nested objects such as `id` included.

    A field under its own name goes before one under another name.
    """
    flat = dict(event)
    for outer in _NESTED:
        if isinstance(nested := event.get(outer), dict):
            flat |= {f"{outer}.{name}": value for name, value in nested.items()}
    renamed = {zeek_name(name): value for name, value in flat.items() if value is not None}
    return renamed | flat
