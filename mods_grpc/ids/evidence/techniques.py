"""Techniques of MITRE ATT&CK that evidence supports, each as possible: counts show what was done, never why."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mods_grpc.features.records import ADMIN_PORTS, ICMP
from mods_grpc.ids.evidence.conditions import FAILED_STATES, split_column, split_port
from mods_grpc.ids.evidence.evidence import Dimension, Evidence, FeatureEvidence, Unit

POSSIBLE = "possible"
FRAMEWORK = "MITRE ATT&CK"

MAX_SPREAD_SHARE = 0.25
"""Largest share of one value in what is spread: with more of it, a few servers or names are the matter, no scan."""

MAIN_SHARE = 0.5
"""What has less of the excess, such as answers with an error, does not stand for it."""

MIN_SCANNED = 15
"""Hosts or ports from which on it is a scan: Zeek's own scan detection asks for 15 ports of a host, or 25 hosts."""

MIN_PATHS = 10
"""Paths from which on errors are no broken links of one page: the shortest scans of WordPress ask for about 20."""

MIN_LOG_INS = 10
"""Failed log-ins that are no mistyped password: sshd allows 6 in a connection."""

MIN_ATTEMPTS = 30
"""Connections to a port of remote administration that guess, where the log does not say how a log-in ended."""

GUESSED_PORTS = ADMIN_PORTS | {21, 23, 1433, 3306, 5432, 5900}
"""Ports that ask for a password at once: remote administration, FTP, Telnet, databases and VNC."""

MAX_GUESSED_HOSTS = 3
"""Hosts that have at least nine tenths of what is guessed; more is a scan."""

MIN_TUNNEL_NAMES = 50
"""Different names that carry data; large services have some dozens of names below a domain."""

MAX_NAME_SHARE = 0.1
"""Largest share of one name: data never repeats itself, lookups of a service do."""

MIN_GENERATED_DOMAINS = 20
"""Domains that do not exist; a search list of suffixes, or mistyped names, give a handful."""

MIN_SENT_BYTES = 10_000_000.0
"""Bytes beyond what is usual; less is a form, a picture, or a message with an attachment."""

FLOOD_SHARE = 0.9
"""Share of the one that is flooded."""

MIN_FLOOD_RECORDS = 1_000
"""Connections or requests of a flood beyond what is usual."""

MIN_FLOOD_RATIO = 10.0
"""How many times the usual; a page that becomes popular overnight has less."""

_SENT_MEASURES = {"bytes_sent", "sum_orig_bytes", "new_host_bytes", "max_host_bytes", "max_bytes", "request_bytes"}
_WEB = {"http", "ssl"}
_LOCAL_NAMES = (".arpa", ".local")  # names of addresses, and of hosts and services of the network


@dataclass(frozen=True, kw_only=True, slots=True)
class Technique:
    """A technique that evidence supports.

    Attributes:
        id: Such as `T1595.001`.
        name: Its name; of a sub-technique after that of the technique: `Active Scanning: Scanning IP Blocks`.
        certainty: Always `POSSIBLE`.
    """

    id: str
    name: str
    certainty: str = POSSIBLE


SERVICE_DISCOVERY = Technique(id="T1046", name="Network Service Discovery")
ACTIVE_SCANNING = Technique(id="T1595", name="Active Scanning")
SCANNING_BLOCKS = Technique(id="T1595.001", name="Active Scanning: Scanning IP Blocks")
WORDLIST_SCANNING = Technique(id="T1595.003", name="Active Scanning: Wordlist Scanning")
BRUTE_FORCE = Technique(id="T1110", name="Brute Force")
DNS_PROTOCOL = Technique(id="T1071.004", name="Application Layer Protocol: DNS")
OTHER_PROTOCOL = Technique(id="T1048", name="Exfiltration Over Alternative Protocol")
COMMAND_CHANNEL = Technique(id="T1041", name="Exfiltration Over C2 Channel")
GENERATED_DOMAINS = Technique(id="T1568.002", name="Dynamic Resolution: Domain Generation Algorithms")
NETWORK_FLOOD = Technique(id="T1498", name="Network Denial of Service")
ENDPOINT_FLOOD = Technique(id="T1499", name="Endpoint Denial of Service")


