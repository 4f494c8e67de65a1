"""How long a test waits for what must come, and how late what it bounds may be.

Seconds in the tests are those of a quiet machine. One with other work, or a slow one, takes several
times as long, and that must make a test slower, not red. A wait ends with what it waits for, so that
patience costs nothing where all is well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

SLOWER = 4.0
T = TypeVar("T")


def patience(seconds: float) -> float:
    """What takes `seconds` on a quiet machine, in seconds of one that is SLOWER times as slow."""
    return seconds * SLOWER


def until(ask: Callable[[], T], what: str, seconds: float, pause_s: float = 0.01) -> T:
    """Ask until the answer is true, and give it; AssertionError with what was waited for, after `patience(seconds)`."""
    end = time.monotonic() + patience(seconds)
    while not (found := ask()):
        assert time.monotonic() < end, f"waited {patience(seconds):g} s for {what}"
        time.sleep(pause_s)
    return found
