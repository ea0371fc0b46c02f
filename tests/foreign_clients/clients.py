"""The clients, where they come from, and how they are built and started."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

PROGRAMS = Path(__file__).parent / "programs"
BUILD = ROOT / "build" / "foreign_clients"
JARS = Path("/usr/share/java")
CRATES = Path("/usr/share/cargo/registry")
GO_SOURCES = Path("/usr/share/gocode")
NODE_MODULES = PROGRAMS / "node" / "node_modules"
BUILD_LIMIT_SECONDS = 240
JAR_NAMES = (
    "grpc-api grpc-context grpc-core grpc-netty grpc-protobuf grpc-protobuf-lite grpc-stub guava netty-buffer netty-codec "
    "netty-codec-http netty-codec-http2 netty-codec-socks netty-common netty-handler netty-handler-proxy netty-resolver "
    "netty-transport opencensus-api perfmark-api perfmark-impl protobuf"
).split()


@dataclass(frozen=True, slots=True)
class ForeignClient:
    """A client that is not of this project.

    Attributes:
        name: What it is called.
        source: Package that contains it.
        release: Command that prints its version.
        programs: Programs that it takes.
        paths: Files and folders that it takes.
        build: Builds it where that is needed, and returns the command that starts it.
    """

    name: str
    source: str
    release: tuple[str, ...]
    programs: tuple[str, ...]
    paths: tuple[Path, ...]
    build: Callable[[], list[str]]

    @property
    def missing(self) -> str:
        """Say what is not there; empty if it can be built."""
        absent = [program for program in self.programs if shutil.which(program) is None]
        absent += [str(path) for path in self.paths if not path.exists()]
        return f"no {', '.join(absent)} ({self.source})" if absent else ""

    @property
    def version(self) -> str:
        """Version of the package, without what Debian adds to it."""
        shown = subprocess.run(self.release, capture_output=True, text=True, check=False).stdout
        return re.sub(r"^\d+:|[-+].*", "", shown.strip())


def _debian_release(package: str) -> tuple[str, ...]:
    return ("dpkg-query", "--show", "--showformat=${Version}", package)


def _npm_release(package: str) -> tuple[str, ...]:
    return ("node", "--print", f"require('{NODE_MODULES / package / 'package.json'}').version")


def _make(*command: object, folder: Path, **environment: str) -> None:
    """Run a compiler, at lower priority.

    Raises:
        AssertionError: It failed.
    """
    words = ["nice", *map(str, command)]
    ended = subprocess.run(
        words,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def _build_java() -> list[str]:
    jars = ":".join(str(JARS / f"{name}.jar") for name in JAR_NAMES)
    return ["java", "-XX:+UseSerialGC", "-cp", jars, str(PROGRAMS / "java" / "GrpcJava.java")]


def _build_go() -> list[str]:
    BUILD.mkdir(parents=True, exist_ok=True)
    program = BUILD / "grpc_go"
    environment = {"GO111MODULE": "off", "GOPATH": str(GO_SOURCES), "GOFLAGS": "", "GOCACHE": str(BUILD / "go")}
    _make("go", "build", "-o", program, "grpc_go.go", folder=PROGRAMS / "go", **environment)
    return [str(program)]


def _build_cpp() -> list[str]:
    BUILD.mkdir(parents=True, exist_ok=True)
    program = BUILD / "grpc_cpp"
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "grpc++"], capture_output=True, text=True, check=True)
    options = ["-O0", "-std=c++17", "-Wall", "-Wextra", "-Werror"]
    _make("g++", *options, "grpc_cpp.cpp", "-o", program, *flags.stdout.split(), folder=PROGRAMS / "cpp")
    return [str(program)]


def _build_rust() -> list[str]:
    folder = BUILD / "rust"
    shutil.copytree(PROGRAMS / "rust", folder, dirs_exist_ok=True)  # cargo writes a lock file beside the manifest
    sources = ('source.crates-io.replace-with="debian"', f'source.debian.directory="{CRATES}"')
    settings = [word for source in sources for word in ("--config", source)]
    _make("cargo", "build", "--quiet", "--offline", *settings, folder=folder, CARGO_TARGET_DIR=str(folder / "target"))
    return [str(folder / "target" / "debug" / "rust-h2")]


def _node(program: str) -> Callable[[], list[str]]:
    return lambda: ["node", str(PROGRAMS / "node" / program)]


def _command_line(program: str) -> Callable[[], list[str]]:
    return lambda: [sys.executable, "-m", "tests.foreign_clients.command_line", program]


CLIENTS = [
    ForeignClient(
        "grpc-java",
        "Debian: default-jdk-headless libgrpc-java libnetty-java libprotobuf-java libguava-java libperfmark-java",
        _debian_release("libgrpc-java"),
        ("java", "javac"),
        tuple(JARS / f"{name}.jar" for name in JAR_NAMES),
        _build_java,
    ),
    ForeignClient(
        "grpc-js",
        "npm install in tests/foreign_clients/programs/node",
        _npm_release("@grpc/grpc-js"),
        ("node",),
        (NODE_MODULES / "@grpc",),
        _node("grpc_js.js"),
    ),
    ForeignClient(
        "connect-node",
        "npm install in tests/foreign_clients/programs/node",
        _npm_release("@connectrpc/connect-node"),
        ("node",),
        (NODE_MODULES / "@connectrpc",),
        _node("connect_node.js"),
    ),
    ForeignClient("node-http2", "Node's own", ("node", "--print", "process.versions.node"), ("node",), (), _node("http2.js")),
    ForeignClient(
        "grpc-go",
        "Debian: golang-go golang-google-grpc-dev",
        _debian_release("golang-google-grpc-dev"),
        ("go",),
        (GO_SOURCES / "src" / "google.golang.org" / "grpc",),
        _build_go,
    ),
    ForeignClient(
        "ruby-grpc",
        "Debian: ruby-grpc",
        _debian_release("ruby-grpc"),
        ("ruby",),
        tuple(Path("/usr/lib").glob("*/rubygems-integration/*/gems/grpc-*/src")) or (Path("/usr/lib/ruby-grpc"),),
        lambda: ["ruby", str(PROGRAMS / "ruby" / "grpc_ruby.rb")],
    ),
    ForeignClient(
        "grpc-cpp",
        "Debian: g++ pkg-config libgrpc++-dev",
        _debian_release("libgrpc++-dev"),
        ("g++", "pkg-config"),
        (Path("/usr/include/grpcpp/generic/generic_stub.h"),),
        _build_cpp,
    ),
    ForeignClient(
        "rust-h2",
        "Debian: cargo librust-h2-dev",
        _debian_release("librust-h2-dev"),
        ("cargo",),
        tuple(CRATES.glob("h2-0.3*")) or (CRATES / "h2",),
        _build_rust,
    ),
    ForeignClient("curl", "Debian: curl", _debian_release("curl"), ("curl",), (), _command_line("curl")),
    ForeignClient(
        "nghttp", "Debian: nghttp2-client", _debian_release("nghttp2-client"), ("nghttp",), (), _command_line("nghttp")
    ),
]
