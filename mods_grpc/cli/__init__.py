"""The `mods-grpc` command line: one module per command, and what they share."""

import os

# Before grpcio is imported: it would log every failed handshake to standard error, next to the one line that says what failed.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
