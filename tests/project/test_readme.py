"""The README is true: its Python runs, its make targets exist, and it stays short."""

import re

import pytest

from tests.support.paths import ROOT
from tests.support.running_server import running_server

README = (ROOT / "README.md").read_text()
MAX_LINES = 120


def test_the_readme_stays_short():
    assert len(README.splitlines()) <= MAX_LINES


def test_the_readme_begins_with_what_an_operator_gets_and_then_two_commands():
    first, second = re.split(r"^## ", README, flags=re.MULTILINE)[:2]
    assert "Zeek or Suricata" in first
    assert re.findall(r"^make (\S+)", second, re.MULTILINE) == ["demo", "test"]


@pytest.fixture
def campus_server():
    with running_server(repository=ROOT / "exported", address="127.0.0.1:50051") as server:
        yield server


def test_the_python_of_the_readme_runs_and_reports_the_burst(campus_server, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "2026-01-05 09:10:00+00:00 conn_in 143,000, above expected" in printed


def test_every_page_of_the_documentation_can_be_reached_from_the_readme():
    pages = {*(ROOT / "docs").rglob("*.md")} | {ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"}
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md" and page.exists():
            reached.add(page)
            waiting += [(page.parent / link).resolve() for link in re.findall(r"\]\(([^)#:]+\.md)", page.read_text())]
    assert sorted(str(page.relative_to(ROOT)) for page in pages - reached) == []
