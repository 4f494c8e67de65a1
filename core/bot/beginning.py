"""What a bot does once, at its start: connect, read its files, mend what a death left. Owns no file.

The position file is read before the exchange is asked anything, and what only it knows of
(fills that are not journaled) is brought to safety first. Whatever fails at the exchange
is tried again from the top: nothing here is done twice in effect.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from core.account import ledger, pots
from core.bot import decisions
from core.bot.execution import Executor
from core.errors import AccessRefused, ExchangeError, SettingsError
from core.model import ZERO, Position, Symbol
from core.storage import installation

if TYPE_CHECKING:
    from core.bot.trader import Trader

log = logging.getLogger("botyard")

OPEN_RETRY_MS = 1000  # a start that failed while something is open: nobody watches it until then


@dataclass(frozen=True, slots=True)
class Ready:
    """What a start comes to: the path of orders, and what `vet` warned of ("" for nothing)."""

    executor: Executor
    alarm: str


def begin(bot: Trader) -> Ready | None:
    """Everything up to the first step; None: the exchange can't be reached yet, `bot.attempts` says when to try again.

    Raises StateError, SettingsError and AccessRefused: what only a person can mend."""
    config = bot.config
    bot.status.write(state="starting", guard=bot.guard, mode=config.mode, symbol=config.symbol, strategy=config.strategy)
    found = bot.store.load()  # a file that can't be trusted ends the bot before anything is asked
    if found is not None and found.unjournaled:
        # Before the file may go to the archive: this list is all that knows of these fills.
        bot.journal.open()
        bot.journal.catch_up(found)
    bot.exchange.priority = "entry" if found is None or found.idle else "exit"
    try:
        own = installation(bot.files)
        bot.exchange.connect(own)
        bot.sync_clock()
        found = bot.catchup.at_start(own, found)  # restored from a backup: what happened since, first of all
        symbol = bot.exchange.symbol(_name(bot, found))
        bot.listing.take(symbol)
        alarm = bot.vet(found is None or found.idle)
        if alarm:
            bot.teller.warn("rights", alarm, config, symbol, "risk")
        ledger.ensure_baseline(bot.files, bot.exchange)
        if found is None or found.idle:
            _compare_pots(bot, symbol)
        else:
            with suppress(ExchangeError):  # a word about the next entries keeps nobody from watching a stop
                _compare_pots(bot, symbol)
    except AccessRefused:
        raise
    except ExchangeError as e:
        bot.attempts.failed("start", e, OPEN_RETRY_MS if found is not None and not found.idle else None)
        return None
    position = bot.store.adopt(config.bot_id, bot.exchange.venue, symbol.name, symbol.base, symbol.quote)
    if bot.strategy is not None and position.idle and position.strategy != bot.strategy.ref():
        # Written with the next save; a position keeps the strategy that opened it.
        bot.store.position = replace(position, strategy=bot.strategy.ref())
    if bot.strategist is not None:
        bot.strategist.open(bot.settings, bot.files, symbol, bot.openers)
    executor = Executor(
        bot.exchange,
        bot.store,
        bot.journal,
        own,
        wall_ms=bot.clock.wall_ms,
        market_ms=bot.clock.market_ms,
        after_fills=lambda p, news: decisions.after_fills(p, bot.config.plan, bot.symbol.rules, news),
        on_fills=bot.filled,
        warn=lambda kind, text, severity: bot.teller.warn(kind, text, bot.config, bot.symbol, severity),
    )
    executor.start()
    try:
        _remember(bot, symbol, executor.position)
    except (TypeError, ValueError, ArithmeticError, AttributeError) as e:
        log.warning("⚠️ The last run's status can't be used (%s): this one begins without it", e)
    return Ready(executor, alarm)


def _name(bot: Trader, found: Position | None) -> str:
    """The symbol to trade: an open position's rules over record and arguments."""
    name = found.symbol if found is not None and not found.idle else bot.config.symbol
    if name != bot.config.symbol:
        log.warning("⚠️ The position file holds %s: this symbol is traded until it is closed, then %s", name, bot.config.symbol)
    return name


def _compare_pots(bot: Trader, symbol: Symbol) -> None:
    """A word where the bots' next entries come to more than the account has; SettingsError where STRICT_POTS refuses that."""
    if bot.guard:
        return
    wallet = bot.exchange.balances().get(symbol.quote)
    text = pots.shortfall(bot.needs(symbol.quote), symbol.quote, wallet.total if wallet else ZERO)
    if text and bot.settings.strict_pots and (bot.store.position is None or bot.store.position.idle):
        raise SettingsError(f"STRICT_POTS: {text}. Lower the bots' amounts, add funds, or set STRICT_POTS=false")
    if text:
        bot.teller.warn("pots", text[:1].upper() + text[1:], bot.config, symbol)


def _remember(bot: Trader, symbol: Symbol, position: Position) -> None:
    """What the last run had done, so that no candle is decided on twice and no slot done twice."""
    before: Mapping[str, Any] = bot.status.before
    config, now = bot.config, bot.clock.market_ms()
    same = (before.get("symbol"), before.get("mode"), before.get("strategy")) == (symbol.name, config.mode, config.strategy)
    last = before.get("last_check")
    if same and isinstance(last, dict) and (before.get("venue") or {}).get("source", "") == bot.exchange.venue.source:
        bot.status.fields["last_check"] = last
        if isinstance(last.get("slot_ms"), int) and last["slot_ms"] <= now:
            bot.agenda.slot_done = last["slot_ms"]
        if isinstance(last.get("candle_ms"), int) and last["candle_ms"] <= now:
            bot.last_candle = last["candle_ms"]
    kept = position.last_candle_ms
    if kept is not None and kept <= now and (bot.last_candle is None or kept > bot.last_candle):
        bot.last_candle = kept
    day = before.get("day")
    if same and isinstance(day, dict):
        bot.teller.day = (str(day.get("date")), Decimal(str(day.get("value", 0))))
