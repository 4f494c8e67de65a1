"""data/news.db: articles and their ratings, when each service may be asked again, the budget.

Every change is one short transaction that takes the write lock first: two bots never have
one article rated, and a kill at any moment leaves a whole database. A database that can't
be read is not begun anew (the day's budget is in it): news then count as missing, and the
note says what to do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from core.news.articles import Article
from core.news.budget import Budget, Limits, Price, cost, highest_cost
from core.news.sentiment import Rating, longest_bytes

NAME = "data/news.db"
BUSY_S = 1.0
_TABLES = (
    """CREATE TABLE IF NOT EXISTS articles (
        coin TEXT, id TEXT, host TEXT NOT NULL, title TEXT NOT NULL, source TEXT NOT NULL, text TEXT NOT NULL,
        published_wall_ms INTEGER NOT NULL, seen_wall_ms INTEGER NOT NULL,
        score REAL, relevance REAL, reason TEXT, known_wall_ms INTEGER,
        attempts INTEGER NOT NULL DEFAULT 0, claimed_wall_ms INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (coin, id)) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS services (what TEXT PRIMARY KEY, next_wall_ms INTEGER NOT NULL, ok_wall_ms INTEGER NOT NULL, problem TEXT NOT NULL)",
    Budget.TABLE,
)


class Claim:
    """An article that this process may have rated now, and what was reserved for it."""

    def __init__(self, article: Article, reserved: Decimal, wall_ms: int):
        self.article, self.reserved, self.wall_ms = article, reserved, wall_ms


