"""The configuration: for every field a flag overrides the environment, which overrides the default."""

import argparse
import dataclasses
import io
import re
from contextlib import redirect_stderr
from pathlib import Path
from typing import get_type_hints

import pytest

from mods_grpc.cli.main import main
from mods_grpc.server.config import (
    ENVIRONMENT_PREFIX,
    ServerConfig,
    add_arguments,
    format_default,
    from_arguments,
    is_loopback,
    to_flag,
)

FIELDS = [item.name for item in dataclasses.fields(ServerConfig)]
KINDS = get_type_hints(ServerConfig)
EXAMPLES = {
    "repository": ("one", "other"),
    "address": ("127.0.0.1:1", "unix:/run/mods.sock"),
    "health_address": ("127.0.0.1:2", "127.0.0.1:3"),
    "metrics_address": ("127.0.0.1:9090", "[::1]:0"),
    "otlp_endpoint": ("http://127.0.0.1:4317", "https://collector:4317"),
    "transport": ("grpcio", "grpcio"),
    "provider": ("cpu", "cuda"),
    "log_format": ("json", "json"),
    "log_level": ("DEBUG", "ERROR"),
    "max_series": ("33000", "44000"),
}


def examples(name):
    """Two texts for a field, neither of them its default."""
    if name in EXAMPLES:
        return EXAMPLES[name]
    if KINDS[name] is bool:
        other = str(not getattr(ServerConfig(), name)).lower()
        return other, other
    if name in ("max_metadata_bytes", "canary_memory_mib"):
        return "4444", "5555"
    return ("33", "44") if KINDS[name] is int else ("33.5", "44.25")


def parse(*arguments, environment=()):
    parser = argparse.ArgumentParser(prog="serve")
    add_arguments(parser)
    return from_arguments(parser.parse_args(arguments), dict(environment))


def flags_for(name, text):
    if name == "repository":
        return [text]
    if KINDS[name] is bool:
        return [to_flag(name) if text == "true" else f"--no-{to_flag(name)[2:]}"]
    return [to_flag(name), text]


def value_of(name, text):
    return text == "true" if KINDS[name] is bool else KINDS[name](text)


def variable(name):
    return ENVIRONMENT_PREFIX + name.upper()


def test_no_options_give_the_defaults():
    assert parse() == ServerConfig()


@pytest.mark.parametrize("name", FIELDS)
def test_the_environment_overrides_the_default(name):
    text, _ = examples(name)
    config = parse(environment={variable(name): text})
    assert config == dataclasses.replace(ServerConfig(), **{name: value_of(name, text)})
    assert type(getattr(config, name)) is type(getattr(ServerConfig(), name))


@pytest.mark.parametrize("name", FIELDS)
def test_a_flag_overrides_the_environment(name):
    text, other = examples(name)
    if KINDS[name] is bool:
        other = "false" if text == "true" else "true"
    config = parse(*flags_for(name, text), environment={variable(name): other})
    assert config == dataclasses.replace(ServerConfig(), **{name: value_of(name, text)})
    assert type(getattr(config, name)) is type(getattr(ServerConfig(), name))


@pytest.mark.parametrize(("text", "value"), [("true", True), ("TRUE", True), ("1", True), ("false", False), ("0", False)])
def test_truth_values_of_the_environment(text, value):
    assert parse(environment={"MODS_GRPC_REFLECTION": text}).reflection is value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("reflection", "yes"),
        ("reflection", ""),
        ("max_streams", "many"),
        ("max_streams", "1.5"),
        ("max_streams", ""),
        ("grace_seconds", "long"),
    ],
)
def test_a_variable_that_cannot_be_read_is_named(name, text):
    with pytest.raises(ValueError, match=f"{variable(name)}: expected .*, found '{text}'"):
        parse(environment={variable(name): text})


@pytest.mark.parametrize(
    ("name", "text"), [("max_streams", "many"), ("grace_seconds", "long"), ("provider", "tpu"), ("log_level", "LOUD")]
)
def test_a_flag_that_cannot_be_read_is_named(capsys, name, text):
    with pytest.raises(SystemExit) as caught:
        parse(to_flag(name), text)
    assert caught.value.code == 2
    assert re.search(f"{to_flag(name)}: (expected|invalid choice).*'{text}'", capsys.readouterr().err)


