"""Parses blocks of Zeek TSV into columns with polars. Only lines that are certainly records are parsed; the others are returned.

The returned lines go through the parser of single lines, which finds out what is wrong with them, if anything. So both parsers
agree on every line, and this one may be strict.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mods_grpc.array_types import Bools, Integers
from mods_grpc.ids.logs import line_rules
from mods_grpc.ids.logs.field_values import VALUE_READERS
from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.zeek import TsvHeader
from mods_grpc.ids.logs.zeek_fields import FIELDS, ONE_HOST_LOGS

_SEPARATORS = ("\t", ",", ";", "|", " ", "\x01", "\x1f")  # any other is left to the parser of single lines
_TIME = r"^[0-9]{9,10}(\.[0-9]{1,9})?$"
_DURATION = r"^[0-9]{1,9}(\.[0-9]{1,9})?$"
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"^(?:{_OCTET}\.){{3}}{_OCTET}$"
_WHOLE = r"^[0-9]{1,16}$"
_CR = ord("\r")
_LINES_AT_ONCE = 8_192
_TEXT_TYPES = {"string", "enum"}
# what has other spellings; U+FFFD may stand for bytes that are no text
_UNCERTAIN_CHARACTER = r"[\x00-\x1f\x7f\\\u{fffd}\u{f0000}-\u{f00ff}]"


@dataclass(frozen=True, slots=True)
class RecordColumns:
    """The records of a block.

    Attributes:
        frame: Lines that are certainly records; columns are named like the attributes of records, times and durations are in
            nanoseconds, unset values are null.
        offsets: Where the line of each row starts in the block, `(n,)`.
        uncertain: The other lines, each with its offset in the block.
    """

    frame: pl.DataFrame
    offsets: Integers
    uncertain: list[tuple[int, bytes]]


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
    if header.separator not in _SEPARATORS or protocol in ONE_HOST_LOGS:
        raise pl.exceptions.ComputeError("left to the parser of single lines")
    wanted = [(field, str(index)) for field, index in header.columns(protocol)]
    sensor = header.sensor_column()
    raw = _parse_csv(block, header, {name for _, name in wanted} | ({str(sensor)} if sensor is not None else set()))
    present = {field.attribute for field, _ in wanted}
    columns = [
        pl.lit(None, dtype=_DTYPES.get(field.type, pl.String)).alias(field.attribute)
        for field in FIELDS[protocol]
        if field.attribute not in present
    ]
    spellings = _canonical_addresses(raw, [name for field, name in wanted if field.type == "addr"])
    checks = []
    for field, name in wanted:
        value = pl.col(name)
        is_set = _is_set(value, header)
        if field.type == "addr":
            is_valid, parsed = _convert_address(value, spellings)
        elif field.type in VALUE_READERS:
            is_valid, parsed = _convert_by_value(raw[name], field.type, header)
        else:
            is_valid, parsed = _CONVERSIONS[field.type](value, latest_ns)
        if field.type in _TEXT_TYPES:
            parsed = parsed.replace(header.empty, "")
        elif not field.required and field.type not in VALUE_READERS:
            is_valid &= value != header.empty
        checks.append((is_valid & is_set if field.required else is_valid | ~is_set).fill_null(value=False))
        columns.append(pl.when(is_set).then(parsed).alias(field.attribute))
    if sensor is not None:
        value = pl.col(str(sensor))
        checks.append((_is_plain(value) | ~_is_set(value, header)).fill_null(value=False))
        columns.append(pl.when(_is_set(value, header)).then(value).otherwise(pl.lit("")).alias("sensor"))
    else:
        columns.append(pl.lit("").alias("sensor"))
    is_certain = raw.select(pl.all_horizontal(checks)).to_series().to_numpy()
    starts, ends = _line_bounds(block)
    if len(starts) != len(is_certain):
        raise pl.exceptions.ComputeError("lines and rows do not agree")
    is_certain = is_certain & _are_whole(block, starts, ends, header) & (ends - starts <= line_rules.MAX_LINE_BYTES)
    uncertain = [(int(starts[row]), block[starts[row] : ends[row]]) for row in np.flatnonzero(~is_certain)]
    return RecordColumns(raw.filter(pl.Series(is_certain)).select(columns), starts[is_certain], uncertain)


def _parse_csv(block: bytes, header: TsvHeader, wanted: set[str]) -> pl.DataFrame:
    """Return columns of a block as text; their names are their numbers."""
    first = header.separator.join(map(str, range(len(header.names)))).encode() + b"\n"
    for encoding in ("utf8", "utf8-lossy"):
        try:
            return pl.read_csv(
                first + block,
                separator=header.separator,
                quote_char=None,
                infer_schema=False,
                truncate_ragged_lines=True,
                encoding=encoding,
                columns=sorted(wanted),
            )
        except pl.exceptions.ComputeError:
            if encoding == "utf8-lossy":
                raise
    raise AssertionError


def _are_whole(block: bytes, starts: Integers, ends: Integers, header: TsvHeader) -> Bools:
    """Return which of n lines are no JSON and have as many cells as the header, the last not cut off, `(n,)`."""
    text = np.frombuffer(block, dtype=np.uint8)
    separator = ord(header.separator)
    last = text[ends - 1]  # of an empty line, what is before it: it has no cells anyway
    are_whole: Bools = (_count(text, separator, starts, ends) == len(header.names) - 1) & (text[starts] != ord("{"))
    if "" not in {header.unset, header.empty}:
        are_whole &= last != separator
    if b"\r" in block:
        # polars strips one from the end of each cell; only a whole line may end with one
        returns = _count(text, _CR, starts, ends)
        before_last = text[np.maximum(ends - 2, 0)]
        are_whole &= (returns == 0) | ((returns == 1) & (last == _CR) & (before_last != separator))
    return are_whole


def _count(text: NDArray[np.uint8], character: int, starts: Integers, ends: Integers) -> NDArray[np.int32]:
    """Return how often each of n lines has a character, `(n,)`, counted some lines at a time so that they stay in the cache."""
    counts = np.empty(len(starts), dtype=np.int32)
    for first in range(0, len(starts), _LINES_AT_ONCE):
        lines = slice(first, first + _LINES_AT_ONCE)
        begin = starts[first]
        is_character = text[begin : ends[lines][-1] + 1] == character
        np.add.reduceat(is_character, starts[lines] - begin, out=counts[lines], dtype=np.int32)
    return counts


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


def _is_set(value: pl.Expr, header: TsvHeader) -> pl.Expr:
    """Return whether a cell is set; null for an empty cell, unless that is how the log marks unset fields."""
    return value.is_not_null() if header.unset == "" else value != header.unset


def _is_plain(value: pl.Expr) -> pl.Expr:
    return ~value.str.contains(_UNCERTAIN_CHARACTER)


def _convert_by_value(cells: pl.Series, kind: str, header: TsvHeader) -> tuple[pl.Expr, pl.Expr]:
    """Read each different cell of a column that has few of them."""
    values, damaged = {}, []
    for cell in cells.unique().drop_nulls():
        try:
            values[cell] = VALUE_READERS[kind]("" if cell == header.empty else cell)
        except MalformedLineError:
            damaged.append(cell)
    value = pl.col(cells.name)
    is_valid = ~value.is_in(pl.Series(damaged, dtype=pl.String).implode()) if damaged else value.is_not_null()
    return is_valid, value.replace_strict(values, default=None, return_dtype=_DTYPES.get(kind, pl.String))


def _convert_text(value: pl.Expr, _: int) -> tuple[pl.Expr, pl.Expr]:
    return _is_plain(value), value


def _canonical_addresses(raw: pl.DataFrame, names: list[str]) -> dict[str, str | None]:
    """Return the one spelling of each address in some columns that is not a plain IPv4 address; None for what is no address."""
    addresses = pl.concat([raw[name] for name in names]).unique().drop_nulls()
    return {address: _canonical_address(address) for address in addresses.filter(~addresses.str.contains(_IPV4))}


def _canonical_address(address: str) -> str | None:
    try:
        return line_rules.check_address(address)
    except MalformedLineError:
        return None


def _convert_address(value: pl.Expr, spellings: dict[str, str | None]) -> tuple[pl.Expr, pl.Expr]:
    invalid = [address for address, canonical in spellings.items() if canonical is None]
    changed = {address: canonical for address, canonical in spellings.items() if canonical not in {None, address}}
    is_valid = ~value.is_in(pl.Series(invalid, dtype=pl.String).implode()) if invalid else value.is_not_null()
    return is_valid, value.replace(changed) if changed else value


# by Zeek type, text for the others
_DTYPES = {
    **dict.fromkeys(("time", "interval", "count", "port"), pl.Int64),
    **dict.fromkeys(("bool", "conn_state", "response_code", "validation", "negation"), pl.Boolean),
}
# by Zeek type: returns whether the texts of a column are certainly valid, and the converted values
_CONVERSIONS = {
    "time": _convert_time,
    "interval": _convert_interval,
    "count": _convert_count,
    "port": _convert_port,
    "bool": _convert_flag,
    "string": _convert_text,
    "enum": _convert_text,
}
