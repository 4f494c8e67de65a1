"""Reads the bots' files for the page: only what changed, and never a whole log.

A position or status file is read again when its inode, size or time changed. A log is
read from a cursor; at first sight only its tail. So the cost of a look depends on what
happened since the last one, not on how large the files are. Owns no file.
"""

from __future__ import annotations

import calendar
import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.fleet.supervisor import Supervisor
from core.storage import Files, loads

FIRST_LINES = 1000  # of a log, at first sight
MORE_LINES = 5000  # at most, at one look
MAX_DECISIONS = 200
Signature = tuple[int, int, int] | None


def stamp_ms(line: str) -> int | None:
    """Wall ms of a log line's `YYYY-MM-DD HH:MM:SS` (UTC), None where it has none."""
    try:
        return calendar.timegm(time.strptime(line[:19], "%Y-%m-%d %H:%M:%S")) * 1000
    except ValueError:
        return None


def split_line(line: str) -> tuple[str, str] | None:
    """(level, message) of a bot's log line, None for a line that is no beginning of one."""
    if len(line) < 24 or line[19:22] != " - " or line[4] != "-":
        return None
    end = line.find(" - ", 22)
    return (line[22:end], line[end + 3 :]) if 22 < end <= 32 else None


@dataclass
class LogState:
    """What was learned of one log."""

    cursor: int | None = None
    signature: Signature = None
    warnings: int = 0
    errors: int = 0
    last: str = ""
    problems: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=20))

    def take(self, lines: list[str]) -> None:
        for line in lines:
            parts = split_line(line)
            if parts is None:
                continue
            self.last = line
            level = parts[0]
            if level == "WARNING":
                self.warnings += 1
            elif level in ("ERROR", "CRITICAL"):
                self.errors += 1
            else:
                continue
            self.problems.append({"level": level, "wall_ms": stamp_ms(line), "text": parts[1][:500]})

    def activity(self) -> tuple[str | None, int | None]:
        """The last line's message and wall time."""
        parts = split_line(self.last)
        return (parts[1].strip()[:500], stamp_ms(self.last)) if parts else (None, None)


@dataclass
class FillsState:
    """Fills read so far, oldest first; a torn last line is left until it is whole."""

    cursor: int = 0
    inode: int = 0
    fills: list[dict[str, Any]] = field(default_factory=list)
    unreadable: int = 0


@dataclass
class BotState:
    """One bot as its files tell. `error` says why a file can't be trusted."""

    position: Mapping[str, Any] | None = None
    status: Mapping[str, Any] | None = None
    error: str | None = None
    signatures: tuple[Signature, Signature] | None = None
    log: LogState = field(default_factory=LogState)
    fills: FillsState = field(default_factory=FillsState)
    decisions_signature: Signature = None
    decisions: list[dict[str, Any]] = field(default_factory=list)


def signature(path: str) -> Signature:
    try:
        s = os.stat(path)
    except OSError:
        return None
    return s.st_ino, s.st_size, s.st_mtime_ns


class Watch:
    """The latest known state of every bot. Not for several threads at once: the caller locks."""

    def __init__(self, files: Files, supervisor: Supervisor):
        self.files = files
        self.supervisor = supervisor
        self._bots: dict[int, BotState] = {}
        self._home = str(files.home)

    def forget_others(self, ids: set[int]) -> None:
        for gone in self._bots.keys() - ids:
            del self._bots[gone]

    def look(self, bot_id: int) -> BotState:
        """Position, status and log of a bot, up to date."""
        state = self._bots.setdefault(bot_id, BotState())
        self._state(bot_id, state)
        self._log(bot_id, state)
        return state

    def _name(self, bot_id: int, what: str) -> str:
        return f"{self._home}/bot_{bot_id}{what}"

    def _state(self, bot_id: int, state: BotState) -> None:
        now = (signature(self._name(bot_id, "_position.json")), signature(self._name(bot_id, "_status.json")))
        if now == state.signatures:
            return
        found = self.supervisor.read_state(bot_id)
        state.position, state.status = found.get("position"), found.get("status")
        error = found.get("error")
        state.error = str(error).replace(self._home + "/", "") if error else None
        # Taken before the reading: a file that changed meanwhile is read again at the next look.
        state.signatures = now

    def _log(self, bot_id: int, state: BotState) -> None:
        log = state.log
        now = signature(self._name(bot_id, ".log"))
        if now == log.signature:
            return
        if now is None or (log.signature is not None and now[0] != log.signature[0]) or (log.cursor or 0) > now[1]:
            log.cursor = None if now is None else 0  # another file, or truncated by rotation: read it from its beginning
        if now is not None:
            lines, log.cursor = self.supervisor.read_log(bot_id, log.cursor, FIRST_LINES if log.cursor is None else MORE_LINES)
            log.take(lines)
            if log.cursor < now[1] and lines:
                now = (now[0], now[1], -1)  # there is more: look again
        log.signature = now

    def decisions(self, bot_id: int) -> list[dict[str, Any]]:
        """The newest decisions, newest first; lines that can't be read are left out."""
        state = self._bots.setdefault(bot_id, BotState())
        now = signature(self._name(bot_id, "_decisions.jsonl"))
        if now != state.decisions_signature:
            lines, _ = self.files.tail(f"bot_{bot_id}_decisions.jsonl", MAX_DECISIONS)
            # What they rest on (`data`) is for backtests; it would make each answer to the page a hundred times as long.
            state.decisions = [{k: v for k, v in d.items() if k != "data"} for d in map(_object, reversed(lines)) if d is not None]
            state.decisions_signature = now
        return state.decisions

    def last_decision(self, bot_id: int) -> dict[str, Any] | None:
        found = self.decisions(bot_id)
        return found[0] if found else None

    def fills(self, bot_id: int) -> FillsState:
        """All fills of a bot: what is new is read, the rest is remembered."""
        state = self._bots.setdefault(bot_id, BotState())
        known = state.fills
        now = signature(self._name(bot_id, "_fills.jsonl"))
        if now is None or now[0] != known.inode or now[1] < known.cursor:
            known = state.fills = FillsState(inode=now[0] if now else 0)
        seen = {(f.get("symbol"), f.get("trade_id")) for f in known.fills}
        while now is not None and known.cursor < now[1]:
            lines, cursor = self.files.read_from(f"bot_{bot_id}_fills.jsonl", known.cursor)
            if cursor == known.cursor:
                break  # the last line is still being written, or torn
            known.cursor = cursor
            for line in lines:
                fill = _object(line)
                if fill is None:
                    known.unreadable += bool(line.strip())
                elif (key := (fill.get("symbol"), fill.get("trade_id"))) not in seen:
                    seen.add(key)
                    known.fills.append(fill)
        return known


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
