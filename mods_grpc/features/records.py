"""Records of log lines, by protocol, with the fields that features and alerts use."""

from dataclasses import dataclass, field

from mods_grpc.features.names import is_group_address, registered_domain, subdomain

PROTOCOLS = ("conn", "dns", "http", "ssl", "ssh", "sip", "alert", "notice", "weird")
ADMIN_PORTS = frozenset({22, 135, 139, 445, 3389, 5985, 5986})  # SSH, RPC, NetBIOS, SMB, RDP, WinRM
LONG_CONNECTION_NS = 3_600 * 10**9
ICMP = frozenset({"icmp", "icmp6", "icmpv6", "ipv6-icmp"})  # as Zeek, Suricata and others write the transport protocol
# Messages of ICMP by which a host turns to another: those that ask for an answer, of ICMP and of ICMPv6, whose numbers differ.
# Of them Zeek and Suricata make one record with the answer. A record that begins with any other message is no contact of its
# originator: errors (unreachable, time exceeded, redirect, ...) and answers are what others caused, such as a scan from outside;
# advertisements and reports of group members go to whoever listens.
ICMP_REQUESTS = frozenset(
    {
        8,  # echo
        10,  # router solicitation
        13,  # timestamp
        15,  # information
        17,  # address mask
        42,  # extended echo
        128,  # from here on ICMPv6: echo
        130,  # query for group members
        133,  # router solicitation
        135,  # neighbour solicitation
        139,  # node information
        141,  # inverse neighbour discovery
        144,  # home agent discovery
        146,  # mobile prefix solicitation
        160,  # extended echo
    }
)
COMMON_QUERY_TYPES = frozenset({"A", "AAAA", "HTTPS", "SVCB", "PTR", "SRV", "SOA", "NS", "CNAME"})


@dataclass(kw_only=True, slots=True)
class Record:
    """The fields that every record has. Not frozen, for speed: a reader creates one per line.

    Attributes:
        ts: Event time, nanoseconds since 1970; the start of a connection.
        uid: Zeek's uid, or Suricata's flow id.
        orig_h: Address of the originator: IPv6 as RFC 5952 writes it, IPv4-mapped as IPv4.
        orig_p: Port of the originator, of ICMP the type of the first message; None if the protocol has none.
        resp_h: Address of the responder.
        resp_p: Port of the responder; of ICMP no port, but the code of the message or the type of its answer.
        local_orig: Whether the log calls the originator local; None if it does not say.
        local_resp: The same for the responder.
        sensor: The sensor or worker that wrote the line; empty if the log does not say.
        transactions: Number of transactions that the line stands for: 0 for a second line of one, n for n DNS questions.
        community_id: What stands for the flow in the logs of all sensors, such as `1:LQU9qZlK+B5F3KDmev6m5PMibrg=`.
        lacks: Attributes for features that the log never has, as its header says; None for a log without a header, which is of
            JSON.
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
    community_id: str | None = None
    lacks: tuple[str, ...] | None = field(default=None, compare=False, repr=False)

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

    @property
    def is_reply(self) -> bool:
        """Whether it is of what others caused, so that own columns count it for nobody: an error or answer of ICMP."""
        return False


@dataclass(kw_only=True, slots=True)
class Conn(Record):
    """A connection. Values are None where the log has none, and never negative."""

    duration: int | None = None  # nanoseconds, so that sums are exact
    orig_bytes: int | None = None
    resp_bytes: int | None = None
    proto: str | None = None  # transport protocol in lower case, such as `tcp`; None if the log does not say
    failed: bool | None = None  # whether the responder never answered, or refused; None if the log does not say
    service: str | None = None  # protocol of the application as the sensor names it, such as `ssl`; None if it found none
    conn_state: str | None = None  # such as `S0` of Zeek, `established` of Suricata

    @property
    def logged_ns(self) -> int:
        """End of the connection: Zeek writes the line then, with the time of the start."""
        return self.ts + (self.duration or 0)

    @property
    def is_reply(self) -> bool:
        """Whether it is an error or an answer of ICMP, see `ICMP_REQUESTS`; one whose type the log does not say is none."""
        return self.proto in ICMP and self.orig_p is not None and self.orig_p not in ICMP_REQUESTS

    @property
    def port(self) -> int | None:
        """Port of the responder; None of ICMP."""
        return None if self.proto in ICMP else self.resp_p

    @property
    def responder(self) -> str:
        """Address and port of the responder, or `icmp`, as one text."""
        return f"{self.resp_h} {'icmp' if self.proto in ICMP else self.resp_p}"

    @property
    def is_unanswered(self) -> bool | None:
        """Whether it failed, and was not sent to a group of hosts, which never answers."""
        return self.failed and not is_group_address(self.resp_h)

    @property
    def is_long(self) -> bool:
        """Whether it lasted for `LONG_CONNECTION_NS` or more."""
        return (self.duration or 0) >= LONG_CONNECTION_NS

    @property
    def is_admin(self) -> bool:
        """Whether the responder's port is one of `ADMIN_PORTS`."""
        return self.port in ADMIN_PORTS

    @property
    def admin_host(self) -> str | None:
        """Address of the responder if its port is one of `ADMIN_PORTS`; None otherwise."""
        return self.resp_h if self.port in ADMIN_PORTS else None


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
    qtype: str | None = None  # name of the query type, such as TXT; `TYPE65` where it has none
    nxdomain: bool | None = None  # whether the name does not exist, as the answer says; None without an answer
    rcode: str | None = None  # name of the response code in the answer, such as NXDOMAIN; `RCODE24` where it has none
    answered: str | tuple[str, ...] | None = None  # the name in an answer that is a line of its own, where `query` is None

    @property
    def domain(self) -> str | tuple[str, ...] | None:
        """Registered domain of each name, as `registered_domain` finds it."""
        if isinstance(self.query, tuple):
            return tuple(map(registered_domain, self.query))
        return registered_domain(self.query) if self.query else None

    @property
    def asked(self) -> str | tuple[str, ...] | None:
        """The names of the question, which both lines of a transaction have."""
        return self.answered if self.query is None else self.query

    @property
    def asked_domain(self) -> str | tuple[str, ...] | None:
        """Registered domain of each name that was asked for."""
        names = self.asked
        return tuple(map(registered_domain, names)) if isinstance(names, tuple) else names and registered_domain(names)

    @property
    def subdomain(self) -> str | tuple[str | None, ...] | None:
        """Each name as one below its domain, as `subdomain` writes it."""
        if isinstance(self.query, tuple):
            return tuple(map(subdomain, self.query))
        return None if self.query is None else subdomain(self.query)

    @property
    def query_bytes(self) -> int | None:
        """Length of the names in bytes of UTF-8; escapes count as written."""
        names = (self.query,) if isinstance(self.query, str) else self.query
        return None if names is None else sum(len(name.encode("utf-8", "replace")) for name in names)

    @property
    def has_rare_type(self) -> bool | None:
        """Whether the query type is none of `COMMON_QUERY_TYPES`."""
        return None if self.qtype is None else self.qtype not in COMMON_QUERY_TYPES


