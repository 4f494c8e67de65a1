"""What a bot asks of the market: closed candles (shared with the other bots) and the price."""

from __future__ import annotations

import logging
import sqlite3
from decimal import Decimal

from core.clock import Clock
from core.errors import Unavailable
from core.exchange import Exchange
from core.market.history import CandleStore
from core.model import KlineRow

log = logging.getLogger("botyard")

MOST_ROWS = 1000  # what one request for candles may bring


class Feed:
    """`last_price` is the last one asked for, quote asset; None before the first."""

    def __init__(self, exchange: Exchange, clock: Clock, store: CandleStore | None):
        self.exchange, self.clock, self.store = exchange, clock, store
        self.last_price: Decimal | None = None
        self.last_wall = 0  # wall ms at which it was told

    def price(self, symbol: str) -> Decimal:
        price = self.exchange.price(symbol)
        if not price.is_finite() or price <= 0:
            raise Unavailable(f"the exchange tells a price of {price} for {symbol}")
        self.last_price, self.last_wall = price, self.clock.wall_ms()
        return price

    def closed_candles(self, symbol: str, timeframe: str, needed: int) -> list[KlineRow]:
        """The last `needed` candles that are closed now (fewer where there are fewer), oldest first.

        The store is asked first: another bot may have fetched them. A store that is busy or
        broken costs a request, never a check."""
        stored = self._stored(symbol, timeframe, needed)
        if stored is not None:
            return stored
        with self.exchange.turn(f"candles {symbol} {timeframe}") as waited:
            if waited:
                stored = self._stored(symbol, timeframe, needed)
            return stored if stored is not None else self._fetched(symbol, timeframe, needed)

    def _stored(self, symbol: str, timeframe: str, needed: int) -> list[KlineRow] | None:
        if self.store is not None:
            try:
                return self.store.closed(self.exchange.venue, symbol, timeframe, needed, self.clock.market_ms())
            except sqlite3.Error as e:
                log.debug("the candle store can't be read: %s", e)
        return None

    def _fetched(self, symbol: str, timeframe: str, needed: int) -> list[KlineRow]:
        now = self.clock.market_ms()
        found = self.exchange.candles(symbol, timeframe, min(needed + 1, MOST_ROWS))
        rows = list(found.closed_before(now).last(needed).rows)
        if self.store is not None:
            try:
                self.store.save(self.exchange.venue, symbol, timeframe, rows, now)
            except (sqlite3.Error, OSError) as e:
                log.debug("the candle store can't be written: %s", e)
        return rows
