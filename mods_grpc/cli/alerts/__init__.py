"""The command `mods-grpc alerts`, which lists stored alerts by episode and shows one in full."""
