"""Peers whose frames cost the server much more than their bytes."""
