"""Measures the structure of the code: modules per folder, circles of imports, and what one piece of work passes at run time.

Usage: python -m tests.project.structure [--json FILE]
"""

import argparse
import json
from pathlib import Path
from typing import Any

from tests.support.structure import hot_paths
from tests.support.structure.import_graph import folder_sizes, import_circles, read_modules
from tests.support.structure.tracing import Tracer


def print_report(tree: dict[str, Any]) -> None:
    """Print the figures as text."""
    for title, rows in tree.items():
        print(title)
        for name, value in rows.items():
            print(f"  {name:40} {value}")


def measure() -> dict[str, Any]:
    """Return all figures: name of the table -> name of the row -> figure."""
    modules = read_modules()
    sizes = folder_sizes(modules)
    components = import_circles(modules)
    tracer = Tracer()
    try:
        traces = hot_paths.trace_all(tracer)
    finally:
        tracer.close()
    return {
        "modules per folder": dict(sizes.most_common()),
        "circles of imports": {"number": len(components), **{str(i): " ".join(circle) for i, circle in enumerate(components)}},
        **{
            title: {
                "calls": trace.calls,
                "modules": trace.modules,
                "module changes": trace.module_changes,
                "package changes": trace.package_changes,
            }
            for title, trace in traces.items()
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    arguments = parser.parse_args()
    tree = measure()
    print_report(tree)
    if arguments.json:
        arguments.json.write_text(json.dumps(tree, indent=1) + "\n")


if __name__ == "__main__":
    main()
