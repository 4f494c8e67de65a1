"""How the outbox reads the events, each line exactly once, and turns their file over. Owns data/events.old.jsonl.

The place read to is a mark of the outbox's database, and moves in one transaction with what
was made of the lines. Any process may append at any moment and waits for nobody (a frozen one
that held a lock would silence the others), so lines are never cut out of the file in use.
Instead the whole file is renamed once all of it was read, it is large, and its first event is
old; the file renamed before it, all of it older still, goes. Who had the file open when it was
renamed appends to the renamed one, which is therefore read on, too.

Marks: `events` and `events_old`, the places in the two files; `events_turn`, "inode:place"
while a rename is under way, so that a death in the middle of it is made good by the next start.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.notify import EVENTS, EVENTS_OLD
from core.notify.store import Store
from core.storage import Files, fsync_folder, loads

LARGE = 20_000_000  # bytes
OLD_MS = 30 * 86_400_000
_LINE = b'{"schema": 1, "kind": '  # how a line of events begins
log = logging.getLogger("botyard.notify")


def take_in(files: Files, store: Store, accept: Callable[[dict[str, Any], bool], None]) -> None:
    """Hand every new event to `accept`, with whether this outbox has only just begun to read. StateError, OSError."""
    _mend(files, store)
    mark = store.mark("events")
    new, place = mark is None, int(mark or 0)
    while new or place != _size(files.path(EVENTS)):
        after = _some(files, store, EVENTS, "events", place, new, accept)
        if after == place and not new:
            break  # a line that isn't whole yet
        new, place = new and after != place, after
    behind = store.mark("events_old")
    if behind:
        place = int(behind)
        while place < _size(files.path(EVENTS_OLD)):
            after = _some(files, store, EVENTS_OLD, "events_old", place, False, accept)
            if after <= place:
                break
            place = after


def _some(files: Files, store: Store, name: str, mark: str, place: int, new: bool, accept: Callable[[dict[str, Any], bool], None]) -> int:
    """Some whole lines after `place`; the place after them, kept in the transaction that took them in."""
    lines, after = files.read_from(name, place)
    if after == place and not new:
        return after
    at = after - sum(len(line) + 1 for line in lines)
    with store:
        for line in lines:
            for event in parse(line, at):
                accept(event, new)
            at += len(line) + 1
        store.set_mark(mark, str(after))
    return after


def turn_over(files: Files, store: Store, now: int, *, large: int = LARGE, old_ms: int = OLD_MS) -> bool:
    """Rename the events' file where it is large, read to its end and began long ago; whether it was. Wall ms. OSError, StateError."""
    path, place = files.path(EVENTS), int(store.mark("events") or 0)
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    if found.st_size <= large or place != found.st_size or now - _first_ms(path, now) <= old_ms:
        return False
    with store:
        store.set_mark("events_turn", f"{found.st_ino}:{place}")
    os.replace(path, files.path(EVENTS_OLD))
    fsync_folder(path.parent)
    _mend(files, store)
    log.info("%s had grown to %s MB and begins anew; what was in it is in %s", EVENTS, found.st_size // 1_000_000, EVENTS_OLD)
    return True


def _mend(files: Files, store: Store) -> None:
    """Finish what `turn_over` began, also where a death cut it off: the renamed file is known by its inode."""
    mark = store.mark("events_turn")
    if not mark:
        return
    inode, _, place = mark.partition(":")
    turned = _inode(files.path(EVENTS_OLD)) == int(inode) and _inode(files.path(EVENTS)) != int(inode)
    with store:
        if turned:
            store.set_mark("events_old", place)
            store.set_mark("events", "0")
        store.set_mark("events_turn", "")


def _first_ms(path: Path, now: int) -> int:
    """When the file's first readable event was; `now` where none can be read: then it stays as it is."""
    with path.open("rb") as f:
        for _ in range(10):
            for event in parse(f.readline(1 << 20), 0):
                if event["wall_ms"] > 0:
                    return int(event["wall_ms"])
    return now


def parse(line: bytes, at: int = 0) -> list[dict[str, Any]]:
    """The event in a line at byte `at`, complete and typed, with its `key`; of a line that a death has torn, what is whole.

    The next writer's line follows a torn one without a break, so the whole part is looked for at its beginning."""
    try:
        value = loads(line)
    except (ValueError, UnicodeDecodeError, RecursionError):
        again = line.find(_LINE, 1)
        if again < 0:
            log.warning("a line of %s bytes in %s can't be read and is left out", len(line), EVENTS)
            return []
        return parse(line[again:], at + again)
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str) or not isinstance(value.get("text"), str):
        return []
    data, severity, bot_id, when = value.get("data"), value.get("severity"), value.get("bot_id"), value.get("wall_ms")
    data = data if isinstance(data, dict) else {}
    return [
        {
            "kind": value["kind"],
            "text": value["text"],
            "severity": severity if severity in ("info", "warning", "risk") else "risk",  # rather one too many
            "bot_id": bot_id if isinstance(bot_id, int) else None,
            "wall_ms": when if isinstance(when, int) else 0,
            "data": data,
            "key": str(data["once"]) if isinstance(data.get("once"), str) else f"{at}:{hashlib.sha256(line).hexdigest()[:16]}",
        }
    ]


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def _inode(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        return path.stat().st_ino
    return None
