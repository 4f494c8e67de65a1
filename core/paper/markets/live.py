"""The real market's prices for paper orders: what Binance's public endpoints say, looked up as it is asked for.

Nothing is known of the future here, and the past between two looks is not either: a price
is the last one seen, and the path is the prices seen, at the wall times they were seen.
For the time before the first look (the server was down) closed 1m candles lay it out.
Answers are kept for a moment, so that fifty bots don't ask fifty times. Owns no files.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, Protocol, TypeVar

from core.clock import wall_ms
from core.config import Settings
from core.errors import ExchangeError, Refused, Unavailable
from core.market import listings, path, timeframes
from core.market.timeframes import HOUR, MINUTE
from core.paper.markets import Print

PRICE_MS = 1_000  # how long an answer counts as fresh
KLINES_MS = 2_000
INFO_MS = HOUR
_SEEN_MOST = 50_000  # prices kept a symbol; half a day at one a second
T = TypeVar("T")


class Fetcher(Protocol):
    """Binance's public endpoints; `core.binance_client.PublicClient(settings)` is one. Raises ExchangeErrors."""

    def fetch_klines(self, symbol: str, interval: str, start: int | None, end: int | None, limit: int) -> list[list[Any]]: ...

    def fetch_price(self, symbol: str) -> Any: ...

    def fetch_exchange_info(self) -> dict[str, Any]: ...


