import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.support.training.data import make_walk, write_table
from training.cli.main import main
from training.evaluation.intervals import measure_coverage
from training.evaluation.worst_hours import find_worst_hours

DATA = ["--time-column", "time", "--features", "x0,x1:sum", "--window-slide", "w01h-s10m"]
RANGES = ["--train-time-range", "<2024-01-01,2024-01-14)", "--test-time-range", "<2024-01-14,2024-01-17)"]


class BandOfOne:
    """Stands for a detector whose intervals at coverage c reach c * 10 to both sides."""

    def path_interval(
        self, forecast: np.ndarray, coverage: float, quantiles: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        return forecast - 10 * coverage, forecast + 10 * coverage


def test_coverage_is_the_share_inside_and_width_its_median() -> None:
    observed = np.array([[[4.0]], [[-7.0]], [[9.0]], [[20.0]]])
    forecast = np.full_like(observed, 0.0)
    half, most = measure_coverage(BandOfOne(), observed, forecast, ["a"], nominal=(0.5, 0.95))  # type: ignore[arg-type]
    assert (half.feature, half.step, half.realised, half.width) == ("a", 1, 0.25, 10.0)
    assert (most.realised, most.width) == (0.75, 19.0)
    assert np.isnan(half.relative_width)


def test_the_worst_hour_is_that_of_the_largest_error_over_the_usual_one() -> None:
    times = np.datetime64("2024-01-01T00:00") + np.arange(18) * np.timedelta64(10, "m")
    observed, forecast = np.zeros((18, 2)), np.ones((18, 2))
    forecast[:, 1] = 100
    observed[12:18, 0] = 7
    first, *_ = find_worst_hours(times, observed, forecast, ["a", "b"], count=3)
    assert (str(first.start), first.feature, first.observed, first.forecast) == ("2024-01-01T02", "a", 7.0, 1.0)
    assert first.times_usual == pytest.approx(6 / ((12 * 1 + 6 * 6) / 18))


class Page(HTMLParser):
    """Collects what a page would load, its images, its headings and the rows of its tables."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.headings = ""

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)
        self.sources += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data"}]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["h2"]:
            self.headings += f"{data}\n"


@pytest.mark.train
def test_evaluate_writes_metrics_and_a_report_that_loads_nothing(tmp_path: Path) -> None:
    table = str(write_table(tmp_path / "x.csv", make_walk(days=17)))
    run, repository, output = str(tmp_path / "run"), str(tmp_path / "repository"), tmp_path / "evaluation"
    words = ["fit", "--csv", table, *DATA, *RANGES, "--run", run, "--model-type", "MLP", "--epochs", "2", "--steps-ahead", "3"]
    assert main(words) == 0
    assert main(["export", "--run", run, "--repository", repository, "--name", "walk"]) == 0
    evaluate = ["evaluate", "--model", f"{repository}/walk/1", *DATA[:4], "--output", str(output)]
    assert main([*evaluate, "--csv", table, "--no-report"]) == 0
    assert not (output / "report.html").exists()

    tree = json.loads((output / "metrics.json").read_text())
    assert [name.split(" (")[0] for name in tree["baselines"]] == ["persistence", "seasonal naive", "ridge"]
    assert tree["notes"] == []
    assert tree["relative_mae_geometric_mean"]["persistence"] == pytest.approx([1.0, 1.0, 1.0])
    model = {(m["metric"], m["feature"], m["step"]): m for m in tree["metrics"]}
    unchanged = {(m["metric"], m["feature"], m["step"]): m for m in tree["baselines"]["persistence"]}
    assert unchanged.keys() == model.keys()
    for key, metric in unchanged.items():
        assert metric["value"] == pytest.approx(model[key]["persistence"]), key
    wanted = {(name, step, nominal) for name in ("x0", "x1") for step in (1, 2, 3) for nominal in (0.8, 0.95, 0.99)}
    assert wanted <= {(c["feature"], c["step"], c["nominal"]) for c in tree["coverage"]}
    own = {(c["feature"], c["step"], c["nominal"]): c["realised"] for c in tree["own_coverage"]}
    assert own.keys() == wanted
    assert np.mean([abs(realised - nominal) for (_, _, nominal), realised in own.items()]) < 0.06
    assert {(entry["feature"], entry["step"]) for entry in tree["crps"]} == {("x0", 1), ("x0", 3), ("x1", 1), ("x1", 3)}
    assert all(0 < entry["own"] < 1.2 * entry["calibration"] for entry in tree["crps"])
    assert sum(tree["detector"]["p_values"]["counts"]) > 300

    later = str(write_table(tmp_path / "y.csv", make_walk(days=17)))
    lines = Path(later).read_text().splitlines()
    Path(later).write_text("\n".join([lines[0], *lines[14 * 144 - 100 :]]) + "\n")
    assert main([*evaluate, "--csv", later]) == 0
    (note,) = json.loads((output / "metrics.json").read_text())["notes"]
    assert "ridge is left out" in note

    page = Page()
    text = (output / "report.html").read_text()
    page.feed(text)
    assert page.open == []
    assert len(page.sources) == 5
    assert all(source.startswith("data:image/") for source in page.sources)
    assert "url(" not in text
    assert "<script" not in text
    for heading in (
        "Skill by horizon",
        "Forecast against reality",
        "Calibration",
        "Intervals by step",
        "Intervals of the series' own",
        "Residuals",
        "Worst hours",
    ):
        assert heading in page.headings
    assert re.search(r"walk, version 1.*MLP", text, re.DOTALL)
    assert note[:20] in text
    assert re.search(r"Its mean error is below|It does not beat no change", text)
    assert re.search(r"Of its 80% intervals \d+% hold the value", text)
    assert "k = 1: persistence" in text
    assert text.count("<div class=wide><img") == 5
