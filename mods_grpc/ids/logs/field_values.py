"""Readers of fields whose text stands for another value: a connection's state, a query type, a response code and the like.

They take a cell of TSV or a value of JSON, and raise `MalformedLineError` for what the field can't hold.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from mods_grpc.ids.logs.line_rules import MalformedLineError, check_common_text, check_flag

# Zeek's states of a connection: whether the responder never answered, or refused
_FAILED_BY_STATE = dict.fromkeys(("S0", "REJ", "RSTOS0", "SH"), True) | dict.fromkeys(
    ("S1", "SF", "S2", "S3", "RSTO", "RSTR", "RSTRH", "SHR", "OTH"), False
)
_STATES = {state: state for state in _FAILED_BY_STATE}
_NXDOMAIN = {"NXDOMAIN", "3", "3.0"}
_RESPONSE_CODE_NAMES = (
    *("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE"),
    *("DSOTYPENI", "RCODE12", "RCODE13", "RCODE14", "RCODE15"),
    *("BADVERS", "BADKEY", "BADTIME", "BADMODE", "BADNAME", "BADALG", "BADTRUNC", "BADCOOKIE"),
)
_RESPONSE_CODE = re.compile(r"(\d{1,5})(?:\.0+)?|[a-z][a-z0-9_-]{0,31}", re.IGNORECASE | re.ASCII)
_MAX_CACHED_CHARACTERS = 40
_SELF_SIGNED = re.compile("self[- ]signed", re.IGNORECASE)
# a name, `*` of Zeek for ANY, or a number: alone, as `query-65` of Zeek or as `TYPE65` (RFC 3597)
_QUERY_TYPE = re.compile(r"\*|(?:query-|type)?(\d{1,5})(?:\.0+)?|(?!query-)[a-z][a-z0-9_-]{0,31}", re.IGNORECASE | re.ASCII)
_QUERY_TYPE_NUMBERS = (
    "1=A 2=NS 5=CNAME 6=SOA 10=NULL 12=PTR 13=HINFO 15=MX 16=TXT 28=AAAA 29=LOC 33=SRV 35=NAPTR 37=CERT 39=DNAME "
    "41=OPT 43=DS 44=SSHFP 46=RRSIG 47=NSEC 48=DNSKEY 50=NSEC3 52=TLSA 64=SVCB 65=HTTPS "
    "99=SPF 251=IXFR 252=AXFR 255=ANY 256=URI 257=CAA"
)
_QUERY_TYPES = {int(number): name for number, name in (pair.split("=") for pair in _QUERY_TYPE_NUMBERS.split())}
_NO_APPLICATION = {"failed", "unknown"}
_TCP_FLAGS = re.compile(r"[0-9a-f]{1,4}", re.IGNORECASE | re.ASCII)


def read_conn_state(value: object) -> bool | None:
    """Return whether a connection in one of Zeek's states failed; None for an unknown state.

    Raises:
        MalformedLineError: Not a text.
    """
    if not isinstance(value, str):
        raise MalformedLineError("text")
    return _FAILED_BY_STATE.get(value)


def read_state_name(value: object) -> str | None:
    """Return one of Zeek's states of a connection; None for any other value, of which `read_conn_state` says what is wrong."""
    return _STATES.get(value) if isinstance(value, str) else None


def read_query_type(value: object) -> str:
    """Return the name of a query type that is given by its name or number; `TYPE65` (RFC 3597) for a number without a name.

    Raises:
        MalformedLineError: Neither a name nor a number.
    """
    text = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    return _name_query_type(text if len(text) <= _MAX_CACHED_CHARACTERS else "")


@lru_cache(maxsize=1_024)
def _name_query_type(text: str) -> str:
    match = _QUERY_TYPE.fullmatch(text)
    if match is None:
        raise MalformedLineError("query type")
    if match[1]:
        return _QUERY_TYPES.get(int(match[1]), f"TYPE{int(match[1])}")
    return "ANY" if text == "*" else text.upper()


def read_response_code(value: object) -> bool:
    """Return whether a response code, given by its name or number, is that of a name that does not exist.

    Raises:
        MalformedLineError: Neither a text nor a number.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise MalformedLineError("response code")
    return str(value).upper() in _NXDOMAIN


def read_response_name(value: object) -> str | None:
    """Return the name of a response code that is given by its name or number; `RCODE24` for a number without a name.

    None for any other value, of which `read_response_code` says what is wrong.
    """
    text = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    return _name_response(text) if len(text) <= _MAX_CACHED_CHARACTERS else None


@lru_cache(maxsize=1_024)
def _name_response(text: str) -> str | None:
    match = _RESPONSE_CODE.fullmatch(text)
    if match is None:
        return None
    if match[1] is None:
        return text.upper()
    number = int(match[1])
    return _RESPONSE_CODE_NAMES[number] if number < len(_RESPONSE_CODE_NAMES) else f"RCODE{number}"


def read_application(value: object) -> str | None:
    """Return the protocol of the application that Suricata found in a flow; None if it found none.

    Raises:
        MalformedLineError: Not a text.
    """
    text = check_common_text(value)
    return None if text in _NO_APPLICATION else text


def read_validation(value: object) -> bool:
    """Return whether OpenSSL's words about a certificate say that it, or one above it, is signed by itself.

    Raises:
        MalformedLineError: Not a text.
    """
    if not isinstance(value, str):
        raise MalformedLineError("text")
    return _SELF_SIGNED.search(value) is not None


def read_negation(value: object) -> bool:
    """Return the contrary of a truth value.

    Raises:
        MalformedLineError: Not a truth value.
    """
    return not check_flag(value)


def read_tcp_flags(value: object) -> int:
    """Return the flags of TCP, which Suricata writes as a hexadecimal number.

    Raises:
        MalformedLineError: Not such a number.
    """
    if not isinstance(value, str) or not _TCP_FLAGS.fullmatch(value):
        raise MalformedLineError("flags")
    return int(value, 16)


VALUE_READERS: Mapping[str, Callable[[object], Any]] = {
    "conn_state": read_conn_state,
    "state_name": read_state_name,
    "response_name": read_response_name,
    "query_type": read_query_type,
    "response_code": read_response_code,
    "validation": read_validation,
    "negation": read_negation,
}
"""By type of `ZeekField`: the reader of a cell or value."""
