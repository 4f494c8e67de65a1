"""Who did what to which bot, and when. Owns data/audit.jsonl."""

from __future__ import annotations

from typing import Any

from core.clock import wall_ms
from core.storage import Files

AUDIT = "data/audit.jsonl"


def audit(files: Files, by: str, what: str, bot_id: int | None = None, **detail: Any) -> None:
    """Append a line; raises OSError when the disk can't take it."""
    files.path(AUDIT).parent.mkdir(parents=True, exist_ok=True)
    files.append_line(AUDIT, {"schema": 1, "wall_ms": wall_ms(), "by": by, "what": what, "bot_id": bot_id, "detail": detail}, durable=False)
