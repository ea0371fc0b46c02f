"""Files of deploy/: linted, valid by their schema, with minimal rights, and with flags that exist."""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import compose_spec
import pytest
import yaml

from mods_grpc.cli.main import build_parser
from mods_grpc.exit_codes import EXIT_DOUBTFUL, EXIT_USAGE
from mods_grpc.server.probe import main as probe
from tests.support.models.tiny import publish_tiny
from tests.support.paths import ROOT
from tests.support.running_server import running_server

DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
UNIT_COMMAND = "/opt/mods-grpc/bin/mods-grpc"
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def run_tool(*command):
    """Run a tool that is installed with this interpreter or on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    assert done.returncode == 0, done.stdout + done.stderr


def fill_defaults(text):
    """Replace every variable by its default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def load_documents(path):
    return [document for document in yaml.safe_load_all(fill_defaults(path.read_text())) if document]


def test_the_dockerfile_passes_hadolint():
    run_tool("hadolint", ROOT / "Dockerfile")


def test_every_final_target_runs_as_nobody_in_exec_form_and_without_telemetry():
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    served = [stage for stage in stages if re.match(r"\S+ AS (cpu|cuda)\n", stage)]
    assert len(served) == 2
    for stage in served:
        assert "USER 65532:65532" in stage
        assert re.search(r'^ENTRYPOINT \["mods-grpc"\]$', stage, re.MULTILINE)
        assert "ORT_DISABLE_TELEMETRY=1" in stage


def test_the_build_context_excludes_all_files_but_listed_ones():
    lines = (ROOT / ".dockerignore").read_text().split()
    assert lines[0] == "*"
    assert not {"!.git", "!tests", "!.venv"} & set(lines)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_are_strictly_valid(path):
    run_tool("kubernetes-validate", "--strict", path)


def list_pods():
    documents = [document for path in MANIFESTS for document in load_documents(path)]
    return [document["spec"]["template"]["spec"] for document in documents if "template" in document.get("spec", {})]


def test_pods_need_no_right_that_restricted_pod_security_forbids():
    (pod,) = list_pods()
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert pod["automountServiceAccountToken"] is False
    for container in [*pod["initContainers"], *pod["containers"]]:
        context = container["securityContext"]
        assert context == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]


def test_the_server_is_a_native_sidecar_that_is_probed_on_its_health_port():
    (pod,) = list_pods()
    (server,) = pod["initContainers"]
    assert server["restartPolicy"] == "Always"
    health = next(port["containerPort"] for port in server["ports"] if port["name"] == "health")
    assert f"--health-address=0.0.0.0:{health}" in server["args"]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server[name]["grpc"]["port"] == health
    assert server["livenessProbe"]["grpc"]["service"] == "liveness"
    assert "--address=127.0.0.1:50051" in server["args"]


