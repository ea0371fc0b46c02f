"""A set-up of writers whose logs are rotated, one operation on the file system at a time.

`Setup.operations` yields after each operation, so that a reader may look at, or be killed at, every moment between two of them.
"""

import gzip
import itertools
from abc import ABC, abstractmethod
from datetime import timedelta

from tests.support.live_logs.log_writer import START, Writer


def compress(source, target):
    """Compress as `gzip` does: the target grows, the source is deleted when it is whole."""
    data = gzip.compress(source.read_bytes())
    with target.open("wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        yield
        file.write(data[len(data) // 2 :])
    yield
    source.unlink()
    yield


class Setup(ABC):
    """A set-up: writers, what is followed, and how the logs are rotated.

    Attributes:
        writers: The writers.
        followed: Files and folders that are followed.
        archive: Folder of rotated logs; None for the default.
        can_restart: Whether a reader that starts anew can find every record.
        must_be_seen: Whether a reader must have looked at a log before it is rotated.
    """

    form = "eve"
    archive = None
    can_restart = True
    must_be_seen = False

    def __init__(self, root, draw):
        self.root, self.draw = root, draw
        self.rotations = 0
        self.clock = itertools.count()
        self.writers = self.make_writers()
        self.followed = self.make_followed()
        for path in self.followed:
            (path.parent if path.suffix else path).mkdir(parents=True, exist_ok=True)

    def make_writers(self):
        return [self.writer(self.root / "eve.json", 1)]

    def make_followed(self):
        return [self.root / "eve.json"]

    def writer(self, path, number, protocol="conn"):
        writer = Writer(path, number, self.draw, form=self.form, protocol=protocol)
        writer.clock = self.clock
        return writer

    def write(self):
        """Let one of the writers write."""
        writer = self.draw.choice(self.writers)
        writer.write(self.draw.randrange(1, 6), cut=self.draw.random() < 0.3)

    def operations(self):
        """Rotate all logs, an operation at a time; writers write in between."""
        self.rotations += 1
        for writer in list(self.writers):
            yield from self.rotate(writer)

    @abstractmethod
    def rotate(self, writer):
        """Rotate the log of a writer, an operation at a time."""

    @property
    def written(self):
        return {writer.number: writer.written for writer in self.writers}

    def stamp(self, pattern, rotations=None):
        return (START + timedelta(hours=self.rotations if rotations is None else rotations)).strftime(pattern)
