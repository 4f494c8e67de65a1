"""Orders on the paper exchange with every way of losing an answer: executed once, booked once.

The unmodified python-binance and the whole paper exchange in this process, in stepped time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.account import ledger
from core.bot.trader import Trader
from core.errors import Refused
from core.model import KlineRow
from stepped import World
from strategies.base import Strategy

D = Decimal
ORDER = "/api/v3/order"
MINUTE = 60_000


class Said(Strategy):
    """Says what the test put there, at each new candle."""

    key = "said"
    warmup = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.signal = "HOLD"

    def analyze(self, data: Sequence[KlineRow]) -> dict[str, Any]:
        return {"signal": self.signal, "reasoning": "said so"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, PAPER_START="2024-03-01T00:01")
    yield made
    made.close()


def bot(world: World, **record: Any) -> Trader:
    wide = {"check_interval": 60, "timeframe": "1m", "stop_loss_pct": 90, "take_profit_pct": 900, "protection": "bot", "offset": 0}
    made = world.bot(1, "BTCUSDT", Said(), **{**wide, **record})
    assert made.start()
    return made


def fault(world: World, kind: str, method: str, path: str = ORDER, times: int | None = 1, **params: Any) -> None:
    world.ask("POST", "/paper/faults", {"method": method, "path": path, "fault": kind, "times": times, "params": params})


def steps(world: World, made: Trader, minutes: int = 1) -> None:
    """So many minutes of market time; an unknown order is asked for in wall time until it is known."""
    for _ in range(minutes):
        world.step_to((world.market_ms() // MINUTE + 1) * MINUTE + 2000)
        for _ in range(200):
            made.step()
            world.wall += 500
            if not made.executor.unresolved:
                break
        else:
            raise AssertionError("the order's outcome was never known")
        made.step()


def say(world: World, made: Trader, signal: str) -> None:
    assert isinstance(made.strategy, Said)
    made.strategy.signal = signal
    steps(world, made)
    made.strategy.signal = "HOLD"


def executed(world: World, side: str) -> list[str]:
    """The orders of a side that the exchange executed, by client id."""
    trades = [f for f in world.client().fills("BTCUSDT") if f.side == side]
    return sorted({f.order_id for f in trades})


def right(world: World, made: Trader) -> None:
    assert ledger.compare(world.files, world.client()) == []
    path = world.home / "bot_1_fills.jsonl"
    told = [json.loads(line)["trade_id"] for line in path.read_text().splitlines()] if path.exists() else []
    assert sorted(told) == sorted(f.trade_id for f in world.client().fills("BTCUSDT"))
    wallet = world.client().balances().get("BTC")
    assert made.position.quantity + made.position.dust == (wallet.total if wallet else 0)


WAYS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "the line is cut before": ("drop_before", {}, False),
    "the line is cut after": ("drop_after", {}, True),
    "the answer is held": ("hang_after", {"seconds": 60}, True),
    "500, executed": ("error", {"status": 500, "code": -1000, "executed": True}, True),
    "500, not executed": ("error", {"status": 500, "code": -1000, "executed": False}, False),
    "503, executed": ("error", {"status": 503, "code": -1001, "executed": True}, True),
    "-1006, executed": ("error", {"status": 400, "code": -1006, "executed": True}, True),
    "-1007, executed": ("error", {"status": 400, "code": -1007, "executed": True}, True),
    "-1007, not executed": ("error", {"status": 400, "code": -1007, "executed": False}, False),
    "an answer of HTML": ("error", {"status": 200, "body": "<html>", "executed": True}, True),
    "an empty answer": ("error", {"status": 200, "body": "", "executed": True}, True),
    "an answer of NaN": ("error", {"status": 200, "body": '{"executedQty":"NaN"}', "executed": True}, True),
}


@pytest.mark.parametrize("late", [0, 1, 5])
@pytest.mark.parametrize("way", WAYS)
def test_a_buy_whose_answer_is_lost_is_executed_once_at_most(world: World, way: str, late: int) -> None:
    kind, params, done = WAYS[way]
    made = bot(world)
    fault(world, kind, "POST", **params)
    if late:
        fault(world, "late_visibility", "GET", times=late)
    say(world, made, "BUY")
    assert len(executed(world, "BUY")) == done
    assert (made.position.direction == "LONG") is done
    right(world, made)
    assert made.position.orders == ()
    say(world, made, "SELL")
    assert made.position.direction is None
    right(world, made)


@pytest.mark.parametrize("way", WAYS)
def test_a_sale_whose_answer_is_lost_happens_once_and_does_happen(world: World, way: str) -> None:
    kind, params, _ = WAYS[way]
    made = bot(world)
    say(world, made, "BUY")
    fault(world, kind, "POST", **params)
    fault(world, "late_visibility", "GET", times=2)
    assert isinstance(made.strategy, Said)
    made.strategy.signal = "SELL"
    steps(world, made)
    for _ in range(30):  # the same candle: what was not received is signalled and sent again
        made.step()
        world.wall += 1000
    assert made.position.direction is None, "the position is out, whatever became of the first answer"
    assert len(executed(world, "SELL")) == 1
    right(world, made)


def test_a_partial_fill_that_expires_is_booked_and_can_be_sold(world: World) -> None:
    made = bot(world)
    fault(world, "partial_fill", "POST", fraction=0.3)
    say(world, made, "BUY")
    assert 0 < made.position.entry_quote < 400
    right(world, made)
    say(world, made, "SELL")
    assert made.position.direction is None
    right(world, made)


def test_slow_answers_change_nothing(world: World) -> None:
    made = bot(world)
    fault(world, "latency", "*", times=None, ms=1500)
    say(world, made, "BUY")
    say(world, made, "SELL")
    assert made.position.totals.trades == 1
    right(world, made)


@pytest.mark.parametrize(("kind", "seconds"), [("rate_limit", 20), ("ban", 300)])
def test_a_limit_at_the_sale_is_waited_out_in_silence_and_then_it_is_sold(world: World, kind: str, seconds: int) -> None:
    made = bot(world)
    say(world, made, "BUY")
    fault(world, kind, "POST", seconds=seconds)
    assert isinstance(made.strategy, Said)
    made.strategy.signal = "SELL"
    world.step_to((world.market_ms() // MINUTE + 1) * MINUTE + 2000)
    made.step()
    silent = made.attempts.quiet_until_wall - world.wall
    assert seconds * 1000 - 1000 <= silent <= seconds * 1000 + 1000
    asked = len(world.exchange.faults.shown())
    while world.wall < made.attempts.quiet_until_wall:
        made.step()
        world.wall += 5000
    assert made.position.direction == "LONG" and asked
    for _ in range(10):
        made.step()
        world.wall += 1000
    assert made.position.direction is None
    right(world, made)


def test_a_first_order_that_is_refused_leaves_nothing_behind(world: World) -> None:
    made = bot(world)
    fault(world, "error", "POST", status=400, code=-2010, msg="Account has insufficient balance for requested action.")
    say(world, made, "BUY")
    assert made.position.idle
    assert [w["kind"] for w in made.status.fields["warnings"]] == ["refused"]
    right(world, made)


def test_what_is_told_of_another_order_is_not_booked(world: World) -> None:
    made = bot(world)
    fault(world, "drop_after", "POST")
    foreign = {"symbol": "ETHUSDT", "orderId": 999, "clientOrderId": "x", "status": "FILLED", "side": "BUY", "executedQty": "5", "cummulativeQuoteQty": "9"}
    fault(world, "error", "GET", times=3, status=200, body=json.dumps(foreign))
    say(world, made, "BUY")
    assert len(executed(world, "BUY")) == 1
    right(world, made)


def test_a_script_sells_no_more_than_the_bot_owns(world: World) -> None:
    made = bot(world)
    client = made.exchange
    world.ask("POST", "/paper/accounts/paper/deposit", {"asset": "BTC", "amount": "1"})
    for quantity in ("0.5", "-1", "0", "NaN"):
        with pytest.raises(Refused):
            client.place_market_order("BTCUSDT", "SELL", D(quantity))  # type: ignore[attr-defined]
    assert executed(world, "SELL") == []


def test_the_exit_leaves_what_the_bots_own_resting_order_still_holds(world: World) -> None:
    """On an account that several bots share, the free coins may be another bot's."""
    from core.bot import intents
    from core.model import Intent

    made = bot(world)
    say(world, made, "BUY")
    world.ask("POST", "/paper/accounts/paper/deposit", {"asset": "BTC", "amount": "1"})
    owned = made.position.quantity
    price = made.exchange.price("BTCUSDT")
    half = Intent("place", "SELL", size_base=owned / 2, kind="limit", price=price * D("1.02"), role="target", tag="half")
    assert intents.carry_out(made.executor, half, made.symbol, price).outcome == "done"
    resting = made.position.orders[0].request.quantity
    assert resting is not None
    out = intents.carry_out(made.executor, Intent("close", "SELL", size_all=True, role="exit", tag="close"), made.symbol, price)
    assert out.outcome == "done"
    assert sum(f.quantity for f in out.fills) + resting <= owned


@pytest.mark.parametrize("size", [0.1, "1", D("NaN"), D("-1"), D(0)])
def test_an_intent_of_no_sensible_size_is_refused_by_name(world: World, size: Any) -> None:
    from core.bot import intents
    from core.model import Intent

    made = bot(world)
    result = intents.carry_out(made.executor, Intent("open", "BUY", size_quote=size, role="entry"), made.symbol, made.exchange.price("BTCUSDT"))
    assert result.outcome == "refused" and "size_quote" in result.text
