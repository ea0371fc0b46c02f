import numpy as np

from training.data.events import LabelledEvent
from training.evaluation.scoring import ReplayedEpisode, match_events


def at(text: str) -> np.datetime64:
    return np.datetime64(f"2024-01-01T{text}:00", "s")


def event(start: str, end: str) -> LabelledEvent:
    return LabelledEvent(kind="port_scan", start=at(start), end=at(end), strength=1.0, features=("conn_in",))


def episode(start: str, end: str) -> ReplayedEpisode:
    return ReplayedEpisode(start=at(start), peak_time=at(start), end=at(end), score=4.0, reason="conn_in too high")


def test_an_episode_meets_an_event_that_lies_in_one_of_its_windows() -> None:
    findings = match_events([episode("09:10", "10:00")], [event("10:00", "10:30"), event("15:00", "15:30")], 3600)
    assert findings.delays_minutes == (10, None)
    assert findings.false_episodes == 0


def test_the_delay_counts_to_the_end_of_the_window_that_raised_the_alarm() -> None:
    findings = match_events([episode("10:20", "11:00")], [event("10:00", "12:00")], 3600)
    assert findings.delays_minutes == (80,)


def test_episodes_that_meet_no_event_are_false() -> None:
    findings = match_events([episode("05:00", "05:10"), episode("20:00", "20:10")], [event("10:00", "10:30")], 3600)
    assert (findings.delays_minutes, findings.false_episodes) == ((None,), 2)
