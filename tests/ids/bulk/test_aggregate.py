"""Bulk aggregation of logs whose headers change or lack fields: the same records as line by line."""

from mods_grpc.features import AggregatorOptions, Definition
from mods_grpc.ids.bulk.aggregate import BulkAggregator

FIELDS = "ts uid id.orig_h id.orig_p id.resp_h id.resp_p duration orig_bytes resp_bytes".split()
DAY = AggregatorOptions(window_seconds=86_400, slide_seconds=86_400, begin_ns=1_713_484_800 * 10**9)
END_NS = 1_713_571_200 * 10**9


def header(fields=FIELDS, path="conn"):
    return f"#separator \\x09\n#path\t{path}\n#fields\t" + "\t".join(fields) + "\n"


def lines(fields=FIELDS, number=1_000, **values):
    cells = {
        "ts": "1713488400.5",
        "uid": "C1",
        "id.orig_h": "203.0.113.1",
        "id.orig_p": "1024",
        "id.resp_h": "10.0.0.1",
        "id.resp_p": "22",
        "duration": "1.5",
        "orig_bytes": "100",
        "resp_bytes": "200",
    }
    return ("\t".join({**cells, **values}[name] for name in fields) + "\n") * number


def aggregate(path, *keys, **options):
    """Return the bulk aggregator after its end, and some features of the one day in the logs."""
    batch = BulkAggregator([path], Definition.of(list(keys)), DAY, end_ns=END_NS, **options)
    (row,) = batch.rows()
    return batch, list(row.values.values())


def test_lines_are_read_by_the_header_above_them_when_the_order_of_columns_changes(tmp_path):
    swapped = [*FIELDS[:-2], "resp_bytes", "orig_bytes"]
    (tmp_path / "conn.log").write_text(header() + lines() + header(swapped) + lines(swapped))
    batch, sums = aggregate(tmp_path, "conn|in_sum_orig_bytes", "conn|in_sum_resp_bytes")
    assert sums == [200_000, 400_000]
    assert batch.counters.malformed == {}


def test_lines_above_a_header_with_more_columns_are_records(tmp_path):
    more = [*FIELDS, "local_orig"]
    (tmp_path / "conn.log").write_text(header() + lines() + header(more) + lines(more, local_orig="F"))
    batch, (count,) = aggregate(tmp_path, "conn|in_count_uid")
    assert count == 2_000
    assert batch.counters.malformed == {}


def test_joined_logs_of_several_protocols_are_told_apart_by_their_headers(tmp_path):
    short = FIELDS[:6]
    (tmp_path / "conn.log").write_text(header() + lines() + header(short, "ssh") + lines(short) + header() + lines())
    batch, counts = aggregate(tmp_path, "conn|in_count_uid", "ssh|in")
    assert counts == [2_000, 1_000]
    assert batch.counters.records_by_protocol == {"conn": 2_000, "ssh": 1_000}


def test_a_log_without_optional_columns_is_read_by_columns(tmp_path):
    few = ["ts", "uid", "id.orig_h", "id.resp_h"]
    (tmp_path / "conn.log").write_text(header(few) + lines(few))
    (tmp_path / "dns.log").write_text(header(few, "dns") + lines(few))
    _, values = aggregate(tmp_path, "conn|in_count_uid", "conn|in_sum_orig_bytes", "dns|in_count_uid", "dns|in_distinct_query")
    assert values == [1_000, 0, 1_000, 0]
