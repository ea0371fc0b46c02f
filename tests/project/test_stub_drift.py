"""The committed stubs are what the protocol generates."""

import os
import subprocess

import pytest

from tests.support.paths import ROOT

GENERATOR = ROOT / ".venv-protos" / "bin" / "python"


@pytest.mark.skipif(not GENERATOR.exists(), reason="the generator is not installed: make .venv-protos")
def test_the_committed_stubs_are_what_the_protocol_generates(tmp_path):
    environment = os.environ | {"PATH": f"{GENERATOR.parent}:{os.environ['PATH']}"}
    subprocess.run([GENERATOR, ROOT / "protos" / "generate.py", tmp_path], check=True, env=environment, capture_output=True)
    generated = {path.name: path.read_bytes() for path in (tmp_path / "mods_grpc" / "v1").iterdir()}
    committed = {path.name: path.read_bytes() for path in (ROOT / "mods_grpc" / "v1").iterdir() if path.is_file()}
    committed.pop("__init__.py")
    assert len(generated) > 12
    assert generated.keys() == committed.keys(), "run make protos"
    assert [name for name in generated if generated[name] != committed[name]] == [], "run make protos"
