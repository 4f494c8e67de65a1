"""Filling the store with what an exchange has: backwards from now, resuming by what is there already. Owns no file.

There is no note of how far a backfill came: what is missing is asked for, what is stored is
not. Each page goes to the store in one transaction, together with the candles that the
exchange turned out not to have, so that a kill at any moment costs one page of work and the
next start goes on from there. Several processes may fill one series: they fetch some pages
twice and store each once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from core.errors import NotFound, RateLimited, Unavailable
from core.exchange import Exchange
from core.market import chunks, timeframes
from core.market.history import CandleStore
from core.market.holes import Hole, Missing, count
from core.market.timeframes import DAY, HOUR
from core.model import KlineRow

T = TypeVar("T")

PAGE = 1000  # candles a request (Binance: GET /api/v3/klines, limit, at most 1000)
NOT_THERE = "the exchange answered without it, but has later ones"
AGAIN_AFTER_MS = HOUR  # a candle that was less than a day old when it was found missing is asked for again
# Between two requests of a real exchange: 900 a minute, of weight 2, are half of what the page's share
# of the budget allows (core/account/budget.py), so that a backfill doesn't starve the page.
PACE_S = 60 / 900
TRIES = 8  # of a request that fails for now, with pauses that grow
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


@dataclass(slots=True)
class Task:
    """One series and what is to be asked for. `first_ms` to before `end_ms` is what both the exchange has and the caller wants."""

    symbol: str
    timeframe: str
    first_ms: int
    end_ms: int
    unknown: list[Missing]
    to_fetch: int
    now_ms: int  # market time when it was planned
    fetched: int = 0
    stored: int = 0
    lacking: int = 0
    requests: int = 0


class Backfill:
    """`tell(task)` is called after each page; `waits(seconds, why)` before each pause that the exchange asks for."""

    def __init__(
        self,
        exchange: Exchange,
        store: CandleStore,
        *,
        sleep: Callable[[float], None] = time.sleep,
        tell: Callable[[Task], None] = lambda task: None,
        waits: Callable[[float, str], None] = lambda seconds, why: None,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        self._exchange, self._store, self._sleep, self._tell, self._waits = exchange, store, sleep, tell, waits
        self._monotonic, self._pace = monotonic, PACE_S
        self.requests = 0

    def plan(self, symbol: str, timeframe: str, from_ms: int | None = None, to_ms: int | None = None, recheck: bool = False) -> Task:
        """What is missing of one series. Asks the exchange for its clock, its first and its last candle. NotFound where it has none.

        `recheck`: ask again for what it did not have before."""
        now = self.now_ms()
        first = self._rows(symbol, timeframe, 1, 0)
        latest = self._rows(symbol, timeframe, 2, None)  # the last closed one and the open one
        closed = [row for row in latest if int(row[6]) < now]
        if not first or not closed:
            raise NotFound(f"{self._exchange.venue.exchange} has no closed {timeframe} candle of {symbol}")
        start = max(int(first[0][0]), timeframes.ceil(from_ms, timeframe) if from_ms is not None else 0)
        end = timeframes.next_open(int(closed[-1][0]), timeframe)
        end = min(end, timeframes.ceil(to_ms, timeframe)) if to_ms is not None else end
        gaps = self._store.gaps(self._exchange.venue, symbol, timeframe, start, end) if start < end else []
        unknown = [gap for gap in gaps if recheck or gap.reason is None or _young(gap, now)]
        return Task(symbol, timeframe, start, end, unknown, sum(gap.missing for gap in unknown), now)

    def now_ms(self) -> int:
        """Market time. A paper exchange that is quicker or stands still allows as many more requests, or any number."""
        reading = self._asked(self._exchange.time)
        self._pace = PACE_S / max(1.0, reading.speed) if reading.speed else 0.0
        return reading.market_ms

    def run(self, task: Task) -> None:
        """Fetch what is missing, the newest first. Raises Unavailable after eight failures in a row, and what the exchange refuses for good."""
        for first, last in pages(task.unknown, task.timeframe):
            began, number = self._monotonic(), count(first, last, task.timeframe)
            rows = self._page(task, number, first, last)
            if len(rows) < number:  # an answer may be cut short by an exchange that is unwell: what two of them lack is believed
                rows = list({int(row[0]): row for row in (*rows, *self._page(task, number, first, last))}.values())
            lacking = missing(rows, first, last, task.timeframe, task.now_ms)
            self._store.fill(self._exchange.venue, task.symbol, task.timeframe, rows, task.now_ms, lacking)
            task.fetched += number
            task.stored += len(rows)
            task.lacking += number - len(rows)
            task.requests = self.requests
            self._tell(task)
            left = self._pace - (self._monotonic() - began)
            if left > 0:
                self._sleep(left)

    def _page(self, task: Task, number: int, first: int, last: int) -> list[KlineRow]:
        return [row for row in self._rows(task.symbol, task.timeframe, number, first) if first <= int(row[0]) <= last]

    def _rows(self, symbol: str, timeframe: str, limit: int, start_ms: int | None) -> Sequence[KlineRow]:
        return self._asked(lambda: self._exchange.candles(symbol, timeframe, limit, start_ms).rows)

    def _asked(self, ask: Callable[[], T]) -> T:
        """Its answer, once the exchange gives one. A rate limit or a ban is waited out, however long it takes."""
        pause, failures = FIRST_PAUSE_S, 0
        while True:
            try:
                self.requests += 1
                return ask()
            except RateLimited as e:
                seconds = max(e.retry_after_s, FIRST_PAUSE_S)
                self._waits(seconds, str(e))
                self._sleep(seconds)
            except Unavailable as e:
                failures += 1
                if failures >= TRIES:
                    raise
                self._waits(pause, str(e))
                self._sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)


def pages(gaps: Sequence[Missing], timeframe: str) -> Iterator[tuple[int, int]]:
    """Open times of the first and last candle of each request, the newest first; none goes beyond one of the store's chunks."""
    for gap in sorted(gaps, reverse=True):
        last = gap.last_ms
        while last >= gap.first_ms:
            start = chunks.start_of(last, timeframe)
            first = max(gap.first_ms, timeframes.back(last, timeframe, PAGE - 1) if start is None else start)
            yield first, last
            last = timeframes.back(first, timeframe, 1)


def missing(rows: Sequence[KlineRow], first_ms: int, last_ms: int, timeframe: str, now_ms: int) -> list[Hole]:
    """The candles from `first_ms` to `last_ms` that an answer lacks."""
    made, at = [], first_ms
    for ms in (*sorted(int(row[0]) for row in rows), timeframes.next_open(last_ms, timeframe)):
        if ms > at:
            made.append(Hole(at, timeframes.back(ms, timeframe, 1), NOT_THERE, now_ms))
        at = timeframes.next_open(ms, timeframe)
    return made


def _young(gap: Missing, now_ms: int) -> bool:
    return gap.asked_ms is not None and gap.asked_ms - gap.last_ms < DAY and now_ms - gap.asked_ms >= AGAIN_AFTER_MS
