"""Configuration: one frozen dataclass; flags, environment variables and the README's table are made from its fields.

A flag wins over `MODS_GRPC_<NAME>`, which wins over the default. Nothing else reads the environment.
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
MAX_OPTION_VALUE = 2**31 - 1  # of what gRPC takes as an option
UNIX_PREFIXES = ("unix:", "unix-abstract:")
TRANSPORTS = ("direct", "grpcio")
PROVIDERS = ("auto", "cpu", "cuda", "tensorrt")


def _option(default: Any, text: str, *, choices: tuple[str, ...] | None = None) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """Everything that can be set. Field docs are the help texts."""

    repository: Path = _option(DEFAULT_REPOSITORY, "model repository: <name>/<version>/ folders")
    address: str = _option("127.0.0.1:50051", "where to listen: host:port, or unix:/path")
    transport: str = _option(
        "direct", "what carries calls: this package's HTTP/2, or gRPC's own library, which is slower", choices=TRANSPORTS
    )
    health_address: str = _option("127.0.0.1:50052", "where the health server listens, on its own thread")
    insecure_public: bool = _option(False, "allow an address beyond loopback although there is neither TLS nor a token")
    tls_certificate: str = _option("", "file with the certificate chain (PEM); read again when it changes")
    tls_key: str = _option("", "file with its private key (PEM)")
    tls_client_ca: str = _option("", "file with the authorities (PEM) that client certificates must come from; mutual TLS")
    token_file: str = _option(
        "", "file of bearer tokens: name, SHA-256, scopes (infer, models) a line; read again when it changes"
    )
    trusted_key_file: str = _option(
        "", "file of Ed25519 public keys (PEM), one of which must have signed every version; read again when it changes"
    )
    metrics_address: str = _option("", "where Prometheus reads metrics: host:port; nowhere when empty")
    otlp_endpoint: str = _option("", "collector that traces are sent to with OTLP: http(s)://host:port; none when empty")
    provider: str = _option("auto", "ONNX Runtime execution provider; all but auto refuse a fallback", choices=PROVIDERS)
    reload_seconds: float = _option(1.0, "how often to look for new versions in the repository; 0 for never")
    versions_kept: int = _option(2, "versions of a model kept in memory, the serving one included")
    canary: bool = _option(True, "try every version in a child process before it is loaded")
    canary_memory_mib: int = _option(4096, "memory in MiB a version may take in the child process")
    canary_seconds: float = _option(60.0, "time a version may take in the child process")
    reflection: bool = _option(True, "serve gRPC reflection (v1 and v1alpha)")
    max_message_bytes: int = _option(16 * 1024 * 1024, "largest request and response message")
    max_metadata_bytes: int = _option(16 * 1024, "largest request metadata")
    max_concurrent_streams: int = _option(128, "HTTP/2 streams per connection")
    max_connections: int = _option(1024, "connections that may wait to be accepted; that may be open, over the direct transport")
    max_streams: int = _option(1000, "open StreamDetect calls")
    max_streams_per_identity: int = _option(1000, "open StreamDetect calls of one caller")
    max_messages_per_second: float = _option(0.0, "messages one caller may send a second; 0 for no limit")
    max_pending: int = _option(64, "large requests that may wait or run at a time")
    max_run_seconds: float = _option(30.0, "how long a model may run on one batch before it is stopped")
    run_threads: int = _option(0, "threads that share one large batch; 0 for one a core, 4 at most")
    max_observations: int = _option(16_384, "observations or windows in one message")
    max_window_rows: int = _option(16_384, "rows of one window or series in a unary request")
    max_series: int = _option(100_000, "series held per model; the least recently used is dropped")
    max_series_per_sensor: int = _option(50_000, "series one sensor may hold")
    default_impute_rows: int = _option(6, "missing rows filled with the forecast where a stream names no gap policy")
    max_impute_rows: int = _option(144, "most missing rows a gap policy may ask to fill")
    max_future_seconds: float = _option(86_400.0, "how far ahead of this machine's clock an observation may be")
    max_bad_messages: int = _option(100, "refused messages in a row that end a stream")
    state_idle_seconds: float = _option(7 * 86_400.0, "how long the state of a series that sends nothing is kept")
    stream_idle_seconds: float = _option(3_600.0, "how long a stream may send nothing")
    slow_reader_seconds: float = _option(30.0, "how long a stream may leave an answer unread")
    state_file: str = _option("", "file that keeps the state of all series over a restart; none when empty")
    state_interval_seconds: float = _option(60.0, "how often to write it beside at the end; 0 for only then")
    drain_delay_seconds: float = _option(0.0, "how long to keep accepting after SIGTERM, readiness already off")
    grace_seconds: float = _option(10.0, "how long accepted calls may take to finish after SIGTERM")
    log_format: str = _option("text", "form of log lines", choices=("text", "json"))
    log_level: str = _option("INFO", "least severe log line", choices=("DEBUG", "INFO", "WARNING", "ERROR"))

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
            least = f"at least twice --max-observations {self.max_observations}"
            raise ValueError(f"--max-series is {self.max_series}, expected {least}")
        if self.versions_kept < 2:
            raise ValueError(f"--versions-kept is {self.versions_kept}, expected 2 or more: one serves, one to go back to")
        if self.default_impute_rows > self.max_impute_rows:
            rows = f"{self.default_impute_rows}, above --max-impute-rows {self.max_impute_rows}"
            raise ValueError(f"--default-impute-rows is {rows}")
        if not (self.insecure_public or self.tls_certificate or self.token_file or is_loopback(self.address)):
            text = "is beyond loopback, without --tls-certificate or --token-file; --insecure-public allows it"
            raise ValueError(f"--address {self.address} {text}")

        if self.otlp_endpoint and not self.otlp_endpoint.startswith(("http://", "https://")):
            raise ValueError(f"--otlp-endpoint is {self.otlp_endpoint!r}, expected http://host:port or https://host:port")
        for name in ("address", "health_address"):
            address = getattr(self, name)
            port = address.rpartition(":")[2]
            if not address.startswith(UNIX_PREFIXES) and not (port.isdecimal() and int(port) < 2**16):
                # gRPC takes a port modulo 65536
                raise ValueError(f"{to_flag(name)} is {address!r}, expected host:port with a port of 0 to 65535, or unix:/path")


def is_loopback(address: str) -> bool:
    """Tell whether only this machine can reach an address."""
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    if address.startswith(UNIX_PREFIXES) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name, which may mean any machine


def split_host_port(address: str) -> tuple[str, int]:
    """Take host:port apart.

    Raises:
        ValueError: It is not of this form.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"expected host:port, found {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every field but the repository, which is the one positional argument."""
    hints = get_type_hints(ServerConfig)
    for item in dataclasses.fields(ServerConfig):
        text = f"{item.metadata['help']} (default {item.default})"
        if item.name == "repository":
            parser.add_argument("repository", nargs="?", type=Path, default=None, help=text)
        elif hints[item.name] is bool:
            parser.add_argument(to_flag(item.name), action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            parser.add_argument(to_flag(item.name), type=hints[item.name], default=None, choices=item.metadata["choices"], help=text)


def from_arguments(arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> ServerConfig:
    """Make the configuration of parsed flags and the environment.

    Raises:
        ValueError: A value can't be read or is out of range; the message names flag or variable.
    """
    hints = get_type_hints(ServerConfig)
    chosen: dict[str, Any] = {}
    for item in dataclasses.fields(ServerConfig):
        variable = ENVIRONMENT_PREFIX + item.name.upper()
        given = getattr(arguments, item.name, None)
        if given is not None:
            chosen[item.name] = given
        elif variable in environment:
            chosen[item.name] = _parse(environment[variable], hints[item.name], variable)
    return ServerConfig(**chosen)


def to_flag(name: str) -> str:
    """Return a field's flag."""
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
