"""The channel to a server, and the errors that its statuses stand for."""
