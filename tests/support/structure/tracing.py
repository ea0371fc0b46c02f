"""Traces which modules of the checkout control passes through while a piece of work is done."""

import itertools
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from tests.support.paths import ROOT
from tests.support.structure.import_graph import GENERATED, import_name

TIMER_METHOD = "_tick"
"""What the timers of streams and connections are called."""


@dataclass(slots=True)
class Trace:
    """Where the work was: the modules of the checkout that control passed through, in order.

    Attributes:
        called: The module of each Python function that was called.
        path: The module that control went to with each call and each return.
    """

    called: list[str] = field(default_factory=list)
    path: list[str] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """Calls of Python functions of the checkout."""
        return len(self.called)

    @property
    def modules(self) -> int:
        """Different modules."""
        return len(set(self.called))

    @property
    def module_changes(self) -> int:
        """How often control went from one module to another, by a call or a return."""
        return sum(a != b for a, b in itertools.pairwise(self.path))

    @property
    def package_changes(self) -> int:
        """How often control went from one package to another, by a call or a return."""
        packages = [name.rpartition(".")[0] for name in self.path]
        return sum(a != b for a, b in itertools.pairwise(packages))


class Tracer:
    """Records the calls of threads that were started after it, while it is on."""

    def __init__(self) -> None:
        self._trace: Trace | None = None
        self._names: dict[str, str | None] = {}
        threading.setprofile(self._on_event)

    def close(self) -> None:
        """Stop looking at new threads."""
        threading.setprofile(None)

    def start(self) -> Trace:
        """Record into a new trace from now on."""
        self._trace = trace = Trace()
        return trace

    def stop(self) -> None:
        """Record no more."""
        self._trace = None

    def in_this_thread(self, work: Callable[[], object]) -> Trace:
        """Return what a piece of work calls."""
        trace = self.start()
        sys.setprofile(self._on_event)
        try:
            work()
        finally:
            sys.setprofile(None)
            self.stop()
        return trace

    def _on_event(self, frame: FrameType, event: str, _: Any) -> None:
        trace = self._trace
        if trace is None or event not in {"call", "return"}:
            return
        name = self._module_of(frame)
        if name is not None and self._is_of_a_timer(frame):
            return
        if event == "call":
            if name is not None:
                trace.called.append(name)
        elif name is not None and frame.f_back is not None:
            name = self._module_of(frame.f_back)
        if name is not None:
            trace.path.append(name)

    def _is_of_a_timer(self, frame: FrameType | None) -> bool:
        """Return whether a periodic timer made the call: such calls depend on how long the work took."""
        while frame is not None:
            if frame.f_code.co_name == TIMER_METHOD and self._module_of(frame) is not None:
                return True
            frame = frame.f_back
        return False

    def _module_of(self, frame: FrameType) -> str | None:
        file = frame.f_code.co_filename
        if file not in self._names:
            path = Path(file)
            ours = path.is_relative_to(ROOT / "mods_grpc") or path.is_relative_to(ROOT / "training")
            self._names[file] = import_name(path) if ours and not path.is_relative_to(ROOT / GENERATED) else None
        return self._names[file]
