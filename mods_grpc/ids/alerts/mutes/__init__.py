"""Suppression: the rules that keep alerts from being raised, their file, and how often each muted something."""