@dataclass(kw_only=True, slots=True)
class Http(Record):
    """An HTTP request. `request_bytes` is the length of its body."""

    method: str | None = None
    host: str | None = None
    uri: str | None = None
    status: int | None = None
    request_bytes: int | None = None
    user_agent: str | None = None

    @property
    def has_error(self) -> bool | None:
        """Whether the status is of an error of the client or the server: 400 to 599."""
        return None if self.status is None else 400 <= self.status < 600

    @property
    def url(self) -> str | None:
        """Host and URI."""
        return None if self.uri is None else f"{self.host or ''}{self.uri}"


@dataclass(kw_only=True, slots=True)
class Ssl(Record):
    """A TLS handshake."""

    server_name: str | None = None
    failed: bool | None = None  # whether no connection was established; None if the log does not say
    self_signed: bool | None = None  # whether the server's certificate is signed by itself; None if the log does not say


@dataclass(kw_only=True, slots=True)
class Ssh(Record):
    """An SSH session."""

    failed: bool | None = None  # whether the log-in failed; None if the log does not say
    client: str | None = None  # software of the client: `SSH-2.0-libssh_0.9` of Zeek, `libssh_0.9` of Suricata


@dataclass(kw_only=True, slots=True)
class Sip(Record):
    """A SIP request or response."""

    user_agent: str | None = None


@dataclass(kw_only=True, slots=True)
class Alert(Record):
    """An alert of Suricata."""

    severity: int | None = None  # 1 is the highest
    signature: str | None = None  # what the rule that raised it says

    @property
    def is_severity_1(self) -> bool:
        """Whether it is of the highest severity."""
        return self.severity == 1

    @property
    def is_severity_2(self) -> bool:
        """Whether it is of the second severity."""
        return self.severity == 2

    @property
    def is_severity_3(self) -> bool:
        """Whether it is of any lower severity."""
        return self.severity is not None and self.severity > 2


@dataclass(kw_only=True, slots=True)
class Notice(Record):
    """A notice of Zeek that names hosts."""

    name: str | None = None  # such as `Scan::Port_Scan`


@dataclass(kw_only=True, slots=True)
class Weird(Record):
    """Traffic that breaks a protocol's rules, as Zeek logs it, of a connection."""

    name: str | None = None  # such as `bad_TCP_checksum`


RECORD_TYPES: dict[str, type[Record]] = {
    "conn": Conn,
    "dns": Dns,
    "http": Http,
    "ssl": Ssl,
    "ssh": Ssh,
    "sip": Sip,
    "alert": Alert,
    "notice": Notice,
    "weird": Weird,
}
_PROTOCOL_BY_TYPE = {kind: name for name, kind in RECORD_TYPES.items()}
