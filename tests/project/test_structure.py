"""The rules of the architecture, kept by walking the code. Each rule is one test, which lists what breaks it."""

import ast
import re
import sys
from functools import cache

import pytest

from tests.support.paths import ROOT
from tests.support.structure.import_graph import (
    GENERATED,
    MAX_MODULES,
    circles,
    folder_sizes,
    imported_names,
    package_imports,
    parse,
    read_modules,
    walk,
)

MAX_LINES = 500
HEAVY = {"training", "keras", "tensorflow", "tf2onnx", "onnx", "pandas"}
SERVER_ONLY = {"onnxruntime", "opentelemetry", "prometheus_client", "grpc_health", "grpc_reflection", "uvloop"}
WATCH_METRICS = "mods_grpc.ids.watch.metrics"  # imported with --metrics-address only
UNPICKLERS = {"pickle", "joblib", "h5py", "marshal", "shelve", "dill"}
THIRD_PARTY = {"grpc", "google", "numpy", "rich", "onnxruntime", "polars", "hpack", "cryptography"}

FOUNDATIONS = {"array_types", "atomic_file", "command_line", "errors", "exit_codes", "version"}
"""Modules of mods_grpc that every package may import."""

WITH_PROTOBUF = (
    "mods_grpc.server.codec",
    "mods_grpc.server.rpc",
    "mods_grpc.server.services",
    "mods_grpc.server.streaming",
    "mods_grpc.client.codec",
    "mods_grpc.client.rpc",
    "mods_grpc.client.streaming",
    "mods_grpc.protobuf",
)
"""Packages that touch generated messages; all others see arrays and dataclasses."""

MAY_IMPORT = {
    "mods_grpc.alarm_rules": {"numpy"},
    "mods_grpc.artifact": {"numpy", "cryptography", "mods_grpc.protobuf.wire"},
    "mods_grpc.detection": {"numpy", "mods_grpc.artifact", "mods_grpc.alarm_rules"},
    "mods_grpc.features": {"numpy"},
    "mods_grpc.ids": {"numpy", "polars"} | {f"mods_grpc.{name}" for name in "alarm_rules artifact client data features".split()},
    "mods_grpc.transport": {"grpc", "hpack"},
    "training": {f"mods_grpc.{name}" for name in "alarm_rules artifact data detection features".split()},
}
"""What a package may import of this project and of the third parties that others use."""

LEVELS = {
    "mods_grpc.server": (
        ("main",),
        ("app", "descriptors"),
        ("services",),
        ("streaming",),
        ("codec", "persistence"),
        ("models", "rpc", "net"),
        ("onnx", "series", "security"),
        ("scheduling", "telemetry", "config", "log_setup", "probe"),
    ),
    "mods_grpc.detection": (("calibration",), ("engine",), ("scores",), ("decision", "state")),
    "mods_grpc.ids": (
        ("watch",),
        ("bulk",),
        ("health",),
        ("windows", "sources"),
        ("rules", "beacons"),
        ("logs", "alerts"),
        ("evidence",),
    ),
    "mods_grpc.transport": (("grpc",), ("http2",), ("header_compression", "sockets")),
    "training": (
        ("cli",),
        ("experiments", "feature_selection"),
        ("reporting",),
        ("export",),
        ("fitting", "evaluation", "simulation"),
        ("data", "network"),
    ),
}
"""Packages by level, the highest first: imports go down or stay within a level."""

UNTELLING_NAMES = {"found", "told", "known", "made", "kept"}
UNTELLING_MODULES = {"utils", "helpers", "common", "manager", "core"}
BOUNDS = re.compile(r"_?(MOST|LEAST|LARGEST|SMALLEST|LONGEST|SHORTEST)_")


@cache
def modules():
    return read_modules()


@cache
def product():
    return {name: module for name, module in modules().items() if name.split(".")[0] in {"mods_grpc", "training"}}


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def imports_of(package: str):
    """Yield (module, imported name) of all modules of a package."""
    for name, module in product().items():
        if is_in(name, package):
            yield from ((name, imported) for imported in sorted(set(imported_names(module.path))))


def top_of(imported: str) -> str:
    return imported.split(".", maxsplit=1)[0]


def test_the_serving_side_imports_nothing_of_training():
    assert [pair for pair in imports_of("mods_grpc") if top_of(pair[1]) in HEAVY] == []


def test_only_the_server_imports_what_only_the_server_installs():
    offenders = [pair for pair in imports_of("mods_grpc") if top_of(pair[1]) in SERVER_ONLY]
    offenders = [pair for pair in offenders if pair[0] != WATCH_METRICS or top_of(pair[1]) != "prometheus_client"]
    assert [pair for pair in offenders if not is_in(pair[0], "mods_grpc.server")] == []


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_it_may(package):
    allowed = MAY_IMPORT[package] | {f"mods_grpc.{name}" for name in FOUNDATIONS} | {package}
    offenders = [
        (name, imported)
        for name, imported in imports_of(package)
        if (top_of(imported) in THIRD_PARTY and package != "training") or top_of(imported) in {"mods_grpc", "training"}
        if not any(is_in(imported, each) for each in allowed)
    ]
    assert offenders == []


