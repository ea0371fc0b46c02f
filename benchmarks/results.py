"""Run benchmarks and write their output into the pages of docs/results, with machine, date, commit and command.

Usage: python -m benchmarks.results                   list the pages, their commands and approximate run times
       python -m benchmarks.results PAGE [PAGE ...]   run the commands of these pages and write the pages

The text of a page between `<!-- measured -->` and `<!-- /measured -->` is replaced by the output of its commands; its title and
the notes below stay. Real data is read from $MODS_DATA (default ../shared/data). Close other programs first, and compare ratios:
times depend on the machine.
"""

import argparse
import os
import platform
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
DATA = Path(os.environ.get("MODS_DATA", ROOT.parent / "shared" / "data"))
MEASURED = re.compile(r"<!-- measured -->\n.*?<!-- /measured -->", re.DOTALL)
LABELLED = "$MODS_DATA/labelled/smd $MODS_DATA/labelled/donut $MODS_DATA/labelled/cloud $MODS_DATA/labelled/nab"

ATTACKS = (
    "--background $MODS_DATA/zeek-tsv/2024-04-19 $MODS_DATA/zeek-tsv/2024-04-20 $MODS_DATA/attacks/workstations/ws-2 "
    "$MODS_DATA/attacks/workstations/ws-3 --attacks $MODS_DATA/attacks --local 64.225.56.201 10.66.0.5"
)

MODS_2019 = "$MODS_DATA/mods-2019/mods_2019-01-01_2019-06-03_w01h-s10m.tsv"


@dataclass(frozen=True, slots=True)
class Page:
    """A page of results: its commands, as a reader would type them, and approximately how many minutes they take."""

    commands: tuple[str, ...]
    minutes: int


def _for_models(command: str, *models: str) -> tuple[str, ...]:
    return tuple(f"{command} --model {model}" for model in models)


PAGES = {
    "structure": Page(("python -m tests.project.structure",), 1),
    "serving-rpc": Page(_for_models("python benchmarks/serving/rpc.py --rounds 5", "mlp", "campus", "mods-2019"), 30),
    "serving-h2load": Page(_for_models("python benchmarks/serving/h2load.py", "campus", "mods-2019"), 4),
    "serving-sizing": Page(_for_models("python benchmarks/serving/sizing.py", "campus"), 5),
    "serving-batch-graph": Page(("python benchmarks/serving/batch_graph.py",), 5),
    "serving-providers": Page(("python benchmarks/serving/providers.py --providers cpu cuda",), 5),
    "serving-http2-engine": Page(("python benchmarks/serving/http2_engine.py",), 2),
    "peers": Page(("python benchmarks/peers/compare.py --rounds 3",), 5),
    "http2-conformance": Page(("python benchmarks/conformance/http2.py",), 3),
    "foreign-clients": Page(("python -m tests.foreign_clients",), 3),
    "robustness-attack": Page(("python benchmarks/robustness/attack.py --seconds 15 --together 600",), 15),
    "robustness-soak": Page(("python benchmarks/robustness/soak.py",), 60),
    "robustness-chaos": Page(
        (
            "python benchmarks/robustness/chaos.py --minutes 60",
            "python benchmarks/robustness/chaos.py --minutes 10 --transport grpcio",
        ),
        75,
    ),
    "robustness-handover": Page(("python benchmarks/robustness/handover.py",), 5),
    "robustness-restarts": Page(
        ("python benchmarks/robustness/restarts.py", "python benchmarks/robustness/restarts.py --transport grpcio"), 5
    ),
    "detection-injected": Page(("python benchmarks/detection/injected.py --per-kind 50",), 30),
    "detection-injected-sizes": Page(("python benchmarks/detection/injected_sizes.py --picture docs/results/injected.png",), 60),
    "detection-compare": Page((f"python benchmarks/detection/compare.py {LABELLED} --models MLP,Conv1D,GRU",), 60),
    "detection-quantiles": Page(
        (f"python benchmarks/detection/compare.py {LABELLED} --models MLP,Conv1D,GRU --quantiles 0.05,0.5,0.95",), 60
    ),
    "detection-attacks": Page((f"python -m benchmarks.attacks {ATTACKS}",), 30),
    "detection-cold-start": Page((f"python benchmarks/detection/cold_start.py {LABELLED}",), 20),
    "detection-changes": Page(
        ("python benchmarks/detection/changes.py", "python benchmarks/detection/changes.py --own-envelope"), 5
    ),
    "detection-cost": Page(("python benchmarks/detection/cost.py",), 3),
    "detection-total-budget": Page(("python -m benchmarks.detection.total_budget.measure",), 3),
    "detection-watched-site": Page(("python -m benchmarks.detection.total_budget.raw_records",), 6),
    "detection-by-budget": Page((f"python -m benchmarks.detection.total_budget.by_budget {MODS_2019}",), 2),
    "detection-picture": Page(("python benchmarks/detection/picture.py",), 2),
    "ingest": Page(
        ("python benchmarks/ingest/aggregate.py --records 1000000", "python benchmarks/ingest/watch.py --records 10000000"), 15
    ),
    "ingest-evidence": Page(("python -m benchmarks.ingest.evidence",), 60),
    "training-baselines": Page(("python benchmarks/training/baselines.py",), 5),
    "forecast-intervals": Page(("python benchmarks/training/forecast_intervals.py",), 1),
    "training-epoch-speed": Page(("python benchmarks/training/epoch_speed.py",), 5),
    "training-pool": Page(("python benchmarks/training/pool.py $MODS_DATA/labelled/smd",), 20),
}


