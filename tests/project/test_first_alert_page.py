"""docs/tutorials/first-alert.md, command by command, on a real day of logs; then the alerts in every format, read back."""

import gzip
import io
import json
import os
import re
import shlex
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager

import idmefv2
import jsonschema
import pycef
import pytest
from parsezeeklogs.reader import ZeekLog

from tests.support.alerts.ecs_fields import check_ecs
from tests.support.alerts.eve_schema import EVE_SCHEMA
from tests.support.real_data import DATA, ROOT

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that its grammar library imports
    from syslog_rfc5424_parser import SyslogMessage

from mods_grpc.ids.alerts.sinks import syslog

LOGS = DATA / "zeek-tsv"
DAY = LOGS / "2024-04-19"
FORMATS = {
    "eve": "eve.json",
    "jsonl": "alerts.jsonl",
    "zeek": "notice.log",
    "zeek-json": "notice.json",
    "idmef": "idmef.json",
    "cef": "cef.log",
    "ecs": "ecs.json",
}


def commands():
    """Return the command lines of the page by command."""
    page = (ROOT / "docs/tutorials/first-alert.md").read_text()
    lines = re.findall(r"^(?:mods-grpc|python -m training) .+$", page, re.MULTILINE)
    return {line.split()[1 if line.startswith("mods-grpc") else 3]: line for line in lines}


def prepared(command, folder):
    """Adapt a command of the page to this machine: the interpreter, the socket, and where Zeek would be."""
    words = shlex.split(command)
    words = [sys.executable, "-m", "mods_grpc", *words[1:]] if words[0] == "mods-grpc" else [sys.executable, *words[1:]]
    paths = {
        "/run/mods.sock": f"{folder}/mods.sock",
        "/opt/zeek/logs/current": f"{folder}/current",
        "/var/lib/mods-grpc/watch": f"{folder}/state",
        "/var/log/mods": f"{folder}/out",
    }
    for path, local_path in paths.items():
        words = [word.replace(path, local_path) for word in words]
    return words


def run(command, folder, *more):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*prepared(command, folder), *map(str, more)], cwd=folder, check=True, capture_output=True, text=True, env=environment
    )


@contextmanager
def background(command, folder, *more):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*prepared(command, folder), *more],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def read_back(folder):
    """Parse each format's file with a parser that is not ours; return the ids of its alerts, in order."""
    lines = {name: (folder / file).read_text().splitlines() for name, file in FORMATS.items()}
    events = [json.loads(line) for line in lines["eve"]]
    for event in events:
        jsonschema.validate(event, EVE_SCHEMA)
    messages = []
    for line in lines["idmef"]:
        messages.append(idmefv2.Message())
        messages[-1].update(json.loads(line))
        messages[-1].validate()
    yield [event["mods"]["id"] for event in events]
    yield [json.loads(line)["id"] for line in lines["jsonl"]]
    yield [message["ID"] for message in messages]
    yield [check_ecs(json.loads(line))["event.id"] for line in lines["ecs"]]
    for name in ("zeek", "zeek-json"):
        yield [row["mods_id"] for row in ZeekLog(io.StringIO("\n".join(lines[name]) + "\n", newline=""))]
    yield [pycef.parse(line)["externalId"] for line in lines["cef"]]
    wrapped = [f"<134>1 2024-04-19T00:00:00Z host {syslog.PRODUCT} 1 anomaly - {line}" for line in lines["cef"]]
    yield [pycef.parse(SyslogMessage.parse(line).msg)["externalId"] for line in wrapped]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not DAY.exists(), reason="no real data: zeek-tsv (set MODS_DATA)")
def test_the_page_leads_from_a_day_of_logs_to_alerts_in_every_format(tmp_path):
    command_lines = commands()
    (tmp_path / "logs").symlink_to(LOGS)
    aggregated = run(command_lines["aggregate"], tmp_path).stdout
    assert "read 49,799 records" in aggregated
    assert "malformed" not in aggregated
    run(command_lines["fit"], tmp_path)
    run(command_lines["export"], tmp_path)
    with background(command_lines["serve"], tmp_path, "--health-address", "127.0.0.1:0"):
        listing = prepared("mods-grpc models --address unix:/run/mods.sock", tmp_path)
        wait_for(lambda: "READY" in subprocess.run(listing, capture_output=True, text=True, check=False).stdout)
        alerts = run(command_lines["replay"], tmp_path).stdout.splitlines()
        assert alerts
        last = tmp_path / "last"
        last.mkdir()
        for hour in range(16, 24):
            for file in DAY.glob(f"*.{hour}:00:00-*.log.gz"):
                (last / file.name).symlink_to(file)
        everything = [word for name, file in FORMATS.items() for word in ("--alerts", f"{name}:{tmp_path / 'all' / file}")]
        replay = "mods-grpc replay last --server unix:/run/mods.sock --model site --local 64.225.56.201 --false-alarms-per-day 16"
        run(replay, tmp_path, "--ends", *everything)
        ids_by_format = list(read_back(tmp_path / "all"))
        assert ids_by_format[0]
        assert all(ids == ids_by_format[0] for ids in ids_by_format)
        (tmp_path / "current").mkdir()
        for file in DAY.glob("*.19:00:00-*.log.gz"):
            (tmp_path / "current" / f"{file.name.split('.')[0]}.log").write_bytes(gzip.decompress(file.read_bytes()))
        with background(command_lines["watch"], tmp_path):
            wait_for((tmp_path / "state" / "checkpoint.json").exists)
