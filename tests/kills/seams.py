"""Kill points: every public method of Files, Exchange and Clock, before and after, found by themselves.

`watched(cls)` derives a class in which each public method reports to a `Points` before and
after it runs; a method added to the seam tomorrow is a kill point without a word here.
Calls that a method makes on its own object are part of it, and no points of their own.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Points:
    """Counts the points of one life. `strike(name)` is called at those where something changed
    since the last one: deaths at two points with the same disk and the same exchange are one.

    `changes` gives what the outside has seen of this process (a number that only grows)."""

    def __init__(self, home: Path, changes: Callable[[], int], strike: Callable[[str], None]):
        self.home, self._changes, self._strike = home, changes, strike
        self.armed = False
        self.found = 0  # every point passed while armed
        self.struck = 0  # of these, the distinct ones
        self._last: Any = None
        self._depth = 0

    def reach(self, name: str) -> None:
        if not self.armed:
            return
        self.found += 1
        state = (self._changes(), listing(self.home))
        if state == self._last:
            return
        self._last = state
        self.struck += 1
        self._strike(name)

    def around(self, name: str, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        if self._depth:
            return call(*args, **named)
        self.reach(f"before {name}")
        self._depth += 1
        try:
            return call(*args, **named)
        finally:
            self._depth -= 1
            self.reach(f"after {name}")


def listing(folder: Path) -> tuple[Any, ...]:
    """What a look at the folder tells: each file's name, inode, size and time of change."""
    found: list[Any] = []
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.is_dir():
            found.append((entry.name, listing(Path(entry.path))))
        else:
            stat = entry.stat()
            found.append((entry.name, stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(found)


def seam(cls: type) -> list[str]:
    """The public methods of a class, its parents' included."""
    return sorted(name for name, value in inspect.getmembers(cls, inspect.isfunction) if not name.startswith("_"))


def watched(cls: type, points: Points) -> type:
    """`cls`, with a kill point before and after each public method."""

    def wrap(name: str) -> Callable[..., Any]:
        inner = getattr(cls, name)

        @functools.wraps(inner)
        def call(self: Any, *args: Any, **named: Any) -> Any:
            # The first argument says which file or order, where it is a text.
            what = f" {args[0]}" if cls.__name__ == "Files" and args and isinstance(args[0], str) else ""
            return points.around(f"{cls.__name__}.{name}{what}", inner, self, *args, **named)

        return call

    return type(f"Watched{cls.__name__}", (cls,), {name: wrap(name) for name in seam(cls)})