def test_the_transport_is_made_of_the_standard_library_grpc_and_hpack():
    allowed = {"grpc", "hpack", "mods_grpc", *sys.stdlib_module_names}
    assert [pair for pair in imports_of("mods_grpc.transport") if top_of(pair[1]) not in allowed] == []


def test_only_the_transport_knows_hpack_and_only_the_server_knows_the_transport():
    for name, imported in imports_of("mods_grpc"):
        assert is_in(name, "mods_grpc.transport") or top_of(imported) != "hpack", name
        inside = is_in(name, "mods_grpc.transport") or is_in(name, "mods_grpc.server")
        assert inside or not is_in(imported, "mods_grpc.transport"), name


def test_generated_messages_are_touched_only_where_requests_are_read_and_answers_written():
    offenders = {name for name, imported in imports_of("mods_grpc") if is_in(imported, GENERATED.replace("/", "."))}
    assert sorted(name for name in offenders if not any(is_in(name, package) for package in WITH_PROTOBUF)) == []


def test_artifacts_are_data_and_nothing_that_runs_code_is_imported():
    assert [pair for pair in imports_of("mods_grpc") if top_of(pair[1]) in UNPICKLERS] == []
    runs_code = re.compile(r"allow_pickle\s*=\s*True|\beval\(|\bexec\(|__import__|import_module")
    assert [name for name in product() if is_in(name, "mods_grpc") and runs_code.search(product()[name].path.read_text())] == []


def test_no_modules_import_each_other_in_a_circle():
    assert circles({name: module.imports for name, module in modules().items()}) == []


def test_no_packages_import_each_other_in_a_circle():
    assert circles(package_imports(modules())) == []


@pytest.mark.parametrize("package", LEVELS)
def test_imports_go_down_the_levels(package):
    level = {name: number for number, names in enumerate(LEVELS[package]) for name in names}
    rooms = {name.removeprefix(f"{package}.").split(".")[0] for name in modules() if name.startswith(f"{package}.")}
    assert sorted(rooms - set(level) - {"__main__", "npz"}) == [], "packages without a level"
    offenders = []
    for name, module in modules().items():
        room = name.removeprefix(f"{package}.").split(".")[0]
        for target in module.imports if is_in(name, package) and room in level else ():
            other = target.removeprefix(f"{package}.").split(".")[0]
            if is_in(target, package) and level.get(other, 99) < level[room]:
                offenders.append((name, target))
    assert offenders == []


def test_a_folder_holds_at_most_15_modules():
    sizes = folder_sizes(modules())
    del sizes["training/network/architectures"]  # one network per file
    assert {folder: size for folder, size in sizes.items() if size > MAX_MODULES} == {}


def test_a_module_has_at_most_500_lines():
    lengths = {name: len(module.path.read_text().splitlines()) for name, module in modules().items()}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_no_module_is_named_after_nothing():
    assert [name for name in modules() if name.rpartition(".")[2] in UNTELLING_MODULES] == []


def test_a_package_says_in_one_sentence_what_it_holds():
    offenders = {}
    for name, module in modules().items():
        if module.path.name == "__init__.py":
            docstring = ast.get_docstring(parse(module.path)) or ""
            sentences = re.findall(r"[.!?](?=\s|$)", docstring)
            if len(sentences) != 1 or len(docstring.split()) < 3 or not docstring.endswith("."):
                offenders[name] = docstring
    assert offenders == {}


def test_array_types_are_named_in_one_module():
    offenders = [
        f"{name}:{node.lineno}"
        for name in product()
        if name != "mods_grpc.array_types"
        for node in parse(modules()[name].path).body
        if isinstance(node, ast.Assign) and re.fullmatch(r"NDArray\[[\w.]+\]", ast.unparse(node.value))
    ]
    assert [offender for offender in offenders if not offender.startswith("training.data.time_range:")] == []  # datetime64


def test_bounds_are_called_min_and_max():
    assert [f"{name}:{line} {variable}" for name, line, variable in assigned(modules()) if BOUNDS.match(variable)] == []


def test_a_variable_says_what_it_holds():
    product = {name for name in modules() if not is_in(name, "tests")}
    assert [f"{name}:{line} {variable}" for name, line, variable in assigned(product) if variable in UNTELLING_NAMES] == []


def test_loggers_are_called_logger():
    offenders = [
        f"{name}:{node.lineno}"
        for name, module in modules().items()
        for node in walk(module.path)
        if isinstance(node, ast.Assign) and re.search(r"getLogger\(__name__\)$", ast.unparse(node.value))
        if ast.unparse(node.targets[0]) != "logger"
    ]
    assert offenders == []


def assigned(names):
    """Yield (module, line, variable) of each variable and parameter."""
    for name in names:
        for node in walk(modules()[name].path):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield name, node.lineno, node.id
            elif isinstance(node, ast.arg):
                yield name, node.lineno, node.arg


def test_the_generated_stubs_lie_where_the_rules_leave_them_out():
    assert (ROOT / GENERATED).is_dir()
