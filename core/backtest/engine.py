"""The backtest: settings, candles and a strategy in, closed trades and equity out. Owns no files.

`run` looks at what it is given before it plays it: candles that can't be traded over (a
redenomination) and strategies that can't be asked (series that nobody recorded) are refused
by name. Two engines give the same trades: the exact one (core/backtest/exact.py) plays the bot
itself, the fast one (core/backtest/fast.py) is taken where signals and a plain plan allow it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np

from core.backtest import exact, fast
from core.backtest.exact import Progress, Task
from core.backtest.result import END, SPLIT, Config, Equity, Result, Trade
from core.backtest.tape import jumps, money
from core.bot import series
from core.clock import utc_text
from core.errors import InputError
from core.market import timeframes
from core.market.bars import SCALE, Bars, Ints
from core.model import ZERO, Fill, Rules, Symbol, opposite, plain
from strategies.base import Strategy

ORDERS = frozenset({"MARKET", "LIMIT", "LIMIT_MAKER", "STOP_LOSS", "STOP_LOSS_LIMIT"})


@dataclass(frozen=True, slots=True)
class Part:
    """One bot of a run with several: its settings, candles and strategy, as `run` takes them."""

    config: Config
    bars: Bars
    strategy: Strategy
    finer: Bars | None = None


def run(
    config: Config,
    bars: Bars,
    strategy: Strategy,
    finer: Bars | None = None,
    *,
    providers: Mapping[str, series.Provider] | None = None,
    windows: bool = False,
    engine: str = "auto",
    progress: Progress | None = None,
) -> Result:
    """Trade `bars` by the strategy. `finer`: candles of a shorter timeframe that drive the price path inside each bar.

    `providers`: the series that the strategy declares in `needs`, as a bot recorded them
    (core.bot.series.Recorded); there is no backtest of such a strategy without. `windows`: ask
    the strategy at each check with the candles that a bot would hand it, instead of once for all
    candles. `engine`: "exact" keeps the fast one from being taken. `progress` is called with the part
    that is done. InputError says what can't be tested, and why."""
    problem = _unfit(config, bars, strategy, finer, providers)
    if problem:
        raise InputError(problem)
    at_once = None if windows else _at_once(strategy)
    played: list[tuple[Task, exact.Played]] = []
    for part, last in _segments(config, bars, finer):
        plan, cash = config.plan, config.cash
        if played:
            made = _cash(played) - config.cash
            cash += made
            plan = plan if plan.sizing == "fixed" else replace(plan, trade_amount=max(plan.trade_amount + made, ZERO))
        task = _task(replace(config, plan=plan), part, finer, strategy, at_once, providers, END if last else SPLIT)
        if last and not played and engine != "exact" and task is not None:
            ran = fast.play(task, cash)
            if ran is not None:
                return Result(config, ran.trades, Equity(*ran.equity(task, _first(task))), refused=ran.refused)
        if task is not None:
            played.append((task, exact.play([task], cash, progress)))
    return _result(config, played)


def run_together(parts: Sequence[Part], cash: Decimal, *, windows: bool = False, progress: Progress | None = None) -> list[Result]:
    """Several bots on one account of `cash` in one quote asset; a result each, whose equity is the account's.

    Each spends what its own plan says (`all_available`: all that is free when it comes); bots that
    want the same money at the same moment get it in the order given. For one account each, call `run`."""
    quotes = {p.config.symbol.quote for p in parts}
    names = [p.config.symbol.name for p in parts]
    if len(quotes) != 1 or len(set(names)) != len(names):
        raise InputError("bots on one account need one quote asset and a symbol each; they have " + ", ".join(f"{p.config.symbol.name}" for p in parts))
    tasks = []
    for p in parts:
        problem = _unfit(p.config, p.bars, p.strategy, p.finer, None)
        if problem or p.config.split:
            raise InputError(problem or f"{p.config.symbol.name}: split is for a run of one symbol")
        task = _task(p.config, _traded(p.config, p.bars), p.finer, p.strategy, None if windows else _at_once(p.strategy), None, END)
        if task is not None:
            tasks.append(task)
    if not tasks:
        return []
    played = exact.play(tasks, cash, progress)
    return [_result(replace(t.config, cash=cash), [(t, played)], i, tasks) for i, t in enumerate(tasks)]


# --- before --------------------------------------------------------------------------------


