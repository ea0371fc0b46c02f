"""Records of what the rules find, and a run of the rules over them."""

from mods_grpc.features.records import Conn, Dns, Ssh
from mods_grpc.ids.rules.engine import RuleEngine, choose_rules
from mods_grpc.ids.rules.episodes import RuleAlertOptions

SECOND = 10**9
START = 1_772_409_600 * SECOND  # 2026-03-02T00:00Z
HOST = "10.0.0.5"
LOCAL = ("10.0.0.0/16",)
SERVER = "203.0.113.7"


def make_engine(*, thresholds=None, only=None, **options):
    rules = choose_rules(thresholds or {}, ())
    rules = [rule for rule in rules if only is None or rule.name in only]
    return RuleEngine(rules, RuleAlertOptions(**({"sensor": "tap", "local_networks": LOCAL} | options)))


def run(records, engine=None, *, lateness=300, **options):
    """Run records, in the order given, and return the alerts."""
    engine = engine or make_engine(**options)
    latest = 0
    for record in records:
        engine.add(record)
        latest = max(latest, record.logged_ns)
        engine.advance(latest - lateness * SECOND)
    engine.flush(latest)
    return engine.pending


def conn(second, number=0, *, orig=HOST, resp=SERVER, port=443, **fields):
    return Conn(
        ts=START + round(second * SECOND), uid=f"C{number}", orig_h=orig, orig_p=40_000, resp_h=resp, resp_p=port, **fields
    )


def failed(second, number, **fields):
    return conn(second, number, failed=True, **fields)


def ssh(second, number=0, *, orig=HOST, resp=SERVER, failed=None):
    return Ssh(
        ts=START + round(second * SECOND), uid=f"S{number}", orig_h=orig, orig_p=40_000, resp_h=resp, resp_p=22, failed=failed
    )


def dns(second, query, *, nxdomain=None, orig=HOST, resp="10.0.0.2"):
    return Dns(
        ts=START + round(second * SECOND),
        uid="D",
        orig_h=orig,
        orig_p=40_000,
        resp_h=resp,
        resp_p=53,
        query=query,
        nxdomain=nxdomain,
    )


def host_scan(count, *, span=200, begin=0, port=445, orig=HOST):
    """Return failed connections to as many hosts."""
    return [
        failed(begin + span * number / count, number, resp=f"198.51.{number // 200}.{number % 200}", port=port, orig=orig)
        for number in range(count)
    ]


def port_scan(count, *, span=200, begin=0):
    return [failed(begin + span * number / count, number, port=number + 1) for number in range(count)]
