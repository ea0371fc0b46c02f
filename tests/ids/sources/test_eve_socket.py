"""EVE events over a unix socket: kept in files that a reader goes on in, whoever is killed or slow."""

import json
import socket
import stat
import threading
import time

import pytest

from mods_grpc.errors import DataError
from mods_grpc.features import Ssh, Ssl
from mods_grpc.ids.sources.eve_socket import EveReceiver
from mods_grpc.ids.sources.reader import LogPosition, LogReader
from tests.support.ids.eve_events import eve


def writer(path, kind=socket.SOCK_STREAM):
    made = socket.socket(socket.AF_UNIX, kind)
    made.connect(str(path))
    return made


class Kept:
    """Receives until left, then says what was kept; a second look goes on after the first."""

    def __init__(self, tmp_path, **options):
        self.path, self.folder = tmp_path / "eve.sock", tmp_path / "events"
        self.options = options
        self.position = None
        self.counters = None

    def __enter__(self):
        self.receiver = EveReceiver(self.path, self.folder, **self.options)
        return self

    def __exit__(self, *_):
        self.receiver.close()

    def records(self):
        with LogReader(self.folder, follow=True, position=self.position or self.receiver.start) as reader:
            found = list(reader.poll())
            assert reader.lost == []
        self.position, self.counters = LogPosition.from_json(reader.position().to_json()), reader.counters
        return found

    def live(self):
        try:
            return (self.folder / "eve.json").read_text()
        except FileNotFoundError:  # in the middle of a rotation
            return ""

    def kinds(self):
        return [type(record) for record in self.records()]


def send_one_by_one(kept, one, count):
    """Send numbered events, each after the one before it was kept: so they do not come in one piece."""
    for number in range(count):
        one.sendall(eve("tls", flow_id=number) + b"\n")
        deadline = time.monotonic() + 10
        while f'"flow_id": {number},' not in kept.live():
            assert time.monotonic() < deadline


def test_lines_of_several_writers_are_kept_whole_however_they_are_cut(tmp_path):
    with Kept(tmp_path) as kept, writer(kept.path) as one, writer(kept.path) as other:
        one.sendall(eve("tls") + b"\n" + eve("ssh")[:30])
        other.sendall(eve("alert") + b"\nnot json\n")
        one.sendall(eve("ssh")[30:] + b"\n")
    assert sorted(kind.__name__ for kind in kept.kinds()) == ["Ssh", "Ssl"]
    assert kept.counters.malformed == {"header": 1}
    assert kept.counters.ignored == 1
    assert not kept.path.exists()


def test_a_writer_may_leave_and_come_again_and_its_last_line_needs_no_end(tmp_path):
    with Kept(tmp_path) as kept:
        for _ in range(3):
            with writer(kept.path) as one:
                one.sendall(eve("tls"))
    assert kept.kinds() == [Ssl] * 3


def test_what_came_before_a_restart_is_read_after_it_and_once(tmp_path):
    for kind in ("tls", "ssh"):
        with Kept(tmp_path) as kept, writer(kept.path) as one:
            one.sendall(eve(kind) + b"\n")
    assert kept.kinds() == [Ssl, Ssh]
    with kept, writer(kept.path) as one:
        one.sendall(eve("ssh") + b"\n")
    assert kept.kinds() == [Ssh]


def test_a_line_that_was_torn_when_the_machine_went_down_spoils_no_other(tmp_path):
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "eve.json").write_bytes(eve("tls") + b"\n" + eve("ssh")[:50])
    with Kept(tmp_path) as kept, writer(kept.path) as one:
        one.sendall(eve("ssh") + b"\n")
    assert kept.kinds() == [Ssl, Ssh]
    assert kept.counters.malformed == {"json": 1}


def test_a_line_without_end_takes_no_more_room_than_the_limit(tmp_path):
    with Kept(tmp_path) as kept, writer(kept.path) as one:
        for _ in range(48):
            one.sendall(b"x" * 65_536)
        one.sendall(b"\n" + eve("tls") + b"\n")
    assert kept.kinds() == [Ssl]
    assert kept.counters.malformed == {"long": 1}
    assert (kept.folder / "eve.json").stat().st_size < 3 << 19


def test_a_datagram_is_an_event(tmp_path):
    with Kept(tmp_path, datagram=True) as kept, writer(kept.path, socket.SOCK_DGRAM) as one:
        one.send(eve("tls") + b"\n")
        one.send(eve("ssh"))
        one.send(b"")
    assert kept.kinds() == [Ssl, Ssh]


def test_files_that_were_judged_are_removed_and_those_to_read_are_not(tmp_path):
    with Kept(tmp_path, max_file_bytes=2_000) as kept, writer(kept.path) as one:
        send_one_by_one(kept, one, 50)
    files = sorted(kept.folder.iterdir())
    assert len(files) > 3
    reader = LogReader(kept.folder, follow=True, position=kept.receiver.start)
    records = reader.poll()
    assert [int(next(records).uid) for _ in range(20)] == list(range(20))
    with kept:
        kept.receiver.delete_consumed(reader.position())
    assert 0 < len(files) - len(list(kept.folder.iterdir())) < len(files) - 1
    kept.position = reader.position()
    reader.close()
    assert [int(record.uid) for record in kept.records()] == list(range(20, 50))
    with kept:
        kept.receiver.delete_consumed(kept.position)
    assert [path.name for path in kept.folder.iterdir()] == ["eve.json"]


def test_a_reader_that_is_away_too_long_loses_the_oldest_and_it_is_said(tmp_path, caplog):
    with Kept(tmp_path, max_file_bytes=500, max_files=3) as kept, writer(kept.path) as one:
        send_one_by_one(kept, one, 40)
    assert len(list(kept.folder.iterdir())) == 4
    assert [int(record.uid) for record in kept.records()][-1] == 39
    assert "eve_dropped" in caplog.text


def test_a_fast_writer_is_not_kept_waiting_by_a_reader_that_does_nothing(tmp_path):
    lines = b"".join(eve("tls", flow_id=number) + b"\n" for number in range(20_000))

    def write():
        with writer(kept.path) as one:
            one.sendall(lines)

    with Kept(tmp_path) as kept:
        thread = threading.Thread(target=write)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
    assert [int(record.uid) for record in kept.records()] == list(range(20_000))
    assert json.loads(lines.splitlines()[0])["flow_id"] == 0


def test_only_owner_and_group_may_write_and_what_is_no_socket_stays(tmp_path):
    with Kept(tmp_path) as kept:
        assert stat.S_IMODE(kept.path.stat().st_mode) == 0o660
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(kept.path))
    left.close()
    with kept:
        pass
    kept.path.write_text("mine")
    with pytest.raises(DataError, match="not a socket"):
        EveReceiver(kept.path, kept.folder)
    assert kept.path.read_text() == "mine"
