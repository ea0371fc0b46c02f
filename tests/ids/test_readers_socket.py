"""EVE events over a unix socket."""

import socket
import stat

import pytest
from test_readers import eve

from mods_grpc.errors import DataError
from mods_grpc.features import Ssh, Ssl
from mods_grpc.ids.eve_socket import EveSocket


def writer(path, kind=socket.SOCK_STREAM):
    made = socket.socket(socket.AF_UNIX, kind)
    made.connect(str(path))
    return made


def kinds(source):
    return [type(record) for record in source.poll()]


def test_lines_of_several_writers_are_read_whole_however_they_are_cut(tmp_path):
    path = tmp_path / "eve.sock"
    with EveSocket(path) as source, writer(path) as one, writer(path) as other:
        one.sendall(eve("tls") + b"\n" + eve("ssh")[:30])
        other.sendall(eve("alert") + b"\nnot json\n")
        assert kinds(source) == [Ssl]
        one.sendall(eve("ssh")[30:] + b"\n")
        assert kinds(source) == [Ssh]
        assert source.counters.malformed == {"header": 1}
        assert source.counters.ignored == 1
    assert not path.exists()


def test_a_writer_may_leave_and_come_again(tmp_path):
    path = tmp_path / "eve.sock"
    with EveSocket(path) as source:
        for _ in range(3):
            with writer(path) as one:
                one.sendall(eve("tls"))
            assert kinds(source) == [Ssl]


def test_a_line_without_end_takes_no_more_memory_than_the_limit(tmp_path):
    path = tmp_path / "eve.sock"
    with EveSocket(path) as source, writer(path) as one:
        for _ in range(48):
            one.sendall(b"x" * 65_536)
            assert kinds(source) == []
        one.sendall(b"\n" + eve("tls") + b"\n")
        assert kinds(source) == [Ssl]
        assert source.counters.malformed == {"long": 1}


def test_a_datagram_is_an_event(tmp_path):
    path = tmp_path / "eve.sock"
    with EveSocket(path, datagram=True) as source, writer(path, socket.SOCK_DGRAM) as one:
        one.send(eve("tls") + b"\n")
        one.send(eve("ssh"))
        one.send(b"")
        assert kinds(source) == [Ssl, Ssh]


def test_only_owner_and_group_may_write_and_what_is_no_socket_stays(tmp_path):
    path = tmp_path / "eve.sock"
    with EveSocket(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    EveSocket(path).close()
    path.write_text("mine")
    with pytest.raises(DataError, match="no socket"):
        EveSocket(path)
    assert path.read_text() == "mine"
