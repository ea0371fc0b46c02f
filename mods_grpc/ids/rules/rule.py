"""The fixed rules: what each counts, over which time, up to which threshold, and who published it.

A rule concerns an own host: what it does to others, or, of SSH, what one address does to all own hosts together. Inbound scans
are no rule's, because an exposed host is scanned all the time.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.features.locality import SITE
from mods_grpc.features.names import has_public_suffix
from mods_grpc.features.records import Conn, Dns, Record, Ssh
from mods_grpc.ids.alerts.alert import Severity

_OUTWARD = ("out", "internal")
_NO_GROUP = ""
_MIN_BYTES = 4_096  # of a connection that can be one of an upload; most send less
_REVERSE = ".arpa"  # reverse lookups, which Slips leaves out too

ZEEK_SCAN = "Zeek 6.0, policy/misc/scan.zeek"
ZEEK_SSH = "Zeek, policy/protocols/ssh/detect-bruteforcing.zeek"
SLIPS_DGA = "Slips, modules/flow_alerts/dns.py, nxdomains_threshold"
SLIPS_UPLOAD = "Slips, config/slips.yaml, data_exfiltration_threshold"
RITA_DNS = "RITA 5, c2_subdomain_threshold"


class Counting(Enum):
    """How the observations of a group become a number."""

    DISTINCT = "distinct"  # number of different values
    SUM = "sum"  # sum of the amounts


class Observation(NamedTuple):
    """What a rule counts of a record.

    Attributes:
        host: The own host that is concerned; `SITE` for all of them together.
        group: What is counted for: a port, a peer or a domain.
        value: What is counted: a host, a port or a name; of sums an example; the own host where `host` is `SITE`.
        amount: What is added to a sum.
        is_marked: Whether it fulfils the condition of a rule that has one, which counts only after the threshold was reached.
    """

    host: str
    group: str
    value: str
    amount: int = 1
    is_marked: bool = False


Observe = Callable[[Record], Iterable[Observation]]


class Roles(Enum):
    """What host and group of an observation are in the traffic, for the fields of an alert."""

    HOST_TO_PORT = "host to port"  # the host is the source, the group the destination's port, the values are destinations
    HOST_TO_GROUP = "host to group"  # the host is the source, the group the destination, the values are ports
    HOST_TO_VALUES = "host to values"  # the host is the source, the values are destinations
    HOST_ONLY = "host only"  # the host is the source
    GROUP_TO_VALUES = "group to values"  # the group is the source, the values are destinations


class Grouping(Enum):
    """What the group of a rule is."""

    PORT = "port"
    PEER = "peer"  # the address of the other end
    DOMAIN = "registered domain"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One rule. An own host that reaches the threshold in a window, for any one group, raises an alert.

    Attributes:
        name: Name in flags and alerts.
        what: What it finds.
        counted: What is counted; `{}` stands for the group.
        record_type: The records that it counts.
        directions: Of which directions: `in`, `out` or `internal`.
        field: Attribute that it can't do without; it is blind if no record has it.
        needs: Attributes that one record must have beside it.
        observe: Returns what it counts of one.
        grouped_by: What it counts for; None if it counts all of a host together.
        roles: What host and group are in the traffic.
        counting: How.
        threshold: Number from which on it raises an alert.
        window_seconds: Length of a window.
        panes: Panes per window: how often it is evaluated.
        severity: Severity of its alerts.
        source: Who published threshold and window.
        forgotten_share: A group with less than this share of the threshold in a pane is forgotten for that pane, so that the
            ordinary takes no memory. A count can be short by this share in each pane.
        max_groups: Number of groups that a host has at least per pane; of more the smallest go.
        groups_per_alert: Number of groups that an alert can stand for; further ones have one of their own.
        needs_mark: Whether an alert needs a marked observation after the threshold was reached.
        needs_quiet_ssh: Whether it is mute while more remote addresses try SSH than a network without exposed hosts sees.
    """

    name: str
    what: str
    counted: str
    record_type: type[Record]
    directions: tuple[str, ...] = _OUTWARD
    field: str
    needs: tuple[str, ...] = ()
    observe: Observe
    grouped_by: Grouping | None = None
    roles: Roles
    counting: Counting
    threshold: int
    window_seconds: int
    panes: int
    severity: Severity
    source: str
    forgotten_share: float = 0.0
    max_groups: int = 64
    groups_per_alert: int = 5
    needs_mark: bool = False
    needs_quiet_ssh: bool = False

    @property
    def min_pane_count(self) -> int:
        """Least number of a group in a pane that is not forgotten."""
        return max(1, round(self.forgotten_share * self.threshold))

    @property
    def window_ns(self) -> int:
        """Length of a window, nanoseconds."""
        return self.window_seconds * NANOS_PER_SECOND

    @property
    def max_values(self) -> int:
        """Number of different values of a group in a pane that are counted; more are not."""
        return 4 * self.threshold

    @property
    def max_examples(self) -> int:
        """Number of values of a group in a pane that are kept as text: own hosts, or examples."""
        return _MAX_HOSTS_NAMED if self.roles is Roles.GROUP_TO_VALUES else _MAX_EXAMPLES

    @property
    def max_times(self) -> int:
        """Number of times of a group in a pane that are kept where a mark is needed; more are not counted."""
        return 4 * self.threshold


