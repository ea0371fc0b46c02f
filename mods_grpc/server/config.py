"""Configuration: one frozen dataclass from whose fields flags, environment variables and the reference table are generated.

A flag overrides `MODS_GRPC_<NAME>`, which overrides the default. Nothing else reads the environment.
"""

import argparse
import dataclasses
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

ENVIRONMENT_PREFIX = "MODS_GRPC_"
DEFAULT_REPOSITORY = Path("exported")
MAX_OPTION_VALUE = 2**31 - 1  # gRPC's options are signed 32-bit integers
UNIX_PREFIXES = ("unix:", "unix-abstract:")
TRANSPORTS = ("direct", "grpcio")
PROVIDERS = ("auto", "cpu", "cuda", "tensorrt")


def _option(default: Any, text: str, *, choices: tuple[str, ...] | None = None) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices})


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
    versions_kept: int = _option(2, "versions of a model kept in memory, the serving one included")
    canary: bool = _option(True, "load each version in a child process first")
    canary_memory_mib: int = _option(4096, "memory limit of that child process in MiB")
    canary_seconds: float = _option(60.0, "time limit of that child process")
    reflection: bool = _option(True, "serve gRPC reflection (v1 and v1alpha)")
    max_message_bytes: int = _option(16 * 1024 * 1024, "maximum size of a request or response message")
    max_metadata_bytes: int = _option(16 * 1024, "maximum size of request metadata")
    max_concurrent_streams: int = _option(128, "concurrent HTTP/2 streams per connection")
    max_connections: int = _option(
        1024, "direct transport: limit on open connections; grpcio transport: length of the accept backlog"
    )
    max_streams: int = _option(1000, "limit on open StreamDetect calls")
    max_streams_per_identity: int = _option(1000, "limit on open StreamDetect calls per caller")
    max_messages_per_second: float = _option(0.0, "limit on messages per second and caller; 0 for none")
    max_pending: int = _option(64, "limit on large requests that wait or run")
    max_run_seconds: float = _option(30.0, "time limit of a model run on one batch")
    run_threads: int = _option(0, "threads per large batch; 0 for one per core, at most 4")
    max_observations: int = _option(16_384, "limit on observations or windows per message")
    max_window_rows: int = _option(16_384, "limit on rows of one window or series in a unary request")
    max_series: int = _option(100_000, "series held per model; beyond it the least recently used is dropped")
    max_series_per_sensor: int = _option(50_000, "limit on series per sensor")
    default_impute_rows: int = _option(6, "missing rows that are filled with the forecast if the stream sets no gap policy")
    max_impute_rows: int = _option(144, "limit on the missing rows that a gap policy may fill")
    max_future_seconds: float = _option(86_400.0, "how far an observation may lie ahead of this machine's clock")
    max_bad_messages: int = _option(100, "rejected messages in a row after which a stream is ended")
    state_idle_seconds: float = _option(7 * 86_400.0, "how long the state of a series without new rows is kept")
    stream_idle_seconds: float = _option(3_600.0, "how long a stream may be idle")
    slow_reader_seconds: float = _option(30.0, "how long a stream may leave a response unread")
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
            if isinstance(value, int | float) and not isinstance(value, bool) and not 0 <= value <= MAX_OPTION_VALUE:
                raise ValueError(f"{to_flag(item.name)} is {value}, expected 0 to {MAX_OPTION_VALUE}")
        for name in (
            "max_message_bytes",
            "max_observations",
            "max_window_rows",
            "max_series",
            "max_series_per_sensor",
            "max_streams",
            "max_streams_per_identity",
            "max_pending",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{to_flag(name)} is {getattr(self, name)}, expected 1 or more")
        if self.max_series < 2 * self.max_observations:
            expected = f"at least twice --max-observations {self.max_observations}"
            raise ValueError(f"--max-series is {self.max_series}, expected {expected}")
        if self.versions_kept < 2:
            raise ValueError(
                f"--versions-kept is {self.versions_kept}, expected 2 or more: the serving one and one for a rollback"
            )
        if self.default_impute_rows > self.max_impute_rows:
            rows = f"{self.default_impute_rows}, above --max-impute-rows {self.max_impute_rows}"
            raise ValueError(f"--default-impute-rows is {rows}")
        for name in ("address", "health_address"):
            address = getattr(self, name)
            port = address.rpartition(":")[2]
            if not address.startswith(UNIX_PREFIXES) and not (port.isdecimal() and int(port) < 2**16):
                # gRPC would take the port modulo 65536
                raise ValueError(f"{to_flag(name)} is {address!r}, expected host:port with a port of 0 to 65535, or unix:/path")
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


def split_host_port(address: str) -> tuple[str, int]:
    """Split host:port.

    Raises:
        ValueError: The address has another form.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"expected host:port, found {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every field. The repository is a positional argument."""
    hints = get_type_hints(ServerConfig)
    for item in dataclasses.fields(ServerConfig):
        text = f"{item.metadata['help']} (default {format_default(item.default)})"
        if item.name == "repository":
            parser.add_argument("repository", nargs="?", type=Path, default=None, help=text)
        elif hints[item.name] is bool:
            parser.add_argument(to_flag(item.name), action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            parser.add_argument(
                to_flag(item.name), type=hints[item.name], default=None, choices=item.metadata["choices"], help=text
            )


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
            values[item.name] = _parse(environment[variable], hints[item.name], variable)
    return ServerConfig(**values)


def format_default(value: object) -> str:
    """Write a default for help: true or false for a switch, none for an empty text, no decimals for whole numbers."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def to_flag(name: str) -> str:
    """Return the flag of a field."""
    return "--" + name.replace("_", "-")


def _parse(text: str, kind: Any, variable: str) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise ValueError(f"{variable} is {text!r}, expected true or false")
        return text.lower() in ("true", "1")
    try:
        return kind(text)
    except ValueError as error:
        raise ValueError(f"{variable} is {text!r}, expected {kind.__name__}") from error
