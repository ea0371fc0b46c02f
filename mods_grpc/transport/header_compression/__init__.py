"""Decoding of header blocks at a bounded cost (RFC 7541), without any HTTP/2."""