class LiveMarket:
    """Market over a fetcher. Whatever can't be reached raises Unavailable; nothing is made up instead."""

    source = "binance"

    def __init__(self, fetcher: Fetcher, now: Callable[[], int] = wall_ms) -> None:
        self.end_ms: int | None = None
        self._fetcher, self._now = fetcher, now
        self.first_ms = now()
        self._entries: dict[str, dict[str, Any]] = {}
        self._info_at: int | None = None
        self._seen: dict[str, tuple[list[int], list[Decimal]]] = {}
        self._klines: dict[tuple[Any, ...], tuple[int, list[list[Any]]]] = {}

    @classmethod
    def from_settings(cls, settings: Settings) -> LiveMarket:
        from core.binance_client import PublicClient

        return cls(PublicClient(settings))

    def symbols(self) -> list[dict[str, Any]]:
        return list(self._info().values())

    def symbol(self, name: str) -> dict[str, Any] | None:
        return self._info().get(name)

    def listed(self, name: str, ms: int) -> bool:
        return name in self._info()

    def halted(self, symbol: str, ms: int) -> bool:
        entry = self._info().get(symbol)
        return entry is not None and entry["status"] != "TRADING"

    def klines(self, symbol: str, interval: str, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int) -> list[list[Any]]:
        timeframes.known(interval)
        if limit < 1 or symbol not in self._info():
            return []
        asked = (symbol, interval, start_ms, end_ms, limit)
        now = self._now()
        at, rows = self._klines.get(asked, (None, []))
        if at is None or now - at >= KLINES_MS:
            rows = self._asked(lambda: self._fetcher.fetch_klines(*asked))
            self._klines = {k: v for k, v in self._klines.items() if now - v[0] < KLINES_MS}
            self._klines[asked] = now, rows
        return [list(row) for row in rows if int(row[0]) <= now_ms]

    def price(self, symbol: str, ms: int) -> Decimal | None:
        if symbol not in self._info():
            return None
        times, prices = self._look(symbol, ms)
        i = bisect_right(times, ms)
        if i:
            return prices[i - 1]
        candle = self.candle(symbol, ms)  # before the first look
        return None if candle is None else path.price(candle, ms)

    def candle(self, symbol: str, ms: int) -> tuple[int, int, Decimal, Decimal, Decimal, Decimal] | None:
        opened = timeframes.floor(ms, "1m")
        rows = self.klines(symbol, "1m", opened, opened, 1, ms)
        if not rows:
            return None
        o, h, low, c = (Decimal(str(p)) for p in rows[0][1:5])
        return opened, opened + MINUTE - 1, o, h, low, c

    def prints(self, symbol: str, after_ms: int, until_ms: int) -> Iterator[Print]:
        if symbol not in self._info():
            return
        times, prices = self._look(symbol, until_ms)
        first = times[0] if times else until_ms + 1
        if after_ms < first - 1:
            yield from self._missed(symbol, after_ms, min(first - 1, until_ms))
        for i in range(bisect_right(times, after_ms), bisect_right(times, until_ms)):
            yield Print(times[i], prices[i], False)

    def reach(self, symbol: str, after_ms: int, until_ms: int, below: Decimal | None, above: Decimal | None) -> tuple[Decimal, Print] | None:
        came: Decimal | None = None
        for said in self.prints(symbol, after_ms, until_ms):
            if came is None:
                before = bisect_right(self._seen[symbol][0], after_ms)
                came = self._seen[symbol][1][before - 1] if before else said.price
            if (below is not None and path.reached("below", below, came, said.price, said.opens) is not None) or (
                above is not None and path.reached("above", above, came, said.price, said.opens) is not None
            ):
                return came, said
            came = said.price
        return None

    # -- inside -------------------------------------------------------------------

    def _missed(self, symbol: str, after_ms: int, until_ms: int) -> Iterator[Print]:
        """The path of closed 1m candles; the minute in which looking began is left to what was seen in it."""
        start = timeframes.floor(after_ms, "1m")
        while start <= until_ms:
            rows = self.klines(symbol, "1m", start, until_ms, 1000, until_ms)
            for row in rows:
                opened = int(row[0])
                if opened + MINUTE - 1 > until_ms:
                    return
                for i, (ms, price) in enumerate(path.prints(opened, MINUTE, *(Decimal(str(p)) for p in row[1:5]))):
                    if after_ms < ms <= until_ms:
                        yield Print(ms, price, i == 0)
            if not rows:
                return
            start = int(rows[-1][0]) + MINUTE

    def _look(self, symbol: str, ms: int) -> tuple[list[int], list[Decimal]]:
        """What has been seen, with a fresh look where `ms` is later than the last by PRICE_MS."""
        times, prices = self._seen.setdefault(symbol, ([], []))
        now = self._now()
        if not times or (ms - times[-1] >= PRICE_MS and now - times[-1] >= PRICE_MS):
            price = Decimal(str(self._asked(lambda: self._fetcher.fetch_price(symbol))))
            times.append(now)
            prices.append(price)
            if len(times) > _SEEN_MOST:
                del times[: _SEEN_MOST // 2], prices[: _SEEN_MOST // 2]
        return times, prices

    def _info(self) -> dict[str, dict[str, Any]]:
        now = self._now()
        if self._info_at is None or now - self._info_at >= INFO_MS:
            try:
                told = self._asked(self._fetcher.fetch_exchange_info)
            except Unavailable:
                if self._info_at is None:
                    raise
                return self._entries  # symbols seldom change: yesterday's list is better than none
            self._entries = {s["symbol"]: _offered(s) for s in told["symbols"]}
            self._info_at = now
        return self._entries

    def _asked(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except (Unavailable, Refused):
            raise
        except (ExchangeError, OSError) as e:
            raise Unavailable(f"Binance's public data can't be had ({e}); PAPER_MARKET=binance needs the network, synthetic and replay don't") from e


def _offered(real: dict[str, Any]) -> dict[str, Any]:
    """A real symbol's entry, cut down to what the paper exchange's engine can do; filters are the real ones."""
    ours = listings.entry(listings.figures_from_data("", "", "", Decimal(1), Decimal(1)))
    kept = {k for k, v in ours.items() if v is False and k.endswith(("Allowed", "TrailingStop"))}
    told = {key: value if key in kept else real.get(key, value) for key, value in ours.items()}
    told["orderTypes"] = [kind for kind in told["orderTypes"] if kind in ours["orderTypes"]]
    return told
