"""The exact engine: bots played over candles, event by event. Owns no files.

What a bot does at an instant is its own code (core/backtest/player.py). What is here is the
choice of instants: checks at their slots, looks at k·RISK_INTERVAL, fills where the path
reaches an order. Instants at which nothing can happen are left out: looks without a print at
a level since the last, and, where all signals are known, checks on which none acts.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import numpy as np

from core.backtest.player import Player
from core.backtest.result import END, Config
from core.backtest.tape import Tape, at_least, at_most
from core.backtest.venue import FINE, Account, SimExchange
from core.bot import schedule, series
from core.market.bars import Bars, Ints
from core.market.fees import UNIT
from core.market.triggers import stop_side
from core.model import ZERO, Fill, Symbol, Venue
from strategies.base import Strategy

HUNDRED = Decimal(100)
VENUE = Venue(source="backtest")
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Task:
    """One bot of a run. `bars`: what it decides on, warm-up included; `path`: the candles that prices are made of.
    `signals`: of every candle of `bars`, None where the strategy is asked at each check. Trading is from the first
    instant at `start_ms` to the open at `end_ms`, where what is open is closed as `last_tag`."""

    config: Config
    bars: Bars
    path: Bars
    strategy: Strategy
    symbol: Symbol
    start_ms: int
    end_ms: int
    signals: Any = None
    providers: Mapping[str, series.Provider] | None = None
    last_tag: str = END


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a run: fills, warnings and refusals of each task, and what each asset came to after each fill (ms, asset, amount)."""

    fills: list[list[Fill]]
    log: list[tuple[int, str, Decimal]]
    warnings: list[tuple[str, ...]]
    refused: list[dict[str, int]]


class Timetable:
    """The checks of a task: `at` (ms) those that see a new closed candle, `bar` which one (its place), ascending."""

    def __init__(self, task: Task):
        bars, config = task.bars, task.config
        self.interval_ms = None if config.check_interval_s is None else config.check_interval_s * 1000
        self.offset_ms = config.offset_ms
        if self.interval_ms is None:
            first, last = bars.open_ms.searchsorted((task.start_ms, task.end_ms))
            first = max(int(first), 1)  # before the second candle opens none has closed
            self.at: Ints = bars.open_ms[first:last]
            self.bar: Ints = np.arange(first - 1, first - 1 + len(self.at), dtype=np.int64)
        else:
            begin = schedule.slot_after(task.start_ms - 1, self.interval_ms, self.offset_ms)
            slots = np.arange(begin, task.end_ms, self.interval_ms, dtype=np.int64)
            seen = bars.open_ms.searchsorted(slots - bars.length_ms, "right") - 1
            fresh = (seen >= 0) & (np.concatenate(([-1], seen[:-1])) != seen)
            self.at, self.bar = slots[fresh], seen[fresh]

    def slot(self, after_ms: int) -> int | None:
        """The first slot after a moment, whether it sees a new candle or not."""
        if self.interval_ms is not None:
            return schedule.slot_after(after_ms, self.interval_ms, self.offset_ms)
        i = int(self.at.searchsorted(after_ms, "right"))
        return int(self.at[i]) if i < len(self.at) else None