def test_the_network_policy_allows_no_egress():
    policy = load_documents(DEPLOY / "kubernetes/network-policy.yaml")[0]["spec"]
    assert policy["egress"] == []
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    (pod,) = list_pods()
    labels = load_documents(DEPLOY / "kubernetes/sensor.yaml")[0]["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    (rule,) = policy["ingress"]
    assert rule["ports"][0]["port"] in {port["name"] for port in pod["initContainers"][0]["ports"]}


def test_the_compose_file_is_valid_and_passes_its_linter():
    spec = compose_spec.PyCompose.from_yaml(fill_defaults((DEPLOY / "compose.yaml").read_text()))
    assert set(spec.service_names()) == {"server", "watch", "zeek"}
    options = ("--fail-on=low", "--strict-config", f"--config={DEPLOY / 'compose-lint.yml'}")
    run_tool("compose-lint", *options, DEPLOY / "compose.yaml")


def read_unit(path):
    """Return the settings of a systemd unit, each with all its values."""
    settings = {}
    for line in path.read_text().replace("\\\n", " ").splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            settings.setdefault(name, []).append(value)
    return settings


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_accepts_the_units(path, tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze, of Debian's package systemd, is not installed")
    for unit in UNITS:  # they name each other
        (tmp_path / unit.name).write_text(unit.read_text().replace(UNIT_COMMAND, sys.executable))
    done = subprocess.run([analyze, "verify", tmp_path / path.name], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_run_without_rights_in_a_read_only_system(path):
    unit = read_unit(path)
    assert unit["DynamicUser"] == unit["NoNewPrivileges"] == unit["PrivateDevices"] == ["yes"]
    assert (unit["CapabilityBoundingSet"], unit["ProtectSystem"], unit["ProtectHome"]) == ([""], ["strict"], ["yes"])
    assert unit["User"] == ["mods-grpc"]
    assert unit["RestartPreventExitStatus"] == [str(EXIT_USAGE)]


def test_the_watch_writes_where_its_unit_lets_it():
    unit = read_unit(DEPLOY / "systemd/mods-grpc-watch.service")
    (command,) = unit["ExecStart"]
    arguments = build_parser().parse_args(shlex.split(command)[1:])
    assert str(arguments.state) == f"/var/lib/{unit['StateDirectory'][0]}"
    assert arguments.alerts == [f"eve:/var/log/{unit['LogsDirectory'][0]}/eve.json"]
    assert (unit["Type"], unit["WatchdogSec"]) == (["notify"], ["5min"])
    assert unit["SuccessExitStatus"] == [str(EXIT_DOUBTFUL)]
    (server,) = read_unit(DEPLOY / "systemd/mods-grpc-server.service")["ExecStart"]
    assert f"--address {arguments.address} " in " ".join(server.split())


@pytest.fixture
def promtool():
    promtool = shutil.which("promtool", path=f"{ROOT / 'build/tools/usr/bin'}{os.pathsep}{os.environ['PATH']}")
    if promtool is None:
        pytest.skip("promtool, of Debian's package prometheus, is not installed")
    return promtool


def test_prometheus_accepts_the_alert_rules(promtool):
    run_tool(promtool, "check", "rules", DEPLOY / "prometheus/alerts.yaml")


def test_prometheus_alerts_fire_at_their_thresholds_and_not_before(promtool):
    run_tool(promtool, "test", "rules", DEPLOY / "prometheus/alerts.test.yaml")


def test_every_prometheus_alert_has_a_rule_test():
    rules = [rule for group in load_documents(DEPLOY / "prometheus/alerts.yaml")[0]["groups"] for rule in group["rules"]]
    tests = load_documents(DEPLOY / "prometheus/alerts.test.yaml")[0]["tests"]
    fired = {item["alertname"] for test in tests for item in test["alert_rule_test"] if item.get("exp_alerts")}
    assert fired == {rule["alert"] for rule in rules}


def test_prometheus_accepts_the_expressions_of_the_dashboard(promtool, tmp_path):
    panels = json.loads((DEPLOY / "grafana/mods-grpc.json").read_text())["panels"]
    expressions = [target["expr"].replace("$instance", ".*") for panel in panels for target in panel["targets"]]
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(expressions)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    run_tool(promtool, "check", "rules", tmp_path / "rules.yaml")


def load_services():
    return load_documents(DEPLOY / "compose.yaml")[0]["services"]


@pytest.mark.parametrize("name", ["server", "watch"])
def test_our_containers_have_no_network_no_rights_and_a_read_only_root(name):
    service = load_services()[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["network_mode"] == "none"
    assert "no-new-privileges:true" in service["security_opt"]
    assert {"mem_limit", "pids_limit"} <= service.keys()


def test_only_the_server_has_a_health_check():
    assert load_services()["server"]["healthcheck"]["test"] == ["CMD", "python", "-m", "mods_grpc.server.probe"]
    assert load_services()["watch"]["healthcheck"] == {"disable": True}


def list_commands():
    for name in ("server", "watch"):
        yield f"compose {name}", load_services()[name]["command"]
    (pod,) = list_pods()
    for container in [*pod["initContainers"], *pod["containers"]]:
        yield f"kubernetes {container['name']}", container["args"]
    for path in UNITS:
        (command,) = read_unit(path)["ExecStart"]
        program, *arguments = shlex.split(command)
        assert program == UNIT_COMMAND
        yield path.name, arguments


@pytest.mark.parametrize(("where", "command"), list(list_commands()), ids=lambda value: value if isinstance(value, str) else "")
def test_the_command_line_accepts_every_deployed_command(where, command):
    parsed = build_parser().parse_args(command)
    assert isinstance(parsed, argparse.Namespace)
    assert parsed.command == command[0]


def test_the_probe_of_containers_reports_readiness_by_exit_code(tmp_path, capsys):
    publish_tiny(tmp_path)
    with running_server(repository=tmp_path) as server:
        assert probe([server.health_address]) == 0
        assert probe([server.health_address, "liveness"]) == 0
        assert probe([server.health_address, "unknown"]) == 1
    assert probe([server.health_address]) == 1
    assert capsys.readouterr().out.split("\n")[:3] == ["readiness: SERVING", "liveness: SERVING", "unknown: NOT_FOUND"]


@pytest.mark.parametrize("page", ["docs/explanation/security-model.md", "docs/contributing/testing.md"])
def test_every_test_named_by_a_defence_or_promise_exists(page):
    text = (ROOT / page).read_text()
    named = set(re.findall(r"`((?:tests|benchmarks)/[\w/]*(?:\.py)?)`", text))
    assert len(named) > 12
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_promise_has_a_test():
    text = (ROOT / "docs/contributing/testing.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", text.partition("## Promises and their tests")[2], re.MULTILINE)
    promises = [(promise, tests) for promise, tests in rows if promise not in {"promise", "---"}]
    assert len(promises) >= 12
    assert [promise for promise, tests in promises if not re.search(r"`tests/[\w/]+\.py`", tests)] == []
