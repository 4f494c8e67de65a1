"""The outbox's rows. Owns data/outbox.db (SQLite); only the holder of data/outbox.lock opens it.

Each change is one transaction that is on disk before it is acted upon (WAL, synchronous
FULL): a process killed at any moment leaves a row that says how far it had come.

States of a message: `queued` (not sent, for certain) → `sending` (an attempt is under way)
→ `sent`, or `unknown` (it may have gone out), or again `queued`; and the ends without a
message: `refused`, `given_up` (unknown, and not repeated), `expired`, `over_limit`.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from core.errors import StateError
from core.storage import Files

FILE = "data/outbox.db"
SCHEMA = 1
KEEP_MS = 30 * 86_400_000
NOT_SENT = ("refused", "given_up", "expired", "over_limit")
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE messages (
  id INTEGER PRIMARY KEY, ref TEXT NOT NULL UNIQUE, channel TEXT NOT NULL, key TEXT NOT NULL,
  kind TEXT NOT NULL, severity TEXT NOT NULL, bot_id INTEGER, label TEXT NOT NULL, text TEXT NOT NULL,
  count INTEGER NOT NULL DEFAULT 1, fold TEXT, created_ms INTEGER NOT NULL, due_ms INTEGER NOT NULL,
  state TEXT NOT NULL DEFAULT 'queued', attempts INTEGER NOT NULL DEFAULT 0, repeat INTEGER NOT NULL DEFAULT 0,
  first_ms INTEGER, attempt_ms INTEGER, lookups INTEGER NOT NULL DEFAULT 0, absent INTEGER NOT NULL DEFAULT 0,
  why TEXT NOT NULL DEFAULT '', done_ms INTEGER, UNIQUE (channel, key));
CREATE INDEX due ON messages (channel, state, due_ms);
"""


@dataclass(frozen=True, slots=True)
class Message:
    """A row. Times are wall ms; `first_ms`, `attempt_ms`: the first and the last attempt; `repeat`: it may have gone out before."""

    id: int
    ref: str
    channel: str
    kind: str
    severity: str
    bot_id: int | None
    label: str
    text: str
    count: int
    created_ms: int
    due_ms: int
    state: str
    attempts: int
    repeat: int
    first_ms: int | None
    attempt_ms: int | None
    lookups: int
    absent: int
    why: str
    done_ms: int | None


_FIELDS = ", ".join(Message.__dataclass_fields__)


