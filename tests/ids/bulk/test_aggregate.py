"""Bulk aggregation of logs whose headers change or lack fields: the same records as line by line."""

import json
import random

import pytest

from mods_grpc.features import AggregatorOptions, Definition
from mods_grpc.ids.bulk.aggregate import BulkAggregator
from mods_grpc.ids.logs.line_rules import MAX_LINE_BYTES

START_SECOND = 1_713_484_800

FIELDS = "ts uid id.orig_h id.orig_p id.resp_h id.resp_p duration orig_bytes resp_bytes".split()
DAY = AggregatorOptions(window_seconds=86_400, slide_seconds=86_400, begin_ns=START_SECOND * 10**9)
END_NS = (START_SECOND + 86_400) * 10**9


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


def test_names_of_the_fields_without_header_lines_apply_to_the_whole_file(tmp_path):
    (tmp_path / "conn.log").write_text("\t".join(FIELDS) + "\n" + lines())
    batch, (count,) = aggregate(tmp_path, "conn|in_count_uid", block_bytes=1_000)
    assert count == 1_000
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


def json_lines(number, first_second, step_seconds, uid="C"):
    return "".join(
        json.dumps(
            {"ts": first_second + k * step_seconds, "id.orig_h": "203.0.113.1", "id.resp_h": "10.0.0.1", "uid": f"{uid}{k}"}
        )
        + "\n"
        for k in range(number)
    )


def tsv_lines(number, first_second, step_seconds, uid="C"):
    return header() + "".join(lines(number=1, ts=str(first_second + k * step_seconds), uid=f"{uid}{k}") for k in range(number))


@pytest.mark.parametrize("make_lines", [json_lines, tsv_lines])
@pytest.mark.parametrize(("block_bytes", "buffer_bytes", "wait_bytes"), [(600, 0, 0), (600, 4_000, 9_000), (1 << 20, 1 << 20, 0)])
def test_no_record_is_late_through_the_order_of_files(tmp_path, make_lines, block_bytes, buffer_bytes, wait_bytes):
    names = random.Random(3).sample(range(100), 24)
    for number, name in enumerate(names):
        sensor, day = divmod(number, 6)
        log = tmp_path / f"sensor{sensor}" / f"conn.{name}.log"
        log.parent.mkdir(exist_ok=True)
        records = 200 if sensor == 0 else 20
        log.write_text(make_lines(records, START_SECOND + day * 86_400, 80_000 // records, uid=f"C{number}."))
    batch = BulkAggregator(
        [tmp_path],
        Definition.of(["conn|in_count_uid"]),
        lateness_seconds=8_000,
        frame_bytes=0,
        block_bytes=block_bytes,
        buffer_bytes=buffer_bytes,
        wait_bytes=wait_bytes,
    )
    rows = list(batch.rows())
    assert batch.aggregator.counters.late == 0
    assert batch.aggregator.counters.added == 6 * (200 + 3 * 20)
    assert [row.start_ns for row in rows] == sorted(row.start_ns for row in rows)


def test_wrong_times_at_the_start_or_in_the_middle_of_a_file_make_no_others_late(tmp_path):
    ahead = START_SECOND + 30 * 86_400
    for number in range(3):
        good = tsv_lines(500, START_SECOND + number * 5, 60, uid=f"C{number}.")
        wrong = lines(number=1, ts=str(ahead))
        (tmp_path / f"conn.{number}.log").write_text(header() + (wrong * 2 + good if number == 0 else good + wrong))
    (tmp_path / "dns.log").write_text(header(FIELDS[:6], "dns") + lines(FIELDS[:6], ts=str(START_SECOND)))
    batch = BulkAggregator([tmp_path], lateness_seconds=600, block_bytes=500, frame_bytes=0, buffer_bytes=0)
    list(batch.rows())
    assert batch.aggregator.counters.late == 0


def test_few_lines_of_a_quiet_log_do_not_keep_the_windows_of_a_busy_one_open(tmp_path):
    (tmp_path / "conn.log").write_text(tsv_lines(5_000, START_SECOND, 60))
    for day in range(3):
        quiet = "".join(
            lines(FIELDS[:6], 1, uid=f"C{day}.{k}", ts=str(START_SECOND + day * 86_400 + k * 7_000)) for k in range(12)
        )
        (tmp_path / f"sip.{day}.log").write_text(header(FIELDS[:6], "sip") + quiet)
    blocks = []
    batch = BulkAggregator(
        [tmp_path],
        lateness_seconds=3_600,
        block_bytes=10_000,
        frame_bytes=0,
        buffer_bytes=10_000,
        wait_bytes=20_000,
        on_block=lambda path, size: blocks.append(path.name),
    )
    blocks_before = [len(blocks) for _ in batch.rows()]
    assert batch.aggregator.counters.late == 0
    assert batch.aggregator.counters.added == 5_000 + 3 * 12
    assert "sip.2.log" in blocks
    assert blocks_before[len(blocks_before) // 2] < 0.8 * len(blocks)


def test_a_line_that_is_just_short_enough_counts_at_the_end_of_a_file_and_before(tmp_path):
    few = ["ts", "uid", "id.orig_h", "id.resp_h", "x"]
    longest = lines(few, 1, x="").rstrip("\n")
    longest += "x" * (MAX_LINE_BYTES - len(longest))
    (tmp_path / "conn.log").write_text(header(few) + longest + "\n" + longest + "x\n" + longest)
    batch, (count,) = aggregate(tmp_path, "conn|in_count_uid", frame_bytes=0)
    assert count == 2
    assert batch.counters.malformed == {"long": 1}


@pytest.mark.parametrize("end_of_line", ["", "\t", "\r"])
def test_windows_are_complete_long_before_the_end_of_a_log_whatever_the_ends_of_its_lines(tmp_path, end_of_line):
    (tmp_path / "conn.log").write_text(tsv_lines(3_000, START_SECOND, 60).replace("\n", f"{end_of_line}\n"))
    blocks = []
    batch = BulkAggregator(
        [tmp_path],
        lateness_seconds=600,
        block_bytes=10_000,
        frame_bytes=0,
        buffer_bytes=0,
        on_block=lambda path, size: blocks.append(path),
    )
    blocks_before = [len(blocks) for _ in batch.rows()]
    assert batch.aggregator.counters.added == 3_000
    assert blocks_before[len(blocks_before) // 2] < 0.8 * len(blocks)
