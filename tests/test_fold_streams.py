"""Streams later tell what answers and queries tell now: any mixture, order and repetition of them is one position.

An entry, a stop and a target that are a pair, and an exit; each told by its answer (all
fills at once), by queries (sums only), by its list of trades, and by a stream's events (one
fill each, as executionReport has it). tests/test_fold.py shows entry and exit without a stream.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from decimal import Decimal

from hypothesis import given
from hypothesis import settings as proof
from hypothesis import strategies as st

from core.bot import decisions, fold
from core.bot.position import from_json, to_json
from core.model import ZERO, Fill, Order, OrderRequest, Position, Role, Rules, Side, Update, Venue
from core.storage import dumps, loads

D = Decimal
RULES = Rules(tick=D("0.01"), step=D("0.001"), min_quantity=D("0.001"), max_quantity=D(1000), min_notional=D("5"))
VENUE = Venue("binance", "spot", "main", "paper", "x")
PLAN = decisions.Plan(D(1000))
FEES = (("BTC", False), ("USDT", False), ("BNB", True), ("BNB", False))


@dataclass(frozen=True)
class Story:
    """The position when all orders are written, and for each order everything that may ever be told of it."""

    start: Position
    told: dict[str, list[Update]]

    @property
    def all(self) -> list[Update]:
        return [u for updates in self.told.values() for u in updates]


def tellings(client_id: str, order_id: str, end: str, fills: list[Fill]) -> list[Update]:
    """Answer, queries in between and at the end, the list of trades, and the stream, of one order."""
    total, quote = sum((f.quantity for f in fills), ZERO), sum((f.quote for f in fills), ZERO)
    stream, queries, done, paid = [Update(client_id, "NEW", order_id)], [Update(client_id, "NEW", order_id)], ZERO, ZERO
    for n, f in enumerate(fills):
        done, paid = done + f.quantity, paid + f.quote
        last = n == len(fills) - 1 and end == "FILLED"
        stream.append(Update(client_id, "FILLED" if last else "PARTIALLY_FILLED", order_id, done, paid, (f,), f.time_ms))
        queries.append(Update(client_id, "FILLED" if last else "PARTIALLY_FILLED", order_id, done, paid))
    if end != "FILLED":
        stream.append(Update(client_id, end, order_id, total, quote))
    answer = Update(client_id, end, order_id, total, quote, tuple(fills))
    trades = Update(client_id, "NEW", order_id, fills=tuple(replace(f, client_id="") for f in fills))
    return [*stream, *queries, answer, trades, Update(client_id, end, order_id, total, quote)]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    number = 0

    def executions(client_id: str, order_id: str, side: Side, sizes: list[int]) -> list[Fill]:
        nonlocal number
        made = []
        for size in sizes:
            number += 1
            price = D(draw(st.integers(9000, 11000))) / 100
            asset, valued = draw(st.sampled_from(FEES))
            fee = D(draw(st.integers(0, 9))) / 100_000
            quantity = D(size) / 1000
            own = Fill(str(number), order_id, client_id, "BTCUSDT", side, price, quantity, price * quantity, fee, asset, draw(st.integers(1, 9)))
            made.append(replace(own, fee_quote=fee * 500 if valued else None))
        return made

    bought = draw(st.lists(st.integers(500, 900), min_size=1, max_size=4))
    left = sum(bought) - 5  # fees may have taken some of it
    stopped = draw(st.sampled_from(["whole", "part", "none"]))
    by_pair = {"whole": left, "part": left // 3, "none": 0}[stopped]
    leg = draw(st.sampled_from(["stop", "target"]))
    by_exit = draw(st.sampled_from([left - by_pair, (left - by_pair) // 2]))

    def parts(size: int) -> list[int]:
        cut = draw(st.integers(0, size))
        return [p for p in (cut, size - cut) if p]

    shapes: list[tuple[str, Role, Side, str, list[int]]] = [("entry", "entry", "BUY", draw(st.sampled_from(["FILLED", "EXPIRED", "CANCELED"])), bought)]
    for role in ("stop", "target"):
        mine = parts(by_pair) if role == leg else []
        end = "FILLED" if role == leg and stopped == "whole" else "EXPIRED" if stopped == "whole" else "CANCELED"
        shapes.append((role, role, "SELL", end, mine))  # type: ignore[arg-type]
    shapes.append(("exit", "exit", "SELL", "FILLED" if by_exit else "REJECTED", parts(by_exit)))
    position = Position(1, VENUE, "BTCUSDT", "BTC", "USDT", dust=D(draw(st.integers(0, 9))) / 10_000)
    told = {}
    for n, (client_id, role, side, end, sizes) in enumerate(shapes, 1):
        position = fold.begin(position, Order(OrderRequest(client_id, "BTCUSDT", side, "MARKET", D(1)), role, role, wall_created_ms=n))
        told[client_id] = tellings(client_id, str(n), end, executions(client_id, str(n), side, sizes))
    return Story(replace(position, orders=tuple(replace(o, trade=1) for o in position.orders)), told)


def heard(start: Position, updates: list[Update], dice: random.Random, *, settling: bool = False) -> Position:
    """The position after all of it, shuffled, some of it twice. `settling`: what follows each booking follows it."""
    telling = updates + dice.sample(updates, len(updates) // 2)
    dice.shuffle(telling)
    position = start
    for update in telling:
        before = position
        position = fold.tell(position, update, 5)
        news = tuple(f for f in position.unjournaled if f not in before.unjournaled)
        if settling and position != before:
            position = decisions.after_fills(position, PLAN, RULES, news)
    return position


def once_each(position: Position, story: Story) -> None:
    """The journal's list: every execution that was told, once."""
    ids = [(f.client_id, f.trade_id) for f in position.unjournaled]
    assert len(ids) == len(set(ids))
    assert set(ids) == {(u.client_id, f.trade_id) for u in story.all for f in u.fills}


