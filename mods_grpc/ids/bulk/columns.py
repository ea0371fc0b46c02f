"""Parses blocks of Zeek TSV into columns with polars. Only lines that are certainly records are parsed; the others are returned.

The returned lines go through the parser of single lines, which finds out what is wrong with them, if anything. So both parsers
agree on every line, and this one may be strict.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from mods_grpc.array_types import Integers
from mods_grpc.ids.logs import line_rules
from mods_grpc.ids.logs.zeek import TsvHeader
from mods_grpc.ids.logs.zeek_fields import FIELDS

_TIME = r"^[0-9]{9,10}(\.[0-9]{1,9})?$"
_DURATION = r"^[0-9]{1,9}(\.[0-9]{1,9})?$"
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"^(?:{_OCTET}\.){{3}}{_OCTET}$"
_WHOLE = r"^[0-9]{1,16}$"


@dataclass(frozen=True, slots=True)
class RecordColumns:
    """The records of a block.

    Attributes:
        frame: Lines that are certainly records; columns are named like the attributes of records, times and durations are in
            nanoseconds, unset values are null.
        uncertain: The other lines, each with its offset in the block.
        lines: Number of lines in the block.
    """

    frame: pl.DataFrame
    uncertain: list[tuple[int, bytes]]
    lines: int


def read_columns(block: bytes, header: TsvHeader, protocol: str, latest_ns: int) -> RecordColumns:
    """Parse a block of whole lines.

    Args:
        block: The lines, without header lines.
        header: Their header.
        protocol: Protocol of the log.
        latest_ns: Records after this time are malformed, nanoseconds since 1970.

    Raises:
        MalformedLineError: The header does not fit the protocol.
        polars.exceptions.PolarsError: The block can't be parsed by columns, only line by line.
    """
    wanted = [(field, str(index)) for field, index in header.columns(protocol)]
    sensor = header.sensor_column()
    count = len(header.names)
    raw = _parse_csv(
        block, header.separator, count, {name for _, name in wanted} | ({str(sensor)} if sensor is not None else set())
    )
    checks = [pl.col(str(count)).is_null(), pl.col(str(count - 1)).is_not_null()]
    present = {field for field, _ in wanted}
    columns = [
        pl.lit(None, dtype=_DTYPES.get(field.type, pl.String)).alias(field.attribute)
        for field in FIELDS[protocol]
        if field not in present
    ]
    for field, name in wanted:
        value = pl.col(name)
        is_set = value != header.unset
        is_valid, parsed = _CONVERSIONS[field.type](value, latest_ns)
        checks.append((is_valid & is_set if field.required else is_valid | ~is_set).fill_null(value=False))
        columns.append(
            pl.when(is_set).then(parsed.replace(header.empty, "") if field.type == "string" else parsed).alias(field.attribute)
        )
    if sensor is not None:
        value = pl.col(str(sensor))
        checks.append((~value.str.contains(line_rules.CONTROL_CHARACTER)).fill_null(value=False))
        columns.append(pl.when(value != header.unset).then(value).otherwise(pl.lit("")).alias("sensor"))
    else:
        columns.append(pl.lit("").alias("sensor"))
    checks.append(_are_addresses(raw, [name for field, name in wanted if field.type == "addr"]))
    is_certain = raw.select(pl.all_horizontal(checks)).to_series().to_numpy()
    starts, ends = _line_bounds(block)
    if len(starts) != len(is_certain):
        raise pl.exceptions.ComputeError("lines and rows do not agree")
    is_certain = is_certain & (ends - starts <= line_rules.MAX_LINE_BYTES)
    uncertain = [(int(starts[row]), block[starts[row] : ends[row]]) for row in np.flatnonzero(~is_certain)]
    return RecordColumns(raw.filter(pl.Series(is_certain)).select(columns), uncertain, len(is_certain))


def _parse_csv(block: bytes, separator: str, count: int, wanted: set[str]) -> pl.DataFrame:
    """Return columns of a block as text, named by their number: those wanted, the last of `count`, and what stands after it."""
    first = separator.join(map(str, range(count + 1))).encode() + b"\n"
    for encoding in ("utf8", "utf8-lossy"):
        try:
            return pl.read_csv(
                first + block,
                separator=separator,
                quote_char=None,
                infer_schema=False,
                truncate_ragged_lines=True,
                encoding=encoding,
                columns=sorted(wanted | {str(count - 1), str(count)}),
            )
        except pl.exceptions.ComputeError:
            if encoding == "utf8-lossy":
                raise
    raise AssertionError


def _line_bounds(block: bytes) -> tuple[Integers, Integers]:
    """Return the offsets of the starts and ends of n lines, `(n,)` each, the line ends not included."""
    ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n"))
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(block))
    return np.concatenate([[0], ends[:-1] + 1]), ends


def _to_nanos(value: pl.Expr) -> pl.Expr:
    return (value.cast(pl.Float64, strict=False) * 1e6 + 0.5).floor().cast(pl.Int64, strict=False) * 1000


def _convert_time(value: pl.Expr, latest_ns: int) -> tuple[pl.Expr, pl.Expr]:
    nanos = _to_nanos(value)
    return value.str.contains(_TIME) & nanos.is_between(line_rules.MIN_TIME_NS, latest_ns), nanos


def _convert_interval(value: pl.Expr, _: int) -> tuple[pl.Expr, pl.Expr]:
    nanos = _to_nanos(value)
    return value.str.contains(_DURATION) & (nanos <= line_rules.LONG_DURATION_NS), nanos


def _convert_count(value: pl.Expr, _: int) -> tuple[pl.Expr, pl.Expr]:
    whole = value.cast(pl.Int64, strict=False)
    return value.str.contains(_WHOLE) & (whole <= line_rules.MAX_COUNT), whole


def _convert_port(value: pl.Expr, _: int) -> tuple[pl.Expr, pl.Expr]:
    whole = value.cast(pl.Int64, strict=False)
    return value.str.contains(_WHOLE) & (whole <= line_rules.MAX_PORT), whole


def _convert_flag(value: pl.Expr, _: int) -> tuple[pl.Expr, pl.Expr]:
    return value.is_in(["T", "F"]), value == "T"


def _convert_text(value: pl.Expr, _: int) -> tuple[pl.Expr, pl.Expr]:
    return ~value.str.contains(line_rules.CONTROL_CHARACTER), value


def _convert_address(value: pl.Expr, _: int) -> tuple[pl.Expr, pl.Expr]:
    return value.is_not_null(), value  # checked by `_are_addresses`


def _are_addresses(raw: pl.DataFrame, names: list[str]) -> pl.Expr:
    """Return the check that all of some columns are addresses; each different text is checked once."""
    addresses = pl.concat([raw[name] for name in names]).unique().drop_nulls()
    addresses = addresses.filter(~addresses.str.contains(_IPV4))
    invalid = pl.Series([address for address in addresses if not line_rules.is_address(address)], dtype=pl.String)
    return pl.all_horizontal([~pl.col(name).is_in(invalid.implode()) for name in names]) if len(invalid) else pl.lit(value=True)


# by Zeek type, text for the others
_DTYPES = {"time": pl.Int64, "interval": pl.Int64, "count": pl.Int64, "port": pl.Int64, "bool": pl.Boolean}
# by Zeek type: returns whether the texts of a column are certainly valid, and the converted values
_CONVERSIONS = {
    "time": _convert_time,
    "interval": _convert_interval,
    "count": _convert_count,
    "port": _convert_port,
    "bool": _convert_flag,
    "string": _convert_text,
    "enum": _convert_text,
    "addr": _convert_address,
}