class Store:
    """Raises StateError where the file can't be trusted."""

    def __init__(self, files: Files):
        self.path = files.path(FILE)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600))
        try:
            # The thread that sends and the one that closes are two; the outbox's own lock keeps them apart.
            self._db = sqlite3.connect(self.path, timeout=2, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self._db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version={SCHEMA}; COMMIT;")
        except sqlite3.DatabaseError as e:
            raise self._broken(str(e)) from e
        if version > SCHEMA:
            self._db.close()
            raise StateError(self.path, f"it is of schema {version}, this Botyard knows {SCHEMA}", "Update Botyard.")

    def _broken(self, why: str) -> StateError:
        return StateError(self.path, f"it can't be used ({why})", "Look at the disk; if the file is damaged, move it away: messages not yet sent are lost.")

    def close(self) -> None:
        self._db.close()

    def _do(self, sql: str, values: Iterable[Any] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(sql, tuple(values))
        except sqlite3.DatabaseError as e:
            raise self._broken(str(e)) from e

    # --- marks -------------------------------------------------------------------------

    def mark(self, name: str) -> str | None:
        row = self._do("SELECT value FROM meta WHERE name=?", (name,)).fetchone()
        return str(row[0]) if row else None

    def set_mark(self, name: str, value: str) -> None:
        self._do("INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value=excluded.value", (name, value))

    def __enter__(self) -> Store:
        """One transaction: all of it, or nothing."""
        self._do("BEGIN IMMEDIATE")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._do("COMMIT" if kind is None else "ROLLBACK")

    # --- taking in ---------------------------------------------------------------------

    def add(self, channel: str, key: str, event: dict[str, Any], label: str, text: str, fold: str | None, now: int, fold_ms: int) -> None:
        """Take an event in for one channel; the second telling of one changes nothing.

        With `fold`, a repeat joins the message that still waits, or waits itself until
        `fold_ms` after the last of its kind went out."""
        if self._do("SELECT 1 FROM messages WHERE channel=? AND key=?", (channel, key)).fetchone():
            return
        created = min(int(event["wall_ms"]), now)
        due = now
        if fold is not None:
            waiting = self._do("SELECT id FROM messages WHERE channel=? AND fold=? AND state='queued' AND repeat=0", (channel, fold)).fetchone()
            if waiting:
                self._do("UPDATE messages SET count=count+1, text=? WHERE id=?", (text, waiting[0]))
                return
            last = self._do("SELECT max(attempt_ms) FROM messages WHERE channel=? AND fold=?", (channel, fold)).fetchone()[0]
            due = max(now, min(last, now) + fold_ms) if last is not None else now
        names = "ref, channel, key, kind, severity, bot_id, label, text, fold, created_ms, due_ms"
        values = (self._ref(), channel, key, event["kind"], event["severity"], event["bot_id"], label, text, fold, created, due)
        self._do(f"INSERT INTO messages ({names}) VALUES ({', '.join('?' * len(values))})", values)  # noqa: S608 - names of ours

    def _ref(self) -> str:
        while True:
            ref = "".join(secrets.choice(_LETTERS) for _ in range(6))
            if not self._do("SELECT 1 FROM messages WHERE ref=?", (ref,)).fetchone():
                return ref

    # --- sending -----------------------------------------------------------------------

    def cut_off(self) -> int:
        """At a start: attempts that a death cut off have an unknown outcome; how many."""
        return self._do("UPDATE messages SET state='unknown', absent=0, why='it was being sent when the sender died' WHERE state='sending'").rowcount

    def due(self, channel: str, now: int, states: tuple[str, ...]) -> Message | None:
        """The next message to act upon: alerts about risk first, then the oldest."""
        marks = ", ".join("?" * len(states))
        sql = f"SELECT {_FIELDS} FROM messages WHERE channel=? AND state IN ({marks}) AND due_ms<=? ORDER BY severity!='risk', id LIMIT 1"  # noqa: S608
        row = self._do(sql, (channel, *states, now)).fetchone()
        return Message(*row) if row else None

    def change(self, message: Message, **fields: Any) -> None:
        """Change a row; on disk when this returns."""
        sets = ", ".join(f"{n}=?" for n in fields)
        self._do(f"UPDATE messages SET {sets} WHERE id=?", (*fields.values(), message.id))  # noqa: S608 - names of ours

    def attempted_since(self, channel: str, since: int) -> int:
        """Messages that aren't about risk, of which an attempt was made since then."""
        sql = "SELECT count(*) FROM messages WHERE channel=? AND severity!='risk' AND first_ms>=?"
        return int(self._do(sql, (channel, since)).fetchone()[0])

    def next_due(self, channels: Iterable[str]) -> int | None:
        names = tuple(channels)
        sql = f"SELECT min(due_ms) FROM messages WHERE state IN ('queued', 'unknown') AND channel IN ({', '.join('?' * len(names))})"  # noqa: S608
        found = self._do(sql, names).fetchone()[0]
        return None if found is None else int(found)

    def by_key(self, key: str) -> list[Message]:
        return [Message(*r) for r in self._do(f"SELECT {_FIELDS} FROM messages WHERE key=? ORDER BY id", (key,))]  # noqa: S608

    def unsent(self, since: int, most: int = 20) -> list[Message]:
        """What could not be sent: given up since then, or still being tried after a failure; newest first."""
        ends = ", ".join(f"'{s}'" for s in NOT_SENT)
        sql = (
            f"SELECT {_FIELDS} FROM messages WHERE (state IN ({ends}) AND done_ms>=?) "  # noqa: S608
            "OR state='unknown' OR (state='queued' AND why!='') ORDER BY id DESC LIMIT ?"
        )
        return [Message(*r) for r in self._do(sql, (since, most))]

    def waiting(self) -> int:
        return int(self._do("SELECT count(*) FROM messages WHERE state IN ('queued', 'sending', 'unknown')").fetchone()[0])

    def try_again(self, now: int) -> None:
        self._do("UPDATE messages SET due_ms=min(due_ms, ?) WHERE state='queued' AND why!=''", (now,))

    def prune(self, now: int, oldest_risk: int, oldest: int) -> None:
        """End what has waited since before these times, also for a channel that is no more; forget what was done with long ago."""
        old = "created_ms < CASE severity WHEN 'risk' THEN ? ELSE ? END"
        self._do(f"UPDATE messages SET state='expired', done_ms=? WHERE state IN ('queued', 'unknown') AND {old}", (now, oldest_risk, oldest))  # noqa: S608
        self._do("DELETE FROM messages WHERE done_ms<?", (now - KEEP_MS,))
