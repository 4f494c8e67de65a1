"""What one bot fetches, all bots know: how fresh it must be, and what is never believed. In one process, with clocks by hand."""

from __future__ import annotations

import inspect
import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

import toy
from core.account.shared import LEASE_MS, WAIT_MS, Shared
from core.account.shared_exchange import SharedExchange
from core.errors import Refused, Unavailable
from core.exchange import Exchange, TimeReading
from core.model import OrderRequest, Update
from patience import patience
from stepped import World

D = Decimal


class Hands:
    """The clocks of a host, which sleeping moves."""

    def __init__(self) -> None:
        self.wall, self.mono = 1_700_000_000_000, 5_000_000
        self.during: Callable[[], None] | None = None  # what others do while somebody sleeps

    def on(self, ms: int) -> None:
        self.wall += ms
        self.mono += ms

    def sleep(self, seconds: float) -> None:
        self.on(max(1, round(seconds * 1000)))
        if self.during is not None:
            self.during()


class Counted(toy.ToyExchange):
    """A toy that counts what it is asked."""

    speed = 1.0

    def __init__(self, clock: toy.StepClock):
        super().__init__(clock)
        self.asked: list[str] = []
        self.gone: set[str] = set()

    def time(self) -> TimeReading:
        return replace(super().time(), speed=self.speed)

    def price(self, symbol: str) -> Decimal:
        self.asked.append(f"price {symbol}")
        if symbol in self.gone:
            raise Refused(f"{symbol} is gone")
        return super().price(symbol)

    def prices(self, symbols: object) -> dict[str, Decimal]:
        names = sorted(symbols)  # type: ignore[call-overload]
        self.asked.append("prices " + ",".join(names))
        if self.gone & set(names):
            raise Refused("one of them is gone")
        return dict.fromkeys(names, self.last)

    def open_orders(self, symbol: str | None = None) -> list[Update]:
        self.asked.append(f"open {symbol or '*'}")
        return super().open_orders(symbol)

    def balances(self) -> dict:  # type: ignore[type-arg]
        self.asked.append("balances")
        return super().balances()

    def symbol(self, name: str) -> object:  # type: ignore[override]
        self.asked.append("symbol")
        return super().symbol(name)


class Stand:
    """Several bots' exchanges before one account, on one host."""

    def __init__(self, home: Path, bots: int = 3):
        self.hands, self.far = Hands(), Counted(toy.StepClock())
        self.path = home / "shared.db"
        self.bots = [self.bot() for _ in range(bots)]

    def bot(self) -> SharedExchange:
        hands = self.hands
        made = SharedExchange(self.far, Shared(self.path, wall=lambda: hands.wall, mono=lambda: hands.mono, sleep=hands.sleep))
        made.connect()
        made.time()
        return made

    def count(self, what: str) -> int:
        return sum(a.startswith(what) for a in self.far.asked)


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def order(own_id: str, side: str = "BUY", price: str = "50", quantity: str = "1") -> OrderRequest:
    return OrderRequest(own_id, "BTC/USD", side, "LIMIT", D(quantity), price=D(price), life="GTC")  # type: ignore[arg-type]


# --- prices ------------------------------------------------------------------------------


def test_one_request_tells_all_bots_the_prices_of_all_their_symbols(stand: Stand) -> None:
    one, two, three = stand.bots
    one.price("A"), two.price("B"), three.price("C")
    stand.hands.on(5000)
    stand.far.asked.clear()
    assert [b.price(s) for b, s in ((two, "B"), (one, "A"), (three, "C"), (three, "A"))] == [D(100)] * 4
    assert stand.far.asked == ["prices A,B,C"]


def test_a_price_counts_for_a_second_and_a_symbol_that_nobody_asks_for_any_more_is_left_out(stand: Stand) -> None:
    one, two, _ = stand.bots
    one.price("A"), two.price("B")
    stand.hands.on(61_000)
    stand.far.asked.clear()
    two.price("B")
    stand.hands.on(1000)
    one.price("B")
    stand.hands.on(1)
    two.price("B")
    assert stand.far.asked == ["price B", "price B"]


