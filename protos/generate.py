"""Generate the Python stubs and the descriptor set from the protocol. Run by `make protos` and by the stub drift test.

Usage: python protos/generate.py OUTPUT_DIRECTORY
"""

import sys
from pathlib import Path

import grpc_tools
from google.rpc import status_pb2
from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent
DESCRIPTOR_SET = "mods_grpc/v1/mods.v1.protoset"


def main(output: Path) -> int:
    """Write `mods_grpc/v1/*_pb2*.py[i]` and the descriptor set below output; return protoc's exit status."""
    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("mods_grpc/v1/*.proto"))
    (output / DESCRIPTOR_SET).parent.mkdir(parents=True, exist_ok=True)
    includes = (PROTOS, Path(grpc_tools.__file__).parent / "_proto", Path(status_pb2.__file__).parents[2])
    return int(
        protoc.main(
            [
                "protoc",
                *(f"--proto_path={path}" for path in includes),
                f"--python_out={output}",
                f"--grpc_python_out={output}",
                f"--mypy_out={output}",
                f"--mypy_grpc_out={output}",
                f"--descriptor_set_out={output / DESCRIPTOR_SET}",
                "--include_imports",
                "--include_source_info",
                *sources,
            ]
        )
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
