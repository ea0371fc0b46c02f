"""The documentation is true: links, paths, commands, flags and targets that it names exist."""

import ast
import re
import shlex
from functools import cache

from mods_grpc.cli.main import build_parser as build_client_parser
from tests.project.test_structure import LEVELS
from tests.support.paths import ROOT
from training.cli.main import build_parser as build_complete_training_parser

FOLDERS = ("docs", "training", "protos", "benchmarks", "examples")
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md")))
    if "node_modules" not in path.parts
)
RESULTS = sorted(path for path in (ROOT / "docs/results").glob("*.md") if path.name != "README.md")
SOURCES = ("mods_grpc", "training", "tests", "benchmarks", "examples", "deploy", "protos", "Dockerfile", "Makefile", ".ci/run")
TEXT_SUFFIXES = {".py", ".md", ".yaml", ".yml", ".json", ".cfg", ".conf", ".sh", ".toml", ".zeek", ".js", ".cpp", ""}
TOP_FOLDERS = "mods_grpc|training|tests|benchmarks|docs|deploy|examples|protos|exported|requirements"
# What a page tells the reader to make, and a file of another project.
NOT_HERE = {
    "mods_grpc/ids/alerts/formats/logfmt.py",
    *(f"exported/campus/2{file}" for file in ("", "/manifest.json", "/manifest.sig")),
    "google/rpc/status.proto",
}
LOG_CALLS = {f"logger.{level}" for level in ("debug", "info", "warning", "error", "exception")}
# Flags of docker, and of nghttpx.
OTHER_FLAGS = {"--secret", "--frontend-http2-read-timeout", "--backend-read-timeout", "--backend-write-timeout"}


build_parser = cache(build_client_parser)
build_training_parser = cache(build_complete_training_parser)  # imports TensorFlow


def name(path):
    return str(path.relative_to(ROOT))