@pytest.mark.parametrize("speed", [0.0, 60.0])
def test_on_a_paper_market_of_another_speed_each_asks_for_itself(stand: Stand, speed: float) -> None:
    stand.far.speed = speed
    for bot in stand.bots:
        bot.time()
        bot.price("A"), bot.balances(), bot.symbol("BTC/USD")
        assert bot.glance("BTC/USD", "x") is None
    assert [stand.count(w) for w in ("price A", "balances", "symbol", "open")] == [3, 3, 3, 0]


def test_where_market_time_was_moved_in_between_a_price_is_old(stand: Stand) -> None:
    one, two, _ = stand.bots
    one.price("A")
    stand.far.clock.now += 3_600_000
    two.time()
    two.price("A")
    assert stand.count("price") == 2


def test_a_symbol_that_is_gone_spoils_the_common_request_once_only(stand: Stand) -> None:
    one, two, three = stand.bots
    one.price("A"), two.price("B"), three.price("C")
    stand.far.gone.add("C")
    stand.hands.on(5000)
    assert one.price("A") == D(100)
    assert two.price("B") == D(100)
    for _ in range(2):
        with pytest.raises(Refused):
            three.price("C")
        stand.hands.on(5001)
    stand.far.asked.clear()
    assert one.price("A") == two.price("B") == D(100)
    assert stand.far.asked == ["prices A,B"]


@pytest.mark.parametrize("clocks", [(-3_600_000, 0), (0, -4_000_000), (3_600_000, 0)])
def test_neither_a_clock_that_was_set_nor_a_reboot_makes_an_old_price_new(stand: Stand, clocks: tuple[int, int]) -> None:
    stand.bots[0].price("A")
    stand.hands.wall += clocks[0]
    stand.hands.mono += clocks[1]
    stand.hands.on(1)
    stand.bots[1].price("A")
    assert stand.count("price") == 2
    stand.bots[2].price("A")  # and what was fetched then is known again
    assert stand.count("price") == 2


# --- leases ------------------------------------------------------------------------------


def test_a_lease_that_hangs_is_taken_over_and_nobody_waits_longer_than_the_bound(stand: Stand) -> None:
    shared = stand.bots[0].shared
    shared.wish("makes", "the tables", every_ms=0)
    with sqlite3.connect(stand.path) as db:  # our parent lives, and never gives it back
        db.execute("INSERT INTO leases VALUES ('k', ?, ?)", (os.getppid(), stand.hands.mono + LEASE_MS))
    db.close()
    began = stand.hands.mono
    assert shared.once("k", lambda: None, lambda: 7) == 7
    assert LEASE_MS <= stand.hands.mono - began <= LEASE_MS + 60

    def again() -> None:
        with sqlite3.connect(stand.path) as other:
            other.execute("INSERT OR REPLACE INTO leases VALUES ('k', ?, ?)", (os.getppid(), stand.hands.mono + LEASE_MS))
        other.close()

    again()
    stand.hands.during, began = again, stand.hands.mono
    assert shared.once("k", lambda: None, lambda: 8) is None  # whoever asked asks for himself now
    assert WAIT_MS <= stand.hands.mono - began <= WAIT_MS + 60


def test_the_lease_of_a_dead_process_holds_nobody_up(stand: Stand) -> None:
    dead = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(dead, 0)
    stand.bots[0].shared.wish("makes", "the tables", every_ms=0)
    with sqlite3.connect(stand.path) as db:
        db.execute("INSERT INTO leases VALUES ('k', ?, ?)", (dead, stand.hands.mono + LEASE_MS))
    db.close()
    began = stand.hands.mono
    assert stand.bots[0].shared.once("k", lambda: None, lambda: 7) == 7 and stand.hands.mono == began


