"""Stop and target at the exchange: placed, filled, replaced, taken away, refused; the bot's watch without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bots import Script
from core.account import ledger
from core.bot.trader import Trader
from core.model import KlineRow
from core.storage import loads
from paper_fixed import FILTERS, FixedMarket
from stepped import World, run_until

D = Decimal
Bar = tuple[str, str, str, str]
FLAT: Bar = ("100", "100", "100", "100")
ROOMY = [f for f in FILTERS if f["filterType"] != "MAX_NUM_ORDERS"] + [{"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5}]
LIVES = Callable[..., World]


@pytest.fixture
def live(tmp_path: Path) -> LIVES:
    """A world whose candles the test writes: ten flat minutes, then these."""
    worlds: list[World] = []

    def make(*bars: Bar) -> World:
        market = FixedMarket([FLAT] * 10 + list(bars), filters=ROOMY)
        made = World(tmp_path, opener=lambda _: market, RISK_INTERVAL="15", CHECK_INTERVAL="60", KLINE_INTERVAL="1m")
        made.step_to(market.first_ms + 9 * 60_000 + 2000)
        worlds.append(made)
        return made

    yield make  # type: ignore[misc]
    for made in worlds:
        made.close()


def bot_of(world: World, bot_id: int = 1, signals: tuple[str, ...] = ("BUY",), **record: object) -> Trader:
    made = world.bot(bot_id, "BTCUSDT", Script(signals), "500", timeframe="1m", check_interval=60, offset=0, **record)
    assert made.start()
    return made


def minutes(world: World, bots: list[Trader], count: float) -> None:
    run_until(world, bots, world.market_ms() + int(count * 60_000))


def settle(world: World, bots: list[Trader]) -> None:
    """Wall time goes on, market time stands: everything told is booked."""
    for _ in range(6):
        world.wall += 2000
        for bot in bots:
            bot.step()


def fills(world: World, bot_id: int = 1) -> list[dict[str, object]]:
    return list(world.files.read_lines(f"bot_{bot_id}_fills.jsonl"))


def books_match(world: World) -> None:
    assert ledger.compare(world.files, world.client()) == []


@pytest.mark.parametrize("fault", ["drop_before", "error"])
def test_a_pair_that_never_reached_the_exchange_was_taken_away_by_nobody(live: LIVES, fault: str) -> None:
    world = live(*[FLAT] * 3)
    params = {"status": 400, "code": -1021, "msg": "Timestamp for this request is outside of the recvWindow."} if fault == "error" else {}
    world.ask("POST", "/paper/faults", {"method": "POST", "path": "/api/v3/orderList/oco", "fault": fault, "times": 1, "params": params})
    bot = bot_of(world)
    for _ in range(40):
        settle(world, [bot])
    assert bot.position.protection == "exchange"
    assert {o.role for o in bot.position.orders} == {"stop", "target"}
    assert not [e for e in world.files.read_lines("data/events.jsonl") if "taken away" in e["text"]]
    books_match(world)


@pytest.mark.parametrize("kept", [True, False])
def test_a_bot_that_is_stopped_in_the_very_step_that_buys_leaves_its_stop_at_the_exchange(live: LIVES, kept: bool) -> None:
    world = live()
    bot = bot_of(world)
    act = bot.desk.act

    def stopped_meanwhile(*given: object) -> str:
        bot.stop("SIGTERM")
        why = act(*given)  # type: ignore[arg-type]
        if not kept:
            params = {"status": 500, "code": -1000, "msg": "out of order", "executed": False}
            world.ask("POST", "/paper/faults", {"method": "POST", "path": "/api/v3/orderList/oco", "fault": "error", "times": 9, "params": params})
        return why

    bot.desk.act = stopped_meanwhile  # type: ignore[method-assign,assignment]
    world.step_to(world.market_ms() + 60_000)
    bot.run()
    assert bot.position.direction == "LONG"
    assert len([o for o in bot.position.orders if o.role in ("stop", "target") and o.status == "NEW"]) == (2 if kept else 0)


def test_after_an_entry_the_pair_lies_at_the_exchange_with_levels_from_the_average_price(live: LIVES) -> None:
    world = live()
    bot = bot_of(world)
    minutes(world, [bot], 0.1)
    settle(world, [bot])
    assert {(o.role, o.request.kind, o.request.price, o.request.stop_price) for o in bot.position.orders} == {
        ("stop", "STOP_LOSS", None, D(98)),
        ("target", "LIMIT_MAKER", D(105), None),
    }
    assert bot.position.protection == "exchange"
    assert len(world.client().open_orders("BTCUSDT")) == 2
    file = loads((world.home / "bot_1_position.json").read_text())
    assert (file["protection"], file["stop_loss"], file["take_profit"]) == ("exchange", 98, 105)
    assert {o["role"] for o in file["orders"]} == {"stop", "target"}
    books_match(world)


@pytest.mark.parametrize(
    ("bar", "price", "tag", "cooldown"), [(("100", "100", "97", "97"), D(98), "stop_loss", 1), (("100", "106", "100", "106"), D(105), "take_profit", 0)]
)
def test_the_fill_of_the_pair_is_the_exit_at_its_own_price(live: LIVES, bar: Bar, price: Decimal, tag: str, cooldown: int) -> None:
    world = live(bar)
    bot = bot_of(world)
    minutes(world, [bot], 0.9)
    assert bot.position.direction == "LONG"
    minutes(world, [bot], 0.9)
    settle(world, [bot])
    assert bot.position.idle
    last = fills(world)[-1]
    assert (last["price"], last["tag"], last["role"]) == (price, tag, "stop" if tag == "stop_loss" else "target")
    assert bot.position.totals.trades == 1
    kinds = [e["kind"] for e in world.files.read_lines("data/events.jsonl")]
    assert kinds == ["opened", "stop_hit" if tag == "stop_loss" else "closed"]
    assert bot.position.cooldown in (cooldown, max(0, cooldown - 1))
    assert world.client().open_orders() == []
    books_match(world)


def test_a_sell_signal_takes_the_pair_back_and_sells_all(live: LIVES) -> None:
    world = live()
    bot = bot_of(world, signals=("BUY", "SELL"))
    minutes(world, [bot], 1.5)
    settle(world, [bot])
    assert bot.position.idle
    assert fills(world)[-1]["tag"] == "signal"
    assert world.client().open_orders() == []
    books_match(world)


def test_a_stopped_bots_pair_stays_and_what_it_did_is_booked_at_the_next_start(live: LIVES) -> None:
    world = live(FLAT, ("100", "100", "97", "97"))
    bot = bot_of(world)
    minutes(world, [bot], 0.5)
    settle(world, [bot])
    world.step_to(world.market_ms() + 180_000)  # nobody watches
    bot = bot_of(world, signals=())
    settle(world, [bot])
    assert bot.position.idle
    assert fills(world)[-1]["price"] == 98
    books_match(world)


def test_a_death_between_entry_and_pair_leaves_a_position_that_the_next_start_protects(live: LIVES) -> None:
    world = live()
    bot = bot_of(world)
    bot.check_now()  # the entry, and then the end
    assert bot.position.direction == "LONG" and bot.position.orders == ()
    bot = bot_of(world, signals=())
    bot.step()
    assert {o.role for o in bot.position.orders} == {"stop", "target"}


@pytest.mark.parametrize("fault", ["drop_after", "drop_before", "hang_after"])
def test_a_pair_whose_answer_was_lost_is_asked_for_and_there_is_one_in_the_end(live: LIVES, fault: str) -> None:
    world = live()
    bot = bot_of(world)
    params = {"seconds": 60} if fault == "hang_after" else {}
    world.ask("POST", "/paper/faults", {"method": "POST", "path": "/api/v3/orderList/oco", "fault": fault, "times": 1, "params": params})
    for _ in range(60):
        bot.step()
        world.wall += 500
    assert {o.role for o in bot.position.orders} == {"stop", "target"}
    assert {u.client_id for u in world.client().open_orders("BTCUSDT")} == {o.client_id for o in bot.position.orders}
    books_match(world)


def test_a_pair_taken_away_by_somebody_is_placed_again_and_told(live: LIVES) -> None:
    world = live()
    bot = bot_of(world)
    minutes(world, [bot], 0.2)
    settle(world, [bot])
    first = {o.client_id for o in bot.position.orders}
    world.client().cancel("BTCUSDT", min(first))
    settle(world, [bot])
    assert {o.role for o in bot.position.orders} == {"stop", "target"}
    assert first.isdisjoint(o.client_id for o in bot.position.orders)
    events = list(world.files.read_lines("data/events.jsonl"))
    assert any("taken away" in e["text"] and e["severity"] == "risk" for e in events)


def test_a_moved_stop_replaces_the_pair(live: LIVES) -> None:
    world = live(("100", "103", "100", "103"), ("103", "104", "103", "104"), ("104", "104", "102", "102"), ("102", "102", "102", "102"))
    bot = bot_of(world, trailing_stop_pct=1, trailing_activation_pct=2)
    minutes(world, [bot], 3.1)
    settle(world, [bot])
    assert bot.position.stop_loss == D("102.96")
    assert [o.request.stop_price for o in bot.position.orders if o.role == "stop"] == [D("102.96")]
    minutes(world, [bot], 1.2)
    settle(world, [bot])
    assert bot.position.idle
    assert (fills(world)[-1]["price"], fills(world)[-1]["tag"]) == (D("102.96"), "stop_loss")
    books_match(world)


def test_of_seven_bots_on_one_coin_two_watch_themselves_and_none_buys_and_dumps(live: LIVES) -> None:
    world = live()
    bots = [bot_of(world, n) for n in range(1, 8)]
    minutes(world, bots, 2.5)
    settle(world, bots)
    held = [b for b in bots if b.position.protection == "exchange"]
    watched = [b for b in bots if b.position.protection == "bot"]
    assert (len(held), len(watched)) == (5, 2)
    for bot in watched:
        assert any(w["kind"] == "protection" and "watches it itself" in w["text"] for w in bot.status.fields["warnings"])
    assert all(b.position.direction == "LONG" and len(fills(world, b.config.bot_id)) == 1 for b in bots)
    books_match(world)


def test_the_watched_ones_sell_when_the_stop_is_passed(live: LIVES) -> None:
    world = live(FLAT, FLAT, ("100", "100", "97", "97"))
    bots = [bot_of(world, n) for n in range(1, 8)]
    minutes(world, bots, 4)
    settle(world, bots)
    assert all(b.position.idle for b in bots)
    assert {b.position.totals.trades for b in bots} == {1}
    books_match(world)


def test_protection_by_the_bot_places_nothing(live: LIVES) -> None:
    world = live(FLAT, ("100", "100", "97", "97"))
    bot = bot_of(world, protection="bot")
    minutes(world, [bot], 0.9)
    assert bot.position.orders == ()
    minutes(world, [bot], 1.9)
    settle(world, [bot])
    assert bot.position.direction is None
    assert fills(world)[-1]["role"] == "exit"
    books_match(world)


def test_a_stop_that_is_over_while_nobody_can_say_how_sends_no_sale(live: LIVES) -> None:
    world = live(("100", "100", "97", "97"), *[FLAT] * 5)
    bot = bot_of(world, 1, ("BUY", "SELL"))
    settle(world, [bot])
    assert len(bot.position.orders) == 2
    world.step_to(world.market_ms() + 2 * 60_000)  # the stop has fired, unheard
    world.ask("POST", "/paper/faults", {"method": "GET", "path": "/api/v3/order", "fault": "error", "times": None, "params": {"status": 503, "code": -1000}})
    for _ in range(10):
        world.wall += 1000
        bot.step()
    assert not [w for w in bot.status.fields["warnings"] if w["kind"] == "exit"], "nothing was refused, because nothing was sent"
    world.ask("DELETE", "/paper/faults")
    settle(world, [bot])
    assert bot.position.direction is None and [row["tag"] for row in fills(world)] == ["entry", "stop_loss"]
    books_match(world)


class Fallen(Script):
    """Buys once, and says SELL of one candle only, however often it is asked."""

    first_ms = 0

    def analyze(self, data: Sequence[KlineRow]) -> dict[str, Any]:
        minute = (int(data[-1][0]) - self.first_ms) // 60_000
        return {"signal": {8: "BUY", 10: "SELL"}.get(minute, "HOLD"), "reasoning": f"minute {minute}"}


@pytest.mark.parametrize(
    ("method", "fault", "params"),
    [
        ("DELETE", "drop_before", {}),
        ("DELETE", "drop_after", {}),
        ("DELETE", "hang_after", {"seconds": 60}),
        ("DELETE", "error", {"status": 503, "code": -1000, "executed": True}),
        ("DELETE", "error", {"status": 503, "code": -1008, "executed": False}),
        ("GET", "error", {"status": 400, "code": -1100}),
    ],
)
def test_a_sell_signal_whose_cancel_got_no_answer_is_carried_out_in_the_same_slot(live: LIVES, method: str, fault: str, params: dict[str, Any]) -> None:
    world = live(*[FLAT] * 5)
    strategy = Fallen()
    strategy.first_ms = world.market_ms() // 60_000 * 60_000 - 9 * 60_000
    bot = world.bot(1, "BTCUSDT", strategy, "500", timeframe="1m", check_interval=60, offset=0)
    assert bot.start()
    settle(world, [bot])
    assert len(bot.position.orders) == 2
    world.step_to(world.market_ms() + 60_000)
    settle(world, [bot])
    world.ask("POST", "/paper/faults", {"method": method, "path": "/api/v3/order", "fault": fault, "times": 2, "params": params})
    world.step_to(world.market_ms() + 60_000)
    for _ in range(40):
        world.wall += 500
        bot.step()
    assert [row["tag"] for row in fills(world)] == ["entry", "signal"]
    assert bot.position.direction is None and not bot.position.orders
    books_match(world)