def describe_machine() -> str:
    """Return processor, cores, memory and Python of this machine."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else []
    gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    processor = names[0] if names else platform.machine()
    return f"{os.cpu_count()} cores ({processor}), {gibibytes:.0f} GiB, Python {platform.python_version()}"


def describe_commit() -> str:
    """Return the commit that is checked out, with a plus sign where the tree differs from it."""
    git = ("git", "-C", str(ROOT))
    name = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    return name + ("+" if changes.strip() else "")


def run(command: str) -> str:
    """Run a command from the root of the checkout, show what it prints, and return it.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    words = [word.replace("$MODS_DATA", str(DATA)) for word in shlex.split(command)]
    words[0] = sys.executable
    lines = []
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)
    return "".join(lines).rstrip()


def to_markdown(output: str) -> str:
    """Return output unchanged if it holds a table in Markdown, else in a code block."""
    return output if re.search(r"^\|.*\|$", output, re.MULTILINE) else f"```\n{output}\n```"


def render_page(old: str, name: str, page: Page, outputs: list[str]) -> str:
    """Return a page with new measurements: head, title and notes as in `old`, and the output of its commands."""
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    commands = "; ".join(f"`{command}`" for command in page.commands)
    machine, commit = describe_machine(), describe_commit()
    title = next((line for line in old.splitlines() if line.startswith("# ")), f"# {name.replace('-', ' ').capitalize()}")
    parts = [f"`{command}`\n\n{to_markdown(output)}" for command, output in zip(page.commands, outputs, strict=True)]
    measured = "<!-- measured -->\n" + "\n\n".join(parts) + "\n<!-- /measured -->"
    head = f"<!-- command: {' && '.join(page.commands)}; date: {date}; commit: {commit}; machine: {machine} -->"
    line = f"Machine: {machine}. Date: {date}. Commit: {commit}. Command: {commands}. Written by `make results PAGES={name}`."
    notes = MEASURED.split(old, maxsplit=1)[1] if MEASURED.search(old) else "\n"
    return f"{head}\n\n{title}\n\n{line}\n\n{measured}{notes}"


def main() -> None:
    """List the pages, or run the commands of the named ones and write these pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="pages to write (default: list all)")
    names = parser.parse_args().pages
    if unknown := [name for name in names if name not in PAGES]:
        parser.error(f"no page {', '.join(unknown)}; there are {', '.join(PAGES)}")
    if not names:
        print("make results PAGES='NAME ...' runs these commands and writes docs/results/NAME.md:\n")
        for name, page in PAGES.items():
            print(f"{name} (about {page.minutes} min)\n" + "".join(f"    {command}\n" for command in page.commands))
    for name in names:
        try:
            outputs = [run(command) for command in PAGES[name].commands]
        except subprocess.CalledProcessError as error:
            sys.exit(f"error: exit code {error.returncode} of {shlex.join(map(str, error.cmd))}; {name} was not written")
        path = RESULTS / f"{name}.md"
        path.write_text(render_page(path.read_text() if path.exists() else "", name, PAGES[name], outputs))
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
