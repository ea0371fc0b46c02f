"""Logs of one writer or of several threads, which logrotate gives numbers, behind the name or before its extension."""

from tests.support.live_logs.live_setup import Setup, compress


class LogrotateCreate(Setup):
    """Logrotate with `create`: names move on by one; the writer writes to the renamed file until it gets a signal."""

    compresses, delays = True, False

    def rotated(self, path, number, end=""):
        return path.with_name(f"{path.name}.{number}{end}")

    def numbers(self, path):
        return [int(file.name.removeprefix(f"{path.name}.").split(".")[0]) for file in path.parent.glob(f"{path.name}.*")]

    def rotate(self, writer):
        path = writer.path
        if not path.exists():
            return
        first = self.rotated(path, 1)
        first.parent.mkdir(exist_ok=True)
        if self.delays and first.exists():
            yield from compress(first, self.rotated(path, 1, ".gz"))
        yield from self.move_on(path)
        path.rename(first)
        yield
        yield from self.reopen(writer)
        if self.compresses and not self.delays:
            yield from compress(first, self.rotated(path, 1, ".gz"))

    def move_on(self, path):
        for number in sorted(self.numbers(path), reverse=True):
            for end in ("", ".gz"):
                file = self.rotated(path, number, end)
                if file.exists():
                    file.rename(self.rotated(path, number + 1, end))
                    yield

    def reopen(self, writer):
        writer.path.touch()
        yield
        writer.write(self.draw.randrange(3))
        yield
        writer.open()
        yield


class LogrotateDelayed(LogrotateCreate):
    """The same with `delaycompress`."""

    delays = True


class LogrotatePlain(LogrotateCreate):
    """The same without compression."""

    compresses = False


class LogrotateExtension(LogrotateCreate):
    """Logrotate with `extension .json`: the number stands where Suricata's threads have theirs."""

    def rotated(self, path, number, end=""):
        return path.with_name(f"{path.stem}.{number}{path.suffix}{end}")

    def numbers(self, path):
        names = [file.name.removeprefix(f"{path.stem}.") for file in self.rotated(path, 1).parent.glob(f"{path.stem}.*")]
        return [int(name.split(".")[0]) for name in names if name.split(".")[0].isdigit()]


class LogrotateExtensionFolder(LogrotateExtension):
    """The same with `delaycompress` in a folder that is followed, and without `create`: for a while there is no live file."""

    delays = True

    def make_writers(self):
        return [self.writer(self.root / "suricata" / "eve.json", 1)]

    def make_followed(self):
        return [self.root / "suricata"]

    def reopen(self, writer):
        if self.draw.random() < 0.5:
            writer.write(self.draw.randrange(3))
        yield
        writer.close()
        yield


class LogrotateExtensionPlain(LogrotateExtensionFolder):
    """The same without compression."""

    compresses = delays = False


class LogrotateExtensionOld(LogrotateExtensionFolder):
    """The same with `olddir`."""

    def rotated(self, path, number, end=""):
        return super().rotated(path.parent / "old" / path.name, number, end)


class LogrotateExtensionZeek(LogrotateExtensionFolder):
    """The same for logs of Zeek."""

    form = "tsv"

    def make_writers(self):
        return [self.writer(self.root / "suricata" / "conn.log", 1), self.writer(self.root / "suricata" / "ssh.log", 2, "ssh")]


class Threaded(LogrotateDelayed):
    """Suricata's `threaded`: a file for each thread, rotated together; one thread begins later."""

    def make_followed(self):
        return [self.root / "suricata"]

    def make_writers(self):
        return [self.writer(self.root / "suricata" / f"eve.{number}.json", number) for number in (1, 2)]

    def operations(self):
        if self.rotations == 1:
            self.writers.append(self.writer(self.root / "suricata" / "eve.12.json", 12))
        yield from super().operations()


class ThreadedExtension(Threaded):
    """The same, rotated with `extension .json`."""

    def rotated(self, path, number, end=""):
        return path.with_name(f"{path.stem}.{number}{path.suffix}{end}")

    def numbers(self, path):
        names = [file.name.removeprefix(f"{path.stem}.") for file in path.parent.glob(f"{path.stem}.*.json*")]
        return [int(name.split(".")[0]) for name in names]


class ThreadedAfterPlain(Threaded):
    """Threads that began when one file had been written for some time, which stays there."""

    def make_writers(self):
        self.plain = self.writer(self.root / "suricata" / "eve.json", 3)
        return [self.plain]

    def operations(self):
        if self.rotations == 0:
            self.plain.close()
            self.writers[:] = super().make_writers()
            yield
        yield from super().operations()

    @property
    def written(self):
        return super().written | {self.plain.number: self.plain.written}


class PlainAfterThreaded(LogrotateExtensionFolder):
    """One file, begun when threads had written for some time, whose last files are rotated together with it."""

    must_be_seen = True

    def make_writers(self):
        self.threads = [self.writer(self.root / "suricata" / f"eve.{number}.json", number) for number in (1, 2)]
        return list(self.threads)

    def operations(self):
        if self.rotations:
            yield from super().operations()
            return
        self.rotations += 1
        for writer in self.threads:
            writer.close()
        self.writers[:] = [self.writer(self.root / "suricata" / "eve.json", 3)]
        yield

    @property
    def written(self):
        return super().written | {writer.number: writer.written for writer in self.threads}
