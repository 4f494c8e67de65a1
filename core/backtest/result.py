"""What goes into a backtest and what comes out of it: settings, closed trades, equity. Owns no files.

Engine, metrics, report, sweep and page exchange these. Numpy is named here for types alone:
whoever makes a Result has it loaded already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from core.bot.decisions import Plan
from core.errors import InputError
from core.model import ZERO, Side, StrategyRef, Symbol, plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FEE_MODES = ("received", "quote")
_UNIT_PCT = Decimal("1e-8")
UNIT = Decimal("0.000001")  # without filters, as other backtesters' fractional units are
END = "end"  # exit reason of a trade that was still open when the candles ended
SPLIT = "split"  # ... or that was closed before a jump between two candles that nobody could trade


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of one backtest. Percentages are of 100, money is in the symbol's quote asset.

    `plan.trade_amount` is the bot's pot, `cash` what lies free on the account. Without
    `check_interval_s` every closed candle is decided on at its close and filled at the next
    candle's open; with it, checks fall at k·interval + 2 s + `offset_ms`, as a bot's do.
    `from_ms` and `to_ms` bound the trading (opens of candles, the second not included):
    candles before serve as warm-up. InputError lists everything that is wrong.
    """

    symbol: Symbol
    timeframe: str
    plan: Plan
    strategy: StrategyRef = field(default_factory=StrategyRef)
    cash: Decimal = Decimal(10000)
    fee_pct: Decimal = Decimal("0.1")
    fee_mode: str = "received"  # the fee is taken from the asset received, as Binance does, or always from the quote asset
    slippage_pct: Decimal = ZERO
    filters: bool = True  # False: any price is allowed, and any quantity of whole units
    unit: Decimal = UNIT  # the smallest part of a coin where the filters are off
    check_interval_s: int | None = None
    offset_ms: int = 0
    risk_interval_s: int = 5
    kline_limit: int = 100
    from_ms: int | None = None
    to_ms: int | None = None
    split: bool = False  # close before a redenomination and go on behind it, instead of refusing

    def __post_init__(self) -> None:
        problems = []
        if not self.cash.is_finite() or self.cash <= 0:
            problems.append(f"cash: {self.cash} must be an amount above 0")
        for name, most in (("fee_pct", 10), ("slippage_pct", 10)):
            value: Decimal = getattr(self, name)
            if not value.is_finite() or not 0 <= value < most:
                problems.append(f"{name}: {value} must be a percentage from 0 to below {most}")
        if not self.unit.is_finite() or not 0 < self.unit <= 1:
            problems.append(f"unit: {self.unit} must be a part of a coin above 0 and at most 1")
        if self.fee_mode not in FEE_MODES:
            problems.append(f"fee_mode: {self.fee_mode!r} must be one of {', '.join(FEE_MODES)}")
        if self.check_interval_s is not None and self.check_interval_s < 1:
            problems.append(f"check_interval_s: {self.check_interval_s} must be a number of seconds from 1, or none")
        if self.risk_interval_s < 1:
            problems.append(f"risk_interval_s: {self.risk_interval_s} must be a number of seconds from 1")
        if self.offset_ms < 0:
            problems.append(f"offset_ms: {self.offset_ms} must not be negative")
        if self.kline_limit < 1:
            problems.append(f"kline_limit: {self.kline_limit} must be a number of candles from 1")
        if self.from_ms is not None and self.to_ms is not None and self.from_ms >= self.to_ms:
            problems.append(f"from_ms: {self.from_ms} must lie before to_ms, {self.to_ms}")
        if problems:
            raise InputError("\n".join(problems))

    def describe(self) -> dict[str, Any]:
        """As reports show it and JSON holds it: plain values, decimals as text, nothing left out."""
        return {
            "symbol": self.symbol.name,
            "quote": self.symbol.quote,
            "timeframe": self.timeframe,
            "strategy": self.strategy.key,
            "strategy_version": self.strategy.version,
            "params": {name: _told(value) for name, value in self.strategy.params.items()},
            "cash": plain(self.cash),
            "trade_amount": plain(self.plan.trade_amount),
            "sizing": self.plan.sizing,
            "stop_loss_pct": _told(self.plan.stop_loss_pct),
            "take_profit_pct": _told(self.plan.take_profit_pct),
            "trailing_stop_pct": _told(self.plan.trailing_stop_pct),
            "trailing_activation_pct": _told(self.plan.trailing_activation_pct),
            "break_even_pct": _told(self.plan.break_even_pct),
            "time_stop_candles": self.plan.time_stop_candles,
            "cooldown_checks": self.plan.cooldown_checks,
            "protection": self.plan.protection,
            "fee_pct": plain(self.fee_pct),
            "fee_mode": self.fee_mode,
            "slippage_pct": plain(self.slippage_pct),
            "filters": self.filters,
            "unit": plain(self.unit),
            "check_interval_s": self.check_interval_s,
            "offset_ms": self.offset_ms,
            "risk_interval_s": self.risk_interval_s,
            "kline_limit": self.kline_limit,
            "from_ms": self.from_ms,
            "to_ms": self.to_ms,
            "split": self.split,
        }


@dataclass(frozen=True, slots=True)
class Trade:
    """A closed position. Times are market ms; money and `fees` are in the quote asset.

    `entry_price` and `exit_price` are averages over the fills; `quantity` is what was bought
    (sold, for a short); `profit` is what came back less what went in, all fees included;
    `profit_pct` is that in percent of what went in.
    """

    symbol: str
    entry_time: int
    exit_time: int
    entry_price: Decimal
    exit_price: Decimal
    quantity: Decimal
    profit: Decimal
    profit_pct: Decimal
    exit_reason: str
    fees: Decimal = ZERO
    side: Side = "BUY"  # of its entry

    def describe(self) -> dict[str, Any]:
        """As JSON and CSV hold it. What was paid and got is as it is, to the last digit; the percentage has 8 decimals, since it hardly ever ends."""
        return {
            "symbol": self.symbol,
            "side": "LONG" if self.side == "BUY" else "SHORT",
            "entry_time": self.entry_time,
            "exit_time": self.exit_time,
            "entry_price": self.entry_price,
            "exit_price": self.exit_price,
            "quantity": self.quantity,
            "profit": self.profit,
            "profit_pct": self.profit_pct.quantize(_UNIT_PCT),
            "fees": self.fees,
            "exit_reason": self.exit_reason,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Equity:
    """What the account was worth in the quote asset at each candle's close: its free money and its coins at that close.

    Both arrays have one entry a candle, from the first that could be traded."""

    open_ms: NDArray[np.int64]
    value: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What a backtest found. `trades` by exit time; `warnings` are for people; `refused` counts the entries and exits that were not made, by reason."""

    config: Config
    trades: Sequence[Trade]  # the fast engine makes each when it is asked for
    equity: Equity
    warnings: tuple[str, ...] = ()
    refused: Mapping[str, int] = field(default_factory=dict)


def _told(value: Any) -> Any:
    return plain(value) if isinstance(value, Decimal) else value