def outside_code(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def fenced_lines(text):
    """Return the lines of all code blocks; lines that a backslash continues are joined."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return "\n".join(blocks).replace("\\\n", " ").splitlines()


def exists(path, anchor):
    return path.exists() and (not anchor or anchor in heading_anchors(path))


def heading_anchors(page):
    headings = re.findall(r"^#+ (.+)$", outside_code(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_to_a_page_and_a_heading():
    dead = []
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", outside_code(page.read_text())):
            linked = (page.parent / target).resolve() if target else page
            if not target.startswith(("http://", "https://")) and not exists(linked, anchor):
                dead.append(f"{name(page)}: {target}#{anchor}")
    assert dead == []


def test_every_path_that_a_page_names_exists():
    dead = []
    for page in PAGES:
        text = page.read_text()
        named = set(re.findall(rf"(?<![\w./<-])((?:{TOP_FOLDERS})/[\w./-]*\w)", text))
        named |= set(re.findall(r"`([\w-]+(?:/[\w.-]+)+\.(?:py|md|yaml|json|proto|sh))`", text))
        roots = (ROOT, ROOT / "mods_grpc", page.parent)
        dead += [f"{name(page)}: {path}" for path in named - NOT_HERE if not any((root / path).exists() for root in roots)]
    assert sorted(dead) == []


def test_every_page_that_a_source_names_exists():
    paths = [
        path for source in SOURCES for path in ([ROOT / source] if (ROOT / source).is_file() else (ROOT / source).rglob("*"))
    ]
    dead = []
    for path in paths:
        if path.is_file() and path.suffix in TEXT_SUFFIXES and not {"__pycache__", "node_modules"} & {*path.parts}:
            for page, anchor in re.findall(r"\b(docs/[a-z0-9/-]+\.md)(?:#([\w-]+))?", path.read_text(errors="replace")):
                if not exists(ROOT / page, anchor):
                    dead.append(f"{name(path)}: {page}#{anchor}")
    assert sorted(dead) == []


def test_every_command_of_a_code_block_is_one_that_the_program_takes(capsys):
    refused = []
    for page in PAGES:
        for line in fenced_lines(page.read_text()):
            words = shlex.split(line, comments=True) if line.startswith(("mods-grpc ", "python -m training ")) else []
            if words:
                parser, arguments = (
                    (build_parser(), words[1:]) if words[0] == "mods-grpc" else (build_training_parser(), words[3:])
                )
                try:
                    parser.parse_args(arguments)
                except SystemExit:
                    refused.append(f"{name(page)}: {line}: {capsys.readouterr().err.splitlines()[-1]}")
    assert refused == []


def options(parser):
    for action in parser._actions:
        yield from action.option_strings
        for command in action.choices.values() if hasattr(action, "add_parser") else ():
            yield from options(command)


def test_every_flag_that_a_page_names_exists():
    ours = {*options(build_parser()), *options(build_training_parser()), *OTHER_FLAGS}
    unknown = []
    for page in PAGES:
        if page not in RESULTS:
            flags = set(re.findall(r"`(--[a-z][a-z0-9-]*[a-z0-9])", outside_code(page.read_text())))
            unknown += [f"{name(page)}: {flag}" for flag in flags - ours]
    assert sorted(unknown) == []


def test_every_make_target_that_a_page_names_exists():
    targets = set(re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    unknown = []
    for page in PAGES:
        text = page.read_text()
        named = set(re.findall(r"^make ([a-z][\w.-]*)", "\n".join(fenced_lines(text)), re.MULTILINE))
        named |= set(re.findall(r"`make ([\w.-]+)`", text))
        unknown += [f"{name(page)}: {target}" for target in named - targets]
    assert sorted(unknown) == []


def logged_events():
    for path in (ROOT / "mods_grpc").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in LOG_CALLS:
                yield node.args[0].value.split()[0] if isinstance(node.args[0], ast.Constant) else ast.unparse(node.args[0])


def test_the_page_of_log_fields_names_every_event_that_is_logged():
    tables = (ROOT / "docs/reference/log-fields.md").read_text().partition("## Server")[2]
    rows = re.findall(r"^\| (`.+?) \| (?:DEBUG|INFO|WARNING|ERROR)", tables, re.MULTILINE)
    assert {event for row in rows for event in re.findall(r"`(\w+)`", row)} == set(logged_events())


def defined_names():
    for folder in ("mods_grpc", "training"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef | ast.FunctionDef):
                    yield node.name
                if isinstance(node, ast.ClassDef):
                    members = (each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
                    yield from (f"{node.name}.{member.name}" for member in members)


def test_every_name_of_the_walks_through_the_code_exists():
    walks = (ROOT / "docs/explanation/life-of-a-request.md").read_text()
    named = set(re.findall(r"`([A-Z]\w+\.\w+|[A-Z][a-z]\w+|[a-z]+(?:_[a-z]+)+)`", walks))
    assert len(named) > 40
    assert sorted(named - set(defined_names())) == []


def test_the_picture_of_the_architecture_shows_the_levels_that_are_checked():
    page = (ROOT / "docs/explanation/architecture.md").read_text()
    for package, levels in LEVELS.items():
        shown = re.search(rf"^{package.split('.')[-1]} +(.+ > .+)$", page, re.MULTILINE)
        assert shown
        assert [set(level.split(", ")) for level in shown[1].split(" > ")] == [set(level) for level in levels], package


def test_every_page_of_results_says_how_it_was_measured():
    wrong = []
    for page in RESULTS:
        text = page.read_text()
        head = re.match(r"<!-- command: (.+?); date: (.+?); commit: (.+?); machine: (.+?) -->\n\n# .+\n\n", text)
        command, date, commit, machine = head.groups() if head else ("",) * 4
        commands = "; ".join(f"`{each}`" for each in command.split(" && "))
        shown = f"Machine: {machine}. Date: {date}. Commit: {commit}. Command: {commands}."
        if not head or shown not in text or [text.count("<!-- measured -->"), text.count("<!-- /measured -->")] != [1, 1]:
            wrong.append(name(page))
    assert wrong == []
