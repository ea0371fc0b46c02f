"""`make demo`: from raw logs to alerts."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.support.real_data import ROOT


@pytest.mark.slow
@pytest.mark.train
@pytest.mark.timeout(600)
def test_the_demo_leads_from_raw_logs_to_alerts_and_says_which_were_right(tmp_path):
    assert re.search(r"^demo: .*\n\t\$\(BIN\)/python -m examples\.demo$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    command = [sys.executable, "-m", "examples.demo"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    print(ran.stdout)
    assert not re.search("malformed|dropped|doubtful", ran.stdout + ran.stderr)
    assert "The data are simulated." in ran.stdout
    totals = re.search(r"(\d+) of (\d+) at full strength; (\d+) of (\d+) alerts were right, (\d+) false", ran.stdout)
    assert totals
    strong, all_strong, right, alarms, false = map(int, totals.groups())
    assert strong >= all_strong - 1
    assert right + false == alarms == len(re.findall(r"^ALERT .*(?:right: |false$)", ran.stdout, re.MULTILINE))
    assert right > false
    assert re.search(
        r"dns tunnel +│ 1 +│.*after \d+ min.*dns_in_distinct from 203\.0\.113\.\d+ .* for updates\.example", ran.stdout
    )
    assert re.search(r"port scan +│ 1 +│.*after \d+ min.*conn_in from 203\.0\.113\.\d+", ran.stdout)
    demo = tmp_path / ".demo"
    assert (demo / "alarms.png").stat().st_size > 50_000
    events = [json.loads(line) for line in (demo / "eve.json").read_text().splitlines()]
    assert sum(event["anomaly"]["event"] == "episode_start" for event in events) >= alarms