@given(stories(), st.randoms(use_true_random=False))
@proof(max_examples=150, deadline=None)
def test_answers_queries_and_a_stream_in_any_order_fold_to_one_position(story: Story, dice: random.Random) -> None:
    ends = [heard(story.start, story.all, dice) for _ in range(3)]
    assert ends[0] == ends[1] == ends[2]
    assert ends[0].orders == ()
    once_each(ends[0], story)
    closed = [fold.settle(p, D(100), RULES) for p in ends]
    assert closed[0] == closed[1] == closed[2]
    assert closed[0].totals.profit == (ends[0].cash if closed[0].direction is None else 0)
    assert closed[0].quantity + closed[0].dust == ends[0].quantity + ends[0].dust
    assert from_json(loads(dumps(to_json(ends[0])))) == ends[0]


@given(stories(), st.randoms(use_true_random=False))
@proof(max_examples=150, deadline=None)
def test_whatever_part_of_it_was_told_so_far_the_order_of_telling_does_not_show(story: Story, dice: random.Random) -> None:
    part = dice.sample(story.all, dice.randint(1, len(story.all)))
    first, second = (heard(story.start, part, dice) for _ in range(2))
    assert first == second
    finished = heard(first, story.all, dice)
    assert finished == heard(story.start, story.all, dice), "and the rest, told later, ends in the same"


@given(stories(), st.randoms(use_true_random=False))
@proof(max_examples=150, deadline=None)
def test_booked_as_a_bot_books_the_trade_closes_with_the_same_profit_dust_and_journal(story: Story, dice: random.Random) -> None:
    """The way out is sent once the entry is known; from then on stop, target and exit are told as they come."""
    entered = heard(story.start, story.told["entry"], dice, settling=True)
    assert {o.role for o in entered.orders} == {"stop", "target", "exit"}
    rest = [u for client_id, updates in story.told.items() if client_id != "entry" for u in updates]
    mixed = rest + story.told["entry"]  # the entry is told again, too
    ends = [heard(entered, mixed, dice, settling=True) for _ in range(3)]
    assert [(p.totals, p.dust, p.quantity, p.direction, p.unjournaled, p.fills) for p in ends[1:]] == [
        (p.totals, p.dust, p.quantity, p.direction, p.unjournaled, p.fills) for p in ends[:1]
    ] * 2
    assert ends[0] == ends[1] == ends[2]
    once_each(ends[0], story)
