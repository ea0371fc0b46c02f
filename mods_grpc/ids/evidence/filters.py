"""Filters that an analyst pastes to see the records that made an alert: for Zeek's logs, Suricata's EVE and Elastic.

The values come from attackers. Each is written as a text of the language that it stands in, of printable ASCII only, and a whole
program is quoted for the shell.
"""

import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from mods_grpc.features.records import ADMIN_PORTS, COMMON_QUERY_TYPES
from mods_grpc.ids.evidence.conditions import FAILED_STATES, Clause, Conditions, choose_conditions, split_port
from mods_grpc.ids.evidence.evidence import Dimension, Evidence

SUCCEEDED, FAILED = "succeeded", "failed"  # values of `Dimension.AUTH`
_FOLDED = {Dimension.QUERY, Dimension.HOST, Dimension.SERVER_NAME}
_LOG_FIELDS: Mapping[Dimension, str] = {
    Dimension.SOURCE: "id.orig_h",
    Dimension.DESTINATION: "id.resp_h",
    Dimension.PORT: "id.resp_p",
    Dimension.SERVICE: "service",
    Dimension.CONN_STATE: "conn_state",
    Dimension.QUERY: "query",
    Dimension.DOMAIN: "query",
    Dimension.QUERY_TYPE: "qtype_name",
    Dimension.RCODE: "rcode_name",
    Dimension.HOST: "host",
    Dimension.PATH: "uri",
    Dimension.METHOD: "method",
    Dimension.STATUS: "status_code",
    Dimension.USER_AGENT: "user_agent",
    Dimension.SERVER_NAME: "server_name",
    Dimension.CLIENT: "client",
    Dimension.AUTH: "auth_success",
}
_NAME_FIELDS = {"notice": "note", "weird": "name"}
_WITH_PROTO = {"conn", "dns", "notice"}
_EVE_EVENTS = {"conn": "flow", "ssl": "tls"}
_EVE_FIELDS: Mapping[Dimension, str] = {
    Dimension.SOURCE: ".src_ip",
    Dimension.DESTINATION: ".dest_ip",
    Dimension.PORT: ".dest_port",
    Dimension.SERVICE: ".app_proto",
    Dimension.QUERY: "(.dns.rrname // .dns.queries[0]?.rrname // .dns.query[0]?.rrname?)",
    Dimension.DOMAIN: "(.dns.rrname // .dns.queries[0]?.rrname // .dns.query[0]?.rrname?)",
    Dimension.HOST: ".http.hostname",
    Dimension.PATH: ".http.url",
    Dimension.METHOD: ".http.http_method",
    Dimension.STATUS: ".http.status",
    Dimension.USER_AGENT: ".http.http_user_agent",
    Dimension.SERVER_NAME: ".tls.sni",
    Dimension.CLIENT: ".ssh.client.software_version",
    Dimension.SIGNATURE: ".alert.signature",
}
_ECS_FIELDS: Mapping[Dimension, str] = {
    Dimension.SOURCE: "source.ip",
    Dimension.DESTINATION: "destination.ip",
    Dimension.PORT: "destination.port",
    Dimension.SERVICE: "network.protocol",
    Dimension.QUERY: "dns.question.name",
    Dimension.DOMAIN: "dns.question.registered_domain",
    Dimension.QUERY_TYPE: "dns.question.type",
    Dimension.RCODE: "dns.response_code",
    Dimension.HOST: "url.domain",
    Dimension.PATH: "url.path",
    Dimension.METHOD: "http.request.method",
    Dimension.STATUS: "http.response.status_code",
    Dimension.USER_AGENT: "user_agent.original",
    Dimension.SERVER_NAME: "tls.client.server_name",
    Dimension.SIGNATURE: "rule.name",
    Dimension.NAME: "rule.name",
}
_ECS_DATASETS = {"conn": "zeek.connection"}
_JQ = "TZ=UTC jq -Rc"  # elsewhere jq 1.6 reads times of the summer an hour off
_TIME = 'def t: if type == "number" then . else (.[0:19] + "Z" | fromdateiso8601) end; '
_EVE_TIME = (
    'def t: (.[0:19] + "Z" | fromdateiso8601) - (if .[-1:] == "Z" then 0 '
    'else (.[-5:-4] + "1" | tonumber) * ((.[-4:-2] | tonumber) * 3600 + (.[-2:] | tonumber) * 60) end); '
)


