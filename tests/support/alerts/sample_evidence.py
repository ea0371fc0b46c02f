"""Sample evidence: a scan of a web server, what is spread, and names that an attacker would choose."""

from datetime import timedelta

from hypothesis import strategies as st

from mods_grpc.ids.alerts.alert import replace_surrogates
from mods_grpc.ids.evidence.evidence import Dimension, DimensionEvidence, Entity, Evidence, FeatureEvidence, Unit
from tests.support.alerts.hostile_names import START, names


def make_dimension(dimension, shares, *, total=100.0, distinct=None, before=0.0):
    """Return the evidence of a dimension from the shares of its values."""
    entities = tuple(Entity(value=value, count=share * total, before=before, share=share) for value, share in shares.items())
    return DimensionEvidence(dimension=dimension, entities=entities, distinct=distinct or len(entities))


def make_feature(protocol, column, dimensions, *, total=100.0, before=0.0, unit=Unit.RECORDS, is_fall=False, distinct=None):
    """Return the evidence of a feature from the shares of the values of its dimensions, and numbers of different values."""
    return FeatureEvidence(
        feature=f"{protocol}_{column}",
        protocol=protocol,
        column=column,
        unit=unit,
        is_fall=is_fall,
        total=total,
        before=before,
        dimensions=tuple(
            make_dimension(each, shares, total=total, distinct=(distinct or {}).get(each)) for each, shares in dimensions.items()
        ),
    )


SERVER, SCANNER = "10.0.0.80", "203.0.113.7"
SCAN = make_feature(
    "http",
    "in_errors",
    {
        Dimension.DESTINATION: {SERVER: 1.0},
        Dimension.PORT: {"80/tcp": 1.0},
        Dimension.HOST: {"shop.example": 1.0},
        Dimension.METHOD: {"GET": 1.0},
        Dimension.SOURCE: {SCANNER: 0.9, "198.51.100.4": 0.1},
        Dimension.PATH: {"/wp-login.php": 0.8, "/.env": 0.1},
        Dimension.STATUS: {"404": 1.0},
        Dimension.USER_AGENT: {"Mozilla/5.0 zgrab/0.x": 0.9},
    },
    total=103,
    before=2.5,
)
EVIDENCE = Evidence(
    features=(SCAN,),
    source_ip=SCANNER,
    destination_ip=SERVER,
    destination_port=80,
    transport="tcp",
    uids=("CBpnZL3085IfcJzSAe", "CIHAbb28smxUBNvwmd"),
    community_ids=("1:LQU9qZlK+B5F3KDmev6m5PMibrg=",),
    before_start=START - timedelta(days=1),
    before_end=START,
)
QUERIES = make_feature(
    "dns",
    "out_count_uid",
    {
        Dimension.SOURCE: {"10.0.0.5": 1.0},
        Dimension.DESTINATION: {"10.0.0.53": 1.0},
        Dimension.PORT: {"53/udp": 1.0},
        Dimension.DOMAIN: {"tunnel.example": 0.95},
        Dimension.QUERY: {f"{number}.tunnel.example": 0.004 for number in range(5)},
        Dimension.RCODE: {"NOERROR": 1.0},
    },
    total=400,
    distinct={Dimension.QUERY: 380},
)

values = names.map(replace_surrogates)  # readers of logs write them otherwise
_entities = st.lists(values, max_size=5, unique=True).flatmap(
    lambda values: st.lists(st.floats(0, 1), min_size=len(values), max_size=len(values)).map(
        lambda shares: dict(zip(values, sorted(shares, reverse=True), strict=True))
    )
)
hostile_features = st.builds(
    make_feature,
    st.sampled_from(["conn", "dns", "http", "ssl", "ssh", "sip", "alert", "notice", "weird"]),
    st.sampled_from(["in", "out", "internal_failed", "in_count_uid", "out_bytes_sent", "in_errors", "in_severity_3", "x"]),
    st.dictionaries(st.sampled_from(Dimension), _entities, max_size=8),
    total=st.floats(0, 1e12),
    unit=st.sampled_from(Unit),
    is_fall=st.booleans(),
)
_addresses = st.sampled_from([None, "10.0.0.80", "203.0.113.7", "2001:db8::7"])
hostile_evidence = st.builds(
    Evidence,
    features=st.lists(hostile_features, max_size=2).map(tuple),
    source_ip=_addresses,
    destination_ip=_addresses,
    destination_port=st.none() | st.integers(0, 65_535),
    transport=st.sampled_from([None, "tcp", "udp", "icmp"]),
    uids=st.lists(values | st.sampled_from(["1234567890", "99999999999999999999"]), max_size=3).map(tuple),
    community_ids=st.lists(values, max_size=2).map(tuple),
)
