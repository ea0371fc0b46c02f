"""The selection query of MODS: `protocol|column~alias|column;protocol|column#window_start,window_end`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mods_grpc.data.datapool_layout import JOIN_COLUMNS, WINDOW_START
from mods_grpc.errors import DataError
from training.data.feature import FeatureColumn, describe_column

DEFAULT_QUERY = (
    "conn|in_count_uid~conn_in|out_count_uid~conn_out;"
    "dns|in_distinct_query~dns_in_distinct#window_start,window_end;"
    "ssh|in~ssh_in#window_start,window_end"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """A parsed query.

    Rows of protocols are joined on `window_start` by an outer join.

    Attributes:
        features: The features in the query's order.
        checked_ends: Protocols whose join names `window_end`: their rows that do not end one window after they start are left
            out and counted.
    """

    features: tuple[FeatureColumn, ...]
    checked_ends: frozenset[str]

    def protocols(self) -> list[str]:
        """List the protocols in their order of first use."""
        return list(dict.fromkeys(feature.protocol for feature in self.features))

    def features_of(self, protocol: str) -> list[FeatureColumn]:
        """List the features of one protocol."""
        return [feature for feature in self.features if feature.protocol == protocol]


def parse_query(text: str) -> Query:
    """Parse a query.

    Raises:
        DataError: Malformed, a repeated name, or a join column that is not of the datapool.
    """
    features: list[FeatureColumn] = []
    checked: set[str] = set()
    for part in (part.strip() for part in text.split(";")):
        if not part:
            raise DataError("data_select_query: empty part; expected protocol|column~alias|column;protocol|column")
        selected, marker, joins = part.partition("#")
        protocol, *columns = [piece.strip() for piece in selected.split("|")]
        if not protocol or not columns:
            raise DataError(f"data_select_query: expected protocol|column, found {part!r}")
        if marker and _join_columns(joins, part) == set(JOIN_COLUMNS):
            checked.add(protocol)
        for item in columns:
            column, tilde, alias = (piece.strip() for piece in item.partition("~"))
            if not column or (tilde and not alias):
                raise DataError(f"data_select_query: expected column or column~alias, found {item!r} in {part!r}")
            features.append(describe_column(alias or column, protocol, column))
    names = [feature.name for feature in features]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"data_select_query: the names {', '.join(repeated)} repeat; rename columns with column~alias")
    return Query(features=tuple(features), checked_ends=frozenset(checked))


def format_query(columns: Mapping[str, Iterable[str]]) -> str:
    """Return the query that selects columns by protocol, each named after its protocol and itself."""
    parts = []
    for protocol, names in columns.items():
        chosen = [f"{column}~{re.sub(r'[^A-Za-z0-9]+', '_', f'{protocol}_{column}').strip('_')}" for column in names]
        parts.append("|".join([protocol, *chosen]))
    return ";".join(parts)


def _join_columns(joins: str, part: str) -> set[str]:
    names = {name.strip() for name in joins.split(",")}
    if WINDOW_START not in names or not names <= set(JOIN_COLUMNS):
        raise DataError(f"data_select_query: {part!r} joins on {joins!r}; expected window_start or window_start,window_end")
    return names
