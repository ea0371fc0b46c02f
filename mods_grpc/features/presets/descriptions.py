"""What each column counts, in words: the texts of `mods-grpc features` and of docs/reference/features.md."""

from collections.abc import Mapping

from mods_grpc.features.definitions import Feature

DIRECTION_TEXTS: Mapping[str, str] = {
    "in": "from remote to local hosts",
    "out": "from local to remote hosts",
    "internal": "between local hosts",
}

_FLAG_TEXTS = {
    "AA": "the authoritative flag",
    "RA": "the recursion-available flag",
    "RD": "the recursion-desired flag",
    "TC": "the truncation flag",
    "rejected": "a rejection",
}
# By protocol and name of the measure. "Earlier" is what the series had in the panes before, as far as its memory reaches.
_TEXTS: Mapping[str, Mapping[str, str]] = {
    "conn": {
        "sum_orig_bytes": "bytes of the originators",
        "sum_resp_bytes": "bytes of the responders",
        "avg_duration": "mean duration in seconds",
        "count_uid": "connections, by their start",
        "connections": "connections, by their end",
        "bytes_sent": "bytes of the originators",
        "failed": "connections that were not answered, or refused; those to multicast addresses and 255.255.255.255 do not count",
        "distinct_hosts": "different hosts at the other end",
        "distinct_ports": "different ports of the responders; ICMP has none",
        "distinct_host_ports": "different pairs of a responder and its port, or ICMP instead of the port",
        "new_hosts": "different hosts at the other end that the series had no connection with earlier",
        "new_host_connections": "connections with hosts that the series had none with earlier",
        "new_host_bytes": "bytes of the originators to hosts that the series had no connection with earlier",
        "max_host_bytes": "bytes of the originators to the host that got most",
        "max_bytes": "bytes of the originator of the connection that had most",
        "long": "connections that lasted an hour or more",
        "producer_consumer_ratio": "(bytes sent - received) / (bytes sent + received): 1 only sends, -1 only receives",
        "admin": "connections to the ports of remote administration: 22, 135, 139, 445, 3389, 5985, 5986",
        "distinct_admin_hosts": "different responders on the ports of remote administration",
    },
    "dns": {
        "count_uid": "queries",
        "distinct_query": "different names that were asked for",
        "distinct_proto": "different transport protocols",
        **{f"{flag}_false": f"records without {text}" for flag, text in _FLAG_TEXTS.items()},
        **{f"{flag}_true": f"records with {text}" for flag, text in _FLAG_TEXTS.items()},
        "nxdomain": "answers that the name does not exist",
        "distinct_domains": "different registered domains that were asked for, by the public suffix list",
        "new_domains": "different registered domains that the series did not ask for earlier",
        "max_subdomains": "different names below the registered domain that had most, in any case, the domain itself not among "
        "them; none of `.arpa` and `.local`",
        "query_bytes": "bytes of the names that were asked for",
        "rare_types": "queries of rare types, such as TXT, MX and NULL",
    },
    "http": {
        "": "requests",
        "errors": "requests with a status of 400 to 599",
        "distinct_urls": "different pairs of host and URI",
        "request_bytes": "bytes of the bodies of requests",
        "distinct_user_agents": "different user agents",
    },
    "ssl": {
        "": "handshakes",
        "distinct_server_names": "different server names that were asked for (SNI)",
        "new_server_names": "different server names that the series did not ask for earlier",
        "failed": "handshakes that did not end in a connection",
        "self_signed": "handshakes with a certificate that is signed by itself",
    },
    "ssh": {
        "": "sessions",
        "failed": "sessions whose log-in failed",
        "distinct_hosts": "different hosts at the other end",
    },
    "sip": {
        "count_uid": "messages",
        "distinct_`id.orig_h`": "different originators",
        "distinct_`id.orig_p`": "different ports of the originators",
        "distinct_`id.resp_h`": "different responders",
        "distinct_`id.resp_p`": "different ports of the responders",
        "distinct_user_agent": "different user agents",
    },
    "alert": {
        "severity_1": "alerts of Suricata of severity 1, the highest",
        "severity_2": "alerts of Suricata of severity 2",
        "severity_3": "alerts of Suricata of severity 3 and lower",
    },
    "notice": {"count": "notices of Zeek"},
    "weird": {
        "count": "breaches of protocols that Zeek saw",
        "distinct_names": "different kinds of breaches of protocols that Zeek saw",
    },
}


def describe(feature: Feature) -> str:
    """Return what a column counts, without its direction."""
    return _TEXTS[feature.protocol][feature.measure.name]
