"""Writers of live logs, rotated as the real tools do it, one operation on the file system at a time."""

import gzip
import json
import os

from tests.support.live_logs import logrotate
from tests.support.live_logs.live_setup import Setup, compress

STATS = (
    json.dumps({"timestamp": "2024-04-19T00:00:00.000000+0000", "event_type": "stats", "stats": {"uptime": "0" * 3_000}}) + "\n"
)
LATE = 99  # number of a writer of late lines


class ZeekStandalone(Setup):
    """Zeek under zeekctl: the log is renamed in its folder, compressed into the archive, and made anew by the next record."""

    form = "tsv"

    def make_writers(self):
        current = self.root / "current"
        return [self.writer(current / "conn.log", 1), self.writer(current / "ssh.log", 2, "ssh")]

    def make_followed(self):
        return [self.root / "current"]

    def archived(self, writer):
        name = f"{writer.path.stem}.{self.stamp('%H:00:00', self.rotations - 1)}-{self.stamp('%H:00:00')}"
        return self.root / self.stamp("%Y-%m-%d", self.rotations - 1) / f"{name}.log.gz"

    def rotate(self, writer):
        if not writer.path.exists():
            return
        writer.close()
        rotated = writer.path.with_name(f"{writer.path.stem}-{self.stamp('%y-%m-%d_%H.%M.%S')}.log")
        writer.path.rename(rotated)
        yield
        target = self.archived(writer)
        target.parent.mkdir(parents=True, exist_ok=True)
        yield from compress(rotated, target)


class ZeekJson(ZeekStandalone):
    """The same with JSON logs."""

    form = "zeek-json"


class ZeekLoggers(ZeekStandalone):
    """A cluster with two loggers, of which the spool is followed."""

    def make_writers(self):
        spool = self.root / "spool"
        return [self.writer(spool / f"logger-{number}" / "conn.log", number) for number in (1, 2)]

    def make_followed(self):
        self.archive = self.root / "logs"
        self.archive.mkdir(parents=True)
        return [self.root / "spool"]

    def archived(self, writer):
        name = f"conn.{self.stamp('%H:00:00', self.rotations - 1)}-{self.stamp('%H:00:00')}-{writer.path.parent.name}"
        return self.archive / self.stamp("%Y-%m-%d", self.rotations - 1) / f"{name}.log.gz"


class LogrotateDates(Setup):
    """Logrotate with `dateext` and `olddir` below the folder of the log."""

    def rotate(self, writer):
        if not writer.path.exists():
            return
        old = writer.path.parent / "old"
        old.mkdir(exist_ok=True)
        rotated = old / f"{writer.path.name}-{self.stamp('%Y%m%d%H')}"
        writer.path.rename(rotated)
        yield
        writer.open()
        yield
        yield from compress(rotated, rotated.with_name(f"{rotated.name}.gz"))


class LogrotateElsewhere(LogrotateDates):
    """Rotated into a folder elsewhere, which is made with the first rotation and named as the archive."""

    def make_followed(self):
        self.archive = self.root / "archive" / "suricata"
        return [self.root / "log" / "eve.json"]

    def make_writers(self):
        return [self.writer(self.root / "log" / "eve.json", 1)]

    def rotate(self, writer):
        if not writer.path.exists():
            return
        self.archive.mkdir(parents=True, exist_ok=True)
        rotated = self.archive / f"{writer.path.name}-{self.stamp('%Y%m%d%H')}"
        writer.path.rename(rotated)
        yield
        writer.open()
        yield


