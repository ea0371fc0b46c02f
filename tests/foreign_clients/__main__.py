"""Go through all scenarios with all clients that are there, over each transport, and print the lost calls as tables in Markdown.

Usage: python -m tests.foreign_clients
"""

import tempfile
from pathlib import Path

from mods_grpc.server.config import TRANSPORTS
from tests.foreign_clients.clients import CLIENTS
from tests.foreign_clients.runner import DIFFERENCES, SCENARIOS, Outcome, go_through


def format_cell(name: str, transport: str, scenario: str, outcome: Outcome | None) -> str:
    """Return the lost calls of a scenario beside all of them."""
    if outcome is None:
        return "no end"
    if outcome.skipped:
        return "-"
    mark = " *" if (name, scenario, transport) in DIFFERENCES else ""
    return f"{outcome.lost} / {outcome.calls}{mark}"


def main() -> None:
    """Print a table for each transport, and what was lost."""
    details = []
    for transport in TRANSPORTS:
        print(f"Lost calls / calls over the transport {transport}:\n")
        print(f"| client | {' | '.join(name.replace('_', ' ') for name in SCENARIOS)} |\n|{'---|' * (len(SCENARIOS) + 1)}")
        for client in CLIENTS:
            if client.missing:
                print(f"| {client.name} |{' |' * len(SCENARIOS)}")
                details.append(f"{client.name}: not there: {client.missing}")
                continue
            with tempfile.TemporaryDirectory() as folder:
                report = go_through(client.name, client.build(), transport, Path(folder))
            cells = [format_cell(client.name, transport, scenario, report.outcomes.get(scenario)) for scenario in SCENARIOS]
            print(f"| {client.name} {client.version} | {' | '.join(cells)} |", flush=True)
            details += [
                f"{client.name}, {scenario}, {transport}: {outcome.detail.splitlines()[0]}"
                for scenario, outcome in report.outcomes.items()
                if outcome.lost
            ]
        print()
    print("\n".join(f"- {detail}" for detail in details))


if __name__ == "__main__":
    main()
