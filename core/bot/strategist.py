"""Asks a bot's strategy: what it may see goes in, a decision comes out.

A strategy that fails is a hold with its name on it, never an exception of the loop. One that
takes its time is asked in a thread (core/bot/question.py): the loop goes on, and fetches the
answer when it is there; an answer that comes after the next candle is dropped. Where time is
moved by steps it is asked in place, so that each run is the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from core.account.equity import Equity, equity
from core.account.pots import BY_EQUITY
from core.bot import decisions, series
from core.bot.question import Question
from core.bot.setup import Setup
from core.bot.teller import Teller
from core.clock import Clock, utc_text
from core.config import Settings
from core.errors import ExchangeError, RateLimited, StrategyError, Unavailable
from core.exchange import Exchange
from core.market import timeframes
from core.model import ZERO, Candles, Decision, KlineRow, Position, SeriesValue, Symbol
from core.storage import Files
from strategies.base import MarketView, Strategy

log = logging.getLogger("botyard")

TRIES = 3  # of a check, to be told the account's equity
PATIENCE_S = 0.25  # so long the loop waits for an answer; any shipped strategy takes a tenth of it
SLOW_MS = 10_000  # so long a question may run, wall time, before it is told
AGAIN_MS = 1000  # between two looks for a newer candle, wall time


class Strategist:
    """`providers` are the named series that the strategy declared; empty where it needs none."""

    def __init__(self, strategy: Strategy, exchange: Exchange, clock: Clock, teller: Teller):
        self.strategy, self.exchange, self.clock, self.teller = strategy, exchange, clock, teller
        self.files = teller.files
        self._tries = 0
        self._question: Question | None = None  # asked, and its answer not used yet
        self.recommended = ""  # the symbol that the last answer recommended
        self.providers: dict[str, series.Provider] = {}

    def open(self, settings: Settings, files: Files, symbol: Symbol, openers: Mapping[str, series.Opener]) -> None:
        """Open the series that the strategy declares; those of an earlier try are closed."""
        for provider in self.providers.values():
            provider.close()
        self.providers = series.open_all(self.strategy.needs, settings, files, symbol, self.clock, openers)

    # --- a question that takes its time ---------------------------------------------

    @property
    def asked(self) -> bool:
        """A question runs, or its answer waits, and it may still be used."""
        return self._question is not None and not self._question.dropped

    def answered(self) -> bool:
        """An answer waits: a check uses it."""
        return self.asked and self._question is not None and self._question.done

    def thinking(self) -> bool:
        """A question runs, and no newer candle can be there yet: a check would learn nothing."""
        question = self._question
        if question is None or question.done:
            return False
        wall = self.clock.wall_ms()
        return self.clock.market_ms() < question.late_ms or wall < question.again_wall

    def thinking_since(self) -> int | None:
        """Wall ms when the question that runs now was asked; None where none runs."""
        question = self._question
        return None if question is None or question.done else question.asked_wall

    def stands_at(self, candle: int | None) -> int | None:
        """The candle that counts as decided on after a check: of a strategy that still thinks about an older one,
        that one, so that the newest is asked about as soon as it can be."""
        question = self._question
        return question.candle_ms if question is not None and question.dropped and not question.done else candle

    def watch(self, config: Setup, symbol: Symbol) -> None:
        """Tell of a question that takes long, once."""
        question = self._question
        if question is None or question.done or question.told or self.clock.wall_ms() - question.asked_wall < SLOW_MS:
            return
        question.told = True
        text = f"strategy {self.strategy.name} has not answered within {SLOW_MS // 1000} s; stop and target are watched meanwhile"
        self.teller.warn("strategy", text, config, symbol)

    def forget(self) -> None:
        """The check was decided without the strategy: an answer that is there already is not used any more."""
        if self._question is not None and self._question.done:
            self._question = None

    # --- asking ----------------------------------------------------------------------

    def ask(self, config: Setup, symbol: Symbol, position: Position, rows: list[KlineRow], fresh: bool, price: Decimal) -> Decision | None:
        """`rows`: closed candles, oldest first; `fresh`: the last of them was not decided on yet.

        None: it is still thinking; ask again when `thinking` says no more."""
        if not fresh:
            self.forget()
            return Decision(reasoning="no new closed candle since the last check", why_not="no new closed candle since the last check")
        ready = self.strategy.ready(config.kline_limit)
        if len(rows) < ready:
            return Decision(reasoning=f"warming up: {len(rows)} of {ready} closed candles", why_not="the strategy needs more closed candles")
        candle, question = int(rows[-1][0]), self._question
        if question is not None and not question.done:
            if question.candle_ms != candle:
                return self._late(question, config, symbol)
            question.again_wall = self.clock.wall_ms() + AGAIN_MS
            return None
        if question is None or question.dropped or question.candle_ms != candle or (self.strategy.manages_position and question.position != position):
            if question is not None:
                log.warning("⚠️ The answer of strategy %s about %s came too late and is dropped", self.strategy.name, utc_text(question.candle_ms))
                self._question = None
            question = self._question = self._put(config, symbol, position, rows, price)
            if not question.done:
                return None
        found = self._decided(question, config, symbol, position, price)  # what it raises leaves the answer where it is
        self._question = None
        return found

    def _put(self, config: Setup, symbol: Symbol, position: Position, rows: list[KlineRow], price: Decimal) -> Question:
        strategy, candle = self.strategy, int(rows[-1][0])
        known = series.read(self.providers, self.clock.market_ms())
        if strategy.manages_position:
            view = replace(self._view(config, symbol, rows, price), series=known, room=decisions.room(config.plan, position))
            question = self._question_of(lambda: strategy.decide(view, position), config, candle, position, known)
        else:
            window = rows[-strategy.candles_needed(config.kline_limit) :]
            question = self._question_of(lambda: strategy.analyze_with(window, known), config, candle, position, known)
        if getattr(self.clock, "stepped", False):
            question.run()
        else:
            question.start(PATIENCE_S)
        return question

    def _question_of(self, call: Callable[[], Any], config: Setup, candle: int, position: Position, known: Mapping[str, SeriesValue]) -> Question:
        late = timeframes.next_open(timeframes.next_open(candle, config.timeframe), config.timeframe)
        return Question(self.strategy.name, call, candle, late, position, known, self.clock.wall_ms())

    def _late(self, question: Question, config: Setup, symbol: Symbol) -> Decision:
        """A newer candle is closed, and the strategy still thinks about an older one: nothing new is asked."""
        text = f"strategy {self.strategy.name} takes longer than a candle: it still thinks about {utc_text(question.candle_ms)}, and that answer is dropped"
        question.told = question.dropped = True
        self.teller.warn("strategy", f"{text}; stop and target are watched meanwhile", config, symbol)
        return Decision(reasoning=text, why_not="the strategy is still thinking")

    def _decided(self, question: Question, config: Setup, symbol: Symbol, position: Position, price: Decimal) -> Decision:
        inputs = series.as_inputs(question.known)
        try:
            answer = question.answer()
        except StrategyError as e:
            self.teller.warn("strategy", str(e), config, symbol)
            return Decision(reasoning=str(e), why_not="the strategy failed", inputs=inputs)
        if self.strategy.manages_position:
            if question.told:
                self.teller.status.clear("strategy")
            decided: Decision = answer
            return replace(decided, inputs=inputs)
        self.teller.status.clear("strategy")
        self.recommended = str(answer.get("recommended_symbol") or "")
        signal = str(answer["signal"])
        free = self._free_quote(symbol) if signal == "BUY" and position.direction is None else None
        worth = Equity(None)
        if free is not None and config.plan.sizing in BY_EQUITY:
            worth = self._equity(symbol.quote)
        said, size = str(answer.get("reasoning", "")), answer.get("size", decisions.ONE)
        found = decisions.check(signal, said, config.plan, position, symbol, price, free, worth.value, worth.why, size)
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
