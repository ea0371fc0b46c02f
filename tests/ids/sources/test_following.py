"""Following logs over every scheme of rotation: whenever a reader looks or is killed, it reads each record once, in order."""

import random
from itertools import islice

import pytest

from mods_grpc.ids.sources.position import LogPosition
from mods_grpc.ids.sources.reader import LogReader
from tests.support.live_logs.log_writer import number_of
from tests.support.live_logs.rotations import SETUPS

LAST_LOOKS = 12


class Follower:
    """A reader that is killed now and then and starts again at its saved position."""

    def __init__(self, setup):
        self.setup = setup
        self.read = {}
        self.lost = []
        self.reader = None
        self.saved = None

    def start(self):
        if not any(path.exists() for path in self.setup.followed):
            return
        position = None if self.saved is None else LogPosition.from_json(self.saved)
        self.reader = LogReader(self.setup.followed, follow=True, archive=self.setup.archive, position=position)

    def look(self, count=None):
        if self.reader is None:
            self.start()
        if self.reader is not None:
            for record in islice(self.reader.poll(), count):
                self.read.setdefault(number_of(record) // 1_000_000, []).append(number_of(record))
            self.saved = self.reader.position().to_json()

    def kill(self):
        if self.reader is not None:
            self.lost += self.reader.lost
            self.reader.close()
            self.reader = None


def run(setup, seed, *, rotations, looks, kills, writes=0.7):
    """Write and rotate at random, looking and killing with the given chances at each operation; return what was read."""
    draw = random.Random(seed)
    follower = Follower(setup)
    setup.write()
    for writer in setup.writers:
        writer.complete()
    follower.look()

    def pause():
        while draw.random() < writes:
            setup.write()
        if draw.random() < looks:
            follower.look()
        if setup.can_restart and draw.random() < kills:
            follower.look(draw.randrange(1, 4))
            follower.kill()

    for _ in range(rotations):
        pause()
        if setup.must_be_seen:
            follower.look()
        for _ in setup.operations():
            pause()
    for writer in setup.writers:
        writer.write(1)
    setup.write()
    for writer in setup.writers:
        writer.complete()
    if setup.must_be_seen:
        follower.look()
    for _ in setup.operations():
        pass
    for _ in range(LAST_LOOKS):
        follower.look()
    follower.kill()
    return follower


def check(setup, follower):
    assert follower.read == {number: written for number, written in setup.written.items() if written}
    assert follower.lost == []


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", SETUPS)
def test_every_record_is_read_once_and_in_order_whenever_the_reader_looks_or_is_killed(tmp_path, name, seed):
    setup = SETUPS[name](tmp_path, random.Random(seed))
    check(setup, run(setup, seed, rotations=7, looks=0.5, kills=0.2))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 10))
@pytest.mark.parametrize("name", SETUPS)
def test_the_same_with_many_rotations_between_two_looks_or_none(tmp_path, name, seed):
    draw = random.Random(seed)
    setup = SETUPS[name](tmp_path, draw)
    chances = {
        "looks": draw.choice([0.05, 0.2, 0.9]),
        "kills": draw.choice([0, 0.05, 0.5]),
        "writes": draw.choice([0.3, 0.7, 0.9]),
    }
    check(setup, run(setup, seed, rotations=25, **chances))
