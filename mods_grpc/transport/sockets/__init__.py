"""Listening sockets, TLS and eagerly started tasks, without any HTTP/2."""
