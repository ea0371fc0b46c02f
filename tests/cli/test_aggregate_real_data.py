"""Aggregates of real logs, counted again by queries that share no code with ours; skipped where the data is absent."""

import gzip
import io

import numpy as np
import polars as pl
import pytest

from mods_grpc.cli.main import main
from mods_grpc.data.datapool_layout import JOIN_COLUMNS
from mods_grpc.features import Aggregator, AggregatorOptions, Definition
from mods_grpc.features.accumulators import PartialCell
from mods_grpc.features.aggregate_rows import AggregatorCounters
from mods_grpc.features.definitions import FEATURES
from mods_grpc.ids.bulk.aggregate import BulkAggregator
from mods_grpc.ids.sources.reader import LogReader
from tests.support.real_data import DATA

ZEEK_TSV, ZEEK_JSON, DATAPOOL, MODS_2018 = (
    DATA / "zeek-tsv/2024-04-19",
    DATA / "zeek-json/apt29-day1",
    DATA / "mods-datapool",
    DATA / "mods-2018",
)

DAY_PANES = 144
DATAPOOL_LOGS = ("conn", "dns", "http", "ssl", "ssh", "sip")


def needs(path):
    return pytest.mark.skipif(not path.exists(), reason=f"no real data: {path.name} (set MODS_DATA)")


def streamed(path, **options):
    aggregator = Aggregator(options=AggregatorOptions(**options))
    with LogReader(path) as reader:
        records = list(reader.poll())
        aggregator.add_many(records)
    assert reader.counters.rejected == 0
    assert reader.lost == []
    return list(aggregator.flush(max(record.logged_ns for record in records)))


def zeek_table(protocol):
    """Read a protocol's logs with polars alone."""
    frames = []
    for log in sorted(ZEEK_TSV.glob(f"{protocol}.*.gz")):
        text = gzip.decompress(log.read_bytes())
        names = next(line for line in text.decode().splitlines() if line.startswith("#fields")).split("\t")[1:]
        frame = pl.read_csv(
            io.BytesIO(text),
            separator="\t",
            comment_prefix="#",
            has_header=False,
            new_columns=names,
            null_values="-",
            quote_char=None,
            infer_schema=False,
        )
        frames.append(frame)
    return pl.concat(frames)


def json_table(protocol):
    frames = [pl.read_ndjson(log, infer_schema_length=None) for log in sorted(ZEEK_JSON.glob(f"*_{protocol}.log"))]
    table = (
        pl.concat(frames, how="diagonal_relaxed")
        if frames
        else pl.DataFrame(schema={"ts": pl.Float64, "id_orig_h": pl.String, "id_resp_h": pl.String})
    )
    table = table.rename({name: name.replace("id_", "id.") for name in table.columns if name.startswith("id_")})
    return table.with_columns(
        pl.col(name).cast(pl.String) for name in table.columns if table[name].dtype in {pl.Float64, pl.Int64, pl.Boolean}
    )


def recount(table, column, direction, is_local):
    """Return a function of a window's start and end in seconds: the value of a column of the datapool, by SQL's rules."""
    orig, resp = is_local("id.orig_h"), is_local("id.resp_h")
    ways = {"in": ~orig & resp, "out": orig & ~resp, "internal": orig & resp}
    mine = table.filter(ways[direction]).with_columns(pl.col("ts").cast(pl.Decimal(20, 6)).alias("at"))
    measure = column.removeprefix(direction).removeprefix("_") or "count_uid"
    kind, _, name = measure.partition("_")
    name = name.strip("`")

    def value(start, end):
        rows = mine.filter((pl.col("at") >= start) & (pl.col("at") < end))
        if kind == "count":
            return len(rows)
        if kind == "sum":
            return rows[name].cast(pl.Int64).sum()
        if kind == "avg":
            return rows[name].cast(pl.Float64).mean()
        if kind == "distinct":
            return rows[name].drop_nulls().n_unique()
        field, truth = measure.rsplit("_", 1)
        return rows[field].is_in([truth, truth[0].upper()]).sum()

    return value


def compare(rows, tables, window_seconds, is_local, every):
    """Compare the columns of the datapool; tests/ids/bulk/test_own_columns.py compares the others."""
    compared = dict.fromkeys(tables, 0)
    for feature in FEATURES:
        if feature.measure.is_own:
            continue
        table = tables[feature.protocol]
        if not len(table):
            assert all(row.values[feature.key] == 0 for row in rows)
            continue
        expected = recount(table, feature.column, feature.direction, is_local)
        for row in rows[::every]:
            start = row.start_ns // 10**9
            counted, actual = expected(start, start + window_seconds), row.values[feature.key]
            close = np.isnan(actual) if counted is None else actual == pytest.approx(counted, rel=1e-9, abs=1e-6)
            assert close, (feature.key, start)
            compared[feature.protocol] += bool(counted)
    return compared


