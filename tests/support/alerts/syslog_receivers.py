"""Real receivers of syslog on loopback: rsyslog and syslog-ng, each with a file of the messages as they came."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.support.paths import ROOT

TOOLS = ROOT / "build" / "tools"  # .ci/run unpacks them there
LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/syslog-ng")
SEARCH_FOLDERS = ("/usr/sbin", str(TOOLS / "usr/sbin"))
PROGRAMS = {"rsyslog": "rsyslogd", "syslog-ng": "syslog-ng"}
MAX_MESSAGE_BYTES = 65_536
WAIT_SECONDS = 30

RSYSLOG = """
global(workDirectory="{folder}" maxMessageSize="64k" net.enableDNS="off")
module(load="{module}")
template(name="raw" type="string" string="%rawmsg%\\n")
input(type="{module}" address="127.0.0.1" port="{port}" ruleset="all")
ruleset(name="all") {{ action(type="omfile" file="{received}" template="raw" flushOnTXEnd="on") }}
"""
SYSLOG_NG = """
@version: 3.38
options {{ stats-freq(0); flush-lines(1); log-msg-size(65536); keep-hostname(yes); dns-cache(no); use-dns(no); }};
source s_net {{ {source} }};
destination d_file {{ file("{received}" template("$RAWMSG\\n")); }};
log {{ source(s_net); destination(d_file); }};
"""
SOURCES = {
    "udp": 'syslog(transport("udp") ip("127.0.0.1") port({port}) flags(store-raw-message));',
    "octet-counting": 'syslog(transport("tcp") ip("127.0.0.1") port({port}) flags(store-raw-message));',
    "newline": 'network(transport("tcp") ip("127.0.0.1") port({port}) flags(syslog-protocol, store-raw-message));',
}


class SyslogReceiver:
    """A receiver that can be stopped and started again; use it as a context.

    Args:
        kind: "rsyslog" or "syslog-ng".
        transport: "udp", or the framing of messages over TCP: "octet-counting" or "newline".
        folder: Folder for its files.
    """

    def __init__(self, kind: str, transport: str, folder: Path) -> None:
        self._kind, self._transport, self._folder = kind, transport, folder
        self._received = folder / "received"
        type_of_socket = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        with socket.socket(socket.AF_INET, type_of_socket) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "SyslogReceiver":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        folders = [str(TOOLS / folder) for folder in LIBRARIES]
        environment = os.environ | {"LD_LIBRARY_PATH": ":".join(folders)}
        log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen(self._command(), env=environment, stdout=log, stderr=log)
        log.close()
        self._wait_until_listening()

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def lines(self) -> list[str]:
        """Return the messages that arrived, each as it came."""
        return self._received.read_text().splitlines() if self._received.exists() else []

    def wait_for(self, count: int) -> list[str]:
        """Return the messages once there are so many, or those after `WAIT_SECONDS`."""
        until = time.monotonic() + WAIT_SECONDS
        while len(self.lines()) < count and time.monotonic() < until:
            time.sleep(0.05)
        return self.lines()

    def _command(self) -> list[object]:
        program = find_receiver(self._kind)
        assert program is not None
        configuration, values = self._folder / "conf", {"folder": self._folder, "received": self._received, "port": self.port}
        if self._kind == "rsyslog":
            module = "imudp" if self._transport == "udp" else "imtcp"
            configuration.write_text(RSYSLOG.format(module=module, **values))
            modules = ":".join(str(root / folder / "rsyslog") for root in (TOOLS, Path("/")) for folder in LIBRARIES[:2])
            return [program, "-n", "-f", configuration, "-i", self._folder / "pid", "-M", modules]
        source = SOURCES[self._transport].format(port=self.port)
        configuration.write_text(SYSLOG_NG.format(source=source, **values))
        modules = ":".join(str(path) for root in (TOOLS, Path("/")) for path in root.glob("usr/lib/syslog-ng/3.*"))
        files = ["-f", configuration, "-R", self._folder / "persist", "-c", self._folder / "control", "-p", self._folder / "pid"]
        return [program, "-F", "--no-caps", "--module-path", modules, *files]

    def _wait_until_listening(self) -> None:
        """Wait until the port is taken."""
        kind = socket.SOCK_DGRAM if self._transport == "udp" else socket.SOCK_STREAM
        until = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < until:
            assert self._process is not None
            assert self._process.poll() is None, (self._folder / "log").read_text()
            with socket.socket(socket.AF_INET, kind) as probe:
                try:
                    if kind == socket.SOCK_STREAM:
                        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", self.port))
                    if kind == socket.SOCK_STREAM:
                        probe.listen()
                except OSError:
                    return
            time.sleep(0.05)
        raise AssertionError((self._folder / "log").read_text())


def find_receiver(kind: str) -> str | None:
    """Return the program of a receiver; None if it is not there."""
    return shutil.which(PROGRAMS[kind], path=":".join(SEARCH_FOLDERS))
