"""The columns that show attacks, of real logs: in bulk as line by line, and as queries count them that share no code with ours.

Skipped where the data is absent.
"""

import gzip
import io
import json
from functools import cache

import polars as pl
import pytest
from publicsuffixlist import PublicSuffixList

from mods_grpc.features import Aggregator, AggregatorOptions
from mods_grpc.features.definitions import FEATURES
from mods_grpc.ids.bulk.aggregate import BulkAggregator
from mods_grpc.ids.sources.reader import LogReader
from tests.support.real_data import DATA

ZEEK_TSV, APT29, ATTACKS = DATA / "zeek-tsv", DATA / "zeek-json/apt29-day1", DATA / "attacks"
SERVER = ("64.225.56.201",)
ADMIN = ["22", "135", "139", "445", "3389", "5985", "5986"]
NEVER_ANSWERED = ["S0", "REJ", "RSTOS0", "SH"]
GROUP = r"^(22[4-9]|23\d)\.|^ff|^255\.255\.255\.255$"
USUAL_TYPES = ["A", "AAAA", "HTTPS", "SVCB", "PTR", "SRV", "SOA", "NS", "CNAME"]
ICMP_REQUESTS = ["8", "10", "13", "15", "17", "128", "130", "133", "135", "139"]
SUFFIXES = PublicSuffixList()
NAN = float("nan")
LEARNING = 3_600  # seconds in which a memory is new

COLUMNS = (
    "proto orig_bytes resp_bytes duration conn_state query rcode_name qtype_name host uri status_code request_body_len".split()
)
COLUMNS += "user_agent server_name established validation_status auth_success".split()


def read_tsv(log):
    text = gzip.decompress(log.read_bytes())
    names = next(line for line in text.decode().splitlines() if line.startswith("#fields")).split("\t")[1:]
    options = {"comment_prefix": "#", "has_header": False, "null_values": "-", "quote_char": None, "infer_schema": False}
    frame = pl.read_csv(io.BytesIO(text), separator="\t", new_columns=names, **options)
    return frame.with_columns(pl.all().replace("(empty)", ""))


def read_json(log):
    frame = pl.read_ndjson(log, infer_schema_length=None)
    frame = frame.rename({name: name.replace("id_", "id.") for name in frame.columns if name.startswith("id_")})
    return frame.select(pl.col(name).cast(pl.String) for name in frame.columns if not frame[name].dtype.is_nested())


@cache
def registered_domain(name):
    name = name.lower().rstrip(".")
    if name.endswith(".arpa"):
        return ".".join(name.split(".")[-2:])
    return SUFFIXES.privatesuffix(name) or name


def microseconds(name):
    return (pl.col(name).cast(pl.Float64) * 1e6).round().cast(pl.Int64)


def number(name):
    return pl.col(name).cast(pl.Float64).cast(pl.Int64)


def windows(frames, is_local, by_host, window, slide):
    """Return the records of a log, once for each window of their end, with series, direction and start of the window."""
    table = pl.concat(frames, how="diagonal_relaxed")
    table = table.with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in COLUMNS if name not in table.columns)
    orig, resp = is_local("id.orig_h"), is_local("id.resp_h")
    way = pl.when(orig & resp).then(pl.lit("internal")).when(orig).then(pl.lit("out")).when(resp).then(pl.lit("in"))
    table = table.with_columns(
        number("orig_bytes"),
        number("resp_bytes"),
        number("request_body_len"),
        number("status_code"),
        pl.col("id.orig_p", "id.resp_p").str.strip_suffix(".0"),
        pl.col("established", "auth_success").str.to_lowercase().str.slice(0, 1),
        microseconds("duration").fill_null(0),
        way=way,
    ).drop_nulls("way")
    is_icmp = (pl.col("proto") == "icmp").fill_null(value=False)
    table = table.with_columns(
        pl.when(~is_icmp).then("id.resp_p").alias("id.resp_p"),
        reply=is_icmp & ~pl.col("id.orig_p").is_in(ICMP_REQUESTS),
    )
    table = table.with_columns(
        pane=(microseconds("ts") + pl.col("duration")) // (slide * 1_000_000) * slide,
        series=pl.when(way == "in").then("id.resp_h").otherwise("id.orig_h") if by_host else pl.lit("site"),
        peer=pl.when(way == "in").then("id.orig_h").otherwise("id.resp_h"),
        admin=pl.col("id.resp_p").is_in(ADMIN),
        other=pl.when(way == "internal").then("id.resp_h") if by_host else pl.lit(None, dtype=pl.String),
        domain=pl.when(pl.col("query") != "").then("query").map_elements(registered_domain, return_dtype=pl.String),
        below=pl.col("query").str.to_lowercase().str.strip_chars_end("."),
    )
    firsts = [
        (pl.col("pane") == pl.col("pane").filter(~pl.col("reply")).min().over("series", "way", key)).alias(f"new {key}")
        for key in ("peer", "domain", "server_name")
    ]
    starts = pl.int_ranges(pl.col("pane") - window + slide, pl.col("pane") + slide, slide)
    table = table.with_columns(*firsts, window=starts)
    return table.explode("window")


