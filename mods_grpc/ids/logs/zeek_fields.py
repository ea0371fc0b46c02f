"""The fields of Zeek's logs that records use, by protocol."""

from typing import NamedTuple

from mods_grpc.features.records import PROTOCOLS


class ZeekField(NamedTuple):
    """A field: its name and type in Zeek, the record's attribute, and whether a line without it is malformed."""

    name: str
    type: str
    attribute: str
    required: bool = False


_COMMON = (
    ZeekField("ts", "time", "ts", required=True),
    ZeekField("uid", "string", "uid"),
    ZeekField("id.orig_h", "addr", "orig_h", required=True),
    ZeekField("id.orig_p", "port", "orig_p"),
    ZeekField("id.resp_h", "addr", "resp_h", required=True),
    ZeekField("id.resp_p", "port", "resp_p"),
)
_BY_PROTOCOL: dict[str, tuple[ZeekField, ...]] = {
    "conn": (
        ZeekField("duration", "interval", "duration"),
        ZeekField("orig_bytes", "count", "orig_bytes"),
        ZeekField("resp_bytes", "count", "resp_bytes"),
        ZeekField("local_orig", "bool", "local_orig"),
        ZeekField("local_resp", "bool", "local_resp"),
    ),
    "dns": (
        ZeekField("proto", "enum", "proto"),
        ZeekField("query", "string", "query"),
        *(ZeekField(name, "bool", name) for name in ("AA", "TC", "RD", "RA", "rejected")),
    ),
    "sip": (ZeekField("user_agent", "string", "user_agent"),),
}

FIELDS = {protocol: (*_COMMON, *_BY_PROTOCOL.get(protocol, ())) for protocol in PROTOCOLS}
# Fields in which clusters and log shippers put the sensor's name.
SENSOR_FIELDS = ("_node_name", "_system_name", "@system")
