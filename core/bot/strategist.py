"""Asks a bot's strategy: what it may see goes in, a decision comes out.

A strategy that fails is a hold with its name on it, never an exception of the loop.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal, localcontext

from core.account.equity import Equity, equity
from core.account.pots import BY_EQUITY
from core.bot import decisions, series
from core.bot.setup import Setup
from core.bot.teller import Teller
from core.clock import Clock
from core.config import Settings
from core.errors import ExchangeError, RateLimited, StrategyError, Unavailable
from core.exchange import Exchange
from core.model import ZERO, Candles, Decision, KlineRow, Position, Symbol
from core.storage import Files
from strategies.base import MarketView, Strategy

log = logging.getLogger("botyard")

TRIES = 3  # of a check, to be told the account's equity


class Strategist:
    """`providers` are the named series that the strategy declared; empty where it needs none."""

    def __init__(self, strategy: Strategy, exchange: Exchange, clock: Clock, teller: Teller):
        self.strategy, self.exchange, self.clock, self.teller = strategy, exchange, clock, teller
        self.files = teller.files
        self._tries = 0
        self.providers: dict[str, series.Provider] = {}

    def open(self, settings: Settings, files: Files, symbol: Symbol, openers: Mapping[str, series.Opener]) -> None:
        """Open the series that the strategy declares; those of an earlier try are closed."""
        for provider in self.providers.values():
            provider.close()
        self.providers = series.open_all(self.strategy.needs, settings, files, symbol, self.clock, openers)

    def ask(self, config: Setup, symbol: Symbol, position: Position, rows: list[KlineRow], fresh: bool, price: Decimal) -> Decision:
        """`rows`: closed candles, oldest first; `fresh`: the last of them was not decided on yet."""
        strategy = self.strategy
        if not fresh:
            return Decision(reasoning="no new closed candle since the last check", why_not="no new closed candle since the last check")
        ready = strategy.ready(config.kline_limit)
        if len(rows) < ready:
            return Decision(reasoning=f"warming up: {len(rows)} of {ready} closed candles", why_not="the strategy needs more closed candles")
        known = series.read(self.providers, self.clock.market_ms())
        inputs = series.as_inputs(known)
        try:
            with localcontext():  # whatever precision a strategy sets, money is not counted in it
                if strategy.manages_position:
                    view = replace(self._view(config, symbol, rows, price), series=known, room=decisions.room(config.plan, position))
                    return replace(strategy.decide(view, position), inputs=inputs)
                answer = strategy.analyze_with(rows[-strategy.candles_needed(config.kline_limit) :], known)
        except StrategyError as e:
            self.teller.warn("strategy", str(e), config, symbol)
            return Decision(reasoning=str(e), why_not="the strategy failed", inputs=inputs)
        self.teller.status.clear("strategy")
        signal = str(answer["signal"])
        free = self._free_quote(symbol) if signal == "BUY" and position.direction is None else None
        worth = Equity(None)
        if free is not None and config.plan.sizing in BY_EQUITY:
            worth = self._equity(symbol.quote)
        said = str(answer.get("reasoning", ""))
        found = decisions.check(signal, said, config.plan, position, symbol, price, free, worth.value, worth.why)
        return replace(found, inputs=inputs)

    def _view(self, config: Setup, symbol: Symbol, rows: list[KlineRow], price: Decimal) -> MarketView:
        free = {asset: b.free for asset, b in self.exchange.balances().items()}
        candles = Candles(symbol.name, config.timeframe, rows)
        return MarketView(symbol, candles, price, self.clock.market_ms(), free.get(symbol.quote, ZERO), free.get(symbol.base, ZERO))

    def _equity(self, quote: str) -> Equity:
        """The account's equity. What may be told in a moment (another bot trades just now) is asked for again by the
        same check, raised as Unavailable; after TRIES the check goes on without, and the entry waits for the next."""
        found = equity(self.files, self.exchange, quote)
        self._tries = self._tries + 1 if found.passing else 0
        if 0 < self._tries < TRIES:
            raise Unavailable(found.why)
        self._tries = 0
        return found

    def _free_quote(self, symbol: Symbol) -> Decimal | None:
        """None: it can't be read now, which defers only an entry."""
        try:
            found = self.exchange.balances().get(symbol.quote)
        except RateLimited:
            raise
        except ExchangeError as e:
            log.warning("⚠️ The balance can't be read: %s", e)
            return None
        return found.free if found else ZERO
