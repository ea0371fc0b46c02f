"""Captures of traffic made with scapy, and what they hold: the truth that a reader of Suricata's events must arrive at."""

import logging
import random
import ssl
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

logging.getLogger("scapy").setLevel(logging.ERROR)  # it warns of the machine's interfaces when it is imported

from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment  # noqa: E402
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6  # noqa: E402
from scapy.layers.l2 import ARP, Dot1Q, Ether  # noqa: E402
from scapy.packet import Packet, Raw  # noqa: E402
from scapy.utils import wrpcap  # noqa: E402

START = 1_713_484_800  # 2024-04-19T00:00:00Z
GAP = 0.01  # seconds between packets
HOST, SERVER, OUTSIDER = "10.0.0.5", "198.51.100.7", "203.0.113.9"
HOST6, SERVER6 = "2001:db8:1::5", "2001:db8:ffff::7"
LOCAL = ("10.0.0.0/8", "2001:db8:1::/48")
DNS, HTTP, TLS, SSH, SIP = 53, 80, 443, 22, 5060

NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5
Labels = tuple[bytes, ...]
ODD_NAMES: tuple[Labels, ...] = (
    (b"bell\x07tab\tline\nend\x7f", b"example"),
    (b"nul\0", b"example"),
    (b"escape\x1b[2J", b"example"),
    (b"dot.in.label", b"example"),
    ("zürich".encode(), b"example"),
    ("\u202egnp.exe".encode(), b"example"),
    (b"\xff\xfe\x80", b"example"),
    (b'quo"te\\back', b"example"),
    (b"a" * 63, b"b" * 63, b"c" * 63, b"d" * 61),
    (b"CaSe", b"Example"),
    (b" space ", b"example"),
    (b"-", b"example"),
    (b"(empty)",),
    (),
)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A connection, or a transaction of another protocol, as both ends would tell it.

    Attributes:
        protocol: `conn`, `dns`, ...; `answer` for an answer of DNS.
        start: Seconds since 1970.
        orig, resp: Addresses of the client and the server.
        duration: Of a connection, in seconds.
        bytes_out, bytes_in: Of a connection: bytes of all frames from and to its client.
        name: Asked name, or for an answer None.
        transport: `udp` or `tcp`.
        flags: Flags of an answer that are set: `AA`, `TC`, `RD`, `RA`, and `rejected` for one without any records.
        fields: Fields of its record that Suricata can tell, by name.
    """

    protocol: str
    start: float
    orig: str
    resp: str
    duration: float = 0.0
    bytes_out: int = 0
    bytes_in: int = 0
    name: bytes | None = None
    transport: str = ""
    flags: frozenset[str] = frozenset()
    fields: dict[str, object] = field(default_factory=dict, compare=False)


@dataclass
class _Connection:
    """Two ends, and what went between them.

    Attributes:
        orig, resp: The ends.
        orig_port, resp_port: Their ports.
        times: When its frames were seen.
        sizes: Bytes of all frames from either end.
        sequence: Next sequence number of either end.
    """

    orig: str
    orig_port: int
    resp: str
    resp_port: int
    times: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=lambda: [0, 0])
    sequence: list[int] = field(default_factory=lambda: [1_000, 5_000])


class Capture:
    """Packets, and what they mean.

    Attributes:
        seen: What the packets are, by protocol.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self._packets: list[Packet] = []
        self._now = float(START)
        self._port = 40_000
        self._id = 0

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._now = round(self._now + seconds, 6)

    def wait_until(self, seconds: float) -> None:
        """Let time pass until so many seconds after the start."""
        self._now = max(self._now, START + seconds)

    def write(self, path: Path) -> None:
        """Write the packets to a file."""
        wrpcap(str(path), self._packets)

    def resolve(
        self,
        *questions: Labels,
        orig: str = HOST,
        resp: str = SERVER,
        rcode: int = NOERROR,
        answers: int = 1,
        flags: Sequence[str] = ("RD", "RA"),
        port: int | None = None,
        is_answered: bool = True,
    ) -> None:
        """Ask a server over UDP, in one query; it answers the first question."""
        connection = self._open(orig, resp, DNS, port)
        query, answer = self._dns_messages(questions, rcode, answers, flags)
        self._exchange_dns(connection, questions, query, answer if is_answered else b"", "udp", flags, answers)
        self._close(connection)

    def resolve_over_tcp(self, *names: Labels, orig: str = HOST, resp: str = SERVER) -> None:
        """Ask for names one after the other over one connection."""
        connection = self._open(orig, resp, DNS)
        self._handshake(connection)
        for name in names:
            query, answer = self._dns_messages((name,), NOERROR, 1, ("RD", "RA"))
            self._exchange_dns(connection, (name,), query, answer, "tcp", ("RD", "RA"), 1)
        self._finish(connection)

    def browse(self, pages: int = 1, orig: str = HOST, resp: str = SERVER, port: int = HTTP) -> None:
        """Get pages over one connection."""
        connection = self._open(orig, resp, port)
        self._handshake(connection)
        for page in range(pages):
            fields = {"method": "GET", "host": "www.example", "uri": f"/{page}", "status": 200, "user_agent": "test"}
            self._note("http", connection, fields=fields)
            self._send(connection, 0, b"GET /%d HTTP/1.1\r\nHost: www.example\r\nUser-Agent: test\r\n\r\n" % page)
            self._send(connection, 1, b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")
        self._finish(connection)

    def shake_hands(
        self,
        key: Path,
        certificate: Path,
        orig: str = HOST,
        resp: str = SERVER,
        *,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> None:
        """Open a TLS session and send some data. Before version 1.3 the certificate, which signs itself, can be seen."""
        connection = self._open(orig, resp, TLS)
        self._handshake(connection)
        is_seen = version < ssl.TLSVersion.TLSv1_3
        self._note("ssl", connection, fields={"server_name": "www.example", "self_signed": True if is_seen else None})
        client_in, client_out, server_in, server_out = (ssl.MemoryBIO() for _ in range(4))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = version
        client = context.wrap_bio(client_in, client_out, server_hostname="www.example")
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_context.load_cert_chain(certificate, key)
        server = server_context.wrap_bio(server_in, server_out, server_side=True)
        for _ in range(4):
            for end in (client, server):
                with suppress(ssl.SSLWantReadError):
                    end.do_handshake()
            for side, sent, received in ((0, client_out, server_in), (1, server_out, client_in)):
                if data := sent.read():
                    self._send(connection, side, data)
                    received.write(data)
        client.write(b"GET / HTTP/1.0\r\n\r\n")
        self._send(connection, 0, client_out.read())
        self._finish(connection)

    def log_in(self, orig: str = HOST, resp: str = SERVER, port: int = SSH) -> None:
        """Exchange the banners of SSH; the server speaks first."""
        connection = self._open(orig, resp, port)
        self._handshake(connection)
        self._note("ssh", connection)
        self._send(connection, 1, b"SSH-2.0-OpenSSH_9.2\r\n")
        self._send(connection, 0, b"SSH-2.0-PuTTY_0.81\r\n")
        self._finish(connection)

    def call(self, orig: str = HOST, resp: str = SERVER) -> None:
        """Call by SIP: three requests, with a provisional and two final responses."""
        connection = self._open(orig, resp, SIP, SIP)
        self._id += 1
        for method, responses in ((b"INVITE", (b"100 Trying", b"200 OK")), (b"ACK", ()), (b"BYE", (b"200 OK",))):
            fields = (
                b"Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK%d\r\nFrom: <sip:a@example>;tag=1\r\nTo: <sip:b@example>;tag=2\r\n"
                b"Call-ID: %d@10.0.0.5\r\nCSeq: 1 %s\r\nContent-Length: 0\r\n\r\n" % (self._id, self._id, method)
            )
            self._note("sip", connection)
            self._send_datagram(connection, 0, method + b" sip:b@example SIP/2.0\r\n" + fields)
            for response in responses:
                self._send_datagram(connection, 1, b"SIP/2.0 " + response + b"\r\n" + fields)
        self._close(connection)

    def talk(self, *pauses: float, orig: str = HOST, resp: str = SERVER, port: int = 9_999, size: int = 20) -> None:
        """Send a datagram, and one more after each pause, in turn."""
        connection = self._open(orig, resp, port)
        self._send_datagram(connection, 0, b"x" * size)
        for number, pause in enumerate(pauses):
            self.wait(pause)
            self._send_datagram(connection, (number + 1) % 2, b"x" * size)
        self._close(connection)

    def talk_in_fragments(self, orig: str = HOST, resp: str = SERVER) -> None:
        """Send a datagram that is larger than a frame. Suricata counts the frame that it would have been."""
        connection = self._open(orig, resp, 9_998)
        self._id += 1
        whole = IP(src=orig, dst=resp, id=self._id) / UDP(sport=connection.orig_port, dport=9_998) / Raw(b"z" * 3_000)
        for piece in fragment(whole, fragsize=1_000):
            self._add(piece)
        connection.times = [self._now]
        connection.sizes[0] = len(Ether() / whole)
        self._close(connection)

    def ping(self, orig: str = HOST, resp: str = SERVER) -> None:
        """Send an echo request, which is answered."""
        self._id += 1
        connection = _Connection(orig, 0, resp, 0)
        for side, (source, target) in enumerate(((orig, resp), (resp, orig))):
            if ":" in orig:
                kind = (ICMPv6EchoRequest, ICMPv6EchoReply)[side]
                packet = IPv6(src=source, dst=target) / kind(id=self._id, seq=1, data=b"x" * 32)
            else:
                packet = IP(src=source, dst=target) / ICMP(type=(8, 0)[side], id=self._id, seq=1) / Raw(b"x" * 32)
            self._record(connection, side, packet)
        self._close(connection, has_failed=False)

    def reject(self, orig: str = HOST, resp: str = SERVER, port: int = 9_997) -> None:
        """Send a datagram to a closed port. An error of ICMP answers, which Suricata counts as a frame of the server."""
        connection = self._open(orig, resp, port)
        datagram = self._ip(connection, 0) / UDP(sport=connection.orig_port, dport=port) / Raw(b"x" * 20)
        self._record(connection, 0, datagram)
        self._record(connection, 1, self._ip(connection, 1) / ICMP(type=3, code=3) / datagram)
        self._close(connection, has_failed=True)

    def knock(
        self,
        orig: str = OUTSIDER,
        resp: str = HOST,
        port: int = 445,
        *,
        answers: Sequence[tuple[int, str]] = (),
        has_failed: bool,
    ) -> None:
        """Try to open a connection.

        Args:
            orig, resp: The ends.
            port: The port.
            answers: What follows: the end that sends, 1 for the server, and its flags.
            has_failed: Whether nothing answered, or the server refused.
        """
        connection = self._open(orig, resp, port)
        self._send(connection, 0, flags="S")
        for side, flags in answers:
            self._send(connection, side, flags=flags)
        self._close(connection, has_failed=has_failed)

    def add_noise(self) -> None:
        """Add frames that are no connection: ARP, and a datagram within a VLAN, which is one."""
        self._add_frame(Ether(src="02:00:00:00:00:01", dst="ff:ff:ff:ff:ff:ff") / ARP(psrc=HOST, pdst="10.0.0.1"))
        connection = self._open(HOST, SERVER, 7_777)
        frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / Dot1Q(vlan=5)
        frame /= IP(src=HOST, dst=SERVER) / UDP(sport=connection.orig_port, dport=7_777) / Raw(b"v")
        self._add_frame(frame)
        connection.times, connection.sizes = [self._now], [len(frame), 0]
        self._close(connection)

    def _open(self, orig: str, resp: str, port: int, orig_port: int | None = None) -> _Connection:
        self._port = self._port % 60_000 + 1 if self._port < 60_000 else 40_001
        return _Connection(orig, orig_port or self._port, resp, port)

    def _close(self, connection: _Connection, *, has_failed: bool | None = None) -> None:
        self.seen.append(
            Seen(
                protocol="conn",
                start=connection.times[0],
                orig=connection.orig,
                resp=connection.resp,
                duration=connection.times[-1] - connection.times[0],
                bytes_out=connection.sizes[0],
                bytes_in=connection.sizes[1],
                fields={"failed": not connection.sizes[1] if has_failed is None else has_failed},
            )
        )

    def _note(self, protocol: str, connection: _Connection, **values: object) -> None:
        self.seen.append(Seen(protocol=protocol, start=self._now, orig=connection.orig, resp=connection.resp, **values))  # type: ignore[arg-type]

    def _handshake(self, connection: _Connection) -> None:
        self._send(connection, 0, flags="S")
        self._send(connection, 1, flags="SA")
        self._send(connection, 0)

    def _finish(self, connection: _Connection) -> None:
        self._send(connection, 0, flags="FA")
        self._send(connection, 1, flags="FA")
        self._send(connection, 0)
        self._close(connection)

    def _send(self, connection: _Connection, side: int, data: bytes = b"", flags: str = "") -> None:
        """Send a segment; data are acknowledged."""
        sequence = connection.sequence
        segment = TCP(
            sport=(connection.orig_port, connection.resp_port)[side],
            dport=(connection.resp_port, connection.orig_port)[side],
            flags=flags or ("PA" if data else "A"),
            seq=sequence[side],
            ack=0 if flags == "S" else sequence[1 - side],
            window=8_192,
        )
        self._record(connection, side, self._ip(connection, side) / (segment / Raw(data) if data else segment))
        sequence[side] += len(data) + any(letter in flags for letter in "SF")
        if data:
            self._send(connection, 1 - side)

    def _send_datagram(self, connection: _Connection, side: int, data: bytes) -> None:
        ports = (connection.orig_port, connection.resp_port)
        datagram = UDP(sport=ports[side], dport=ports[1 - side]) / Raw(data)
        self._record(connection, side, self._ip(connection, side) / datagram)

    def _ip(self, connection: _Connection, side: int) -> Packet:
        ends = (connection.orig, connection.resp)
        return (IPv6 if ":" in connection.orig else IP)(src=ends[side], dst=ends[1 - side])

    def _record(self, connection: _Connection, side: int, packet: Packet) -> None:
        connection.sizes[side] += self._add(packet)
        connection.times.append(self._now)

    def _add(self, packet: Packet) -> int:
        return self._add_frame(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet)

    def _add_frame(self, frame: Packet) -> int:
        """Add a frame, and return its size."""
        self.wait(GAP)
        frame.time = self._now
        self._packets.append(frame)
        return len(frame)

    def _dns_messages(self, questions: Sequence[Labels], rcode: int, answers: int, flags: Sequence[str]) -> tuple[bytes, bytes]:
        self._id = self._id % 65_535 + 1
        asked = b"".join(_encode(labels) + struct.pack("!2H", 1, 1) for labels in questions)
        record = b"\xc0\x0c" + struct.pack("!2HIH4B", 1, 1, 60, 4, 192, 0, 2, 1)
        bits = {"AA": 0x0400, "TC": 0x0200, "RD": 0x0100, "RA": 0x0080}
        answer = 0x8000 | rcode | sum(bits[flag] for flag in flags)
        return (
            struct.pack("!6H", self._id, bits["RD"], len(questions), 0, 0, 0) + asked,
            struct.pack("!6H", self._id, answer, len(questions), answers, 0, 0) + asked + record * answers,
        )

    def _exchange_dns(
        self,
        connection: _Connection,
        questions: Sequence[Labels],
        query: bytes,
        answer: bytes,
        transport: str,
        flags: Sequence[str],
        answers: int,
    ) -> None:
        for labels in questions:
            self._note("dns", connection, name=b".".join(labels), transport=transport, fields={"qtype": "A"})
        for side, message in enumerate((query, answer)):
            if side == 1 and answer:
                marks = frozenset(flags) | ({"rejected"} if not answers else frozenset())
                exists = answer[3] & 0x0F != NXDOMAIN
                self._note("answer", connection, transport=transport, flags=marks, fields={"nxdomain": not exists})
            if message and transport == "udp":
                self._send_datagram(connection, side, message)
            elif message:
                self._send(connection, side, struct.pack("!H", len(message)) + message)


def _encode(labels: Labels) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def make_capture(key: Path, certificate: Path, *, hours: int = 3, seed: int = 1) -> Capture:
    """Make some hours of mixed traffic, in which no conversation lies in two windows of ten minutes."""
    capture, chance = Capture(), random.Random(seed)
    # where the ports are always the same ones, or there are none, each conversation needs another host
    inside, outside, inside6 = (
        map(str, ip_network(network).hosts()) for network in ("10.1.0.0/16", "192.88.0.0/16", "2001:db8:1:1::/64")
    )
    kinds = [
        lambda: capture.resolve((b"host%d" % chance.randrange(40), b"example")),
        lambda: capture.resolve((b"nothing%d" % chance.randrange(9), b"example"), rcode=NXDOMAIN, answers=0),
        lambda: capture.resolve((b"down", b"example"), rcode=SERVFAIL, answers=0),
        lambda: capture.resolve((b"not-yours", b"example"), rcode=REFUSED, answers=0, flags=("RD",)),
        lambda: capture.resolve((b"empty", b"example"), answers=0, flags=("AA", "RD", "RA")),
        lambda: capture.resolve((b"cut", b"example"), flags=("TC", "RD", "RA")),
        lambda: capture.resolve((b"one", b"example"), (b"two", b"example")),
        lambda: capture.resolve((b"slow", b"example"), is_answered=False),
        lambda: capture.resolve((b"peer", b"example"), port=DNS, orig=next(inside)),
        lambda: capture.resolve((b"peer", b"example"), port=DNS, orig=next(outside), resp="10.0.0.53"),
        lambda: capture.resolve((b"ours", b"example"), orig=OUTSIDER, resp="10.0.0.53", flags=("AA", "RD")),
        lambda: capture.resolve((b"inside", b"example"), resp="10.0.0.53"),
        lambda: capture.resolve((b"six", b"example"), orig=HOST6, resp=SERVER6),
        lambda: capture.resolve(chance.choice(ODD_NAMES)),
        lambda: capture.resolve_over_tcp((b"tcp1", b"example"), (b"tcp2", b"example")),
        lambda: capture.resolve_over_tcp((b"tcp6", b"example"), orig=HOST6, resp=SERVER6),
        lambda: capture.browse(chance.randrange(1, 4)),
        lambda: capture.browse(orig=OUTSIDER, resp="10.0.0.80"),
        lambda: capture.browse(orig=HOST6, resp=SERVER6),
        lambda: capture.shake_hands(key, certificate),
        lambda: capture.shake_hands(key, certificate, version=ssl.TLSVersion.TLSv1_2),
        lambda: capture.shake_hands(key, certificate, orig=SERVER6, resp=HOST6),
        capture.log_in,
        lambda: capture.log_in(orig=OUTSIDER, resp="10.0.0.22", port=2_222),
        lambda: capture.call(orig=next(inside)),
        lambda: capture.call(orig=next(outside), resp="10.0.0.60"),
        capture.talk,
        lambda: capture.talk(chance.randrange(1, 9), 0.25, size=chance.randrange(1, 1_400)),
        lambda: capture.talk(0.5, orig=HOST6, resp=SERVER6),
        capture.talk_in_fragments,
        lambda: capture.ping(orig=next(inside)),
        lambda: capture.ping(orig=next(inside6), resp=SERVER6),
        lambda: capture.knock(has_failed=True),
        lambda: capture.knock(orig=HOST, resp=SERVER, port=23, answers=[(1, "RA")], has_failed=True),
        lambda: capture.knock(port=24, answers=[(0, "R")], has_failed=True),
        lambda: capture.knock(port=25, answers=[(0, "FA")], has_failed=True),
        lambda: capture.knock(port=26, answers=[(1, "SA")], has_failed=False),
        lambda: capture.knock(port=27, answers=[(1, "SA"), (0, "R")], has_failed=False),
        lambda: capture.knock(port=28, answers=[(1, "SA"), (1, "RA")], has_failed=True),
        lambda: capture.knock(port=29, answers=[(1, "SA"), (0, ""), (1, "RA")], has_failed=False),
        capture.reject,
        capture.add_noise,
    ]
    for name in ODD_NAMES:
        capture.resolve(name)
    for window in range(hours * 6):
        capture.wait_until(window * 600 + 20)
        for conversation in [*kinds, *chance.choices(kinds, k=20)]:
            conversation()
            capture.wait(chance.uniform(0, 3))
        assert capture._now < START + window * 600 + 590
    return capture
