"""The `mods-grpc` command line: one module per command, and what they share."""
