"""The live view: what is in alarm first, the evidence of what is selected, keys, and the terminal as it was."""

import fcntl
import io
import math
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from mods_grpc.cli.live.alarms import MAX_SERIES, Alarms
from mods_grpc.cli.live.drawing import draw_band, draw_sparkline
from mods_grpc.cli.live.keyboard import Key, parse_keys
from mods_grpc.cli.live.live_view import LiveView
from mods_grpc.client import FeatureVerdict, Verdict, VerdictStatus
from mods_grpc.client.results import Episode, EpisodePhase
from mods_grpc.ids.alerts.alert import AlertPhase
from tests.support.alerts.sample_alerts import (
    ALERT,
    END,
    NOTICE,
    RULE,
    RULE_END,
    START,
    UPDATE,
    hostile_alerts,
    hostile_notices,
    hostile_rule_alerts,
    names,
)


def make_feature(name: str, observed: float | None, share: float = 0.9) -> FeatureVerdict:
    return FeatureVerdict(feature=name, observed=observed, expected=100.0, lower=80.0, upper=120.0, p_value=0.001, share=share)


def make_verdict(series: str, phase: EpisodePhase | None = None, *, score: float = 1.0, hours: int = 0, **more) -> Verdict:
    episode = None
    if phase is not None:
        episode = Episode(id="x", phase=phase, start_time=START, peak_time=START, peak_score=score)
    return Verdict(
        series=series,
        observe_time=START + timedelta(hours=hours),
        status=VerdictStatus.SCORED,
        p_value=10.0**-score,
        score=score,
        anomalous=phase not in {None, EpisodePhase.ENDED},
        episode=episode,
        features=(make_feature("conn_in", 100.0, 0.1), make_feature("ssh_in", 900.0)),
        **more,
    )


def make_view(width=80, height=24):
    console = Console(record=True, width=width, height=height, force_terminal=False, file=io.StringIO())
    return LiveView(console, quit_command=lambda: None), console


def look(view, console):
    console.print(view.render())
    return console.export_text().splitlines()


@pytest.fixture
def screen():
    view, console = make_view()
    return view, lambda: look(view, console)


def test_a_wide_view_draws_each_series_its_band_and_the_alerts() -> None:
    view, console = make_view(160, 40)
    for step in range(3):
        view.observe([make_verdict("10.0.0.[7]", EpisodePhase.ONGOING, score=3.0 + step)], [ALERT] if step == 0 else [])
    view.observe([Verdict(series="new", observe_time=START, status=VerdictStatus.WARMING_UP)], [])
    text = "\n".join(look(view, console))
    for piece in ("10.0.0.[7]", "ssh_in 900 (80-120)", "▁▁▁", ">>>", "warming up", "1 alert ", "ssh_in 19,686, above expected"):
        assert piece in text


def test_what_is_in_alarm_comes_first_the_strongest_on_top(screen) -> None:
    view, shown = screen
    weak = replace(ALERT, series="10.0.0.2", peak_score=2.5)
    strong = replace(ALERT, series="10.0.0.3", peak_score=9.0)
    quiet = [make_verdict(f"10.0.1.{number}", score=5.0) for number in range(30)]
    open_ones = [make_verdict(series, EpisodePhase.STARTED) for series in ("10.0.0.1", "10.0.0.2", "10.0.0.3")]
    view.observe([*quiet, *open_ones], [weak, strong])
    lines = shown()
    assert lines[0].startswith("3 in alarm, 33 series")
    assert [line.split()[:2] for line in lines[2:5]] == [[">", "crit"], ["low", "10.0.0.2"], ["anom", "10.0.0.1"]]
    assert lines[2].split()[2:4] == ["10.0.0.3", f"{START.astimezone():%m-%d}"]
    assert lines[5].split()[0].startswith("10.0.1.")
    view.observe([make_verdict("10.0.0.3", EpisodePhase.ENDED, hours=2)], [])
    assert shown()[2].split()[1:4:2] == ["crit", f"{START.astimezone():%m-%d}"]  # quiet for a moment
    view.observe([], [replace(strong, phase=AlertPhase.END)])
    assert shown()[2].split()[1:3] == ["low", "10.0.0.2"]


def test_rules_are_in_alarm_until_their_end_or_for_an_hour(screen) -> None:
    view, shown = screen
    view.observe([make_verdict("site")], [])
    view.observe([], [RULE])
    lines = shown()
    assert lines[2].split()[1:3] == ["high", "10.1.2.3"]
    assert any("10.1.2.3: scan of hosts, 231 hosts that did not answer on port 445" in line for line in lines)
    view.observe([], [RULE_END])
    assert shown()[0].startswith("0 in alarm")
    view.observe([], [replace(RULE, host="10.1.2.4")])
    assert shown()[0].startswith("1 in alarm")
    view.observe([make_verdict("site", hours=3)], [])
    assert shown()[0].startswith("0 in alarm")


