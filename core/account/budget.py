"""The request budget: all processes of this host share what one exchange host allows.

Owns `data/budget.db` (SQLite, WAL): per exchange host the request weight of the running
minute and a banned-until stamp, per account the order counts. It is fed before each request
(an estimate) and by each answer's headers (the truth). Times are wall ms.

Request weight is counted per address for all accounts, markets and modes that use the host;
minutes are the exchange's, from the epoch. Getting out has priority over getting in, and
both over the page: `SHARES`. While a host is banned, nothing is sent to it, by anybody; after
its end weight is handed out by the second for a while, so that everyone resumes without a
burst. A database that can't be used keeps nobody from getting out: it is then as if there
were no limit.

Source: binance-spot-api-docs, rest-api.md, "LIMITS" (429, 418, Retry-After, X-MBX-USED-WEIGHT-1M).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from core.errors import RateLimited

log = logging.getLogger("botyard.budget")

Priority = Literal["exit", "entry", "page"]
# The share of the limit that each may use up to. What lies above the exit's is never asked for:
# other programs behind the same address, and answers that are still on their way.
SHARES: dict[str, float] = {"exit": 0.95, "entry": 0.80, "page": 0.60}
MINUTE_MS = 60_000
RESUME_MS = 20_000  # after a ban: so long weight is handed out by the second
BUSY_S = 0.5
DEFAULT_LIMIT = 6000
_TABLES = """
CREATE TABLE IF NOT EXISTS hosts (
    host TEXT PRIMARY KEY, weight_limit INTEGER NOT NULL, minute INTEGER NOT NULL, used INTEGER NOT NULL,
    banned_until INTEGER NOT NULL, resumed_used INTEGER NOT NULL
) WITHOUT ROWID
"""


class Budget:
    """One process's hand on it, for one exchange host. Not shared between threads."""

    def __init__(self, path: str | Path, host: str, wall_ms: Callable[[], int]):
        self.path, self.host, self._wall_ms = Path(path), host, wall_ms
        self._db: sqlite3.Connection | None = None
        self._failed = False

    def take(self, weight: int, priority: Priority) -> None:
        """Book `weight` of the running minute, or RateLimited with the seconds to wait; then nothing is booked."""
        now = self._wall_ms()
        try:
            wait_ms, why = self._take(weight, priority, now)
        except sqlite3.Error as e:
            self._broken(e)
            return
        if wait_ms > 0:
            raise RateLimited(f"not sent: {why}", wait_ms / 1000)

    def _take(self, weight: int, priority: Priority, now: int) -> tuple[int, str]:
        db = self._open()
        db.execute("BEGIN IMMEDIATE")
        try:
            limit, minute, used, banned_until, resumed = self._row(db)
            if now < banned_until:
                return banned_until - now, f"{self.host} has banned this address for {-(-(banned_until - now) // 1000)} s more"
            if minute != now // MINUTE_MS:
                minute, used = now // MINUTE_MS, 0
            rest = (minute + 1) * MINUTE_MS - now
            if used + weight > limit * SHARES[priority]:
                return rest, f"this minute's request weight for {priority} is used up ({used} of {limit})"
            since = now - banned_until
            if since < RESUME_MS:
                allowed = limit * SHARES[priority] * (since + 1000) // MINUTE_MS
                if resumed + weight > allowed:
                    return 1000, f"{self.host} lifted its ban just now: requests go out one after the other"
                resumed += weight
            values = (minute, used + weight, resumed, self.host)
            db.execute("UPDATE hosts SET minute=?, used=?, resumed_used=? WHERE host=?", values)
        finally:
            db.execute("COMMIT")
        return 0, ""

    def told(self, status: int, headers: Mapping[str, str], retry_after_s: float | None = None) -> None:
        """What an answer said: the weight used, or a ban (429 and 418 silence all of us)."""
        now = self._wall_ms()
        used = next((v for k, v in headers.items() if k.lower() == "x-mbx-used-weight-1m"), "")
        try:
            db = self._open()
            if status in (418, 429):
                until = now + int(1000 * (retry_after_s if retry_after_s is not None else 60))
                db.execute("UPDATE hosts SET banned_until=max(banned_until, ?), resumed_used=0 WHERE host=?", (until, self.host))
            elif used.isdigit():
                # Of the minute that the answer came in; our estimates of requests still under way stay in it.
                sql = "UPDATE hosts SET used=max(used, ?) WHERE host=? AND minute=?"
                db.execute(sql, (int(used), self.host, now // MINUTE_MS))
        except sqlite3.Error as e:
            self._broken(e)

    def learn(self, weight_limit: int) -> None:
        """The limit a minute, as exchangeInfo's rateLimits say."""
        try:
            self._open().execute("UPDATE hosts SET weight_limit=? WHERE host=? AND weight_limit<>?", (weight_limit, self.host, weight_limit))
        except sqlite3.Error as e:
            self._broken(e)

    def state(self) -> dict[str, int]:
        """`{"limit", "used" (of the running minute), "banned_until_wall_ms"}`, for the page; empty where it can't be read."""
        now = self._wall_ms()
        try:
            limit, minute, used, banned_until, _ = self._row(self._open())
        except sqlite3.Error as e:
            self._broken(e)
            return {}
        return {"limit": limit, "used": used if minute == now // MINUTE_MS else 0, "banned_until_wall_ms": banned_until}

    def _row(self, db: sqlite3.Connection) -> tuple[int, int, int, int, int]:
        row = db.execute("SELECT weight_limit, minute, used, banned_until, resumed_used FROM hosts WHERE host=?", (self.host,)).fetchone()
        return (int(row[0]), int(row[1]), int(row[2]), int(row[3]), int(row[4]))

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=OFF")  # a power cut forgets the running minute at most
            db.execute(_TABLES)
            db.execute("INSERT OR IGNORE INTO hosts VALUES (?, ?, 0, 0, 0, 0)", (self.host, DEFAULT_LIMIT))
            self._db = db
        return self._db

    def _broken(self, e: sqlite3.Error) -> None:
        if not self._failed:
            log.warning("⚠️ The shared request budget can't be used (%s): this process counts on the exchange's own refusals", e)
        self._failed = True
        self.close()

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
