"""Real data for tests, if present: the folder named by MODS_DATA, else ../shared/data. It may not be redistributed."""

import csv
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from tests.support.paths import ROOT

DATA = Path(os.environ.get("MODS_DATA", ROOT.parent / "shared" / "data"))
MODS_2019 = DATA / "mods-2019" / "mods_2019-01-01_2019-06-03_w01h-s10m.tsv"
DATAPOOL = DATA / "mods-datapool"
FEATURES = ("conn_in", "conn_out", "dns_in_distinct", "ssh_in")

needs_mods_2019 = pytest.mark.skipif(not MODS_2019.exists(), reason=f"no real data: {MODS_2019.name} (set MODS_DATA)")
needs_datapool = pytest.mark.skipif(not DATAPOOL.is_dir(), reason=f"no real data: {DATAPOOL.name} (set MODS_DATA)")


def read_mods_2019(start, end):
    """Return times `(n,)` in UTC and values `(n, 4)`, NaN where missing, of a half-open range of ISO dates."""
    times, values = [], []
    with MODS_2019.open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if start <= row["window_start"] < end:
                times.append(datetime.fromisoformat(row["window_start"]).replace(tzinfo=UTC))
                values.append([float(row[name] or "nan") for name in FEATURES])
    return times, np.array(values)
