"""The live view of watch and replay, which shows what is in alarm and opens its evidence."""