class Driver:
    """One bot and its instants. `due` says when the next one is, `step` plays it."""

    def __init__(self, number: int, task: Task, account: Account, worth: Callable[[int], Decimal]):
        config = task.config
        self.task, self.end = task, task.end_ms
        self.tape = Tape(task.path)
        self.market = SimExchange(
            account,
            task.symbol,
            self.tape,
            VENUE,
            config.fee_pct / HUNDRED,
            config.fee_mode == "quote",
            config.slippage_pct / HUNDRED,
            UNIT if config.filters else FINE,
        )
        self.player = Player(number, config, task.bars, self.market, task.strategy, task.signals, task.providers, lambda: worth(self.now))
        self.table = Timetable(task)
        self.risk_ms = config.risk_interval_s * 1000
        self.now = task.start_ms - 1
        self.over = False
        self._dirty_since: int | None = None  # something changed then: the next look is not left out
        plan = config.plan
        self._each_candle = bool(plan.trailing_stop_pct or plan.break_even_pct or plan.time_stop_candles)
        self._says: dict[int, list[int]] | None = None
        if task.signals is not None:
            ready = task.strategy.ready(config.kline_limit)
            said = np.where(self.table.bar + 1 >= ready, np.asarray(task.signals)[self.table.bar], 0)
            self._says = {s: self.table.at[said == s].tolist() for s in (1, -1)}
        self._at: list[int] = self.table.at.tolist()
        self._check: int | None = None
        self._look: int | None = None

    # --- when -----------------------------------------------------------------------------

    def due(self) -> int:
        """Market time of the next instant at which something may happen; `end` at the latest."""
        self._check, self._look = self._next_check(), None
        horizon = self.end if self._check is None else min(self._check, self.end)
        p = self.player.position
        if self.player.watching:
            if self._dirty_since is not None:
                self._look = max(schedule.look_after(self._dirty_since, self.risk_ms), self.player.attempts.retry_wall.get("look", 0))
                slot = self.table.slot(self.now)
                if slot is not None and slot < self._look and (self._check is None or slot < self._check):
                    self._check = slot  # a check looks, too
            elif not self._held():
                self._watch(horizon)
            if self._look is not None:
                horizon = min(horizon, self._look)
            if self._check is not None:
                horizon = min(horizon, self._check)
        if p.orders:
            met = self.market.next_met(horizon)
            return horizon if met is None else met
        return horizon

    def _next_check(self) -> int | None:
        player, p = self.player, self.player.position
        if player.desk.unsold:
            return self.table.slot(self.now)  # a way out was refused: asked again, on the same candle
        if self._says is None or p.cooldown > 0 or (self._each_candle and p.direction is not None):
            return _after(self._at, self.now)
        return _after(self._says[1 if p.direction is None else -1], self.now)

    def _held(self) -> bool:
        """The exchange acts at both levels without fail: no look can see the price beyond them."""
        p = self.player.position
        kinds = {o.role: o.request.kind for o in p.orders}
        return kinds.get("stop") == "STOP_LOSS" and (p.take_profit is None or "target" in kinds)

    def _watch(self, horizon: int) -> None:
        """The look, or the check if that comes first, that may see a print at stop or target."""
        p = self.player.position
        below, above = (p.stop_loss, p.take_profit) if stop_side(p.direction or "LONG") == "below" else (p.take_profit, p.stop_loss)
        touch = self.tape.touched(self.now, horizon, None if below is None else at_most(below), None if above is None else at_least(above))
        if touch is None:
            return
        self._look = schedule.look_after(touch - 1, self.risk_ms)
        slot = self.table.slot(touch - 1)
        if slot is not None and slot < self._look and (self._check is None or slot < self._check):
            self._check = slot

    # --- what ------------------------------------------------------------------------------

    def step(self, ms: int) -> None:
        """Play the instant that `due` named."""
        self.now = ms
        player = self.player
        player.set_now(ms)
        if self._book(ms) and self._check != ms and _after(self._at, ms - 1) == ms:
            self._check = ms  # the fill came first: this check sees what it left
        if ms >= self.end:
            player.close_all(self.task.last_tag, "the candles end here")
            self.over = True
            return
        if ms not in (self._check, self._look):
            return
        player.protect_if_due()
        if ms == self._look and player.watching:
            self._dirty_since = None
            before = player.position
            player.look_now()
            if player.beyond or player.position is not before:
                self._dirty_since = ms
                if _after(self._at, ms - 1) == ms:
                    self._check = ms  # a bot looks, then checks: this check sees what the look left
        if ms == self._check:
            player.check_at(ms)
            self._dirty_since = ms
        player.protect_if_due()

    def _book(self, ms: int) -> bool:
        """Tell the bot what the path did to its orders; whether it did something."""
        booked = False
        while (met := self.market.advance(ms)) is not None:
            for update in met[1]:
                self.player.executor.book(update)
            self._dirty_since, booked = met[0] - 1, True
        return booked


def _after(times: list[int], ms: int) -> int | None:
    i = bisect_right(times, ms)
    return times[i] if i < len(times) else None


def play(tasks: Sequence[Task], cash: Decimal, progress: Progress | None = None) -> Played:
    """Play bots on one account, instant after instant; bots that are due at once go in the order given."""
    account = Account(tasks[0].symbol.quote, cash)
    drivers: list[Driver] = []

    def worth(ms: int) -> Decimal:
        held = account.of(tasks[0].symbol.quote)
        total = held.free + held.locked
        for d in drivers:
            p = d.player.position
            owns, price = p.quantity + p.dust, d.tape.last(ms)
            total += owns * price if price is not None else ZERO
        return total

    with localcontext(), _quiet():
        drivers += [Driver(i, task, account, worth) for i, task in enumerate(tasks, 1)]
        start, end = min(t.start_ms for t in tasks), max(t.end_ms for t in tasks)
        running, told, steps = list(drivers), 0.0, 0
        while running:
            ms, driver = min(((d.due(), d) for d in running), key=lambda pair: pair[0]) if len(running) > 1 else (running[0].due(), running[0])
            driver.step(ms)
            if driver.over:
                running.remove(driver)
            steps += 1
            if progress is not None and steps % 256 == 0 and (done := (ms - start) / max(end - start, 1)) - told >= 0.01:
                told = done
                progress(done)
    players = [d.player for d in drivers]
    return Played([p.ledger.fills for p in players], account.log, [tuple(p.warnings.values()) for p in players], [p.refused for p in players])


@contextmanager
def _quiet() -> Iterator[None]:
    """A bot's lines for people would be hundreds of thousands here."""
    log = logging.getLogger("botyard")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)
