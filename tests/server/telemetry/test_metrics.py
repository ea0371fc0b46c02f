"""What Prometheus reads agrees with what happened."""

import json
import re
import shutil
import urllib.request

import grpc
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc
from tests.support.models.tiny import LEVELS, make_mean_graph, publish_tiny
from tests.support.paths import ROOT
from tests.support.rpc.client import Stream, forecast_request, observation
from tests.support.running_server import channel_to, running_server

DEPLOY = ROOT / "deploy"


@pytest.fixture
def server(tmp_path):
    publish_tiny(tmp_path)
    with running_server(repository=tmp_path, metrics_address="127.0.0.1:0") as running:
        yield running


def families(server):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.app.metrics.port}/metrics", timeout=10) as answer:
        return list(text_string_to_metric_families(answer.read().decode()))


def read(server, name, **labels):
    """Add up the samples of that name with those labels."""
    samples = [sample for family in families(server) for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def test_calls_are_counted_by_method_and_status(server, inference):
    for _ in range(3):
        inference.Forecast(forecast_request())
    with pytest.raises(grpc.RpcError):
        inference.Forecast(pb.ForecastRequest())
    forecast = {"grpc_service": "mods.v1.InferenceService", "grpc_method": "Forecast", "grpc_type": "unary"}
    assert read(server, "grpc_server_started_total", **forecast) == 4
    assert read(server, "grpc_server_handled_total", grpc_code="OK", **forecast) == 3
    assert read(server, "grpc_server_handled_total", grpc_code="InvalidArgument", **forecast) == 1
    assert read(server, "grpc_server_handling_seconds_count", **forecast) == 4
    assert read(server, "mods_input_rejected_total", reason="FIELD_REQUIRED") == 1
    assert read(server, "mods_inference_duration_seconds_count", model="tiny") == 3
    assert read(server, "mods_batch_size_sum", model="tiny") == 3


def test_observations_are_counted_by_outcome_and_anomalies_by_model(server, inference):
    stream = Stream(inference)
    for row in range(10):
        stream.row(row)
    stream.batch(list(range(10, 14)))
    stream.row(13)  # the same again
    stream.row(14, [1e12, 1e15])
    stream.row(15, [-1.0, 2.0])
    assert read(server, "mods_streams_open") == 1
    stream.end()
    assert read(server, "mods_observations_total", outcome="warming_up") == 4
    assert read(server, "mods_observations_total", outcome="scored") == 11
    assert read(server, "mods_observations_total", outcome="duplicate") == 1
    assert read(server, "mods_anomalies_total", model="tiny") >= 1
    assert read(server, "mods_input_rejected_total", reason="VALUE_NEGATIVE") == 1
    assert read(server, "mods_series_live", model="tiny") == 1
    while read(server, "mods_streams_open"):
        pass


def test_a_lost_stream_is_not_counted_as_a_closed_one(server, inference):
    ends = {"grpc_service": "mods.v1.InferenceService", "grpc_method": "StreamDetect"}
    broken, closed, done = (
        Stream(inference, sensor="broken"),
        Stream(inference, sensor="closed"),
        Stream(inference, sensor="done"),
    )
    broken.row(0)
    broken.cut()
    closed.end()
    done.stop_sending()
    while read(server, "mods_streams_open"):
        pass
    assert read(server, "grpc_server_handled_total", grpc_code="Canceled", **ends) == 1
    assert read(server, "grpc_server_handled_total", grpc_code="OK", **ends) == 2


def test_models_and_loads_are_exported(server, tmp_path):
    publish_tiny(tmp_path, version=2)
    server.rescan()
    publish_tiny(tmp_path, version=3, model=make_mean_graph(factor=3.0))
    server.rescan()
    digest = server.model().digest
    assert read(server, "mods_model_info", model="tiny", version="2", digest=digest, provider="CPUExecutionProvider") == 1
    assert read(server, "mods_model_info", model="tiny", version="1") == 1
    assert read(server, "mods_model_load_total", outcome="ready") == 2
    assert read(server, "mods_model_load_total", outcome="failed", reason="model.onnx") == 1


def test_dropped_series_are_counted_even_after_their_version_is_gone(tmp_path):
    publish_tiny(tmp_path)
    options = {"max_series": 8, "max_observations": 4, "metrics_address": "127.0.0.1:0"}
    with running_server(repository=tmp_path, **options) as server, channel_to(server) as channel:
        stream = Stream(inference_pb2_grpc.InferenceServiceStub(channel))
        for number in range(12):
            stream.send(observation=observation(0, series=f"host {number}"))
        stream.end()
        assert read(server, "mods_series_evicted_total", reason="capacity") == 4
        for version in (2, 3):
            publish_tiny(tmp_path, version=version)
            server.rescan()
        shutil.rmtree(tmp_path / "tiny" / "3")
        server.rescan()
        assert read(server, "mods_series_evicted_total", reason="capacity") == 4


def test_error_counters_are_exported_as_0_from_the_start(server):
    zeros = [sample for family in families(server) for sample in family.samples if sample.value == 0]
    exported = {(sample.name, *sample.labels.values()) for sample in zeros if not sample.name.startswith("grpc")}
    assert ("mods_model_load_total", "failed", "manifest.sig") in exported
    assert ("mods_input_rejected_total", "OVERLOADED") in exported
    assert ("mods_series_evicted_total", "capacity") in exported
    assert ("mods_anomalies_total", "tiny") in exported
    codes = {sample.labels["grpc_code"] for sample in zeros if sample.name == "grpc_server_handled_total"}
    assert codes >= {"OK", "Canceled", "Internal", "Unknown", "ResourceExhausted"}


def test_no_label_holds_a_series_sensor_or_peer(server, inference):
    stream = Stream(inference, sensor="very-secret-sensor")
    stream.row(0, series="very-secret-series")
    stream.end()
    labels = {label for family in families(server) for sample in family.samples for label in sample.labels.items()}
    assert not any("very-secret" in value or "127.0.0.1" in value for _, value in labels)
    allowed = {"grpc_type", "grpc_service", "grpc_method", "grpc_code", "model", "version", "digest", "provider"}
    assert {name for name, _ in labels} <= allowed | {"outcome", "reason", "le"}


def used_metrics(text):
    return set(re.findall(r"\b((?:mods|grpc_server)_\w+)", text))


@pytest.mark.parametrize("path", ["grafana/mods-grpc.json", "prometheus/alerts.yaml"])
def test_dashboard_and_alerts_use_only_metrics_that_exist(server, inference, path):
    inference.Forecast(forecast_request())
    stream = Stream(inference)
    stream.batch(list(range(20)), values=[*LEVELS[:19], [1e15, 1e15]])
    stream.row(20, [-1.0, 2.0])
    stream.end()
    exported = {sample.name for family in families(server) for sample in family.samples}
    page = (DEPLOY.parent / "docs/reference/metrics.md").read_text()
    exported |= set(re.findall(r"^\| `(mods_\w+)`", page, re.MULTILINE))  # of the watch and of the other transport, too
    used = used_metrics((DEPLOY / path).read_text())
    assert used
    assert not used - exported - {"mods_grpc"}


def test_the_dashboard_can_be_imported_by_grafana():
    dashboard = json.loads((DEPLOY / "grafana/mods-grpc.json").read_text())
    assert dashboard["title"]
    assert dashboard["schemaVersion"] >= 39
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["expr"] for target in panel["targets"])


def test_every_alert_links_to_its_runbook():
    rules = [
        rule for group in yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"] for rule in group["rules"]
    ]
    operations = (DEPLOY.parent / "docs/how-to/troubleshoot.md").read_text().lower()
    assert len(rules) >= 6
    for rule in rules:
        assert rule["expr"]
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        anchor = rule["annotations"]["runbook_url"].rpartition("#")[2]
        assert f"### {rule['alert']}".lower() in operations
        assert anchor == rule["alert"].lower()
