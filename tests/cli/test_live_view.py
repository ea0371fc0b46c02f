"""The live view: series, forecast bands and alerts as text."""

import math

import pytest
from rich.console import Console

from mods_grpc.cli.output import LiveView, draw_band, draw_sparkline
from mods_grpc.client import FeatureVerdict, Verdict, VerdictStatus
from tests.support.alerts.sample_alerts import ALERT, NOTICE, RULE


def make_feature(name: str, observed: float | None, share: float = 0.9) -> FeatureVerdict:
    return FeatureVerdict(feature=name, observed=observed, expected=100.0, lower=80.0, upper=120.0, p_value=0.001, share=share)


def test_the_live_view_shows_each_series_its_band_and_the_alerts() -> None:
    console = Console(record=True, width=160, height=40, force_terminal=False)
    view = LiveView(console)
    for step in range(3):
        verdict = Verdict(
            series="10.0.0.[7]",
            observe_time=ALERT.window_start,
            status=VerdictStatus.SCORED,
            p_value=0.001,
            score=3.0,
            anomalous=True,
            features=(make_feature("conn_in", 100.0 + step), make_feature("ssh_in", 900.0)),
        )
        view.observe([verdict], [ALERT] if step == 0 else [])
    view.observe([Verdict(series="new", observe_time=ALERT.window_start, status=VerdictStatus.WARMING_UP)], [])
    console.print(view.render())
    text = console.export_text()
    for piece in ("10.0.0.[7]", "conn_in", "▁", ">>>", "warming up", "1 alerts", "ssh_in 19,686, above expected"):
        assert piece in text


def test_the_live_view_shows_alerts_of_fixed_rules() -> None:
    console = Console(record=True, width=160, height=40, force_terminal=False)
    view = LiveView(console)
    view.observe([], [ALERT])
    view.observe([], [RULE])
    console.print(view.render())
    text = console.export_text()
    assert "2 alerts" in text
    assert "start   10.1.2.3: scan of hosts, 231 hosts that did not answer on port 445" in text


def test_the_live_view_shows_open_notices_until_they_are_cleared() -> None:
    console = Console(record=True, width=160, height=40, force_terminal=False)
    view = LiveView(console)
    view.show_notices([NOTICE])
    console.print(view.render())
    assert "monitoring is impaired" in (text := console.export_text())
    assert "since 2019-05-03T10:20:00Z  no http record for 24 h; see whether" in text
    view.show_notices([])
    console.print(view.render())
    assert "monitoring is impaired" not in console.export_text()


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
