"""Third-party clients call the server with only reflection or the compiled protocol."""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.rpc.error_details_pb2 import ErrorInfo

from tests.support.models.tiny import FEATURES, HORIZON, ROWS, SLIDE, publish_tiny
from tests.support.paths import ROOT
from tests.support.running_server import RunningServer, running_server

NODE_EXAMPLE = ROOT / "examples" / "node"
CPP_EXAMPLE = ROOT / "examples" / "cpp"
BUF = shutil.which("buf", path=str(Path(sys.executable).parent)) or shutil.which("buf")
GRPCURL = shutil.which("grpcurl")
NODE = shutil.which("node")
LIMIT_SECONDS = 60
BUILD_LIMIT_SECONDS = 280

needs_buf = pytest.mark.skipif(BUF is None, reason="buf is not installed (PyPI: buf-bin)")
needs_grpcurl = pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed")
needs_node = pytest.mark.skipif(
    NODE is None or not (NODE_EXAMPLE / "node_modules" / "@grpc" / "grpc-js").is_dir(),
    reason="node or its modules are not installed (npm install --no-package-lock in examples/node)",
)
needs_cpp = pytest.mark.skipif(
    not all(map(shutil.which, ("g++", "make", "pkg-config", "protoc", "grpc_cpp_plugin")))
    or subprocess.run(["pkg-config", "--exists", "grpc++", "protobuf"], check=False).returncode != 0,
    reason="no gRPC for C++ (Debian: g++ make pkg-config libgrpc++-dev libprotobuf-dev protobuf-compiler-grpc)",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("repository")
    publish_tiny(folder)
    with running_server(repository=folder) as running:
        yield running


def run(*command: object, text: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
    completed = subprocess.run(
        [str(word) for word in command], input=text, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    if check:
        assert completed.returncode == 0, completed.stderr
    return completed


def buf_curl(*rest: str, text: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
    return run(BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge", *rest, text=text, check=check)


def rpc(server: RunningServer, method: str) -> str:
    return f"http://{server.address}/mods.v1.{method}"


def make_rows(count: int) -> list[dict[str, object]]:
    """Make rows in the protocol's JSON, the last one twenty times as high as the others."""
    return [
        {
            "series": "site",
            "observeTime": (datetime(2019, 1, 1, tzinfo=UTC) + timedelta(seconds=SLIDE * row)).isoformat().replace("+00:00", "Z"),
            "values": [1000.0 + row % 3, 1000.0] if row < count - 1 else [20_000.0, 20_000.0],
        }
        for row in range(count)
    ]


def parse_objects(text: str) -> list[dict]:
    """Parse a sequence of JSON objects."""
    decoder, parsed = json.JSONDecoder(), []
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        parsed.append(value)
        text = text[end:]
    return parsed


@needs_buf
def test_buf_lists_the_services_by_reflection(server: RunningServer) -> None:
    services = buf_curl("--list-services", f"http://{server.address}").stdout.split()
    assert {"mods.v1.InferenceService", "mods.v1.ModelService", "grpc.health.v1.Health"} <= set(services)


@needs_buf
def test_buf_lists_the_methods_of_all_services_by_reflection(server: RunningServer) -> None:
    methods = buf_curl("--list-methods", f"http://{server.address}").stdout.split()
    assert {f"mods.v1.InferenceService/{name}" for name in ("Forecast", "Detect", "StreamDetect")} <= set(methods)


@needs_buf
def test_buf_lists_the_models(server: RunningServer) -> None:
    (model,) = json.loads(buf_curl("-d", "{}", rpc(server, "ModelService/ListModels")).stdout)["models"]
    assert (model["name"], model["state"]) == ("tiny", "MODEL_STATE_READY")
    assert [feature["name"] for feature in model["features"]] == list(FEATURES)


@needs_buf
def test_buf_forecasts(server: RunningServer) -> None:
    window = {"startTime": "2019-01-01T00:00:00Z", "rows": [{"values": [10, 20]}] * ROWS}
    request = json.dumps({"windows": {"windows": [window]}, "coverages": [0.9]})
    response = json.loads(buf_curl("-d", request, rpc(server, "InferenceService/Forecast")).stdout)
    (forecast,) = response["forecasts"]["forecasts"]
    assert response["features"] == list(FEATURES)
    assert [step["values"] for step in forecast["steps"]] == [[10, 20]] * HORIZON
    assert forecast["steps"][0]["forecastTime"] == "2019-01-01T00:40:00Z"


@needs_buf
def test_buf_detects(server: RunningServer) -> None:
    request = json.dumps({"series": [{"series": "site", "observations": {"observations": make_rows(ROWS + 3)}}]})
    response = json.loads(buf_curl("-d", request, rpc(server, "InferenceService/Detect")).stdout)
    (judged,) = response["series"]
    assert judged["scores"]["status"] == ["VERDICT_STATUS_SCORED"] * 3
    assert judged["scores"]["anomalous"] == [False, False, True]
    assert judged["verdicts"][-1]["reason"]


@needs_buf
def test_buf_streams(server: RunningServer) -> None:
    data = [{"data": {"sequence": str(number), "observation": row}} for number, row in enumerate(make_rows(ROWS + 3), start=1)]
    messages = [{"config": {"sensor": "buf"}}, *data, {"end": {}}]
    text = "\n".join(map(json.dumps, messages))
    opened, *answers, ended = parse_objects(buf_curl("-d", "@-", rpc(server, "InferenceService/StreamDetect"), text=text).stdout)
    assert opened["opened"]["state"] == "STATE_ORIGIN_FRESH"
    assert [answer["answer"]["sequence"] for answer in answers] == [str(number) for number in range(1, ROWS + 4)]
    assert answers[0]["answer"]["verdict"]["status"] == "VERDICT_STATUS_WARMING_UP"
    assert answers[-1]["answer"]["verdict"]["anomalous"] is True
    assert ended["ended"]["lastSequence"] == str(ROWS + 3)


@needs_buf
def test_buf_reads_the_details_of_an_error(server: RunningServer) -> None:
    failed = buf_curl("-d", '{"name": "nobody"}', rpc(server, "ModelService/GetModel"), check=False)
    assert failed.returncode != 0
    status = json.loads(failed.stderr)
    assert status["code"] == "not_found"
    (info,) = [detail["value"] for detail in status["details"] if detail["type"] == "google.rpc.ErrorInfo"]
    assert ErrorInfo.FromString(base64.b64decode(info + "==")).reason == "MODEL_NOT_FOUND"


@needs_grpcurl
def test_grpcurl_forecasts_and_streams_by_reflection(server: RunningServer) -> None:
    services = run(GRPCURL, "-plaintext", server.address, "list").stdout.split()
    assert {"mods.v1.InferenceService", "mods.v1.ModelService"} <= set(services)
    window = {"startTime": "2019-01-01T00:00:00Z", "rows": [{"values": [10, 20]}] * ROWS}
    request = json.dumps({"windows": {"windows": [window]}})
    method = "mods.v1.InferenceService/Forecast"
    forecast = json.loads(run(GRPCURL, "-plaintext", "-d", request, server.address, method).stdout)
    assert forecast["forecasts"]["forecasts"][0]["steps"][0]["values"] == [10, 20]
    messages = [{"config": {"sensor": "grpcurl"}}, {"data": {"sequence": "1", "observation": make_rows(2)[0]}}, {"end": {}}]
    text = "\n".join(map(json.dumps, messages))
    method = "mods.v1.InferenceService/StreamDetect"
    answers = parse_objects(run(GRPCURL, "-plaintext", "-d", "@", server.address, method, text=text).stdout)
    assert [set(answer) - {"model"} for answer in answers] == [{"opened"}, {"answer"}, {"ended"}]


@needs_node
def test_the_node_example_forecasts_detects_and_streams(server: RunningServer) -> None:
    lines = [json.loads(line) for line in run(NODE, NODE_EXAMPLE / "client.js", server.address).stdout.splitlines()]
    output = {line["what"]: line for line in lines}
    assert "mods.v1.InferenceService" in output["services"]["names"]
    assert output["models"]["names"] == ["tiny/1 MODEL_STATE_READY"]
    assert len(output["forecast"]["steps"]) == HORIZON
    assert output["detected"]["judged"] == 12
    assert output["opened"]["features"] == list(FEATURES)
    assert output["streamed"]["verdicts"] == ROWS + 12
    assert output["streamed"]["last"]["anomalous"] is True
    assert output["streamed"]["last"]["reason"] in output["detected"]["reasons"]


@needs_node
def test_the_node_example_reports_why_it_failed(server: RunningServer) -> None:
    failed = run(NODE, NODE_EXAMPLE / "client.js", "127.0.0.1:1", check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("14: ")


@pytest.mark.slow
@pytest.mark.timeout(BUILD_LIMIT_SECONDS + 20)
@needs_cpp
def test_the_cpp_example_is_built_forecasts_detects_and_streams(server: RunningServer, tmp_path: Path) -> None:
    build = ["make", "-C", str(CPP_EXAMPLE), "-j2", "CXXFLAGS=-O0 -Werror", f"OUT={tmp_path}"]
    built = subprocess.run(build, capture_output=True, text=True, timeout=BUILD_LIMIT_SECONDS, check=False)
    assert built.returncode == 0, built.stderr
    client = tmp_path / "client"
    output = {line["what"]: line["value"] for line in map(json.loads, run(client, server.address).stdout.splitlines())}
    assert output["model"]["name"] == "tiny"
    assert len(output["forecast"]["forecasts"]["forecasts"][0]["steps"]) == HORIZON
    (judged,) = output["detected"]["series"]
    assert judged["scores"]["status"] == ["VERDICT_STATUS_SCORED"] * 12
    assert output["opened"]["features"] == list(FEATURES)
    assert output["last"]["anomalous"] is True
    assert output["last"]["reason"] == judged["verdicts"][-1]["reason"]
    assert output["ended"]["lastSequence"] == str(ROWS + 12)
    failed = run(client, "127.0.0.1:1", check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("14: ")
