"""Measure aggregation: records per second in batch and live, of one file and of many, memory, ten thousand hosts as series.

    python benchmarks/ingest/aggregate.py --records 10000000

Writes a conn.log with this number of records to a temporary folder (about 110 MB per million) and reads it, then folders
with gzip files of an hour, 500 records each. Polars is limited to one thread, so the results are for one core; times are
processor time.
"""

import argparse
import gzip
import os
import random
import resource
import tempfile
import time
from pathlib import Path

os.environ["POLARS_MAX_THREADS"] = "1"

from mods_grpc.features import Aggregator, AggregatorOptions, Definition, GroupBy
from mods_grpc.ids.bulk.aggregate import BulkAggregator
from mods_grpc.ids.sources.reader import LogReader

START = 1_713_484_800
LATENESS_NS = 300 * 10**9
HOSTS = 10_000
RECORDS_PER_HOUR = 500
HEADER = (
    "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n"
    "#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tservice\tduration\torig_bytes\tresp_bytes\tconn_state\tlocal_orig\tlocal_resp\thistory\n"
    "#types\ttime\tstring\taddr\tport\taddr\tport\tenum\tstring\tinterval\tcount\tcount\tstring\tbool\tbool\tstring\n"
)


def write_log(path: Path, records: int, per_second: int) -> None:
    """Write connections of ten thousand local hosts with fifty thousand others, `per_second` of them per second of event time."""
    draw = random.Random(1)
    others = [f"198.{draw.randrange(18, 20)}.{draw.randrange(256)}.{draw.randrange(256)}" for _ in range(50_000)]
    with path.open("w") as file:
        file.write(HEADER)
        for number in range(records):
            host = number % HOSTS
            local, other, ts = f"10.0.{host >> 8}.{host & 255}", others[number * 7919 % 50_000], START + number / per_second
            ends = (other, local) if number & 1 else (local, other)
            file.write(
                f"{ts:.6f}\tC{number:012x}\t{ends[0]}\t{1024 + number % 60_000}\t{ends[1]}\t443\ttcp\tssl\t"
                f"{number % 997 / 100:.6f}\t{number % 4_001}\t{number % 90_001}\tSF\t-\t-\tShADadFf\n"
            )


def write_hourly_logs(folder: Path, files: int) -> None:
    """Write compressed files of an hour with 500 connections each, in one folder per day."""
    for hour in range(files):
        first = START + hour * 3_600
        rows = "".join(
            f"{first + number * 7.2:.6f}\tC{hour:x}-{number:x}\t10.0.0.{number % 250}\t{1024 + number}\t198.18.0.{number % 256}\t"
            f"443\ttcp\tssl\t1.5\t{number}\t{2 * number}\tSF\t-\t-\tShADadFf\n"
            for number in range(RECORDS_PER_HOUR)
        )
        day = folder / f"day-{hour // 24:04d}"
        day.mkdir(parents=True, exist_ok=True)
        name = f"conn.{hour % 24:02d}:00:00-{(hour + 1) % 24:02d}:00:00.log.gz"
        (day / name).write_bytes(gzip.compress((HEADER + rows).encode(), compresslevel=1))


def memory_mb() -> float:
    """Return the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def report(name: str, records: int, seconds: float, rows: int, memory: list[float]) -> None:
    half = memory[len(memory) // 2 :]
    print(
        f"{name:34} {records / seconds:10,.0f} records/s  {rows:8,} rows  memory at 10 % {memory[len(memory) // 10]:5.0f} MB, "
        f"second half {min(half):5.0f} to {max(half):5.0f} MB"
    )


def measure_batch(log: Path, records: int, group_by: GroupBy, name: str = "batch") -> None:
    memory: list[float] = []
    options = AggregatorOptions(local_networks=("10.0.0.0/8",), group_by=group_by)
    started_at = time.process_time()
    bulk = BulkAggregator(
        [log], Definition.of(KEYS), options, lateness_seconds=600, on_block=lambda _path, _size: memory.append(memory_mb())
    )
    rows = sum(1 for _ in bulk.rows())
    assert bulk.aggregator.counters.added == records, bulk.aggregator.counters
    report(f"{name}, by {group_by}", records, time.process_time() - started_at, rows, memory)


def measure_live(log: Path, records: int, group_by: GroupBy) -> None:
    memory: list[float] = []
    aggregator = Aggregator(Definition.of(KEYS), AggregatorOptions(local_networks=("10.0.0.0/8",), group_by=group_by))
    rows = 0
    started_at = time.process_time()
    with LogReader(log) as reader:
        for number, record in enumerate(reader.poll()):
            aggregator.add(record)
            if number % 10_000 == 0:
                rows += len(aggregator.advance(record.ts - LATENESS_NS))
                memory.append(memory_mb())
    assert aggregator.counters.added == records, aggregator.counters
    report(f"live, by {group_by}", records, time.process_time() - started_at, rows, memory)


KEYS = [
    f"conn|{way}_{name}" for way in ("in", "out") for name in ("sum_orig_bytes", "sum_resp_bytes", "avg_duration", "count_uid")
]


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2_000_000, help="connections in the log (default %(default)s)")
    parser.add_argument("--per-second", type=int, default=50, help="connections per second of event time (default %(default)s)")
    parser.add_argument("--files", type=int, default=1_000, help="hourly files (default %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "conn.log"
        write_log(log, arguments.records, arguments.per_second)
        for group_by in (GroupBy.SITE, GroupBy.HOST):
            measure_batch(log, arguments.records, group_by)
            measure_live(log, arguments.records, group_by)
        write_hourly_logs(Path(folder) / "hourly", arguments.files)
        measure_batch(
            Path(folder) / "hourly", arguments.files * RECORDS_PER_HOUR, GroupBy.SITE, f"batch, {arguments.files:,} files"
        )


if __name__ == "__main__":
    main()
