"""The image: it builds, holds only what the server needs, and runs without any privilege."""

import json
import re
from datetime import UTC, datetime

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mods_grpc import Client
from tests.support.container_image import Image, read_locked, require_tools, running_container
from tests.support.ids import live_day
from tests.support.models.time_of_day import publish_day_model

pytestmark = [pytest.mark.container, pytest.mark.timeout(900)]
MIB = 1024 * 1024
UNPRIVILEGED_USER = 65532


@pytest.fixture(scope="module")
def image():
    require_tools()
    built = Image("cpu")
    yield built
    built.close()


def list_distributions(image):
    metadata = image.root.glob("opt/mods/lib/python3*/site-packages/*.dist-info/METADATA")
    names = (re.search(r"^Name: (\S+)", path.read_text(), re.MULTILINE) for path in metadata)
    return {canonicalize_name(match[1]) for match in names}


def test_the_image_holds_the_locked_packages_of_the_server_and_nothing_of_training(image):
    requirements = [Requirement(line) for line in read_locked("serve.txt")]
    names = {canonicalize_name(item.name) for item in requirements if item.marker is None or item.marker.evaluate()}
    assert list_distributions(image) == names | {"mods-grpc"}
    assert not names & {"pip", "setuptools", "tensorflow", "keras", "pandas", "onnx", "pytest"}
    assert not list(image.root.glob("opt/mods/lib/python3*/site-packages/training"))


def test_what_the_image_adds_to_its_base_takes_less_than_450_mib(image):
    files = [path.lstat() for part in ("opt", "models") for path in (image.root / part).rglob("*")]
    size = sum(status.st_size for status in files) / MIB
    assert 100 < size < 450


def test_the_image_sets_user_entry_point_and_health_check(image):
    assert image.config["User"] == f"{UNPRIVILEGED_USER}:{UNPRIVILEGED_USER}"
    assert image.config["Entrypoint"] == ["mods-grpc"]
    assert image.config["Healthcheck"]["Test"] == ["CMD", "python", "-m", "mods_grpc.server.probe"]
    assert image.config["Labels"]["org.opencontainers.image.title"] == "mods-grpc"


def test_nothing_of_the_machine_that_built_it_stays_in_the_image(image):
    assert not (image.root / "etc/pip.conf").exists()
    assert sorted(path.name for path in (image.root / "opt").iterdir()) == ["mods"]


def test_the_image_serves_as_nobody_on_a_read_only_root_without_capabilities_and_ends_cleanly(image, tmp_path):
    volumes = {"/run/mods": tmp_path / "s", "/state": tmp_path / "state"}
    for folder in volumes.values():
        folder.mkdir()
    arguments = ("serve", "/models", "--address=unix:/run/mods/grpc.sock", "--state-file=/state/series")
    with running_container(image, tmp_path, arguments, volumes) as running:
        running.wait_for("serving address=")
        with Client(f"unix:{tmp_path}/s/grpc.sock") as client:
            model = client.model("campus")
            forecast = client.forecast(
                np.full((model.window_rows, len(model.features)), 1000.0), datetime(2026, 1, 5, tzinfo=UTC), model="campus"
            )
            assert np.isfinite(forecast.values).all()
        assert running.execute("python", "-m", "mods_grpc.server.probe") == (0, "readiness: SERVING\n")
        code, text = running.execute("python", "-c", "open('/models/x', 'w')")
        assert (code, "Read-only file system" in text) == (1, True)
        code, text = running.execute("python", "-c", "import socket; socket.create_connection(('192.0.2.1', 9), 5)")
        assert (code, "Network is unreachable" in text) == (1, True)
        status, mounts = running.status()
        assert set(status["Uid"].split() + status["Gid"].split()) == {str(UNPRIVILEGED_USER)}
        assert {int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
        assert status["NoNewPrivs"] == "1"
        assert next(mount[5] for mount in mounts if mount[4] == "/").split(",")[0] == "ro"
        assert running.terminate() == 0
    assert (tmp_path / "state" / "series").is_file()


def test_two_containers_that_share_a_socket_turn_logs_into_alerts(image, tmp_path):
    folders = {name: tmp_path / name for name in ("server", "replay", "s", "models", "logs", "alerts")}
    for folder in folders.values():
        folder.mkdir()
    publish_day_model(folders["models"])
    lines = live_day.make_lines(260, live_day.PER_MINUTE / len(live_day.HOSTS))
    for log in live_day.COLUMNS:
        text = "".join(line for _, of, line in lines if of == log)
        (folders["logs"] / f"{log}.log").write_text(live_day.format_header(log) + text)
    shared = {"/run/mods": folders["s"]}
    serve = ("serve", "/models", "--address=unix:/run/mods/grpc.sock")
    replay = ("replay", "/logs", "--address=unix:/run/mods/grpc.sock", "--local=10.0.0.0/24", "--alerts=eve:/alerts/eve.json")
    with running_container(image, folders["server"], serve, {**shared, "/models": folders["models"]}) as server:
        server.wait_for("serving address=")
        volumes = {**shared, "/logs": folders["logs"], "/alerts": folders["alerts"]}
        with running_container(image, folders["replay"], (*replay, "--false-alarms-per-day=4"), volumes) as running:
            assert running.finish() == 0, running.lines
    alerts = [json.loads(line) for line in (folders["alerts"] / "eve.json").read_text().splitlines()]
    assert alerts
    assert {alert["event_type"] for alert in alerts} == {"anomaly"}


def test_folders_for_volumes_belong_to_the_user_that_runs(image):
    for name in ("run/mods", "state", "alerts"):
        status = (image.root / name).stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (UNPRIVILEGED_USER, UNPRIVILEGED_USER, 0o755), name