def find_techniques(evidence: Evidence | None) -> tuple[Technique, ...]:
    """Return the techniques that the evidence supports, those of the leading feature first; of a fall there are none.

    What a further feature supports counts where it may have the same cause: where one source stands for the leading feature, it
    must not be another that stands for this one. An alert of lookups is not about guessing that goes on in the background.
    """
    features = () if evidence is None else evidence.features
    techniques = (
        each
        for feature in features
        if not feature.is_fall and _may_share_source(features[0], feature)
        for each in _techniques_of(feature)
    )
    return tuple(dict.fromkeys(techniques))


def _may_share_source(leading: FeatureEvidence, feature: FeatureEvidence) -> bool:
    ends = [each.dimension(Dimension.SOURCE) for each in (leading, feature)]
    sources = {each.dominant.value for each in ends if each is not None and each.dominant is not None}
    return feature is leading or len(sources) < 2


def _techniques_of(feature: FeatureEvidence) -> Iterator[Technique]:
    rules: tuple[Callable[[FeatureEvidence], Technique | None], ...]
    rules = (_scan, _web_scan, _brute_force, _tunnel, _exfiltration, _generated_domains)
    techniques = [technique for rule in rules if (technique := rule(feature)) is not None]
    flood = None if techniques else _flood(feature)  # many log-ins to one host are a flood of none
    yield from techniques if flood is None else [flood]


def _scan(feature: FeatureEvidence) -> Technique | None:
    """Find one source that many hosts or ports did not answer."""
    if feature.protocol != "conn" or feature.unit is not Unit.RECORDS or not _has_one(feature, Dimension.SOURCE):
        return None
    failed = 1.0 if _measure(feature) == "failed" else _share_of(feature, Dimension.CONN_STATE, FAILED_STATES)
    many = _is_spread(feature, Dimension.DESTINATION, MIN_SCANNED) or _is_spread(feature, Dimension.PORT, MIN_SCANNED)
    if failed < MAIN_SHARE or not many or _excess(feature) < MIN_SCANNED:
        return None
    if _direction(feature) != "in":
        return SERVICE_DISCOVERY
    hosts = feature.dimension(Dimension.DESTINATION)
    return SCANNING_BLOCKS if hosts is not None and hosts.dominant is None and hosts.distinct > 1 else ACTIVE_SCANNING


def _web_scan(feature: FeatureEvidence) -> Technique | None:
    """Find one source from outside that asks for many paths that are not there."""
    if feature.protocol != "http" or _direction(feature) != "in" or not _has_one(feature, Dimension.SOURCE):
        return None
    failed = 1.0 if _measure(feature) == "errors" else _share_if(feature, Dimension.STATUS, lambda value: value[:1] in {"4", "5"})
    return WORDLIST_SCANNING if failed >= MAIN_SHARE and _is_spread(feature, Dimension.PATH, MIN_PATHS) else None


def _brute_force(feature: FeatureEvidence) -> Technique | None:
    """Find log-ins that failed, or many connections of one source to a port that asks for a password."""
    if feature.protocol == "ssh":
        failed = 1.0 if _measure(feature) == "failed" else _share_of(feature, Dimension.AUTH, ("failed",))
        return BRUTE_FORCE if failed >= MAIN_SHARE and _excess(feature) * failed >= MIN_LOG_INS else None
    if feature.protocol != "conn" or feature.unit is not Unit.RECORDS or not _has_one(feature, Dimension.SOURCE):
        return None
    ports = feature.dimension(Dimension.PORT)
    port = None if ports is None or ports.dominant is None else split_port(ports.dominant.value)
    if port is None or port[0] not in GUESSED_PORTS or _excess(feature) < MIN_ATTEMPTS:
        return None
    hosts = feature.dimension(Dimension.DESTINATION)
    few = hosts is not None and sum(each.share for each in hosts.entities[:MAX_GUESSED_HOSTS]) >= FLOOD_SHARE
    answered = _measure(feature) != "failed" and _share_of(feature, Dimension.CONN_STATE, FAILED_STATES) < MAIN_SHARE
    return BRUTE_FORCE if few and answered else None


def _tunnel(feature: FeatureEvidence) -> Technique | None:
    """Find many names below one domain that are answered."""
    domains = feature.dimension(Dimension.DOMAIN) if feature.protocol == "dns" else None
    if domains is None or domains.dominant is None or domains.dominant.value.lower().endswith(_LOCAL_NAMES):
        return None
    names = feature.dimension(Dimension.QUERY)
    if names is None or names.distinct < MIN_TUNNEL_NAMES or any(each.share > MAX_NAME_SHARE for each in names.entities):
        return None
    if _measure(feature) == "nxdomain" or _share_of(feature, Dimension.RCODE, ("NXDOMAIN",)) >= MAIN_SHARE:
        return None
    return OTHER_PROTOCOL if feature.unit is Unit.BYTES else DNS_PROTOCOL


