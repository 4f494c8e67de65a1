"""Keeps a position's stop where it belongs: at the exchange where it can, moved when it moves.

What to place and when is in core/bot/protection.py and core/bot/decisions.py; this is the
bot's hand that does it, tells it, and remembers what the exchange refused.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from core.bot import decisions, protection
from core.bot.botlog import money
from core.bot.gap import Gap
from core.errors import ExchangeError
from core.model import SENDING, KlineRow

if TYPE_CHECKING:
    from core.bot.trader import Trader

log = logging.getLogger("botyard")

RETRY_MS = 1000


class Guardian:
    def __init__(self, bot: Trader):
        self.bot = bot
        self.gap = Gap(bot.status, bot.clock)
        self._unprotectable: int | None = None  # the trade whose pair the exchange refused, until the next check

    def ask_again(self) -> None:
        """A check is over: room for a stop may have come free at the exchange."""
        self._unprotectable = None

    def due(self) -> bool:
        p = self.bot.position
        if self.bot.catchup.pending:
            return False  # a pair may lie there already, that these files know nothing of
        managed = self.bot.strategy is not None and self.bot.strategy.manages_position
        if managed or self.bot.config.plan.protection != "exchange" or p.direction is None or p.quantity <= 0 or p.stop_loss is None:
            return False
        return not p.orders and p.trade != self._unprotectable

    def protect(self) -> None:
        self.bot.exchange.priority = "exit"  # a position is open from here on, whatever the step began with
        p = self.bot.position
        if p.protection == "exchange":
            text = f"The stop of {p.symbol} was taken away at the exchange by somebody else; it is placed again"
            log.warning("⚠️ %s", text)
            self.bot.teller.event("protection", f"{self.bot.config.name}: {text}", p.bot_id, self.bot.symbol, "risk")
        result = protection.protect(self.bot.executor, self.bot.symbol)
        if result.outcome == "done":
            self.bot.status.clear("protection")
            after = self.gap.closed()
            log.info("🛡️ PROTECTED%s: stop and target lie at the exchange", "" if after is None else f" after {after:.2f} s")
        elif result.outcome == "refused":
            self._unprotectable = p.trade
            self.gap.closed()  # the bot watches from here on
            self.bot.teller.warn(
                "protection", f"The exchange can't hold the stop ({result.text}); this bot watches it itself", self.bot.config, self.bot.symbol
            )
        else:
            self.bot.attempts.put_off("protect", RETRY_MS)

    def before_the_end(self, quiet_until_wall: int) -> None:
        """The run was told to stop: what the last step bought gets its stop at the exchange first, since nobody watches it afterwards."""
        if not self.due() or self.bot.clock.wall_ms() < quiet_until_wall:
            return
        try:
            self.protect()
        except (ExchangeError, OSError) as e:  # the stop's answer then names the position as unwatched
            log.warning("⚠️ The stop could not be placed before the end: %s", e)

    def move_stop(self, rows: list[KlineRow]) -> None:
        """A better stop after new closed candles; a pair at the exchange is replaced by one at the new level."""
        p = self.bot.position
        stop = decisions.moved_stop(p, self.bot.config.plan, self.bot.symbol.rules, rows)
        if stop is None or any(o.role == "exit" or o.status == SENDING for o in p.orders):
            return
        for order in [o for o in p.orders if o.role in ("stop", "target")]:
            if self.bot.executor.cancel(order).outcome != "done":
                return  # the old one stays; the next closed candle tries again
        if self.bot.position.direction is None:
            return  # it had filled meanwhile
        log.info("🪜 STOP MOVED: $%s → $%s", *("off" if v is None else money(v, self.bot.symbol.rules) for v in (p.stop_loss, stop)))
        self.bot.store.save(replace(self.bot.position, stop_loss=stop))
        if self.due():
            self.protect()
