"""Events as Suricata writes them to eve.json, and the fields of the record that each becomes."""

import json


def make_eve_event(kind, **block):
    event = {
        "timestamp": "2024-04-19T06:00:01.250000+0200",
        "flow_id": 1_234_567_890_123,
        "in_iface": "eth0",
        "event_type": kind,
        "src_ip": "10.0.0.5",
        "src_port": 40_000,
        "dest_ip": "8.8.8.8",
        "dest_port": 53,
        "proto": "UDP",
    }
    return json.dumps(event | block).encode()


EVE = {
    "ts": 1_713_499_201_250_000_000,
    "uid": "1234567890123",
    "orig_h": "10.0.0.5",
    "orig_p": 40_000,
    "resp_h": "8.8.8.8",
    "resp_p": 53,
    "sensor": "eth0",
}
