"""Measure a watch: records per second through `mods-grpc watch` and a server, and the memory of both over time.

    python benchmarks/ingest/watch.py --records 10000000
    python benchmarks/ingest/watch.py --records 10000000 --hours 12 --group-by host

A writer fills conn, dns and ssh logs of ten thousand hosts as Zeek would, with a rotation per hour of event time, while the watch
follows them and the server scores every window. All three share the machine's cores. Seven in ten records are of conn, which
cost the watch most. Memory is resident. The last line is the log line of the watch when it is stopped.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Process, Value
from pathlib import Path

import numpy as np
import polars as pl

START = 1_772_409_600
HOSTS = 10_000
IDLE_SECONDS = 5  # without work of watch or server, everything is scored
COLUMNS = {
    "conn": "ts:time uid:string id.orig_h:addr id.orig_p:port id.resp_h:addr id.resp_p:port proto:enum service:string "
    "duration:interval orig_bytes:count resp_bytes:count conn_state:string",
    "dns": "ts:time uid:string id.orig_h:addr id.orig_p:port id.resp_h:addr id.resp_p:port proto:enum query:string AA:bool",
    "ssh": "ts:time uid:string id.orig_h:addr id.orig_p:port id.resp_h:addr id.resp_p:port version:count",
}
SHARES = {"conn": 0.7, "dns": 0.2, "ssh": 0.1}
ROOT = Path(__file__).parents[2]


def make_header(log: str, hour: int) -> str:
    fields = [one.split(":") for one in COLUMNS[log].split()]
    head = [
        "#separator \\x09",
        "#set_separator\t,",
        "#empty_field\t(empty)",
        "#unset_field\t-",
        f"#path\t{log}",
        f"#open\t{hour}",
    ]
    head += ["\t".join(["#fields", *(name for name, _ in fields)]), "\t".join(["#types", *(kind for _, kind in fields)])]
    return "\n".join(head) + "\n"


def make_lines(log: str, begin: int, number: int, draw: np.random.Generator) -> str:
    """Return the lines of a minute, in the order in which they are written."""
    host, other = draw.integers(0, HOSTS, number), draw.integers(0, 1 << 14, number)
    frame = pl.DataFrame(
        {
            "when": np.sort(draw.uniform(begin, begin + 60, number)),
            "duration": np.minimum(draw.exponential(3.0, number), 120.0),
            "host": host,
            "other": other,
            "id.orig_p": draw.integers(1_024, 65_536, number),
            "orig_bytes": draw.integers(0, 5_000, number),
            "resp_bytes": draw.integers(0, 90_000, number),
            "uid": draw.integers(1 << 60, 1 << 62, number),
        }
    )
    local = pl.format("10.0.{}.{}", pl.col("host") // 200, pl.col("host") % 200 + 1)
    remote = pl.format("198.18.{}.{}", pl.col("other") // 128, pl.col("other") % 128)
    inbound = pl.col("id.orig_p") % 2 == 0
    columns = {
        "ts": pl.col("when") - (pl.col("duration") if log == "conn" else 0.0),
        "uid": pl.format("C{}", "uid"),
        "id.orig_h": pl.when(inbound).then(remote).otherwise(local),
        "id.resp_h": pl.when(inbound).then(local).otherwise(remote),
        "id.resp_p": pl.lit({"conn": 443, "dns": 53, "ssh": 22}[log]),
        "proto": pl.lit("udp" if log == "dns" else "tcp"),
        "service": pl.lit("ssl"),
        "conn_state": pl.lit("SF"),
        "query": pl.format("host{}.example", pl.col("other") % 40),
        "AA": pl.lit("F"),
        "version": pl.lit(2),
    }
    names = [one.split(":")[0] for one in COLUMNS[log].split()]
    chosen = [columns[name].alias(name) if name in columns else pl.col(name) for name in names]
    return frame.select(chosen).write_csv(separator="\t", include_header=False, float_precision=6, quote_style="never")


class Writer:
    """Writes logs in a separate process, minute by minute of event time, and rotates them every hour of event time.

    Args:
        folder: Gets `current` and `archive`.
        records: Number of lines of all logs.
        hours: Event time that they span.
        rate: Lines per second; 0 for as fast as possible.
    """

    def __init__(self, folder: Path, records: int, hours: int, rate: float) -> None:
        self.current, self.archive = folder / "current", folder / "archive"
        self.current.mkdir()
        self.archive.mkdir()
        self._minutes, self._rate = hours * 60, rate
        self._records = records
        self._written = Value("q", 0)
        self.process = Process(target=self._write, daemon=True)

    def _write(self) -> None:
        draw, started_at = np.random.default_rng(1), time.monotonic()
        for minute in range(self._minutes):
            number = self._records * (minute + 1) // self._minutes - self._written.value
            for log, share in SHARES.items():
                path = self.current / f"{log}.log"
                if minute % 60 == 0 and path.exists():
                    path.rename(self.archive / f"{log}.{minute // 60:06d}.log")
                log_lines = make_lines(log, START + minute * 60, round(share * number), draw)
                with path.open("a") as file:
                    file.write(log_lines if file.tell() else make_header(log, minute // 60) + log_lines)
            self._written.value += number
            if self._rate:
                time.sleep(max(0.0, started_at + self._written.value / self._rate - time.monotonic()))

    def records_in(self, size: int) -> float:
        """Return the number of records in `size` bytes, by the mean size of those written."""
        total = sum(path.stat().st_size for folder in (self.current, self.archive) for path in folder.iterdir())
        return min(1.0, size / total) * self._written.value if total else 0.0


@contextmanager
def running(log: Path, until: str, *command: object) -> Iterator[subprocess.Popen[str]]:
    """Run a `mods-grpc` command in the background; wait until `until` is in its log."""
    words = [sys.executable, "-m", "mods_grpc", *map(str, command)]
    with log.open("w") as file, subprocess.Popen(words, stderr=file, text=True, cwd=ROOT) as process:
        while until not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(600)


def memory_mb(process: subprocess.Popen[str]) -> float:
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def seconds_used(process: subprocess.Popen[str]) -> float:
    ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def bytes_read(process: subprocess.Popen[str]) -> int:
    match = re.search(r"rchar: (\d+)", Path(f"/proc/{process.pid}/io").read_text())
    assert match is not None
    return int(match[1])


def observe(watch: subprocess.Popen[str], server: subprocess.Popen[str], writer: Writer, records: int) -> None:
    """Start the writer; print a line per tenth of the records until the watch has read and scored everything."""
    started_at, bytes_before, tenth, idle, busy = time.monotonic(), bytes_read(watch), 1, 0, 0.0
    writer.process.start()
    print("| records read | seconds | records/s | watch, MB | its CPU, s | server, MB |")
    print("|---:|---:|---:|---:|---:|---:|")
    while idle < IDLE_SECONDS:
        time.sleep(1.0)
        assert watch.poll() is None, "the watch has ended"
        read, used = writer.records_in(bytes_read(watch) - bytes_before), seconds_used(watch)
        if read >= records * tenth / 10:
            tenth = int(read * 10 / records) + 1
            took = time.monotonic() - started_at
            print(f"| {read:,.0f} | {took:.0f} | {read / took:,.0f} | ", end="")
            print(f"{memory_mb(watch):.0f} | {used:.0f} | {memory_mb(server):.0f} |", flush=True)
        used += seconds_used(server)
        idle = idle + 1 if read >= records and used - busy < 0.1 else 0
        busy = used
    print(f"\nall scored after {time.monotonic() - started_at - IDLE_SECONDS:.0f} s; watch {memory_mb(watch):.0f} MB")


def main() -> None:
    """Run the measurement once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000_000, help="lines in all logs (default %(default)s)")
    parser.add_argument("--hours", type=int, default=48, help="event time they span (default %(default)s)")
    parser.add_argument("--rate", type=float, default=0, help="lines written per second (default: as fast as possible)")
    parser.add_argument(
        "--group-by", default="site", choices=["site", "host"], help="what a series stands for (default %(default)s)"
    )
    parser.add_argument("--model", default="campus", help="model of exported/ (default %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        writer = Writer(Path(root), arguments.records, arguments.hours, arguments.rate)
        address = f"unix:{root}/server.sock"
        logs = Path(root) / "serve.txt", Path(root) / "watch.txt"
        serve = ["serve", "exported", "--address", address, "--health-address", "127.0.0.1:0"]
        options = ["--local", "10.0.0.0/8", "--group-by", arguments.group_by, "--false-alarms-per-day", "0.01"]
        places = ["--archive", writer.archive, "--state", f"{root}/state", "--alerts", f"jsonl:{root}/alerts.jsonl"]
        source = ["watch", "--zeek", writer.current, "--server", address, "--model", arguments.model]
        with running(logs[0], " serving ", *serve) as server:
            with running(logs[1], " watching ", *source, *options, *places) as watch:
                observe(watch, server, writer, arguments.records)
            print(logs[1].read_text().splitlines()[-1])


if __name__ == "__main__":
    main()