OUT_OF_RANGE = {
    "transport": ["http", ""],
    "provider": ["tpu", ""],
    "log_level": ["debug"],
    "address": ["127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:http", "localhost:", "::1:50051", "unix:", "unix:/" + "x" * 107],
    "health_address": ["127.0.0.1:99999", "127.0.0.1", ""],
    "metrics_address": ["localhost", "localhost:99999", "127.0.0.1:१"],
    "max_message_bytes": [0, -1, 2**31],
    "max_observations": [0],
    "max_window_rows": [0],
    "max_series": [0, 32_767],
    "max_series_per_sensor": [0],
    "max_streams": [0, -5],
    "max_pending": [0],
    "max_concurrent_streams": [0],
    "max_connections": [0],
    "max_metadata_bytes": [0],
    "max_run_seconds": [0.0, 1e-9],
    "canary_seconds": [0.0],
    "canary_memory_mib": [0],
    "run_threads": [2_000],
    "versions_kept": [1],
    "max_impute_rows": [-1, 5],
    "default_impute_rows": [145],
    "grace_seconds": [-0.5, float("nan"), float("inf")],
    "stream_idle_seconds": [float("nan"), float("inf"), 1e300],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in OUT_OF_RANGE.items() for value in values])
def test_a_value_out_of_range_is_rejected_with_its_flag(name, value):
    with pytest.raises(ValueError, match=re.escape(to_flag(name))) as caught:
        ServerConfig(**{name: value})
    assert str(value) in str(caught.value)
    with pytest.raises(ValueError, match=f"{re.escape(to_flag(name))}|{variable(name)}"):
        parse(environment={variable(name): str(value)})


LOOPBACK = ["127.0.0.1:50051", "127.8.9.1:0", "[::1]:50051", "localhost:1", "unix:/run/mods.sock", "unix-abstract:mods"]
BEYOND = [
    "0.0.0.0:50051",
    "[::]:50051",
    ":50051",
    "192.168.1.2:1",
    "example.org:1",
    "127.0.0.1.example.org:1",
    "localhost.example.org:1",
]


@pytest.mark.parametrize("address", LOOPBACK)
def test_loopback_addresses_are_allowed(address):
    assert is_loopback(address)
    assert ServerConfig(address=address).address == address


@pytest.mark.parametrize("address", BEYOND)
def test_listening_beyond_loopback_must_be_allowed(address):
    assert not is_loopback(address)
    with pytest.raises(
        ValueError, match="beyond loopback, without --tls-certificate or --token-file; --insecure-public allows it"
    ):
        ServerConfig(address=address)
    assert ServerConfig(address=address, insecure_public=True).address == address


@pytest.mark.parametrize("address", ["localhost", "gateway"])
def test_an_address_without_a_port_is_refused_for_that(address):
    with pytest.raises(ValueError, match=f"the port is missing; expected host:port.* such as {address}:50051"):
        ServerConfig(address=address)


def test_an_address_with_a_wrong_port_is_refused_for_its_form():
    with pytest.raises(ValueError, match="expected host:port"):
        ServerConfig(address="gateway:x")


@pytest.mark.parametrize(
    ("default", "text"), [(True, "true"), (False, "false"), ("", "none"), (0.0, "0"), (604_800.0, "604800"), (6, "6")]
)
def test_defaults_are_written_for_people(default, text):
    assert format_default(default) == text


def test_a_configuration_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ServerConfig().max_streams = 5


def test_the_help_lists_every_field_with_its_default(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for item in dataclasses.fields(ServerConfig):
        assert (item.name if item.name == "repository" else to_flag(item.name)) in text
        assert item.metadata["help"].replace("\n", " ") in text
        assert f"(default {format_default(item.default)})" in text


def test_a_wrong_configuration_ends_the_command_with_one_clear_line(monkeypatch):
    monkeypatch.setenv("MODS_GRPC_MAX_STREAMS", "many")
    stderr = io.StringIO()
    with redirect_stderr(stderr):
        assert main(["serve", str(Path("exported"))]) == 2
    assert stderr.getvalue() == ("error: MODS_GRPC_MAX_STREAMS: expected a whole number from 1 to 2147483647, found 'many'\n")


def test_the_endpoint_of_a_collector_needs_a_scheme():
    with pytest.raises(ValueError, match="--otlp-endpoint is 'collector:4317', expected http://host:port"):
        ServerConfig(otlp_endpoint="collector:4317")
