"""The request budget: all processes of this host share what one exchange host allows.

Owns `data/budget.db` (SQLite, WAL): per exchange host the request weight of the running
minute and a banned-until stamp, per account the order counts. It is fed before each request
(an estimate) and by each answer's headers (the truth). Times are wall ms.

Request weight is counted per address for all accounts, markets and modes that use the host;
minutes are the exchange's, from the epoch. Getting out has priority over getting in, and
both over the page: `SHARES`. While a host is banned, nothing is sent to it, by anybody; after
its end weight is handed out by the second for a while, so that everyone resumes without a
burst. A database that can't be used keeps nobody from getting out: it is then as if there
were no limit, and it is not asked again for some seconds.

A `Budget` is the gate of core/binance_transport.py: `BinanceClient(..., gate=Budget(...))`.

Source: binance-spot-api-docs, rest-api.md, "LIMITS" (429, 418, Retry-After, X-MBX-USED-WEIGHT-1M,
X-MBX-ORDER-COUNT-10S and -1D), errors.md (-1015).
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from core.errors import BudgetSpent, RateLimited
from core.exchange import Priority

log = logging.getLogger("botyard.budget")

FILE = "data/budget.db"
# The share of the limit that each may use up to. What lies above the exit's is never asked for:
# other programs behind the same address, and answers that are still on their way.
SHARES: dict[Priority, float] = {"exit": 0.95, "entry": 0.80, "page": 0.60}
ORDER_SHARES: dict[Priority, float] = {"exit": 0.95, "entry": 0.70, "page": 0.50}
# After a ban all wait for the same moment: what protects a position goes first.
RESUME_SHARES: dict[Priority, float] = {"exit": 0.95, "entry": 0.50, "page": 0.25}
MINUTE_MS, TEN_SECONDS_MS, DAY_MS = 60_000, 10_000, 86_400_000
RESUME_MS = 20_000  # after a ban: so long weight is handed out by the second
EXIT_WAIT_MS = 2000  # a way out that found nothing left tries again so soon: the count may have been too high
BUSY_MS, OPENING_BUSY_MS = 400, 100
BROKEN_MS = 5000  # a database that failed is left alone so long
DEFAULT_LIMIT, DEFAULT_ORDERS_10S, DEFAULT_ORDERS_DAY = 6000, 100, 200_000
TOO_MANY_ORDERS = -1015
VERSION = 2  # of the tables; what another version counted is not worth a migration
_TABLES = """
CREATE TABLE hosts (
    host TEXT PRIMARY KEY, weight_limit INTEGER NOT NULL, minute INTEGER NOT NULL, used INTEGER NOT NULL,
    banned_at INTEGER NOT NULL, banned_until INTEGER NOT NULL, resumed_used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE orders (
    account TEXT PRIMARY KEY, limit_10s INTEGER NOT NULL, limit_day INTEGER NOT NULL, ten INTEGER NOT NULL, used_10s INTEGER NOT NULL,
    flying INTEGER NOT NULL, day INTEGER NOT NULL, used_day INTEGER NOT NULL,
    silent_at INTEGER NOT NULL, silent_until INTEGER NOT NULL
) WITHOUT ROWID;
"""
_BROKEN = (sqlite3.Error, OSError, TypeError, ValueError)  # a row of another shape is as bad as no database


class Budget:
    """One process's hand on it, for one exchange host and one account there. Not shared between threads."""

    def __init__(self, path: str | Path, host: str, wall_ms: Callable[[], int], account: str = "main"):
        self.path, self.host, self._wall_ms = Path(path), host, wall_ms
        self.account = f"{host}/{account}"
        self._db: sqlite3.Connection | None = None
        self._failed = False
        self._leave_until: int | None = None
        self._told_ban = 0, 0  # when, and until when: what this process was told itself holds for it, whatever becomes of the database

    # --- before a request ---------------------------------------------------------------

    def take(self, weight: int, priority: Priority, orders: int = 0) -> None:
        """Book `weight` of the running minute and `orders` of the account's; or RateLimited with the seconds to wait, and nothing is booked.

        BudgetSpent is the kind that more urgent requests may not meet."""
        now = self._wall_ms()
        if _holds(now, *self._told_ban):
            raise self._silence(self._told_ban[1] - now)
        if self._left_alone(now):
            return
        try:
            refused = self._take(weight, priority, orders, now)
        except _BROKEN as e:
            self._broken(e, now)
            return
        if refused is not None:
            raise refused

    def _take(self, weight: int, priority: Priority, orders: int, now: int) -> RateLimited | None:
        db = self._open()
        db.execute("BEGIN IMMEDIATE")
        try:
            refused = self._take_weight(db, weight, priority, now)
            if refused is None and orders:
                refused = self._take_orders(db, orders, priority, now)
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT" if refused is None else "ROLLBACK")
        return refused

    def _take_weight(self, db: sqlite3.Connection, weight: int, priority: Priority, now: int) -> RateLimited | None:
        limit, minute, used, banned_at, banned_until, resumed = self._row(db)
        if _holds(now, banned_at, banned_until):
            return self._silence(banned_until - now)
        if minute != now // MINUTE_MS:
            minute, used = now // MINUTE_MS, 0
        if used + weight > limit * SHARES[priority]:
            return _spent(f"this minute's request weight for {priority} is used up ({used} of {limit})", (minute + 1) * MINUTE_MS - now, priority)
        since = now - banned_until
        if 0 <= since < RESUME_MS:
            allowed = limit * RESUME_SHARES[priority] * (since + 1000) // MINUTE_MS
            if resumed + weight > allowed:
                return BudgetSpent(f"not sent: {self.host} lifted its ban just now: requests go out one after the other", 1.0)
            resumed += weight
        db.execute("UPDATE hosts SET minute=?, used=?, resumed_used=? WHERE host=?", (minute, used + weight, resumed, self.host))
        return None

    def _silence(self, left_ms: int) -> RateLimited:
        return RateLimited(f"not sent: {self.host} has banned this address for {-(-left_ms // 1000)} s more", left_ms / 1000)

    def _take_orders(self, db: sqlite3.Connection, orders: int, priority: Priority, now: int) -> RateLimited | None:
        row = self._orders(db, now)
        if _holds(now, row["silent_at"], row["silent_until"]):
            return _spent("the exchange takes no more orders of this account now", row["silent_until"] - now, priority)
        share = ORDER_SHARES[priority]
        if row["used_10s"] + row["flying"] + orders > row["limit_10s"] * share:
            text = f"the orders of these 10 s for {priority} are used up ({row['used_10s']} of {row['limit_10s']})"
            return _spent(text, (row["ten"] + 1) * TEN_SECONDS_MS - now, priority)
        if row["used_day"] + row["flying"] + orders > row["limit_day"] * share:
            text = f"this day's orders for {priority} are used up ({row['used_day']} of {row['limit_day']})"
            return _spent(text, (row["day"] + 1) * DAY_MS - now, priority)
        row["flying"] += orders
        self._keep(db, row)
        return None

    # --- after it -----------------------------------------------------------------------

    def told(self, status: int, headers: Mapping[str, str], retry_after_s: float | None = None, orders: int = 0, code: int = 0) -> None:
        """What an answer said: the weight used, the orders counted, or a ban (429 and 418 silence all of us).

        `orders`: what `take` booked for this request; `status` 0: no answer came. Too many orders (-1015)
        silence the orders of this account alone."""
        now = self._wall_ms()
        wait_ms = int(1000 * (retry_after_s if retry_after_s is not None else 60))
        banned = status in (418, 429) and code != TOO_MANY_ORDERS
        if banned:
            self._told_ban = _longer(now, *self._told_ban, wait_ms)
        if self._left_alone(now):
            return
        seen = {k.lower(): v for k, v in headers.items() if k.lower().startswith("x-mbx-")}
        try:
            db = self._open()
            if orders:
                self._told_orders(db, status, seen, wait_ms, orders, code, now)
            used = seen.get("x-mbx-used-weight-1m", "")
            if banned:
                row = self._row(db)
                db.execute("UPDATE hosts SET banned_at=?, banned_until=?, resumed_used=0 WHERE host=?", (*_longer(now, row[3], row[4], wait_ms), self.host))
            elif used.isdigit():
                # Of the minute that the answer came in; our estimates of requests still under way stay in it.
                sql = "UPDATE hosts SET used=? WHERE host=? AND minute=? AND used<?"
                db.execute(sql, (int(used), self.host, now // MINUTE_MS, int(used)))
        except _BROKEN as e:
            self._broken(e, now)

    def _told_orders(self, db: sqlite3.Connection, status: int, seen: Mapping[str, str], wait_ms: int, orders: int, code: int, now: int) -> None:
        db.execute("BEGIN IMMEDIATE")
        try:
            row = self._orders(db, now)
            row["flying"] = max(0, row["flying"] - orders)
            counted = seen.get("x-mbx-order-count-10s", ""), seen.get("x-mbx-order-count-1d", "")
            if all(c.isdigit() for c in counted):
                row["used_10s"], row["used_day"] = int(counted[0]), int(counted[1])
            elif status == 0 or status >= 500 or status == 200:  # it may have been counted there
                row["used_10s"] += orders
                row["used_day"] += orders
            if code == TOO_MANY_ORDERS:
                row["silent_at"], row["silent_until"] = _longer(now, row["silent_at"], row["silent_until"], wait_ms)
            self._keep(db, row)
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")

    def learn(self, weight_limit: int, orders_10s: int | None = None, orders_day: int | None = None) -> None:
        """The limits a minute, in 10 s and a day, as exchangeInfo's rateLimits say."""
        now = self._wall_ms()
        if self._left_alone(now):
            return
        try:
            db = self._open()
            if self._row(db)[0] != weight_limit:
                db.execute("UPDATE hosts SET weight_limit=? WHERE host=?", (weight_limit, self.host))
            row = self._orders(db, now)
            limits = orders_10s or row["limit_10s"], orders_day or row["limit_day"]
            if limits != (row["limit_10s"], row["limit_day"]):
                db.execute("UPDATE orders SET limit_10s=?, limit_day=? WHERE account=?", (*limits, self.account))
        except _BROKEN as e:
            self._broken(e, now)

    def state(self) -> dict[str, int]:
        """For the page; empty where it can't be read: `{"limit", "used" (of the running minute),
        "banned_until_wall_ms", "orders_10s", "orders_10s_limit", "orders_day", "orders_day_limit"}`."""
        now = self._wall_ms()
        if self._left_alone(now):
            return {}
        try:
            db = self._open()
            limit, minute, used, banned_at, banned_until, _ = self._row(db)
            row = self._orders(db, now)
        except _BROKEN as e:
            self._broken(e, now)
            return {}
        return {
            "limit": limit,
            "used": used if minute == now // MINUTE_MS else 0,
            "banned_until_wall_ms": banned_until if _holds(now, banned_at, banned_until) else 0,
            "orders_10s": row["used_10s"] + row["flying"],
            "orders_10s_limit": row["limit_10s"],
            "orders_day": row["used_day"] + row["flying"],
            "orders_day_limit": row["limit_day"],
        }

    # --- the database -------------------------------------------------------------------

    def _row(self, db: sqlite3.Connection) -> tuple[int, int, int, int, int, int]:
        names = "weight_limit, minute, used, banned_at, banned_until, resumed_used"
        row = db.execute(f"SELECT {names} FROM hosts WHERE host=?", (self.host,)).fetchone()  # noqa: S608 - constants only
        return (int(row[0]), int(row[1]), int(row[2]), int(row[3]), int(row[4]), int(row[5]))

    def _orders(self, db: sqlite3.Connection, now: int) -> dict[str, int]:
        """The account's row, as it stands in the windows of now."""
        names = ("limit_10s", "limit_day", "ten", "used_10s", "flying", "day", "used_day", "silent_at", "silent_until")
        found = db.execute(f"SELECT {', '.join(names)} FROM orders WHERE account=?", (self.account,)).fetchone()  # noqa: S608 - constants only
        row = dict(zip(names, map(int, found), strict=True))
        if row["ten"] != now // TEN_SECONDS_MS:
            row["ten"], row["used_10s"], row["flying"] = now // TEN_SECONDS_MS, 0, 0  # whoever died with an order under way is forgotten here
        if row["day"] != now // DAY_MS:
            row["day"], row["used_day"] = now // DAY_MS, 0
        return row

    def _keep(self, db: sqlite3.Connection, row: Mapping[str, Any]) -> None:
        sql = "UPDATE orders SET ten=:ten, used_10s=:used_10s, flying=:flying, day=:day, used_day=:used_day, "
        sql += "silent_at=:silent_at, silent_until=:silent_until WHERE account=:account"
        db.execute(sql, {**row, "account": self.account})

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            # Each statement may wait; together they must not take longer than a request may be held up.
            db = sqlite3.connect(self.path, timeout=OPENING_BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
            try:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=OFF")  # a power cut forgets the running minute at most
                if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                    _make_tables(db)
                for table, key, name, values in (
                    ("hosts", "host", self.host, (DEFAULT_LIMIT, 0, 0, 0, 0, 0)),
                    ("orders", "account", self.account, (DEFAULT_ORDERS_10S, DEFAULT_ORDERS_DAY, 0, 0, 0, 0, 0, 0, 0)),
                ):
                    if db.execute(f"SELECT 1 FROM {table} WHERE {key}=?", (name,)).fetchone() is None:  # noqa: S608 - constants only
                        marks = ", ".join("?" * (1 + len(values)))
                        db.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", (name, *values))  # noqa: S608 - constants only
                db.execute(f"PRAGMA busy_timeout={BUSY_MS}")
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    def _left_alone(self, now: int) -> bool:
        if self._db is None and not self.path.parent.is_dir():
            return True  # a home that no yard lives in yet: a look at it (utils/test_connection.py) leaves no trace
        if self._leave_until is not None and not self._leave_until - BROKEN_MS <= now < self._leave_until:
            self._leave_until = None
        return self._leave_until is not None

    def _broken(self, e: Exception, now: int) -> None:
        if not self._failed:
            log.warning(
                "⚠️ The shared request budget %s can't be used (%s): this process counts on the exchange's own refusals. "
                "Free the disk; a damaged file is begun anew",
                self.path,
                e,
            )
        self._failed = True
        self._leave_until = now + BROKEN_MS
        self.close()
        if type(e) is sqlite3.DatabaseError:  # damaged, or none: everybody who has it open finds that out, too
            for name in (self.path, Path(f"{self.path}-wal"), Path(f"{self.path}-shm")):
                with contextlib.suppress(OSError):
                    name.unlink(missing_ok=True)

    def close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()


def _make_tables(db: sqlite3.Connection) -> None:
    """Tables of this version; one process of all that begin at once makes them."""
    db.execute("BEGIN IMMEDIATE")
    try:
        if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            for table in ("hosts", "orders"):
                db.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in _TABLES.split(";")[:2]:
                db.execute(statement)
            db.execute(f"PRAGMA user_version={VERSION}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _holds(now: int, told_at: int, until: int) -> bool:
    """A silence holds from when it was told. A clock that was set back to before that makes none of an old one."""
    return told_at <= now < until


def _longer(now: int, told_at: int, until: int, wait_ms: int) -> tuple[int, int]:
    """A silence told now, or the longer one that holds already."""
    return (told_at, until) if _holds(now, told_at, until) and until > now + wait_ms else (now, now + wait_ms)


def _spent(why: str, wait_ms: int, priority: Priority) -> BudgetSpent:
    return BudgetSpent(f"not sent: {why}", (min(wait_ms, EXIT_WAIT_MS) if priority == "exit" else wait_ms) / 1000)


def host_of(url: str) -> str:
    """The host (and port) whose requests are counted together."""
    return urlsplit(url).netloc or url
