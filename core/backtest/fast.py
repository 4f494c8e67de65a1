"""The fast engine: the exact one's trades, for signals and plain plans, in whole numbers. Owns no files.

Where every closed candle is decided on, prices don't slip and stop and target are fixed levels
that the exchange holds, a trade's way out follows from its entry alone. So the ways out of all
possible entries are found at once over columns, and what is left is a walk from trade to trade
with Python's integers, which are as exact as Decimals and much quicker.

`play` gives None, with no harm done, wherever a rule might act that is not worked out here (a
small pot, an odd filter, a level that rounds differently): the exact engine is then the one to
ask. tests/test_backtest_fast.py holds the two against each other.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, overload

import numpy as np

from core.backtest.exact import Task
from core.backtest.result import Trade
from core.market import sizing
from core.market.bars import SCALE, Ints
from core.model import ZERO, Rules, Symbol

TOGETHER = 64  # candles after its entry for which all possible trades are looked at side by side
SAFE = 4  # a pot of so many smallest entries meets no minimum
_SIZINGS = ("compound", "fixed", "all_available")
_BOUNDED = {"PRICE_FILTER", "LOT_SIZE", "MARKET_LOT_SIZE", "NOTIONAL", "MIN_NOTIONAL", "MAX_POSITION"}  # kept within below
_HARMLESS = _BOUNDED | {"ICEBERG_PARTS", "TRAILING_DELTA", "MAX_NUM_ORDER_AMENDS"}
_COOLING = "cooling down after a stop: … more check(s)"  # as the exact engine counts it
_COUNTS = {"MAX_NUM_ORDERS": ("maxNumOrders", 2), "MAX_NUM_ALGO_ORDERS": ("maxNumAlgoOrders", 1), "MAX_NUM_ORDER_LISTS": ("maxNumOrderLists", 1)}
SIGNAL, STOP, TARGET, END = range(4)
_STILL = 4  # not over after TOGETHER candles
Column = Any  # a numpy array; its element type is told where it is made


# A trade as it is walked over: candle of its entry, quote and base asset held from then on; candle of its exit, what is
# held from then on; entry and exit (ms), why, entry price (units of 1e-8), quantity bought, paid, sold, got, fee of the
# entry (base asset, or quote asset where the settings say so) and of the exit. Amounts in units of 10^-decimals.
Row = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int, int, int, int]


@dataclass(slots=True)
class Ran:
    """What a fast run came to. `cash`: what lay there before, units of 10^-decimals."""

    trades: Trades
    cash: int
    refused: dict[str, int] = field(default_factory=dict)

    def equity(self, task: Task, first: int) -> tuple[Ints, Any]:
        """(open_ms, worth at the close) of each candle from place `first`."""
        unit, bars, rows = 10**self.trades.decimals, task.bars, self.trades.rows
        changed = np.array([-1, *(i for row in rows for i in (row[0], row[3]))])
        place = np.searchsorted(changed, np.arange(first, len(bars)), "right") - 1
        quote = np.array([self.cash / unit, *(q / unit for row in rows for q in (row[1], row[4]))])[place]
        base = np.array([0.0, *(b / unit for row in rows for b in (row[2], row[5]))])[place]
        return bars.open_ms[first:], quote + base * (bars.close[first:] / SCALE)


class Trades(Sequence[Trade]):
    """Closed trades, each made when it is asked for."""

    def __init__(self, symbol: Symbol, decimals: int, reasons: tuple[str, ...], fee_in_quote: bool):
        self.symbol, self.decimals, self.reasons, self._in_quote = symbol, decimals, reasons, fee_in_quote
        self.rows: list[Row] = []

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> Trade: ...
    @overload
    def __getitem__(self, at: slice) -> list[Trade]: ...
    def __getitem__(self, at: int | slice) -> Trade | list[Trade]:
        if isinstance(at, slice):
            return [self._trade(row) for row in self.rows[at]]
        return self._trade(self.rows[at])

    def __iter__(self) -> Iterator[Trade]:
        return map(self._trade, self.rows)

    def _trade(self, row: Row) -> Trade:
        *_, entry_ms, exit_ms, why, price, bought_units, paid_units, sold_units, got_units, fee_in_units, fee_out_units = row
        units = (bought_units, paid_units, sold_units, got_units, fee_in_units, fee_out_units)
        bought, paid, sold, got, fee_in, fee_out = (Decimal(u).scaleb(-self.decimals) for u in units)
        taken = fee_out + fee_in if self._in_quote else fee_out
        profit = got - paid - taken
        return Trade(
            symbol=self.symbol.name,
            entry_time=entry_ms,
            exit_time=exit_ms,
            entry_price=paid / bought,
            exit_price=got / sold,
            quantity=bought,
            profit=profit,
            profit_pct=profit / paid * 100,
            exit_reason=self.reasons[why],
            fees=taken if self._in_quote else fee_out + fee_in * Decimal(price).scaleb(-8),
        )


@dataclass(frozen=True, slots=True)
class _Levels:
    """Stop or target of every possible entry: `limit` is the last price (units) that doesn't stay clear of it,
    `level` over `scale` the price itself."""

    limit: Ints
    level: Ints
    scale: int


def why_not(task: Task) -> str:
    """What this engine has not worked out of the task; empty where it can be played."""
    config, plan, symbol = task.config, task.config.plan, task.symbol
    rules = symbol.rules
    if task.signals is None or task.bars is not task.path:
        return "the strategy is asked candle by candle, or finer candles drive the path"
    if task.strategy.sizes_entries:
        return "the strategy sizes its entries"
    if config.check_interval_s is not None or config.slippage_pct:
        return "checks at an interval, or slippage"
    if plan.sizing not in _SIZINGS or plan.paid_out or plan.trailing_stop_pct or plan.break_even_pct or plan.time_stop_candles:
        return "sizing, or a stop that moves"
    if plan.stop_loss_pct or plan.take_profit_pct:
        wanted = {"STOP_LOSS", "LIMIT_MAKER"} if plan.take_profit_pct else {"STOP_LOSS"}
        if plan.protection != "exchange" or not plan.stop_loss_pct or not 0 < plan.stop_loss_pct < 50 or not wanted <= symbol.order_types:
            return "the bot watches a level itself"
    if not symbol.tradeable or "MARKET" not in symbol.order_types or symbol.quote_precision != (8 if config.filters else 16):
        return "the symbol's own kind"
    if rules.step <= 0 or rules.market_step not in (ZERO, rules.step) or _decimals(rules.step) > 8 or _decimals(rules.tick) > 8:
        return "the symbol's steps"
    for f in rules.filters:
        kind = f["filterType"]
        key, least = _COUNTS.get(kind, ("", 0))
        if kind not in _HARMLESS and not kind.startswith("PERCENT_PRICE") and (not key or int(f[key]) < least):
            return f"filter {kind}"
    return ""


def _decimals(value: Decimal) -> int:
    return -min(int(value.normalize().as_tuple().exponent), 0)


def play(task: Task, cash: Decimal) -> Ran | None:
    """The run, or None where the exact engine must be asked."""
    if why_not(task):
        return None
    try:
        return _Run(task, cash).play()
    except _UnfitError:
        return None


class _UnfitError(Exception):
    """Something came up that is not worked out here."""


class _Run:
    def __init__(self, task: Task, cash: Decimal):
        self.task, config, plan, rules = task, task.config, task.config.plan, task.symbol.rules
        self.decimals = 8 if config.filters else 16
        self.unit = 10**self.decimals
        self.cash, self.amount = self._units(cash), self._units(plan.trade_amount)
        self.most = None if plan.max_entry is None else self._units(plan.max_entry)
        self.fee_num, self.fee_den = (config.fee_pct / 100).as_integer_ratio()
        self.in_quote = config.fee_mode == "quote"
        self.step = self._units(rules.step)
        self.tick = int(rules.tick * SCALE)
        bars = task.bars
        first = max(int(bars.open_ms.searchsorted(task.start_ms)), 1, task.strategy.ready(config.kline_limit))
        self.last = len(bars) - 1
        # A signal is given on a closed candle and filled at the next one's open; at the last open everything ends.
        said = np.asarray(task.signals)[first - 1 : self.last - 1] if first < self.last else np.empty(0, np.int8)
        self.buys: Ints = np.flatnonzero(said == 1) + first
        self.sells: Ints = np.flatnonzero(said == -1) + first
        self.entry: Ints = bars.open[self.buys]
        self.stop = self._levels(plan.stop_loss_pct, above=False) if plan.stop_loss_pct else None
        self.target = self._levels(plan.take_profit_pct, above=True) if plan.take_profit_pct else None
        self._bounds(rules)

    def _units(self, value: Decimal) -> int:
        found = value * self.unit
        if found != int(found):
            raise _UnfitError
        return int(found)

    def _levels(self, percent: Decimal | None, *, above: bool) -> _Levels:
        """As `sizing.level` sets them from an entry at the open."""
        factor = 1 + (percent or ZERO) / 100 if above else 1 - (percent or ZERO) / 100
        num, den = factor.as_integer_ratio()
        if len(self.entry) and int(self.entry.max()) * num >= 2**62:
            raise _UnfitError
        moved = self.entry * num
        if self.tick:
            level = moved // (den * self.tick) * self.tick
            return _Levels(level, level, 1)
        return _Levels(-(-moved // den) if above else moved // den, moved, den)

    def _bounds(self, rules: Rules) -> None:
        """What no price, pot or quantity may leave, for nothing to be refused or cut."""
        if not len(self.buys):
            self.least = self.largest = 0
            return
        bars, high, low = self.task.bars, int(self.entry.max()), int(self.entry.min())
        if low <= max(self.tick, 1) or (self.stop is not None and int((self.entry - self.stop.limit).min()) <= 0):
            raise _UnfitError
        if self.target is not None and int((self.target.limit - self.entry).min()) <= 0:
            raise _UnfitError
        top = int((self.target.level // self.target.scale).max()) + 1 if self.target is not None else high
        bottom = int(self.stop.limit.min()) if self.stop is not None else low
        if (rules.max_price and top > rules.max_price * SCALE) or bottom < rules.min_price * SCALE or bottom <= 0:
            raise _UnfitError
        most = [q for q in (rules.max_quantity, rules.market_max_quantity) if q > 0]
        most += [Decimal(str(f["maxPosition"])) for f in rules.filters if f["filterType"] == "MAX_POSITION"]
        self.largest = int(min(most) * (1 - 2 * sizing.ROOM) * self.unit) if most else 2**200
        self.richest = int((rules.max_notional or sizing.NO_MAXIMUM) * self.unit * low // (2 * top))
        coins = max(rules.step, rules.min_quantity, rules.market_min_quantity)
        self.least = int(SAFE * (rules.min_notional + coins * Decimal(max(high, int(bars.open.max()))).scaleb(-8)) * self.unit)
        self.least_sale = int(SAFE * rules.min_notional * self.unit)
        if self.target is not None and any(f["filterType"].startswith("PERCENT_PRICE") for f in rules.filters):
            self._near_average(rules)

    def _near_average(self, rules: Rules) -> None:
        """A target must lie within the filter's reach of the average price; here well within it, by the candle before."""
        bars, places = self.task.bars, self.buys
        back = max(1, -(-300_000 // bars.length_ms))
        lows = np.min([bars.low[np.maximum(places - k, 0)] for k in range(1, back + 1)] + [self.entry], axis=0)
        highs = np.max([bars.high[np.maximum(places - k, 0)] for k in range(1, back + 1)] + [self.entry], axis=0)
        assert self.target is not None
        top = self.target.level / self.target.scale
        for f in rules.filters:
            if f["filterType"].startswith("PERCENT_PRICE"):
                up = min(float(f[k]) for k in ("multiplierUp", "askMultiplierUp") if k in f)
                down = max(float(f[k]) for k in ("multiplierDown", "askMultiplierDown") if k in f)
                if (top > 0.99 * up * lows).any() or (top < 1.01 * down * highs).any():
                    raise _UnfitError

    # --- ways out ---------------------------------------------------------------------------

    def _ways_out(self) -> tuple[list[int], list[int], list[bool]]:
        """(candle, why, whether at its open) of the way out of each possible entry. `_STILL`: not within TOGETHER candles."""
        sells = np.concatenate((self.sells, [self.last]))
        until = sells[np.searchsorted(self.sells, self.buys, "right")]
        candle, why = until.copy(), np.where(until == self.last, END, SIGNAL).astype(np.int8)  # no sale is decided at the last open
        opens = np.ones(len(self.buys), np.bool_)
        if self.stop is None:
            return candle.tolist(), why.tolist(), opens.tolist()
        bars = self.task.bars
        stop, top = self.stop.limit, self.target.limit if self.target is not None else np.full(len(self.buys), 2**62)
        active: Ints = np.arange(len(self.buys))
        for offset in range(TOGETHER):
            at = self.buys[active] + offset
            low_stop, high_top = stop[active], top[active]
            if offset:
                opened = bars.open[at]
                below, above = opened <= low_stop, opened >= high_top
                hit = below | above
                self._note(active, at, hit, np.where(below, STOP, TARGET), True, candle, why, opens)
                # The rest of the candle at whose open the trade ends otherwise isn't its own.
                stays = ~hit & (at < until[active])
                active, at, low_stop, high_top = active[stays], at[stays], low_stop[stays], high_top[stays]
            low, high, opened = bars.low[at], bars.high[at], bars.open[at]
            below, above = low <= low_stop, high >= high_top
            hit = below | above
            first_low = opened - low <= high - opened
            self._note(active, at, hit, np.where(below & (first_low | ~above), STOP, TARGET), False, candle, why, opens)
            active = active[~hit]
            if not len(active):
                break
        why[active[until[active] > self.buys[active] + TOGETHER - 1]] = _STILL
        return candle.tolist(), why.tolist(), opens.tolist()

    @staticmethod
    def _note(active: Ints, at: Ints, hit: Column, kind: Column, at_open: bool, candle: Column, why: Column, opens: Column) -> None:
        which = active[hit]
        candle[which], why[which], opens[which] = at[hit], kind[hit], at_open

    def _search(self, n: int) -> tuple[int, int, bool]:
        """The way out of possible entry `n`, looked for candle after candle from where all were left."""
        assert self.stop is not None
        bars, begin = self.task.bars, int(self.buys[n]) + TOGETHER
        where = int(np.searchsorted(self.sells, self.buys[n], "right"))
        end, why = (int(self.sells[where]), SIGNAL) if where < len(self.sells) else (self.last, END)
        stop, top = int(self.stop.limit[n]), int(self.target.limit[n]) if self.target is not None else 2**62
        size = TOGETHER
        while begin < end:
            part = slice(begin, min(begin + size, end))
            hit = (bars.low[part] <= stop) | (bars.high[part] >= top)
            i = int(hit.argmax())
            if hit[i]:
                return self._in_candle(begin + i, stop, top)
            begin, size = part.stop, min(size * 4, 65_536)
        opened = int(bars.open[end])
        if opened <= stop or opened >= top:
            return end, STOP if opened <= stop else TARGET, True
        return end, why, True

    def _in_candle(self, i: int, stop: int, top: int) -> tuple[int, int, bool]:
        bars = self.task.bars
        opened, low, high = int(bars.open[i]), int(bars.low[i]), int(bars.high[i])
        if opened <= stop or opened >= top:
            return i, STOP if opened <= stop else TARGET, True
        below = low <= stop and (opened - low <= high - opened or high < top)
        return i, STOP if below else TARGET, False

    # --- from trade to trade -------------------------------------------------------------------

    def play(self) -> Ran:
        task, plan, bars = self.task, self.task.config.plan, self.task.bars
        ran = Ran(Trades(task.symbol, self.decimals, ("signal", "stop_loss", "take_profit", task.last_tag), self.in_quote), self.cash)
        if not len(self.buys):
            return ran
        candles, whys, opens = self._ways_out()
        buys, entries, entry_ms = self.buys.tolist(), self.entry.tolist(), bars.open_ms[self.buys].tolist()
        leaving = np.array(candles)
        exit_ms, exit_open = bars.open_ms[leaving].tolist(), bars.open[leaving].tolist()
        low_first = (bars.open[leaving] - bars.low[leaving] <= bars.high[leaving] - bars.open[leaving]).tolist()
        stop_level = self.stop.level.tolist() if self.stop is not None else []
        top_level = self.target.level.tolist() if self.target is not None else []
        stop_scale, top_scale = self.stop.scale if self.stop is not None else 1, self.target.scale if self.target is not None else 1
        quarter, three, rows = bars.length_ms // 4, 3 * bars.length_ms // 4, ran.trades.rows
        cash, dust, profit, step, num, den = self.cash, 0, 0, self.step, self.fee_num, self.fee_den
        in_quote, compound, everything = self.in_quote, plan.sizing == "compound", plan.sizing == "all_available"
        coins, for_coins = (SCALE * den, den + num) if in_quote else (SCALE, 1)
        poor = f"low funds: the pot is … {task.symbol.quote}, free are … {task.symbol.quote}"
        n, count = 0, len(buys)
        while n < count:
            budget = cash if everything else self.amount + profit if compound else self.amount
            if self.most is not None and budget > self.most:
                budget = self.most
            if budget < self.least or budget > self.richest:
                raise _UnfitError
            if budget > cash:
                ran.refused[poor] = ran.refused.get(poor, 0) + 1
                n += 1
                continue
            price, bar = entries[n], buys[n]
            quantity = budget * coins // (price * for_coins * step) * step
            whole = price * quantity
            paid = whole // SCALE
            if whole % SCALE and self.stop is not None:
                self._levels_hold(n, paid, quantity)
            fee_in = (paid if in_quote else quantity) * num // den
            owned = dust + (quantity if in_quote else quantity - fee_in)
            if owned > self.largest or not quantity:
                raise _UnfitError
            cash -= paid + fee_in if in_quote else paid
            after_entry = cash
            end, why, at_open = candles[n], whys[n], opens[n]
            ms, opened, low_comes_first = exit_ms[n], exit_open[n], low_first[n]
            if why == _STILL:
                end, why, at_open = self._search(n)
                ms, opened = int(bars.open_ms[end]), int(bars.open[end])
                low_comes_first = opened - int(bars.low[end]) <= int(bars.high[end]) - opened
            sold = owned // step * step
            if at_open:
                got = opened * sold // SCALE
            else:
                ms += quarter if (why == STOP) == low_comes_first else three
                got = (stop_level[n] * sold // (SCALE * stop_scale)) if why == STOP else (top_level[n] * sold // (SCALE * top_scale))
            if got < self.least_sale or not sold:
                raise _UnfitError
            fee_out = got * num // den
            cash += got - fee_out
            dust = owned - sold
            profit += got - fee_out - paid - (fee_in if in_quote else 0)
            rows.append((bar, after_entry, owned, end, cash, dust, entry_ms[n], ms, why, price, quantity, paid, sold, got, fee_in, fee_out))
            if why == END:
                break
            after = end if at_open and why != SIGNAL else end + 1
            n = bisect_left(buys, after, n + 1)
            if why == STOP and plan.cooldown_checks:
                missed = bisect_left(buys, after + plan.cooldown_checks, n) - n
                n += missed
                if missed:
                    ran.refused[_COOLING] = ran.refused.get(_COOLING, 0) + missed
        return ran

    def _levels_hold(self, n: int, paid: int, quantity: int) -> None:
        """The amount paid was cut, so the average price lies a little lower: do the levels lie where they were searched?"""
        rules, plan = self.task.symbol.rules, self.task.config.plan
        average = Decimal(paid).scaleb(-self.decimals) / Decimal(quantity).scaleb(-self.decimals)
        for levels, percent, above in ((self.stop, plan.stop_loss_pct, False), (self.target, plan.take_profit_pct, True)):
            if levels is not None and sizing.level(average, percent or ZERO, rules, above=above) * SCALE * levels.scale != int(levels.level[n]):
                raise _UnfitError
