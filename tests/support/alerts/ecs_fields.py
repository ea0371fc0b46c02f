"""The fields of the Elastic Common Schema 8 that alerts are written with, by type, and a check that a document keeps to them."""

import ipaddress
from datetime import datetime

_KEYWORDS = """
ecs.version event.kind event.category event.type event.id event.code event.module event.dataset event.provider event.reason
observer.name observer.vendor observer.product observer.type observer.version
rule.name rule.category rule.description rule.reference rule.ruleset rule.version
source.address destination.address
network.transport network.direction network.community_id network.type
url.domain url.path http.request.method user_agent.original tls.client.server_name
dns.question.name dns.question.registered_domain dns.question.type dns.response_code
threat.framework threat.technique.id threat.technique.name threat.technique.subtechnique.id threat.technique.subtechnique.name
related.hosts message
"""
TYPES = dict.fromkeys(_KEYWORDS.split(), "keyword") | {
    **dict.fromkeys(("@timestamp", "event.start", "event.end"), "date"),
    **dict.fromkeys(
        ("event.duration", "event.sequence", "event.severity", "http.response.status_code", "destination.port"), "long"
    ),
    "event.risk_score": "float",
    **dict.fromkeys(("source.ip", "destination.ip", "host.ip", "related.ip"), "ip"),
}
REQUIRED = {"@timestamp", "ecs.version", "event.kind", "event.category", "event.type", "event.id", "message"}
# What ECS allows in the fields of its categorization.
KINDS = {"alert", "asset", "enrichment", "event", "metric", "state", "pipeline_error", "signal"}
TYPES_BY_CATEGORY = {
    "intrusion_detection": {"allowed", "denied", "info"},
    "network": {"access", "allowed", "connection", "denied", "end", "info", "protocol", "start"},
    "host": {"access", "change", "end", "info", "start"},
}
DIRECTIONS = {"ingress", "egress", "inbound", "outbound", "internal", "external", "unknown"}


def flatten(document, prefix=""):
    """Return the fields of a document by their names with points, without those below `mods` and `labels`."""
    fields = {}
    for name, value in document.items():
        if not prefix and name in {"mods", "labels"}:
            continue
        if isinstance(value, dict):
            fields |= flatten(value, f"{prefix}{name}.")
        else:
            fields[f"{prefix}{name}"] = value
    return fields


def check_ecs(document):
    """Check that each field is one of ECS and has a value of its type; return the fields by their names with points."""
    fields = flatten(document)
    assert set(fields) <= set(TYPES), set(fields) - set(TYPES)
    assert set(fields) >= REQUIRED
    for name, value in fields.items():
        values = value if isinstance(value, list) else [value]
        assert values, name
        for each in values:
            _check_value(TYPES[name], each)
    assert fields["event.kind"] in KINDS
    allowed = set().union(*(TYPES_BY_CATEGORY[category] for category in fields["event.category"]))
    assert set(fields["event.type"]) <= allowed
    assert fields.get("network.direction", "unknown") in DIRECTIONS
    assert all(isinstance(value, str) for value in document.get("labels", {}).values())
    return fields


def _check_value(kind, value):
    if kind == "long":
        assert type(value) is int
        assert abs(value) < 2**63
    elif kind == "float":
        assert type(value) is float
    else:
        assert type(value) is str
        if kind == "ip":
            ipaddress.ip_address(value)
        if kind == "date":
            assert datetime.fromisoformat(value).tzinfo is not None
