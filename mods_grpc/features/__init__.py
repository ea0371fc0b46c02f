"""Features of network logs: records in, rows of windows out. One semantics for batch and live.

Standard library and numpy only; knows nothing of files, gRPC or how a log is spelled.
"""

from mods_grpc.features.accumulators import Partial, Plan, plan
from mods_grpc.features.aggregate_rows import AggregateRow, AggregatorCounters
from mods_grpc.features.aggregator import Aggregator
from mods_grpc.features.definitions import ALL, FEATURES, MEASURES, Definition, Feature, Kind, Measure, header
from mods_grpc.features.distinct_count import STANDARD_ERROR, Distinct
from mods_grpc.features.event_clock import AHEAD_SECONDS, EventClock
from mods_grpc.features.locality import SITE, UNNAMED, GroupBy, Locality, parse_networks
from mods_grpc.features.options import AggregatorOptions
from mods_grpc.features.records import PROTOCOLS, RECORDS, Conn, Dns, Http, Record, Sip, Ssh, Ssl

__all__ = [
    "AHEAD_SECONDS",
    "ALL",
    "FEATURES",
    "MEASURES",
    "PROTOCOLS",
    "RECORDS",
    "SITE",
    "STANDARD_ERROR",
    "UNNAMED",
    "AggregateRow",
    "Aggregator",
    "AggregatorCounters",
    "AggregatorOptions",
    "Conn",
    "Definition",
    "Distinct",
    "Dns",
    "EventClock",
    "Feature",
    "GroupBy",
    "Http",
    "Kind",
    "Locality",
    "Measure",
    "Partial",
    "Plan",
    "Record",
    "Sip",
    "Ssh",
    "Ssl",
    "header",
    "parse_networks",
    "plan",
]
