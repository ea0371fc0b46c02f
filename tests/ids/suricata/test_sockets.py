"""Suricata writes to a unix socket: each of its events is stored and counted once, as when it writes to a file."""

from collections import Counter
from contextlib import closing

import pytest

from mods_grpc.ids.sources.eve_socket import EveReceiver
from mods_grpc.ids.sources.reader import LogReader
from tests.support.certificates import make_authority, needs_openssl
from tests.support.ids.captures import make_capture
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
