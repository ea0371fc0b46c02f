"""The filters, run for real over small logs: they show the records that the evidence counts, and no value breaks out of them."""

import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings

from mods_grpc.ids.alerts.alert import alert_to_json
from mods_grpc.ids.evidence.evidence import Dimension, Evidence
from mods_grpc.ids.evidence.filters import make_filters
from tests.support.alerts import zeek_cut
from tests.support.alerts.hostile_names import START, names
from tests.support.alerts.sample_alerts import ALERT, WITH_EVIDENCE
from tests.support.alerts.sample_alerts import END as OVER
from tests.support.alerts.sample_evidence import EVIDENCE, QUERIES, SCAN, SCANNER, SERVER, hostile_evidence, make_feature

END = START + timedelta(hours=1)
TYPES = {"ts": "time", "duration": "interval", "id.orig_h": "addr", "id.resp_h": "addr"}
needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="no jq")


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tools")
    zeek_cut.install(folder)
    return folder


@pytest.fixture
def shell(tools, tmp_path):
    """Run a filter in a folder of logs; return the lines that it shows."""
    logs = tmp_path / "logs"
    logs.mkdir()

    def run(command):
        environment = {"PATH": f"{tools}:{os.environ['PATH']}", "TZ": "America/New_York"}
        done = subprocess.run(["bash", "-c", command], cwd=logs, env=environment, capture_output=True, check=False, timeout=60)
        assert done.stderr == b"", done.stderr
        return done.stdout.decode("utf-8", "surrogateescape").split("\n")[:-1]

    run.logs = logs
    return run


def make_filter(feature, language, series=None):
    return make_filters(Evidence(features=(feature,)), START, END, series=series)[language]


def row(seconds, orig="203.0.113.7", resp="10.0.0.80", **values):
    """Return a record `seconds` after the start of the window."""
    common = {"ts": START.timestamp() + seconds, "uid": f"C{seconds}", "id.orig_h": orig, "id.orig_p": 40_000, "id.resp_h": resp}
    return common | {"id.resp_p": 80} | values


def write_tsv(path, rows):
    names_of_fields = list(dict.fromkeys(name for each in rows for name in each))
    types = [TYPES.get(name, "string") for name in names_of_fields]
    lines = ["#separator \\x09", "\t".join(["#fields", *names_of_fields]), "\t".join(["#types", *types])]
    lines += ["\t".join(format_cell(each.get(name)) for name in names_of_fields) for each in rows]
    content = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def format_cell(value):
    if value is None:
        return "-"
    return {True: "T", False: "F"}[value] if isinstance(value, bool) else str(value)


def write_json(path, rows, *, iso=False):
    lines = [json.dumps({key: value for key, value in each.items() if value is not None}) for each in rows]
    path.write_text("\n".join([*lines, '{"ts":15568', "[]"]) + "\n")  # a torn line, and what is no object


SCAN_ROWS = [
    row(5, method="GET", host="Shop.example", uri="/wp-login.php?a=1", status_code=404),
    row(65.25, method="GET", host="shop.example", uri="/wp-login.php", status_code=403),
    row(3_599.9, method="GET", host="shop.example", uri="/wp-login.php", status_code=404),
    row(70, method="GET", host="shop.example", uri="/wp-login.phpx", status_code=404),  # another path
    row(71, method="GET", host="shop.example", uri="/wp-login.php", status_code=200),  # no error
    row(72, orig="198.51.100.4", method="GET", host="shop.example", uri="/wp-login.php", status_code=404),
    row(-0.1, method="GET", host="shop.example", uri="/wp-login.php", status_code=404),
    row(3_600, method="GET", host="shop.example", uri="/wp-login.php", status_code=404),
    row(80, method="GET", host="shop.example", uri="/wp-login.php"),
    row(81, method="POST", host="shop.example", uri="/wp-login.php", status_code=404),
    row(82, resp="10.0.0.81", method="GET", host="shop.example", uri="/wp-login.php", status_code=404),
]
SCAN_OF_ONE = make_feature(
    "http",
    "in_errors",
    {
        Dimension.DESTINATION: {SERVER: 1.0},
        Dimension.PORT: {"80/tcp": 1.0},
        Dimension.HOST: {"shop.example": 1.0},
        Dimension.METHOD: {"GET": 1.0},
        Dimension.SOURCE: {SCANNER: 1.0},
        Dimension.PATH: {"/wp-login.php": 1.0},
    },
    total=3,
)


