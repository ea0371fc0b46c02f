"""The README is true: its Python runs, its table of options is the server's, its reasons are all of ours."""

import dataclasses
import re

import pytest

from mods_grpc.errors import Reason
from mods_grpc.server.config import ENVIRONMENT_PREFIX, ServerConfig, flag
from tests.support.paths import ROOT
from tests.support.running_server import running_server

README = (ROOT / "README.md").read_text()


def configuration_table():
    lines = ["| flag | default | what it sets |", "|---|---|---|"]
    for item in dataclasses.fields(ServerConfig):
        shown = "`REPOSITORY`" if item.name == "repository" else f"`{flag(item.name)}`"
        lines.append(f"| {shown} | {item.default} | {item.metadata['help']} |")
    return "\n".join(lines)


def test_the_table_of_options_is_made_from_the_configuration():
    found = re.search(r"<!-- configuration -->\n(.*?)\n<!-- /configuration -->", README, re.DOTALL)
    assert found
    assert found[1] == configuration_table()
    assert ENVIRONMENT_PREFIX in README


def test_every_reason_is_in_the_table_of_errors():
    assert [reason for reason in Reason if not re.search(rf"\b{reason}\b", README)] == []


def test_the_readme_stays_short():
    assert len(README.splitlines()) < 250


@pytest.fixture
def campus_server():
    with running_server(repository=ROOT / "exported", address="127.0.0.1:50051") as server:
        yield server


def test_the_python_of_the_readme_runs_and_finds_the_burst(campus_server, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "2026-01-05 09:10:00+00:00 conn_in 143 000, above expected" in printed


def test_make_targets_that_the_readme_names_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"^make (\S+)", README, re.MULTILINE)) | {"serve"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