@needs(ZEEK_TSV)
def test_a_day_of_zeek_tsv_holds_what_an_independent_query_counts():
    rows = streamed(ZEEK_TSV, local_networks=("64.225.56.201",))
    assert len(rows) == 139 - 1
    batch = BulkAggregator([ZEEK_TSV], options=AggregatorOptions(local_networks=("64.225.56.201",)))
    assert repr(list(batch.rows())) == repr(rows)
    tables = {protocol: zeek_table(protocol) for protocol in DATAPOOL_LOGS}
    assert batch.counters.records == sum(map(len, tables.values())) == 49_799
    assert batch.counters.rejected == 0
    compared = compare(rows, tables, 3_600, lambda name: pl.col(name) == "64.225.56.201", every=23)
    assert all(compared.values())


@needs(ZEEK_JSON)
def test_zeek_json_holds_what_an_independent_query_counts():
    rows = streamed(ZEEK_JSON, window_seconds=600, slide_seconds=60)
    batch = BulkAggregator([ZEEK_JSON], options=AggregatorOptions(window_seconds=600, slide_seconds=60))
    assert repr(list(batch.rows())) == repr(rows)
    tables = {protocol: json_table(protocol) for protocol in DATAPOOL_LOGS}
    assert batch.counters.records == sum(map(len, tables.values())) == 1_106
    local = r"^(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|127\.|f[cd]..:|fe[89ab].:|::1$)"
    compared = compare(rows, tables, 600, lambda name: pl.col(name).str.contains(local), every=7)
    assert all(compared[protocol] for protocol in ("conn", "dns", "http", "ssl"))


@needs(ZEEK_TSV)
@needs(DATAPOOL)
def test_the_files_have_the_headers_of_the_original_datapool(tmp_path):
    pool = tmp_path / "pool"
    times = ["--from", "2024-04-19", "--to", "2024-04-20"]
    assert main(["aggregate", str(ZEEK_TSV), "--output", str(pool), "--local", "64.225.56.201", *times]) == 0
    for protocol in DATAPOOL_LOGS:
        (original,) = (DATAPOOL / "features" / protocol / "2019/06/03").glob("*.tsv")
        (written,) = (pool / protocol).rglob("*.tsv")
        assert written.name == original.name
        lines = written.read_text().splitlines()
        features = [feature for feature in FEATURES if feature.protocol == protocol]
        of_datapool = [*JOIN_COLUMNS, *(feature.column for feature in features if not feature.measure.is_own)]
        header = lines[0].split("\t")
        assert header[: len(of_datapool)] == original.read_text().splitlines()[0].split("\t") == of_datapool
        assert header[len(of_datapool) :] == [feature.column for feature in features if feature.measure.is_own]
        assert [lines[1].split("\t")[0], lines[-1].split("\t")[1]] == ["2024-04-19T00:00:00.000Z", "2024-04-20T00:00:00.000Z"]
        assert len(lines) == 1 + 139


@needs(MODS_2018)
def test_sliding_hours_are_the_sums_of_the_published_tumbling_ten_minutes():
    counts = {}
    for name in ("w10m-s10m", "w01h-s10m"):
        with gzip.open(MODS_2018 / f"{name}.tsv.gz", "rt") as file:
            columns = file.readline().rstrip("\n").split("\t")
            at, value = columns.index("window_start"), columns.index("number_of_conn")
            cells = [line.rstrip("\n").split("\t") for line in file]
        counts[name] = {np.datetime64(row[at].replace(" ", "T"), "m"): int(float(row[value])) for row in cells if row[value]}
    aggregator = Aggregator(Definition.of(["conn|in_count_uid"]), AggregatorOptions(idle_timeout_seconds=10**9))
    tumbling = {int(start.astype(np.int64)) // 10: count for start, count in counts["w10m-s10m"].items()}
    partials = [PartialCell(pane, "site", "conn", "in", False, [count]) for pane, count in sorted(tumbling.items())]
    rows = []
    for first in range(0, len(partials), DAY_PANES):
        part = partials[first : first + DAY_PANES]
        aggregator.add_partials(part, AggregatorCounters(oldest_ns=part[0].pane * 600 * 10**9, added=len(part)))
        rows += aggregator.advance(part[-1].pane * 600 * 10**9)
    compared = equal = 0
    for row in [*rows, *aggregator.flush()]:
        first = row.start_ns // (600 * 10**9)
        # the hourly table's clock is two hours behind the other's
        published = counts["w01h-s10m"].get(np.datetime64(first * 10 - 120, "m"))
        if published is not None and all(pane in tumbling for pane in range(first, first + 6)):
            compared += 1
            equal += row.values["conn|in_count_uid"] == published
    assert compared > 20_000
    assert equal / compared >= 0.999
