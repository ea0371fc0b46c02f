"""The derived attributes of records as columns, equal to the properties of `mods_grpc.features.records`."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import polars as pl

from mods_grpc.features.names import registered_domain, subdomain
from mods_grpc.features.records import ADMIN_PORTS, COMMON_QUERY_TYPES, ICMP, ICMP_REQUESTS, LONG_CONNECTION_NS

_GROUP_ADDRESS = r"^(?:ff|2(?:2[4-9]|3[0-9])\.|255\.255\.255\.255$)"
_HIGHEST, _SECOND = 1, 2


def _is_unanswered() -> pl.Expr:
    failed = pl.col("failed")
    return pl.when(failed).then(~pl.col("resp_h").str.contains(_GROUP_ADDRESS)).otherwise(failed)


def _is_icmp() -> pl.Expr:
    return pl.col("proto").is_in(sorted(ICMP)).fill_null(value=False)


def is_reply() -> pl.Expr:
    """Return which records of connections are replies: `Conn.is_reply`."""
    return _is_icmp() & ~pl.col("orig_p").is_in(sorted(ICMP_REQUESTS)).fill_null(value=True)


def _port() -> pl.Expr:
    return pl.when(~_is_icmp()).then("resp_p")


def _responder() -> pl.Expr:
    port = pl.when(_is_icmp()).then(pl.lit("icmp")).otherwise(pl.col("resp_p").cast(pl.String).fill_null("None"))
    return pl.format("{} {}", pl.col("resp_h"), port)


def _is_long() -> pl.Expr:
    return pl.col("duration").fill_null(0) >= LONG_CONNECTION_NS


def _is_admin() -> pl.Expr:
    return _port().is_in(sorted(ADMIN_PORTS)).fill_null(value=False)


def _admin_host() -> pl.Expr:
    return pl.when(_is_admin()).then("resp_h")


def _domain() -> pl.Expr:
    query = pl.col("query")
    return pl.when(query != "").then(query).map_batches(partial(_of_different, registered_domain), return_dtype=pl.String)


def _subdomain() -> pl.Expr:
    return pl.col("query").map_batches(partial(_of_different, subdomain), return_dtype=pl.String)


def _of_different(function: Callable[[str], str | None], names: pl.Series) -> pl.Series:
    """Return what a function returns for each name; it is called once for each different name."""
    different = names.drop_nulls().unique()
    results = pl.Series(map(function, different), dtype=pl.String)
    return names.replace_strict(different, results, default=None, return_dtype=pl.String)


def _query_bytes() -> pl.Expr:
    return pl.col("query").str.len_bytes().cast(pl.Int64)


def _has_rare_type() -> pl.Expr:
    return ~pl.col("qtype").is_in(sorted(COMMON_QUERY_TYPES))


def _has_error() -> pl.Expr:
    return pl.col("status").is_between(400, 599)


def _url() -> pl.Expr:
    return pl.col("host").fill_null("") + pl.col("uri")


DERIVED: Mapping[str, Callable[[], pl.Expr]] = {
    "is_unanswered": _is_unanswered,
    "port": _port,
    "responder": _responder,
    "is_long": _is_long,
    "is_admin": _is_admin,
    "admin_host": _admin_host,
    "domain": _domain,
    "subdomain": _subdomain,
    "query_bytes": _query_bytes,
    "has_rare_type": _has_rare_type,
    "has_error": _has_error,
    "url": _url,
    "is_severity_1": lambda: (pl.col("severity") == _HIGHEST).fill_null(value=False),
    "is_severity_2": lambda: (pl.col("severity") == _SECOND).fill_null(value=False),
    "is_severity_3": lambda: (pl.col("severity") > _SECOND).fill_null(value=False),
}
"""By attribute, how its column is computed from those that `read_columns` returns; nulls are None."""


def add_derived(frame: pl.DataFrame, attributes: Iterable[str]) -> pl.DataFrame:
    """Add the derived ones of some attributes as columns."""
    return frame.with_columns(DERIVED[name]().alias(name) for name in dict.fromkeys(attributes) if name in DERIVED)