def make_filters(evidence: Evidence, start: datetime, end: datetime, *, series: str | None = None) -> dict[str, str]:
    """Return filters for the records of the leading feature that have its dominant values.

    Args:
        evidence: What made the alert.
        start: Start of its window; of a fall the time before counts as well.
        end: End of its window, which is not part of it.
        series: The series, which is a condition if it is an address.

    Returns:
        By language: `zeek`, a command for the folder of Zeek's logs in TSV; `jq`, one for logs in JSON; `eve`, one for Suricata's
        eve.json; `kql`, a query for Kibana with the fields of ECS. Zeek has no log of Suricata's alerts, and Suricata none of
        Zeek's notices, so that these are left out.
    """
    conditions = choose_conditions(evidence, start, end, series)
    filters = {"kql": _make_kql(conditions)}
    if conditions.protocol != "alert":
        filters |= {"zeek": _make_awk(conditions), "jq": _make_jq(conditions)}
    if conditions.protocol not in {"notice", "weird"}:
        filters["eve"] = _make_eve(conditions)
    return filters


class _Columns:
    """The columns that a command cuts out of a log, each once."""

    def __init__(self) -> None:
        self.names = ["ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p"]

    def variable(self, name: str) -> str:
        """Return awk's name of a column."""
        if name not in self.names:
            self.names.append(name)
        return f"${self.names.index(name) + 1}"


def _make_awk(conditions: Conditions) -> str:
    columns = _Columns()
    time = f"$1 + {columns.variable('duration')}" if conditions.at_end else "$1"
    tests = [f"{time} >= {_number(conditions.start)}", f"{time} < {_number(conditions.end)}"]
    if conditions.protocol == "conn" and conditions.direction:
        origin, response = columns.variable("local_orig"), columns.variable("local_resp")
        tests.append({"in": f'{origin} != "T"', "out": f'{response} != "T"'}.get(conditions.direction, f"{origin} == {response}"))
    tests += _measure_awk(conditions, columns)
    tests += _join_clauses(conditions, lambda dimension, value: _test_awk(conditions.protocol, columns, dimension, value), " || ")
    program = f"/^#/ || ({' && '.join(tests)})"
    cut = f"zcat -f {conditions.protocol}.*log* 2>/dev/null | zeek-cut -C {' '.join(columns.names)}"
    return f"{cut} | LC_ALL=C awk -F'\\t' {shlex.quote(program)} | zeek-cut -u"


def _measure_awk(conditions: Conditions, columns: _Columns) -> list[str]:
    """Return what the feature itself says of a record: that it failed, for instance."""
    key = (conditions.protocol, conditions.field)
    if key in {("conn", "is_unanswered"), ("conn", "is_admin"), ("conn", "admin_host")}:
        name, values = ("conn_state", FAILED_STATES) if key[1] == "is_unanswered" else ("id.resp_p", tuple(sorted(ADMIN_PORTS)))
        return [_any(f'{columns.variable(name)} == "{value}"' for value in values)]
    if key == ("conn", "is_long"):
        return [f"{columns.variable('duration')} >= 3600"]
    if key == ("dns", "nxdomain"):
        return [f'{columns.variable("rcode_name")} == "NXDOMAIN"']
    if key == ("dns", "has_rare_type"):
        kind = columns.variable("qtype_name")
        return [" && ".join(f'{kind} != "{name}"' for name in ("-", *sorted(COMMON_QUERY_TYPES)))]
    if key == ("http", "has_error"):
        status = columns.variable("status_code")
        return [f"{status} >= 400", f"{status} < 600"]
    if key in {("ssh", "failed"), ("ssl", "failed")}:
        return [f'{columns.variable("auth_success" if key[0] == "ssh" else "established")} == "F"']
    if conditions.protocol == "dns" and conditions.flag is not None:
        return [f'{columns.variable(conditions.field)} == "{"T" if conditions.flag else "F"}"']
    return []


def _test_awk(protocol: str, columns: _Columns, dimension: Dimension, value: str) -> str | None:
    if (name := _log_field(protocol, dimension)) is None:
        return None
    variable = columns.variable(name)
    if dimension is Dimension.PORT:
        if (port := split_port(value)) is None:
            return None
        if port[1] and protocol in _WITH_PROTO:
            return f"({variable} == {port[0]} && {columns.variable('proto')} == {_awk_text(port[1])})"
        return f"{variable} == {port[0]}"
    if dimension is Dimension.AUTH:
        return f'{variable} == "{"F" if value == FAILED else "T"}"' if value in {FAILED, SUCCEEDED} else None
    return _any(_match_awk(dimension, variable, text) for text in dict.fromkeys((value, _escape_as_zeek(value))))


def _match_awk(dimension: Dimension, variable: str, value: str) -> str:
    if dimension is Dimension.PATH:
        return f"({variable} == {_awk_text(value)} || index({variable}, {_awk_text(value + '?')}) == 1)"
    if dimension is Dimension.DOMAIN:
        name, domain = f"tolower({variable})", _lower(value)
        below = _awk_text(f".{domain}")
        return f"({name} == {_awk_text(domain)} || substr({name}, length({name}) - length({below}) + 1) == {below})"
    if dimension in _FOLDED:
        return f"tolower({variable}) == {_awk_text(_lower(value))}"
    return f"{variable} == {_awk_text(value)}"


