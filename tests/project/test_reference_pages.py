"""The generated reference pages are what the code says; `make docs` writes them."""

import importlib.util
import re

import pytest

from mods_grpc.errors import Reason
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("generate_reference", ROOT / "docs/generate_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = ("cli.md", "server-options.md", "errors.md", "metrics.md", "features.md")


@pytest.mark.parametrize("page", PAGES)
def test_the_committed_page_is_what_the_code_says(generator, page):
    assert (ROOT / "docs/reference" / page).read_text() == generator.pages()[page], "run make docs"


def test_every_generated_page_is_compared(generator):
    assert set(generator.pages()) == set(PAGES)


def test_every_reason_has_a_row_in_the_table_of_errors(generator):
    rows = re.findall(r"^\| `(\w+)` \|", generator.pages()["errors.md"], re.MULTILINE)
    assert rows == [str(reason) for reason in Reason]