class Store:
    """One connection, for the thread that opened it. Raises sqlite3.Error."""

    def __init__(self, path: Path, limits: Limits):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.limits = limits
        self.db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.execute("PRAGMA synchronous=FULL")
            for table in _TABLES:
                self.db.execute(table)
        except BaseException:
            self.db.close()
            raise
        self.budget = Budget(self.db, limits)

    def close(self) -> None:
        self.db.close()

    @contextmanager
    def _change(self) -> Iterator[None]:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            self.db.execute("ROLLBACK")
            raise

    # --- services: "model", and "news:COIN" for each coin ------------------------------------

    def service(self, what: str, now: int) -> tuple[bool, int, str]:
        """(may it be asked now, when it last answered well (0: never), its problem).

        A time far ahead is a clock's that has run back since: it doesn't count."""
        row = self.db.execute("SELECT next_wall_ms, ok_wall_ms, problem FROM services WHERE what=?", (what,)).fetchone()
        if row is None:
            return True, 0, ""
        return now >= row[0] or row[0] > now + 2 * 3_600_000, min(int(row[1]), now), str(row[2])

    def may_fetch(self, coin: str, now: int) -> str | None:
        """None: another bot has asked, or it is too early. '': ask now, it is counted. Else the limit in words."""
        what = f"news:{coin}"
        with self._change():
            if not self.service(what, now)[0]:
                return None
            problem = self.budget.reserve("news", Decimal(0), now)
            self._service(what, now + (self.limits.pause_ms if problem else self.limits.refresh_ms), None, problem)
        return problem

    def pause(self, what: str, until: int, problem: str) -> None:
        with self._change():
            self._service(what, until, None, problem)

    def _service(self, what: str, next_ms: int, ok_ms: int | None, problem: str) -> None:
        self.db.execute(
            "INSERT INTO services VALUES (?, ?, ?, ?) ON CONFLICT (what) DO UPDATE SET next_wall_ms = excluded.next_wall_ms, "
            "ok_wall_ms = CASE WHEN ? THEN excluded.ok_wall_ms ELSE ok_wall_ms END, problem = excluded.problem",
            (what, next_ms, ok_ms or 0, problem, ok_ms is not None),
        )

    # --- articles ------------------------------------------------------------------------------

    def keep(self, coin: str, found: list[Article], now: int) -> None:
        """What was fetched. A date in the future counts as now: nobody's news stay young for ever."""
        with self._change():
            self._service(f"news:{coin}", now + self.limits.refresh_ms, now, "")
            self.db.execute("DELETE FROM articles WHERE seen_wall_ms < ?", (now - self.limits.keep_ms,))
            self.db.executemany(
                "INSERT OR IGNORE INTO articles (coin, id, host, title, source, text, published_wall_ms, seen_wall_ms) VALUES (?,?,?,?,?,?,?,?)",
                [
                    (coin, a.id, a.host, a.title, a.source, a.text, min(a.published_wall_ms, now), now)
                    for a in found
                    if a.published_wall_ms > now - self.limits.age_ms
                ],
            )

    def claim(self, coin: str, price: Price, now: int) -> Claim | str | None:
        """The newest article still to be rated, counted and reserved; None: there is none; text: the limit."""
        with self._change():
            row = self.db.execute(
                "SELECT id, host, title, source, text, published_wall_ms FROM articles WHERE coin=? AND known_wall_ms IS NULL AND attempts < ? "
                "AND claimed_wall_ms <= ? AND published_wall_ms > ? ORDER BY published_wall_ms DESC, id LIMIT 1",
                (coin, self.limits.attempts, now - self.limits.claim_ms, now - self.limits.age_ms),
            ).fetchone()
            if row is None:
                return None
            article = Article(*row)
            most = highest_cost(price, longest_bytes(article, coin))
            problem = self.budget.reserve("model", most, now)
            if problem:
                return problem
            self.db.execute("UPDATE articles SET claimed_wall_ms=?, attempts=attempts+1 WHERE coin=? AND id=?", (now, coin, article.id))
        return Claim(article, most, now)

    def rated(self, coin: str, price: Price, claim: Claim, rating: Rating, now: int) -> None:
        with self._change():
            self.db.execute(
                "UPDATE articles SET score=?, relevance=?, reason=?, known_wall_ms=?, text='' WHERE coin=? AND id=?",
                (rating.score, rating.relevance, rating.reason, now, coin, claim.article.id),
            )
            if rating.tokens_in is not None and rating.tokens_out is not None:
                self.budget.settle("model", claim.reserved, cost(price, rating.tokens_in, rating.tokens_out), claim.wall_ms)
            self._service("model", 0, now, "")

    def turned_away(self, coin: str, claim: Claim, until: int, problem: str) -> None:
        """The service did no work (a limit, a key): the article is as it was, the call cost nothing."""
        with self._change():
            self.db.execute("UPDATE articles SET claimed_wall_ms=0, attempts=attempts-1 WHERE coin=? AND id=?", (coin, claim.article.id))
            self.budget.give_back("model", claim.reserved, claim.wall_ms)
            self._service("model", until, None, problem)

    def unanswered(self, coin: str, claim: Claim, until: int, problem: str) -> None:
        """No answer: it may have cost. The article is asked for again, a few times."""
        with self._change():
            self.db.execute("UPDATE articles SET claimed_wall_ms=0 WHERE coin=? AND id=?", (coin, claim.article.id))
            self._service("model", until, None, problem)

    def unusable(self, coin: str, claim: Claim) -> None:
        """An answer that can't be used: the article is not asked about again."""
        with self._change():
            self.db.execute("UPDATE articles SET attempts=?, text='' WHERE coin=? AND id=?", (self.limits.attempts, coin, claim.article.id))

    def known(self, coin: str, now: int) -> list[dict[str, Any]]:
        """Rated articles that are young enough, the newest first."""
        rows = self.db.execute(
            "SELECT id, host, source, title, score, relevance, reason, published_wall_ms, known_wall_ms FROM articles "
            "WHERE coin=? AND known_wall_ms IS NOT NULL AND published_wall_ms > ? ORDER BY published_wall_ms DESC, id LIMIT ?",
            (coin, now - self.limits.age_ms, self.limits.shown),
        ).fetchall()
        names = ("id", "host", "source", "title", "score", "relevance", "reason", "published_wall_ms", "known_wall_ms")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def waiting(self, coin: str, now: int) -> tuple[int, int]:
        """(articles not rated yet, articles whose rating was no use)."""
        row = self.db.execute(
            "SELECT COALESCE(SUM(attempts < ?), 0), COALESCE(SUM(attempts >= ?), 0) FROM articles "
            "WHERE coin=? AND known_wall_ms IS NULL AND published_wall_ms > ?",
            (self.limits.attempts, self.limits.attempts, coin, now - self.limits.age_ms),
        ).fetchone()
        return int(row[0]), int(row[1])
