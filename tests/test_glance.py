"""A bot on shared reads: its resting orders are looked at together, booked as soon as ever, and what is urgent goes first."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

import toy
from bots import Script, run_checks, trader
from core.account.shared import Shared
from core.account.shared_exchange import SharedExchange
from core.bot.trader import Trader
from core.errors import BudgetSpent, RateLimited
from core.exchange import Book
from core.model import Candles, OrderRequest, Update

D = Decimal


class Counted(toy.ToyExchange):
    """Counts what it is asked, and notes for what reason."""

    def __init__(self, clock: toy.StepClock):
        super().__init__(clock)
        self.closes = [D(100)] * 120
        self.capabilities = replace(self.capabilities, protection=True)
        self.asked: list[tuple[str, int, str]] = []
        self.refuse: RateLimited | None = None

    def _note(self, what: str) -> None:
        self.asked.append((what, self.clock.now, self.priority))

    def price(self, symbol: str) -> Decimal:
        self._note("price")
        return super().price(symbol)

    def candles(self, symbol: str, timeframe: str, limit: int, start_ms: int | None = None) -> Candles:
        if self.refuse is not None:
            raise self.refuse
        return super().candles(symbol, timeframe, limit, start_ms)

    def book(self, symbol: str, depth: int = 100) -> Book:
        self._note("book")
        return super().book(symbol, depth)

    def place(self, request: OrderRequest, latest_ms: int | None = None) -> Update:
        self._note(f"place {request.side}")
        return super().place(request, latest_ms)

    def place_pair(self, target: OrderRequest, stop: OrderRequest, list_id: str, latest_ms: int | None = None) -> tuple[Update, ...]:
        self._note("pair")
        return super().place_pair(target, stop, list_id, latest_ms)

    def order(self, symbol: str, client_id: str) -> Update:
        self._note("order")
        return super().order(symbol, client_id)

    def open_orders(self, symbol: str | None = None) -> list[Update]:
        self._note("open")
        return super().open_orders(symbol)

    def count(self, what: str) -> int:
        return sum(w.startswith(what) for w, _, _ in self.asked)


def bot(home: Path, clock: toy.StepClock, far: Counted, **record: object) -> Trader:
    def sleep(seconds: float) -> None:
        clock.now += int(seconds * 1000)

    shared = Shared(home / "shared.db", wall=clock.wall_ms, mono=clock.wall_ms, sleep=sleep)
    exchange = SharedExchange(far, shared)
    made = trader(home, clock, exchange, Script(["BUY"]), {"protection": "exchange", "offset": 0, **record})  # type: ignore[arg-type]
    exchange.time()  # as the clock of a real process does
    assert made.start()
    return made


def run(made: Trader, clock: toy.StepClock, ms: int) -> None:
    end = clock.now + ms
    while clock.now < end:
        made.step()
        clock.wait(*made.deadlines())


@pytest.fixture
def far(clock: toy.StepClock) -> Counted:
    return Counted(clock)


def test_a_resting_pair_is_known_from_the_looks_at_all_orders_and_its_end_is_booked_in_two_seconds(home: Path, clock: toy.StepClock, far: Counted) -> None:
    made = bot(home, clock, far)
    run_checks(made, clock, 1)
    run(made, clock, 3000)
    assert made.position.protection == "exchange" and len(made.position.orders) == 2
    other = Shared(home / "shared.db", wall=clock.wall_ms, mono=clock.wall_ms)
    room = made.exchange._key("orders")  # type: ignore[attr-defined]
    far.asked.clear()
    began = clock.now
    while clock.now < began + 60_000:
        other.wish(room, "anothers", "BTC/USD", every_ms=5000)
        made.step()
        clock.wait(*made.deadlines())
    assert far.count("order") <= 3 and 28 <= far.count("open") <= 32
    looks = [at for what, at, _ in far.asked if what == "open"]
    assert max(b - a for a, b in pairwise(looks)) <= 2050
    clock.now += 100
    far.move("97")  # the stop is reached
    moved = clock.now
    run(made, clock, 2100)
    assert made.position.direction is None and not made.position.orders
    told = next(at for what, at, _ in far.asked if what == "order" and at >= moved)
    assert told - moved <= 2050


def test_a_part_that_a_look_tells_is_asked_for_and_booked_at_once(home: Path, clock: toy.StepClock, far: Counted) -> None:
    made = bot(home, clock, far)
    run_checks(made, clock, 1)
    run(made, clock, 3000)
    stop = next(o for o in made.position.orders if o.role == "stop")
    other = Shared(home / "shared.db", wall=clock.wall_ms, mono=clock.wall_ms)
    for n in range(3):
        other.wish(made.exchange._key("orders"), f"anothers{n}", "BTC/USD", every_ms=0)  # type: ignore[attr-defined]
    run(made, clock, 2100)
    far._fill(stop.client_id, D(98), D("0.5"))
    for n in range(3):
        other.wish(made.exchange._key("orders"), f"anothers{n}", "BTC/USD", every_ms=0)  # type: ignore[attr-defined]
    run(made, clock, 2100)
    assert [f.side for f in made.position.fills] == ["BUY", "SELL"]


def test_getting_in_asks_as_an_entry_and_whatever_is_asked_with_something_open_as_an_exit(home: Path, clock: toy.StepClock, far: Counted) -> None:
    made = bot(home, clock, far)
    run_checks(made, clock, 1)
    run(made, clock, 10_000)
    why = {what: priority for what, _, priority in far.asked if what != "price"}
    assert (why["book"], why["place BUY"], why["pair"]) == ("entry", "entry", "exit")
    first = next(p for what, _, p in far.asked if what == "price")
    last = [p for what, _, p in far.asked if what == "price"][-1]
    assert (first, last) == ("entry", "exit")


@pytest.mark.parametrize(("refused", "sold_in_it"), [(BudgetSpent("spent", 60.0), True), (RateLimited("banned", 60.0), False)])
def test_a_budget_that_is_spent_holds_back_what_it_refused_and_a_ban_everything(
    home: Path, clock: toy.StepClock, far: Counted, refused: RateLimited, sold_in_it: bool
) -> None:
    made = bot(home, clock, far, protection="bot", check_interval=60, timeframe="1m")
    run_checks(made, clock, 1)
    assert made.position.direction == "LONG"
    far.refuse = refused
    before = clock.now
    while "check" not in made.attempts.retry_wall or made.attempts.retry_wall["check"] <= before:
        made.step()
        clock.wait(*made.deadlines())
    far.move("90")
    far.asked.clear()
    failed = clock.now
    run(made, clock, 20_000)
    assert (made.position.direction is None) is sold_in_it
    assert (far.count("") == 0) is not sold_in_it
    if not sold_in_it:
        run(made, clock, failed + 62_000 - clock.now)
        assert made.position.direction is None
