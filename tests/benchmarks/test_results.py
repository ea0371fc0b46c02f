"""Pages of results are written by their commands: head and measurements are new, title and notes stay."""

import shlex

import pytest

from benchmarks import results
from tests.support.paths import ROOT

OLD = """<!-- command: old; date: none; commit: none; machine: none -->

# A title of its own

An old line.

<!-- measured -->
old figures
<!-- /measured -->

## Notes

What people wrote.
"""
PAGE = results.Page(commands=("python a.py", "python b.py"), minutes=1)


def test_a_page_gets_a_new_head_and_new_figures_and_keeps_its_title_and_notes():
    page = results.render_page(OLD, "some-page", PAGE, ["plain output", "| a |\n|---|\n| 1 |"])
    assert page.startswith("<!-- command: python a.py && python b.py; date: 20")
    assert "# A title of its own\n" in page
    assert "old figures" not in page
    assert "An old line" not in page
    assert "`python a.py`\n\n```\nplain output\n```" in page
    assert "`python b.py`\n\n| a |\n|---|\n| 1 |" in page
    assert page.endswith("## Notes\n\nWhat people wrote.\n")


def test_a_page_that_does_not_exist_yet_gets_a_title():
    page = results.render_page("", "serving-rpc", PAGE, ["1", "2"])
    assert "# Serving rpc\n" in page
    assert page.endswith("<!-- /measured -->\n")


def test_a_page_that_was_written_twice_is_the_same():
    once = results.render_page(OLD, "some-page", PAGE, ["1", "2"])
    assert results.render_page(once, "some-page", PAGE, ["1", "2"]) == once


@pytest.mark.parametrize("name", results.PAGES)
def test_the_scripts_of_a_page_exist(name):
    for command in results.PAGES[name].commands:
        python, script, *_ = shlex.split(command)
        assert python == "python"
        assert script == "-m" or (ROOT / script).is_file(), script


def test_a_command_that_fails_writes_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setitem(results.PAGES, "failing", results.Page(commands=("python -c 'raise SystemExit(3)'",), minutes=1))
    monkeypatch.setattr("sys.argv", ["results", "failing"])
    with pytest.raises(SystemExit) as caught:
        results.main()
    assert str(caught.value.code).startswith("error: ")
    assert list(tmp_path.iterdir()) == []
