"""Suricata writes to a unix socket: each of its events is stored and counted once, as when it writes to a file."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing

import pytest

from mods_grpc.ids.sources.eve_socket import EveReceiver
from mods_grpc.ids.sources.reader import LogReader
from tests.support.certificates import make_authority, needs_openssl
from tests.support.ids.captures import LOCAL, make_capture
from tests.support.ids.suricata import TYPES, releases

pytestmark = [pytest.mark.slow, needs_openssl]


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("capture")
    make_capture(*make_authority(folder), hours=1).write(folder / "traffic.pcap")
    return folder / "traffic.pcap"


def read(reader):
    """Return the records, apart from the numbers that Suricata gives to flows."""
    with reader:
        records = Counter(str(record).replace(record.uid or "-", "uid") for record in reader.poll())
    return records, reader.counters


@pytest.mark.parametrize("filetype", ["unix_stream", "unix_dgram"])
@pytest.mark.parametrize("suricata", releases())
def test_a_socket_gets_the_events_of_a_file(suricata, filetype, capture, tmp_path):
    with closing(EveReceiver(tmp_path / "eve.sock", tmp_path / "events", datagram=filetype == "unix_dgram")) as receiver:
        types = "types:\n" + "\n".join(f"  - {kind}" for kind in TYPES)
        suricata.run(capture, tmp_path / "suricata", f"filetype: {filetype}\nfilename: {tmp_path / 'eve.sock'}\n{types}")
    received, counters = read(LogReader(tmp_path / "events", follow=True, position=receiver.start))
    expected, written = read(LogReader(suricata.read(capture, tmp_path / "file")[0]))
    assert received == expected
    assert counters.malformed == {}
    assert (counters.records, counters.ignored) == (written.records, written.ignored)
    assert counters.records > 800


@pytest.mark.parametrize("filetype", ["unix_stream", "unix_dgram"])
@pytest.mark.parametrize("suricata", releases())
def test_a_watch_reads_the_events_that_suricata_writes_to_its_socket(suricata, filetype, capture, server, tmp_path):
    socket, log = tmp_path / "eve.sock", tmp_path / "log"
    words = ["watch", "--eve-socket", socket, "--server", server, "--state", tmp_path / "state", "--local", *LOCAL]
    words += ["--eve-datagram"] if filetype == "unix_dgram" else []
    command = [sys.executable, "-m", "mods_grpc", *map(str, words)]
    with log.open("w") as written, subprocess.Popen(command, stderr=written, stdout=subprocess.DEVNULL) as watch:
        try:
            wait_until(socket.exists)
            types = "types:\n" + "\n".join(f"  - {kind}" for kind in TYPES)
            suricata.run(capture, tmp_path / "suricata", f"filetype: {filetype}\nfilename: {socket}\n{types}")
            lines = (suricata.read(capture, tmp_path / "file")[0]).read_text().splitlines()
            # what the model and the rules need
            expected = sum(json.loads(line)["event_type"] in {"flow", "dns", "ssh"} for line in lines)

            def has_read_all():
                watch.send_signal(signal.SIGUSR1)
                return f"records={expected}" in log.read_text().replace(",", "")

            wait_until(has_read_all)
            watch.send_signal(signal.SIGTERM)
            watch.wait(30)
        finally:
            watch.kill()
    assert f"stopped records={expected} malformed=0 " in log.read_text()


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