def different(column, *filters):
    return (pl.col(column).filter(*filters) if filters else pl.col(column)).drop_nulls().n_unique()


def largest(number_of_each, key):
    """Return a query of the largest number that any value of a key has."""
    return lambda rows: (
        rows.drop_nulls(key).group_by("series", "way", "window", key).agg(number_of_each.alias("value"))
        .group_by("series", "way", "window").agg(pl.col("value").max())
    )  # fmt: skip


SENT, RECEIVED = pl.col("orig_bytes").sum(), pl.col("resp_bytes").sum()
QUERIES = {
    "conn|connections": pl.len(),
    "conn|bytes_sent": SENT,
    "conn|failed": (pl.col("conn_state").is_in(NEVER_ANSWERED) & ~pl.col("id.resp_h").str.contains(GROUP)).sum(),
    "conn|distinct_hosts": different("peer"),
    "conn|distinct_ports": different("id.resp_p"),
    "conn|distinct_host_ports": pl.struct("id.resp_h", "id.resp_p").n_unique(),
    "conn|new_hosts": different("peer", pl.col("new peer")),
    "conn|new_host_connections": pl.col("new peer").sum(),
    "conn|new_host_bytes": pl.col("orig_bytes").filter("new peer").sum(),
    "conn|max_host_bytes": largest(SENT, "peer"),
    "conn|max_bytes": pl.col("orig_bytes").max().fill_null(0),
    "conn|long": (pl.col("duration") >= 3_600_000_000).sum(),
    "conn|producer_consumer_ratio": (SENT - RECEIVED) / (SENT + RECEIVED),
    "conn|admin": pl.col("admin").sum(),
    "conn|distinct_admin_hosts": different("id.resp_h", pl.col("admin")),
    "dns|nxdomain": (pl.col("rcode_name") == "NXDOMAIN").sum(),
    "dns|distinct_domains": different("domain"),
    "dns|new_domains": different("domain", pl.col("new domain")),
    "dns|max_subdomains": largest(different("below", ~pl.col("below").str.contains(r"\.(arpa|local)$")), "domain"),
    "dns|query_bytes": pl.col("query").str.len_bytes().sum(),
    "dns|rare_types": (~pl.col("qtype_name").is_in(USUAL_TYPES)).sum(),
    "http|errors": pl.col("status_code").is_between(400, 599).sum(),
    "http|distinct_urls": pl.concat_str(pl.col("host").fill_null(""), "uri").drop_nulls().n_unique(),
    "http|request_bytes": pl.col("request_body_len").sum(),
    "http|distinct_user_agents": different("user_agent"),
    "ssl|distinct_server_names": different("server_name"),
    "ssl|new_server_names": different("server_name", pl.col("new server_name")),
    "ssl|failed": (pl.col("established") == "f").sum(),
    "ssl|self_signed": pl.col("validation_status").str.contains("self signed").sum(),
    "ssh|failed": (pl.col("auth_success") == "f").sum(),
    "ssh|distinct_hosts": different("peer"),
}
NOT_LOGGED = {"alert", "notice", "weird"}  # no such logs in the data
OWN = [feature for feature in FEATURES if feature.measure.is_own and feature.protocol not in NOT_LOGGED]


def expected_values(logs, *options):
    """Return the values by feature, series and window, and by series the first window for which its memory is old enough."""
    values, first = {}, {}
    for protocol in dict.fromkeys(feature.protocol for feature in FEATURES):
        frames = [read(log) for log, read in logs(protocol)]
        if not frames:
            continue
        rows = windows(frames, *options)
        for end in ("series", "other"):
            for series, pane in rows.drop_nulls(end).group_by(end).agg(pl.col("pane").min()).iter_rows():
                first[series] = min(first.get(series, pane), pane)
        rows = rows.filter(~pl.col("reply"))
        for key, query in QUERIES.items():
            if key.startswith(f"{protocol}|"):
                counted = query(rows) if callable(query) else rows.group_by("series", "way", "window").agg(query.alias("value"))
                for series, way, window, value in counted.select("series", "way", "window", "value").iter_rows():
                    values[f"{protocol}|{way}_{key.partition('|')[2]}", series, window] = value
    learned = min(first.values()) + LEARNING
    return values, {series: pane + LEARNING if pane < learned else 0 for series, pane in first.items()}


