"""Backtest results for tests: made by hand, and put together from the golden trade lists."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from core.backtest.result import Config, Equity, Result, Trade
from core.bot.decisions import Plan
from core.market.bars import Bars
from core.model import Rules, StrategyRef, Symbol
from tests import market_data

HOUR = 3_600_000
BTC = Symbol("BTCUSDT", "BTC", "USDT", True, Rules(tick=Decimal("0.01"), step=Decimal("0.00001"), min_notional=Decimal(5)))
START = 1_600_000_000_000 // 86_400_000 * 86_400_000


def config(timeframe: str = "1h", **fields: Any) -> Config:
    fields.setdefault("plan", Plan(trade_amount=Decimal(1000)))
    fields.setdefault("cash", Decimal(1000))
    fields.setdefault("strategy", StrategyRef("sma_cross", "0123", {"fast": 10, "slow": 20}))
    return Config(symbol=BTC, timeframe=timeframe, **fields)


def trade(start: int, end: int, profit: str, *, reason: str = "signal", entry: str = "100", quantity: str = "1", fees: str = "0.2") -> Trade:
    """A trade by hand: `start` and `end` in hours from START."""
    gone = Decimal(entry) * Decimal(quantity)
    out = Decimal(entry) + (Decimal(profit) + Decimal(fees)) / Decimal(quantity)
    pct = Decimal(profit) / gone * 100
    return Trade("BTCUSDT", START + start * HOUR, START + end * HOUR, Decimal(entry), out, Decimal(quantity), Decimal(profit), pct, reason, Decimal(fees))


def result(values: Sequence[float] = (), trades: Sequence[Trade] = (), *, timeframe: str = "1h", step: int = HOUR, **fields: Any) -> Result:
    """A result whose equity takes `values`, one a candle."""
    times = START + np.arange(len(values), dtype=np.int64) * step
    return Result(config(timeframe, **fields), list(trades), Equity(times, np.array(values, np.float64)))


def bars_of(closes: Sequence[float | int], timeframe: str = "1h", step: int = HOUR) -> Bars:
    """Candles that open where the one before closed."""
    rows = []
    before = closes[0]
    for i, c in enumerate(closes):
        o, h, low = Decimal(str(before)), Decimal(str(max(before, c))), Decimal(str(min(before, c)))
        rows.append([START + i * step, str(o), str(h), str(low), str(Decimal(str(c))), "10"])
        before = c
    return Bars.from_rows(rows, "BTCUSDT", timeframe)


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def golden_result(timeframe: str) -> Result:
    """backtesting.py's own trade list as a Result: its equity is rebuilt from its trades and the candles' closes."""
    rows = market_data.golden(f"backtests/backtestingpy_btcusdt_{timeframe}_smacross_10_20_long_comm0.001_trades.csv")
    table = market_data.real_candles(f"spot-{timeframe}/BTC_USDT-{timeframe}")
    opened, close = table["open_time"].to_numpy(), table["close"].to_numpy()
    cash = 10_000.0
    value, trades = np.full(len(opened), cash), []
    for row in rows:
        entry, exit_ = _ms(row["EntryTime"]), _ms(row["ExitTime"])
        size, first, last = float(row["Size"]), float(row["EntryPrice"]), float(row["ExitPrice"])
        i, j = np.searchsorted(opened, [entry, exit_])
        value[i:j] = cash - size * first * 1.001 + size * close[i:j]
        cash += float(row["PnL"])
        value[j:] = cash
        money = [Decimal(row[name]) for name in ("EntryPrice", "ExitPrice", "Size", "PnL")]
        pct = Decimal(row["ReturnPct"]) * 100
        trades.append(Trade("BTCUSDT", entry, exit_, *money, pct, "signal", Decimal(row["Commission"])))
        assert abs((last - first) * size - float(row["Commission"]) - float(row["PnL"])) < 1e-6
    made = config(timeframe, cash=Decimal(10_000), fee_mode="quote", filters=False)
    return Result(made, trades, Equity(opened, value))


def walk_bars(rows: int, seed: int = 1, timeframe: str = "5m", step: int = 300_000, move: float = 0.003) -> Bars:
    """A seeded random walk around 100 with prices of two decimals, as candles."""
    random = np.random.default_rng(seed)
    close = np.rint(10_000 * np.exp(np.cumsum(random.normal(0, move, rows)))).astype(np.int64)
    opened = np.concatenate(([10_000], close[:-1]))
    high = np.maximum(opened, close) + random.integers(0, 30, rows)
    low = np.maximum(np.minimum(opened, close) - random.integers(0, 30, rows), 1)
    times = START + np.arange(rows, dtype=np.int64) * step
    return Bars("BTCUSDT", timeframe, times, *(c * 10**6 for c in (opened, high, low, close)), random.integers(1, 1000, rows).astype(np.float64))
