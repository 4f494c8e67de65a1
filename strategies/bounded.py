"""Runs what a person's strategy file does at its import in a thread that can be left behind. Owns no file.

An endless loop, a sleep or a wait for the network in such a file must keep nobody waiting for ever.
The bound counts the time in which the file's own lines ran while this process could run too: a
machine that is busy or asleep uses up none of it, and a package that the file imports has a longer
bound of its own. A thread that is left behind is sent an exception, which ends a loop in Python;
one that sleeps goes on sleeping and ends with the process. Code in C that holds the interpreter can't
be found out from here: core/bot/catalogue.py asks a process of its own, where that matters.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

BOUND_S = 6.0  # for the file's own lines: with more, a bot that holds coins could be unwatched for longer than 15 s
LOADING_S = 30.0  # for the modules that it imports: pandas takes its time on a small machine that starts fifty bots
STEP_S = 0.05  # between two looks at where it stands


class _LeftBehind(BaseException):
    """Raised inside a thread that nobody waits for any more; no `except Exception` of the file holds it up."""


class Bounded:
    """One piece of work in a thread of its own. `value` and `error` are known once `finish` has answered "".

    `file`: whose lines count as the file's own. `bound_s`: seconds for them; its imports have LOADING_S."""

    def __init__(self, work: Callable[[], Any], file: str, bound_s: float | None = None):
        self.value: Any = None
        self.error: BaseException | None = None
        self._work, self._file = work, file
        self._bound_s = BOUND_S if bound_s is None else bound_s
        self._step_s = min(STEP_S, self._bound_s / 4)
        self._own = self._loading = 0.0  # seconds seen so far
        self._looked = 0.0
        self._lock = threading.Lock()
        self._over = False
        self._done = threading.Event()
        # As a daemon, and so is every thread that the file starts: none of them keeps a process from ending.
        self._thread = threading.Thread(target=self._run, name=f"import {file.rsplit('/', 1)[-1]}", daemon=True)

    def start(self) -> None:
        self._looked = time.monotonic()
        self._thread.start()

    def _run(self) -> None:
        try:
            try:
                value, error = self._work(), None
            except BaseException as e:  # noqa: BLE001 - a person's file may raise anything, SystemExit too; whoever waits judges it
                value, error = None, e
            with self._lock:
                if not self._over:
                    self._over, self.value, self.error = True, value, error
            self._done.set()
        except _LeftBehind:  # it came just after the end
            self._done.set()

    def wait(self, seconds: float) -> bool:
        """Whether it ends within `seconds` of this process's time, or has used up its bound."""
        end = self._own + self._loading + seconds
        while not self._spent() and self._own + self._loading < end:
            if self._done.wait(self._step_s):
                return True
            self._look()
        return self._done.is_set() or self._spent()

    def finish(self) -> str:
        """Wait until it ends or its bound is over: "" or why it was left behind."""
        self.wait(self._bound_s + LOADING_S)
        with self._lock:
            if self._over:
                return ""
            self._over = True
            line, loading = self._stands()
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread.ident or 0), ctypes.py_object(_LeftBehind))
        where = f"line {line} still " + ("waits for what it imports" if loading else "runs") if line else "it still runs"
        seconds = LOADING_S if loading else self._bound_s
        return (
            f"it doesn't end its import: {where} after {seconds:g} s. A strategy's file only defines its class: "
            f"take loops, sleeps and requests out of what runs at import, then save it"
        )

    def _spent(self) -> bool:
        return self._own >= self._bound_s or self._loading >= LOADING_S

    def _look(self) -> None:
        now = time.monotonic()
        # A look that came late says that this process could not run: then neither could the file.
        passed = min(now - self._looked, 2 * self._step_s)
        self._looked = now
        if self._stands()[1]:
            self._loading += passed
        else:
            self._own += passed

    def _stands(self) -> tuple[int | None, bool]:
        """The file's line that runs now, and whether that line waits for the import of another module."""
        frame: FrameType | None = sys._current_frames().get(self._thread.ident or 0)
        loading = False
        while frame is not None:
            name = frame.f_code.co_filename
            if name == self._file:
                return frame.f_lineno, loading
            loading = loading or name.startswith("<frozen importlib")
            frame = frame.f_back
        return None, loading


_aside = threading.Lock()
_users = 0
_before: Any = None


@contextlib.contextmanager
def prints_aside() -> Iterator[None]:
    """What files print at their import goes to stderr: a command's stdout may be somebody's JSON."""
    global _users, _before
    with _aside:
        if not _users:
            _before, sys.stdout = sys.stdout, sys.stderr
        _users += 1
    try:
        yield
    finally:
        with _aside:
            _users -= 1
            if not _users and sys.stdout is sys.stderr:
                sys.stdout = _before
