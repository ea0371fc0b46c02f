"""Simulated aggregates of a campus network: daily and weekly rhythm, heavy tails, labelled events. Not real traffic.

Ten-minute counts are drawn from rates and summed over six, so that hourly windows that slide by ten minutes overlap as they do
in reality. There are four features of the original system: connections in and out, distinct DNS queries in, and SSH connections
in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mods_grpc.array_types import Bools, Floats, Integers
from mods_grpc.data.datapool_layout import DEFAULT_WINDOW_SLIDE, JOIN_COLUMNS, day_file, format_window_slide
from mods_grpc.errors import DataError
from training.data.events import LabelledEvent, inject_events, place_events
from training.data.time_range import DateTimes, Interval

SLIDE_SECONDS = 600
ROWS_PER_WINDOW = 6
ROWS_PER_DAY = 144
DAYS_PER_WEEK = 7

FEATURES = ("conn_in", "conn_out", "dns_in_distinct", "ssh_in")
COLUMNS = (("conn", "in_count_uid"), ("conn", "out_count_uid"), ("dns", "in_distinct_query"), ("ssh", "in"))
DISTINCT = FEATURES.index("dns_in_distinct")  # the one that windows do not add up
NOTICE = "Simulated network traffic: made by `python -m training simulate`, not measured anywhere."

# Counts per ten minutes at night, their increase in a full working hour, and the over-dispersion of the counts.
_FLOOR = np.array([5200.0, 2300.0, 6.0, 480.0])
_WORK = np.array([4200.0, 2900.0, 5.0, 90.0])
_DISPERSION = np.array([0.06, 0.05, 0.10, 0.12])
_WEEKDAY = np.array([1.0, 1.05, 1.04, 1.02, 0.88, 0.24, 0.20])  # Monday first


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulationConfig:
    """Options of a simulation.

    Attributes:
        interval: Time range.
        events_interval: Range that events may lie in; None for no events.
        events_per_kind: Events of each kind and strength.
        seed: The same seed gives the same bytes.
    """

    interval: Interval
    events_interval: Interval | None = None
    events_per_kind: int = 1
    seed: int = 1

    def __post_init__(self) -> None:
        if self.events_per_kind < 1:
            raise DataError(f"events_per_kind is {self.events_per_kind}, expected 1 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulation:
    """Simulated traffic.

    Attributes:
        times: `(rows,)`, starts of hourly windows, one every ten minutes.
        counts: `(rows, features)`, counts per window.
        slides: `(rows + 5, features)`, counts per ten minutes, of which the windows are sums.
        events: The injected events.
    """

    times: DateTimes
    counts: Floats
    slides: Floats
    events: tuple[LabelledEvent, ...]


@dataclass(frozen=True, slots=True)
class _Table:
    """Counts `(rows, features)` of windows that start at times `(rows,)`."""

    window_slide: str
    times: DateTimes
    counts: Floats
    window: np.timedelta64


def simulate(config: SimulationConfig) -> Simulation:
    """Simulate a campus network.

    Raises:
        DataError: The interval holds no whole row, or has no room for the events.
    """
    generator = np.random.default_rng(config.seed)
    step = np.timedelta64(SLIDE_SECONDS, "s")
    rows = int((config.interval.end - config.interval.start) / step)
    if rows < ROWS_PER_WINDOW:
        raise DataError(f"{config.interval} is too short to simulate; expected at least an hour")
    # A window needs the counts of the hour after its start, so the last one extends beyond the interval.
    times = config.interval.start + np.arange(rows + ROWS_PER_WINDOW - 1) * step
    rates = _expected_counts(times, generator)
    events: tuple[LabelledEvent, ...] = ()
    if config.events_interval is not None:
        events = place_events(config.events_interval, config.events_per_kind, generator)
    shape = 1.0 / _DISPERSION
    # Poisson with gamma-distributed rates (negative binomial), plus a heavy tail of bursts.
    mixed = rates * generator.gamma(shape, 1.0 / shape, rates.shape) ** _dispersion_exponent(generator, len(times))
    counts = generator.poisson(mixed).astype(np.float64) + _bursts(rates, generator)
    counts = inject_events(times, counts, FEATURES, events, generator)
    cumulative = np.vstack([np.zeros(len(FEATURES)), np.cumsum(counts, axis=0)])
    hourly = cumulative[ROWS_PER_WINDOW:] - cumulative[:-ROWS_PER_WINDOW]
    # Queries repeat within the hour, so there are fewer distinct ones than the sum of the parts.
    hourly[:, DISTINCT] = np.floor(hourly[:, DISTINCT] * 0.62)
    return Simulation(times=times[:rows], counts=hourly, slides=counts, events=events)


def create_folder(root: Path, simulation: Simulation) -> None:
    """Create a folder for simulated data, with `events.csv` and a notice that the data is simulated.

    Raises:
        DataError: The folder is not empty, or can't be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()):
            raise DataError(f"{root} is not empty; give a new folder")
        (root / "SIMULATED.txt").write_text(NOTICE + "\n", encoding="utf-8")
        (root / "events.csv").write_text(_events_table(simulation.events), encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {root}: {error.strerror}") from error


def write_datapool(root: Path, simulation: Simulation) -> int:
    """Write a datapool, with tables of panes, `events.csv` and a notice that the data is simulated.

    Returns:
        Number of files of the datapool.

    Raises:
        DataError: The folder is not empty, or can't be written.
    """
    create_folder(root, simulation)
    try:
        step = np.timedelta64(SLIDE_SECONDS, "s")
        of_windows = _Table(DEFAULT_WINDOW_SLIDE, simulation.times, simulation.counts, ROWS_PER_WINDOW * step)
        # the last slide of each window, as `mods-grpc aggregate --panes` writes it
        times, slides = simulation.times + (ROWS_PER_WINDOW - 1) * step, simulation.slides[ROWS_PER_WINDOW - 1 :]
        of_panes = _Table(format_window_slide(SLIDE_SECONDS, SLIDE_SECONDS), times, slides, step)
        all_columns = range(len(COLUMNS))
        files = _write_tables(root, of_windows, all_columns)
        files += _write_tables(root, of_panes, [index for index in all_columns if index != DISTINCT])
    except OSError as error:
        raise DataError(f"cannot write {root}: {error.strerror}") from error
    return files


def _expected_counts(times: DateTimes, generator: np.random.Generator) -> Floats:
    """Return the expected counts per ten minutes, `(rows, features)`."""
    seconds = times.astype(np.int64)
    hour = (seconds % 86_400) / 3600
    day = seconds // 86_400
    weekday = (day + 3) % DAYS_PER_WEEK  # 1970-01-01 was a Thursday
    work = 1 / (1 + np.exp(-(hour - 8.3) / 0.55)) - 1 / (1 + np.exp(-(hour - 18.2) / 1.3))
    lunch = 1 - 0.22 * np.exp(-(((hour - 12.6) / 0.65) ** 2))
    evening = 0.35 * np.exp(-(((hour - 20.8) / 1.6) ** 2))
    level = _WEEKDAY[weekday] * (work * lunch + evening)
    level *= _day_factors(day, generator)
    night = 1 + 0.12 * np.cos(2 * np.pi * (hour - 2) / 24)
    drift = 1 + 0.05 * np.sin(2 * np.pi * (seconds - seconds[0]) / (86_400 * 45))
    rates = _FLOOR * night[:, None] + _WORK * level[:, None]
    # Night jobs: backups are sent out at 01:30, a mirror is pulled in at 04:00.
    rates[:, 1] += 1100 * np.exp(-(((hour - 1.5) / 0.3) ** 2))
    rates[:, 0] += 900 * np.exp(-(((hour - 4.0) / 0.4) ** 2))
    noise = np.exp(_autoregressive_noise(len(times), generator))
    return np.asarray(rates * drift[:, None] * noise)


def _day_factors(day: Integers, generator: np.random.Generator) -> Floats:
    """Draw a factor for each day: a random level, and a holiday about once in three weeks."""
    index = day - day[0]
    count = int(index[-1]) + 1
    levels = np.exp(generator.normal(0, 0.04, count))
    levels[generator.random(count) < 1 / 21] *= 0.25
    return np.asarray(levels[index])


def _autoregressive_noise(rows: int, generator: np.random.Generator) -> Floats:
    """Draw slow autoregressive noise of the logarithm of the rates, with a time constant of hours, `(rows, features)`."""
    keep = np.exp(-1 / 30)
    noise = generator.normal(0, 0.05 * np.sqrt(1 - keep**2), (rows, len(FEATURES)))
    path = np.zeros_like(noise)
    for row in range(1, rows):
        path[row] = keep * path[row - 1] + noise[row]
    return path


def _dispersion_exponent(generator: np.random.Generator, rows: int) -> Floats:
    """Draw the strength of over-dispersion for each row, 0 to 1, mostly small."""
    return np.asarray(generator.beta(1.5, 3.0, (rows, 1)))


def _bursts(rates: Floats, generator: np.random.Generator) -> Floats:
    """Draw rare bursts of harmless traffic with a Pareto tail, capped at twice the rate."""
    rare = generator.random(rates.shape) < 0.004
    sizes = np.minimum(generator.pareto(2.5, rates.shape), 4.0) * 0.5
    return np.floor(rare * sizes * rates)


def _write_tables(root: Path, table: _Table, columns: Sequence[int]) -> int:
    """Write the files of a table, one for each protocol and day, and return their number."""
    files = 0
    days = table.times.astype("datetime64[D]")
    protocols = dict.fromkeys(COLUMNS[index][0] for index in columns)
    for day in np.unique(days):
        for protocol in protocols:
            path = day_file(root, protocol, day.item(), table.window_slide)
            path.parent.mkdir(parents=True, exist_ok=True)
            chosen = [index for index in columns if COLUMNS[index][0] == protocol]
            path.write_text(_day_table(table, days == day, chosen), encoding="utf-8")
            files += 1
    return files


def _day_table(table: _Table, rows: Bools, chosen: Sequence[int]) -> str:
    header = "\t".join([*JOIN_COLUMNS, *(COLUMNS[index][1] for index in chosen)])
    lines = [header]
    times, counts_of_rows = table.times[rows], table.counts[rows][:, chosen]
    for start, end, counts in zip(times, times + table.window, counts_of_rows, strict=True):
        lines.append("\t".join([f"{start}.000Z", f"{end}.000Z", *(str(int(count)) for count in counts)]))
    return "\n".join(lines) + "\n"


def _events_table(events: Sequence[LabelledEvent]) -> str:
    """Return the table of events as `events.read_events` reads it."""
    lines = ["kind,start,end,strength,features"]
    for event in events:
        lines.append(f"{event.kind},{event.start},{event.end},{event.strength:g},{' '.join(event.features)}")
    return "\n".join(lines) + "\n"
