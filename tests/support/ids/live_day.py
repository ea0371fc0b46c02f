"""Writes eight hours of Zeek logs at a given speed, rotated every hour; after a kill it resumes where it stopped.

Run as a script: python live_day.py CURRENT ARCHIVE SPEED
"""

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

START = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
HOURS = 8
PER_MINUTE = 50.0  # so that a window of 20 minutes holds 1000, as the tiny model is calibrated for
HOSTS = ("10.0.0.1", "10.0.0.2")
BURSTS = {  # host: minutes in which its traffic becomes several times what it was, and factor
    HOSTS[0]: {70: 4, 190: 6, 298: 5, 420: 8},
    HOSTS[1]: {130: 5, 250: 3, 359: 9},
}
COLUMNS = {
    "conn": "ts uid id.orig_h id.orig_p id.resp_h id.resp_p proto duration orig_bytes resp_bytes",
    "ssh": "ts uid id.orig_h id.orig_p id.resp_h id.resp_p version",
}
TYPES = {
    "conn": "time string addr port addr port enum interval count count",
    "ssh": "time string addr port addr port count",
}


def make_lines(minutes=HOURS * 60, per_minute=PER_MINUTE):
    """Return (time of writing, log, line) of the whole stretch, in order of time; the same every time.

    `per_minute` is how many connections of either kind each host gets.
    """
    rng = np.random.default_rng(4)
    entries = []
    for host in HOSTS:
        for minute in range(minutes):
            factor = max([size for begin, size in BURSTS[host].items() if begin <= minute < begin + 6], default=1)
            for log in COLUMNS:
                for second in rng.uniform(0, 60, rng.poisson(per_minute * factor)):
                    ts, duration = START + minute * 60 + second, float(rng.exponential(3.0))
                    uid, port = f"C{len(entries):x}", int(rng.integers(1024, 65536))
                    shared = f"{ts:.6f}\t{uid}\t192.0.2.{port % 250}\t{port}\t{host}\t22"
                    tail = f"tcp\t{duration:.6f}\t{port}\t9" if log == "conn" else "2"
                    entries.append((ts + duration if log == "conn" else ts, log, f"{shared}\t{tail}\n"))
    return sorted(entries)


def format_header(log):
    fields, types = (names.replace(" ", "	") for names in (COLUMNS[log], TYPES[log]))
    opened = f"#open\t{time.time_ns()}"
    start = ["#separator \\x09", "#set_separator\t,", "#empty_field\t(empty)", "#unset_field\t-", f"#path\t{log}", opened]
    return "\n".join([*start, f"#fields\t{fields}", f"#types\t{types}"]) + "\n"


def rotate(current, archive, log):
    path = current / f"{log}.log"
    if path.exists():
        archive.mkdir(parents=True, exist_ok=True)
        path.rename(archive / f"{log}.{len(list(archive.glob(f'{log}.*'))):04d}.log")


def count_lines(current, archive, log):
    """Count the whole lines of a log."""
    files = [*archive.glob(f"{log}.*.log"), *current.glob(f"{log}.log")]
    return sum(
        line.endswith(b"\n") and not line.startswith(b"#") for file in files for line in file.read_bytes().splitlines(True)
    )


def main(current, archive, speed):
    everything = make_lines()
    remaining = []
    skip = {log: count_lines(current, archive, log) for log in COLUMNS}
    for entry in everything:
        if skip[entry[1]]:
            skip[entry[1]] -= 1
        else:
            remaining.append(entry)
    for log in COLUMNS:  # as Zeek does with what a crash left
        rotate(current, archive, log)
    begin, first = time.monotonic(), remaining[0][0] if remaining else 0.0
    files, hours = {}, {}
    for when, log, line in remaining:
        time.sleep(max(0.0, begin + (when - first) / speed - time.monotonic()))
        hour = when // 3600
        if log not in files or hours[log] != hour:
            if log in files:
                os.close(files[log])
                rotate(current, archive, log)
            files[log] = os.open(current / f"{log}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(files[log], format_header(log).encode())
            hours[log] = hour
        data = line.encode()
        half = len(data) // 2 if int(when) % 7 == 0 else len(data)  # a kill can fall between the two
        os.write(files[log], data[:half])
        os.write(files[log], data[half:])
    for file in files.values():
        os.close(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