def _unfit(config: Config, bars: Bars, strategy: Strategy, finer: Bars | None, providers: Mapping[str, series.Provider] | None) -> str:
    """Why this can't be tested; empty where it can."""
    name = config.symbol.name
    if (bars.symbol, bars.timeframe) != (name, config.timeframe):
        return f"the candles are {bars.symbol} {bars.timeframe}, the settings say {name} {config.timeframe}"
    if config.timeframe == "1M":
        return "candles of a month differ in length: take 1d or 1w"
    if finer is not None and (finer.symbol != name or finer.timeframe == bars.timeframe or not timeframes.nests(finer.timeframe, bars.timeframe)):
        return f"finer candles must be {name}'s own, of a timeframe that fits into {bars.timeframe}; these are {finer.symbol} {finer.timeframe}"
    missing = [n for n in strategy.needs if n not in (providers or {})]
    if missing:
        return (
            f"strategy {strategy.name} needs {', '.join(missing)}, which candles don't hold: a test without would be another strategy's. "
            "It can be tested over times in which a bot recorded them"
        )
    traded = _traded(config, bars)
    for column in (bars.open, bars.high, bars.low, bars.close):
        if len(column) and int(column.min()) <= 0:
            i = int(column.argmin())
            return f"{name}: the candle of {utc_text(int(bars.open_ms[i]))} has a price of {plain(money(int(column[i])))}; prices lie above 0"
    if len(traded) < 2:
        return f"{name} {config.timeframe}: {len(traded)} candle(s) in the time given are too few; a trade needs one to decide on and one to fill in"
    found = [] if config.split else jumps(traded).tolist()
    if found:
        i = found[0]
        before, after = plain(money(int(bars.close[i - 1]))), plain(money(int(bars.open[i])))
        return (
            f"{name} closes at {before} before {utc_text(int(bars.open_ms[i]))} and opens at {after} there: nobody could trade in between. "
            "The coin was exchanged for another number of coins, or the candles are wrong. Test the times before and after apart, or set split"
        )
    return ""


def _traded(config: Config, bars: Bars) -> Bars:
    """All candles that count: warm-up and what is traded."""
    return bars.slice(None, config.to_ms)


def _segments(config: Config, bars: Bars, finer: Bars | None) -> list[tuple[Bars, bool]]:
    """Candles between jumps, and whether it is the last such stretch."""
    whole = _traded(config, bars)
    cuts = [0, *(jumps(whole).tolist() if config.split else []), len(whole)]
    return [(whole.cut(a, b), b == len(whole)) for a, b in pairwise(cuts)]


def _at_once(strategy: Strategy) -> bool | None:
    """True where one pass over all candles says what the bot would be told candle by candle: the strategy defines
    `signals` and nothing that the bot would ask instead."""
    cls = type(strategy)
    own = cls.signals is not Strategy.signals
    others = cls.analyze is not Strategy.analyze or cls.analyze_with is not Strategy.analyze_with
    return True if own and not others and not strategy.manages_position and not strategy.needs else None


def unfiltered(symbol: Symbol, unit: Decimal) -> Symbol:
    """The symbol without its exchange's rules: any price, any quantity of whole units."""
    return replace(symbol, rules=Rules(step=unit), order_types=ORDERS, quote_precision=16)


def _task(
    config: Config,
    bars: Bars,
    finer: Bars | None,
    strategy: Strategy,
    at_once: bool | None,
    providers: Mapping[str, series.Provider] | None,
    last_tag: str,
) -> Task | None:
    """None where the stretch has no candle that could be traded."""
    start = int(bars.open_ms[0]) if config.from_ms is None else max(config.from_ms, int(bars.open_ms[0]))
    path = bars if finer is None else finer.slice(int(bars.open_ms[0]), int(bars.open_ms[-1]) + bars.length_ms)
    if len(bars) < 2 or not len(path) or start >= int(bars.open_ms[-1]):
        return None
    symbol = config.symbol if config.filters else unfiltered(config.symbol, config.unit)
    signals = strategy.signals(bars.frame()) if at_once else None
    return Task(config, bars, path, strategy, symbol, max(start, int(path.open_ms[0])), int(bars.open_ms[-1]), signals, providers, last_tag)


# --- after -----------------------------------------------------------------------------------


