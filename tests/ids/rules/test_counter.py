"""What a rule's counts take: hashes in place of values, closed panes packed once, and a limit on memory."""

import json
import tracemalloc

from mods_grpc.ids.rules.counter import RuleCounter
from mods_grpc.ids.rules.rule import RULES, Observation

PANE_NS = 3_600 * 10**9
(TUNNELS,) = (rule for rule in RULES if rule.name == "dns-subdomains")


def fill(counter, pane, *, hosts, domains, names, length=60):
    for host in range(hosts):
        for domain in range(domains):
            for name in range(names):
                value = f"{pane}x{name}.".ljust(length, "y")
                counter.add(Observation(f"10.0.0.{host}", f"d{domain}.com", value), pane * PANE_NS, pane * PANE_NS, f"C{name}")


def test_a_host_that_tunnels_through_many_domains_all_day_takes_little():
    counter = RuleCounter(TUNNELS)
    tracemalloc.start()
    try:
        for pane in range(24):
            fill(counter, pane, hosts=1, domains=16, names=150, length=200)
            counter.close(pane)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken / (24 * 16 * 150) < 40  # bytes a name, of 200 characters
    (first, *_) = counter.totals("10.0.0.0")
    assert (first.count, first.is_capped, len(first.examples)) == (24 * 150, False, 5)


def test_closed_panes_are_packed_once_and_restored_as_they_were():
    counter = RuleCounter(TUNNELS)
    for pane in range(3):
        fill(counter, pane, hosts=2, domains=2, names=5)
        counter.close(pane)
    fill(counter, 3, hosts=1, domains=1, names=5)
    before = counter.state()
    assert all(one is other for one, other in zip(before["closed"], counter.state()["closed"], strict=True))
    restored = RuleCounter(TUNNELS)
    restored.restore(json.loads(json.dumps(before)))
    assert restored.state() == before
    for each in (counter, restored):
        each.close(3)
    assert restored.totals("10.0.0.0") == counter.totals("10.0.0.0")
    assert len(restored.state()["closed"]) == 4


def test_beyond_the_limit_of_memory_the_smallest_hosts_go_and_are_counted():
    counter = RuleCounter(TUNNELS, max_bytes=400_000)
    for pane in range(4):
        fill(counter, pane, hosts=40, domains=1, names=4)
        for name in range(150):
            counter.add(Observation("10.0.9.9", "evil.com", f"{pane}n{name}.evil.com"), pane * PANE_NS, pane * PANE_NS, None)
        fill(counter, pane, hosts=200, domains=1, names=4)
        counter.close(pane)
    assert counter.over_limit > 200
    (tunnel,) = counter.totals("10.0.9.9")
    assert tunnel.count == 600
