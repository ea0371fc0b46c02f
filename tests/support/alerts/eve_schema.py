"""Schema of the EVE events that alerts are written as."""

# The fields of every event and those of an anomaly, as Suricata writes them.
EVE_SCHEMA = {
    "type": "object",
    "required": ["timestamp", "event_type", "anomaly"],
    "properties": {
        "timestamp": {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d+[+\-]\d+$"},
        "event_type": {"const": "anomaly"},
        "host": {"type": "string"},
        "src_ip": {"type": "string"},
        "dest_ip": {"type": "string"},
        "dest_port": {"type": "integer", "minimum": 0, "maximum": 65_535},
        "proto": {"type": "string"},
        "flow_id": {"type": "integer", "minimum": 0},
        "community_id": {"type": "string"},
        "anomaly": {
            "type": "object",
            "properties": {key: {"type": "string"} for key in ("app_proto", "event", "layer", "type")},
            "additionalProperties": False,
        },
        "mods": {"type": "object"},
    },
    "additionalProperties": False,
}
