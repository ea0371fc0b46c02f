"""Hours of Zeek's or Suricata's logs, written live in each way of naming and rotating them, by a process that may be killed.

Run as a script, it writes the logs and resumes where it was killed: python setups.py NAME ROOT SPEED HOURS
"""

import gzip
import json
import os
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.ids import live_day

ROTATION_SECONDS = 1.5
DATED_SECONDS = 1_800  # of the logs' time, after which a dated log is followed by the next


def format_event(when, log, line):
    """Return a line of the day as Suricata would write it, when it was logged."""
    ts, uid, orig, port, resp, _, *rest = line.split("\t")
    start, end = (datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f+0000") for at in (float(ts), when))
    event = {"timestamp": end, "flow_id": int(uid[1:], 16), "event_type": "flow" if log == "conn" else "ssh"}
    event |= {"src_ip": orig, "src_port": int(port), "dest_ip": resp, "dest_port": 22, "proto": "TCP"}
    if log == "conn":
        event["flow"] = {"start": start, "end": end, "bytes_toserver": int(rest[2]), "bytes_toclient": 9}
    return json.dumps(event) + "\n"


class LiveSetup(ABC):
    """A way of naming and rotating logs: `write` runs in the writer's process, `rotate` in that of the rotating tool.

    Attributes:
        followed: What a watch follows.
        options: The flags for it.
        recorded: What a replay reads at the end.
    """

    def __init__(self, root):
        self.root = root
        self.followed = root / "log" / "eve.json"
        self.recorded = [root / "log"]
        self._files = {}
        self._numbers = {}

    @property
    def options(self):
        return ["--eve", self.followed]

    def path(self, when, log, number):
        return self.followed

    def header(self, log):
        return ""

    def line(self, when, log, line):
        return format_event(when, log, line)

    def start(self):  # noqa: B027 - most set-ups have nothing to begin
        """Begin to write, after a kill perhaps."""

    def write(self, when, log, line, number):
        path = self.path(when, log, number)
        if path not in self._files:
            self._open(path, log)
        data = self.line(when, log, line).encode()
        half = len(data) // 2 if int(when) % 7 == 0 else len(data)  # a kill can fall between the two
        os.write(self._files[path], data[:half])
        os.write(self._files[path], data[half:])

    def _open(self, path, log):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._files[path] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        if not os.fstat(self._files[path]).st_size:
            os.write(self._files[path], self.header(log).encode())

    def reopen(self):
        """Open the logs again, as after a signal."""
        for file in self._files.values():
            os.close(file)
        self._files = {}

    @abstractmethod
    def rotate(self, writer, pause):
        """Rotate all logs.

        Args:
            writer: The process; its `signal` is sent, and it may be `stopped`.
            pause: Called between two operations.
        """


class Zeek(LiveSetup):
    """Zeek under zeekctl: it renames its logs itself, others compress them into the archive."""

    def __init__(self, root):
        super().__init__(root)
        self.followed = root / "logs" / "current"
        self.recorded = [root / "logs"]

    @property
    def options(self):
        return ["--zeek", self.followed]

    def path(self, when, log, number):
        return self.followed / f"{log}.log"

    def header(self, log):
        return live_day.format_header(log)

    def line(self, when, log, line):
        return line

    def live_folders(self):
        return [self.followed]

    def start(self):
        self.reopen()

    def reopen(self):
        super().reopen()
        for folder in self.live_folders():
            for path in folder.glob("[a-z]*.log"):
                if "-" not in path.name:
                    path.rename(path.with_name(f"{path.stem}-{time.time_ns()}.log"))

    def rotate(self, writer, pause):
        writer.signal(signal.SIGHUP)
        pause()
        for folder in self.live_folders():
            for path in sorted(folder.glob("*-*.log")):
                log, _, stamp = path.stem.partition("-")
                compress(path, self.archived(log, stamp, folder), pause)

    def archived(self, log, stamp, folder):
        # a second for each millisecond, so that names differ
        when = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(seconds=int(stamp) // 10**6 % 86_400_000)
        until = when + timedelta(seconds=1)
        return (
            self.root / "logs" / when.strftime("%Y-%m-%d") / f"{log}.{when:%H:%M:%S}-{until:%H:%M:%S}{self.suffix(folder)}.log.gz"
        )

    def suffix(self, folder):
        return ""


class ZeekLoggers(Zeek):
    """A cluster with two loggers."""

    def __init__(self, root):
        super().__init__(root)
        self.followed = root / "spool"
        self.recorded = [root / "logs"]

    @property
    def options(self):
        (self.root / "logs").mkdir(exist_ok=True)
        return ["--zeek", self.followed, "--archive", self.root / "logs"]

    def live_folders(self):
        return [self.followed / f"logger-{number}" for number in (1, 2)]

    def path(self, when, log, number):
        return self.followed / f"logger-{number % 2 + 1}" / f"{log}.log"

    def suffix(self, folder):
        return f"-{folder.name}"


class Logrotate(LiveSetup):
    """Logrotate with `create`."""

    delays = False

    def live_files(self):
        return [self.followed]

    def rotate(self, writer, pause):
        for path in self.live_files():
            first = path.with_name(f"{path.name}.1")
            if not path.exists() or not path.stat().st_size:
                continue
            if self.delays and first.exists():
                compress(first, first.with_name(f"{first.name}.gz"), pause)
            move_on(path, pause)
            path.rename(first)
            pause()
            path.touch()
        pause()
        writer.signal(signal.SIGHUP)
        pause()
        for path in self.live_files():
            first = path.with_name(f"{path.name}.1")
            if not self.delays and first.exists():
                compress(first, first.with_name(f"{first.name}.gz"), pause)


class LogrotateDelayed(Logrotate):
    """Logrotate with `delaycompress`."""

    delays = True


class CopyTruncate(LiveSetup):
    """Logrotate with `copytruncate`; the writer waits between the last copied byte and the truncation, else lines were lost."""

    def rotate(self, writer, pause):
        path = self.followed
        if not path.exists() or not path.stat().st_size:
            return
        move_on(path, pause)
        copy = path.with_name(f"{path.name}.1")
        with copy.open("wb") as file:
            file.write(path.read_bytes())
            file.flush()
            pause()
            with writer.stopped():
                file.seek(0)
                file.write(path.read_bytes())
                file.flush()
                os.truncate(path, 0)
        pause()
        compress(copy, copy.with_name(f"{copy.name}.gz"), pause)


class Dated(LiveSetup):
    """Suricata's `rotate-interval` with dates in the names."""

    def __init__(self, root):
        super().__init__(root)
        self.followed = root / "log"

    def path(self, when, log, number):
        stamp = datetime.fromtimestamp(when // DATED_SECONDS * DATED_SECONDS, UTC).strftime("%Y-%m-%d-%H:%M")
        return self.followed / f"eve-{stamp}.json"

    def rotate(self, writer, pause):
        for path in sorted(self.followed.glob("eve-*.json"))[:-2]:
            compress(path, path.with_name(f"{path.name}.gz"), pause)


class Threaded(LogrotateDelayed):
    """Suricata's `threaded` with logrotate."""

    def __init__(self, root):
        super().__init__(root)
        self.followed = root / "log"

    def path(self, when, log, number):
        return self.followed / f"eve.{number % 3 + 1}.json"

    def live_files(self):
        return [self.followed / f"eve.{number}.json" for number in (1, 2, 3)]


SETUPS = {
    "zeek": Zeek,
    "zeek-loggers": ZeekLoggers,
    "create": Logrotate,
    "delaycompress": LogrotateDelayed,
    "copytruncate": CopyTruncate,
    "dated": Dated,
    "threaded": Threaded,
}


def move_on(path, pause):
    """Give the rotated files of a log the next number."""
    numbered = {int(file.name.removeprefix(f"{path.name}.").split(".")[0]): file for file in path.parent.glob(f"{path.name}.*")}
    for number in sorted(numbered, reverse=True):
        end = ".gz" if numbered[number].suffix == ".gz" else ""
        numbered[number].rename(path.with_name(f"{path.name}.{number + 1}{end}"))
        pause()


def compress(source, target, pause):
    """Compress as `gzip` does: the target grows, the source is deleted when it is whole."""
    data = gzip.compress(source.read_bytes(), 1)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        pause()
        file.write(data[len(data) // 2 :])
    pause()
    source.unlink()
    pause()


def main(name, root, speed, hours):
    setup = SETUPS[name](root)
    entries = live_day.make_lines(minutes=hours * 60)
    progress = os.open(root / "written", os.O_RDWR | os.O_CREAT)
    at = int(os.pread(progress, 20, 0) or 0)
    wanted = threading.Event()
    signal.signal(signal.SIGHUP, lambda *_: wanted.set())
    setup.start()
    begin, first = time.monotonic(), entries[at][0] if at < len(entries) else 0.0
    for number in range(at, len(entries)):
        when, log, line = entries[number]
        time.sleep(max(0.0, begin + (when - first) / speed - time.monotonic()))
        if wanted.is_set():
            wanted.clear()
            setup.reopen()
        setup.write(when, log, line, number)
        os.pwrite(progress, f"{number + 1:<20}".encode(), 0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # else one at the end of the interpreter kills it
    setup.reopen()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
