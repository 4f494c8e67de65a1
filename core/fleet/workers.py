"""The yard's threads that start and end units, the urgent first. Owns no file.

A slow start keeps nothing else waiting, and at most WORKERS are under way at a time: one
keeps a processor busy with imports, and twenty at once would all come up last.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable

STAGGER_S = 5.0  # so long a start may keep the next one waiting
WORKERS = 2
CameUp = Callable[[], bool]  # whether a start is over, for better or worse
Job = Callable[[], CameUp | None]
log = logging.getLogger("botyard.yard")


class Workers:
    """`submit` a job for a unit; it is done unless one for this unit waits or runs already."""

    def __init__(self, count: int | None = None):
        self._jobs: queue.PriorityQueue[tuple[int, int, str, Job]] = queue.PriorityQueue()
        self._order = itertools.count()
        self._busy: set[str] = set()
        self._idle = threading.Condition()
        self.ending = False
        for n in range(count or WORKERS):
            threading.Thread(target=self._work, name=f"starter {n}", daemon=True).start()

    def submit(self, unit: str, priority: int, job: Job) -> None:
        """Low numbers come first. A job answers None, or how to tell that what it started is up."""
        with self._idle:
            if unit in self._busy or self.ending:
                return
            self._busy.add(unit)
        self._jobs.put((priority, next(self._order), unit, job))

    def busy(self, unit: str) -> bool:
        return unit in self._busy

    def _work(self) -> None:
        while True:
            priority, _, unit, job = self._jobs.get()
            came_up: CameUp | None = None
            try:
                if not self.ending:
                    came_up = job()
            except Exception:  # the worker must outlive a start that fails; the next look tries again
                log.exception("%s: a start failed", unit)
            finally:
                with self._idle:
                    self._busy.discard(unit)
                    self._idle.notify_all()
            if came_up is not None:
                self._let_up(priority, came_up)

    def _let_up(self, priority: int, came_up: CameUp) -> None:
        """Wait until what was started is up. Nothing more urgent waits for this."""
        deadline = time.monotonic() + STAGGER_S
        while not self.ending and time.monotonic() < deadline:
            with contextlib.suppress(Exception):  # the disk's trouble is the next look's
                if came_up():
                    return
            with contextlib.suppress(IndexError):
                if self._jobs.queue[0][0] < priority:
                    return
            time.sleep(0.05)

    def settle(self, timeout_s: float) -> bool:
        """Wait until no job is under way; False when one still is."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._busy, timeout_s)
