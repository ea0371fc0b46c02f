"""Reads single keys from a terminal in a thread, and leaves the terminal as it was, also when a signal ends the process."""

import os
import re
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import StrEnum
from types import FrameType, TracebackType
from typing import Any, Self

_SHOW_CURSOR = b"\x1b[?25h"
_SEQUENCE = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]|[\s\S]")


class Key(StrEnum):
    """What a key asks for."""

    UP = "up"
    DOWN = "down"
    OPEN = "open"
    BACK = "back"
    QUIT = "quit"


_KEYS = {
    b"\x1b[A": Key.UP,
    b"\x1bOA": Key.UP,
    b"k": Key.UP,
    b"\x1b[B": Key.DOWN,
    b"\x1bOB": Key.DOWN,
    b"j": Key.DOWN,
    b"\r": Key.OPEN,
    b"\n": Key.OPEN,
    b"\x1b": Key.BACK,
    b"\x7f": Key.BACK,
    b"q": Key.QUIT,
}


class Keyboard:
    """Calls a function with each key while its context is entered; does nothing where standard input is no terminal.

    Args:
        on_key: Called in a thread of its own.
        descriptor: File descriptor of the terminal; None for standard input.
    """

    def __init__(self, on_key: Callable[[Key], None], descriptor: int | None = None) -> None:
        self._on_key = on_key
        self._descriptor = descriptor
        self._mode: list[Any] | None = None
        self._wake: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None
        self._handlers: dict[int, tuple[Any, Any]] = {}

    @property
    def is_read(self) -> bool:
        """Whether keys are read."""
        return self._thread is not None and self._thread.is_alive()

    def __enter__(self) -> Self:
        try:
            descriptor = sys.stdin.fileno() if self._descriptor is None else self._descriptor
            if not os.isatty(descriptor) or not _is_in_foreground(descriptor):
                return self
            self._mode = termios.tcgetattr(descriptor)
            tty.setcbreak(descriptor, termios.TCSANOW)
        except (OSError, ValueError, AttributeError, termios.error):  # closed, or not one of ours
            return self
        self._descriptor = descriptor
        self._wake = os.pipe()
        self._take_signals()
        self._thread = threading.Thread(target=self._read, args=(descriptor, self._wake[0]), name="keyboard", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._restore()
        for number, (ours, former) in self._handlers.items():
            if signal.getsignal(number) is ours:
                signal.signal(number, former)
        self._handlers = {}
        if self._wake is not None and self._thread is not None:
            os.write(self._wake[1], b"x")
            self._thread.join(timeout=5)
            for end in self._wake:
                os.close(end)
            self._wake = None

    def _restore(self) -> None:
        """Give the terminal its mode again; safe in a handler of signals."""
        mode, self._mode = self._mode, None
        if mode is not None and self._descriptor is not None:
            with suppress(OSError, termios.error):
                termios.tcsetattr(self._descriptor, termios.TCSANOW, mode)

    def _take_signals(self) -> None:
        """Restore the terminal before a signal is handled, because it may end the process at once."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            former = signal.getsignal(number)
            if former is signal.SIG_IGN or former is None:
                continue

            def handle(number: int, frame: FrameType | None, former: Any = former) -> None:
                self._restore()
                if sys.stderr.isatty():
                    os.write(sys.stderr.fileno(), _SHOW_CURSOR)
                if callable(former):
                    former(number, frame)
                else:
                    signal.signal(number, signal.SIG_DFL)
                    os.kill(os.getpid(), number)

            signal.signal(number, handle)
            self._handlers[number] = (handle, former)

    def _read(self, descriptor: int, wake: int) -> None:
        while self._mode is not None:
            try:
                ready, _, _ = select.select([descriptor, wake], [], [])
                if wake in ready:
                    return
                if not _is_in_foreground(descriptor):  # reading would stop the process
                    if select.select([wake], [], [], 1.0)[0]:
                        return
                    continue
                text = os.read(descriptor, 256)
            except (OSError, ValueError):
                return
            if not text:
                return
            for key in parse_keys(text):
                self._on_key(key)


def parse_keys(text: bytes) -> Iterator[Key]:
    """Yield what the keys of some input ask for; others are left out."""
    for sequence in _SEQUENCE.findall(text):
        if sequence in _KEYS:
            yield _KEYS[sequence]


def _is_in_foreground(descriptor: int) -> bool:
    return os.tcgetpgrp(descriptor) == os.getpgrp()
