"""Reads destinations of alerts, `FORMAT:DESTINATION`.

stdout                                   jsonl to standard output
FORMAT:-                                 any format to standard output
FORMAT:FILE                              appended to a file
FORMAT:udp://HOST[:514]                  syslog, one datagram each
FORMAT:tcp://HOST[:601]                  syslog; #framing=newline for receivers that don't count octets
FORMAT:tls://HOST[:6514]                 the same over TLS; #ca=FILE and #framing=newline may follow
FORMAT:https://HOST/PATH                 webhook, also http; #ca=FILE&token-file=FILE may follow
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, urldefrag, urlsplit

from mods_grpc.errors import DataError
from mods_grpc.ids.alerts.formats.registry import FORMATS

STANDARD_OUTPUT = frozenset({"stdout", "-"})
DEFAULT_PORTS: Mapping[str, int | None] = {"udp": 514, "tcp": 601, "tls": 6514, "http": None, "https": None}
FRAMINGS = ("octet-counting", "newline")

_OPTIONS: Mapping[str, frozenset[str]] = {
    "udp": frozenset(),
    "tcp": frozenset({"framing"}),
    "tls": frozenset({"framing", "ca"}),
    "http": frozenset({"token-file"}),
    "https": frozenset({"ca", "token-file"}),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where alerts go, and in which format.

    Attributes:
        format: Name of the format.
        scheme: "stdout", "file", or that of the URL.
        place: Path of the file, or the URL without options; empty for standard output.
        host: Host of a URL.
        port: Its port; None for the default of http and https.
        options: Options after the URL's `#`.
    """

    format: str
    scheme: str
    place: str = ""
    host: str = ""
    port: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)


def parse_destination(destination: str) -> Target:
    """Read a destination; the module says what it may be.

    Raises:
        DataError: It is something else.
    """
    if destination in STANDARD_OUTPUT:
        return Target(format="jsonl", scheme="stdout")
    name, colon, place = destination.partition(":")
    if not colon or not place or name not in FORMATS:
        raise DataError(f"expected stdout or FORMAT:DESTINATION with a format of {', '.join(FORMATS)}, found {destination!r}")
    if place in STANDARD_OUTPUT:
        return Target(format=name, scheme="stdout")
    scheme, separator, _ = place.partition("://")
    if not separator:
        return Target(format=name, scheme="file", place=place)
    if scheme not in DEFAULT_PORTS:
        raise DataError(f"expected a file, or a URL of {', '.join(DEFAULT_PORTS)}, found {scheme}:// in {destination!r}")
    try:
        return _parse_url(name, scheme, place)
    except ValueError as error:
        raise DataError(f"expected a URL such as {scheme}://HOST, found {place!r}: {error}") from error


def _parse_url(name: str, scheme: str, place: str) -> Target:
    url, fragment = urldefrag(place)
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError(f"the host is missing; expected {scheme}://HOST")
    if parts.username is not None:
        raise ValueError("expected no user name before the host; #token-file=FILE of a webhook names a file with a bearer token")
    if scheme not in ("http", "https") and (parts.path.strip("/") or parts.query):
        raise ValueError(f"expected nothing after {scheme}://HOST:PORT but options such as #framing=newline")
    return Target(
        format=name,
        scheme=scheme,
        place=url,
        host=parts.hostname,
        port=_read_port(parts) or DEFAULT_PORTS[scheme],
        options=_parse_options(fragment, _OPTIONS[scheme], scheme),
    )


def _read_port(parts: SplitResult) -> int | None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("expected a port of 1 to 65535 after the host")
    return port


def _parse_options(fragment: str, allowed: frozenset[str], scheme: str) -> dict[str, str]:
    if not all("=" in option for option in fragment.split("&") if fragment):
        raise ValueError(f"expected options of the form name=value after #, found {fragment!r}")
    pairs = parse_qsl(fragment, keep_blank_values=True)
    options = dict(pairs)
    if unknown := sorted(options.keys() - allowed):
        names = f"expected {' or '.join(sorted(allowed))}" if allowed else f"{scheme}:// has none"
        raise ValueError(f"unknown option {', '.join(unknown)}; {names}")
    if len(options) < len(pairs):
        raise ValueError("expected each option once")
    if empty := sorted(key for key, value in options.items() if not value):
        raise ValueError(f"the value of the option {', '.join(empty)} is missing")
    if options.get("framing", FRAMINGS[0]) not in FRAMINGS:
        raise ValueError(f"expected a framing of {' or '.join(FRAMINGS)}, found {options['framing']!r}")
    return options
