"""What a bot asks of the market: closed candles (shared with the other bots) and the price."""

from __future__ import annotations

import logging
import sqlite3
from decimal import Decimal

from core.clock import Clock
from core.errors import Unavailable
from core.exchange import Exchange
from core.market.history import CandleStore
from core.model import KlineRow, plain

log = logging.getLogger("botyard")

MOST_ROWS = 1000  # what one request for candles may bring


class Feed:
    """`last_price` is the last one asked for, quote asset; None before the first."""

    def __init__(self, exchange: Exchange, clock: Clock, store: CandleStore | None):
        self.exchange, self.clock, self.store = exchange, clock, store
        self.last_price: Decimal | None = None

    def price(self, symbol: str) -> Decimal:
        price = self.exchange.price(symbol)
        if price <= 0:
            raise Unavailable(f"the exchange tells a price of {plain(price)} for {symbol}")
        self.last_price = price
        return price

    def closed_candles(self, symbol: str, timeframe: str, needed: int) -> list[KlineRow]:
        """The last `needed` candles that are closed now (fewer where there are fewer), oldest first.

        The store is asked first: another bot may have fetched them. A store that is busy or
        broken costs a request, never a check."""
        now = self.clock.market_ms()
        if self.store is not None:
            try:
                stored = self.store.closed(self.exchange.venue, symbol, timeframe, needed, now)
                if stored is not None:
                    return stored
            except sqlite3.Error as e:
                log.debug("the candle store can't be read: %s", e)
        found = self.exchange.candles(symbol, timeframe, min(needed + 1, MOST_ROWS))
        rows = list(found.closed_before(now).last(needed).rows)
        if self.store is not None:
            try:
                self.store.save(self.exchange.venue, symbol, timeframe, rows, now)
            except (sqlite3.Error, OSError) as e:
                log.debug("the candle store can't be written: %s", e)
        return rows
