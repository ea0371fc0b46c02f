"""The service manager is told by datagrams, as sd_notify(3) describes; one that is gone does no harm."""

import os
import socket
from contextlib import closing

import pytest

from mods_grpc.ids.watch.service_manager import ServiceManager


@pytest.fixture
def manager(tmp_path):
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(5)
        yield receiver, {"NOTIFY_SOCKET": str(tmp_path / "notify")}


def received(receiver):
    """Return the datagrams that wait."""
    receiver.setblocking(False)
    messages = []
    try:
        while True:
            messages.append(receiver.recv(4096).decode())
    except BlockingIOError:
        return messages


def test_a_watch_is_ready_once_and_says_so_on_one_line(manager):
    receiver, environment = manager
    service = ServiceManager(environment)
    service.set_ready()
    service.set_ready()
    service.set_status("12 windows\nREADY=1")
    service.set_stopping()
    assert received(receiver) == ["READY=1", "STATUS=12 windows READY=1", "STOPPING=1"]


def test_the_watchdog_is_told_only_if_it_asks_and_only_as_often_as_it_needs(manager):
    receiver, environment = manager
    ServiceManager(environment).set_alive()
    assert received(receiver) == []
    service = ServiceManager(environment | {"WATCHDOG_USEC": "600000000", "WATCHDOG_PID": str(os.getpid())})
    for _ in range(100):
        service.set_alive()
    assert received(receiver) == ["WATCHDOG=1"]
    ServiceManager(environment | {"WATCHDOG_USEC": "600000000", "WATCHDOG_PID": "1"}).set_alive()
    assert received(receiver) == []


def test_an_abstract_address_is_understood():
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as receiver:
        receiver.bind(f"\0mods-grpc-test-{os.getpid()}")
        ServiceManager({"NOTIFY_SOCKET": f"@mods-grpc-test-{os.getpid()}"}).set_ready()
        assert received(receiver) == ["READY=1"]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "1"}])
def test_nobody_who_listens_is_no_failure(environment):
    service = ServiceManager(environment)
    service.set_ready()
    service.set_alive()
    service.set_status("fine")
    service.set_stopping()
