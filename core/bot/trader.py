"""One bot: the loop that checks, looks, acts and writes.

One check (DESIGN §5): resolve what is unresolved → closed candles → strategy → decision →
intent on disk → order → fold → position file → fills, decision, log, event → heartbeat →
wait, watching stop and target every RISK_INTERVAL.

The trader never sleeps by itself: `step()` does what is due, `deadlines()` says when to
come back, and `Clock.wait` is the one place that waits.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from decimal import Decimal
from typing import Any

from core import notify
from core.account import ledger
from core.bot import decisions, schedule, setup, status
from core.bot.botlog import money, signed_pct
from core.bot.execution import Executor, Result
from core.bot.journal import Journal
from core.bot.position import PositionStore
from core.bot.setup import Setup
from core.clock import Clock, utc_text
from core.config import Settings
from core.errors import AccessRefused, BotyardError, ExchangeError, RateLimited, SettingsError, StrategyError
from core.exchange import Exchange
from core.market.history import CandleStore
from core.model import MODES, ZERO, Candles, Decision, Event, Fill, Intent, KlineRow, Order, Position, Symbol, plain
from core.storage import Files, installation
from strategies.base import MarketView, Strategy

log = logging.getLogger("botyard")

HEARTBEAT_MS = 2000
LOOK_FLOOR_MS = 1000  # looks are never more often than once a wall second
RETRY_MS = 5000  # after the exchange failed, or refused a way out
RULES_AGE_MS = 3_600_000


class Trader:
    """One bot's life. `read_record` gives its record anew at each check, None where it has none.

    `strategy` None is guard mode: no entries, only stop, target and booking, until flat.
    """

    def __init__(
        self,
        config: Setup,
        settings: Settings,
        files: Files,
        exchange: Exchange,
        clock: Clock,
        strategy: Strategy | None,
        *,
        candles: CandleStore | None = None,
        read_record: Callable[[], Mapping[str, Any] | None] = lambda: None,
        state: status.Status | None = None,
    ):
        self.config, self.settings, self.files, self.exchange, self.clock, self.strategy = config, settings, files, exchange, clock, strategy
        self.guard = strategy is None
        self.candle_store = candles
        self.read_record = read_record
        self.status = state or status.Status(files, config.bot_id)
        self.store = PositionStore(files, config.bot_id)
        self.journal = Journal(files, config.bot_id)
        self.stopping: str | None = None
        self.finished = ""  # why the run ended by itself
        self.symbol: Symbol | None = None
        self.executor: Executor | None = None
        self._rules_wall = 0
        self._slot_done: int | None = None
        self._last_candle: int | None = None
        self._last_look_ms = 0
        self._last_look_wall = -LOOK_FLOOR_MS
        self._last_price: Decimal | None = None
        self._look_memory: tuple[Decimal, int] | None = None
        self._quiet_until_wall = 0
        self._exit_retry_wall = 0
        self._exit_failures = 0
        self._beat_wall = -HEARTBEAT_MS
        self._commands: list[str] = []
        self._day: tuple[str, Decimal] | None = None

    # --- what others call -------------------------------------------------------------

    def stop(self, why: str) -> None:
        """End after the step that runs now; safe to call from a signal handler."""
        self.stopping = self.stopping or why
        self.clock.wake()

    def run(self) -> None:
        """From start to stop. Raises what only a person can mend (StateError, SettingsError, AccessRefused)."""
        while not self.stopping and not self.start():
            self.clock.wait(None, self._quiet_until_wall)
        while not self.stopping and not self.finished:
            self.step()
            if self.stopping or self.finished:
                break
            self.clock.wait(*self.deadlines())

    @property
    def position(self) -> Position:
        if self.store.position is None:
            raise RuntimeError("the trader was not started")
        return self.store.position

    # --- start ---------------------------------------------------------------------------

    def start(self) -> bool:
        """Connect, read the files, mend what a death left. False: the exchange can't be reached yet."""
        self.status.write(
            state="starting", guard=self.guard, mode=self.config.mode, symbol=self.config.symbol, strategy=self.config.strategy
        )
        self.store.load()  # a file that can't be trusted ends the bot before anything is asked
        try:
            own = installation(self.files)
            self.exchange.connect(own)
            self._sync_clock(must=True)
            found = self.store.position
            # An open position's symbol rules over record and arguments.
            name = found.symbol if found is not None and not found.idle else self.config.symbol
            if name != self.config.symbol:
                log.warning("⚠️ The position file holds %s: this symbol is traded until it is closed, then %s", name, self.config.symbol)
            self.symbol = self.exchange.symbol(name)
            self._rules_wall = self.clock.wall_ms()
            ledger.ensure_baseline(self.files, self.exchange)
        except AccessRefused:
            raise
        except ExchangeError as e:
            self._exchange_failed(e)
            return False
        symbol = self.symbol
        position = self.store.adopt(self.config.bot_id, self.exchange.venue, symbol.name, symbol.base, symbol.quote)
        if self.strategy is not None and position.idle and position.strategy != self.strategy.ref():
            # Written with the next save; a position keeps the strategy that opened it.
            self.store.position = replace(position, strategy=self.strategy.ref())
        self.executor = Executor(
            self.exchange,
            self.store,
            self.journal,
            own,
            wall_ms=self.clock.wall_ms,
            market_ms=self.clock.market_ms,
            after_fills=lambda p: decisions.after_fills(p, self.config.plan, self._symbol.rules),
            on_fills=self._filled,
        )
        self.executor.start()
        self._remember()
        self.status.clear("exchange")
        self._greet()
        return True

    def _remember(self) -> None:
        """What the last run had done, so that no candle is decided on twice and no slot done twice."""
        before = self.status.before
        same = (before.get("symbol"), before.get("mode"), before.get("strategy")) == (self._symbol.name, self.config.mode, self.config.strategy)
        last = before.get("last_check") if same else None
        if isinstance(last, dict) and (before.get("venue") or {}).get("source", "") == self.exchange.venue.source:
            self.status.fields["last_check"] = last
            now = self.clock.market_ms()
            if isinstance(last.get("slot_ms"), int) and last["slot_ms"] <= now:
                self._slot_done = last["slot_ms"]
            if isinstance(last.get("candle_ms"), int) and last["candle_ms"] <= now:
                self._last_candle = last["candle_ms"]
        known = [c for c in (self._last_candle, self.position.last_candle_ms) if c is not None and c <= self.clock.market_ms()]
        self._last_candle = max(known) if known else None
        day = before.get("day")
        if isinstance(day, dict) and same:
            self._day = (str(day.get("date")), Decimal(str(day.get("value", 0))))

    def _greet(self) -> None:
        p, c = self.position, self.config
        log.info("🤖 STARTING BOT: %s", c.name)
        what = (
            "guard: no entries, only stop, target and booking"
            if self.guard
            else f"strategy {c.strategy}, {c.timeframe} candles, a check every {c.check_interval_s} s"
        )
        log.info("   %s on %s (%s), %s", self._symbol.name, self.exchange.venue.exchange, c.mode, what)
        log.info("   Pot: %s %s (%s)", plain(decisions.pot(c.plan, p)), p.quote, c.plan.sizing)
        if p.direction:
            log.info("   Goes on with %s %s %s @ $%s", p.direction, plain(p.quantity), p.base, money(p.entry_price or ZERO, self._symbol.rules))
        for order in p.orders:
            log.info("   Open order: %s %s (%s)", order.client_id, order.status, order.tag or order.role)
        self.status.write(
            state="running",
            venue=asdict(self.exchange.venue),
            symbol=self._symbol.name,
            market_ms=self.clock.market_ms(),
            next_check_ms=self._next_slot(),
        )

    @property
    def _symbol(self) -> Symbol:
        if self.symbol is None:
            raise RuntimeError("the trader was not started")
        return self.symbol

    @property
    def _executor(self) -> Executor:
        if self.executor is None:
            raise RuntimeError("the trader was not started")
        return self.executor

    # --- the loop --------------------------------------------------------------------------

    def step(self) -> None:
        """Everything that is due now. Failures of the exchange are logged and tried again later."""
        try:
            if self.clock.wall_ms() >= self._quiet_until_wall:
                self._executor.resolve()
                self._obey()
                if self._look_due():
                    self._look()
                if not self.guard and self._check_due():
                    self._check(self._due_slot())
        except AccessRefused as e:
            if self.position.idle:
                raise
            self._warn("access", f"The exchange refuses this account ({e}), and a position or an order is open: mend the keys now", risk=True)
            self._quiet_until_wall = self.clock.wall_ms() + RETRY_MS
        except ExchangeError as e:
            self._exchange_failed(e)
        if self.guard and self.position.idle:
            self.finished = "guard: nothing is open any more"
        self._beat()

    def deadlines(self) -> tuple[int | None, int | None]:
        """(market time, wall time) at which the next step is due."""
        market: list[int] = []
        wall = [self._beat_wall + HEARTBEAT_MS]
        now_wall = self.clock.wall_ms()
        if now_wall < self._quiet_until_wall:
            return None, min(self._quiet_until_wall, *wall)
        if not self.guard:
            market.append(self._next_slot() if not self._check_due() else self.clock.market_ms())
        if self._watching():
            rest = LOOK_FLOOR_MS - (now_wall - self._last_look_wall)
            if rest > 0 and not self._stepped():
                wall.append(now_wall + rest)
            else:
                market.append(schedule.look_after(self._last_look_ms, self.config.risk_interval_s * 1000))
        ask = self._executor.next_ask_wall_ms()
        if ask is not None:
            wall.append(max(ask, now_wall + 50))
        return (min(market) if market else None), min(wall)

    def _stepped(self) -> bool:
        """Market time stands still or is moved by steps: the once-a-second floor doesn't hold."""
        return bool(getattr(self.clock, "stepped", False))

    def _sync_clock(self, must: bool = False) -> None:
        sync = getattr(self.clock, "sync", None)
        if sync is not None:
            try:
                sync()
            except ExchangeError:
                if must:
                    raise

    def _beat(self, **changes: Any) -> None:
        now = self.clock.wall_ms()
        if not changes and now - self._beat_wall < HEARTBEAT_MS:
            return
        self._beat_wall = now
        market = self.clock.market_ms()
        next_slot = None if self.guard else self._next_slot()
        speed = float(getattr(self.clock, "speed", 1.0))
        wait = None if next_slot is None or speed <= 0 else now + int(max(0, next_slot - market) / speed)
        self.status.write(
            market_ms=market,
            speed=speed,
            price=self._last_price,
            next_check_ms=next_slot,
            next_check_wall_ms=wait,
            unresolved=self._executor.unresolved,
            day=None if self._day is None else {"date": self._day[0], "value": self._day[1]},
            **changes,
        )

    # --- when ----------------------------------------------------------------------------------

    def _interval_ms(self) -> int:
        return self.config.check_interval_s * 1000

    def _due_slot(self) -> int:
        return schedule.slot_before(self.clock.market_ms(), self._interval_ms(), self.config.offset_ms)

    def _check_due(self) -> bool:
        return self._slot_done is None or self._due_slot() > self._slot_done

    def _next_slot(self) -> int:
        return schedule.slot_after(self.clock.market_ms(), self._interval_ms(), self.config.offset_ms)

    def _watching(self) -> bool:
        """Stop and target are this bot's to watch."""
        p = self.position
        return p.direction is not None and p.protection != "exchange" and (p.stop_loss is not None or p.take_profit is not None)

    def _look_due(self) -> bool:
        if not self._watching() or self.clock.wall_ms() < self._exit_retry_wall:
            return False
        if not self._stepped() and self.clock.wall_ms() - self._last_look_wall < LOOK_FLOOR_MS:
            return False
        return self.clock.market_ms() >= schedule.look_after(self._last_look_ms, self.config.risk_interval_s * 1000)

    # --- the look and the check --------------------------------------------------------------------

    def _price(self) -> Decimal:
        price = self.exchange.price(self._symbol.name)
        if price <= 0:
            raise ExchangeError(f"the exchange tells a price of {plain(price)}")
        self._last_price = price
        return price

    def _look(self) -> None:
        self._last_look_ms, self._last_look_wall = self.clock.market_ms(), self.clock.wall_ms()
        if self._executor.unresolved:
            return
        price = self._price()
        decision = decisions.look(self.position, price)
        if decision.intents:
            why = self._act(decision, price)
            self._record(decision, why, price, slot=None, candle=self._last_candle)

    def _check(self, slot: int) -> None:
        self._sync_clock()
        if self.clock.market_ms() < slot:
            return  # our clock was a little ahead of the exchange's
        if self._executor.unresolved:
            return  # the outcome of an order comes first; the slot stays due
        self._reload()
        rows = self._closed_candles()
        price = self._price()
        candle = int(rows[-1][0]) if rows else None
        decision = decisions.look(self.position, price) if self._watching() else Decision()
        if not decision.intents:
            decision = self._ask_strategy(rows, candle, price)
        cooled = self.position.cooldown > 0 and candle is not None and candle != self._last_candle
        self._last_candle = candle if candle is not None else self._last_candle
        why = self._act(decision, price)
        if cooled and self.position.cooldown > 0:
            self.store.save(replace(self.position, cooldown=self.position.cooldown - 1, last_candle_ms=self._last_candle))
        self._slot_done = slot
        self.status.clear("exchange")
        self._tell(decision, why, price)
        self.status.fields["checks_completed"] += 1
        self._record(decision, why, price, slot=slot, candle=candle)

    def _ask_strategy(self, rows: list[KlineRow], candle: int | None, price: Decimal) -> Decision:
        strategy = self.strategy
        if strategy is None:
            return Decision()
        if candle is None or candle == self._last_candle:
            return Decision(reasoning="no new closed candle since the last check", why_not="no new closed candle since the last check")
        ready = strategy.ready(self.config.kline_limit)
        if len(rows) < ready:
            return Decision(reasoning=f"warming up: {len(rows)} of {ready} closed candles", why_not="the strategy needs more closed candles")
        try:
            if strategy.manages_position:
                return self._managed(strategy, rows, price)
            answer = strategy.analyze(rows[-strategy.candles_needed(self.config.kline_limit) :])
        except StrategyError as e:
            self._warn("strategy", str(e))
            return Decision(reasoning=str(e), why_not="the strategy failed")
        self.status.clear("strategy")
        signal = str(answer["signal"])
        free = self._free_quote() if signal == "BUY" and self.position.direction is None else None
        return decisions.check(signal, str(answer.get("reasoning", "")), self.config.plan, self.position, self._symbol, price, free)

    def _managed(self, strategy: Strategy, rows: list[KlineRow], price: Decimal) -> Decision:
        balances = self.exchange.balances()
        free = {a: b.free for a, b in balances.items()}
        view = MarketView(
            symbol=self._symbol,
            candles=Candles(self._symbol.name, self.config.timeframe, rows),
            price=price,
            market_ms=self.clock.market_ms(),
            free_quote=free.get(self._symbol.quote, ZERO),
            free_base=free.get(self._symbol.base, ZERO),
        )
        return strategy.decide(view, self.position)

    def _free_quote(self) -> Decimal | None:
        try:
            found = self.exchange.balances().get(self._symbol.quote)
        except ExchangeError as e:
            log.warning("⚠️ The balance can't be read: %s", e)
            return None
        return found.free if found else ZERO

    def _closed_candles(self) -> list[KlineRow]:
        """The closed candles that the strategy needs, from the shared store or the exchange."""
        needed = self.strategy.candles_needed(self.config.kline_limit) if self.strategy else self.config.kline_limit
        now = self.clock.market_ms()
        name, timeframe, venue = self._symbol.name, self.config.timeframe, self.exchange.venue
        if self.candle_store is not None:
            try:
                stored = self.candle_store.closed(venue, name, timeframe, needed, now)
                if stored is not None:
                    return stored
            except sqlite3.Error as e:
                log.debug("the candle store can't be read: %s", e)
        found = self.exchange.candles(name, timeframe, min(needed + 1, 1000))
        rows = list(found.closed_before(now).last(needed).rows)
        if self.candle_store is not None:
            try:
                self.candle_store.save(venue, name, timeframe, rows, now)
            except (sqlite3.Error, OSError) as e:
                log.debug("the candle store can't be written: %s", e)
        return rows

    def _reload(self) -> None:
        """An update of the record counts from the next check; what needs a restart is left alone."""
        record = self.read_record()
        now = self.clock.wall_ms()
        if now - self._rules_wall > RULES_AGE_MS:
            self.symbol = self.exchange.symbol(self._symbol.name)
            self._rules_wall = now
        if record is None or self.guard:
            return
        try:
            amount = Decimal(str(record.get("trade_amount", self.config.plan.trade_amount)))
            fresh = setup.build(
                self.settings,
                self.config.bot_id,
                str(record.get("name") or self.config.name),
                self.config.symbol,
                self.config.strategy,
                amount,
                record,
                self.strategy,
            )
        except (SettingsError, ArithmeticError, ValueError) as e:
            self._warn("record", f"The record can't be used, the bot goes on as before: {e}")
            return
        self.status.clear("record")
        if MODES.index(fresh.mode) != MODES.index(self.config.mode):
            return
        self.config = replace(self.config, **{field: getattr(fresh, field) for field in Setup.LIVE})

    # --- acting --------------------------------------------------------------------------------------

    def _act(self, decision: Decision, price: Decimal) -> str:
        """Carry out the intents; what kept it from acting, empty where nothing did."""
        if decision.memo is not None and dict(decision.memo) != dict(self.position.memo):
            self.store.save(replace(self.position, memo=dict(decision.memo)))
        problems = [decision.why_not] if decision.why_not else []
        for intent in decision.intents:
            if intent.action == "none":
                continue
            if not self.position.direction and self.strategy is not None:
                self.store.position = replace(self.position, strategy=self.strategy.ref(), last_candle_ms=self._last_candle)
            if intent.action == "open":
                log.info("🟢 BUY signal generated!")
            elif intent.action == "close" and intent.tag == "signal":
                log.info("🔴 SELL signal generated!")
            result = self._executor.carry_out(intent, self._symbol, price)
            problems += self._after(intent, result)
            if result.outcome in ("unknown", "not_sent"):
                break  # nothing more is sent before this one is known
        return "; ".join(problems)

    def _after(self, intent: Intent, result: Result) -> list[str]:
        if result.outcome == "done":
            if intent.action in ("close", "reduce"):
                self._exit_failures = 0
                self.status.clear("exit")
            self.status.clear("refused", "funds")
            return []
        leaving = intent.action in ("close", "reduce")
        if result.outcome == "unknown":
            return ["the order's outcome is not known yet"]
        if leaving:
            # Getting out is tried again, but never in a loop that hammers the exchange.
            self._exit_failures += 1
            self._exit_retry_wall = self.clock.wall_ms() + min(60_000, 1000 * 2 ** min(self._exit_failures, 6))
            self._warn("exit", f"The position can't be closed ({intent.tag}): {result.text}", risk=True)
        else:
            self._warn("refused", f"{intent.action}: {result.text}")
        return [result.text]

    def _obey(self) -> None:
        """Commands that lie in data/commands/bot_N: `check` now, or `close` the position."""
        folder = self.files.path(f"data/commands/bot_{self.config.bot_id}")
        try:
            names = sorted(p.name for p in folder.iterdir() if p.suffix == ".json" and not p.name.startswith("."))
        except FileNotFoundError:
            return
        for name in names:
            path = folder / name
            try:
                value = self.files.read_any(str(path.relative_to(self.files.home)))
            except BotyardError as e:
                log.warning("⚠️ A command can't be read and is dropped: %s", e)
                value = None
            command = value.get("command") if isinstance(value, dict) else None
            if command == "close":
                if not self._close_by_hand(str((value or {}).get("by") or "hand")):
                    return  # not now: the command stays
            elif command == "check":
                log.info("⌨️ A check was asked for by %s", (value or {}).get("by") or "hand")
                path.unlink(missing_ok=True)
                if not self.guard:
                    self._check(self._due_slot())
                continue
            elif command is not None:
                log.warning("⚠️ The command %r is not known; known are check and close", str(command)[:40])
            path.unlink(missing_ok=True)

    def _close_by_hand(self, by: str) -> bool:
        """True when done (or nothing to do); False: try again at the next step."""
        if self._executor.unresolved or self.clock.wall_ms() < self._exit_retry_wall:
            return False
        if self.position.direction is None:
            return True
        price = self._price()
        log.info("⌨️ Closing the position, asked for by %s", by)
        side = "SELL" if self.position.direction == "LONG" else "BUY"
        intent = Intent("close", side=side, size_all=True, role="exit", tag="close", reason=f"asked for by {by}")  # type: ignore[arg-type]
        decision = Decision((intent,), signal=side, reasoning=intent.reason)
        why = self._act(decision, price)
        self._record(decision, why, price, slot=None, candle=self._last_candle)
        return not why

    # --- telling -----------------------------------------------------------------------------------------

    def _filled(self, before: Position, order: Order, news: tuple[Fill, ...], after: Position) -> None:
        rules = self._symbol.rules
        for f in news:
            log.info("✅ ORDER FILLED: %s %s %s @ $%s (fee %s %s)", f.side, plain(f.quantity), before.base, money(f.price, rules), plain(f.fee), f.fee_asset)
        if before.direction is None and after.direction is not None:
            log.info("🟢 OPENED POSITION: %s", self.config.name)
            log.info("   Entry: $%s, %s %s", money(after.entry_price or ZERO, rules), plain(after.quantity), after.base)
            log.info("   Stop: %s, Target: %s", *("off" if v is None else f"${money(v, rules)}" for v in (after.stop_loss, after.take_profit)))
            self._event("opened", f"{self.config.name} opened {after.direction} {after.symbol} @ {money(after.entry_price or ZERO, rules)}")
        elif after.direction is None and (before.direction is not None or news):
            profit = after.totals.profit - before.totals.profit
            closed = replace(before, fills=(*before.fills, *news), direction=before.direction or "LONG")
            pct = profit / closed.entry_quote * 100 if closed.entry_quote else ZERO
            exits = [f for f in closed.fills if f.side != closed.entry_side]
            sold = sum((f.quantity for f in exits), ZERO)
            average = sum((f.quote for f in exits), ZERO) / sold if sold else ZERO
            log.info("🔴 CLOSED POSITION: %s", self.config.name)
            log.info("   Exit: $%s", money(average, rules))
            log.info("   Profit: %s (%s)", dollars(profit), signed_pct(pct))
            stopped = order.tag == "stop_loss"
            self._event(
                "stop_hit" if stopped else "closed",
                f"{self.config.name} closed {before.symbol} @ {money(average, rules)} ({order.tag}): {profit:+.2f} {before.quote} ({signed_pct(pct)})",
                risk=stopped,
            )

    def _tell(self, decision: Decision, why: str, price: Decimal) -> None:
        p, rules = self.position, self._symbol.rules
        if p.direction is not None and p.entry_price:
            gain = (price / p.entry_price - 1) * 100
            if p.direction == "SHORT":
                gain = -gain
            log.info("📊 Position: %s @ $%s | Current: $%s | P&L: %s", p.direction, money(p.entry_price, rules), money(price, rules), signed_pct(gain))
        elif not decision.intents:
            log.info("⏳ Waiting for signal... (Current: %s, Price: $%s)", decision.signal, money(price, rules))
        if decision.reasoning:
            log.info("   %s", decision.reasoning)
        if why:
            log.info("   Not acted: %s", why)
        if why.startswith("low funds"):
            self._warn("funds", f"{why[:1].upper()}{why[1:]}; the bot waits")
        elif decision.signal == "BUY":
            self.status.clear("funds")
        self._tell_day(price)

    def _tell_day(self, price: Decimal) -> None:
        """The day's profit or loss (UTC, market time) against the bot's trade amount."""
        value = self.position.totals.profit + (self.position.profit_at(price) if self.position.direction else ZERO)
        date = utc_text(self.clock.market_ms())[:10]
        if self._day is None or self._day[0] != date:
            self._day = (date, value)
        pct = (value - self._day[1]) / self.config.plan.trade_amount * 100
        log.info("RISK: Day P/L = %s (within limit)", signed_pct(pct))

    def _record(self, decision: Decision, why: str, price: Decimal, *, slot: int | None, candle: int | None) -> None:
        market, wall = self.clock.market_ms(), self.clock.wall_ms()
        acted = [i for i in decision.intents if i.action != "none"]
        action = ", ".join(f"{i.action} {i.tag}".strip() for i in acted) if acted else "none"
        row = {
            "market_ms": market,
            "wall_ms": wall,
            "slot_ms": slot,
            "candle_ms": candle,
            "signal": decision.signal,
            "reasoning": decision.reasoning,
            "action": action,
            "why_not": why,
            "price": price,
            "strategy": {"key": self.config.strategy, "version": self.strategy.version if self.strategy else ""},
        }
        self.journal.append_decision(row)
        if slot is not None:
            self._beat(last_check={k: row[k] for k in ("slot_ms", "market_ms", "wall_ms", "candle_ms", "signal", "reasoning", "action", "why_not", "price")})
        else:
            self._beat(last_look={k: row[k] for k in ("market_ms", "wall_ms", "signal", "reasoning", "action", "why_not", "price")})

    def _exchange_failed(self, e: ExchangeError) -> None:
        pause = int(e.retry_after_s * 1000) if isinstance(e, RateLimited) else RETRY_MS
        self._quiet_until_wall = self.clock.wall_ms() + pause
        if self.status.warn("exchange", f"The exchange failed: {e}"):
            log.warning("⚠️ The exchange failed: %s; trying again in %d s", e, pause // 1000)
        self._beat_wall = self.clock.wall_ms()
        self.status.write()

    def _warn(self, kind: str, text: str, risk: bool = False) -> None:
        if self.status.warn(kind, text):
            log.warning("⚠️ %s", text)
            self._event(kind, f"{self.config.name}: {text}", risk=risk, severity="warning")

    def _event(self, kind: str, text: str, *, risk: bool = False, severity: str = "info") -> None:
        event = Event(
            kind,
            text,
            "risk" if risk else severity,
            self.config.bot_id,
            self.clock.market_ms(),
            self.clock.wall_ms(),
            {"mode": self.config.mode, "symbol": self._symbol.name},
        )  # type: ignore[arg-type]
        try:
            notify.post(self.files, event)
        except OSError as e:
            log.warning("⚠️ A message could not be kept: %s", e)


def dollars(value: Decimal) -> str:
    """`$100.00`, `-$3.20`."""
    return f"-${-value:.2f}" if value < 0 else f"${value:.2f}"
