"""Configuration: one frozen dataclass from whose fields flags, environment variables and the reference table are generated.

A flag overrides `MODS_GRPC_<NAME>`, which overrides the default. Nothing else reads the environment.
"""

import argparse
import dataclasses
import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from mods_grpc.command_line import number, parse_optional_text, parse_path, refusal, whole_number

ENVIRONMENT_PREFIX = "MODS_GRPC_"
DEFAULT_REPOSITORY = Path("exported")
MAX_OPTION_VALUE = 2**31 - 1  # gRPC's options are signed 32-bit integers
UNIX_PREFIXES = ("unix:", "unix-abstract:")
MAX_SOCKET_PATH_BYTES = 107
TRANSPORTS = ("direct", "grpcio")
PROVIDERS = ("auto", "cpu", "cuda", "tensorrt")


def _option(
    default: Any, text: str, *, choices: tuple[str, ...] | None = None, minimum: float = 0, maximum: float = MAX_OPTION_VALUE
) -> Any:
    bounds = {"minimum": minimum, "maximum": maximum}
    return field(default=default, metadata={"help": text, "choices": choices, **bounds})


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """All options of the server. The help texts document the fields."""

    repository: Path = _option(DEFAULT_REPOSITORY, "model repository: <name>/<version>/ folders")
    address: str = _option("127.0.0.1:50051", "address to listen on: host:port, or unix:/path")
    transport: str = _option(
        "direct",
        "HTTP/2 implementation: direct is this package's own, grpcio is gRPC's library, which is slower",
        choices=TRANSPORTS,
    )
    health_address: str = _option("127.0.0.1:50052", "address of the health server, which runs on its own thread")
    insecure_public: bool = _option(False, "allow an address beyond loopback without TLS and without tokens")
    tls_certificate: str = _option("", "certificate chain (PEM); read again when it changes")
    tls_key: str = _option("", "private key of the certificate (PEM)")
    tls_client_ca: str = _option("", "certificate authorities (PEM) of client certificates; enables mutual TLS")
    token_file: str = _option(
        "", "bearer tokens, one per line: name, SHA-256, scopes (infer, models); read again when it changes"
    )
    trusted_key_file: str = _option(
        "", "Ed25519 public keys (PEM), one of which must have signed each version; read again when it changes"
    )
    metrics_address: str = _option("", "address of the Prometheus endpoint: host:port; empty for none")
    otlp_endpoint: str = _option("", "OTLP collector for traces: http(s)://host:port; empty for none")
    provider: str = _option("auto", "ONNX Runtime execution provider; only auto allows a fallback", choices=PROVIDERS)
    reload_seconds: float = _option(1.0, "interval of scans for new versions in the repository; 0 for none")
    versions_kept: int = _option(
        2,
        "versions of a model kept in memory, the serving one included; the one that serves the other kind of rows comes on top",
        minimum=2,
        maximum=1_000,
    )
    canary: bool = _option(True, "load each version in a child process first")
    canary_memory_mib: int = _option(4096, "memory limit of that child process in MiB", minimum=64)
    canary_seconds: float = _option(60.0, "time limit of that child process", minimum=0.1, maximum=86_400)
    reflection: bool = _option(True, "serve gRPC reflection (v1 and v1alpha)")
    max_message_bytes: int = _option(16 * 1024 * 1024, "maximum size of a request or response message", minimum=1)
    max_metadata_bytes: int = _option(8 * 1024, "maximum size of request metadata", minimum=1_024)
    max_concurrent_streams: int = _option(128, "concurrent HTTP/2 streams per connection", minimum=1)
    max_connections: int = _option(
        1024, "direct transport: limit on open connections; grpcio transport: length of the accept backlog", minimum=1
    )
    max_streams: int = _option(1000, "limit on open StreamDetect calls", minimum=1)
    max_streams_per_identity: int = _option(1000, "limit on open StreamDetect calls per caller", minimum=1)
    max_messages_per_second: float = _option(0.0, "limit on messages per second and caller; 0 for none")
    max_pending: int = _option(64, "limit on large requests that wait or run", minimum=1)
    max_run_seconds: float = _option(30.0, "time limit of a model run on one batch", minimum=0.001)
    run_threads: int = _option(0, "threads per large batch; 0 for one per core, at most 4", maximum=1_024)
    max_observations: int = _option(16_384, "limit on observations or windows per message", minimum=1)
    max_window_rows: int = _option(16_384, "limit on rows of one window or series in a unary request", minimum=1)
    max_series: int = _option(100_000, "series held per model; beyond it the least recently used is dropped", minimum=2)
    max_series_per_sensor: int = _option(50_000, "limit on series per sensor", minimum=1)
    default_impute_rows: int = _option(6, "missing rows that are filled with the forecast if the stream sets no gap policy")
    max_impute_rows: int = _option(144, "limit on the missing rows that a gap policy may fill")
    max_future_seconds: float = _option(86_400.0, "how far an observation may lie ahead of this machine's clock")
    max_bad_messages: int = _option(100, "rejected messages in a row after which a stream is ended")
    state_idle_seconds: float = _option(7 * 86_400.0, "how long the state of a series without new rows is kept", minimum=1)
    stream_idle_seconds: float = _option(3_600.0, "how long a stream may be idle", minimum=0.1)
    slow_reader_seconds: float = _option(30.0, "how long a stream may leave a response unread", minimum=0.1)
    state_file: str = _option("", "file that carries the state of all series over a restart; empty for none")
    state_interval_seconds: float = _option(
        60.0, "write the state every N seconds, and always on shutdown; 0 writes on shutdown only"
    )
    drain_delay_seconds: float = _option(0.0, "how long to accept calls after SIGTERM, while already reporting not ready")
    grace_seconds: float = _option(10.0, "how long accepted calls may run after SIGTERM")
    log_format: str = _option("text", "format of log lines", choices=("text", "json"))
    log_level: str = _option("INFO", "minimum severity of log lines", choices=("DEBUG", "INFO", "WARNING", "ERROR"))

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value, choices = getattr(self, item.name), item.metadata["choices"]
            if choices and value not in choices:
                raise ValueError(f"{to_flag(item.name)} is {value!r}, expected one of {', '.join(choices)}")
            minimum, maximum = item.metadata["minimum"], item.metadata["maximum"]
            if isinstance(value, int | float) and not isinstance(value, bool) and not minimum <= value <= maximum:
                raise ValueError(f"{to_flag(item.name)} is {value}, expected {minimum} to {maximum}")
        if self.max_series < 2 * self.max_observations:
            expected = f"at least twice --max-observations {self.max_observations}"
            raise ValueError(f"--max-series is {self.max_series}, expected {expected}")
        if self.default_impute_rows > self.max_impute_rows:
            rows = f"{self.default_impute_rows}, above --max-impute-rows {self.max_impute_rows}"
            raise ValueError(f"--default-impute-rows is {rows}")
        for name in ("address", "health_address"):
            check_listen_address(getattr(self, name), to_flag(name))
        if self.metrics_address:
            check_listen_address(self.metrics_address, "--metrics-address", unix=False)
        if not (self.insecure_public or self.tls_certificate or self.token_file or is_loopback(self.address)):
            text = "is beyond loopback, without --tls-certificate or --token-file; --insecure-public allows it"
            raise ValueError(f"--address {self.address} {text}")
        if self.otlp_endpoint and not self.otlp_endpoint.startswith(("http://", "https://")):
            raise ValueError(f"--otlp-endpoint is {self.otlp_endpoint!r}, expected http://host:port or https://host:port")