_MAX_EXAMPLES = 5
_MAX_HOSTS_NAMED = 16
_MAX_SOURCES = 4_096  # of a rule that counts by remote address
_ANY_NUMBER = 1_000_000
_HOUR_NS = 3_600 * NANOS_PER_SECOND


def _observe_failed_hosts(record: Record) -> Iterable[Observation]:
    assert isinstance(record, Conn)
    if _is_unanswered_tcp(record):
        return (Observation(record.orig_h, str(record.resp_p), record.resp_h),)
    return ()


def _observe_failed_ports(record: Record) -> Iterable[Observation]:
    assert isinstance(record, Conn)
    if _is_unanswered_tcp(record):
        return (Observation(record.orig_h, record.resp_h, str(record.resp_p)),)
    return ()


def _is_unanswered_tcp(record: Conn) -> bool:
    """Return whether it counts for a scan: as published TCP alone, so that traceroute and polls of dead hosts don't.

    A log without the transport protocol counts as one of TCP.
    """
    return bool(record.failed and record.proto in {None, "tcp"} and record.is_unanswered)


def _observe_bytes_out(record: Record) -> Iterable[Observation]:
    """A connection that lasted longer than a window counts as if it had sent its bytes evenly."""
    assert isinstance(record, Conn)
    if record.is_reply:
        return ()
    size, duration = record.orig_bytes or 0, record.duration or 0
    if duration > _HOUR_NS:
        size = size * _HOUR_NS // duration
    port = (record.proto or "unknown") if record.port is None else str(record.port)
    return (Observation(record.orig_h, record.resp_h, port, size),) if size >= _MIN_BYTES else ()


def _observe_ssh_hosts(record: Record) -> Iterable[Observation]:
    assert isinstance(record, Ssh)
    if record.failed is not False:
        return (Observation(record.orig_h, _NO_GROUP, record.resp_h),)
    return ()


def _observe_failed_logins(record: Record) -> Iterable[Observation]:
    assert isinstance(record, Ssh)
    if record.failed:
        return (Observation(record.orig_h, _NO_GROUP, record.resp_h, record.transactions),)
    return ()


def _observe_inbound_sessions(record: Record) -> Iterable[Observation]:
    assert isinstance(record, Ssh)
    if record.failed is not False:
        return (Observation(SITE, record.orig_h, record.resp_h, record.transactions),)
    return ()


def _observe_logins(record: Record) -> Iterable[Observation]:
    """A failed log-in counts, a successful one marks."""
    assert isinstance(record, Ssh)
    if record.failed is None:
        return ()
    amount = record.transactions if record.failed else 0
    return (Observation(SITE, record.orig_h, record.resp_h, amount, not record.failed),)


def _observe_names(record: Record) -> Iterable[Observation]:
    assert isinstance(record, Dns)
    # the domain itself and its web server are looked up for every domain, and are two names at most
    return [
        Observation(record.orig_h, domain, name)
        for name, domain in _name(record.query, record.domain)
        if name not in {domain, f"www.{domain}"}
    ]


def _observe_missing_domains(record: Record) -> Iterable[Observation]:
    assert isinstance(record, Dns)
    if not record.nxdomain:
        return ()
    return [Observation(record.orig_h, _NO_GROUP, domain) for _, domain in _name(record.asked, record.asked_domain)]


def _name(queries: str | tuple[str, ...] | None, domains: str | tuple[str, ...] | None) -> Iterable[tuple[str, str]]:
    """Yield name and registered domain of each question that can be of a tunnel or a generator.

    Names below no public suffix, such as `.lan`, `.local` or a single label, are of the local network: nobody registers them.
    """
    if queries is None or domains is None:
        return
    if isinstance(queries, str):
        queries, domains = (queries,), (str(domains),)
    for query, domain in zip(queries, domains, strict=True):
        name = query.lower().rstrip(".")
        if "." in name and not name.endswith(_REVERSE) and has_public_suffix(name):
            yield name, domain