def compare_all(folder, logs, is_local, networks, by_host, window_seconds=3_600, slide_seconds=600):
    """Compare all own columns of all windows three ways; return the features that were ever above or below 0."""
    grid = {"window_seconds": window_seconds, "slide_seconds": slide_seconds}
    options = AggregatorOptions(group_by="host" if by_host else "site", local_networks=networks, **grid)
    aggregator = Aggregator(options=options)
    with LogReader(folder) as reader:
        records = list(reader.poll())
    aggregator.add_many(records)
    assert reader.counters.rejected == 0
    rows = list(aggregator.flush(max(record.logged_ns for record in records)))
    batch = BulkAggregator([folder], options=options)
    assert repr(list(batch.rows())) == repr(rows)
    assert batch.aggregator.counters.to_json() == aggregator.counters.to_json()
    assert batch.counters.records == len(records)
    values, learned = expected_values(logs, is_local, by_host, window_seconds, slide_seconds)
    moved = set()
    for row in rows:
        window = row.start_ns // 10**9
        for feature in OWN:
            key, nothing = feature.key, NAN if feature.measure.name == "producer_consumer_ratio" else 0
            value = values.get((key, row.series, window), nothing)
            if feature.measure.name.startswith("new_") and window < learned.get(row.series, window + 1):
                value = NAN
            assert row.values[key] == pytest.approx(value, rel=0, abs=0, nan_ok=True), (key, row.series, row.start_ns)
            if abs(value) > 0:
                moved.add(key)
    return moved


def needs(path):
    return pytest.mark.skipif(not path.exists(), reason=f"no real data: {path.name} (set MODS_DATA)")


def named(folder, pattern, read):
    return lambda protocol: [(log, read) for log in sorted(folder.glob(pattern.format(protocol)))]


@needs(ZEEK_TSV)
@pytest.mark.parametrize("by_host", [False, True], ids=["site", "host"])
@pytest.mark.parametrize("day", ["2024-04-19", "2024-04-20"])
def test_a_server_in_the_internet(day, by_host):
    moved = compare_all(
        ZEEK_TSV / day, named(ZEEK_TSV / day, "{}.*.gz", read_tsv), lambda end: pl.col(end).is_in(SERVER), SERVER, by_host
    )
    assert {"conn|in_failed", "conn|in_distinct_ports", "conn|out_new_host_bytes", "ssh|in_failed", "http|in_errors"} <= moved
    assert {"dns|out_nxdomain", "dns|out_max_subdomains", "dns|out_query_bytes", "conn|out_producer_consumer_ratio"} <= moved


@needs(APT29)
@pytest.mark.parametrize("by_host", [False, True], ids=["site", "host"])
def test_an_emulated_intrusion(by_host):
    is_local = lambda end: pl.col(end).str.starts_with("10.")  # noqa: E731
    moved = compare_all(APT29, named(APT29, "*_{}.log", read_json), is_local, ("10.0.0.0/8",), by_host, 600, 60)
    assert {"conn|internal_failed", "conn|internal_distinct_admin_hosts", "dns|internal_distinct_domains"} <= moved
    assert {"ssl|out_self_signed", "http|out_errors", "conn|out_max_host_bytes"} <= moved


@needs(ATTACKS)
@pytest.mark.parametrize("by_host", [False, True], ids=["site", "host"])
def test_attacks_from_captures(tmp_path, by_host):
    """Two days of workstations, and the attacks, whose times begin at 0, one an hour."""
    folders = sorted(path for path in ATTACKS.iterdir() if list(path.glob("*.log.gz")))
    folders += sorted(path for path in (ATTACKS / "workstations").iterdir() if path.is_dir())
    for index, folder in enumerate(folders):
        for log in folder.glob("*.log.gz"):
            with gzip.open(log, "rt") as file, (tmp_path / f"{index}_{log.name.removesuffix('.gz')}").open("w") as shifted:
                for line in file:
                    event = json.loads(line)
                    if event["ts"] < 1e9:
                        event["ts"] = round(event["ts"] + 1_655_071_200 + 3_600 * index, 6)
                    shifted.write(json.dumps(event) + "\n")
    is_local = lambda end: pl.col(end).str.starts_with("10.66.0.")  # noqa: E731
    moved = compare_all(tmp_path, named(tmp_path, "*_{}.log", read_json), is_local, ("10.66.0.0/24",), by_host)
    assert {"conn|out_failed", "conn|out_admin", "ssh|out_distinct_hosts", "ssh|in_distinct_hosts", "dns|out_nxdomain"} <= moved
    assert {"conn|out_new_hosts", "ssl|out_new_server_names", "dns|out_new_domains", "conn|out_distinct_host_ports"} <= moved


def test_every_own_column_has_a_query():
    assert {f"{feature.protocol}|{feature.measure.name}" for feature in OWN} == QUERIES.keys()
