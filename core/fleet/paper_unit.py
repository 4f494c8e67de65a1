"""The paper exchange as the yard sees it: started when wanted, brought back when it dies. Owns no file.

`data/paper_wanted` asks for it (core/fleet/control.py writes it), and so does each paper bot
that is wanted running. Once it runs it stays, until everything is stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import AlreadyRunning, BotyardError, Conflict
from core.fleet import locks
from core.fleet.policy import pause_s
from core.fleet.supervisor import Supervisor
from core.storage import Files

PAPER_WANTED = "data/paper_wanted"
SETTLED_S = 60.0  # a paper exchange that lived this long has started well
log = logging.getLogger("botyard.yard")


@dataclass
class PaperUnit:
    """`submit` has a start done by a thread of the yard; `crashed` tells that it has ended by itself."""

    files: Files
    supervisor: Supervisor
    argv: list[str]
    monotonic: Callable[[], float]
    submit: Callable[[Callable[[], None]], None]
    crashed: Callable[[], None]
    pid: int | None = None
    since: float = 0.0
    starts: int = 0
    due: float = 0.0
    why: str = ""

    def look(self, records: Iterable[Mapping[str, Any]]) -> None:
        """One look; a start is handed to `submit`. `records` are the bots' records."""
        now = self.monotonic()
        pid = self.supervisor.unit_pid("paper")
        if pid is not None:
            if pid != self.pid:
                self.pid, self.since, self.why = pid, now, ""
            elif now - self.since >= SETTLED_S:
                self.starts = 0
            return
        wanted = self.files.exists(PAPER_WANTED) or any(r["mode"] == "paper" and r["status"] == "running" for r in records)
        if self.pid is not None:
            self.pid, self.due = None, now + pause_s(self.starts)
            if wanted:
                self.why = "its process is gone; it is started again"
                self.crashed()
        if wanted and now >= self.due:
            self.submit(self.start)

    def start(self) -> None:
        """Start it now; a failure is remembered, and tried again after a pause."""
        try:
            with locks.action(self.files, "paper", 0):
                self.starts += 1
                self.pid = self.supervisor.start_unit("paper", self.argv)
                self.since, self.why = self.monotonic(), ""
                log.info("the paper exchange runs, process %s", self.pid)
        except (AlreadyRunning, Conflict):
            return
        except (BotyardError, OSError) as e:
            self.due = self.monotonic() + pause_s(self.starts)
            if str(e) != self.why:
                log.warning("%s", e)
            self.why = str(e)

    def note(self) -> dict[str, Any]:
        """What the yard's status tells of it."""
        return {"pid": self.pid, "starts": self.starts, "why": self.why}