class CopyTruncate(logrotate.LogrotateCreate):
    """Logrotate with `copytruncate`: the log is copied, then emptied in place. What is written between the two would be lost."""

    first_line = ""

    def write(self):
        if not self.writers[0].path.exists() or not self.writers[0].path.stat().st_size:
            self.writers[0].write_text(self.first_line)
        super().write()

    def rotate(self, writer):
        path = writer.path
        if not path.exists() or not path.stat().st_size:
            return
        writer.complete()
        yield from self.move_on(path)
        data, copy = path.read_bytes(), self.rotated(path, 1)
        copy.write_bytes(data[: len(data) // 2])
        yield
        writer.write(self.draw.randrange(3))
        copy.write_bytes(path.read_bytes())
        os.truncate(path, 0)
        yield
        yield from compress(copy, self.rotated(path, 1, ".gz"))


class CopyTruncateExtension(CopyTruncate, logrotate.LogrotateExtensionFolder):
    """The same in a folder that is followed, with `extension .json`."""


class CopyTruncateAlike(CopyTruncate):
    """The same, and the log begins with the same long line each time.

    A reader that starts again where it had read this line alone can't tell the files apart.
    """

    can_restart = False
    must_be_seen = True
    first_line = STATS


class Dated(Setup):
    """Suricata's `rotate-interval`: dated names, of which the newest is live; a last line may go into the file before."""

    def make_followed(self):
        return [self.root / "suricata"]

    def path(self):
        return self.root / "suricata" / f"eve-{self.stamp('%Y-%m-%d-%H:%M')}.json"

    def make_writers(self):
        self.late = []  # written by another thread that has the old file still open
        return [self.writer(self.path(), 1)]

    @property
    def written(self):
        return super().written | {LATE: self.late}

    def rotate(self, writer):
        if not writer.path.exists():
            return
        before = writer.path
        late = os.open(before, os.O_WRONLY | os.O_APPEND)
        writer.close()
        writer.path = self.path()
        writer.write(1)
        yield
        self.late.append(LATE * 1_000_000 + len(self.late))
        os.write(late, writer.line(self.late[-1]).encode())
        os.close(late)
        yield
        if self.draw.random() < 0.5:
            yield from compress(before, before.with_name(f"{before.name}.gz"))


class Deleted(Setup):
    """The log is deleted, and made anew when the writer gets a signal."""

    can_restart = False
    must_be_seen = True

    def rotate(self, writer):
        if writer.path.exists() and writer.path.stat().st_size:
            writer.path.unlink()
            yield
            writer.write(self.draw.randrange(3))
            yield
            writer.open()
            yield


class Synchronised(Setup):
    """A copy that rsync brings up to date: each time the file is replaced by one with more."""

    form = "tsv"

    def make_writers(self):
        return [self.writer(self.root / "sensor" / "conn.log", 1)]

    def make_followed(self):
        return [self.root / "copy" / "conn.log"]

    def write(self):
        super().write()
        source, target = self.writers[0].path, self.followed[0]
        if self.draw.random() < 0.5:
            target.with_name(".conn.log.Xy12z").write_bytes(source.read_bytes())
            target.with_name(".conn.log.Xy12z").rename(target)

    def rotate(self, writer):
        self.writers[0].complete()
        target = self.followed[0]
        target.write_bytes(writer.path.read_bytes()) if not target.exists() else None
        temporary = target.with_name(".conn.log.Xy12z")
        temporary.write_bytes(writer.path.read_bytes())
        temporary.rename(target)
        yield


class CompressedWriter(Setup):
    """A writer that compresses what it writes, as Zeek with `LogAscii::gzip_level`, a member at a time."""

    form = "zeek-json"

    def make_writers(self):
        return [self.writer(self.root / "plain" / "conn.log", 1)]

    def make_followed(self):
        self.done = 0
        return [self.root / "current"]

    def write(self):
        self.writers[0].write(self.draw.randrange(1, 6))
        self.flush()

    def flush(self):
        data = self.writers[0].path.read_bytes()
        member = gzip.compress(data[self.done :])
        with (self.followed[0] / "conn.log.gz").open("ab") as file:
            file.write(member[: len(member) // 2])
            file.flush()
            file.write(member[len(member) // 2 :])
        self.done = len(data)

    def rotate(self, writer):
        live = self.followed[0] / "conn.log.gz"
        if not live.exists():
            return
        folder = self.root / self.stamp("%Y-%m-%d")
        folder.mkdir(exist_ok=True)
        live.rename(folder / f"conn.{self.stamp('%H:00:00', self.rotations - 1)}-{self.stamp('%H:00:00')}.log.gz")
        yield


class CompressedInPlace(Setup):
    """An operator compresses the live log; the writer goes on in a new file after a signal."""

    can_restart = False
    must_be_seen = True

    def rotate(self, writer):
        if writer.path.exists() and writer.path.stat().st_size:
            writer.complete()
            yield from compress(writer.path, writer.path.with_name(f"eve.json-{self.stamp('%Y%m%d%H')}.gz"))
            writer.open()
            yield


SETUPS = {
    "zeek": ZeekStandalone,
    "zeek-json": ZeekJson,
    "zeek-loggers": ZeekLoggers,
    "create": logrotate.LogrotateCreate,
    "delaycompress": logrotate.LogrotateDelayed,
    "nocompress": logrotate.LogrotatePlain,
    "extension": logrotate.LogrotateExtension,
    "extension-folder": logrotate.LogrotateExtensionFolder,
    "extension-nocompress": logrotate.LogrotateExtensionPlain,
    "extension-olddir": logrotate.LogrotateExtensionOld,
    "extension-zeek": logrotate.LogrotateExtensionZeek,
    "olddir": LogrotateDates,
    "elsewhere": LogrotateElsewhere,
    "copytruncate": CopyTruncate,
    "copytruncate-extension": CopyTruncateExtension,
    "copytruncate-alike": CopyTruncateAlike,
    "dated": Dated,
    "threaded": logrotate.Threaded,
    "threaded-extension": logrotate.ThreadedExtension,
    "threaded-after-plain": logrotate.ThreadedAfterPlain,
    "plain-after-threaded": logrotate.PlainAfterThreaded,
    "deleted": Deleted,
    "rsync": Synchronised,
    "gzip-writer": CompressedWriter,
    "gzip-in-place": CompressedInPlace,
}
