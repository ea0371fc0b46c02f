"""The image built and run without a Docker engine or a registry: debootstrap, buildah and crun, all from Debian."""

import contextlib
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

BUILD_FOLDER = ROOT / "build" / "container"
TOOLS = ("debootstrap", "buildah", "crun")
SUITE = "bookworm"
BASE = "localhost/mods-grpc-base"
# crun needs control groups of version 2 only; some machines mount version 1 too
ONE_CGROUP = ("unshare", "--mount", "sh", "-c", 'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"', "sh")


def require_tools():
    """Skip the test if an image can't be built here."""
    if os.geteuid() != 0:
        pytest.skip("building an image without a Docker engine needs root")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if subprocess.run([*ONE_CGROUP, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this root may not mount, as in an unprivileged container")


def run(*command):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[:3]}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def make_storage_options(driver):
    return ("--root", BUILD_FOLDER / "storage", "--runroot", BUILD_FOLDER / "run", "--storage-driver", driver)


@functools.cache
def choose_storage_driver():
    """Return overlay if the kernel and the disk support it, else vfs, which copies every layer but works anywhere."""
    listed = subprocess.run(["buildah", *map(str, make_storage_options("overlay")), "images"], capture_output=True, check=False)
    return "overlay" if listed.returncode == 0 else "vfs"


def buildah(*arguments):
    return run("buildah", *make_storage_options(choose_storage_driver()), *arguments)


def clear_storage():
    """Delete what an earlier run left, mounts first."""
    subprocess.run(
        ["buildah", *map(str, make_storage_options(choose_storage_driver())), "rm", "--all"], capture_output=True, check=False
    )
    for name in ("storage", "run"):
        shutil.rmtree(BUILD_FOLDER / name, ignore_errors=True)


def find_debian_mirror():
    """Return the Debian mirror of this machine in a list; empty if it is not Debian, so that debootstrap chooses."""
    if shutil.which("apt-get") is None:
        return []
    lines = run("apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)").splitlines()
    return [line.split()[2] for line in lines if line.startswith(f"{SUITE} main ")][:1]


def make_base_archive():
    """Make a minimal Debian with Python, unless an earlier run made it: it takes most of the time."""
    archive = BUILD_FOLDER / "base.tar"
    if not archive.exists():
        folder = BUILD_FOLDER / "base"
        shutil.rmtree(folder, ignore_errors=True)
        options = ("--variant=minbase", "--include=python3-venv,ca-certificates")
        done = subprocess.run(
            ["debootstrap", *options, SUITE, str(folder), *find_debian_mirror()], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"debootstrap can't make a base: {done.stdout.splitlines()[-1:]}")
        left_out = [f"--exclude=./{path}" for path in ("dev/*", "var/cache/apt/*", "var/lib/apt/lists/*", "var/log/*")]
        run("tar", "-C", folder, *left_out, "-cf", archive.with_suffix(".part"), ".")
        archive.with_suffix(".part").rename(archive)
        shutil.rmtree(folder)
    return archive


def read_pip_settings():
    """Return a pip.conf with this machine's settings, and the files and folders that it names."""
    settings = {}
    for line in run(sys.executable, "-m", "pip", "config", "list").splitlines():  # those of the environment come first
        name, _, value = line.partition("=")
        settings.setdefault(name.rpartition(".")[2], value.strip("'\""))
    words = " ".join(settings.values()).split()
    named = {Path(word) for word in words if word.startswith("/")}
    named |= {
        Path(word.removeprefix("file://")).parent for word in words if word.startswith("file:///")
    }  # an index names files in its folder
    paths = sorted(path for path in named if path.exists())
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()), paths


