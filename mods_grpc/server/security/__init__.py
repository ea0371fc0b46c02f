"""Authentication of callers, and TLS credentials that rotate with their files."""