def test_open_notices_are_shown_until_they_are_cleared(screen) -> None:
    view, shown = screen
    view.show_notices([NOTICE])
    text = "\n".join(shown())
    assert "monitoring is impaired" in text
    assert "since 2019-05-03T10:20:00Z  no http record for 24 h; see whether" in text
    view.show_notices([replace(NOTICE, subject=f"log {number}", message=f"number {number}") for number in range(9)])
    text = "\n".join(shown())
    assert "number 1" in text
    assert "and 7 more" in text
    view.show_notices([])
    assert "monitoring is impaired" not in "\n".join(shown())


def test_keys_choose_open_scroll_and_go_back(screen) -> None:
    view, shown = screen
    long = replace(UPDATE, features=tuple(make_feature(f"feature_{number}", 9.0, 0.1) for number in range(12)))
    view.press(Key.OPEN)
    view.press(Key.DOWN)
    assert shown()[0].rstrip() == "0 in alarm, 0 series"
    view.observe([make_verdict("site", EpisodePhase.STARTED), make_verdict("other")], [ALERT, long])
    view.press(Key.OPEN)
    lines = shown()
    assert "─ site ─" in lines[0]
    assert UPDATE.id in lines[1]
    assert not any("mods-grpc feedback" in line for line in lines)
    for _ in range(100):
        view.press(Key.DOWN)
    assert any("mods-grpc feedback" in line for line in shown())
    view.press(Key.QUIT)
    assert shown()[0].startswith("1 in alarm")
    view.press(Key.DOWN)
    view.press(Key.OPEN)
    assert "─ other ─" in shown()[0]
    assert any("ssh_in" in line and "80 - 120" in line for line in shown())
    view.press(Key.BACK)
    view.observe([make_verdict("a new one", EpisodePhase.STARTED)], [])
    assert [line.split()[1] for line in shown() if line.startswith(">")] == ["other"]


def test_quitting_from_the_list_ends_the_command() -> None:
    ended = []
    view = LiveView(Console(file=sys.stderr, width=80, height=24), quit_command=lambda: ended.append(True))
    view.observe([make_verdict("site")], [])
    for key, number in ((Key.OPEN, 0), (Key.QUIT, 0), (Key.BACK, 0), (Key.QUIT, 1)):
        view.press(key)
        assert len(ended) == number


def test_the_number_of_series_is_bounded_and_those_in_alarm_stay() -> None:
    alarms = Alarms()
    alarms.observe([make_verdict("alarmed", EpisodePhase.STARTED)], [])
    for number in range(3 * MAX_SERIES):
        alarms.observe([make_verdict(f"host {number}")], [])
    assert alarms.number_series == MAX_SERIES
    assert alarms.rows()[0].series == "alarmed"


def test_an_episode_without_an_alert_is_not_taken_for_the_one_before() -> None:
    alarms = Alarms()
    alarms.observe([make_verdict("site", EpisodePhase.ENDED)], [ALERT, END])
    later = replace(make_verdict("site", EpisodePhase.STARTED).episode, start_time=START + timedelta(days=1))
    alarms.observe([replace(make_verdict("site", hours=24), episode=later)], [])
    (row,) = alarms.rows()
    assert (row.since, row.severity, row.last_alert) == (later.start_time, None, None)
    third = replace(ALERT, episode_id="third", episode_start=later.start_time)
    alarms.observe([], [third])
    assert alarms.rows()[0].last_alert == third


def test_an_end_does_not_hide_what_an_episode_was() -> None:
    alarms = Alarms()
    alarms.observe([make_verdict("site", EpisodePhase.ENDED)], [ALERT, END])
    (row,) = alarms.rows()
    assert not row.is_open
    assert row.last_alert == ALERT


@given(
    alerts=st.lists(hostile_alerts | hostile_rule_alerts, max_size=4),
    notices=st.lists(hostile_notices, max_size=5),
    series=st.lists(names | st.text("日本語 a\u0301", min_size=20), max_size=4),
    size=st.tuples(st.integers(40, 200), st.integers(12, 60)),
    keys=st.lists(st.sampled_from(Key), max_size=6),
)
def test_whatever_is_shown_fits_the_screen_and_obeys_nobody(alerts, notices, series, size, keys) -> None:
    view, console = make_view(*size)
    view.observe([make_verdict(name, EpisodePhase.STARTED) for name in series], alerts)
    view.show_notices(notices)
    for key in keys:
        view.press(key)
    lines = look(view, console)
    assert len(lines) < size[1]
    assert all(cell_len(line) <= size[0] and line.isprintable() for line in lines)


def test_keys_are_recognised_in_what_a_terminal_sends() -> None:
    sent = b"j\x1b[Ak\x1bOB\rxq\x1b[5~\x1b"
    assert list(parse_keys(sent)) == [Key.DOWN, Key.UP, Key.UP, Key.DOWN, Key.OPEN, Key.QUIT, Key.BACK]