RULES: tuple[Rule, ...] = (
    Rule(
        name="host-scan",
        what="scan of hosts",
        counted="hosts that did not answer on port {}",
        record_type=Conn,
        field="failed",
        observe=_observe_failed_hosts,
        grouped_by=Grouping.PORT,
        roles=Roles.HOST_TO_PORT,
        counting=Counting.DISTINCT,
        threshold=25,
        window_seconds=300,
        panes=2,
        severity=Severity.HIGH,
        source=f"{ZEEK_SCAN}, addr_scan_threshold",
        groups_per_alert=_ANY_NUMBER,  # a scan of hosts and ports is one
    ),
    Rule(
        name="port-scan",
        what="scan of ports",
        counted="ports of {} that did not answer",
        record_type=Conn,
        field="failed",
        observe=_observe_failed_ports,
        grouped_by=Grouping.PEER,
        roles=Roles.HOST_TO_GROUP,
        counting=Counting.DISTINCT,
        threshold=15,
        window_seconds=300,
        panes=2,
        severity=Severity.HIGH,
        source=f"{ZEEK_SCAN}, port_scan_threshold",
        forgotten_share=0.13,  # one port: a scan of hosts has that of each
        max_groups=16,
        groups_per_alert=_ANY_NUMBER,  # a scan of hosts and ports is one
    ),
    Rule(
        name="ssh-hosts",
        what="SSH to many hosts",
        counted="hosts with SSH sessions not known to have logged in",
        record_type=Ssh,
        field="resp_h",
        observe=_observe_ssh_hosts,
        roles=Roles.HOST_TO_VALUES,
        counting=Counting.DISTINCT,
        threshold=25,
        window_seconds=1_800,
        panes=3,
        severity=Severity.HIGH,
        source=f"{ZEEK_SCAN}, addr_scan_threshold, over guessing_timeout of detect-bruteforcing.zeek",
    ),
    Rule(
        name="ssh-guessing",
        what="guessing of SSH passwords",
        counted="failed SSH log-ins",
        record_type=Ssh,
        field="failed",
        observe=_observe_failed_logins,
        roles=Roles.HOST_TO_VALUES,
        counting=Counting.SUM,
        threshold=30,
        window_seconds=1_800,
        panes=3,
        severity=Severity.HIGH,
        source=f"{ZEEK_SSH}, password_guesses_limit",
    ),
    Rule(
        name="ssh-inbound",
        what="guessing of SSH passwords from outside",
        counted="SSH sessions of {} not known to have logged in",
        record_type=Ssh,
        directions=("in",),
        field="orig_h",
        observe=_observe_inbound_sessions,
        grouped_by=Grouping.PEER,
        roles=Roles.GROUP_TO_VALUES,
        counting=Counting.SUM,
        threshold=30,
        window_seconds=1_800,
        panes=3,
        severity=Severity.MEDIUM,
        source=f"{ZEEK_SSH}, password_guesses_limit",
        max_groups=_MAX_SOURCES,
        needs_quiet_ssh=True,
    ),
    Rule(
        name="ssh-break-in",
        what="SSH log-in after guessing",
        counted="failed SSH log-ins of {}, which then logged in",
        record_type=Ssh,
        directions=("in", "internal"),
        field="failed",
        observe=_observe_logins,
        grouped_by=Grouping.PEER,
        roles=Roles.GROUP_TO_VALUES,
        counting=Counting.SUM,
        threshold=30,
        window_seconds=1_800,
        panes=3,
        severity=Severity.CRITICAL,
        source=f"{ZEEK_SSH}, password_guesses_limit",
        max_groups=_MAX_SOURCES,
        needs_mark=True,
    ),
    Rule(
        name="dns-subdomains",
        what="many names of one domain",
        counted="different names of {} looked up",
        record_type=Dns,
        field="query",
        observe=_observe_names,
        grouped_by=Grouping.DOMAIN,
        roles=Roles.HOST_ONLY,
        counting=Counting.DISTINCT,
        threshold=100,
        window_seconds=86_400,
        panes=24,
        severity=Severity.HIGH,
        source=RITA_DNS,
        forgotten_share=0.03,
        max_groups=256,
    ),
    Rule(
        name="dns-nxdomain",
        what="domains that do not exist",
        counted="domains looked up that do not exist",
        record_type=Dns,
        field="nxdomain",
        needs=("asked",),
        observe=_observe_missing_domains,
        roles=Roles.HOST_ONLY,
        counting=Counting.DISTINCT,
        threshold=10,
        window_seconds=3_600,
        panes=6,
        severity=Severity.MEDIUM,
        source=SLIPS_DGA,
    ),
    Rule(
        name="bytes-out",
        what="bytes to one host",
        counted="bytes sent to {}",
        record_type=Conn,
        directions=("out",),
        field="orig_bytes",
        observe=_observe_bytes_out,
        grouped_by=Grouping.PEER,
        roles=Roles.HOST_TO_GROUP,
        counting=Counting.SUM,
        threshold=500_000_000,
        window_seconds=3_600,
        panes=6,
        severity=Severity.MEDIUM,
        source=SLIPS_UPLOAD,
        forgotten_share=0.001,
    ),
)
RULE_NAMES = tuple(rule.name for rule in RULES)
