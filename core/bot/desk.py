"""Carries decisions out, one intent after the other, and says what kept one from being done."""

from __future__ import annotations

import logging
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from core.bot import decisions, fold, intents
from core.bot.execution import Result
from core.errors import ExchangeError, RateLimited
from core.exchange import Priority, at_priority
from core.market import sizing
from core.model import ZERO, Decision, Intent, plain

if TYPE_CHECKING:
    from core.bot.trader import Trader

log = logging.getLogger("botyard")

LONGEST_EXIT_PAUSE_MS = 60_000
HALT_ASK_MS = 60_000  # how often a symbol that can't be traded is asked for again (weight 20)


class Desk:
    """What became of the last decision: `undone`, an intent was not carried out for a reason that
    passes within seconds; `unsold`, the exchange refused a way out: the next check asks for it again.
    A command to close waits until `exit_wall`."""

    def __init__(self, bot: Trader):
        self.bot = bot
        self.undone = self.unsold = False
        self.exit_wall = 0
        self._exit_failures = 0

    def act(self, decision: Decision, price: Decimal) -> str:
        """Carry out the intents; what kept it from acting, empty where nothing did."""
        self.undone = self.unsold = False
        if any(intents.is_leaving(i) and i.action != "cancel" for i in decision.intents) and self._halted():
            # Nothing is taken back at the exchange, and nothing sent: it would be refused.
            self.unsold = True
            self._pause_exits(HALT_ASK_MS)
            text = f"{self.bot.symbol.name} can't be traded now (status {self.bot.symbol.status}): it is sold as soon as it can be"
            self.bot.teller.warn("exit", text, self.bot.config, self.bot.symbol, "risk")
            return text
        if decision.memo is not None and dict(decision.memo) != dict(self.bot.position.memo):
            try:
                self.bot.store.save(replace(self.bot.position, memo=dict(decision.memo)))
            except (TypeError, ValueError) as e:
                text = f"strategy {self.bot.config.strategy} returned a memo that can't be kept ({e}); it must be plain JSON: nothing of this decision was done"
                self.bot.teller.warn("strategy", text, self.bot.config, self.bot.symbol)
                return text
        problems = [decision.why_not] if decision.why_not else []
        doubt = clock_trouble(self.bot)
        if doubt:
            self.bot.teller.warn("clock", f"Nothing is bought while {doubt}", self.bot.config, self.bot.symbol)
        else:
            self.bot.status.clear("clock")
        if not any(i.action in ("open", "add") for i in decision.intents):
            self.bot.status.clear("liquidity")  # nothing is held back any more
        for intent in decision.intents:
            if intent.action == "none":
                continue
            if not self.bot.position.direction and self.bot.strategy is not None:
                self.bot.store.position = replace(self.bot.position, strategy=self.bot.strategy.ref(), last_candle_ms=self.bot.last_candle)
            if intent.action == "open":
                log.info("🟢 BUY signal generated!")
            elif intent.action == "close" and intent.tag == "signal":
                log.info("🔴 SELL signal generated!")
            block = self.bot.entry_block() if entering(intent) else ""
            if block:
                problems.append(f"nothing is bought while {block[:1].lower()}{block[1:]}")
                self.undone = self.undone or block == doubt  # a clock is soon measured anew: the candle is decided on again
                continue
            problem = self._beyond(intent, price) if entering(intent) else ""
            if problem:
                self.bot.teller.warn("refused", f"{intent.action}: {problem}", self.bot.config, self.bot.symbol)
                problems.append(problem)
                continue
            if intent.action == "close" and (self.bot.position.direction is None or self._write_off(price)):
                continue  # what was to be sold was sold meanwhile, or can't be
            why: Priority = "entry" if entering(intent) else self.bot.exchange.priority
            with at_priority(self.bot.exchange, why):
                allowed = intents.too_dear(self.bot.executor, intent, self.bot.symbol, self.bot.config.plan)
            if allowed.outcome == "refused":
                # The text of the warning holds no figure that changes: it is told once, the figures stand in the decision.
                plan = self.bot.config.plan
                limits = f"spread {plain(plan.max_spread_pct)} %, slippage {plain(plan.max_slippage_pct)} %"
                text = f"The order book is worse than this bot's limits ({limits}): it waits; the decisions say by how much"
                self.bot.teller.warn("liquidity", text, self.bot.config, self.bot.symbol)
                problems.append(allowed.text)
                continue
            if allowed.outcome == "not_sent":
                problems += self._after(intent, allowed)
                continue  # only the entry waits
            if intent.action in ("open", "add"):
                self.bot.status.clear("liquidity")
            if entering(intent):
                verdict = self.bot.limits.reserve(intent, price)
                if verdict.text:
                    problems.append(f"nothing is bought: {verdict.text}")
                    self.undone = self.undone or verdict.passing
                    continue
            with at_priority(self.bot.exchange, why):
                result = intents.carry_out(self.bot.executor, intent, self.bot.symbol, price)
            if entering(intent) and result.outcome in ("refused", "not_sent"):
                self.bot.limits.release()
            problems += self._after(intent, result)
            if result.outcome in ("unknown", "not_sent"):
                break  # nothing more is sent before this one is known
        return "; ".join(problems)

    def _beyond(self, intent: Intent, price: Decimal) -> str:
        """Why this entry is not this bot's to make: a symbol that is halted, another bot's money."""
        symbol = self.bot.symbol
        if not symbol.tradeable:
            return f"{symbol.name} can't be traded now (status {symbol.status})"
        most = self.bot.config.plan.max_entry
        left = decisions.room(self.bot.config.plan, self.bot.position)
        cost = intent.size_quote if intent.size_quote is not None else (intent.size_base or ZERO) * (intent.price or price)
        if most is not None and cost > most:
            return f"it would cost {plain(cost)} {symbol.quote}, and this bot's max_entry is {plain(most)}: nothing was bought"
        if left is not None and cost > left:
            return f"it would cost {plain(cost)} {symbol.quote}, and {plain(max(left, ZERO))} are left of this bot's pot: nothing was bought"
        return ""

    def _halted(self) -> bool:
        """The symbol can't be traded, as far as it was told within the last minute."""
        bot = self.bot
        if not bot.symbol.tradeable and bot.listing.age_ms() >= HALT_ASK_MS:
            try:
                bot.listing.read()
            except RateLimited:
                raise
            except ExchangeError as e:
                log.warning("⚠️ Whether %s trades again can't be read: %s", bot.symbol.name, e)
        return not bot.symbol.tradeable

    def _pause_exits(self, pause_ms: int) -> None:
        self.exit_wall = self.bot.clock.wall_ms() + pause_ms
        self.bot.attempts.put_off("look", pause_ms)

    def _write_off(self, price: Decimal) -> bool:
        """What can't be sold is booked as dust, and goes into the next position (DESIGN §1.4)."""
        p = self.bot.position
        if p.direction != "LONG" or p.orders or sizing.sellable(p.quantity, price, self.bot.symbol.rules) > 0:
            return False
        self.bot.store.save(fold.write_off(p))
        log.warning("⚠️ %s %s are too little to be sold: kept as dust for the next position", plain(p.quantity), p.base)
        return True

    def _after(self, intent: Intent, result: Result) -> list[str]:
        leaving = intent.action in ("close", "reduce")
        if result.outcome == "done":
            if leaving:
                self._exit_failures, self.exit_wall = 0, 0
                self.bot.status.clear("exit")
            else:
                self.bot.status.clear("refused", "funds")
            return []
        # A cancel clears the way for what comes after it: until it is known how it ended, that was not done either.
        self.undone = self.undone or result.outcome == "not_sent" or (result.outcome == "unknown" and (leaving or intent.action == "cancel"))
        if result.outcome == "unknown":
            return ["the order's outcome is not known yet"]
        self.bot.listing.doubt()
        if leaving:
            # Getting out is tried again, but never in a loop that hammers the exchange.
            self._exit_failures += 1
            self.unsold = self.unsold or result.outcome == "refused"
            self._pause_exits(min(LONGEST_EXIT_PAUSE_MS, 1000 * 2 ** min(self._exit_failures, 6)))
            self.bot.teller.warn("exit", f"The position can't be closed ({intent.tag}): {result.text}", self.bot.config, self.bot.symbol, "risk")
        else:
            self.bot.teller.warn("refused", f"{intent.action}: {result.text}", self.bot.config, self.bot.symbol)
        return [result.text]


def entering(intent: Intent) -> bool:
    return intent.action in ("open", "add") or (intent.action == "place" and not intents.is_leaving(intent))


def clock_trouble(bot: Trader) -> str:
    """Why the clock can't be trusted now, "" where it can; a clock that is moved by steps always is."""
    trouble = getattr(bot.clock, "trouble", None)
    return str(trouble()) if trouble is not None else ""
