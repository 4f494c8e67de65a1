"""What one bot fetches for all of them: values, leases and wishes in `data/shared.db` (SQLite, WAL), which this module owns.

Whoever finds a value stale takes its lease and fetches it; the others wait a moment and read
what was fetched. A lease that isn't given back (its holder was killed, or hangs) ends by
itself, and nobody waits longer than WAIT_MS: then everybody fetches for himself. The database
is a convenience: where it is locked, damaged or the disk is full, it is left alone for a
while, everybody asks the exchange himself, and that is logged once.

A value carries when its fetch began, by the host's wall clock and by its monotonic clock
(which all processes of a host share): it is fresh only if both say so, so that neither a
clock that was set back nor a reboot makes an old value new. Keys carry the venue.

What is asked through it, and how fresh each must be: core/account/shared_exchange.py.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from core.clock import wall_ms

log = logging.getLogger("botyard.shared")

FILE = "data/shared.db"
LEASE_MS = 1000
WAIT_MS = 1500
FIRST_POLL_S, LONGEST_POLL_S = 0.01, 0.05
BUSY_MS = 300
BROKEN_MS = 10_000  # a database that failed is left alone so long
FORGET_MS = 3_600_000
MARKET_SLACK_MS = 1500  # by how much two processes' ideas of market time may differ
_TABLES = """
CREATE TABLE IF NOT EXISTS seen (
    key TEXT PRIMARY KEY, value TEXT NOT NULL, began_wall INTEGER NOT NULL, began_mono INTEGER NOT NULL, market_ms INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases (key TEXT PRIMARY KEY, pid INTEGER NOT NULL, until_mono INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS wishes (
    room TEXT NOT NULL, name TEXT NOT NULL, what TEXT NOT NULL, wall INTEGER NOT NULL, PRIMARY KEY (room, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stamps (room TEXT NOT NULL, pid INTEGER NOT NULL, until_wall INTEGER NOT NULL, PRIMARY KEY (room, pid)) WITHOUT ROWID;
"""
_BROKEN = (sqlite3.Error, OSError, ValueError, TypeError)

T = TypeVar("T")


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, by both clocks of the host (ms) and the market's (None: not known)."""

    wall: int
    mono: int
    market: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A value (plain JSON) and the moment before it was fetched."""

    value: Any
    began: Moment


class Shared:
    """One process's hand on what all share. Not shared between threads."""

    def __init__(
        self,
        path: str | Path,
        *,
        wall: Callable[[], int] = wall_ms,
        mono: Callable[[], int] = monotonic_ms,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.path, self._wall, self._mono, self._sleep = Path(path), wall, mono, sleep
        self._db: sqlite3.Connection | None = None
        self._told = False
        self._leave_until: int | None = None  # by the monotonic clock
        self._wished: dict[tuple[str, str], int] = {}

    def now(self, market: int | None = None) -> Moment:
        return Moment(self._wall(), self._mono(), market)

    @property
    def usable(self) -> bool:
        """False for a while after it failed."""
        if self._leave_until is not None and self._mono() >= self._leave_until:
            self._leave_until = None
        return self._leave_until is None

    # --- values -----------------------------------------------------------------------

    def put(self, values: Mapping[str, Any], began: Moment) -> None:
        """Keep values by key, all fetched by a request that began then. A newer one stays."""
        rows = [(key, json.dumps(value), began.wall, began.mono, began.market) for key, value in values.items()]
        sql = (
            "INSERT INTO seen VALUES (?,?,?,?,?) ON CONFLICT(key) DO UPDATE SET value=excluded.value, began_wall=excluded.began_wall, "
            "began_mono=excluded.began_mono, market_ms=excluded.market_ms WHERE excluded.began_wall > began_wall OR excluded.began_mono > began_mono"
        )
        with self._writing() as db:
            if db is not None:
                db.executemany(sql, rows)

    def find(self, key: str, asked: Moment, age_ms: int) -> Seen | None:
        """What was fetched not longer than `age_ms` before `asked`, by every clock that is known."""
        row = self._rows("SELECT value, began_wall, began_mono, market_ms FROM seen WHERE key=?", (key,))
        if not row:
            return None
        value, wall, mono, market = row[0]
        now = self._wall(), self._mono()
        if wall < asked.wall - age_ms or mono < asked.mono - age_ms or wall > now[0] or mono > now[1]:
            return None
        if asked.market is not None and market is not None and abs((asked.market - market) - (asked.mono - mono)) > MARKET_SLACK_MS:
            return None  # market time was moved in between
        try:
            return Seen(json.loads(value), Moment(wall, mono, market))
        except ValueError as e:
            self._broken(e)
            return None

    def once(self, key: str, find: Callable[[], T | None], fetch: Callable[[], T]) -> T | None:
        """What `find` finds, fetched by one of all who ask now. None: it took too long, ask for yourself.

        `fetch` puts what it fetched where `find` looks; what it raises is raised to who fetched, and the next one tries."""
        with self.turn(key) as turn:
            found = find()
            while found is None and turn.waiting():
                found = find()
            if found is not None:
                return found
            if not turn.mine:
                return None
            found = find()  # put between the last look and the lease
            return fetch() if found is None else found

    @contextmanager
    def turn(self, key: str) -> Iterator[Turn]:
        """Somebody's turn at `key`: `waiting()` until it is ours (`mine`) or the patience is over."""
        turn = Turn(self, key)
        try:
            yield turn
        finally:
            turn.end()

    # --- leases -----------------------------------------------------------------------

    def lease(self, key: str) -> bool:
        """Take the lease; False while somebody else who lives holds it. True, too, where the database can't be used."""
        held = self._rows("SELECT pid, until_mono FROM leases WHERE key=?", (key,))
        if held and self._holds(*held[0]):
            return False
        with self._writing() as db:
            if db is None:
                return True
            held = db.execute("SELECT pid, until_mono FROM leases WHERE key=?", (key,)).fetchall()
            if held and self._holds(*held[0]):
                return False
            db.execute("INSERT OR REPLACE INTO leases VALUES (?,?,?)", (key, os.getpid(), self._mono() + LEASE_MS))
        return True

    def give_back(self, key: str) -> None:
        with self._writing() as db:
            if db is not None:
                db.execute("DELETE FROM leases WHERE key=? AND pid=?", (key, os.getpid()))

    def _holds(self, pid: int, until_mono: int) -> bool:
        left = until_mono - self._mono()
        if not 0 < left <= LEASE_MS or pid == os.getpid():
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            pass
        return True

    # --- wishes -----------------------------------------------------------------------

    def wish(self, room: str, name: str, what: str = "", *, every_ms: int) -> None:
        """Say that this is asked for now; `what` goes with it. Written again only after `every_ms`."""
        now = self._mono()
        if now - self._wished.get((room, name), -every_ms) < every_ms:
            return
        with self._writing() as db:
            if db is not None:
                db.execute("INSERT OR REPLACE INTO wishes VALUES (?,?,?,?)", (room, name, what, self._wall()))
                self._wished[room, name] = now

    def wishes(self, room: str, age_ms: int) -> dict[str, str]:
        """What was asked for within `age_ms`, by name."""
        now = self._wall()
        return dict(self._rows("SELECT name, what FROM wishes WHERE room=? AND wall BETWEEN ? AND ?", (room, now - age_ms, now)))

    def drop_wish(self, room: str, name: str) -> None:
        self._wished.pop((room, name), None)
        with self._writing() as db:
            if db is not None:
                db.execute("DELETE FROM wishes WHERE room=? AND name=?", (room, name))

    # --- stamps -----------------------------------------------------------------------

    def stamp(self, room: str, until_wall: int) -> None:
        """This process is changing something here until then: what was seen before doesn't count."""
        with self._writing() as db:
            if db is not None:
                db.execute("INSERT OR REPLACE INTO stamps VALUES (?,?,?)", (room, os.getpid(), until_wall))

    def stamped(self, room: str) -> int | None:
        """Wall ms until which somebody changed something here, 0 for never; None where it can't be told."""
        rows = self._rows("SELECT max(until_wall) FROM stamps WHERE room=?", (room,))
        return int(rows[0][0] or 0) if rows else None

    # --- the database -------------------------------------------------------------------

    def _rows(self, sql: str, values: Iterable[Any]) -> list[Any]:
        if not self.usable:
            return []
        try:
            return self._open().execute(sql, tuple(values)).fetchall()
        except _BROKEN as e:
            self._broken(e)
            return []

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection | None]:
        """Inside a write; None where the database can't be used. What it raises ends here."""
        db = None
        if self.usable:
            try:
                db = self._open()
                db.execute("BEGIN IMMEDIATE")
            except _BROKEN as e:
                self._broken(e)
                db = None
        if db is None:
            yield None
            return
        try:
            yield db
            db.execute("COMMIT")
        except _BROKEN as e:
            self._broken(e)

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self.path, timeout=BUSY_MS / 3000, isolation_level=None, check_same_thread=False)
            try:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=OFF")  # nothing in it outlives a minute
                if db.execute("SELECT count(*) FROM sqlite_master WHERE type='table'").fetchone()[0] < 4:
                    db.executescript(_TABLES)
                db.execute(f"PRAGMA busy_timeout={BUSY_MS}")
                before = self._wall() - FORGET_MS
                db.execute("DELETE FROM wishes WHERE wall < ?", (before,))
                db.execute("DELETE FROM stamps WHERE until_wall < ?", (before,))
                db.execute("DELETE FROM seen WHERE began_wall < ?", (before,))
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    def _broken(self, e: Exception) -> None:
        if not self._told:
            log.warning("⚠️ What the bots share in %s can't be used (%s): each asks the exchange for itself", self.path, e)
        self._told = True
        self._leave_until = self._mono() + BROKEN_MS
        self.close()
        if type(e) is sqlite3.DatabaseError:  # damaged, or none: everybody who has it open finds that out, too
            for name in (self.path, Path(f"{self.path}-wal"), Path(f"{self.path}-shm")):
                with suppress(OSError):
                    name.unlink(missing_ok=True)

    def close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()


class Turn:
    """A turn at one key. `waited`: somebody else was at it first."""

    def __init__(self, shared: Shared, key: str):
        self._shared, self._key = shared, key
        self.mine = self.waited = False
        self._ends = shared._mono() + WAIT_MS
        self._pause = FIRST_POLL_S

    def waiting(self) -> bool:
        """Try for the lease; after a short sleep True: look again, and ask again. False: it is ours, or the patience is over."""
        self.mine = self._shared.lease(self._key)
        if self.mine or self._shared._mono() >= self._ends:
            return False
        self.waited = True
        self._shared._sleep(self._pause)
        self._pause = min(self._pause * 1.5, LONGEST_POLL_S)
        return True

    def end(self) -> None:
        if self.mine:
            self._shared.give_back(self._key)
            self.mine = False
