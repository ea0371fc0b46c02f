"""Records of log lines, by protocol, with the fields that features and alerts use."""

from dataclasses import dataclass

PROTOCOLS = ("conn", "dns", "http", "ssl", "ssh", "sip")


@dataclass(kw_only=True, slots=True)
class Record:
    """The fields that every record has. Not frozen, for speed: a reader creates one per line.

    Attributes:
        ts: Event time, nanoseconds since 1970; the start of a connection.
        uid: Zeek's uid, or Suricata's flow id.
        orig_h: Address of the originator: IPv6 as RFC 5952 writes it, IPv4-mapped as IPv4.
        orig_p: Port of the originator; None if the protocol has none.
        resp_h: Address of the responder.
        resp_p: Port of the responder.
        local_orig: Whether the log calls the originator local; None if it does not say.
        local_resp: The same for the responder.
        sensor: The sensor or worker that wrote the line; empty if the log does not say.
        transactions: Number of transactions that the line stands for: 0 for a second line of one, n for n DNS questions.
    """

    ts: int
    uid: str | None = None
    orig_h: str
    orig_p: int | None = None
    resp_h: str
    resp_p: int | None = None
    local_orig: bool | None = None
    local_resp: bool | None = None
    sensor: str = ""
    transactions: int = 1

    @property
    def protocol(self) -> str:
        """Name of the log: one of `PROTOCOLS`."""
        return _PROTOCOL_BY_TYPE[type(self)]

    @property
    def has_local_flags(self) -> bool:
        """Whether the log says of both ends whether they are local."""
        return self.local_orig is not None and self.local_resp is not None

    @property
    def logged_ns(self) -> int:
        """Earliest time at which the line can have been written, nanoseconds since 1970."""
        return self.ts


@dataclass(kw_only=True, slots=True)
class Conn(Record):
    """A connection. Values are None where the log has none, and never negative."""

    duration: int | None = None  # nanoseconds, so that sums are exact
    orig_bytes: int | None = None
    resp_bytes: int | None = None

    @property
    def logged_ns(self) -> int:
        """End of the connection: Zeek writes the line then, with the time of the start."""
        return self.ts + (self.duration or 0)


@dataclass(kw_only=True, slots=True)
class Dns(Record):
    """A DNS transaction, or one of the two lines of it. `query` is a tuple if a message has several questions."""

    proto: str | None = None
    query: str | tuple[str, ...] | None = None
    AA: bool | None = None
    TC: bool | None = None
    RD: bool | None = None
    RA: bool | None = None
    rejected: bool | None = None


@dataclass(kw_only=True, slots=True)
class Http(Record):
    """An HTTP request."""


@dataclass(kw_only=True, slots=True)
class Ssl(Record):
    """A TLS handshake."""


@dataclass(kw_only=True, slots=True)
class Ssh(Record):
    """An SSH session."""


@dataclass(kw_only=True, slots=True)
class Sip(Record):
    """A SIP request or response."""

    user_agent: str | None = None


RECORD_TYPES: dict[str, type[Record]] = {"conn": Conn, "dns": Dns, "http": Http, "ssl": Ssl, "ssh": Ssh, "sip": Sip}
_PROTOCOL_BY_TYPE = {kind: name for name, kind in RECORD_TYPES.items()}
