"""One bot: the loop that checks, looks, acts and writes.

One check (DESIGN §5): resolve what is unresolved → closed candles → strategy → decision →
intent on disk → order → fold → position file → fills, decision, log, event → heartbeat →
wait, watching stop and target every RISK_INTERVAL.

The trader never sleeps by itself: `step()` does what is due, `deadlines()` says when to
come back, and `Clock.wait` is the one place that waits. What happens once at a start is in
core/bot/beginning.py, when a check or a look is due in agenda.py, what is tried again after
it failed in attempts.py. Owns no file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow, setcontext
from typing import Any

from core.bot import beginning, climate, decisions, series, setup, status
from core.bot.agenda import Agenda
from core.bot.attempts import Attempts
from core.bot.booking import Booking
from core.bot.catchup import CatchUp
from core.bot.desk import Desk
from core.bot.execution import Executor
from core.bot.feed import Feed
from core.bot.following import Following
from core.bot.guardian import Guardian
from core.bot.hands import Hands
from core.bot.heartbeat import Heartbeat
from core.bot.journal import Journal
from core.bot.limits import GuardedBot
from core.bot.listing import Listing
from core.bot.position import PositionStore
from core.bot.setup import Setup
from core.bot.strategist import Strategist
from core.bot.teller import Teller
from core.bot.wallet import JumpWatch, WalletWatch
from core.clock import Clock
from core.config import Settings
from core.errors import ExchangeError, SettingsError
from core.exchange import Exchange
from core.market.history import CandleStore
from core.model import Decision, Fill, KlineRow, Order, Position, Symbol
from core.storage import Files
from strategies.base import Strategy

log = logging.getLogger("botyard")

THOUGHT_MS = 200  # how often a strategy that thinks is asked whether it has an answer


class Trader:
    """One bot's life. `read_record` gives its record anew at each check, None where it has none;
    `needs` the bots' next entries on this account in a quote asset, for the word about pots;
    `openers` make the named series that the strategy declares; `vet` looks at the keys at the start,
    told whether nothing is open: what to warn of, or AccessRefused; `keep_place` makes sure that this is
    still the bot's only process, or raises AlreadyRunning.

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
        keep_place: Callable[[], None] = lambda: None,
    ):
        self.config, self.settings, self.files, self.exchange, self.clock, self.strategy = config, settings, files, exchange, clock, strategy
        self.guard = strategy is None
        self.read_record, self.needs, self.openers, self.vet = read_record, needs, openers, vet
        self._keep_place = keep_place
        self.status = state or status.Status(files, config.bot_id)
        self.heartbeat, self.agenda = Heartbeat(self.status, clock), Agenda(clock, lambda: self.config)
        self.attempts = Attempts(clock, self.status, lambda: self.position, self._at_risk)
        self.listing = Listing(exchange, clock, self.status, self._at_risk)
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
        self._executor_now: Executor | None = None
        self.last_candle: int | None = None
        self._looks_beyond = 0
        exchange.attach_heartbeat(self.heartbeat.pulse)

    # --- what others call -------------------------------------------------------------

    def stop(self, why: str) -> None:
        """End after the step that runs now; safe to call from a signal handler."""
        self.stopping = self.stopping or why
        self.clock.wake()

    def start(self) -> bool:
        """Connect, read the files, mend what a death left. False: the exchange can't be reached yet."""
        ready = beginning.begin(self)
        if ready is None:
            return False
        self._executor_now, self._alarm = ready.executor, ready.alarm
        self.status.clear("start")
        self.teller.greet(self.config, self.exchange, self.symbol, self.position, self.guard)
        self.status.write(state="running", venue=asdict(self.exchange.venue), symbol=self.symbol.name)
        self._beat({})
        return True

    def run(self) -> None:
        """From start to stop. Raises what only a person can mend (StateError, SettingsError, AccessRefused)."""
        while not self.stopping and not self.start():
            self.clock.wait(None, max(self.attempts.quiet_until_wall, self.attempts.waiting("start") or 0))
        while not self.stopping and not self.finished:
            self.step()
            if self.stopping or self.finished:
                break
            self.clock.wait(*self.deadlines())
        if self.stopping and self._executor_now is not None:
            self.guardian.before_the_end(self.attempts.quiet_until_wall)

    @property
    def position(self) -> Position:
        return self.executor.position

    @property
    def symbol(self) -> Symbol:
        if self.listing.symbol is None:
            raise RuntimeError("the trader was not started")
        return self.listing.symbol

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

    # --- the loop --------------------------------------------------------------------------

    def step(self) -> None:
        """Everything that is due now, each by itself: what fails is tried again later."""
        self._keep_place()
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
        self._try("check", self._check_due, self.check_now)
        self._try("wallet", self.wallet.due, self._compare_wallet)
        if self.strategist is not None:
            self.strategist.watch(self.config, self.symbol)
        if self.guard and self.position.idle:
            self.finished = "guard: nothing is open any more"
        self._beat()

    def _try(self, what: str, due: Callable[[], bool], do: Callable[[], None]) -> None:
        if not self.stopping:
            self.attempts.make(what, due, do)

    def _at_risk(self, kind: str, text: str) -> None:
        self.teller.warn(kind, text, self.config, self.symbol, "risk")

    def deadlines(self) -> tuple[int | None, int | None]:
        """(market time, wall time) at which the next step is due."""
        now = self.clock.wall_ms()
        wall, market = [self.heartbeat.due_wall_ms], []
        if now < self.attempts.quiet_until_wall:
            return None, min(self.attempts.quiet_until_wall, *wall)

        def later(what: str) -> bool:
            """It failed just now: come back at its retry, not before."""
            again = self.attempts.waiting(what)
            if again is not None:
                wall.append(again)
            return again is not None

        if not self.guard and not later("check"):
            if not self._check_due():
                market.append(self.agenda.next_slot())
            elif not self.executor.unresolved:  # else the answer to the open question wakes us
                market.append(self.clock.market_ms())
        if self.watching and self.booking is None and not self.executor.unresolved and not later("look"):
            rest = self.agenda.rest_ms()
            if rest > 0:
                wall.append(now + rest)
            else:
                market.append(self.agenda.next_look())
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

    def sync_clock(self) -> None:
        """Measure market time anew, where the clock can. Raises what the exchange raises."""
        sync = getattr(self.clock, "sync", None)
        if sync is not None:
            sync()

    def _beat(self, changes: Mapping[str, Any] | None = None) -> None:
        """The status, every HEARTBEAT_MS, and at once when something changed."""
        if changes is None and not self.heartbeat.due():
            return
        now, market = self.clock.wall_ms(), self.clock.market_ms()
        next_slot = None if self.guard else self.agenda.next_slot()
        speed = float(getattr(self.clock, "speed", 1.0))
        day = self.teller.day
        self.heartbeat.beat(
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

    # --- what is due ---------------------------------------------------------------------------

    def _check_due(self) -> bool:
        if self.strategist is None or self.guard or self.strategist.thinking():
            return False
        return self.agenda.slot_open() or self.strategist.answered()

    @property
    def watching(self) -> bool:
        """There is a stop or a target: this bot looks, also at what the exchange holds."""
        p = self.position
        return p.direction is not None and (p.stop_loss is not None or p.take_profit is not None)

    def _look_due(self) -> bool:
        return self.watching and self.agenda.look_due()

    # --- the look and the check --------------------------------------------------------------------

    def _look(self) -> None:
        if self.executor.unresolved:
            return
        price = self.feed.price(self.symbol.name)
        self.agenda.looked()
        if self._jumped(price):
            return
        decision = decisions.look(self.position, price, self._looks_beyond)
        self._looks_beyond = self._looks_beyond + 1 if decision.why_not or decision.intents else 0
        if decision.intents:
            self._record(decision, self.desk.act(decision, price), price, slot=None)

    def _check(self, slot: int) -> None:
        self.sync_clock()  # a clock that runs ahead would take an open candle for closed
        if self.clock.market_ms() < slot or self.executor.unresolved:
            return  # our clock was ahead, or the outcome of an order comes first: the slot stays due
        self._settle(slot)
        if self.executor.unresolved:
            return
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
        cooled, was_open = fresh and self.position.cooldown > 0, self.position.direction is not None
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
            self.attempts.pause("check")
            self.teller.checked(self.config, self.symbol, self.position, decision, why, price)
            self._record(decision, why, price, slot=None)
            return
        if fresh and was_open and self.position.direction is None:
            cooled = self.agenda.closed_before(slot)  # a stop that was found only now: this check is the first to be skipped
        if cooled and self.position.cooldown > 0:
            self.store.save(replace(self.position, cooldown=self.position.cooldown - 1, last_candle_ms=self.last_candle))
        if self.desk.unsold:
            self.last_candle = before  # the exchange refused a way out: the next check decides on this candle again
        self.agenda.slot_done = slot
        self.wallet.ask()
        self.guardian.ask_again()
        self.teller.checked(self.config, self.symbol, self.position, decision, why, price)
        if self.strategist is not None and fresh:
            self.following.heard(self.strategist.recommended)
            if candle is not None and not self.agenda.stepped:
                self.status.fields["regime"] = climate.told(self.feed.store, self.exchange.venue, self.symbol.name, self.config.timeframe, candle)
        self.status.fields["checks_completed"] += 1
        self._record(decision, why, price, slot=slot)

    def _settle(self, slot: int) -> None:
        """Book what happened to the orders before this slot: a stop that has filled counts from its own time on."""
        if self.position.orders:
            self.executor.resolve(slot)

    def _decide(self, rows: list[KlineRow], fresh: bool, price: Decimal) -> Decision | None:
        """Stop and target first, then what time and candles ask for, then the strategy. None: it is still thinking."""
        jumped = self._jumped(price)
        if jumped:
            return Decision(reasoning=jumped, why_not=jumped)
        decision = decisions.look(self.position, price, self._looks_beyond) if self.watching else Decision()
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

    def filled(self, before: Position, order: Order, news: tuple[Fill, ...], after: Position) -> None:
        """Fills were booked, and are in the position file."""
        if after.direction is None:
            self.status.clear("exit", "protection", "foreign")  # they spoke of a position that is gone
            self.wallet.ask()
            self.agenda.closed_ms = max((f.time_ms for f in (*before.fills, *news)), default=None)
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
        self.listing.renew()
        record, config = self.read_record(), self.config
        if record is None:
            return
        try:
            fresh = setup.reread(self.settings, config, record, self.strategy)
        except SettingsError as e:
            self.teller.warn("record", f"The record can't be used, the bot goes on as before: {e}", config, self.symbol)
            return
        self.status.clear("record")
        self.config = fresh

    def check_now(self) -> None:
        """The check of the slot before now, also between the slots, where it is asked for by hand."""
        self._check(self.agenda.slot())

    def record_decision(self, decision: Decision, why: str, price: Decimal) -> None:
        """What was decided beside the checks: a row, a word, a heartbeat."""
        self._record(decision, why, price, slot=None)

    def _record(self, decision: Decision, why: str, price: Decimal, *, slot: int | None) -> None:
        version = self.strategy.version if self.strategy else ""
        shown = self.teller.row(self.config, version, decision, why, price, slot, self.last_candle)
        self._beat({"last_look" if slot is None else "last_check": shown})