PROGRAM = """
import signal, sys, time
from threading import Event
from mods_grpc.cli.live.live_view import LiveView
from mods_grpc.cli.watch import install_signal_handlers
from tests.cli.test_live_view import EpisodePhase, make_verdict, ALERT

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job begins with it ignored

def run(wait):
    with LiveView() as view:
        view.observe([make_verdict("site", EpisodePhase.STARTED), make_verdict("10.9.9.9")], [ALERT])
        wait()

if sys.argv[1] == "watch":
    stop = Event()
    with install_signal_handlers(stop):
        run(lambda: stop.wait(20))
    print("ended", stop.is_set())
elif sys.argv[1] == "stuck":
    with install_signal_handlers(Event()):
        run(lambda: time.sleep(20) or time.sleep(20))
else:
    try:
        run(lambda: time.sleep(20))
    except KeyboardInterrupt:
        print("interrupted")
"""


class Terminal:
    """Runs the program in a terminal of 80x24."""

    def __init__(self, name, *, keys=True):
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.theirs, self.mode = theirs, termios.tcgetattr(theirs)
        # a session of its own, whose controlling terminal is this one: the first that its leader opens
        start = "import os, sys; os.close(os.open(os.ttyname(1), os.O_RDWR)); exec(os.environ['PROGRAM'])"
        self.process = subprocess.Popen(
            [sys.executable, "-c", start, name],
            stdin=theirs if keys else subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**os.environ, "PROGRAM": PROGRAM, "TERM": "xterm"},
        )
        self.text = ""

    def wait_for(self, piece):
        deadline = time.monotonic() + 30
        while piece not in self.text:
            assert time.monotonic() < deadline, self.text
            if select.select([self.ours], [], [], 0.1)[0]:
                self.text += os.read(self.ours, 65_536).decode("utf-8", "replace")
        self.text = self.text.split(piece, 1)[1]

    def press(self, keys):
        os.write(self.ours, keys)

    def is_as_before(self):
        return termios.tcgetattr(self.theirs) == self.mode

    def wait(self):
        deadline = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self.ours], [], [], 0.1)[0]:
                self.text += os.read(self.ours, 65_536).decode("utf-8", "replace")
        while select.select([self.ours], [], [], 0.2)[0]:
            self.text += os.read(self.ours, 65_536).decode("utf-8", "replace")
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def open_terminal():
    terminals = []

    def start(*arguments, **options):
        terminals.append(Terminal(*arguments, **options))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


def test_keys_work_in_a_terminal_which_is_then_as_before(open_terminal) -> None:
    terminal = open_terminal("watch")
    terminal.wait_for("q ends")
    assert not terminal.is_as_before()
    terminal.press(b"\r")
    terminal.wait_for(ALERT.id)
    terminal.press(b"q")
    terminal.wait_for("q ends")
    terminal.press(b"\x1b[B")
    terminal.press(b"\r")
    terminal.wait_for("─ 10.9.9.9 ─")
    terminal.press(b"qq")
    assert terminal.wait() == 0
    assert "ended True" in terminal.text
    assert "\x1b[?25h" in terminal.text
    assert terminal.is_as_before()


@pytest.mark.parametrize(
    ("program", "number", "ends"), [("replay", signal.SIGINT, 0), ("replay", signal.SIGTERM, -15), ("watch", signal.SIGTERM, 0)]
)
def test_signals_end_the_command_as_without_keys(open_terminal, program, number, ends) -> None:
    terminal = open_terminal(program)
    terminal.wait_for("q ends")
    terminal.process.send_signal(number)
    assert terminal.wait() == ends
    assert terminal.is_as_before()
    assert terminal.text.rstrip().endswith("interrupted") == (program == "replay" and number == signal.SIGINT)


def test_a_second_signal_that_kills_leaves_the_terminal_as_before(open_terminal) -> None:
    terminal = open_terminal("stuck")
    terminal.wait_for("q ends")
    terminal.process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + 10
    while not terminal.is_as_before():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.wait() == -signal.SIGINT
    assert terminal.is_as_before()
    assert "\x1b[?25h" in terminal.text


def test_without_a_terminal_for_input_the_view_has_no_keys(open_terminal) -> None:
    terminal = open_terminal("watch", keys=False)
    terminal.wait_for("1 in alarm, 2 series")
    assert "q ends" not in terminal.text
    assert terminal.is_as_before()
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.wait() == 0


@pytest.mark.parametrize(
    ("observed", "drawn"), [(100.0, "●"), (1e9, ">>>"), (-1e9, "<<<"), (None, "┼")], ids=["inside", "above", "below", "missing"]
)
def test_the_band_shows_where_the_value_lies(observed: float | None, drawn: str) -> None:
    line = draw_band(make_feature("x", observed))
    assert len(line) == 24
    assert drawn in line


def test_a_sparkline_spans_its_values() -> None:
    assert draw_sparkline((1.0, 2.0, 3.0))[::2] == "▁█"
    assert draw_sparkline(()) == ""
    assert len(draw_sparkline((math.pi,) * 5)) == 5
