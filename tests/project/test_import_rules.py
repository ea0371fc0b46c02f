"""The rules of the architecture on which way imports run, kept by walking them."""

import ast
import re
import sys

import pytest

from tests.support.paths import ROOT

HEAVY = {"training", "keras", "tensorflow", "tf2onnx", "onnx", "pandas"}
SERVER_ONLY = {"onnxruntime", "opentelemetry", "prometheus_client", "grpc_health", "grpc_reflection", "uvloop"}
OURS = ("mods_grpc", "training", "benchmarks", "examples", "tests")
UNPICKLERS = {"pickle", "joblib", "h5py", "marshal", "shelve", "dill"}


def modules(package):
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return [path for path in found if "v1" not in path.relative_to(ROOT).parts]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", modules("mods_grpc"), ids=name)
def test_the_serving_side_imports_nothing_of_training(path):
    assert not {found.split(".")[0] for found in imports(path)} & HEAVY


@pytest.mark.parametrize("path", modules("training"), ids=name)
def test_training_imports_only_artifact_errors_features_and_detection_of_mods_grpc(path):
    ours = {found.split(".")[1] for found in imports(path) if found.split(".")[0] == "mods_grpc"}
    assert ours <= {"artifact", "errors", "features", "detection"}


@pytest.mark.parametrize(
    "path",
    [
        *modules("mods_grpc/detection"),
        *modules("mods_grpc/features"),
        *modules("mods_grpc/artifact"),
        ROOT / "mods_grpc/alarm_rules/adaptation.py",
        ROOT / "mods_grpc/errors.py",
    ],
    ids=name,
)
def test_detection_features_and_artifact_know_nothing_of_grpc_and_of_anything_but_numpy(path):
    allowed = {"mods_grpc.alarm_rules.adaptation", "mods_grpc.artifact", "mods_grpc.errors"}
    for part in ("detection", "features"):
        allowed |= {"numpy", f"mods_grpc.{part}"} if part in path.parts else set()
    for found in imports(path):
        top, two = found.split(".")[0], ".".join(found.split(".")[:2])
        assert top in allowed or two in allowed or top not in {"mods_grpc", "grpc", "google", "numpy", "rich", "onnxruntime"}, (
            found
        )


@pytest.mark.parametrize("path", modules("mods_grpc"), ids=name)
def test_only_the_server_imports_what_only_the_server_installs(path):
    if "server" not in path.parts:
        assert not {found.split(".")[0] for found in imports(path)} & SERVER_ONLY


@pytest.mark.parametrize("path", modules("mods_grpc/transport"), ids=name)
def test_the_transport_knows_nothing_of_what_it_carries(path):
    for found in imports(path):
        top = found.split(".")[0]
        assert top in {"grpc", "hpack", *sys.stdlib_module_names} or found.startswith("mods_grpc.transport."), found


@pytest.mark.parametrize("path", modules("mods_grpc"), ids=name)
def test_only_the_transport_knows_http2_and_only_the_server_knows_the_transport(path):
    found = set(imports(path))
    assert "transport" in path.parts or not any(each.split(".")[0] == "hpack" for each in found)
    assert {"transport", "server"} & set(path.parts) or not any(each.startswith("mods_grpc.transport") for each in found)


@pytest.mark.parametrize("path", modules("mods_grpc"), ids=name)
def test_only_servicers_conversion_status_and_client_touch_generated_messages(path):
    touching = {
        "servicers",
        "remembered",
        "gathered_rows",
        "status",
        "requests",
        "responses",
        "stream",
        "stream_model",
        "refusals",
        "tracing",
        "observations",
        "forecasting",
        "detecting",
        "models",
    }
    if any(found.startswith("mods_grpc.v1") for found in imports(path)):
        assert path.stem in touching or "client" in path.parts


@pytest.mark.parametrize("path", modules("mods_grpc"), ids=name)
def test_artifacts_are_data_nothing_that_runs_code_is_imported(path):
    assert not {item.split(".")[0] for item in imports(path)} & UNPICKLERS
    assert not re.search(r"allow_pickle\s*=\s*True|\beval\(|\bexec\(|__import__|import_module", path.read_text())


@pytest.mark.parametrize("path", [each for folder in OURS for each in modules(folder)], ids=name)
def test_no_module_is_above_300_lines_or_named_after_nothing(path):
    assert len(path.read_text().splitlines()) <= 300
    assert path.stem not in {"utils", "helpers", "common", "manager", "core"}


@pytest.mark.parametrize("path", modules("mods_grpc/ids"), ids=name)
def test_the_log_side_knows_the_server_only_through_the_client(path):
    ours = {".".join(found.split(".")[:2]) for found in imports(path) if found.startswith("mods_grpc.")}
    assert ours <= {
        "mods_grpc.__version__",
        "mods_grpc.alarm_rules.adaptation",
        "mods_grpc.ids",
        "mods_grpc.features",
        "mods_grpc.client",
        "mods_grpc.errors",
        "mods_grpc.data.tables",
    }


def test_test_modules_have_names_of_their_own():
    names = [path.stem for path in modules("tests") if path.stem != "conftest"]
    assert [each for each in sorted(set(names)) if names.count(each) > 1] == []
