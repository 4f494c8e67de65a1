"""The fold: one pure function for whatever tells of an order."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from core.account.claims import claims
from core.bot import decisions, fold
from core.bot.position import PositionStore, from_json, to_json
from core.model import Fill, Order, OrderRequest, Position, Rules, Update, Venue
from core.storage import Files, dumps, loads

D = Decimal
RULES = Rules(tick=D("0.01"), step=D("0.001"), min_quantity=D("0.001"), max_quantity=D(1000), min_notional=D(5))


def flat() -> Position:
    return Position(1, Venue(), "BTCUSDT", "BTC", "USDT")


def order(client_id: str, side: str = "BUY", role: str = "entry", tag: str = "") -> Order:
    return Order(OrderRequest(client_id, "BTCUSDT", side, "MARKET", quantity=D(1)), role, tag)  # type: ignore[arg-type]


def fill(trade_id: str, client_id: str, side: str, quantity: str, price: str, fee: str = "0", asset: str = "BTC", at: int = 1) -> Fill:
    return Fill(trade_id, "7", client_id, "BTCUSDT", side, D(price), D(quantity), D(quantity) * D(price), D(fee), asset, at)  # type: ignore[arg-type]


def bought() -> Position:
    position = fold.begin(flat(), order("a"))
    return fold.tell(position, Update("a", "FILLED", "7", D(1), D(100), (fill("1", "a", "BUY", "1", "100", "0.001"),)), 5)


def test_one_fill_told_twice_and_out_of_order_changes_nothing() -> None:
    first = Update("a", "PARTIALLY_FILLED", "7", D("0.4"), D(40), (fill("1", "a", "BUY", "0.4", "100", at=1),))
    second = Update("a", "FILLED", "7", D(1), D(100), (fill("2", "a", "BUY", "0.6", "100", at=2),))
    start = fold.begin(flat(), order("a"))
    ends = set()
    for telling in itertools.permutations((first, second, first, second)):
        position = start
        for update in telling:
            position = fold.tell(position, update, 5)
        ends.add(dumps(to_json(position)))
    assert len(ends) == 1
    assert position.quantity == 1
    assert position.orders == ()


def test_an_order_that_is_over_stays_until_all_its_fills_are_known() -> None:
    position = fold.tell(fold.begin(flat(), order("a")), Update("a", "FILLED", "7", D(1), D(100)), 5)
    assert [o.status for o in position.orders] == ["FILLED"]
    assert fold.lacks_fills(position, position.orders[0])
    position = fold.tell(position, Update("a", "FILLED", "7", fills=(fill("1", "a", "BUY", "1", "100"),)), 5)
    assert position.orders == ()
    assert position.quantity == 1


def test_a_market_order_that_expired_half_filled_leaves_what_it_filled() -> None:
    update = Update("a", "EXPIRED", "7", D("0.5"), D(50), (fill("1", "a", "BUY", "0.5", "100"),))
    position = fold.tell(fold.begin(flat(), order("a")), update, 5)
    assert position.orders == ()
    assert position.quantity == D("0.5")


def test_what_is_told_of_a_finished_or_foreign_order_changes_nothing() -> None:
    position = bought()
    for update in (Update("a", "FILLED", "7", D(1), D(100), (fill("1", "a", "BUY", "1", "100"),)), Update("foreign", "FILLED", "9", D(5))):
        assert fold.tell(position, update, 9) == position


def test_the_base_fee_is_taken_off_what_is_owned_and_the_rest_becomes_dust() -> None:
    position = bought()
    assert position.quantity == D("0.999")
    position = fold.begin(position, order("b", "SELL", "exit", "signal"))
    position = fold.tell(position, Update("b", "FILLED", "8", D("0.998"), D("109.78"), (fill("2", "b", "SELL", "0.998", "110", "0.10978", "USDT", at=2),)), 6)
    position = fold.settle(position, D(110), RULES)
    assert position.direction is None
    assert position.quantity == 0
    assert position.dust == D("0.001")
    assert position.totals.profit == D("109.78") - D("0.10978") - 100
    assert (position.totals.trades, position.totals.wins) == (1, 1)


def test_a_short_goes_round_through_decisions_fold_and_file() -> None:
    position = fold.begin(flat(), order("a", "SELL", "entry"))
    position = fold.tell(position, Update("a", "FILLED", "7", D(1), D(100), (fill("1", "a", "SELL", "1", "100", "0.1", "USDT"),)), 5)
    plan = decisions.Plan(D(100))
    position = decisions.after_fills(position, plan, RULES, position.fills)
    assert (position.direction, position.quantity, position.entry_price) == ("SHORT", 1, 100)
    assert (position.stop_loss, position.take_profit) == (102, 95)
    assert decisions.look(position, D("101.99")).intents == ()
    out = decisions.look(position, D("102"))
    assert (out.intents[0].side, out.intents[0].tag) == ("BUY", "stop_loss")
    assert decisions.look(position, D("95")).intents[0].tag == "take_profit"
    assert from_json(loads(dumps(to_json(position)))) == position
    position = fold.begin(position, order("b", "BUY", "exit", "take_profit"))
    position = fold.tell(position, Update("b", "FILLED", "8", D(1), D(95), (fill("2", "b", "BUY", "1", "95", "0.095", "USDT", at=2),)), 6)
    position = decisions.after_fills(position, plan, RULES, position.fills)
    assert position.direction is None
    assert position.totals.profit == D("100") - D("0.1") - D("95") - D("0.095")
    assert from_json(loads(dumps(to_json(position)))) == position


amounts = st.integers(1, 500).map(lambda n: D(n) / 1000)


@st.composite
def stories(draw: st.DrawFn) -> tuple[Position, list[Update]]:
    """An entry and a partial exit in several fills, told by answers, queries and single events."""
    updates: list[Update] = []
    number = 0
    position = fold.begin(flat(), order("a"))
    position = replace(position, orders=(*position.orders, replace(order("b", "SELL", "exit", "signal"), trade=1)), next_order=3)
    for client_id, side in (("a", "BUY"), ("b", "SELL")):
        sizes = draw(st.lists(amounts, min_size=1, max_size=4))
        if side == "SELL":
            sizes = [min(sizes[0], D("0.001"))]
        fills = []
        for size in sizes:
            number += 1
            fills.append(
                fill(
                    str(number),
                    client_id,
                    side,
                    str(size),
                    str(draw(st.integers(50, 150))),
                    str(draw(st.integers(0, 5)) / D(100000)),
                    draw(st.sampled_from(["BTC", "USDT", "BNB"])),
                    at=draw(st.integers(1, 9)),
                )
            )
        total, quote = sum(f.quantity for f in fills), sum(f.quote for f in fills)
        end = draw(st.sampled_from(["FILLED", "EXPIRED", "CANCELED"]))
        updates += [
            Update(client_id, end, "7", D(total), D(quote), tuple(fills)),
            Update(client_id, end, "7", D(total), D(quote)),
            Update(client_id, "NEW", "7"),
        ]
        done = D(0)
        for f in fills:
            done += f.quantity
            updates.append(Update(client_id, "PARTIALLY_FILLED", "7", done, fills=(f,)))
    return position, updates


@given(stories(), st.randoms(use_true_random=False))
def test_any_telling_shuffled_and_repeated_folds_to_the_same_position(story: tuple[Position, list[Update]], random) -> None:  # type: ignore[no-untyped-def]
    start, updates = story
    ends = []
    for _ in range(3):
        telling = updates + random.sample(updates, len(updates) // 2)
        random.shuffle(telling)
        position = start
        for update in telling:
            position = fold.tell(position, update, 5)
        assert position.orders == ()
        ends.append(position)
    assert ends[0] == ends[1] == ends[2]
    assert from_json(loads(dumps(to_json(ends[0])))) == ends[0]


def test_a_position_file_says_what_people_and_tools_read(tmp_path: Path) -> None:
    store = PositionStore(Files(tmp_path), 1)
    store.save(decisions.after_fills(bought(), decisions.Plan(D(100)), RULES, bought().fills))
    value = json.loads((tmp_path / "bot_1_position.json").read_text())
    wanted = {
        "position",
        "entry_price",
        "stop_loss",
        "take_profit",
        "symbol",
        "has_traded",
        "initial_investment",
        "timestamp",
        "quantity",
        "dust",
        "pending_order",
    }
    assert wanted <= set(value)
    assert (value["position"], value["entry_price"], value["quantity"], value["stop_loss"]) == ("LONG", 100, 0.999, 98)
    assert value["schema"] == 1
    again = PositionStore(Files(tmp_path), 1)
    assert again.load() == store.position


@pytest.mark.parametrize("direction", ["LONG", "SHORT"])
def test_stop_and_target_round_down_to_the_tick(direction: str) -> None:
    side = "BUY" if direction == "LONG" else "SELL"
    position = fold.begin(flat(), order("a", side))
    position = fold.tell(position, Update("a", "FILLED", "7", D(1), D(0), (fill("1", "a", side, "1", "33.33"),)), 5)
    stop, target = decisions.levels(position, decisions.Plan(D(100)), RULES)
    assert stop is not None and target is not None
    assert stop % D("0.01") == 0 and target % D("0.01") == 0


def outlived() -> tuple[Position, Fill, Fill]:
    """An entry that has filled by half; that half was sold and its trade closed; the order still rests."""
    first, second = fill("1", "a", "BUY", "0.5", "100", at=1), fill("3", "a", "BUY", "0.5", "100", at=3)
    position = fold.tell(fold.begin(flat(), order("a")), Update("a", "PARTIALLY_FILLED", "7", D("0.5"), D(50), (first,)), 5)
    position = fold.begin(position, order("b", "SELL", "exit"))
    position = fold.tell(position, Update("b", "FILLED", "8", D("0.5"), D(55), (fill("2", "b", "SELL", "0.5", "110", at=2),)), 5)
    return fold.settle(position, D(110), RULES), first, second


@pytest.mark.parametrize("end", ["PARTIALLY_FILLED", "CANCELED", "FILLED"])
@pytest.mark.parametrize("written", [False, True])
def test_an_entry_that_outlives_the_trade_it_began_is_not_booked_twice(end: str, written: bool) -> None:
    position, first, second = outlived()
    assert position.direction is None and position.totals.trades == 1 and [o.client_id for o in position.orders] == ["a"]
    assert not fold.lacks_fills(position, position.orders[0]), "nobody has to ask for what is booked"
    if written:
        position = from_json(loads(dumps(to_json(position))))
    more = end != "CANCELED"
    done = D(1) if more else D("0.5")
    told = Update("a", end, "7", done, done * 100, (first, second) if more else (first,))
    for _ in range(2):
        position = fold.tell(position, told, 5)
    assert position.quantity == (D("0.5") if more else 0) and position.dust == 0
    assert [f.trade_id for f in position.unjournaled] == (["1", "2", "3"] if more else ["1", "2"])
    assert [f.trade for f in position.fills] == ([2] if more else [])
    assert [o.client_id for o in position.orders] == (["a"] if end == "PARTIALLY_FILLED" else [])


def test_the_second_trade_that_an_entry_outlives_remembers_the_first(tmp_path: Path) -> None:
    position, first, second = outlived()
    position = fold.tell(position, Update("a", "PARTIALLY_FILLED", "7", D(1), D(100), (first, second)), 5)
    position = fold.begin(position, order("c", "SELL", "exit"))
    position = fold.settle(fold.tell(position, Update("c", "FILLED", "9", D("0.5"), D(55), (fill("4", "c", "SELL", "0.5", "110", at=4),)), 5), D(110), RULES)
    assert position.totals.trades == 2 and position.orders[0].past == ("1", "3") and position.orders[0].past_quantity == 1
    assert fold.tell(position, Update("a", "FILLED", "7", D(1), D(100), (second, first)), 5).orders == ()
    Files(tmp_path).write_json("bot_1_position.json", to_json(position))
    assert [c.unsettled for c in claims(Files(tmp_path), Venue())] == [False]