def uids(lines, language):
    """Return the uids of the lines that a filter shows."""
    return [line.split("\t")[1] if language == "zeek" else json.loads(line)["uid"] for line in lines]


def write_log(language, path, rows):
    if language == "zeek":
        write_tsv(path, rows)
    else:
        write_json(path, rows)


def escape_as_zeek(value):
    """Write a value as Zeek does in TSV."""
    return "".join(
        c.replace("\\", "\\\\") if c.isprintable() else "".join(f"\\x{b:02x}" for b in c.encode("utf-8", "surrogateescape"))
        for c in value
    )


LANGUAGES = ("zeek", pytest.param("jq", marks=needs_jq))


def test_the_filter_of_zeek_shows_the_records_of_the_evidence_from_plain_and_packed_logs(shell):
    write_tsv(shell.logs / "http.10:00:00-11:00:00.log.gz", SCAN_ROWS[:2])
    write_tsv(shell.logs / "http.log", [{"node": "w", **each} for each in SCAN_ROWS[2:]])  # with its columns elsewhere
    write_tsv(shell.logs / "conn.log", SCAN_ROWS)
    lines = shell(make_filter(SCAN_OF_ONE, "zeek", SERVER))
    assert len(lines) == SCAN_OF_ONE.total
    assert [line.split("\t")[:3] for line in lines] == [
        ["2019-05-03T10:20:05+0000", "C5", SCANNER],
        ["2019-05-03T10:21:05+0000", "C65.25", SCANNER],
        ["2019-05-03T11:19:59+0000", "C3599.9", SCANNER],
    ]


