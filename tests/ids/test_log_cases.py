"""Logs of real set-ups are counted right by `aggregate`, `replay` and `watch`, whoever wrote, rotated or shipped them."""

import pytest

from tests.support.ids.log_cases import CASES, CASES_FOLDER, PATHS

pytestmark = pytest.mark.skipif(not CASES_FOLDER.is_dir(), reason=f"no cases: {CASES_FOLDER} (set MODS_DATA)")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path)
def test_a_log_is_counted_right(case, path, tmp_path):
    figures = PATHS[path](case, tmp_path)
    assert case.is_right(figures), f"expected {case.shown(case.expected)}; got {case.shown(figures)}"


def test_every_folder_of_cases_has_its_right_figures_here():
    assert {case.path.split("/")[0] for case in CASES} == {folder.name for folder in CASES_FOLDER.iterdir()}
