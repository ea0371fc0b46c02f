"""What can't be the source of a watch is refused with what to give instead, before anything is created."""

import gzip
import os
import socket
from pathlib import Path

import pytest

from mods_grpc.errors import DataError
from mods_grpc.ids.watch.source_check import check_archive, check_events, check_folder, check_socket

EVENT = b'{"timestamp":"2026-01-05T00:00:00.000000+0000","event_type":"flow"}\n'


def refusal(check, path: Path) -> str:
    with pytest.raises(DataError) as caught:
        check(path)
    return caught.value.message


def test_a_folder_of_zeek_logs_and_a_file_of_events_wait_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "conn.log").write_text("#separator \\x09\n")
    (tmp_path / "eve.json").write_bytes(EVENT)
    assert check_folder(tmp_path) is None
    assert check_events(tmp_path / "eve.json") is None


def test_what_is_not_there_yet_is_waited_for_if_its_folder_is_there(tmp_path: Path) -> None:
    assert check_folder(tmp_path / "current") == f"the folder {tmp_path / 'current'}, which is not there yet"
    assert check_events(tmp_path / "eve.json") == f"the file {tmp_path / 'eve.json'}, which is not there yet"
    assert check_folder(tmp_path) == "a log of Zeek, such as conn.log; the folder is empty"
    (tmp_path / "eve.json").write_text("")
    assert check_events(tmp_path / "eve.json") == "the first event; the file is empty"


@pytest.mark.parametrize(("check", "flag"), [(check_folder, "--zeek"), (check_events, "--eve")])
def test_a_path_below_a_folder_that_is_not_there_is_refused(tmp_path: Path, check, flag: str) -> None:
    path = tmp_path / "no" / "such"
    assert refusal(check, path) == f"{flag} {path}: is not there, and neither is the folder {path.parent}; check the path"


def test_a_folder_of_suricata_given_as_zeeks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "eve.json").write_bytes(EVENT)
    (tmp_path / "stats").write_text("")
    assert refusal(check_folder, tmp_path).endswith(f"give it with --eve {tmp_path / 'eve.json'}")
    assert "give it with --eve" in refusal(check_folder, tmp_path / "eve.json")


def test_a_folder_of_events_is_followed_and_one_of_other_logs_refused(tmp_path: Path) -> None:
    assert check_events(tmp_path) == "an event log, such as eve.json; the folder is empty"
    (tmp_path / "conn.log").write_text("")
    assert "conn.log and no eve.json; if these are Zeek's, give the folder with --zeek" in refusal(check_events, tmp_path)
    (tmp_path / "eve-2026-01-05.json").write_bytes(EVENT)
    assert check_events(tmp_path) is None


def test_folders_of_dates_may_hold_events_beside_the_other_logs_of_suricata(tmp_path: Path) -> None:
    (tmp_path / "suricata.log").write_text("")
    assert "no eve.json" in refusal(check_events, tmp_path)
    (tmp_path / "2026").mkdir()
    assert check_events(tmp_path) is None


def test_a_spool_of_several_loggers_waits_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "logger-1").mkdir()
    assert check_folder(tmp_path) is not None
    (tmp_path / "logger-1" / "conn.log").write_text("#separator \\x09\n")
    assert check_folder(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"#separator \\x09\n#path\tconn\n", "is a log of Zeek; give its folder with --zeek"),
        (b"\xd4\xc3\xb2\xa1\x02\x00\x04\x00", "is a capture of packets; run Suricata or Zeek on it"),
        (b"\x0a\x0d\x0d\x0a\x1c\x00\x00\x00", "is a capture of packets; run Suricata or Zeek on it"),
        (gzip.compress(EVENT, mtime=0), "is compressed"),
        (b"\x7fELF\x02\x01", "expected lines of JSON, found b'\\x7fELF"),
        (b"time,src,dst\n", "expected lines of JSON, found b'time,src,dst"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "x").write_bytes(content)
    assert complaint in refusal(check_events, tmp_path / "x")


def test_a_socket_is_created_only_where_one_can_be(tmp_path: Path) -> None:
    check_socket(tmp_path / "eve.sock")
    assert "the folder" in refusal(check_socket, tmp_path / "no" / "eve.sock")
    assert "at most 107 bytes, found 108" in refusal(check_socket, Path("/" + "x" * 107))
    (tmp_path / "file").write_text("")
    assert "is not a socket" in refusal(check_socket, tmp_path / "file")


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_socket_that_another_process_listens_on_is_not_taken(tmp_path: Path, kind: socket.SocketKind) -> None:
    path = tmp_path / "eve.sock"
    with socket.socket(socket.AF_UNIX, kind) as listener:
        listener.bind(os.fspath(path))
        if kind is socket.SOCK_STREAM:
            listener.listen()
        assert "another process listens there" in refusal(check_socket, path)
    check_socket(path)  # of a process that was killed


def test_an_archive_is_a_folder(tmp_path: Path) -> None:
    check_archive(tmp_path)
    (tmp_path / "file").write_text("")
    assert refusal(check_archive, tmp_path / "file").endswith("found a file")
    assert refusal(check_archive, tmp_path / "no").endswith("found nothing there")
