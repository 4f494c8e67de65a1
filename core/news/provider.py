"""The named series `news`: what is known of a coin's news at a check. Touches data/news.db.

The work (fetching, rating) is done by a thread; a check waits for it `wait_s` at most and
takes what is known by then. What comes later serves the next check. Nothing here raises:
what failed is said in the note, and a strategy goes on without.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from core.config import Settings
from core.errors import NewsError
from core.model import SeriesValue
from core.news import articles
from core.news.budget import Limits, price_of
from core.news.sentiment import Rater
from core.news.store import NAME, Claim, Store
from core.storage import Files


class News:
    """`at` gives `{"coin", "wall_ms", "articles": [...]}`, None where nothing is known.

    An article is `{"id", "host", "source", "title", "score", "relevance", "reason",
    "published_wall_ms", "known_wall_ms"}`; it was known to the yard from `known_wall_ms`,
    and to this bot from the value's `known_ms`. `url` is another address of the API.
    """

    def __init__(
        self,
        settings: Settings,
        files: Files,
        coin: str,
        *,
        market_ms: Callable[[], int],
        wall_ms: Callable[[], int],
        url: str = articles.URL,
        limits: Limits | None = None,
    ):
        self.coin, self.url, self.limits = coin.upper(), url, limits or Limits()
        self.market_ms, self.wall_ms = market_ms, wall_ms
        self._path = files.path(NAME)
        self._key = settings.cryptonews_api_key.reveal()
        self._rater: Rater | None = None
        self._price = price_of(settings.openai_model, settings.openai_base_url)
        self._missing = [name for name, there in (("CRYPTONEWS_API_KEY", self._key), ("OPENAI_API_KEY", model_ready(settings))) if not there]
        if not self._missing:
            self._rater = Rater(settings.openai_api_key.reveal(), settings.openai_base_url, settings.openai_model)
        self._worker: threading.Thread | None = None
        self._begun = 0.0
        self._latest: tuple[int, SeriesValue] | None = None  # wall time at which it was put together
        self._problem = ""
        self._closed = False

    def at(self, market_ms: int) -> SeriesValue:
        """What is known at a check that began at `market_ms`."""
        if self._rater is None:
            return SeriesValue(None, market_ms, f"{' and '.join(self._missing)} {'are' if len(self._missing) > 1 else 'is'} not set")
        if self._worker is None or not self._worker.is_alive() or time.monotonic() - self._begun > 4 * self.limits.work_s:
            # One that hangs for so long is left to itself: it can only write what is right.
            self._begun = time.monotonic()
            self._worker = threading.Thread(target=self._work, args=(self._rater,), name="news", daemon=True)
            self._worker.start()
        self._worker.join(self.limits.wait_s)
        latest, now = self._latest, self.wall_ms()
        if latest is None or not 0 <= now - latest[0] <= self.limits.stale_ms:
            late = "no answer yet" if self._worker.is_alive() else "nothing is known"
            return SeriesValue(None, self.market_ms(), self._problem or late)
        return SeriesValue(latest[1].value, self.market_ms(), latest[1].note)

    def close(self) -> None:
        """The thread ends by itself after what it does now; it is never waited for."""
        self._closed = True

    # --- in the thread ----------------------------------------------------------------------

    def _work(self, rater: Rater) -> None:
        try:
            store = Store(self._path, self.limits)
            try:
                self._publish(store)
                self._fetch(store)
                self._publish(store)
                self._rate(store, rater)
                self._publish(store)
            finally:
                store.close()
        except (sqlite3.Error, OSError) as e:
            self._failed(f"{NAME} can't be used ({type(e).__name__}); if it stays so, stop the bots and move it away")
        except Exception as e:  # noqa: BLE001 - a thread's error would be lost, and a text of a library's may quote a key
            self._failed(f"the news failed ({type(e).__name__})")

    def _failed(self, problem: str) -> None:
        """What was known before stands until it is too old."""
        self._problem = problem
        if self._latest is not None:
            self._latest = (self._latest[0], replace(self._latest[1], note=problem))

    def _fetch(self, store: Store) -> None:
        now = self.wall_ms()
        allowed = store.may_fetch(self.coin, now)
        if allowed != "":
            return
        what = f"news:{self.coin}"
        try:
            found = articles.fetch(self.url, self._key, self.coin, self.limits.items, self.limits.fetch_s)
        except NewsError as e:
            store.pause(what, self.wall_ms() + self._pause(e), str(e))
            return
        store.keep(self.coin, found, self.wall_ms())

    def _rate(self, store: Store, rater: Rater) -> None:
        until = time.monotonic() + self.limits.work_s
        while not self._closed and time.monotonic() < until:
            now = self.wall_ms()
            if not store.service("model", now)[0]:
                return
            claim = store.claim(self.coin, self._price, now)
            if not isinstance(claim, Claim):
                if claim is not None:
                    store.pause("model", now + self.limits.pause_ms, claim)
                return
            try:
                rating = rater.rate(claim.article, self.coin, self.limits.rate_s)
            except NewsError as e:
                if e.kind == "answer":
                    store.unusable(self.coin, claim)
                    continue
                failed = store.turned_away if e.kind in ("key", "limit") else store.unanswered
                failed(self.coin, claim, self.wall_ms() + self._pause(e), str(e))
                return
            store.rated(self.coin, self._price, claim, rating, self.wall_ms())
            self._publish(store)

    def _pause(self, e: NewsError) -> int:
        if e.kind == "key":
            return self.limits.key_pause_ms
        return max(int(e.retry_after_s * 1000), self.limits.pause_ms)

    def _publish(self, store: Store) -> None:
        """What stands in the store now, for the check that waits or the next one."""
        now = self.wall_ms()
        _, fetched, problem = store.service(f"news:{self.coin}", now)
        known = store.known(self.coin, now)
        waiting, refused = store.waiting(self.coin, now)
        _, _, model_problem = store.service("model", now)
        notes = [problem] if problem else []
        if waiting:
            notes.append(f"{waiting} not rated yet" + (f": {model_problem}" if model_problem else ""))
        if refused:
            notes.append(f"{refused} left out, their ratings were no use")
        note = "; ".join(notes)
        self._problem = note
        if now - fetched > self.limits.stale_ms or (not known and (waiting or refused)):
            self._latest = (now, SeriesValue(None, 0, note or "nothing is known"))
            return
        value: dict[str, Any] = {"coin": self.coin, "wall_ms": now, "articles": known}
        self._latest = (now, SeriesValue(value, 0, note))


def model_ready(settings: Settings) -> bool:
    """OpenAI's own service needs a key; a server of one's own may need none."""
    return bool(settings.openai_api_key) or bool(settings.openai_base_url)
