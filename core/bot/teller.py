"""What a bot tells: log lines for people, events, warnings on its status, rows of decisions.

The lines' wording is a contract (DESIGN §4, "Log lines"): pages and scripts read them.
Numbers that matter are read from fills and position, never from here.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from decimal import Decimal
from typing import Any, Literal

from core import notify
from core.bot import decisions
from core.bot.botlog import money, signed_pct
from core.bot.journal import Journal
from core.bot.setup import Setup
from core.bot.status import Status
from core.clock import Clock, utc_text
from core.exchange import Exchange
from core.model import ZERO, Decision, Event, Fill, Order, Position, Symbol, plain
from core.storage import Files

log = logging.getLogger("botyard")


class Teller:
    def __init__(self, files: Files, status: Status, journal: Journal, clock: Clock):
        self.files, self.status, self.journal, self.clock = files, status, journal, clock
        self.day: tuple[str, Decimal] | None = None  # UTC date of market time, the bot's value at its first check

    # --- the start -----------------------------------------------------------------

    def greet(self, config: Setup, exchange: Exchange, symbol: Symbol, p: Position, guard: bool) -> None:
        log.info("🤖 STARTING BOT: %s", config.name)
        work = f"strategy {config.strategy}, {config.timeframe} candles, a check every {config.check_interval_s} s"
        what = "guard: no entries, only stop, target and booking" if guard else work
        log.info("   %s on %s (%s), %s", symbol.name, exchange.venue.exchange, config.mode, what)
        log.info("   %s (%s)", decisions.purse(config.plan, p), config.plan.sizing)
        if p.direction:
            log.info("   Goes on with %s %s %s @ $%s", p.direction, plain(p.quantity), p.base, money(p.entry_price or ZERO, symbol.rules))
        for order in p.orders:
            log.info("   Open order: %s %s (%s)", order.client_id, order.status, order.tag or order.role)

    # --- fills ------------------------------------------------------------------------

    def filled(self, name: str, symbol: Symbol, before: Position, order: Order, news: tuple[Fill, ...], after: Position) -> None:
        rules = symbol.rules
        for f in news:
            log.info("✅ ORDER FILLED: %s %s %s @ $%s (fee %s %s)", f.side, plain(f.quantity), before.base, money(f.price, rules), plain(f.fee), f.fee_asset)
        if before.direction is None and after.direction is not None:
            entry = money(after.entry_price or ZERO, rules)
            log.info("🟢 OPENED POSITION: %s", name)
            log.info("   Entry: $%s, %s %s", entry, plain(after.quantity), after.base)
            log.info("   Stop: %s, Target: %s", *("off" if v is None else f"${money(v, rules)}" for v in (after.stop_loss, after.take_profit)))
            self.event("opened", f"{name} opened {after.direction} {after.symbol} @ {entry}", before.bot_id, symbol)
        elif after.direction is None:
            self._closed(name, symbol, before, news, after)

    def _closed(self, name: str, symbol: Symbol, before: Position, news: tuple[Fill, ...], after: Position) -> None:
        profit = after.totals.profit - before.totals.profit
        trade = replace(before, fills=(*before.fills, *news), direction=before.direction or "LONG")
        pct = profit / trade.entry_quote * 100 if trade.entry_quote else ZERO
        exits = [f for f in trade.fills if f.side != trade.entry_side]
        sold = sum((f.quantity for f in exits), ZERO)
        average = money(sum((f.quote for f in exits), ZERO) / sold if sold else ZERO, symbol.rules)
        log.info("🔴 CLOSED POSITION: %s", name)
        log.info("   Exit: $%s", average)
        log.info("   Profit: %s (%s)", dollars(profit), signed_pct(pct))
        why = exits[-1].tag if exits else ""
        stopped = why == "stop_loss"
        text = f"{name} closed {before.symbol} @ {average} ({why}): {profit:+.2f} {before.quote} ({signed_pct(pct)})"
        self.event("stop_hit" if stopped else "closed", text, before.bot_id, symbol, "risk" if stopped else "info")

    # --- a check ---------------------------------------------------------------------------

    def checked(self, config: Setup, symbol: Symbol, p: Position, decision: Decision, why: str, price: Decimal) -> None:
        rules = symbol.rules
        if p.direction is not None and p.entry_price:
            gain = (price / p.entry_price - 1) * 100
            pnl = signed_pct(-gain if p.direction == "SHORT" else gain)
            log.info("📊 Position: %s @ $%s | Current: $%s | P&L: %s", p.direction, money(p.entry_price, rules), money(price, rules), pnl)
        elif not decision.intents:
            log.info("⏳ Waiting for signal... (Current: %s, Price: $%s)", decision.signal, money(price, rules))
        if decision.reasoning:
            log.info("   %s", decision.reasoning)
        if why and why != decision.reasoning:
            log.info("   Not acted: %s", why)
        if why.startswith("low funds"):
            self.warn("funds", f"{why[:1].upper()}{why[1:]}; the bot waits", config, symbol)
        elif decision.signal == "BUY":
            self.status.clear("funds")
        self._day(config, p, price)

    def _day(self, config: Setup, p: Position, price: Decimal) -> None:
        """The day's profit or loss (UTC, market time) against the bot's trade amount."""
        value = p.totals.profit + (p.profit_at(price) if p.direction else ZERO)
        date = utc_text(self.clock.market_ms())[:10]
        if self.day is None or self.day[0] != date:
            self.day = (date, value)
        log.info("RISK: Day P/L = %s (within limit)", signed_pct((value - self.day[1]) / config.plan.trade_amount * 100))

    def row(self, config: Setup, version: str, decision: Decision, why: str, price: Decimal, slot: int | None, candle: int | None) -> dict[str, Any]:
        """One line of decisions, appended; the part of it that the status shows."""
        acted = [i for i in decision.intents if i.action != "none"]
        shown = {
            "market_ms": self.clock.market_ms(),
            "wall_ms": self.clock.wall_ms(),
            "slot_ms": slot,
            "candle_ms": candle,
            "signal": decision.signal,
            "reasoning": decision.reasoning,
            "action": ", ".join(f"{i.action} {i.tag}".strip() for i in acted) or "none",
            "why_not": why,
            "price": price,
        }
        inputs = {"data": dict(decision.inputs)} if decision.inputs else {}
        try:
            self.journal.append_decision({**shown, **inputs, "strategy": {"key": config.strategy, "version": version}})
        except OSError as e:  # what was decided is done already: a note of it must not end the bot
            log.warning("⚠️ A decision could not be kept: %s", e)
        return shown

    # --- warnings and events -------------------------------------------------------------------

    def warn(self, kind: str, text: str, config: Setup, symbol: Symbol | None, severity: Literal["warning", "risk"] = "warning") -> None:
        """Shown on the status until it is cleared; told once as long as it says the same."""
        if self.status.warn(kind, text):
            log.warning("⚠️ %s", text)
            self.event(kind, f"{config.name}: {text}", config.bot_id, symbol, severity)

    def event(self, kind: str, text: str, bot_id: int, symbol: Symbol | None, severity: Literal["info", "warning", "risk"] = "info") -> None:
        data = {"symbol": symbol.name if symbol else None, "mode": self.status.fields["mode"]}
        try:
            notify.post(self.files, Event(kind, text, severity, bot_id, self.clock.market_ms(), self.clock.wall_ms(), data))
        except OSError as e:
            log.warning("⚠️ A message could not be kept: %s", e)


def dollars(value: Decimal) -> str:
    """`$100.00`, `-$3.20`."""
    return f"-${-value:.2f}" if value < 0 else f"${value:.2f}"
