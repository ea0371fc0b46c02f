"""The rules of HTTP/2 and HPACK as cases that a raw peer plays against a running server."""