def is_loopback(address: str) -> bool:
    """Return whether an address can be reached from this machine only."""
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    if address.startswith(UNIX_PREFIXES) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a host name, which may resolve to any machine


def check_listen_address(address: str, flag: str, *, unix: bool = True) -> None:
    """Check the form of an address to listen on.

    Args:
        address: The address.
        flag: Its flag, for the error.
        unix: Whether it may be a unix socket.

    Raises:
        ValueError: It is not host:port with a port of 0 to 65535, or unix:/path with a path that fits a socket's address.
    """
    if unix and address.startswith(UNIX_PREFIXES):
        path = address.partition(":")[2].removeprefix("//")
        size = len(os.fsencode(path))
        if not 0 < size <= MAX_SOCKET_PATH_BYTES:
            raise ValueError(f"{flag} is {address!r}, expected a path of 1 to {MAX_SOCKET_PATH_BYTES} bytes, found {size}")
        return
    host, colon, port = address.rpartition(":")
    forms = "host:port with a port of 0 to 65535" + (", or unix:/path" if unix else "")
    if not colon and address:
        raise ValueError(f"{flag} is {address!r}, but the port is missing; expected {forms}, such as {address}:50051")
    if not _is_port(port) or not (host or unix):
        raise ValueError(f"{flag} is {address!r}, expected {forms}")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"{flag} is {address!r}, expected brackets around an IPv6 address, such as [::1]:50051")


def split_host_port(address: str) -> tuple[str, int]:
    """Split host:port; brackets around the host are removed.

    Raises:
        ValueError: The address has another form.
    """
    host, _, port = address.rpartition(":")
    if not host or not _is_port(port):
        raise ValueError(f"expected host:port, found {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every field. The repository is a positional argument."""
    hints = get_type_hints(ServerConfig)
    for item in dataclasses.fields(ServerConfig):
        text = f"{item.metadata['help']} (default {format_default(item.default)})"
        if item.name == "repository":
            parser.add_argument("repository", nargs="?", type=_argument_type(item, Path), default=None, help=text)
        elif hints[item.name] is bool:
            parser.add_argument(to_flag(item.name), action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            kind = _argument_type(item, hints[item.name])
            parser.add_argument(to_flag(item.name), type=kind, default=None, choices=item.metadata["choices"], help=text)


def from_arguments(arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> ServerConfig:
    """Create the configuration from parsed flags and the environment.

    Raises:
        ValueError: A value can't be parsed or is out of range. The message names the flag or variable.
    """
    hints = get_type_hints(ServerConfig)
    values: dict[str, Any] = {}
    for item in dataclasses.fields(ServerConfig):
        variable = ENVIRONMENT_PREFIX + item.name.upper()
        value = getattr(arguments, item.name, None)
        if value is not None:
            values[item.name] = value
        elif variable in environment:
            try:
                values[item.name] = _argument_type(item, hints[item.name])(environment[variable])
            except argparse.ArgumentTypeError as error:
                raise ValueError(f"{variable}: {error}") from None
    return ServerConfig(**values)


def format_default(value: object) -> str:
    """Write a default for help: true or false for a switch, none for an empty text, no decimals for whole numbers."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def to_flag(name: str) -> str:
    """Return the flag of a field."""
    return "--" + name.replace("_", "-")


def _argument_type(item: dataclasses.Field[Any], kind: Any) -> Callable[[str], Any]:
    """Return what reads a field from a flag or a variable."""
    minimum, maximum = item.metadata["minimum"], item.metadata["maximum"]
    if kind is bool:
        return _parse_switch
    if kind is int:
        return whole_number(minimum, maximum)
    if kind is float:
        return number(minimum=minimum, maximum=maximum)
    return parse_path if kind is Path else parse_optional_text


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text[:6]) < 2**16  # gRPC would take it modulo 65536


def _parse_switch(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise refusal("true or false", text)
    return text.lower() in ("true", "1")