def _exfiltration(feature: FeatureEvidence) -> Technique | None:
    """Find much that was sent out to one host: one that was in contact before, as command and control is, or another."""
    if feature.unit is not Unit.BYTES or _direction(feature) != "out" or _measure(feature) not in _SENT_MEASURES:
        return None
    hosts = feature.dimension(Dimension.DESTINATION)
    if hosts is None or hosts.dominant is None or _excess(feature) * hosts.dominant.share < MIN_SENT_BYTES:
        return None
    return COMMAND_CHANNEL if hosts.dominant.before > 0 else OTHER_PROTOCOL


def _generated_domains(feature: FeatureEvidence) -> Technique | None:
    """Find one source that asks for many domains that do not exist."""
    if feature.protocol != "dns" or feature.unit is not Unit.RECORDS or not _has_one(feature, Dimension.SOURCE):
        return None
    missing = 1.0 if _measure(feature) == "nxdomain" else _share_of(feature, Dimension.RCODE, ("NXDOMAIN",))
    many = _is_spread(feature, Dimension.DOMAIN, MIN_GENERATED_DOMAINS)
    return GENERATED_DOMAINS if missing >= MAIN_SHARE and many and _excess(feature) >= MIN_GENERATED_DOMAINS else None


def _flood(feature: FeatureEvidence) -> Technique | None:
    """Find one local host that gets nearly all of many times the usual."""
    if feature.unit is not Unit.RECORDS or _direction(feature) != "in" or feature.protocol not in {"conn", *_WEB}:
        return None
    hosts = feature.dimension(Dimension.DESTINATION)
    if hosts is None or hosts.dominant is None or hosts.dominant.share < FLOOD_SHARE:
        return None
    if _excess(feature) < MIN_FLOOD_RECORDS or feature.total < MIN_FLOOD_RATIO * feature.before:
        return None
    if feature.protocol in _WEB:
        return ENDPOINT_FLOOD
    if _is_spread(feature, Dimension.PORT, MIN_SCANNED):
        return None  # several scans, of which none stands out
    ports = feature.dimension(Dimension.PORT)
    port = None if ports is None or ports.dominant is None else split_port(ports.dominant.value)
    unanswered = _measure(feature) == "failed" or _share_of(feature, Dimension.CONN_STATE, FAILED_STATES) >= MAIN_SHARE
    return NETWORK_FLOOD if unanswered or port is None or port[1] in {"udp", *ICMP} else ENDPOINT_FLOOD


def _direction(feature: FeatureEvidence) -> str:
    return split_column(feature.column)[0]


def _measure(feature: FeatureEvidence) -> str:
    return split_column(feature.column)[1]


def _excess(feature: FeatureEvidence) -> float:
    return feature.total - feature.before


def _has_one(feature: FeatureEvidence, dimension: Dimension) -> bool:
    """Return whether one value stands for the change."""
    evidence = feature.dimension(dimension)
    return evidence is not None and evidence.dominant is not None


def _is_spread(feature: FeatureEvidence, dimension: Dimension, number: int) -> bool:
    """Return whether there are so many values, none with much of the excess."""
    evidence = feature.dimension(dimension)
    return (
        evidence is not None
        and evidence.distinct >= number
        and bool(evidence.entities)
        and all(each.share <= MAX_SPREAD_SHARE for each in evidence.entities)
    )


def _share_of(feature: FeatureEvidence, dimension: Dimension, values: tuple[str, ...]) -> float:
    return _share_if(feature, dimension, lambda value: value in values)


def _share_if(feature: FeatureEvidence, dimension: Dimension, is_counted: Callable[[str], bool]) -> float:
    """Return the share of the excess that values have together; 0 where the log has no such dimension.

    Records without a value, such as log-ins whose end is not known, are part of the excess.
    """
    evidence, excess = feature.dimension(dimension), _excess(feature)
    counted = () if evidence is None else [each for each in evidence.entities if is_counted(each.value)]
    shares = sum(each.share for each in counted)
    return min(shares, sum(each.count - each.before for each in counted) / excess) if excess > 0 else shares
