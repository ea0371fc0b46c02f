"""DNS events of Suricata: which of them count, and in which direction.

A query and its answer are two events. The query counts and has the name and type; the answer has the flags and the response code
and counts for 0 transactions, so that a transaction counts once, whether it was answered or not. The names in an answer are
`answered`, so that they don't count for a second query.

| version | queries | answers |
|---|---|---|
| 1 | one event per question | one event per record: the first has the flags, the others are ignored |
| 2 | one event per question | one event |
| 3 | one event with all questions | one event |

Version 3 writes an answer in the direction of its packet, from the server to the client; version 2 in that of the flow.
"""

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from functools import partial
from typing import Any

from mods_grpc.features.records import Dns
from mods_grpc.ids.logs import line_rules
from mods_grpc.ids.logs.field_values import read_query_type, read_response_code, read_response_name
from mods_grpc.ids.logs.line_rules import MalformedLineError, read_optional

DNS_PORT = 53
_QUERIES = {"query", "request"}
_ANSWERS = {"answer", "response"}
_SECTIONS = ("answers", "authorities", "additionals", "grouped")
_MAX_REMEMBERED = 10_000
_MAX_LONE_ANSWERS = 100  # before the first query, to queries of the file before


class DnsEvents:
    """Turns the DNS events of one file, in order, into records.

    Args:
        damaged_fields: Counts the fields that records went without, by name.
    """

    def __init__(self, damaged_fields: dict[str, int]) -> None:
        self._damaged_fields = damaged_fields
        self._read_optional = partial(read_optional, damaged_fields=damaged_fields)
        self._has_queries = False
        self._lone_answers = 0
        # the last flows whose ports do not tell which end is the server, with the client's address and port
        self._clients: OrderedDict[Hashable, Hashable] = OrderedDict()
        self._answered: OrderedDict[Hashable, None] = OrderedDict()  # the last transactions of version 1

    def read(self, dns: Mapping[str, Any], common: dict[str, Any], proto: object) -> Dns | None:
        """Return the record of an event; None for a repeated answer.

        Args:
            dns: The event's object `dns`.
            common: Attributes that every record has.
            proto: The event's transport protocol.

        Raises:
            MalformedLineError: The event is neither a query nor an answer.
        """
        kind = dns.get("type")
        if not isinstance(kind, str):
            raise MalformedLineError("no dns.type")
        if kind in _QUERIES:
            return self._read_query(dns, common, proto)
        return self._read_answer(dns, common, kind) if kind in _ANSWERS else None

    def _read_query(self, dns: Mapping[str, Any], common: dict[str, Any], proto: object) -> Dns:
        self._has_queries = True
        if common["uid"] is not None and _server_end(common) is None:
            _remember(self._clients, common["uid"], (common["orig_h"], common["orig_p"]))
        if isinstance(number := dns.get("id"), int):
            self._answered.pop((common["uid"], number), None)
        questions = _list_questions(dns)
        # of several questions, the type of the first
        qtype = self._read_optional("dns.rrtype", read_query_type, questions[0].get("rrtype"))
        transport = self._read_optional("proto", line_rules.check_text, proto)
        return Dns(
            **common,
            proto=None if transport is None else transport.lower(),
            query=self._read_names(questions),
            qtype=qtype,
            transactions=len(questions),
        )

    def _read_names(self, questions: list[Mapping[str, Any]]) -> str | tuple[str, ...] | None:
        read = [self._read_optional("dns.rrname", line_rules.check_text, question.get("rrname")) for question in questions]
        names = [name for name in read if name is not None]
        return tuple(names) if len(names) > 1 else names[0] if names else None

    def _read_answer(self, dns: Mapping[str, Any], common: dict[str, Any], kind: str) -> Dns | None:
        if not self._has_queries:
            self._note_lone_answer()
        if self._is_from_server(common, is_packet_direction=kind == "response"):
            common = turn_around(common)
        has_records = any(dns.get(section) for section in _SECTIONS)
        version = dns.get("version", 1)
        if version == 1 and kind == "answer" and not has_records:
            if self._is_repeated(common["uid"], dns.get("id")):
                return None
            # of a name that does not exist only the first event is known, without the authority that follows
            has_records = "ttl" in dns or "rdata" in dns or dns.get("rcode") == "NXDOMAIN"
        return Dns(
            **common,
            transactions=0,
            AA=self._read_optional("dns.aa", line_rules.check_flag, dns.get("aa", False)),
            TC=self._read_optional("dns.tc", line_rules.check_flag, dns.get("tc", False)),
            RD=self._read_optional("dns.rd", line_rules.check_flag, dns.get("rd", False)),
            RA=self._read_optional("dns.ra", line_rules.check_flag, dns.get("ra", False)),
            rejected=not has_records,
            nxdomain=self._read_optional("dns.rcode", read_response_code, dns.get("rcode")),
            rcode=read_response_name(dns.get("rcode")),
            answered=self._read_names(_list_questions(dns)),
        )

    def _note_lone_answer(self) -> None:
        """Count the query of an answer as lost if the log seems to have no queries (`requests: no` in suricata.yaml)."""
        self._lone_answers += 1
        if self._lone_answers > _MAX_LONE_ANSWERS:
            self._damaged_fields["dns.query"] = self._damaged_fields.get("dns.query", 0) + 1

    def _is_from_server(self, common: Mapping[str, Any], *, is_packet_direction: bool) -> bool:
        """Return whether the source of an answer is the server."""
        server = _server_end(common)
        if server is not None:
            return server == "orig"
        return is_packet_direction or self._clients.get(common["uid"]) == (common["resp_h"], common["resp_p"])

    def _is_repeated(self, uid: str | None, number: object) -> bool:
        """Return whether a transaction was answered already, and remember it."""
        if uid is None or not isinstance(number, int):
            return False
        is_repeated = (uid, number) in self._answered
        _remember(self._answered, (uid, number), None)
        return is_repeated


def _list_questions(dns: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the questions of an event, each with its `rrname`: the event itself before version 3."""
    queries = dns.get("queries")
    questions: list[Mapping[str, Any]] = (
        [question for question in queries if isinstance(question, dict)] if isinstance(queries, list) else []
    )
    return questions or [dns]


def turn_around(common: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a record with originator and responder exchanged."""
    ends = {"orig_h": common["resp_h"], "orig_p": common["resp_p"], "resp_h": common["orig_h"], "resp_p": common["orig_p"]}
    return {**common, **ends}


def _server_end(common: Mapping[str, Any]) -> str | None:
    """Return which end is the server, `orig` or `resp`, by its port; None if both or neither have that of DNS."""
    is_orig, is_resp = common["orig_p"] == DNS_PORT, common["resp_p"] == DNS_PORT
    return None if is_orig == is_resp else "orig" if is_orig else "resp"


def _remember(memory: OrderedDict[Hashable, Any], key: Hashable, value: Any) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > _MAX_REMEMBERED:
        memory.popitem(last=False)
