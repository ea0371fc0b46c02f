"""Ed25519 keys made with the openssl command, as in the documentation."""

from tests.support.certificates import run_openssl


def make_key_pair(folder, name):
    """Make a key and return the files of its private and its public half."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    run_openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    run_openssl("pkey", "-in", private, "-pubout", "-out", public)
    return private, public
