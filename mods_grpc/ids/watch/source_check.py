"""Checks the source of a watch, and its port, before anything is created: what is unfit is refused with what to give instead."""

import os
import socket
import stat
from pathlib import Path, PurePath

from mods_grpc.errors import DataError
from mods_grpc.ids.sources.file_names import folder_stamp

MAX_SOCKET_PATH_BYTES = 107

_HEAD_BYTES = 4_096
_CAPTURES = (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x0a\x0d\x0d\x0a")
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"BZh", b"\x04\x22\x4d\x18")


def check_folder(folder: Path) -> str | None:
    """Check a folder that Zeek logs to.

    Returns:
        What the watch will wait for; None if there is a log.

    Raises:
        DataError: It is something else, can't be read, or neither it nor the folder above it is there.
    """
    flag = f"--zeek {folder}"
    if not folder.exists():
        return _check_parent(flag, folder, "the folder")
    if not folder.is_dir():
        other = "give it with --eve" if _looks_like_json(_read_head(flag, folder)) else "give the folder that it is in"
        raise DataError(f"{flag}: is a file, expected the folder that Zeek logs to, such as /opt/zeek/logs/current; {other}")
    _require_access(flag, folder, os.R_OK | os.X_OK)
    paths = list(folder.iterdir())
    names = [path.name for path in paths]
    logs = [path for path in (*paths, *folder.glob("*/*.log*")) if ".log" in path.name and not path.is_fifo()]
    events = [name for name in names if name.startswith("eve") and ".json" in name]
    if events and not logs:
        raise DataError(f"{flag}: holds Suricata's {events[0]} and no log of Zeek; give it with --eve {folder / events[0]}")
    if not logs:
        return "a log of Zeek, such as conn.log; " + (f"the folder holds {_list(names)}" if names else "the folder is empty")
    return None


def check_events(file: Path) -> str | None:
    """Check a file that Suricata logs events to, or the folder of such files.

    Returns:
        What the watch will wait for; None if there are events.

    Raises:
        DataError: It is something else, can't be read, or neither it nor its folder is there.
    """
    flag = f"--eve {file}"
    if not file.exists():
        return _check_parent(flag, file, "the file")
    if file.is_dir():
        _require_access(flag, file, os.R_OK | os.X_OK)
        names = sorted(path.name for path in file.iterdir())
        if any(name.startswith("eve") and ".json" in name for name in names) or any(map(folder_stamp, map(PurePath, names))):
            return None  # events, or folders of dates with them
        if any(".log" in name for name in names):
            logs = _list([name for name in names if ".log" in name])
            raise DataError(f"{flag}: holds {logs} and no eve.json; if these are Zeek's, give the folder with --zeek")
        return "an event log, such as eve.json; " + (f"the folder holds {_list(names)}" if names else "the folder is empty")
    if stat.S_ISSOCK(file.stat().st_mode):
        raise DataError(f"{flag}: is a socket; give --eve-socket PATH, and let Suricata write to it after the start")
    head = _read_head(flag, file)
    if not head:
        return "the first event; the file is empty"
    if head.startswith(_CAPTURES):
        raise DataError(f"{flag}: is a capture of packets; run Suricata or Zeek on it, and give what they log")
    if head.startswith(_COMPRESSED):
        raise DataError(f"{flag}: is compressed; give the file that Suricata writes now, or read this one with replay")
    if head.startswith(b"#"):
        raise DataError(f"{flag}: is a log of Zeek; give its folder with --zeek {file.parent}")
    if not _looks_like_json(head):
        raise DataError(f"{flag}: expected lines of JSON, found {head[:40]!r}; give Suricata's eve.json")
    return None


def check_socket(path: Path) -> None:
    """Check the path of a socket to create.

    Raises:
        DataError: No socket can be created there, or another process listens on it.
    """
    flag = f"--eve-socket {path}"
    size = len(os.fsencode(path))
    if size > MAX_SOCKET_PATH_BYTES:
        raise DataError(f"{flag}: expected a path of at most {MAX_SOCKET_PATH_BYTES} bytes, found {size}")
    if not path.parent.is_dir():
        raise DataError(f"{flag}: the folder {path.parent} is missing; create it first")
    _require_access(flag, path.parent, os.W_OK | os.X_OK)
    if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
        raise DataError(f"{flag}: exists and is not a socket; give a path that is free")
    if path.exists() and _is_listened_to(path):
        raise DataError(f"{flag}: another process listens there, such as another watch; stop it, or give another path")


def is_among_logs(state: Path, source: Path) -> bool:
    """Return whether the folder of the checkpoint is, or is within, that of the logs, which a sensor may empty."""
    return source.is_dir() and source.resolve() in (state.resolve(), *state.resolve().parents)


def check_archive(folder: Path) -> None:
    """Check a folder of rotated logs.

    Raises:
        DataError: It is not a folder that can be read.
    """
    flag = f"--archive {folder}"
    if not folder.is_dir():
        raise DataError(f"{flag}: expected a folder of rotated logs, found {'a file' if folder.exists() else 'nothing there'}")
    _require_access(flag, folder, os.R_OK | os.X_OK)


def check_free_port(flag: str, host: str, port: int) -> None:
    """Check that a port can be listened on, which else would be seen only when the server has answered.

    Raises:
        DataError: It can't.
    """
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise DataError(f"{flag} {host}:{port}: {reason}; give an address of this machine with a free port") from error


def _check_parent(flag: str, path: Path, what: str) -> str:
    parent = path.absolute().parent
    if not parent.is_dir():
        raise DataError(f"{flag}: is not there, and neither is the folder {parent}; check the path")
    _require_access(flag, parent, os.R_OK | os.X_OK)
    return f"{what} {path}, which is not there yet"


def _require_access(flag: str, path: Path, mode: int) -> None:
    if not os.access(path, mode):
        what = "write to" if mode & os.W_OK else "read"
        raise DataError(
            f"{flag}: no permission to {what} {path}; run as a user or in a group that may, such as that of the sensor"
        )


def _read_head(flag: str, file: Path) -> bytes:
    _require_access(flag, file, os.R_OK)
    if not file.is_file():
        raise DataError(f"{flag}: is neither a file nor a folder")
    with file.open("rb") as opened:
        return opened.read(_HEAD_BYTES)


def _looks_like_json(head: bytes) -> bool:
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"")


def _is_listened_to(path: Path) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_UNIX, kind) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(path))
            except OSError:
                continue
            return True
    return False


def _list(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
