import pytest

from mods_grpc.errors import DataError
from training.data.query import DEFAULT_QUERY, parse_query


def test_the_default_query_of_mods_selects_its_four_features_in_order() -> None:
    query = parse_query(DEFAULT_QUERY)
    features = [(feature.name, feature.protocol, feature.column, feature.kind) for feature in query.features]
    assert features == [
        ("conn_in", "conn", "in_count_uid", "count"),
        ("conn_out", "conn", "out_count_uid", "count"),
        ("dns_in_distinct", "dns", "in_distinct_query", "count"),
        ("ssh_in", "ssh", "in", "count"),
    ]
    assert query.checked_ends == {"dns", "ssh"}


def test_kind_and_unit_follow_from_the_column() -> None:
    sums, means = parse_query("conn|in_sum_orig_bytes~sent_MB|in_avg_duration").features
    assert (sums.kind, sums.unit, sums.divisor) == ("sum", "MB", 1024.0**2)
    assert (means.kind, means.unit, means.divisor) == ("mean", "s", 1.0)


def test_the_join_may_stand_at_any_protocol_or_at_none() -> None:
    plain = parse_query("conn|in_count_uid; ssh|in")
    joined = parse_query("conn|in_count_uid # window_start; ssh|in#window_start , window_end")
    assert plain.features == joined.features
    assert (plain.checked_ends, joined.checked_ends) == (frozenset(), frozenset({"ssh"}))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "empty part"),
        ("conn|in_count_uid;", "empty part"),
        ("conn", "expected protocol[|]column, found"),
        ("|in", "expected protocol[|]column, found"),
        ("conn|", "expected column or column~alias"),
        ("conn|in_count_uid~", "expected column or column~alias"),
        ("conn|in_count_uid#uid", "expected window_start"),
        ("conn|in_count_uid#", "expected window_start"),
        ("ssh|in;http|in", "in repeat"),
        ("ssh|in~ssh_kB", "converts bytes"),
    ],
)
def test_a_malformed_query_is_refused_with_a_reason(query: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_query(query)