def _make_jq(conditions: Conditions) -> str:
    time = "(.ts | t) + (.duration // 0)" if conditions.at_end else "(.ts | t)"
    tests = [f"{time} >= {_number(conditions.start)}", f"{time} < {_number(conditions.end)}"]
    if conditions.protocol == "conn" and conditions.direction:
        by_direction = {"in": ".local_orig != true", "out": ".local_resp != true"}
        tests.append(by_direction.get(conditions.direction, ".local_orig == .local_resp"))
    tests += _measure_jq(conditions)
    tests += _join_clauses(conditions, lambda dimension, value: _test_zeek_json(conditions.protocol, dimension, value), " or ")
    program = f"{_TIME}fromjson? | objects | select({_and(tests)})?"
    return f"zcat -f {conditions.protocol}.*log* 2>/dev/null | {_JQ} {shlex.quote(program)}"


def _measure_jq(conditions: Conditions) -> list[str]:
    key = (conditions.protocol, conditions.field)
    if key == ("conn", "is_unanswered"):
        return [f".conn_state | IN({_jq_list(FAILED_STATES)})"]
    if key in {("conn", "is_admin"), ("conn", "admin_host")}:
        return [f'."id.resp_p" | IN({", ".join(map(str, sorted(ADMIN_PORTS)))})']
    if key == ("conn", "is_long"):
        return ["(.duration // 0) >= 3600"]
    if key == ("dns", "nxdomain"):
        return ['.rcode_name == "NXDOMAIN"']
    if key == ("dns", "has_rare_type"):
        return [f".qtype_name != null and (.qtype_name | IN({_jq_list(tuple(sorted(COMMON_QUERY_TYPES)))}) | not)"]
    if key == ("http", "has_error"):
        return [".status_code >= 400 and .status_code < 600"]
    if key in {("ssh", "failed"), ("ssl", "failed")}:
        return [f".{'auth_success' if key[0] == 'ssh' else 'established'} == false"]
    if conditions.protocol == "dns" and conditions.flag is not None:
        return [f".{conditions.field} == {str(conditions.flag).lower()}"]
    return []


def _test_zeek_json(protocol: str, dimension: Dimension, value: str) -> str | None:
    if (name := _log_field(protocol, dimension)) is None:
        return None
    field = f".{_jq_text(name)}"
    if dimension is Dimension.PORT and (port := split_port(value)) is not None and port[1] and protocol in _WITH_PROTO:
        return f"({field} == {port[0]} and .proto == {_jq_text(port[1])})"
    if dimension is Dimension.AUTH:
        return f"{field} == {str(value == SUCCEEDED).lower()}" if value in {FAILED, SUCCEEDED} else None
    return _match_jq(dimension, field, value)


def _match_jq(dimension: Dimension, field: str, value: str) -> str | None:
    if dimension is Dimension.PORT:
        port = split_port(value)
        return None if port is None else f"{field} == {port[0]}"
    text = f'({field} // "" | tostring'
    if dimension is Dimension.PATH:
        return f"{text} | . == {_jq_text(value)} or startswith({_jq_text(value + '?')}))"
    if dimension is Dimension.DOMAIN:
        domain = _lower(value)
        return f"{text} | ascii_downcase | . == {_jq_text(domain)} or endswith({_jq_text('.' + domain)}))"
    if dimension in _FOLDED:
        return f"{text} | ascii_downcase | . == {_jq_text(_lower(value))})"
    return f"{text} | . == {_jq_text(value)})"


def _make_eve(conditions: Conditions) -> str:
    protocol = conditions.protocol
    time = "(.timestamp | t)"
    if protocol == "conn":
        time = "(.flow.end // .timestamp | t)" if conditions.at_end else "(.flow.start | t)"
    tests = [
        f".event_type == {_jq_text(_EVE_EVENTS.get(protocol, protocol))}",
        f"{time} >= {_number(conditions.start)}",
        f"{time} < {_number(conditions.end)}",
    ]
    if (protocol, conditions.field) == ("http", "has_error"):
        tests.append(".http.status >= 400 and .http.status < 600")
    if protocol == "alert" and conditions.field.startswith("is_severity_"):
        severity = conditions.field.removeprefix("is_severity_")
        tests.append(f".alert.severity {'>=' if severity == '3' else '=='} {severity}")
    if conditions.field in {"is_admin", "admin_host"}:
        tests.append(f".dest_port | IN({', '.join(map(str, sorted(ADMIN_PORTS)))})")
    tests += _join_clauses(conditions, _test_eve, " or ")
    program = f"{_EVE_TIME}fromjson? | objects | select({_and(tests)})?"
    return f"zcat -f eve*json* 2>/dev/null | {_JQ} {shlex.quote(program)}"


