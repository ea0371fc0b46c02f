"""Units of time spans and of byte counts, as file names, flags and features write them."""

SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
DAY_SECONDS = SECONDS_PER_UNIT["d"]
BYTES_PER_UNIT = {"kB": 1024.0, "MB": 1024.0**2, "GB": 1024.0**3}


def format_span(seconds: int) -> str:
    """Write a span in the largest unit that divides it, with at least two digits: `01h`, `90m`, `45s`."""
    unit = next(unit for unit in reversed(SECONDS_PER_UNIT) if seconds % SECONDS_PER_UNIT[unit] == 0)
    return f"{seconds // SECONDS_PER_UNIT[unit]:02d}{unit}"
