"""Names that were given up for the field's words do not come back."""

import io
import re
import tokenize
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.structure.import_graph import TOPS, module_paths

RETIRED = frozenset(Path(__file__).with_name("retired_names.txt").read_text().split())
WORD = re.compile(r"\w+")
CODE_SPAN = re.compile(r"`([^`\n]+)`")


def names_in(source: str) -> set[str]:
    """Return the identifiers of a module; also those in the code spans of its docstrings and comments."""
    names: set[str] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            names.add(token.string)
        elif token.type in {tokenize.STRING, tokenize.COMMENT}:
            names |= names_in_code_spans(token.string)
    return names


def names_in_code_spans(text: str) -> set[str]:
    """Return the identifiers between backticks."""
    return {name for span in CODE_SPAN.findall(text) for name in re.findall(r"[A-Za-z_]\w*", span)}


def test_the_list_is_read():
    assert len(RETIRED) > 300
    assert names_in("x = pool  # `Lock.take`\n") == {"x", "pool", "Lock", "take"}


def test_no_retired_identifier_is_left_in_code():
    left = {}
    for top in TOPS:
        for path in module_paths(top):
            source = path.read_text()
            if not RETIRED.isdisjoint(WORD.findall(source)) and (names := names_in(source) & RETIRED):  # tokenizing takes long
                left[str(path.relative_to(ROOT))] = sorted(names)
    assert left == {}


def test_no_retired_identifier_is_left_in_pages():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")]
    left = {}
    for page in pages:
        if page.name != "CHANGELOG.md" and (names := names_in_code_spans(page.read_text()) & RETIRED):
            left[str(page.relative_to(ROOT))] = sorted(names)
    assert left == {}
