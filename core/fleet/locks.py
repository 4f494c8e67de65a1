"""Locks that hold between threads and between processes. Owns data/action/*.lock and data/registry.lock.

A POSIX record lock knows processes only: two threads of the dashboard would both get it,
and the first to close the file would free it for everybody. So each such lock is taken
twice: a thread lock for this process, the file's for the others.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from core.errors import AlreadyRunning, Conflict
from core.storage import Files

_threads: dict[str, threading.Lock] = {}
_guard = threading.Lock()


def _thread_lock(path: str) -> threading.Lock:
    with _guard:
        return _threads.setdefault(path, threading.Lock())


@contextlib.contextmanager
def held(files: Files, name: str, wait_s: float, busy: str) -> Iterator[None]:
    """Hold the lock file `name` for a while; Conflict with the text `busy` when it isn't free within `wait_s`."""
    deadline = time.monotonic() + wait_s
    thread = _thread_lock(str(files.path(name).resolve()))
    if not thread.acquire(timeout=max(0.0, wait_s)):
        raise Conflict(busy)
    try:
        lock = files.lock(name)
        while True:
            try:
                lock.acquire()
                break
            except AlreadyRunning:
                if time.monotonic() >= deadline:
                    raise Conflict(busy) from None
                time.sleep(0.02)
        try:
            yield
        finally:
            lock.release()
    finally:
        thread.release()


def action(files: Files, unit: str, wait_s: float = 20) -> contextlib.AbstractContextManager[None]:
    """One start, stop or deletion of a unit (`bot_1`, `yard`, `paper`) at a time, whoever asks."""
    busy = f"{unit} is just being started or stopped by somebody else; try again in a moment"
    return held(files, f"data/action/{unit}.lock", wait_s, busy)
