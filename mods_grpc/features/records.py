"""What a log line says, by protocol: the fields that features and alerts need, and no others."""

from dataclasses import dataclass

PROTOCOLS = ("conn", "dns", "http", "ssl", "ssh", "sip")


@dataclass(kw_only=True, slots=True)
class Record:
    """What every record has. Not frozen, for speed: a reader makes one for each line.

    Attributes:
        ts: Event time, nanoseconds since 1970: for a connection its start.
        uid: Zeek's uid, or Suricata's flow id.
        orig_h: Address of the originator, as the log spells it.
        orig_p: Its port; None where the protocol has none.
        resp_h: Address of the responder.
        resp_p: Its port.
        local_orig: Whether the log itself calls the originator local; None where it does not say.
        local_resp: The same of the responder.
        sensor: Which sensor or worker wrote the line; empty where the log does not say.
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

    @property
    def protocol(self) -> str:
        """Return the name of the log: one of `PROTOCOLS`."""
        return _NAMES[type(self)]

    @property
    def logged(self) -> int:
        """Return when the line can have been written at the earliest, nanoseconds since 1970."""
        return self.ts


@dataclass(kw_only=True, slots=True)
class Conn(Record):
    """A connection. None where the log has no value; never negative."""

    duration: int | None = None  # nanoseconds, so that sums are exact
    orig_bytes: int | None = None
    resp_bytes: int | None = None

    @property
    def logged(self) -> int:
        """Return the end of the connection: Zeek writes it then, under the time of its start."""
        return self.ts + (self.duration or 0)


@dataclass(kw_only=True, slots=True)
class Dns(Record):
    """A DNS transaction."""

    proto: str | None = None
    query: str | None = None
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


RECORDS: dict[str, type[Record]] = {"conn": Conn, "dns": Dns, "http": Http, "ssl": Ssl, "ssh": Ssh, "sip": Sip}
_NAMES = {kind: name for name, kind in RECORDS.items()}
