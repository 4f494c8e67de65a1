"""What a person asks for, made into what the engine takes: candles, a symbol with its rules, settings.

Command, sweep and page begin here, so that the same words mean the same run. Reads candle
files and the candle store (core/market/history.py); writes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core import config as settings_module
from core.backtest.result import UNIT, Config
from core.binance_wire import parse_symbol
from core.bot import schedule
from core.bot.decisions import PROTECTIONS, SIZINGS, Plan
from core.errors import InputError, NotFound, SettingsError
from core.market import listings, timeframes
from core.market.bars import SCALE, Bars, Ints, price_text, read_file, units
from core.model import Symbol
from strategies import registry

if TYPE_CHECKING:
    from core.market.history import CandleStore
    from strategies.base import Strategy

BACKTEST_SIZINGS = tuple(s for s in SIZINGS if s in ("compound", "fixed", "all_available"))
FILLED_BY = "fill the store with utils/backfill.py, or give files with --data"
_NAME = re.compile(r"(?P<base>[A-Z0-9]+?)(?P<cut>_?)(?P<quote>[A-Z0-9]*)-(?P<tf>[0-9]+[mhdwMs])(-[\w-]+)?\.(json|csv)(\.gz)?")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A backtest as a person puts it. Percentages of 100; None: the strategy's, else the default. Times in ms."""

    strategy: str
    symbol: str
    timeframe: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    from_ms: int | None = None
    to_ms: int | None = None
    data: Path | None = None
    finer: str | None = None  # timeframe of the finer candles that drive the path
    finer_data: Path | None = None
    mode: str | None = None
    venue: str | None = None
    quote: str | None = None
    cash: Decimal = Decimal(10000)
    trade_amount: Decimal | None = None  # None: all the cash
    sizing: str = "compound"
    fee_pct: Decimal = Decimal("0.1")
    fee_mode: str = "received"
    slippage_pct: Decimal = Decimal(0)
    filters: bool = True
    unit: Decimal = UNIT
    stop_loss_pct: Decimal | None = None  # 0: none; None: what the strategy declares, else 2
    take_profit_pct: Decimal | None = None  # 0: none; None: what the strategy declares, else 5
    trailing_stop_pct: Decimal | None = None
    trailing_activation_pct: Decimal | None = None
    break_even_pct: Decimal | None = None
    time_stop_candles: int | None = None
    cooldown_checks: int = 1
    protection: str = "exchange"
    check_interval_s: int | None = None
    offset_s: Decimal = Decimal(0)
    risk_interval_s: int = 5
    kline_limit: int = 100
    split: bool = False
    strategies: Path | None = None  # a folder of one's own strategies


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that `engine.run` takes. `bars` begin with the candles that the strategy needs before `config.from_ms`."""

    config: Config
    bars: Bars
    strategy: Strategy
    finer: Bars | None = None


def prepare(wanted: Wanted) -> Prepared:
    """Everything checked and read. InputError, NotFound (no candles) or StrategyError with what would be right."""
    strategy = build(wanted, wanted.params)
    timeframe = timeframe_of(wanted, strategy)
    bars = candles(wanted, timeframe, wanted.data)
    config = configure(wanted, strategy, symbol_of(wanted.symbol, bars, quote=wanted.quote, data=wanted.data), timeframe)
    finer = None
    if wanted.finer or wanted.finer_data:
        fine = wanted.finer or _told_by_name(wanted.finer_data) or ""
        if fine not in timeframes.ALL or not timeframes.nests(fine, timeframe) or fine == timeframe:
            raise InputError(f"finer: {fine or 'it'} must be a timeframe that {timeframe} is a multiple of, such as 1m")
        finer = candles(wanted, fine, wanted.finer_data).slice(int(bars.open_ms[0]), timeframes.next_open(int(bars.open_ms[-1]), timeframe))
    return Prepared(config, trimmed(bars, strategy.candles_needed(wanted.kline_limit), wanted.from_ms, wanted.to_ms), strategy, finer)


def build(wanted: Wanted, params: Mapping[str, Any]) -> Strategy:
    """The strategy with checked parameters. StrategyError or InputError."""
    return registry.load(wanted.strategies).build(wanted.strategy, params, wanted.kline_limit)


def configure(wanted: Wanted, strategy: Strategy, symbol: Symbol, timeframe: str) -> Config:
    """The settings of the run; InputError lists everything that is wrong with them."""
    problems = []
    if wanted.sizing not in BACKTEST_SIZINGS:
        problems.append(f"sizing: {wanted.sizing!r} must be one of {', '.join(BACKTEST_SIZINGS)}; a backtest has no account whose equity it could ask")
    if wanted.protection not in PROTECTIONS:
        problems.append(f"protection: {wanted.protection!r} must be one of {', '.join(PROTECTIONS)}")
    amount = wanted.cash if wanted.trade_amount is None else wanted.trade_amount
    if wanted.trade_amount is not None and not (amount.is_finite() and 0 < amount <= wanted.cash):
        problems.append(f"trade_amount: {amount} must be above 0 and at most the cash, {wanted.cash}")
    for name, most in _MOST_PCT.items():
        value = getattr(wanted, name)
        if value is not None and not (value.is_finite() and 0 <= value <= most):
            problems.append(f"{name}: {value} must be a percentage from 0 to {most}" + (" (0: none)" if name in ("stop_loss_pct", "take_profit_pct") else ""))
    if wanted.time_stop_candles is not None and wanted.time_stop_candles < 1:
        problems.append(f"time_stop_candles: {wanted.time_stop_candles} must be a number of candles from 1")
    if wanted.cooldown_checks < 0:
        problems.append(f"cooldown_checks: {wanted.cooldown_checks} must be a number of checks from 0")
    most_offset = schedule.max_offset_s(timeframe)
    if wanted.check_interval_s is None and wanted.offset_s:
        problems.append("offset: it shifts checks, so it needs --check-interval")
    elif wanted.check_interval_s is not None and not 0 <= wanted.offset_s <= most_offset:
        problems.append(f"offset: {wanted.offset_s} must be a number of seconds from 0 to {most_offset}, so that orders fill at a {timeframe} candle's open")
    try:
        made = _config(wanted, strategy, symbol, timeframe, amount)
    except InputError as e:
        raise InputError("\n".join([*problems, str(e)])) from None
    if problems:
        raise InputError("\n".join(problems))
    return made


def exit_pct(wanted: Wanted, strategy: Strategy, name: str) -> Decimal:
    """The stop or target that counts: the one asked for, else the strategy's, else the setting's default. 0: none."""
    asked: Decimal | None = getattr(wanted, name)
    told = strategy.percent(name) if asked is None else asked
    return DEFAULT_PCT[name] if told is None else told


def _config(wanted: Wanted, strategy: Strategy, symbol: Symbol, timeframe: str, amount: Decimal) -> Config:
    return Config(
        symbol=symbol,
        timeframe=timeframe,
        strategy=strategy.ref(),
        plan=Plan(
            trade_amount=amount,
            sizing=wanted.sizing,
            stop_loss_pct=exit_pct(wanted, strategy, "stop_loss_pct") or None,
            take_profit_pct=exit_pct(wanted, strategy, "take_profit_pct") or None,
            cooldown_checks=wanted.cooldown_checks,
            protection=wanted.protection,
            trailing_stop_pct=wanted.trailing_stop_pct or None,
            trailing_activation_pct=wanted.trailing_activation_pct or None,
            break_even_pct=wanted.break_even_pct or None,
            time_stop_candles=wanted.time_stop_candles,
        ),
        cash=wanted.cash,
        fee_pct=wanted.fee_pct,
        fee_mode=wanted.fee_mode,
        slippage_pct=wanted.slippage_pct,
        filters=wanted.filters,
        unit=wanted.unit,
        check_interval_s=wanted.check_interval_s,
        offset_ms=int(wanted.offset_s * 1000),
        risk_interval_s=wanted.risk_interval_s,
        kline_limit=wanted.kline_limit,
        from_ms=wanted.from_ms,
        to_ms=wanted.to_ms,
        split=wanted.split,
    )


DEFAULT_PCT = {"stop_loss_pct": Decimal(2), "take_profit_pct": Decimal(5)}  # the settings' defaults
_MOST_PCT = {
    "stop_loss_pct": Decimal(99),
    "take_profit_pct": Decimal(10000),
    "trailing_stop_pct": Decimal(99),
    "trailing_activation_pct": Decimal(10000),
    "break_even_pct": Decimal(10000),
}


# --- candles ------------------------------------------------------------------------


def candles(wanted: Wanted, timeframe: str, data: Path | None) -> Bars:
    """All candles there are of the symbol: of the file or folder `data`, else of the store. NotFound where there is none."""
    if data is None:
        return _stored(wanted, timeframe)
    path = data.expanduser()
    if path.is_dir():
        return _folder(path, wanted.symbol, timeframe, wanted.venue)
    if not path.exists():
        raise NotFound(f"{path} is not there; --data must be a candle file, a candle store, or a folder of candle files")
    return read_file(path, wanted.symbol, timeframe, wanted.venue)


def trimmed(bars: Bars, needed: int, from_ms: int | None, to_ms: int | None) -> Bars:
    """Only what a run from `from_ms` to `to_ms` can look at: `needed` candles before, none behind. NotFound where nothing is left to trade."""
    first = 0 if from_ms is None else int(np.searchsorted(bars.open_ms, from_ms))
    last = len(bars) if to_ms is None else int(np.searchsorted(bars.open_ms, to_ms))
    if first >= last:
        there = f"{_utc(int(bars.open_ms[0]))} to {_utc(int(bars.open_ms[-1]))}" if len(bars) else "nothing"
        raise NotFound(f"no {bars.symbol} {bars.timeframe} candle lies in the time asked for; there is {there}")
    return bars.cut(max(first - needed, 0), last)


def _stored(wanted: Wanted, timeframe: str) -> Bars:
    from core.market.history import CandleStore

    try:
        home = settings_module.load().home
    except SettingsError as e:
        raise InputError(f"the settings are not right: {'; '.join(e.problems)}") from None
    path = home / "data" / "history.db"
    if not path.exists():
        raise NotFound(f"there is no candle store at {path}; {FILLED_BY}")
    store = CandleStore(path, read_only=True)
    try:
        key = _venue(store, wanted, timeframe)
        # What lies before the time asked for is read for the warm-up: as much again, because gaps make candles reach back further.
        since = None if wanted.from_ms is None else wanted.from_ms - 2 * _MOST_WARMUP * timeframes.MS.get(timeframe, timeframes.MS["1w"])
        bars = store.arrays(key, wanted.symbol, timeframe, since, wanted.to_ms)
    finally:
        store.close()
    if not len(bars):
        raise NotFound(f"the store holds no {wanted.symbol} {timeframe} candles in the time asked for; {FILLED_BY}")
    return bars


_MOST_WARMUP = 2000  # more rows than any exchange answers at once, and so than any bot is handed


def _venue(store: CandleStore, wanted: Wanted, timeframe: str) -> str:
    try:
        if wanted.venue or not wanted.mode:
            return store.venue_of(wanted.symbol, timeframe, wanted.venue)
        known = [s.venue for s in store.series() if (s.symbol, s.timeframe) == (wanted.symbol, timeframe)]
        mine = [v for v in known if wanted.mode in v.split("/")[2:3]]
        if len(mine) == 1:
            return mine[0]
        if mine:
            raise InputError(f"the store holds {wanted.symbol} {timeframe} of several venues in mode {wanted.mode}; name one with --venue: {', '.join(mine)}")
        there = f"; it holds them of {', '.join(known)}" if known else ""
        raise NotFound(f"the store holds no {wanted.symbol} {timeframe} candles of mode {wanted.mode}{there}")
    except NotFound as e:
        raise NotFound(f"{e}; {FILLED_BY}") from None


def _folder(folder: Path, symbol: str, timeframe: str, venue: str | None) -> Bars:
    """The files of the folder that are named after the symbol and timeframe, joined; where two have a candle, they must agree."""
    named = [p for p in sorted(folder.iterdir()) if (m := _NAME.fullmatch(p.name)) and m["base"] + m["quote"] == symbol and m["tf"] == timeframe]
    if not named:
        raise NotFound(f"{folder} holds no file of {symbol} {timeframe}; one is named like BTC_USDT-5m.json.gz or BTCUSDT-1m-2023-01.csv.gz")
    parts = [read_file(p, symbol, timeframe, venue) for p in named]
    return parts[0] if len(parts) == 1 else _joined(parts, folder)


def _joined(parts: Sequence[Bars], folder: Path) -> Bars:
    columns = [np.concatenate(c) for c in zip(*(p.columns() for p in parts), strict=True)]
    order = np.argsort(columns[0], kind="stable")
    columns = [c[order] for c in columns]
    again = np.flatnonzero(columns[0][1:] == columns[0][:-1])
    for i in again.tolist():
        if any(c[i] != c[i + 1] for c in columns[1:]):
            raise InputError(f"{folder}: two files say different things of the {parts[0].symbol} candle of {_utc(int(columns[0][i]))}; keep the right one")
    keep = np.ones(len(columns[0]), np.bool_)
    keep[again + 1] = False
    return Bars(parts[0].symbol, parts[0].timeframe, *(c[keep] for c in columns))


def timeframe_of(wanted: Wanted, strategy: Strategy) -> str:
    """The one asked for, else the strategy's own, else what the file's name says, else 5m. InputError where it is none."""
    told = wanted.timeframe or strategy.timeframe or _told_by_name(wanted.data) or "5m"
    if told not in timeframes.ALL or told == "1M":
        raise InputError(f"timeframe: {told!r} must be one of {', '.join(t for t in timeframes.ALL if t != '1M')}")
    return told


def _told_by_name(path: Path | None) -> str | None:
    match = _NAME.fullmatch(path.name) if path is not None else None
    return match["tf"] if match else None


# --- symbols ------------------------------------------------------------------------


def symbol_of(name: str, bars: Bars, *, quote: str | None = None, data: Path | None = None) -> Symbol:
    """The symbol with the rules that the paper exchange gives it: the known figures, else what the candles' own decimals show.

    A name is never taken apart by itself: of an unknown symbol, `quote` or a file named
    BASE_QUOTE-... must tell the assets. InputError otherwise."""
    known = listings.known().get(name)
    if known is not None and (quote is None or quote == known.quote):
        fine = not any((column % units(known.tick)).any() for column in _prices(bars))
        return parse_symbol(listings.entry(known if fine else known._replace(tick=_tick(bars))))
    match = _NAME.fullmatch(data.name) if data is not None else None
    if quote is None and match and match["cut"] and match["base"] + match["quote"] == name:
        quote = match["quote"]
    if quote is None or not name.endswith(quote) or quote == name:
        raise InputError(f"symbol: {name} is not among the known ones; say what it is traded against with --quote, such as --quote USDT")
    figures = listings.figures_from_data(name, name.removesuffix(quote), quote, _tick(bars), _step(bars))
    return parse_symbol(listings.entry(figures))


def _prices(bars: Bars) -> tuple[Ints, ...]:
    return bars.open, bars.high, bars.low, bars.close


def _tick(bars: Bars) -> Decimal:
    return _grid(*_prices(bars))


def _step(bars: Bars) -> Decimal:
    volume = np.rint(bars.volume * SCALE)
    return _grid(volume[volume < 2**53].astype(np.int64))


def _grid(*columns: Ints) -> Decimal:
    """The largest power of ten, at most 1, that divides every number (units of 1e-8)."""
    unit = SCALE
    for column in columns:
        while unit > 1 and (column % unit).any():
            unit //= 10
    return Decimal(price_text(unit)).normalize()


def with_params(prepared: Prepared, wanted: Wanted, params: Mapping[str, Any], **fields: Any) -> Prepared:
    """The same run with other parameters of the strategy and other fields of `Wanted`; the candles are shared, not read again."""
    changed = replace(wanted, params=params, **fields)
    strategy = build(changed, params)
    return replace(prepared, config=configure(changed, strategy, prepared.config.symbol, prepared.config.timeframe), strategy=strategy)


def _utc(ms: int) -> str:
    from core.backtest.report import utc

    return utc(ms)
