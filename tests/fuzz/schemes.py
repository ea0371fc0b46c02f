"""Naming schemes of rotated logs: the names that zeekctl, Zeek, Corelight, logrotate and Suricata give to the files of a log."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.fuzz.files import COMPRESSIONS

START = datetime(2024, 4, 19, tzinfo=UTC)


@dataclass(frozen=True)
class Scheme:
    """A scheme.

    Attributes:
        live: Name of the live log of an hour.
        rotated: Name of the file of an hour, when so many hours were rotated after it.
        is_eve: Whether it is of Suricata.
        followed: Folder or file that a watch is given.
        archive: Whether the rotated files lie in another folder.
    """

    live: Callable[[int], str]
    rotated: Callable[[int, int], str]
    is_eve: bool = False
    followed: str = ""
    archive: bool = False

    @property
    def may_copy(self) -> bool:
        """Whether logrotate names the files, which can copy and truncate the live log instead of renaming it."""
        return self.live(0) == self.live(1) and "log.1" in self.rotated(0, 1).replace("json", "log")


def _at(hour: int, form: str) -> str:
    return (START + timedelta(hours=hour)).strftime(form)


def _always(name: str) -> Callable[[int], str]:
    return lambda _hour: name


SCHEMES: dict[str, Scheme] = {
    "zeekctl": Scheme(
        _always("current/conn.log"),
        lambda hour, _: _at(hour, "%Y-%m-%d/conn.%H:%M:%S-") + _at(hour + 1, "%H:%M:%S.log"),
        followed="current",
        archive=True,
    ),
    "zeek": Scheme(_always("conn.log"), lambda hour, _: _at(hour, "conn.%Y-%m-%d-%H-%M-%S.log")),
    "zeek-logrotate": Scheme(_always("conn.log"), lambda _, age: f"conn.log.{age}"),
    "zeek-logrotate-date": Scheme(_always("conn.log"), lambda hour, _: _at(hour, "conn.log-%Y%m%d%H")),
    "zeek-logrotate-extension": Scheme(_always("conn.log"), lambda hour, _: _at(hour, "conn-%Y%m%d%H.log")),
    "zeek-epoch": Scheme(_always("conn.log"), lambda hour, _: f"conn.log.{int((START + timedelta(hours=hour)).timestamp())}"),
    "corelight": Scheme(
        _always("conn.log"), lambda hour, _: _at(hour, "conn_%Y%m%d_%H:%M:%S-") + _at(hour + 1, "%H:%M:%S+0000.log")
    ),
    "labeled": Scheme(_always("conn.log.labeled"), lambda _, age: f"conn.log.labeled.{age}"),
    "logger": Scheme(
        _always("spool/logger-1/conn.log"),
        lambda hour, _: _at(hour, "%Y-%m-%d/conn.%H:%M:%S-") + _at(hour + 1, "%H:%M:%S-logger-1.log"),
        followed="spool",
        archive=True,
    ),
    "eve-logrotate": Scheme(_always("eve.json"), lambda _, age: f"eve.json.{age}", is_eve=True, followed="eve.json"),
    "eve-logrotate-date": Scheme(
        _always("eve.json"), lambda hour, _: _at(hour, "eve.json-%Y%m%d-%H"), is_eve=True, followed="eve.json"
    ),
    "eve-thread": Scheme(_always("eve.2.json"), lambda _, age: f"eve.2.json.{age}", is_eve=True),
    "eve-dated": Scheme(
        lambda hour: _at(hour, "eve-%Y-%m-%d-%H.json"), lambda hour, _: _at(hour, "eve-%Y-%m-%d-%H.json"), is_eve=True
    ),
    "eve-epoch": Scheme(
        lambda hour: f"eve.{int((START + timedelta(hours=hour)).timestamp())}.json",
        lambda hour, _: f"eve.{int((START + timedelta(hours=hour)).timestamp())}.json",
        is_eve=True,
    ),
}


class Writer:
    """Writes a log of a scheme: appends to the live file, rotates, compresses.

    Args:
        scheme: The scheme.
        root: Folder of the logs.
        draw: Source of chances.
        writer: Number of the writer, in the names of its records.
    """

    def __init__(self, scheme: Scheme, root: Path, draw: random.Random, writer: int = 0) -> None:
        self.scheme, self.root, self.writer = scheme, root, writer
        self.uids: list[str] = []
        self._draw = draw
        self._hour = 0
        self._suffix = draw.choice(("", "", *COMPRESSIONS))
        self._is_delayed = draw.random() < 0.5
        self._is_json = scheme.is_eve or draw.random() < 0.4
        self._copies = scheme.may_copy and draw.random() < 0.15
        self._files: list[tuple[int, Path]] = []  # rotated ones, with their hour
        self._pending = b""
        (root / scheme.followed).parent.mkdir(parents=True, exist_ok=True)
        (root / scheme.live(0)).parent.mkdir(parents=True, exist_ok=True)

    @property
    def live(self) -> Path:
        return self.root / self.scheme.live(self._hour)

    def write(self, lines: int) -> None:
        """Append lines, the last one perhaps cut; what is missing follows later."""
        text = self._pending
        if not self._is_json and not self._pending and (not self.live.exists() or self.live.stat().st_size == 0):
            text += self._header()
        text += b"".join(self._line() for _ in range(lines))
        cut = self._draw.choice((0, 0, 1, self._draw.randrange(len(text) + 1)))
        self._pending = text[len(text) - cut :]
        self._append(text[: len(text) - cut])

    def finish(self) -> None:
        """Complete the last line."""
        self._append(self._pending)
        self._pending = b""

    def rotate(self) -> None:
        """Close the live file, rename it and those before it."""
        self.finish()
        live = self.live
        self._hour += 1
        if not live.exists():
            return
        self._files.append((self._hour - 1, live))
        renamed = []
        for age, (hour, path) in enumerate(reversed(self._files), start=1):
            name = self.scheme.rotated(hour, age)
            suffix = "" if path is live else "".join(suffix for suffix in COMPRESSIONS if path.name.endswith(suffix))
            target = self.root / (name + suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            renamed.append((age, hour, path, target))
        for age, hour, path, target in reversed(renamed):
            if path is live and self._copies and target != path:
                target.write_bytes(path.read_bytes())
                with path.open("r+b") as file:
                    file.truncate()
            elif target != path:
                path.rename(target)
            kept = target
            if self._suffix and not target.name.endswith(self._suffix) and (age > 1 or not self._is_delayed):
                kept = target.with_name(target.name + self._suffix)
                kept.write_bytes(COMPRESSIONS[self._suffix](target.read_bytes()))
                target.unlink()
            self._files[len(self._files) - age] = (hour, kept)

    def _append(self, text: bytes) -> None:
        self.live.parent.mkdir(parents=True, exist_ok=True)
        with self.live.open("ab") as file:
            file.write(text)

    def _header(self) -> bytes:
        opened = _at(self._hour, "%Y-%m-%d-%H-%M-%S")
        return (
            "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n"
            f"#open\t{opened}\n#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tduration\n"
            "#types\ttime\tstring\taddr\tport\taddr\tport\tenum\tinterval\n"
        ).encode()

    def _line(self) -> bytes:
        number = len(self.uids)
        uid = str(self.writer * 1_000_000 + number)
        self.uids.append(uid)
        seconds = min(number * 2, 3_599)
        when = START + timedelta(hours=self._hour, seconds=seconds)
        if self.scheme.is_eve:
            time = when.strftime("%Y-%m-%dT%H:%M:%S.000000+0000")
            return (
                f'{{"timestamp":"{time}","flow_id":{uid},"event_type":"ssh","src_ip":"10.0.0.1","src_port":1,'
                '"dest_ip":"192.0.2.1","dest_port":22,"proto":"TCP"}\n'
            ).encode()
        if self._is_json:
            return (
                f'{{"ts":{when.timestamp():.6f},"uid":"{uid}","id.orig_h":"10.0.0.1","id.orig_p":1,"id.resp_h":"192.0.2.1",'
                '"id.resp_p":443,"proto":"tcp","duration":0.5,"conn_state":"SF"}\n'
            ).encode()
        return f"{when.timestamp():.6f}\t{uid}\t10.0.0.1\t1\t192.0.2.1\t443\ttcp\t0.500000\n".encode()


def make_writers(draw: random.Random, root: Path) -> list[Writer]:
    """Return a writer of a scheme, or several sensors that each have a folder."""
    scheme = SCHEMES[draw.choice(list(SCHEMES))]
    if draw.random() < 0.75:
        return [Writer(scheme, root, draw)]
    return [Writer(scheme, root / f"sensor{letter}", draw, number) for number, letter in enumerate("AB")]


def write_history(draw: random.Random, writers: list[Writer]) -> Iterator[None]:
    """Write and rotate some hours, with a look now and then, the first one at the first lines."""
    for writer in writers:
        writer.write(2)
        writer.finish()
    yield
    for _ in range(draw.choice((1, 2, 4, 12))):
        for _ in range(draw.choice((0, 1, 1, 2, 3))):
            for writer in writers:
                writer.write(draw.choice((0, 1, 3, 20)))
            if draw.random() < 0.5:
                yield
        if draw.random() < 0.8:
            for writer in writers:
                writer.rotate()
            if draw.random() < 0.6:
                yield
    for writer in writers:
        writer.finish()
    yield
