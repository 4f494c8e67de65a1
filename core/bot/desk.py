"""Carries decisions out, one intent after the other, and says what kept one from being done."""

from __future__ import annotations

import logging
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from core.bot import fold, intents
from core.bot.execution import Result
from core.market import sizing
from core.model import Decision, Intent, plain

if TYPE_CHECKING:
    from core.bot.trader import Trader

log = logging.getLogger("botyard")

LONGEST_EXIT_PAUSE_MS = 60_000


class Desk:
    """`undone`: an intent of the last decision was not carried out, for a reason that passes."""

    def __init__(self, bot: Trader):
        self.bot = bot
        self.undone = False
        self._exit_failures = 0

    def act(self, decision: Decision, price: Decimal) -> str:
        """Carry out the intents; what kept it from acting, empty where nothing did."""
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
            block = self.bot.entry_block() if intent.action in ("open", "add") else ""
            if block:
                problems.append(f"nothing is bought while {block[:1].lower()}{block[1:]}")
                self.undone = self.undone or block == doubt  # a clock is soon measured anew: the candle is decided on again
                continue
            if intent.action == "close" and (self.bot.position.direction is None or self._write_off(price)):
                continue  # what was to be sold was sold meanwhile, or can't be
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
            result = intents.carry_out(self.bot.executor, intent, self.bot.symbol, price)
            problems += self._after(intent, result)
            if result.outcome in ("unknown", "not_sent"):
                break  # nothing more is sent before this one is known
        return "; ".join(problems)

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
                self._exit_failures = 0
                self.bot.status.clear("exit")
            else:
                self.bot.status.clear("refused", "funds")
            return []
        self.undone = self.undone or result.outcome == "not_sent" or (leaving and result.outcome == "unknown")
        if result.outcome == "unknown":
            return ["the order's outcome is not known yet"]
        self.bot.rules_wall = 0  # it may be halted, or its rules may have changed: read them anew
        if leaving:
            # Getting out is tried again, but never in a loop that hammers the exchange.
            self._exit_failures += 1
            pause = min(LONGEST_EXIT_PAUSE_MS, 1000 * 2 ** min(self._exit_failures, 6))
            self.bot.retry_wall["look"] = self.bot.retry_wall["commands"] = self.bot.clock.wall_ms() + pause
            self.bot.teller.warn("exit", f"The position can't be closed ({intent.tag}): {result.text}", self.bot.config, self.bot.symbol, "risk")
        else:
            self.bot.teller.warn("refused", f"{intent.action}: {result.text}", self.bot.config, self.bot.symbol)
        return [result.text]


def clock_trouble(bot: Trader) -> str:
    """Why the clock can't be trusted now, "" where it can; a clock that is moved by steps always is."""
    trouble = getattr(bot.clock, "trouble", None)
    return str(trouble()) if trouble is not None else ""
