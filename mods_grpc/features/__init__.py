"""Features of network logs: turns records into rows of windows, the same for batch and live, with numpy alone."""

from mods_grpc.features.aggregate_rows import AggregateRow
from mods_grpc.features.aggregator import Aggregator
from mods_grpc.features.definitions import ALL_FEATURES, Definition
from mods_grpc.features.locality import GroupBy
from mods_grpc.features.options import AggregatorOptions
from mods_grpc.features.records import PROTOCOLS, Conn, Dns, Http, Record, Sip, Ssh, Ssl

__all__ = [
    "ALL_FEATURES",
    "PROTOCOLS",
    "AggregateRow",
    "Aggregator",
    "AggregatorOptions",
    "Conn",
    "Definition",
    "Dns",
    "GroupBy",
    "Http",
    "Record",
    "Sip",
    "Ssh",
    "Ssl",
]
