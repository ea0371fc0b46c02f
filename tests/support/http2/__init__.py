"""HTTP/2 on both sides of a test: the direct server, raw connections in memory, random calls and attackers."""
