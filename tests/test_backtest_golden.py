"""Other people's backtests reproduced: every trade's times and prices, and the money that is left."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from core.backtest.engine import run
from core.backtest.result import Config
from core.bot.decisions import Plan
from core.market.bars import read_file
from core.model import Rules, Symbol
from market_data import golden, shared
from strategies import registry

D = Decimal
# Their unit is a millionth of a coin, as ours is without filters: sizes agree to the last one.
BTC = Symbol("BTCUSDT", "BTC", "USDT", True, Rules())


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(("timeframe", "count"), [("1h", 160), ("5m", 1819)])
def test_the_trades_of_backtesting_py_are_reproduced_one_by_one(timeframe: str, count: int) -> None:
    name = f"btcusdt_{timeframe}_smacross_10_20_long_comm0.001"
    told = golden(f"backtests/backtestingpy_{name}_trades.csv")
    stats = json.loads(shared("golden/backtests/stats.json").read_text())[name]
    bars = read_file(shared(f"spot-{timeframe}/BTC_USDT-{timeframe}.json.gz"), "BTCUSDT", timeframe)
    strategy = registry.load().build("scalping", {"fast": 10, "slow": 20})
    plan = Plan(D(10_000), stop_loss_pct=None, take_profit_pct=None)
    config = Config(symbol=BTC, timeframe=timeframe, plan=plan, fee_mode="quote", filters=False)
    result = run(config, bars, strategy)
    assert len(result.trades) == len(told) == count
    for trade, theirs in zip(result.trades, told, strict=True):
        assert (trade.entry_time, trade.exit_time) == (ms(theirs["EntryTime"]), ms(theirs["ExitTime"]))
        # Their prices are floats: the cents are what the candles hold.
        assert (trade.entry_price, trade.exit_price) == (D(theirs["EntryPrice"]).quantize(D("0.01")), D(theirs["ExitPrice"]).quantize(D("0.01")))
        assert trade.quantity == D(theirs["Size"]).quantize(D("0.000001"))
        assert abs(trade.profit - D(theirs["PnL"])) < D("1e-6")
        assert abs(trade.fees - D(theirs["Commission"])) < D("1e-6")
    assert result.equity.value[-1] == pytest.approx(stats["Equity Final [$]"], abs=1e-6)
    assert sum(t.fees for t in result.trades) == pytest.approx(D(str(stats["Commissions [$]"])), abs=D("1e-6"))
