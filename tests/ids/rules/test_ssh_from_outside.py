"""Guessing by one address counts over all own hosts, and a log-in counts only after it."""

import json

import pytest

from mods_grpc.ids.alerts.mutes.suppression import Suppression
from mods_grpc.ids.rules.guessers import MAX_GUESSERS
from tests.ids.rules.records import HOST, SECOND, SERVER, START, conn, make_engine, run, ssh

QUIET = conn(-7_200)  # so that two hours were watched before
SPRAYED = [f"10.0.1.{number}" for number in range(50)]


def spray(count, *, hosts=SPRAYED, begin=0, source=SERVER):
    return [ssh(begin + number, number, orig=source, resp=hosts[number % len(hosts)], failed=True) for number in range(count)]


def log_in(second, host=HOST, source=SERVER):
    return ssh(second, 999, orig=source, resp=host, failed=False)


def found(alerts):
    return [(alert.rule, alert.host) for alert in alerts]


def test_guesses_at_many_own_hosts_count_together():
    (alert,) = run([QUIET, *spray(200)], only=["ssh-inbound"])
    assert (alert.host, alert.group, alert.count, alert.source_ip, alert.destination_ip) == ("site", SERVER, 200, SERVER, None)
    assert alert.examples == ("10.0.1.0", "10.0.1.1", "10.0.1.10", "10.0.1.11", "10.0.1.12")


def test_a_log_in_at_any_host_counts_against_the_guesses_at_all():
    (alert,) = run([*spray(200), log_in(300, "10.0.1.7")], only=["ssh-break-in"])
    assert (alert.host, alert.count, alert.source_ip, alert.destination_ip) == ("10.0.1.7", 120, SERVER, "10.0.1.7")
    assert alert.is_capped
    inside = [*spray(60, source=HOST), log_in(700, "10.0.1.3", HOST)]
    assert found(run(inside, only=["ssh-guessing", "ssh-break-in"])) == [("ssh-guessing", HOST), ("ssh-break-in", "10.0.1.3")]


def test_failures_after_a_log_in_are_no_break_in():
    assert found(run([log_in(0), *spray(35, hosts=[HOST], begin=60)], only=["ssh-break-in"])) == []
    both = [*spray(20, hosts=[HOST]), log_in(30), *spray(20, hosts=[HOST], begin=60)]
    assert found(run(both, only=["ssh-break-in"])) == []
    (alert,) = run([*both, log_in(90), *spray(5, hosts=[HOST], begin=100)], only=["ssh-break-in"])
    assert alert.count == 40  # not 45


@pytest.mark.parametrize("hours", [0.6, 5, 23])
def test_a_log_in_hours_after_the_guesses_is_found_also_after_a_restart(hours):
    engine = make_engine(only=["ssh-break-in"])
    for record in spray(100):
        engine.add(record)
    engine.advance(START + round(hours * 3_600 - 300) * SECOND)
    assert engine.pending == []
    restored = make_engine(only=["ssh-break-in"])
    restored.restore(json.loads(json.dumps(engine.state())))
    (alert,) = run([log_in(hours * 3_600)], restored)
    assert (alert.host, alert.count, alert.first.timestamp()) == (HOST, 100, START / SECOND)


def test_guesses_are_forgotten_after_a_day_and_of_too_many_addresses_the_earliest():
    assert run([*spray(100), log_in(25 * 3_600)], only=["ssh-break-in"]) == []
    engine = make_engine(only=["ssh-break-in"], thresholds={"ssh-break-in": 1})
    sources = [f"100.64.{number // 250}.{number % 250}" for number in range(MAX_GUESSERS + 2)]
    guesses = [ssh(number, 1, orig=source, resp=HOST, failed=True) for number, source in enumerate(sources)]
    alerts = run([*guesses, *(log_in(10_000, source=source) for source in (sources[599], sources[-1]))], engine)
    assert [alert.top for alert in alerts] == [((sources[-1], 1),)]


def guess(source, begin, count=60):
    return spray(count, hosts=[HOST], begin=begin, source=source)


def test_alerts_that_exposed_hosts_hold_back_are_counted_and_those_of_the_first_hour():
    engine = make_engine(only=["ssh-inbound"])
    (alert,) = run(
        [QUIET, *guess(SERVER, 0), *(record for n in range(3) for record in guess(f"203.0.113.{90 + n}", 700 + 60 * n))], engine
    )
    assert (alert.group, engine.learning) == (SERVER, {})
    assert engine.exposed == {"ssh-inbound": 1}, "three addresses are one alert, and the first has its own"
    again = make_engine(only=["ssh-inbound"])
    again.restore(json.loads(json.dumps(engine.state())))
    run(guess("203.0.113.91", 2_000, count=5), again)
    assert again.exposed == {}, "it goes on, and was counted"
    early = make_engine(only=["ssh-inbound"])
    assert run(guess(SERVER, 0), early) == []
    assert (early.learning, early.exposed, early.suppressed) == ({"ssh-inbound": 1}, {}, {})


def test_a_muted_host_mutes_nothing_but_itself():
    one, all_of_them = Suppression(allow=("10.0.1.7",)), Suppression(allow=("10.0.1.0/24",))
    attack = [*spray(200), log_in(300, "10.0.1.7")]
    assert found(run([QUIET, *attack], only=["ssh-inbound"], suppression=one)) == [("ssh-inbound", "site")]
    assert found(run([QUIET, *attack], only=["ssh-inbound"], suppression=all_of_them)) == []
