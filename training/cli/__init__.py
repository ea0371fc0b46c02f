"""The command line `python -m training`, one module per command."""
