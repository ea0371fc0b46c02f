"""Scoring: windows to verdicts, by the server and by what a watch keeps of each series itself."""
