"""Events: something a person may want to hear of. Owns data/events.jsonl.

`post` writes to disk and returns; log, page, SMS and later channels read from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.clock import wall_ms
from core.model import Event
from core.storage import Files, loads

EVENTS = "data/events.jsonl"
EVENTS_OLD = "data/events.old.jsonl"  # the same from before it was turned over (core/notify/intake.py)


def post(files: Files, event: Event) -> None:
    """Append the event, with the wall time where it carries none. Raises OSError when the disk can't take it."""
    files.path(EVENTS).parent.mkdir(parents=True, exist_ok=True)
    files.append_line(EVENTS, as_line(event))


def as_line(event: Event) -> dict[str, Any]:
    data: Mapping[str, Any] = event.data
    return {
        "schema": 1,
        "kind": event.kind,
        "severity": event.severity,
        "bot_id": event.bot_id,
        "text": event.text,
        "market_ms": event.market_ms,
        "wall_ms": event.wall_ms or wall_ms(),
        "data": dict(data),
    }


def recent(files: Files, n: int = 50) -> list[dict[str, Any]]:
    """The last `n` events, oldest first. A line that can't be read is left out: it is told elsewhere, never acted on."""
    lines, _ = files.tail(EVENTS, n)
    if len(lines) < n:
        lines = files.tail(EVENTS_OLD, n - len(lines))[0] + lines
    found = []
    for line in lines:
        try:
            value = loads(line)
        except (ValueError, UnicodeDecodeError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found
