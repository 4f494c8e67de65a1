"""The seams' probes on the paper exchange: a strategy that manages its own orders, killed in the middle."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from core.account import ledger
from paper_fixed import FILTERS, FixedMarket
from stepped import World, run_until
from test_trader import Grid

D = Decimal
FLAT = ("100", "100", "100", "100")


def test_three_resting_orders_a_partial_fill_and_a_memo_go_through_decide_on_paper_and_over_a_kill(tmp_path: Path) -> None:
    bars = [FLAT] * 10 + [("100", "100", "98.5", "98.5"), ("98.5", "98.5", "98.5", "98.5"), ("98.5", "101", "98.5", "101")]
    market = FixedMarket(bars, filters=[f for f in FILTERS if f["filterType"] != "MAX_NUM_ORDERS"])
    world = World(tmp_path, opener=lambda _: market, RISK_INTERVAL="15", CHECK_INTERVAL="60", KLINE_INTERVAL="1m")
    try:
        world.step_to(market.first_ms + 9 * 60_000 + 2000)

        def bot():  # type: ignore[no-untyped-def]
            made = world.bot(1, "BTCUSDT", Grid(), "500", timeframe="1m", check_interval=60, offset=0, stop_loss_pct=50, take_profit_pct=1000)
            assert made.start()
            return made

        one = bot()
        world.ask("POST", "/paper/faults", {"method": "POST", "path": "/api/v3/order", "fault": "partial_fill", "times": 1, "params": {"fraction": "0.4"}})
        one.step()
        assert sorted(o.tag for o in one.position.orders) == ["bid1", "bid2", "bid3"]
        world.step_to(world.market_ms() + 105_000)  # the price falls through the first bid; nobody is told
        del one  # killed here

        two = bot()
        world.wall += 2000
        two.step()
        assert D(two.position.memo["bid2"]) == 98
        assert two.position.direction == "LONG"
        assert {f.tag for f in two.position.fills} == {"bid1"}
        assert ledger.compare(world.files, world.client()) == []
        run_until(world, [two], world.market_ms() + 4 * 60_000)
        for _ in range(5):
            world.wall += 2000
            two.step()
        assert two.position.direction is None, "what the first bid bought was sold one step higher"
        assert two.position.totals.trades == 1
        assert two.position.totals.profit > 0
        assert sorted(o.tag for o in two.position.orders) == ["bid2", "bid3"]
        assert ledger.compare(world.files, world.client()) == []
    finally:
        world.close()
