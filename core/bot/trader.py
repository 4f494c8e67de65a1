"""One bot: the loop that checks, looks, acts and writes.

One check (DESIGN §5): resolve what is unresolved → closed candles → strategy → decision →
intent on disk → order → fold → position file → fills, decision, log, event → heartbeat →
wait, watching stop and target every RISK_INTERVAL.

The trader never sleeps by itself: `step()` does what is due, `deadlines()` says when to
come back, and `Clock.wait` is the one place that waits. What fails at the exchange is
tried again by itself: candles that can't be read never keep a stop from being watched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow, setcontext
from typing import Any

from core.account import ledger, pots
from core.bot import climate, decisions, schedule, series, setup, status
from core.bot.booking import Booking
from core.bot.catchup import CatchUp
from core.bot.desk import Desk
from core.bot.execution import Executor
from core.bot.feed import Feed
from core.bot.following import Following
from core.bot.guardian import Guardian
from core.bot.hands import Hands
from core.bot.journal import Journal
from core.bot.limits import GuardedBot
from core.bot.position import PositionStore
from core.bot.setup import Setup
from core.bot.strategist import Strategist
from core.bot.teller import Teller
from core.bot.wallet import JumpWatch, WalletWatch
from core.clock import Clock
from core.config import Settings
from core.errors import AccessRefused, BudgetSpent, ExchangeError, NotFound, RateLimited, SettingsError
from core.exchange import Exchange
from core.market.history import CandleStore
from core.model import ZERO, Decision, Fill, KlineRow, Order, Position, Symbol
from core.storage import Files, installation
from strategies.base import Strategy

log = logging.getLogger("botyard")

HEARTBEAT_MS = 2000
PULSE_MS = 1000
THOUGHT_MS = 200  # how often a strategy that thinks is asked whether it has an answer
LOOK_FLOOR_MS = 1000  # looks are never more often than once a wall second
RETRY_MS = {
    "check": 5000,
    "look": 1000,
    "protect": 1000,
    "orders": 1000,
    "wallet": 5000,
    "commands": 1000,
    "start": 5000,
    "catchup": 5000,
    "booking": 1000,
    "guards": 1000,
}
OPEN_RETRY_MS = 1000  # a start that failed while something is open: nobody watches it until then
RULES_AGE_MS = 3_600_000
LONGEST_EXIT_PAUSE_MS = 60_000


class Trader:
    """One bot's life. `read_record` gives its record anew at each check, None where it has none;
    `needs` the bots' next entries on this account in a quote asset, for the word about pots;
    `openers` make the named series that the strategy declares; `vet` looks at the keys at the start,
    told whether nothing is open: what to warn of, or AccessRefused.

    `strategy` None is guard mode: no entries, only stop, target and booking, until flat; with `once`
    only booking, until the books say what the exchange says (core/bot/booking.py).
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
        needs: Callable[[str], Iterable[tuple[str, Decimal]]] = lambda quote: (),
        state: status.Status | None = None,
        openers: Mapping[str, series.Opener] = series.OPENERS,
        vet: Callable[[bool], str] = lambda idle: "",
        once: bool = False,
    ):
        self.config, self.settings, self.files, self.exchange, self.clock, self.strategy = config, settings, files, exchange, clock, strategy
        self.guard = strategy is None
        self.read_record, self.needs, self.openers, self.vet = read_record, needs, openers, vet
        self.status = state or status.Status(files, config.bot_id)
        self.store = PositionStore(files, config.bot_id)
        self.journal = Journal(files, config.bot_id)
        self.feed = Feed(exchange, clock, candles)
        self.teller = Teller(files, self.status, self.journal, clock)
        self.wallet, self.jump = WalletWatch(files, exchange, clock), JumpWatch(files, exchange)
        self.strategist = Strategist(strategy, exchange, clock, self.teller) if strategy is not None else None
        self.guardian, self.desk, self.hands = Guardian(self), Desk(self), Hands(self)
        self.limits = GuardedBot(self)
        self.following = Following(self)
        self.catchup = CatchUp(self)
        self.booking = Booking(self) if once and self.guard else None
        # A strategy's file may have set another precision when it was loaded; money is counted in this one.
        setcontext(Context(prec=28, rounding=ROUND_HALF_EVEN, traps=[DivisionByZero, InvalidOperation, Overflow]))
        self._alarm = ""  # what `vet` warned of
        self.stopping: str | None = None
        self.finished = ""  # why the run ended by itself
        self._symbol_now: Symbol | None = None
        self._executor_now: Executor | None = None
        self.rules_wall = 0
        self._slot_done: int | None = None
        self.last_candle: int | None = None
        self._last_look_ms = 0
        self._last_look_wall = -LOOK_FLOOR_MS
        self.retry_wall: dict[str, int] = {}  # what failed at the exchange is not tried before
        self._quiet_until_wall = 0  # the exchange asked for silence
        self._looks_beyond = 0
        self._raised_by: dict[str, str] = {}  # kind of warning: what failed last
        self._beat_wall = self._pulse_wall = -HEARTBEAT_MS
        exchange.attach_heartbeat(self._pulse)

    # --- what others call -------------------------------------------------------------

    def stop(self, why: str) -> None:
        """End after the step that runs now; safe to call from a signal handler."""
        self.stopping = self.stopping or why
        self.clock.wake()

    def run(self) -> None:
        """From start to stop. Raises what only a person can mend (StateError, SettingsError, AccessRefused)."""
        while not self.stopping and not self.start():
            self.clock.wait(None, max(self._quiet_until_wall, self.retry_wall.get("start", 0)))
        while not self.stopping and not self.finished:
            self.step()
            if self.stopping or self.finished:
                break
            self.clock.wait(*self.deadlines())
        if self.stopping and self._executor_now is not None:
            self.guardian.before_the_end(self._quiet_until_wall)

    @property
    def position(self) -> Position:
        return self.executor.position

    @property
    def symbol(self) -> Symbol:
        if self._symbol_now is None:
            raise RuntimeError("the trader was not started")
        return self._symbol_now

    @property
    def executor(self) -> Executor:
        if self._executor_now is None:
            raise RuntimeError("the trader was not started")
        return self._executor_now

    def entry_block(self) -> str:
        """Why nothing may be bought now, "" where nothing is in the way. Ways out are never asked."""
        if self._alarm:  # the keys were not as they must be while something was open: asked again before anything is bought
            self._alarm = self.vet(self.position.idle)
            if not self._alarm:
                self.status.clear("rights")
        return self.catchup.block() or self.wallet.problem or self._alarm or self.limits.block() or str(getattr(self.clock, "trouble", lambda: "")())

    # --- start ---------------------------------------------------------------------------

    def start(self) -> bool:
        """Connect, read the files, mend what a death left. False: the exchange can't be reached yet."""
        config = self.config
        self.status.write(state="starting", guard=self.guard, mode=config.mode, symbol=config.symbol, strategy=config.strategy)
        found = self.store.load()  # a file that can't be trusted ends the bot before anything is asked
        if found is not None and found.unjournaled:
            # Before the file may go to the archive: this list is all that knows of these fills.
            self.journal.open()
            self.journal.catch_up(found)
        self.exchange.priority = "entry" if found is None or found.idle else "exit"
        try:
            own = installation(self.files)
            self.exchange.connect(own)
            self._sync_clock(must=True)
            found = self.catchup.at_start(own, found)  # restored from a backup: what happened since, first of all
            # An open position's symbol rules over record and arguments.
            name = found.symbol if found is not None and not found.idle else config.symbol
            if name != config.symbol:
                log.warning("⚠️ The position file holds %s: this symbol is traded until it is closed, then %s", name, config.symbol)
            symbol = self._symbol_now = self.exchange.symbol(name)
            self.rules_wall = self.clock.wall_ms()
            self._alarm = self.vet(found is None or found.idle)
            if self._alarm:
                self.teller.warn("rights", self._alarm, config, symbol, "risk")
            ledger.ensure_baseline(self.files, self.exchange)
            if found is None or found.idle:
                self._compare_pots(symbol)
            else:
                with suppress(ExchangeError):  # a word about the next entries keeps nobody from watching a stop
                    self._compare_pots(symbol)
        except AccessRefused:
            raise
        except ExchangeError as e:
            self._failed("start", e, OPEN_RETRY_MS if found is not None and not found.idle else None)
            return False
        position = self.store.adopt(config.bot_id, self.exchange.venue, symbol.name, symbol.base, symbol.quote)
        if self.strategy is not None and position.idle and position.strategy != self.strategy.ref():
            # Written with the next save; a position keeps the strategy that opened it.
            self.store.position = replace(position, strategy=self.strategy.ref())
        if self.strategist is not None:
            self.strategist.open(self.settings, self.files, symbol, self.openers)
        self._executor_now = Executor(
            self.exchange,
            self.store,
            self.journal,
            own,
            wall_ms=self.clock.wall_ms,
            market_ms=self.clock.market_ms,
            after_fills=lambda p, news: decisions.after_fills(p, self.config.plan, self.symbol.rules, news),
            on_fills=self._filled,
            warn=lambda kind, text, severity: self.teller.warn(kind, text, self.config, self.symbol, severity),
        )
        self.executor.start()
        try:
            self._remember()
        except (TypeError, ValueError, ArithmeticError, AttributeError) as e:
            log.warning("⚠️ The last run's status can't be used (%s): this one begins without it", e)
        self.status.clear("start")
        self.teller.greet(config, self.exchange, symbol, self.position, self.guard)
        self.status.write(state="running", venue=asdict(self.exchange.venue), symbol=symbol.name)
        self._beat({})
        return True

    def _compare_pots(self, symbol: Symbol) -> None:
        if self.guard:
            return
        wallet = self.exchange.balances().get(symbol.quote)
        text = pots.shortfall(self.needs(symbol.quote), symbol.quote, wallet.total if wallet else ZERO)
        if text and self.settings.strict_pots and (self.store.position is None or self.store.position.idle):
            raise SettingsError(f"STRICT_POTS: {text}. Lower the bots' amounts, add funds, or set STRICT_POTS=false")
        if text:
            self.teller.warn("pots", text[:1].upper() + text[1:], self.config, symbol)

    def _remember(self) -> None:
        """What the last run had done, so that no candle is decided on twice and no slot done twice."""
        before, now = self.status.before, self.clock.market_ms()
        same = (before.get("symbol"), before.get("mode"), before.get("strategy")) == (self.symbol.name, self.config.mode, self.config.strategy)
        last = before.get("last_check")
        if same and isinstance(last, dict) and (before.get("venue") or {}).get("source", "") == self.exchange.venue.source:
            self.status.fields["last_check"] = last
            if isinstance(last.get("slot_ms"), int) and last["slot_ms"] <= now:
                self._slot_done = last["slot_ms"]
            if isinstance(last.get("candle_ms"), int) and last["candle_ms"] <= now:
                self.last_candle = last["candle_ms"]
        kept = self.position.last_candle_ms
        if kept is not None and kept <= now and (self.last_candle is None or kept > self.last_candle):
            self.last_candle = kept
        day = before.get("day")
        if same and isinstance(day, dict):
            self.teller.day = (str(day.get("date")), Decimal(str(day.get("value", 0))))

    # --- the loop --------------------------------------------------------------------------

    def step(self) -> None:
        """Everything that is due now, each by itself: what fails is tried again later."""
        self.exchange.priority = "entry" if self.position.idle else "exit"
        if self.booking is not None:
            self.finished = self.booking.step(self._try)
            self._beat()
            return
        self._try("catchup", self.catchup.due, self.catchup.step)
        self._try("orders", lambda: self.executor.unresolved or bool(self.position.orders), self.executor.resolve)
        self._try("commands", lambda: True, self.hands.obey)
        self._try("protect", self.guardian.due, self.guardian.protect)
        self._try("look", self._look_due, self._look)
        self._try("guards", lambda: True, self.limits.step)
        self._try("check", self._check_due, lambda: self._check(self._due_slot()))
        self._try("wallet", self.wallet.due, self._compare_wallet)
        if self.strategist is not None:
            self.strategist.watch(self.config, self.symbol)
        if self.guard and self.position.idle:
            self.finished = "guard: nothing is open any more"
        self._beat()

    def _try(self, what: str, due: Callable[[], bool], do: Callable[[], None]) -> None:
        """Do what is due; what fails at the exchange or the disk is told, and tried again after its pause."""
        now = self.clock.wall_ms()
        if self.stopping or now < self._quiet_until_wall or now < self.retry_wall.get(what, 0) or not due():
            return
        try:
            do()
        except AccessRefused as e:
            if self.position.idle:
                raise
            text = f"The exchange refuses this account ({e}) while a position or an order is open: mend the keys now"
            self._raised_by["access"] = what
            self.teller.warn("access", text, self.config, self.symbol, "risk")
            self.retry_wall[what] = now + RETRY_MS["check"]
        except ExchangeError as e:
            self._failed(what, e)
        except OSError as e:
            # A disk that takes nothing: nothing was sent, and nothing is forgotten. While something
            # is open the bot stays and tries again; nobody else would watch it.
            if self.position.idle and not self.position.unjournaled:
                raise
            self.retry_wall[what] = now + RETRY_MS["check"]
            text = f"{e.filename or 'A file'} can't be written ({e.strerror or e}): free the disk now, the bot can't act until then"
            self._raised_by["disk"] = what
            self.teller.warn("disk", text, self.config, self.symbol, "risk")
        else:
            # A warning goes when what raised it works again: cleared by anything else it would be told anew each time.
            self.status.clear(what, *(kind for kind, raised in self._raised_by.items() if raised == what))

    def _failed(self, what: str, e: ExchangeError, pause_ms: int | None = None) -> None:
        now = self.clock.wall_ms()
        pause = pause_ms or RETRY_MS[what]
        if isinstance(e, RateLimited):
            pause = max(pause, int(e.retry_after_s * 1000))
            if not isinstance(e, BudgetSpent):  # our own budget holds this one back: what is more urgent may still go
                self._quiet_until_wall = now + pause
        self.retry_wall[what] = now + pause
        if self.status.warn(what, f"The exchange failed ({what}): {e}"):
            log.warning("⚠️ The exchange failed (%s): %s; trying again in %d s", what, e, pause // 1000)
        self.status.write()

    def deadlines(self) -> tuple[int | None, int | None]:
        """(market time, wall time) at which the next step is due."""
        now = self.clock.wall_ms()
        wall, market = [self._beat_wall + HEARTBEAT_MS], []
        if now < self._quiet_until_wall:
            return None, min(self._quiet_until_wall, *wall)

        def later(what: str) -> bool:
            """It failed just now: come back at its retry, not before."""
            if now < self.retry_wall.get(what, 0):
                wall.append(self.retry_wall[what])
                return True
            return False

        if not self.guard and not later("check"):
            if not self._check_due():
                market.append(self._next_slot())
            elif not self.executor.unresolved:  # else the answer to the open question wakes us
                market.append(self.clock.market_ms())
        if self._watching() and self.booking is None and not self.executor.unresolved and not later("look"):
            rest = LOOK_FLOOR_MS - (now - self._last_look_wall)
            if rest > 0 and not self._stepped():
                wall.append(now + rest)
            else:
                market.append(self._next_look())
        if self.strategist is not None and self.strategist.asked:
            wall.append(now + THOUGHT_MS)
        compare = self.wallet.due_wall_ms()
        if compare is not None and not later("wallet"):
            wall.append(max(compare, now + 50))
        if self.booking is None and self.guardian.due() and not later("protect"):
            wall.append(now)  # what was bought just now gets its stop at once
        if self.booking is not None:
            wall.append(max(self.booking.due_wall_ms(), now + 50))
        ask = self.executor.next_ask_wall_ms()
        if ask is not None and not later("orders"):
            wall.append(max(ask, now + 50))
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

    def _beat(self, changes: Mapping[str, Any] | None = None) -> None:
        """The status, every HEARTBEAT_MS, and at once when something changed."""
        now = self.clock.wall_ms()
        if changes is None and now - self._beat_wall < HEARTBEAT_MS:
            return
        self._beat_wall = now
        market = self.clock.market_ms()
        next_slot = None if self.guard else self._next_slot()
        speed = float(getattr(self.clock, "speed", 1.0))
        day = self.teller.day
        self.status.write(
            market_ms=market,
            speed=speed,
            price=self.feed.last_price,
            next_check_ms=next_slot,
            next_check_wall_ms=None if next_slot is None or speed <= 0 else now + int(max(0, next_slot - market) / speed),
            unresolved=self.executor.unresolved,
            thinking_since_wall_ms=None if self.strategist is None else self.strategist.thinking_since(),
            day=None if day is None else {"date": day[0], "value": day[1]},
            **(changes or {}),
        )

    def _pulse(self) -> None:
        """A sign of life before each request: a bot that waits for the exchange is slow, not stuck."""
        now = self.clock.wall_ms()
        if now - max(self._beat_wall, self._pulse_wall) >= PULSE_MS:
            self._pulse_wall = now
            self.status.write()

    # --- when ----------------------------------------------------------------------------------

    def _due_slot(self) -> int:
        return schedule.slot_before(self.clock.market_ms(), self.config.check_interval_s * 1000, self.config.offset_ms)

    def _next_slot(self) -> int:
        return schedule.slot_after(self.clock.market_ms(), self.config.check_interval_s * 1000, self.config.offset_ms)

    def _check_due(self) -> bool:
        if self.strategist is None or self.guard or self.strategist.thinking():
            return False
        return self._slot_done is None or self._due_slot() > self._slot_done or self.strategist.answered()

    def _watching(self) -> bool:
        """There is a stop or a target: this bot looks, also at what the exchange holds."""
        p = self.position
        return p.direction is not None and (p.stop_loss is not None or p.take_profit is not None)

    def _look_due(self) -> bool:
        if not self._watching():
            return False
        if not self._stepped() and self.clock.wall_ms() - self._last_look_wall < LOOK_FLOOR_MS:
            return False
        return self.clock.market_ms() >= self._next_look()

    def _next_look(self) -> int:
        # Our market time may have run ahead of the exchange's (it slowed down, or stood still
        # unheard) and have been set back since: a look in the future must not keep the next one waiting.
        self._last_look_ms = min(self._last_look_ms, self.clock.market_ms())
        return schedule.look_after(self._last_look_ms, self.config.risk_interval_s * 1000)

    # --- the look and the check --------------------------------------------------------------------

    def _look(self) -> None:
        if self.executor.unresolved:
            return
        price = self.feed.price(self.symbol.name)
        self._last_look_ms, self._last_look_wall = self.clock.market_ms(), self.clock.wall_ms()
        if self._jumped(price):
            return
        decision = decisions.look(self.position, price, self._looks_beyond)
        self._looks_beyond = self._looks_beyond + 1 if decision.why_not or decision.intents else 0
        if decision.intents:
            self._record(decision, self.desk.act(decision, price), price, slot=None)

    def _check(self, slot: int) -> None:
        self._sync_clock(must=True)  # a clock that runs ahead would take an open candle for closed
        if self.clock.market_ms() < slot or self.executor.unresolved:
            return  # our clock was ahead, or the outcome of an order comes first: the slot stays due
        self._reload()
        needed = self.strategy.candles_needed(self.config.kline_limit) if self.strategy else self.config.kline_limit
        rows = self.feed.closed_candles(self.symbol.name, self.config.timeframe, needed)
        price = self.feed.price(self.symbol.name)
        candle = int(rows[-1][0]) if rows else None
        fresh = candle is not None and candle != self.last_candle
        decision = self._decide(rows, fresh, price)
        if decision is None:
            return  # the strategy is still thinking: the slot stays due, stop and target are watched meanwhile
        if self.strategist is not None:
            candle = self.strategist.stands_at(candle)
        cooled = fresh and self.position.cooldown > 0
        decision = self.hands.left_out(decision, candle)
        before = self.last_candle
        if candle is not None:
            self.last_candle = candle
        try:
            why = self.desk.act(decision, price)
        except (ExchangeError, OSError):
            self.last_candle = before
            raise
        if self.desk.undone:
            # What was decided is not done: the slot stays due, and the candle is decided on again.
            self.last_candle = before
            self.retry_wall["check"] = max(self.retry_wall.get("check", 0), self.clock.wall_ms() + RETRY_MS["check"])
            self.teller.checked(self.config, self.symbol, self.position, decision, why, price)
            self._record(decision, why, price, slot=None)
            return
        if cooled and self.position.cooldown > 0:
            self.store.save(replace(self.position, cooldown=self.position.cooldown - 1, last_candle_ms=self.last_candle))
        if self.desk.unsold:
            self.last_candle = before  # the exchange refused a way out: the next check decides on this candle again
        self._slot_done = slot
        self.wallet.ask()
        self.guardian.ask_again()
        self.teller.checked(self.config, self.symbol, self.position, decision, why, price)
        if self.strategist is not None and fresh:
            self.following.heard(self.strategist.recommended)
            if candle is not None and not getattr(self.clock, "stepped", False):
                self.status.fields["regime"] = climate.told(self.feed.store, self.exchange.venue, self.symbol.name, self.config.timeframe, candle)
        self.status.fields["checks_completed"] += 1
        self._record(decision, why, price, slot=slot)

    def _decide(self, rows: list[KlineRow], fresh: bool, price: Decimal) -> Decision | None:
        """Stop and target first, then what time and candles ask for, then the strategy. None: it is still thinking."""
        jumped = self._jumped(price)
        if jumped:
            return Decision(reasoning=jumped, why_not=jumped)
        decision = decisions.look(self.position, price, self._looks_beyond) if self._watching() else Decision()
        if not decision.intents and fresh:
            self.guardian.move_stop(rows)
            decision = decisions.timed_out(self.position, self.config.plan, rows)
        if self.strategist is None:
            return decision
        if decision.intents:
            self.strategist.forget()
            return decision
        return self.strategist.ask(self.config, self.symbol, self.position, rows, fresh, price)

    def _jumped(self, price: Decimal) -> str:
        word = self.jump.word(self.position, price)
        if word:
            self.teller.warn("jump", f"{word[:1].upper()}{word[1:]}", self.config, self.symbol, "risk")
        else:
            self.status.clear("jump")
        return word

    def _filled(self, before: Position, order: Order, news: tuple[Fill, ...], after: Position) -> None:
        if after.direction is None:
            self.status.clear("exit", "protection", "foreign")  # they spoke of a position that is gone
            self.wallet.ask()
        self.guardian.gap.booked(before, after)
        self.teller.filled(self.config.name, self.symbol, before, order, news, after)

    def _compare_wallet(self) -> None:
        if self.executor.doubted:
            self.wallet.later()  # no alarm about coins that an order may just have sold
            return
        self.wallet.compare(self.position)
        if self.wallet.problem:
            self.teller.warn("foreign", self.wallet.problem, self.config, self.symbol, "risk")
        elif self.wallet.due_wall_ms() is None:
            self.status.clear("foreign")

    def _reload(self) -> None:
        """An update of the record counts from the next check; what needs a restart is left alone."""
        if self.clock.wall_ms() - self.rules_wall > RULES_AGE_MS:
            try:
                self.read_rules()
            except (RateLimited, AccessRefused):
                raise
            except ExchangeError as e:
                log.warning("⚠️ The rules of %s can't be read anew, the known ones stand: %s", self.symbol.name, e)
        record, config = self.read_record(), self.config
        if record is None:
            return
        try:
            name, amount = str(record.get("name") or config.name), Decimal(str(record.get("trade_amount", config.plan.trade_amount)))
            fresh = setup.build(self.settings, config.bot_id, name, config.symbol, config.strategy, amount, record, self.strategy)
        except (SettingsError, ArithmeticError, ValueError, TypeError, AttributeError) as e:
            self.teller.warn("record", f"The record can't be used, the bot goes on as before: {e}", config, self.symbol)
            return
        self.status.clear("record")
        self.config = replace(config, **{field: getattr(fresh, field) for field in Setup.LIVE})

    def read_rules(self) -> None:
        """What the symbol allows now; one that is gone can't be traded, and its owner is told."""
        try:
            self._symbol_now = self.exchange.symbol(self.symbol.name)
            self.status.clear("symbol")
        except NotFound as e:
            self._symbol_now = replace(self.symbol, tradeable=False, status="DELISTED")
            self.teller.warn("symbol", f"{e}; it can't be traded any more", self.config, self.symbol, "risk")
        self.rules_wall = self.clock.wall_ms()

    def check_now(self) -> None:
        """A check between the slots, asked for by hand."""
        self._check(self._due_slot())

    def record_decision(self, decision: Decision, why: str, price: Decimal) -> None:
        """What was decided beside the checks: a row, a word, a heartbeat."""
        self._record(decision, why, price, slot=None)

    def _record(self, decision: Decision, why: str, price: Decimal, *, slot: int | None) -> None:
        version = self.strategy.version if self.strategy else ""
        shown = self.teller.row(self.config, version, decision, why, price, slot, self.last_candle)
        self._beat({"last_look" if slot is None else "last_check": shown})
