"""When a bot is started again: pure, so that every rule can be tested without a process.

The rules (ARCHITECTURE.md, "When a bot is started again"):
- exit codes 0, 2, 4 and 5 are a last word: not restarted; after 2 and 5 the position that is
  open is guarded (with 4 its file can't be read, and a guard could do nothing either);
- ended by hand: counts as stopped 10 s later, if this yard lived then and still does;
- any other end is a crash: restarted, at once while business is open, else after pauses
  of 1, 2, 4 ... 30 s; a completed check resets the count; 10 starts in a row without one
  end the trying.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

FINAL_CODES = frozenset({0, 2, 4, 5})
CANT_RUN = frozenset({2, 5})  # of them, those that a guard may yet get by: it needs no strategy and buys nothing
MOST_STARTS = 10
BY_HAND_AFTER_S = 10.0
LONGEST_PAUSE_S = 30.0

State = Literal["new", "up", "queued", "starting", "waiting", "by_hand", "ended", "given_up", "stopped", "maintenance"]


def pause_s(starts: int, business_open: bool = False) -> float:
    """Seconds before the next start, after `starts` of them without a completed check."""
    if business_open:
        return 0.0
    return float(min(LONGEST_PAUSE_S, 2 ** min(max(starts - 1, 0), 10)))


@dataclass(slots=True)
class Watch:
    """What the yard remembers of one bot. `starts` counts those in a row without a completed check.

    `due` is on the yard's monotonic clock; None: nothing is planned."""

    state: State = "new"
    why: str = ""
    pid: int | None = None
    since_wall_ms: int = 0
    starts: int = 0
    due: float | None = None
    late: str = ""  # why it counts as late with its checks; told once
    crashed: bool = False  # told as crashed, and not yet seen running again
    guard_starts: int = 0

    def seen(self, pid: int, wall_ms: int) -> None:
        """A process of its own holds the lock."""
        if pid != self.pid:
            self.pid, self.since_wall_ms, self.late = pid, wall_ms, ""
            self.starts = 1 if self.state == "given_up" else self.starts + 1  # a person began anew
        self.state, self.why, self.due = "up", "", None

    def completed(self) -> None:
        """It has completed a check in this run."""
        self.starts, self.guard_starts = 0, 0

    def rest(self) -> None:
        """It is not wanted: what was remembered of its troubles is over."""
        self.state, self.why, self.due, self.pid = "stopped", "", None, None
        self.starts = self.guard_starts = 0
        self.crashed = False

    def paused(self, why: str) -> None:
        """Maintenance mode is on: whatever was planned is off, and begins anew when it is lifted."""
        self.rest()
        self.state, self.why = "maintenance", why

    def ended(self, word: Mapping[str, Any] | None, business_open: bool, now: float) -> Literal["by_hand", "ended", "crashed", "given_up"]:
        """Its process is gone, though wanted. Decides what comes next, and says what this was."""
        self.pid = None
        if word is not None and word.get("kind") == "by_hand":
            self.state, self.due = "by_hand", now + BY_HAND_AFTER_S
            self.why = f"ended by hand ({word.get('signal') or word.get('reason')}); it counts as stopped in {BY_HAND_AFTER_S:.0f} s"
            return "by_hand"
        if word is not None and word.get("code") in CANT_RUN and business_open:
            self.state, self.due, self.crashed = "given_up", now, False
            self.why = f"exit code {word['code']}: {word.get('reason')}"
            return "given_up"
        if word is not None and word.get("code") in FINAL_CODES:
            self.state, self.due, self.crashed = "ended", None, False
            self.why = f"exit code {word['code']}: {word.get('reason')}"
            return "ended"
        how = "its process is gone without a last word"
        if word is not None:  # a start that never got as far as a process has a reason, but no code
            how = f"exit code {word['code']}: {word.get('reason')}" if word.get("code") is not None else str(word.get("reason"))
        self.crashed = True
        if self.starts >= MOST_STARTS:
            self.state, self.due = "given_up", now
            self.why = f"given up after {self.starts} starts in a row without a completed check; the last: {how}"
            return "given_up"
        wait = pause_s(self.starts, business_open)
        self.state, self.due = "waiting", now + wait
        self.why = f"{how}; it is started again {f'in {wait:g} s' if wait else 'at once'}"
        return "crashed"