def build(target):
    """Build a target of the Dockerfile and return the name of its image."""
    BUILD_FOLDER.mkdir(parents=True, exist_ok=True)
    (BUILD_FOLDER / "Dockerfile.base").write_text("FROM scratch\nADD base.tar /\n")
    make_base_archive()
    how = ("bud", "--isolation", "chroot", "--format", "docker", "--quiet")
    buildah(*how, "--tag", BASE, "--file", BUILD_FOLDER / "Dockerfile.base", BUILD_FOLDER)
    text, paths = read_pip_settings()
    secret = BUILD_FOLDER / "pip.conf"
    secret.write_text(text)
    mounts = [f"--volume={path}:{path}:ro" for path in paths]
    bases = (f"--build-arg=BASE={BASE}", f"--build-arg=CUDA_BASE={BASE}")
    image = f"localhost/mods-grpc-{target}"
    buildah(*how, *bases, *mounts, f"--secret=id=pip-config,src={secret}", "--target", target, "--tag", image, ROOT)
    secret.unlink()
    return image


class Image:
    """An image that was built.

    Attributes:
        config: Its configuration: user, entry point and others.
        root: Folder with its files.
    """

    def __init__(self, target):
        clear_storage()
        name = build(target)
        self.config = json.loads(buildah("inspect", "--type", "image", name))["Docker"]["config"]
        self._container = buildah("from", name).strip()
        self.root = Path(buildah("mount", self._container).strip())

    def close(self):
        clear_storage()


class Container:
    """A process in the image as the compose file runs it: read-only root, no capability, no network but its own loopback.

    Args:
        image: The image.
        folder: Folder for its bundle.
        arguments: Arguments of the entry point, in place of the image's command.
        volumes: Folders by the path where they are mounted.
    """

    def __init__(self, image, folder, arguments, volumes):
        self._name = f"mods-grpc-test-{os.getpid()}-{folder.name}"
        self._state = folder / "crun"
        config = self._bundle(image, arguments, volumes)
        (folder / "config.json").write_text(json.dumps(config))
        command, pipe = self._crun("run", "--bundle", folder, self._name), subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True)
        self.lines = []

    def _crun(self, *arguments):
        return [str(word) for word in (*ONE_CGROUP, "crun", "--root", self._state, "--cgroup-manager=disabled", *arguments)]

    def _bundle(self, image, arguments, volumes):
        user, group = map(int, image.config["User"].split(":"))
        mounts = [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "noexec", "mode=755"]},
        ]
        for target, source in volumes.items():
            os.chown(source, user, group)
            mounts.append({"destination": target, "type": "bind", "source": str(source), "options": ["bind", "rw", "nosuid"]})
        none: dict[str, list[str]] = {key: [] for key in ("bounding", "effective", "inheritable", "permitted", "ambient")}
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": user, "gid": group},
                "args": [*image.config["Entrypoint"], *arguments],
                "env": image.config["Env"],
                "cwd": "/",
                "capabilities": none,
                "noNewPrivileges": True,
            },
            "root": {"path": str(image.root), "readonly": True},
            "mounts": mounts,
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")]},
        }

    def wait_for(self, text):
        """Read its output up to a line that holds `text`."""
        for line in self.process.stdout:
            self.lines.append(line)
            if text in line:
                return
        raise AssertionError("".join(self.lines))

    def execute(self, *command):
        """Run a command inside; return its exit status and output."""
        done = subprocess.run(self._crun("exec", self._name, *command), capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def status(self):
        """Return the first process's /proc status by field, and the words of its mounts."""
        pid = json.loads(run(*self._crun("state", self._name)))["pid"]
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        mounts = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line), [line.split() for line in mounts]

    def terminate(self):
        """Send SIGTERM and return the exit status."""
        run(*self._crun("kill", self._name, "TERM"))
        return self.finish()

    def finish(self):
        """Wait for its end and return the exit status."""
        self.lines.append(self.process.communicate(timeout=60)[0])
        return self.process.returncode

    def close(self):
        subprocess.run(self._crun("delete", "--force", self._name), capture_output=True, check=False)
        self.process.communicate(timeout=60)


@contextlib.contextmanager
def running_container(image, folder, arguments, volumes):
    running = Container(image, folder, arguments, volumes)
    try:
        yield running
    finally:
        running.close()


def read_locked(requirements):
    """Yield the requirement lines of a lock file."""
    yield from re.findall(r"^([a-z0-9][^\\\n]*?) *\\?$", (ROOT / "requirements" / requirements).read_text(), re.MULTILINE)
