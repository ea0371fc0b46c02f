"""Writers of live logs: numbered records of Zeek or Suricata, whole lines or a line in two parts."""

import itertools
import json
import os
from datetime import UTC, datetime, timedelta

START = datetime(2024, 4, 19, tzinfo=UTC)


class Writer:
    """Writes numbered records to a file, as Zeek or Suricata does: whole lines or, when `cut` is set, a line in two parts.

    Attributes:
        written: Numbers of the records, unique among the writers of a setup.
    """

    def __init__(self, path, number, draw, *, form="eve", protocol="conn"):
        self.path, self.number, self.draw, self.form, self.protocol = path, number, draw, form, protocol
        self.written = []
        self._file = None
        self._rest = b""
        self._opened = 0
        self.clock = itertools.count()

    def open(self):
        self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        if self.form == "tsv" and not os.fstat(self._file).st_size:
            self._opened += 1
            os.write(self._file, self._header())

    def close(self):
        self.complete()
        if self._file is not None:
            os.close(self._file)
        self._file = None

    def complete(self):
        """Write the rest of a line that was cut."""
        if self._rest:
            os.write(self._file, self._rest)
            self._rest = b""

    def write(self, count, *, cut=False):
        if self._file is None:
            self.open()
        self.complete()
        for _ in range(count):
            self.written.append(self.number * 1_000_000 + len(self.written))
            line = self.line(self.written[-1]).encode()
            at = self.draw.randrange(1, len(line)) if cut else len(line)
            os.write(self._file, line[:at])
            if cut:
                self._rest = line[at:]
                return

    def write_text(self, text):
        if self._file is None:
            self.open()
        self.complete()
        os.write(self._file, text.encode())

    def _header(self):
        opened = f"#open\t2024-04-19-00-00-{self.number:02}.{self._opened}\n"
        names = "ts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p"
        types = "time\tstring\taddr\tport\taddr\tport"
        return (
            f"#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\t{self.protocol}\n{opened}"
            f"#fields\t{names}\n#types\t{types}\n"
        ).encode()

    def line(self, number):
        when = START + timedelta(milliseconds=100 * next(self.clock))
        if self.form == "tsv":
            return f"{when.timestamp():.6f}\tC{number}\t203.0.113.1\t1024\t10.0.0.1\t22\n"
        if self.form == "zeek-json":
            return (
                json.dumps(
                    {
                        "ts": when.timestamp(),
                        "uid": f"C{number}",
                        "id.orig_h": "203.0.113.1",
                        "id.orig_p": 1024,
                        "id.resp_h": "10.0.0.1",
                    }
                    | {"id.resp_p": 22}
                )
                + "\n"
            )
        stamp = when.strftime("%Y-%m-%dT%H:%M:%S.%f+0000")
        event = {"timestamp": stamp, "flow_id": number, "event_type": "ssh", "src_ip": "203.0.113.1", "src_port": 1024}
        return json.dumps(event | {"dest_ip": "10.0.0.1", "dest_port": 22, "proto": "TCP", "ssh": {}}) + "\n"


def number_of(record):
    """Return the number that a writer gave to a record."""
    return int(str(record.uid).removeprefix("C"))
