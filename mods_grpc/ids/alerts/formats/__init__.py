"""Formats of alerts: each module turns an alert or a notice into one line and knows nothing of files or sockets."""
