"""EVE events over a unix socket: stored in files from which a reader resumes, whoever is killed or slow."""

import json
import socket
import stat
import threading
import time

import pytest

from mods_grpc.errors import DataError
from mods_grpc.features import Ssh, Ssl
from mods_grpc.ids.sources.eve_socket import EveReceiver
from mods_grpc.ids.sources.position import LogPosition
from mods_grpc.ids.sources.reader import LogReader
from tests.support.ids.eve_events import make_eve_event
from tests.support.ids.full_disk import full_disk


def writer(path, kind=socket.SOCK_STREAM):
    client = socket.socket(socket.AF_UNIX, kind)
    client.connect(str(path))
    return client


class StoredEvents:
    """A receiver within `with`, afterwards a reader of the events it stored; each `records` continues after the one before."""

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
            records = list(reader.poll())
            assert reader.lost == []
        self.position, self.counters = LogPosition.from_json(reader.position().to_json()), reader.counters
        return records

    def live(self):
        try:
            return (self.folder / "eve.json").read_text()
        except FileNotFoundError:  # in the middle of a rotation
            return ""

    def kinds(self):
        return [type(record) for record in self.records()]


def send_one_by_one(stored, one, count):
    """Send numbered events, each after the previous one was stored, so that they do not arrive in one piece."""
    for number in range(count):
        one.sendall(make_eve_event("tls", flow_id=number) + b"\n")
        deadline = time.monotonic() + 10
        while f'"flow_id": {number},' not in stored.live():
            assert time.monotonic() < deadline


def test_lines_of_several_writers_are_stored_whole_wherever_they_are_split(tmp_path):
    with StoredEvents(tmp_path) as stored, writer(stored.path) as one, writer(stored.path) as other:
        one.sendall(make_eve_event("tls") + b"\n" + make_eve_event("ssh")[:30])
        other.sendall(make_eve_event("fileinfo") + b"\nnot json\n")
        one.sendall(make_eve_event("ssh")[30:] + b"\n")
    assert sorted(kind.__name__ for kind in stored.kinds()) == ["Ssh", "Ssl"]
    assert stored.counters.malformed == {"header": 1}
    assert stored.counters.ignored == 1
    assert not stored.path.exists()


def test_a_writer_may_reconnect_and_its_last_line_needs_no_newline(tmp_path):
    with StoredEvents(tmp_path) as stored:
        for _ in range(3):
            with writer(stored.path) as one:
                one.sendall(make_eve_event("tls"))
    assert stored.kinds() == [Ssl] * 3


def test_events_received_before_a_restart_are_read_once_after_it(tmp_path):
    for kind in ("tls", "ssh"):
        with StoredEvents(tmp_path) as stored, writer(stored.path) as one:
            one.sendall(make_eve_event(kind) + b"\n")
    assert stored.kinds() == [Ssl, Ssh]
    with stored, writer(stored.path) as one:
        one.sendall(make_eve_event("ssh") + b"\n")
    assert stored.kinds() == [Ssh]


def test_a_line_cut_off_by_a_crash_does_not_damage_the_next_one(tmp_path):
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "eve.json").write_bytes(make_eve_event("tls") + b"\n" + make_eve_event("ssh")[:50])
    with StoredEvents(tmp_path) as stored, writer(stored.path) as one:
        one.sendall(make_eve_event("ssh") + b"\n")
    assert stored.kinds() == [Ssl, Ssh]
    assert stored.counters.malformed == {"json": 1}


def test_an_event_cut_off_by_a_full_disk_does_not_damage_the_next_one(tmp_path):
    event = make_eve_event("tls") + b"\n"
    with StoredEvents(tmp_path) as stored, writer(stored.path) as one:
        with full_disk(limit_bytes=len(event) * 3 // 2):
            one.sendall(event * 2)
            deadline = time.monotonic() + 30
            while not stored.receiver.lost and time.monotonic() < deadline:
                time.sleep(0.001)
        one.sendall(make_eve_event("ssh") + b"\n")
    assert [type(record) for record in stored.records()] == [Ssl, Ssh]
    assert (stored.counters.rejected, stored.receiver.lost) == (0, 1)


def test_a_line_without_a_newline_takes_no_more_space_than_the_limit(tmp_path):
    with StoredEvents(tmp_path) as stored, writer(stored.path) as one:
        for _ in range(48):
            one.sendall(b"x" * 65_536)
        one.sendall(b"\n" + make_eve_event("tls") + b"\n")
    assert stored.kinds() == [Ssl]
    assert stored.counters.malformed == {"long": 1}
    assert (stored.folder / "eve.json").stat().st_size < 3 << 19


def test_a_datagram_is_an_event(tmp_path):
    with StoredEvents(tmp_path, datagram=True) as stored, writer(stored.path, socket.SOCK_DGRAM) as one:
        one.send(make_eve_event("tls") + b"\n")
        one.send(make_eve_event("ssh"))
        one.send(b"")
    assert stored.kinds() == [Ssl, Ssh]


def test_only_files_that_were_read_completely_are_deleted(tmp_path):
    with StoredEvents(tmp_path, max_file_bytes=2_000) as stored, writer(stored.path) as one:
        send_one_by_one(stored, one, 50)
    files = sorted(stored.folder.iterdir())
    assert len(files) > 3
    reader = LogReader(stored.folder, follow=True, position=stored.receiver.start)
    records = reader.poll()
    assert [int(next(records).uid) for _ in range(20)] == list(range(20))
    with stored:
        stored.receiver.delete_consumed(reader.position())
    assert 0 < len(files) - len(list(stored.folder.iterdir())) < len(files) - 1
    stored.position = reader.position()
    reader.close()
    assert [int(record.uid) for record in stored.records()] == list(range(20, 50))
    with stored:
        stored.receiver.delete_consumed(stored.position)
    assert [path.name for path in stored.folder.iterdir()] == ["eve.json"]


def test_a_reader_that_falls_too_far_behind_loses_the_oldest_file_and_a_log_line_says_so(tmp_path, caplog):
    with StoredEvents(tmp_path, max_file_bytes=500, max_files=3) as stored, writer(stored.path) as one:
        send_one_by_one(stored, one, 40)
    assert len(list(stored.folder.iterdir())) == 4
    assert [int(record.uid) for record in stored.records()][-1] == 39
    assert caplog.text.count("eve_dropped") == stored.receiver.lost > 0


def test_an_idle_reader_does_not_block_a_fast_writer(tmp_path):
    lines = b"".join(make_eve_event("tls", flow_id=number) + b"\n" for number in range(20_000))

    def write():
        with writer(stored.path) as one:
            one.sendall(lines)

    with StoredEvents(tmp_path) as stored:
        thread = threading.Thread(target=write)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
    assert [int(record.uid) for record in stored.records()] == list(range(20_000))
    assert json.loads(lines.splitlines()[0])["flow_id"] == 0


def test_only_owner_and_group_may_write_and_a_file_that_is_no_socket_is_left_alone(tmp_path):
    with StoredEvents(tmp_path) as stored:
        assert stat.S_IMODE(stored.path.stat().st_mode) == 0o660
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(stored.path))
    left.close()
    with stored:
        pass
    stored.path.write_text("mine")
    with pytest.raises(DataError, match="not a socket"):
        EveReceiver(stored.path, stored.folder)
    assert stored.path.read_text() == "mine"