def _test_eve(dimension: Dimension, value: str) -> str | None:
    if (field := _EVE_FIELDS.get(dimension)) is None:
        return None
    if dimension is Dimension.PORT and (port := split_port(value)) is not None and port[1]:
        return f"({field} == {port[0]} and .proto == {_jq_text(port[1].upper())})"
    return _match_jq(dimension, field, value)


def _make_kql(conditions: Conditions) -> str:
    dataset = _ECS_DATASETS.get(conditions.protocol, f"zeek.{conditions.protocol}")
    tests = [
        f'event.dataset : ("{dataset}" or "suricata.eve")'
        if conditions.protocol != "alert"
        else 'event.dataset : "suricata.eve"',
        f'@timestamp >= "{_iso(conditions.start)}"',
        f'@timestamp < "{_iso(conditions.end)}"',
    ]
    if conditions.protocol == "http" and conditions.field == "has_error":
        tests.append("http.response.status_code >= 400 and http.response.status_code < 600")
    if conditions.protocol == "dns" and conditions.field == "nxdomain":
        tests.append('dns.response_code : "NXDOMAIN"')
    tests += _join_clauses(conditions, _test_kql, " or ")
    return " and ".join(tests)


def _test_kql(dimension: Dimension, value: str) -> str | None:
    if (field := _ECS_FIELDS.get(dimension)) is None:
        return None
    if dimension is Dimension.PORT:
        if (port := split_port(value)) is None:
            return None
        return f'({field} : {port[0]} and network.transport : "{port[1]}")' if port[1] else f"{field} : {port[0]}"
    return f"{field} : {_kql_text(_lower(value) if dimension in _FOLDED else value)}"


def _join_clauses(conditions: Conditions, test: Callable[[Dimension, str], str | None], either: str) -> list[str]:
    """Return a test for each clause; one of which a language lacks a field is left out, so that more is shown, not less."""
    return [joined for clause in conditions.clauses if (joined := _join_clause(clause, test, either)) is not None]


def _join_clause(clause: Clause, test: Callable[[Dimension, str], str | None], either: str) -> str | None:
    tests = [text for dimension, value in clause if (text := test(dimension, value)) is not None]
    if len(tests) < len(clause):
        return None
    return tests[0] if len(tests) == 1 else f"({either.join(tests)})"


def _log_field(protocol: str, dimension: Dimension) -> str | None:
    return _NAME_FIELDS.get(protocol) if dimension is Dimension.NAME else _LOG_FIELDS.get(dimension)


def _any(tests: Iterable[str]) -> str:
    joined = list(tests)
    return joined[0] if len(joined) == 1 else f"({' || '.join(joined)})"


def _and(tests: list[str]) -> str:
    """Join tests of jq, whose `|` binds less than its `and`."""
    return " and ".join(f"({each})" if " | " in each else each for each in tests)


def _escape_as_zeek(value: str) -> str:
    r"""Write a value as Zeek does in TSV: bytes that are not printable as \xHH, a backslash as two."""
    return "".join("\\\\" if c == "\\" else c if c.isprintable() else "".join(f"\\x{b:02x}" for b in _encode(c)) for c in value)


def _awk_text(value: str) -> str:
    """Write a text of awk in printable ASCII, without quotes of the shell."""
    return '"' + "".join(chr(b) if _is_plain(b) else f"\\{b:03o}" for b in _encode(value)) + '"'


def _encode(value: str) -> bytes:
    """Return a value as the bytes of the log, where a surrogate stands for one that is not UTF-8."""
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "replace")


def _is_plain(byte: int) -> bool:
    return 0x20 <= byte < 0x7F and chr(byte) not in "\"\\'"


def _jq_text(value: str) -> str:
    """Write a text of jq in printable ASCII, without quotes of the shell; what is not Unicode as jq reads it."""
    return (
        json.dumps("".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in value))
        .replace("'", "\\u0027")
        .replace("\x7f", "\\u007f")
    )


def _jq_list(values: tuple[str, ...]) -> str:
    return ", ".join(map(_jq_text, values))


def _kql_text(value: str) -> str:
    """Write a text of KQL; control characters other than tab and line breaks are left as a space."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t").replace("\r", "\\r").replace("\n", "\\n")
    return '"' + "".join(c if c.isprintable() else " " for c in escaped) + '"'


def _lower(value: str) -> str:
    """Turn letters of ASCII to lower case, as awk and jq do."""
    return "".join(c.lower() if c.isascii() else c for c in value)


def _number(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
