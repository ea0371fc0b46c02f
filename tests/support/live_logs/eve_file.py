"""An EVE log of numbered events, for tests of readers."""

import json
from datetime import UTC, datetime

START = 1_713_484_800


class EveFile:
    """Writes eve.json; record n is logged n seconds after the start."""

    def __init__(self, folder, name="eve.json"):
        folder.mkdir(exist_ok=True)
        self.path = folder / name

    def line(self, number):
        stamp = datetime.fromtimestamp(START + number, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f+0000")
        event = {
            "timestamp": stamp,
            "flow_id": number,
            "event_type": "ssh",
            "src_ip": "203.0.113.1",
            "dest_ip": "10.0.0.1",
            "ssh": {},
        }
        return json.dumps(event) + "\n"

    def write(self, *values):
        with self.path.open("a") as file:
            file.writelines(map(self.line, values))

    def rotate(self, keep=9):
        for number in range(keep, 0, -1):
            if (path := self.path.with_name(f"eve.json.{number}")).exists():
                path.rename(path.with_name(f"eve.json.{number + 1}"))
        self.path.rename(self.path.with_name("eve.json.1"))
        self.path.with_name(f"eve.json.{keep + 1}").unlink(missing_ok=True)


def ids(records):
    return [int(record.uid) for record in records]