def _first(task: Task) -> int:
    """Place of the first candle that counts: the first that could be traded, or where the settings begin."""
    bars, config = task.bars, task.config
    if config.from_ms is not None:
        return int(bars.open_ms.searchsorted(task.start_ms))
    return min(max(task.strategy.ready(config.kline_limit), 1), len(bars) - 1)


def _cash(played: Sequence[tuple[Task, exact.Played]]) -> Decimal:
    quote = played[-1][0].symbol.quote
    return next(amount for _, asset, amount in reversed(played[-1][1].log) if asset == quote)


def _result(config: Config, played: Sequence[tuple[Task, exact.Played]], which: int = 0, together: Sequence[Task] = ()) -> Result:
    found: list[Trade] = []
    times: list[Any] = []
    values: list[Any] = []
    warnings: dict[str, None] = {}
    refused: dict[str, int] = {}
    for task, run_of in played:
        closed, left = trades(run_of.fills[which], task.symbol)
        found += closed
        if left:
            warnings[f"{left} {task.symbol.name} trade(s) could not be closed at the end: what was bought is too little to be sold"] = None
        opened, worth = equity(task, run_of.log, together or [task])
        times.append(opened)
        values.append(worth)
        warnings |= dict.fromkeys(run_of.warnings[which])
        for why, count in run_of.refused[which].items():
            refused[why] = refused.get(why, 0) + count
    curve = Equity(np.concatenate(times), np.concatenate(values)) if times else Equity(np.empty(0, np.int64), np.empty(0, np.float64))
    return Result(config, sorted(found, key=lambda t: t.exit_time), curve, tuple(warnings), refused)


def trades(fills: Sequence[Fill], symbol: Symbol) -> tuple[list[Trade], int]:
    """Closed trades from a bot's fills, and how many have no way out among them."""
    by_trade: dict[int, list[Fill]] = {}
    for f in fills:
        by_trade.setdefault(f.trade, []).append(f)
    made = [t for t in (trade(group, symbol) for group in by_trade.values()) if t is not None]
    return made, len(by_trade) - len(made)


def trade(fills: Sequence[Fill], symbol: Symbol) -> Trade | None:
    """One closed trade from all its fills; None where none of them leaves it."""
    first = next((f for f in fills if f.role in ("entry", "safety")), fills[0])
    side = first.side
    ins, outs = [f for f in fills if f.side == side], [f for f in fills if f.side == opposite(side)]
    if not outs:
        return None
    bought, paid = sum((f.quantity for f in ins), ZERO), sum((f.quote for f in ins), ZERO)
    sold, got = sum((f.quantity for f in outs), ZERO), sum((f.quote for f in outs), ZERO)
    fees = sum((f.fee if f.fee_asset == symbol.quote else f.fee * f.price for f in fills), ZERO)
    taken = sum((f.fee for f in fills if f.fee_asset == symbol.quote), ZERO)
    profit = (got - paid if side == "BUY" else paid - got) - taken
    return Trade(
        symbol=symbol.name,
        entry_time=min(f.time_ms for f in ins),
        exit_time=max(f.time_ms for f in outs),
        entry_price=paid / bought,
        exit_price=got / sold,
        quantity=bought,
        profit=profit,
        profit_pct=profit / paid * 100,
        exit_reason=outs[-1].tag,
        fees=fees,
        side=side,
    )


def equity(task: Task, log: Sequence[tuple[int, str, Decimal]], tasks: Sequence[Task]) -> tuple[Ints, Any]:
    """(open_ms, value) of each candle of `task` that could be traded: the account's worth at its close.

    `tasks`: all that trade on the account; where one of them has no candle its last close stands."""
    bars, first = task.bars, _first(task)
    opened = bars.open_ms[first:]
    ends = opened + (bars.length_ms - 1)

    def held(asset: str) -> Any:
        ms = np.array([t for t, a, _ in log if a == asset] or [0], np.int64)
        amounts = np.array([float(x) for _, a, x in log if a == asset] or [0.0])
        place = ms.searchsorted(ends, "right") - 1
        return np.where(place >= 0, amounts[np.maximum(place, 0)], 0.0)

    value = held(task.symbol.quote)
    for t in tasks:
        last = t.bars.open_ms.searchsorted(ends - (t.bars.length_ms - 1), "right") - 1
        value = value + held(t.symbol.base) * (t.bars.close[np.maximum(last, 0)] / SCALE)
    return opened, value