@needs_jq
def test_the_filter_of_jq_shows_the_records_of_the_evidence_with_either_form_of_time(shell):
    write_json(shell.logs / "http.log", SCAN_ROWS)
    command = make_filter(SCAN_OF_ONE, "jq", SERVER)
    assert uids(shell(command), "jq") == ["C5", "C65.25", "C3599.9"]
    iso = [
        each | {"ts": (START + timedelta(seconds=each["ts"] - START.timestamp())).isoformat()[:26] + "Z"} for each in SCAN_ROWS
    ]
    write_json(shell.logs / "http.log", iso)
    assert uids(shell(command), "jq") == ["C5", "C65.25", "C3599.9"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_connection_counts_when_it_ends_and_by_its_state_and_direction(shell, language):
    feature = make_feature("conn", "in_failed", {Dimension.PORT: {"445/tcp": 1.0}, Dimension.SOURCE: {SCANNER: 1.0}})
    failed = {"id.resp_p": 445, "proto": "tcp", "conn_state": "S0", "local_orig": False, "local_resp": True}
    rows = [
        row(1, **failed),
        row(-10, duration=10.5, **failed),  # ends in the window
        row(3_599, duration=1.5, **failed),  # ends after it
        row(2, **failed | {"conn_state": "SF"}),
        row(3, **failed | {"proto": "udp"}),
        row(4, **failed | {"local_orig": True}),
        row(5, **failed | {"local_orig": None, "local_resp": None}),  # where the log does not say
    ]
    write_log(language, shell.logs / "conn.log", rows)
    assert uids(shell(make_filter(feature, language, "10.0.0.80")), language) == ["C1", "C-10", "C5"]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("column", "uid"), [("out_connections", ["C1"]), ("internal_connections", ["C2"]), ("in_connections", ["C3"])]
)
def test_the_direction_is_a_condition_of_connections(shell, language, column, uid):
    flags = ((True, False), (True, True), (False, True))
    write_log(
        language,
        shell.logs / "conn.log",
        [row(number, local_orig=orig, local_resp=resp) for number, (orig, resp) in enumerate(flags, start=1)],
    )
    assert uids(shell(make_filter(make_feature("conn", column, {}), language)), language) == uid


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_below_a_domain_are_shown_in_any_case_but_none_of_another_domain(shell, language):
    queries = ["a.tunnel.example", "Tunnel.example", "B.TUNNEL.EXAMPLE", "nottunnel.example", "tunnel.example.org", "x", None]
    rows = [
        row(number, "10.0.0.5", "10.0.0.53", **{"id.resp_p": 53}, proto="udp", query=name) for number, name in enumerate(queries)
    ]
    write_log(language, shell.logs / "dns.log", [each | {"rcode_name": "NOERROR"} for each in rows])
    assert uids(shell(make_filter(QUERIES, language)), language) == ["C0", "C1", "C2"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_of_what_is_spread_any_named_value_is_shown(shell, language):
    sources = {f"203.0.113.{number}": 0.24 for number in range(1, 5)}
    feature = make_feature(
        "ssh", "in", {Dimension.AUTH: {"failed": 1.0}, Dimension.SOURCE: sources, Dimension.CLIENT: {"x": 0.1}}
    )
    rows = [row(number, f"203.0.113.{number}", auth_success=False, client="y") for number in range(1, 7)]
    write_log(language, shell.logs / "ssh.log", [*rows, row(8, "203.0.113.1", auth_success=True), row(9, "203.0.113.1")])
    assert uids(shell(make_filter(feature, language)), language) == ["C1", "C2", "C3", "C4"]


def test_values_that_may_have_little_in_common_are_not_asked_for_together():
    feature = make_feature(
        "http", "in", {Dimension.SOURCE: {SCANNER: 0.7}, Dimension.PATH: {"/a": 0.6}, Dimension.HOST: {"h": 0.9}}
    )
    for language, command in make_filters(Evidence(features=(feature,)), START, END).items():
        assert (SCANNER in command, '"h"' in command, "/a" in command) == (True, True, False), language


def test_of_a_fall_the_time_before_is_shown_because_what_is_missing_is_there(shell):
    fall = replace(SCAN_OF_ONE, is_fall=True)
    evidence = Evidence(features=(fall,), before_start=START - timedelta(hours=1), before_end=START)
    write_tsv(shell.logs / "http.log", SCAN_ROWS)
    assert len(shell(make_filters(evidence, START, END)["zeek"])) == SCAN_OF_ONE.total + 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_with_nothing_to_filter_by_time_and_series_are_left(shell, language):
    rows = [row(1), row(2, "10.0.0.80", "10.0.0.81"), row(3, "10.0.0.1", "10.0.0.2"), row(3_601)]
    write_log(language, shell.logs / "conn.log", rows)
    assert uids(shell(make_filters(Evidence(), START, END, series="10.0.0.80")[language]), language) == ["C1", "C2"]
    assert uids(shell(make_filters(Evidence(), START, END, series="site")[language]), language) == ["C1", "C2", "C3"]


@needs_jq
def test_the_filter_of_eve_reads_times_in_any_zone(shell):
    http = {"hostname": "shop.example", "url": "/wp-login.php?a", "http_method": "GET", "status": 404}
    event = {"event_type": "http", "src_ip": SCANNER, "dest_ip": SERVER, "dest_port": 80, "proto": "TCP", "http": http}
    times = [
        "2019-05-03T10:20:00.000000+0000",
        "2019-05-03T12:20:01.5+0200",
        "2019-05-03T06:50:02.000000-0330",
        "2019-05-03T10:20:03Z",
    ]
    events = [
        event | {"timestamp": time, "uid": time} for time in (*times, "2019-05-03T10:19:59+0000", "2019-05-03T10:20:00+0200")
    ]
    others = [
        event | {"timestamp": times[0], "uid": "", "event_type": "flow"},
        event | {"timestamp": times[0], "uid": "", "proto": "UDP"},
    ]
    write_json(shell.logs / "eve.json", [*events, *others, event | {"uid": "no time"}])
    assert uids(shell(make_filter(SCAN_OF_ONE, "eve", SERVER)), "jq") == times


@needs_jq
def test_the_filter_of_eve_takes_flows_by_their_end_and_names_of_every_version(shell):
    feature = make_feature("conn", "out_connections", {Dimension.DESTINATION: {SERVER: 1.0}})
    flow = {"event_type": "flow", "timestamp": "2019-05-03T13:00:00.0+0000", "src_ip": "10.0.0.5", "dest_ip": SERVER}
    inside = {"start": "2019-05-03T09:00:00.000000+0000", "end": "2019-05-03T10:30:00.000000+0000"}
    write_json(shell.logs / "eve.json", [flow | {"uid": "in", "flow": inside}, flow | {"uid": "out", "flow": {}}])
    assert uids(shell(make_filter(feature, "eve")), "jq") == ["in"]
    query = {"event_type": "dns", "timestamp": "2019-05-03T10:30:00.0+0000", "src_ip": "10.0.0.5", "dest_ip": "10.0.0.53"}
    query |= {"dest_port": 53, "proto": "UDP"}
    forms = {"2": {"rrname": "a.tunnel.example"}, "3": {"queries": [{"rrname": "a.tunnel.example"}]}, "": {"rrname": "example"}}
    write_json(shell.logs / "eve.json", [query | {"uid": version, "dns": form} for version, form in forms.items()])
    assert uids(shell(make_filter(QUERIES, "eve")), "jq") == ["2", "3"]


def test_kql_asks_for_the_fields_of_ecs():
    assert make_filter(SCAN_OF_ONE, "kql", SERVER) == (
        'event.dataset : ("zeek.http" or "suricata.eve") and @timestamp >= "2019-05-03T10:20:00.000Z" '
        'and @timestamp < "2019-05-03T11:20:00.000Z" '
        "and http.response.status_code >= 400 and http.response.status_code < 600 "
        'and destination.ip : "10.0.0.80" and (destination.port : 80 and network.transport : "tcp") '
        'and url.domain : "shop.example" '
        'and http.request.method : "GET" and source.ip : "203.0.113.7" and url.path : "/wp-login.php"'
    )
    assert 'dns.question.registered_domain : "tunnel.example"' in make_filter(QUERIES, "kql")


def test_logs_that_a_sensor_does_not_have_have_no_filter():
    assert set(make_filters(Evidence(features=(make_feature("alert", "in_severity_1", {}),)), START, END)) == {"kql", "eve"}
    assert set(make_filters(Evidence(features=(make_feature("weird", "in_count", {}),)), START, END)) == {"kql", "zeek", "jq"}


def test_an_alert_in_json_has_its_filters():
    saved = alert_to_json(WITH_EVIDENCE)["evidence"]
    assert saved["filters"] == make_filters(EVIDENCE, ALERT.window_start, ALERT.window_end)
    assert saved["features"][0]["column"] == SCAN.column
    assert alert_to_json(ALERT)["evidence"] is None
    ended = alert_to_json(replace(OVER, evidence=EVIDENCE))["evidence"]["filters"]
    assert ended == make_filters(EVIDENCE, START, END), "an end shows the peak, not the quiet window after it"


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=names)
@example(value="$(touch broken)`touch broken`; touch broken")
@example(value="' ; touch broken ; '")
@example(value='" || system("touch broken") || "')
@example(value='\\" || system("touch broken") || "')
@example(value='") , ("broken" | halt_error) , ("')
@example(value="\\(halt)")
@example(value="a\nb\tc\\x0a")
def test_a_hostile_value_is_shown_where_it_is_and_never_runs(shell, value):
    feature = make_feature("http", "in", {Dimension.USER_AGENT: {value: 1.0}, Dimension.PATH: {value: 1.0}})
    filters = make_filters(Evidence(features=(feature,)), START, END)
    rows = [
        row(1, user_agent=value, uri=f"{value}?a"),
        row(2, user_agent=f"{value}x", uri=value),
        row(3, user_agent="a", uri="b"),
    ]
    if shutil.which("jq"):
        write_json(shell.logs / "http.log", rows)
        is_readable = not re.search("[\ud800-\udfff]", value)  # jq 1.6 reads no half of a pair
        assert uids(shell(filters["jq"]), "jq") == (["C1"] if is_readable else [])
        assert uids(shell(filters["eve"].replace("eve*json*", "http.log")), "jq") == []  # of no such event, and no error
    if not re.search("^$|^-$|[\ud800-\udc7f\udd00-\udfff]", value):  # no cell of a log has these
        texts = [escape_as_zeek(value)]
        if not re.search("[\x00-\x1f]|^#", value):
            texts.append(value)  # of a reader that takes the text of a cell as it stands
        for text in texts:
            write_tsv(shell.logs / "http.log", [row(1, user_agent=text, uri=f"{text}?a"), *rows[2:]])
            assert uids(shell(filters["zeek"]), "zeek") == ["C1"]
    assert [path.name for path in shell.logs.iterdir()] == ["http.log"]


@settings(max_examples=100, deadline=None)
@given(hostile_evidence)
def test_filters_are_pipelines_or_queries_on_one_line(evidence):
    filters = make_filters(evidence, START, END, series="10.0.0.80")
    assert all(command.isprintable() for command in filters.values())
    for language, pipes in {"zeek": 3, "jq": 1, "eve": 1}.items():
        if language in filters:
            assert filters[language].isascii()
            words = shlex.split(filters[language])
            assert (words[0], words.count("|")) == ("zcat", pipes)
