"""Play the cases of HTTP/2 and HPACK against the server over each of its transports.

A case is a rule of RFC 9113, of RFC 7541 or of one that they replaced: what a raw peer sends, and what the server must do. Most
are those of h2spec, written anew for a server of gRPC: requests are calls whose answer has a body, or that stay open. The table
says what the server did instead, where it did something else.

Usage: python benchmarks/conformance/http2.py [--repository exported] [--transports direct grpcio] [--json FILE]
"""

import argparse
import json
from pathlib import Path

from benchmarks.conformance import connection_cases, message_cases, stream_cases
from benchmarks.conformance.steps import Case
from benchmarks.support.processes import run_server
from mods_grpc.server.config import TRANSPORTS

CASES: tuple[Case, ...] = (*connection_cases.CASES, *stream_cases.CASES, *message_cases.CASES)


def play_all(port: int) -> list[str | None]:
    """Return for each case what the server on a port did instead; None where it kept the rule."""
    return [case.play(port) for case in CASES]


def print_table(results: dict[str, list[str | None]]) -> None:
    """Print how many rules each transport keeps, and a row for each case."""
    numbered = [number for number, case in enumerate(CASES) if case.h2spec]
    print("| transport | of h2spec's cases | of all |\n|---|---|---|")
    for transport, differences in results.items():
        of_h2spec, of_all = sum(differences[number] is None for number in numbered), differences.count(None)
        print(f"| {transport} | {of_h2spec} of {len(numbered)} | {of_all} of {len(CASES)} |")
    print(f"\n| RFC | h2spec | what the peer sends | what must follow | {' | '.join(results)} | why it differs |")
    print("|---|---|---|---|" + "---|" * (len(results) + 1))
    for number, case in enumerate(CASES):
        outcomes = " | ".join(differences[number] or "yes" for differences in results.values())
        print(f"| {case.section} | {case.h2spec} | {case.sends} | {case.expects} | {outcomes} | {case.note} |")


def main() -> None:
    """Play the cases over each transport, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"), help="folder of models (default: %(default)s)")
    parser.add_argument("--transports", nargs="+", default=list(TRANSPORTS), choices=TRANSPORTS, help="transports (default: all)")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    arguments = parser.parse_args()
    results = {}
    for transport in arguments.transports:
        with run_server(repository=arguments.repository, transport=transport) as (_, port, _):
            results[transport] = play_all(port)
    print_table(results)
    if arguments.json:
        rows = [{"section": case.section, "sends": case.sends, "expects": case.expects} for case in CASES]
        arguments.json.write_text(json.dumps({"cases": rows, "differences": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
