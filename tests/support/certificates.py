"""A certificate authority for tests and certificates that it signs, made with the openssl command."""

import shutil
import subprocess

import pytest

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def run_openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def make_authority(folder, name="authority"):
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run_openssl("req", "-x509", *new_key, "-keyout", key, "-out", certificate, "-days", 2, "-subj", f"/CN={name}")
    return key, certificate


def make_certificate(folder, signer, name):
    """Make a key and a certificate of `name`, valid for localhost and 127.0.0.1; return their files."""
    key, request, certificate = folder / f"{name}.key", folder / f"{name}.csr", folder / f"{name}.pem"
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run_openssl("req", "-new", *new_key, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
    extensions = folder / f"{name}.ext"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    ca_key, ca = signer
    run_openssl(
        "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-out", certificate, "-days", 2, "-extfile", extensions
    )
    return key, certificate
