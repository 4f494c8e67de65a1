"""Strategies that look ahead, or need more candles than they say, are found out and named; honest ones are not."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.backtest import honesty
from core.backtest.prepare import Prepared
from core.errors import InputError
from core.model import Decision, Intent
from core.storage import dumps
from strategies import registry
from strategies.base import MarketView, Param, Strategy
from strategies.plain import PlainStrategy
from tests.backtest_help import config, walk_bars


class Cross(Strategy):
    """An honest cross of two means."""

    key = "cross"
    params = (Param("slow", int, 20, 3, 200),)

    @property
    def warmup(self) -> int:
        return int(self.p.slow) + 1

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        close = candles["close"]
        above = (close.rolling(5).mean() > close.rolling(self.p.slow).mean()) & close.rolling(self.p.slow).mean().notna()
        before = above.shift(1, fill_value=False)
        settled = close.rolling(self.p.slow).mean().shift(1).notna()
        return ((above & ~before & settled).astype(int) - (~above & before & settled).astype(int)).to_numpy()


class Tomorrow(Cross):
    """Buys when the next candle closes a percent higher."""

    key = "tomorrow"

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        return (candles["close"].shift(-1) > candles["close"] * 1.005).astype(int).to_numpy()


class Average(Cross):
    """Compares with the mean of the whole table."""

    key = "average"

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        return np.where(candles["close"] < candles["close"].mean(), 1, -1)


class Sorted(Cross):
    """Ranks each close among all of them."""

    key = "sorted"

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        order = np.sort(candles["close"].to_numpy())
        rank = np.searchsorted(order, candles["close"].to_numpy()) / len(order)
        return (rank < 0.1).astype(int) - (rank > 0.9).astype(int)


class Backfilled(Cross):
    """Fills holes from behind: it looks ahead only now and then."""

    key = "backfilled"

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        peaks = candles["close"].where(candles["close"] > candles["close"].rolling(60, min_periods=1).max() * 0.9999)
        return (peaks.bfill() > candles["close"] * 1.01).astype(int).to_numpy()


class Slow(Cross):
    """Says 21 rows, needs 121."""

    key = "slow"

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        mean = candles["close"].rolling(121, min_periods=1).mean()
        return (candles["close"] > mean).astype(int).to_numpy() - (candles["close"] < mean).astype(int).to_numpy()


class Counter(Strategy):
    """Keeps a count between questions."""

    key = "counter"
    warmup = 5  # type: ignore[assignment]

    def __init__(self, **params: Any):
        super().__init__(**params)
        self.asked = 0

    def analyze(self, data: Any) -> dict[str, Any]:
        self.asked += 1
        return {"signal": "BUY" if self.asked % 3 == 0 else "HOLD", "reasoning": ""}


class Keeps(Strategy):
    """Manages its position, and remembers the highest price it was ever shown."""

    key = "keeps"
    warmup = 3  # type: ignore[assignment]
    honest = False

    def __init__(self, **params: Any):
        super().__init__(**params)
        self.highest = Decimal(0)

    def decide(self, market: MarketView, position: Any) -> Decision:
        self.highest = market.price if self.honest else max(self.highest, market.price)
        return Decision((Intent("open", "BUY", size_quote=Decimal(10)),), "BUY") if market.price >= self.highest else Decision()


class KeepsNothing(Keeps):
    key = "keeps_nothing"
    honest = True


class Plain:
    """No more than analyze."""

    key = "plain"

    def analyze(self, data: Any) -> dict[str, str]:
        return {"signal": "BUY" if float(data[-1][4]) > float(data[-2][4]) else "SELL"}


BARS = walk_bars(3000)


def prepared(strategy: Strategy, bars: Any = BARS) -> Prepared:
    return Prepared(config("5m"), bars, strategy)


def ask(check: Callable[..., Any], cls: type, bars: Any = BARS, **fields: Any) -> Any:
    build = (lambda: PlainStrategy(cls)) if not issubclass(cls, Strategy) else cls
    return check(prepared(build(), bars), build, **{"points": 60, **fields})


@pytest.mark.parametrize("cls", [Tomorrow, Average, Sorted, Backfilled])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_table_that_looks_ahead_is_named_with_the_row_and_what_changed(cls: type, seed: int) -> None:
    found = ask(honesty.lookahead, cls, seed=seed)
    assert not found.honest and found.strategy == cls.key  # type: ignore[attr-defined]
    first = found.changes[0]
    assert first.way == "signals" and first.with_future != first.without
    assert first.open_ms == int(BARS.open_ms[first.row])
    assert f"row {first.row}" in found.text() and "LOOKS AHEAD" in found.text() and cls.key in found.text()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("cls", "way"), [(Counter, "analyze"), (Keeps, "decide")])
def test_one_that_remembers_what_it_was_shown_is_found(cls: type, way: str) -> None:
    found = ask(honesty.lookahead, cls)
    assert not found.honest and {c.way for c in found.changes} == {way}


@pytest.mark.parametrize("cls", [Cross, KeepsNothing, Plain])
def test_honest_strategies_are_not_accused(cls: type) -> None:
    found = ask(honesty.lookahead, cls)
    assert found.honest and found.points == 60 and found.signals > 10, found.text()
    assert "does not look ahead" in found.text()


def test_a_long_series_is_looked_at_in_several_stretches() -> None:
    bars = walk_bars(60_000)
    assert ask(honesty.lookahead, Cross, bars, points=8).honest
    assert not ask(honesty.lookahead, Tomorrow, bars, points=40).honest


@pytest.mark.parametrize(("cls", "needed", "honest"), [(Cross, 21, True), (Slow, 121, False), (KeepsNothing, 1, True), (Plain, 2, True)])
def test_the_rows_that_are_needed_are_counted(cls: type, needed: int, honest: bool) -> None:
    found = ask(honesty.warmup, cls, points=120)
    assert found.honest is honest, found.text()
    assert found.needed == pytest.approx(needed, abs=0 if honest else 3), found.text()
    if not honest:
        assert f"declare warmup = {found.needed}" in found.text() and "row" in found.example


def test_one_whose_answers_never_settle_is_told_so() -> None:
    found = ask(honesty.warmup, Average)
    assert found.needed is None and not found.honest and "depend on how far back" in found.text()


def test_the_same_seed_looks_at_the_same_moments() -> None:
    assert ask(honesty.lookahead, Tomorrow, seed=5) == ask(honesty.lookahead, Tomorrow, seed=5)
    assert ask(honesty.lookahead, Tomorrow, seed=5) != ask(honesty.lookahead, Tomorrow, seed=6)


def test_too_few_candles_and_named_series_are_refused_with_the_reason() -> None:
    with pytest.raises(InputError, match="too few"):
        ask(honesty.lookahead, Cross, walk_bars(20))

    class Fearful(Cross):
        needs = ("fear_greed",)

    with pytest.raises(InputError, match="fear_greed"):
        ask(honesty.lookahead, Fearful)


class SinceTheStart(Cross):
    """Compares with a mean since the first row it was handed: honest, and still another in a bot."""

    key = "since_the_start"

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        mean = candles["close"].expanding().mean()
        return (candles["close"] > mean).astype(int).to_numpy() - (candles["close"] < mean).astype(int).to_numpy()


@pytest.mark.parametrize("cls", [Tomorrow, Average, Sorted, SinceTheStart])
def test_every_backtest_says_where_a_bot_would_have_heard_something_else(cls: type[Strategy]) -> None:
    (told,) = honesty.doubts(prepared(cls()))
    assert "A BOT WOULD NOT TRADE LIKE THIS" in told and "the last 100 candles" in told and "--check-warmup" in told


class SlowCross(Cross):
    """Says 21 rows, is handed 100, needs 121, and signals only where a price crosses its mean: few answers differ."""

    key = "slow_cross"

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        mean = candles["close"].rolling(121, min_periods=1).mean()
        return (candles["close"].rolling(5).mean() > mean).astype(int).diff().fillna(0).astype(int).to_numpy()


class Thrice(Slow):
    """The same, but it speaks only far below the mean."""

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        last = candles["close"].rolling(121, min_periods=1)
        return (candles["close"] < last.mean() - 2.5 * last.std()).astype(int).to_numpy()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cls", [Slow, SlowCross, Thrice, Backfilled])
def test_answers_that_differ_now_and_then_are_found_where_they_turn(cls: type[Strategy], seed: int) -> None:
    bars = walk_bars(8000, seed=seed)
    (told,) = honesty.doubts(prepared(cls(), bars))
    assert "A BOT WOULD NOT TRADE LIKE THIS" in told and honesty.doubts(prepared(cls(), bars)) == (told,)


@pytest.mark.parametrize("build", [Cross, KeepsNothing, Counter, lambda: PlainStrategy(Plain)])
def test_no_backtest_doubts_what_a_bot_would_hear_just_so(build: Callable[[], Strategy]) -> None:
    assert honesty.doubts(prepared(build())) == ()
    assert honesty.doubts(prepared(build(), BARS.cut(0, 50))) == ()


@pytest.mark.parametrize("key", registry.load().keys())
def test_every_shipped_strategy_is_honest(key: str) -> None:
    entry = registry.load()[key]
    if entry.build().needs:
        pytest.skip("it needs series that candles don't hold")
    bars = walk_bars(6000, seed=7, move=0.006)
    made = prepared(entry.build(), bars)
    for check in (honesty.lookahead, honesty.warmup):
        found = check(made, entry.build, points=24)
        assert found.honest, found.text()
        dumps(found.describe())