def test_who_fails_to_fetch_gives_the_lease_back(stand: Stand) -> None:
    stand.far.broken = True
    with pytest.raises(Unavailable):
        stand.bots[0].price("A")
    stand.far.broken = False
    began = stand.hands.mono
    assert stand.bots[1].price("A") == D(100) and stand.hands.mono == began


# --- open orders ---------------------------------------------------------------------------


def test_a_look_at_a_symbol_tells_of_everybodys_orders_where_that_weighs_less(stand: Stand) -> None:
    one, two, three = stand.bots
    for n in range(3):
        one.place(order(f"o{n}"))
    stand.hands.on(10)
    assert one.glance("BTC/USD", "o0") is None  # one order: a question for it alone weighs less than a look
    assert two.glance("BTC/USD", "o1") is not None
    stand.hands.on(700)
    for bot, own_id in ((three, "o2"), (one, "o0"), (two, "o1")):
        seen = bot.glance("BTC/USD", own_id)
        assert seen is not None and (seen[0].status, seen[0].executed, seen[0].client_id, seen[1]) == ("NEW", 0, own_id, 700)
    assert stand.far.asked == ["open BTC/USD"]
    stand.hands.on(1300)
    assert two.glance("BTC/USD", "o1") is not None and stand.count("open") == 2


def test_many_orders_on_many_symbols_are_looked_at_with_one_question_for_the_account(stand: Stand) -> None:
    one = stand.bots[0]
    for n in range(21):
        one.shared.wish(one._key("orders"), f"x{n}", f"S{n}", every_ms=0)
    one.place(order("mine"))
    stand.hands.on(1)
    assert one.glance("BTC/USD", "mine") is not None
    assert stand.far.asked == ["open *"]


def test_an_order_that_a_look_does_not_list_or_that_was_touched_since_is_asked_for_singly(stand: Stand) -> None:
    one, two, _ = stand.bots
    for n in range(2):
        one.place(order(f"o{n}"))
    stand.hands.on(10)
    for bot, n in ((one, 0), (two, 1), (one, 0)):
        bot.glance("BTC/USD", f"o{n}")
    assert stand.count("open") == 1
    two.place(order("later"))
    stand.hands.on(10)
    assert one.glance("BTC/USD", "later") is None  # the look began before it was there
    one.cancel("BTC/USD", "o0")
    stand.hands.on(10)
    assert one.glance("BTC/USD", "o0") is None
    assert one.glance("BTC/USD", "o1") is not None
    stand.far.move("40")  # o1 fills
    stand.hands.on(2000)
    assert two.glance("BTC/USD", "o1") is None


# --- balances, rules -------------------------------------------------------------------------


def test_balances_are_shared_for_two_seconds_but_never_across_an_order_of_anybody(stand: Stand) -> None:
    one, two, three = stand.bots
    one.balances(), two.balances()
    stand.hands.on(2000)
    three.balances()
    assert stand.count("balances") == 1
    three.place(order("x"))
    stand.hands.on(1)
    assert one.balances()["USD"].locked == 50
    two.balances()
    assert stand.count("balances") == 2
    stand.hands.on(1)
    three.cancel("BTC/USD", "x")
    assert two.balances()["USD"].locked == 0


def test_while_an_order_is_under_way_balances_are_not_shared_and_a_lost_answer_changes_nothing_of_it(stand: Stand) -> None:
    one, two, _ = stand.bots
    one.balances()
    inside: list[int] = []
    stand.far.lose = "after"
    place = stand.far.place

    def slow(request: OrderRequest, latest_ms: int | None = None) -> Update:
        inside.append(two.balances()["USD"].locked)  # type: ignore[arg-type]
        two.balances()
        return place(request, latest_ms)

    stand.far.place = slow  # type: ignore[method-assign]
    with pytest.raises(Exception, match="cut"):
        one.place(order("x"))
    assert inside == [0] and stand.count("balances") == 3
    stand.hands.on(1)
    assert two.balances()["USD"].locked == 50


