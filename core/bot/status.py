"""A bot's status file: `bot_N_status.json`: heartbeat, last check, warnings, last word.

Not a money file: replaced without fsync, kept without a previous copy. The bot's last act
is to write its exit code and reason here, because nobody sees an exit code under screen.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from core.clock import wall_ms
from core.errors import BotyardError
from core.storage import Files

log = logging.getLogger("botyard")

SCHEMA = 1


def name(bot_id: int) -> str:
    return f"bot_{bot_id}_status.json"


def stop_name(bot_id: int) -> str:
    """Where whoever stops a bot of ours says so before it sends the signal."""
    return f"data/stop/bot_{bot_id}.json"


def grace_s(files: Files, bot_id: int, usual: float) -> float:
    """How long a stop of ours lets this process finish its step: what its note says (at most 60 s), else `usual`."""
    try:
        note = files.read_any(stop_name(bot_id))
    except BotyardError:
        return usual
    if not isinstance(note, dict) or note.get("pid") != os.getpid() or not isinstance(note.get("grace_s"), int):
        return usual
    return float(max(usual, min(60, note["grace_s"])))


class Status:
    def __init__(self, files: Files, bot_id: int):
        self.files, self.bot_id = files, bot_id
        self.before = self._read()  # what the last run left
        self._failing = False
        self.fields: dict[str, Any] = {
            "schema": SCHEMA,
            "bot_id": bot_id,
            "pid": os.getpid(),
            "state": "starting",
            "guard": False,
            "mode": None,
            "symbol": None,
            "strategy": None,
            "venue": None,
            "started_wall_ms": wall_ms(),
            "heartbeat_wall_ms": wall_ms(),
            "market_ms": None,
            "speed": None,
            "price": None,
            "next_check_ms": None,
            "next_check_wall_ms": None,
            "last_check": None,
            "checks_completed": 0,
            "unresolved": False,
            "warnings": [],
            "exit": None,
        }

    def _read(self) -> dict[str, Any]:
        try:
            value = self.files.read_any(name(self.bot_id))
        except BotyardError:
            return {}  # a lost heartbeat must not keep a bot from starting: it is no money file
        return value if isinstance(value, dict) else {}

    def write(self, **changes: Any) -> None:
        self.fields.update(changes)
        self.fields["heartbeat_wall_ms"] = wall_ms()
        try:
            self.files.write_json(name(self.bot_id), self.fields, durable=False, keep_previous=False)
        except OSError as e:
            # A heartbeat that the disk doesn't take must not end a bot that watches a stop.
            if not self._failing:
                log.warning("⚠️ The status file can't be written: %s", e)
            self._failing = True
        else:
            self._failing = False

    def warn(self, kind: str, text: str) -> bool:
        """Show a warning until `clear`; True when it is news."""
        for w in self.fields["warnings"]:
            if w["kind"] == kind:
                news = w["text"] != text
                w["text"] = text
                return news
        self.fields["warnings"].append({"kind": kind, "text": text, "wall_ms": wall_ms()})
        return True

    def clear(self, *kinds: str) -> None:
        self.fields["warnings"] = [w for w in self.fields["warnings"] if w["kind"] not in kinds]

    def last_word(self, code: int, reason: str, signal_name: str | None = None, pid: int | None = None) -> None:
        """The last act. Whether one of ours sent the signal decides between asked and by_hand."""
        kind = "error"
        if code == 0:
            kind = "asked" if signal_name is None or self._asked() else "by_hand"
        self.write(state="ended", exit={"code": code, "reason": reason, "kind": kind, "signal": signal_name, "wall_ms": wall_ms()})

    def _asked(self) -> bool:
        try:
            value = self.files.read_any(stop_name(self.bot_id))
        except BotyardError:
            return False
        if not isinstance(value, dict) or not isinstance(value.get("wall_ms"), int):
            return False
        return value.get("pid") == os.getpid() and wall_ms() - int(value["wall_ms"]) < 120_000