def test_who_heard_of_a_fill_believes_no_balances_from_before_it(stand: Stand) -> None:
    one, two, _ = stand.bots
    one.place(order("x"))
    stand.hands.on(1)
    two.balances()
    stand.far.move("40")
    stand.hands.on(1)
    assert one.order("BTC/USD", "x").status == "FILLED"
    assert one.balances()["BTC"].total > 0


def test_rules_are_asked_for_once_at_a_mass_start_and_anew_by_whoever_asks_again(tmp_path: Path) -> None:
    world = World(tmp_path, PAPER_START="2024-03-01", PAPER_SPEED="1")
    hands, made = Hands(), []
    for _ in range(3):
        bot = SharedExchange(world.client(), Shared(tmp_path / "shared.db", wall=lambda: hands.wall, mono=lambda: hands.mono, sleep=hands.sleep))
        bot.connect()
        bot.time()
        made.append(bot)
    world.ask("POST", "/paper/faults", {"method": "GET", "path": "/api/v3/exchangeInfo", "fault": "latency", "times": None, "params": {"ms": 0}})
    direct = made[0].inner.symbol("BTCUSDT")
    assert [b.symbol("BTCUSDT") for b in made] == [direct] * 3

    def asked() -> int:
        return int(world.ask("GET", "/paper/faults")[0]["struck"])

    assert asked() == 2
    made[2].symbol("BTCUSDT")
    assert asked() == 3
    world.close()


# --- whatever happens ------------------------------------------------------------------------


def test_a_database_that_can_not_be_used_costs_requests_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "shared.db").mkdir()
    stand = Stand(tmp_path)
    for _ in range(3):
        for bot in stand.bots:
            assert bot.price("A") == D(100) and bot.balances() and bot.symbol("BTC/USD").base == "BTC"
            assert bot.glance("BTC/USD", "x") is None
            with bot.turn("candles") as waited:
                assert not waited
            bot.place(order(f"o{len(stand.far.sent)}", quantity="0.1"))
        stand.hands.on(20_000)
    assert stand.count("price") == 9
    assert sum("asks the exchange for itself" in r.message for r in caplog.records) == len(stand.bots)


def test_a_damaged_database_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "shared.db").write_text("this is no database, and far from one" * 100)
    stand = Stand(tmp_path)
    for bot in stand.bots:
        bot.price("A")
    asked = stand.count("price")
    stand.hands.on(20_000)
    for bot in stand.bots:
        bot.price("A")
    assert stand.count("price") == asked + 1


def test_a_database_that_is_locked_holds_nobody_up_for_long(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.bots[0].price("A")
    lock = sqlite3.connect(stand.path, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    try:
        stand.hands.on(5000)
        began = time.monotonic()
        assert stand.bots[0].price("A") == D(100)
        assert stand.bots[0].price("A") == D(100)
        assert time.monotonic() - began < patience(2)
    finally:
        lock.close()


def test_everything_the_interface_has_is_passed_on() -> None:
    theirs = {n for n, v in inspect.getmembers(Exchange, inspect.isfunction) if not n.startswith("_")}
    assert theirs - {"require"} <= set(vars(SharedExchange))


def test_the_names_that_scripts_use_and_the_priority_reach_the_client(tmp_path: Path) -> None:
    world = World(tmp_path, PAPER_START="2024-03-01")
    client = world.client()
    bot = SharedExchange(client, Shared(tmp_path / "shared.db"))
    bot.connect()
    assert bot.venue == client.venue and bot.venue.source
    assert bot.get_account_balance("USDT") == D(10000) and bot.is_symbol_tradeable("BTCUSDT")
    bot.priority = "exit"
    assert client.priority == bot.priority == "exit"
    with pytest.raises(AttributeError):
        bot.no_such_name()
    world.close()
