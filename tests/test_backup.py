"""A yard is copied while its bots trade, and goes on elsewhere with books that are the wallet.

In the stepped world, where the moment of every copy is chosen: between any two readings of a
backup a bot may buy, sell, move its stop. The copies are restored against the same exchange,
which lived on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.account import ledger
from core.bot import catchup, commands, reconcile
from core.bot.ids import number_of
from core.bot.trader import Trader
from core.fleet import backup, restore
from core.model import TERMINAL, KlineRow
from core.storage import Files, installation
from paper_fixed import FILTERS, MINUTE, FixedMarket
from stepped import World, run_until
from strategies.base import Strategy
from test_kill_points import Fate, Killed, MortalFiles

D = Decimal


class Restless(Strategy):
    """Buys, and sells again, by the candle's time alone: any life hears the same."""

    key = "restless"
    warmup = 1  # type: ignore[assignment]
    turn = 4  # candles that it stays in or out

    def analyze(self, data: Any) -> dict[str, Any]:
        rows: list[KlineRow] = list(data)
        inside = int(rows[-1][0]) // MINUTE % (2 * self.turn) < self.turn
        return {"signal": "BUY" if inside else "SELL", "reasoning": "by the clock"}


def saw(n: int) -> tuple[str, str, str, str]:
    """Minutes that rise by 1.5 % and fall by 3 %: stops trail, and are met."""
    at = lambda i: D(100) + D("0.3") * (i % 10) - (D(4) if i % 37 > 33 else 0)  # noqa: E731
    o, c = at(n), at(n + 1)
    return str(o), str(max(o, c)), str(min(o, c)), str(c)


RECORD: dict[str, Any] = {
    "timeframe": "1m",
    "check_interval": 60,
    "stop_loss_pct": D("1.5"),
    "take_profit_pct": D(3),
    "trailing_stop_pct": D(1),
    "offset": 0,
    "cooldown_checks": 0,
}


class Lives:
    """One exchange that lives on, the home that is copied, and the homes that copies become."""

    def __init__(self, folder: Path, bots: int = 2, **record: Any):
        (folder / "one").mkdir()
        self.folder, self.bots_wanted, self.record = folder, bots, {**RECORD, **record}
        market = FixedMarket([saw(n) for n in range(3000)], filters=[f for f in FILTERS if f["filterType"] != "MAX_NUM_ORDERS"])
        self.world = World(folder / "one", opener=lambda _: market, RISK_INTERVAL="15", CHECK_INTERVAL="60", KLINE_INTERVAL="1m")
        self.world.step_to(market.first_ms + 60 * MINUTE + 2000)
        self.made = 0

    def bots(self, home: Path | None = None) -> list[Trader]:
        """Bots of a home, started; on the one exchange."""
        world = self.world
        if home is not None:
            world.home, world.files = home, Files(home)
        started = []
        for n in range(1, self.bots_wanted + 1):
            bot = world.bot(n, "BTCUSDT", Restless(), "1000", **self.record)
            assert bot.start()
            started.append(bot)
        return started

    def run(self, bots: list[Trader], minutes: int) -> None:
        run_until(self.world, bots, self.world.market_ms() + minutes * MINUTE)

    def settle(self, bots: list[Trader]) -> None:
        """The clock stands; what is under way is asked for until it is known."""
        for _ in range(40):
            self.world.wall += 2000
            for bot in bots:
                bot._try("catchup", bot.catchup.due, bot.catchup.step)
                bot._try("orders", lambda bot=bot: bool(bot.position.orders) or bot.executor.unresolved, bot.executor.resolve)  # type: ignore[misc]
            if not any(bot.executor.unresolved or bot.catchup.pending for bot in bots):
                return
        raise AssertionError("something stays unresolved")

    def take(self, between: Callable[[str], None] = lambda name: None) -> Path:
        self.made += 1
        return backup.create(Files(self.folder / "one"), self.folder / f"{self.made}.tar.gz", paper=False, between=between).path

    def back(self, copy: Path) -> Path:
        home = self.folder / f"home of {copy.name}"
        restore.restore(copy, home)
        (home / ".env").touch()
        return home

    def told(self) -> list[dict[str, Any]]:
        """The exchange's own list of orders."""
        client = self.world.client()
        client.connect()
        return client._client.get_all_orders(symbol="BTCUSDT", limit=1000)

    def right(self, home: Path, bots: list[Trader]) -> None:
        """Books = wallet, journals = the exchange's trades of our ids, no number used twice, each stop where it was."""
        client = self.world.client()
        client.connect()
        files = Files(home)
        assert ledger.compare(files, client) == []
        own = installation(files)
        orders = {o["orderId"]: o for o in self.told()}
        for bot in bots:
            mine = {n: o for n, o in orders.items() if o["clientOrderId"].startswith(f"by{own}-{bot.config.bot_id}-")}
            theirs = sorted((str(f.trade_id), mine[int(f.order_id)]["clientOrderId"]) for f in client.fills("BTCUSDT", since_ms=0) if int(f.order_id) in mine)
            rows = list(files.read_lines(f"bot_{bot.config.bot_id}_fills.jsonl"))
            assert sorted((r["trade_id"], r["client_id"]) for r in rows) == theirs, "each fill once"
            numbers = [number_of(o["clientOrderId"]) for o in mine.values()]
            assert len(numbers) == len(set(numbers))
            assert max(numbers, default=0) < bot.position.next_order
            resting = {o["clientOrderId"]: o for o in mine.values() if o["status"] not in TERMINAL}
            assert {o.client_id for o in bot.position.orders} == set(resting)
            for order in bot.position.orders:
                there = resting[order.client_id]
                assert order.order_id == str(there["orderId"])
                if order.role == "stop":
                    assert D(there["stopPrice"]) == bot.position.stop_loss
                else:
                    assert (order.role, D(there["price"])) == ("target", bot.position.take_profit)


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    made = Lives(tmp_path)
    yield made
    made.world.close()


SAME = ("direction", "fills", "dust", "stop_loss", "take_profit", "protection", "next_order", "trade", "has_traded", "initial_investment", "totals")


def same(bot: Trader, other: Trader, lost: bool = False) -> None:
    """What a bot is after the catch-up is what it was on the other machine. `lost`: but for orders that never arrived, which used up numbers."""
    for name in SAME:
        if lost and name in ("next_order", "initial_investment"):
            continue
        one, two = getattr(bot.position, name), getattr(other.position, name)
        if name == "fills":
            one, two = ([(f.trade_id, f.client_id, f.quantity, f.quote, f.fee, f.role, f.trade) for f in fills] for fills in (one, two))
        assert one == two, (bot.config.bot_id, name, one, two)


def test_a_copy_of_bots_at_work_goes_on_elsewhere_where_they_left_off(lives: Lives) -> None:
    old = lives.bots()
    lives.run(old, 12)
    copy = lives.take()
    lives.run(old, 45)
    lives.settle(old)
    sold = sum(bot.position.totals.trades for bot in old)
    home = lives.back(copy)
    assert catchup.pending(Files(home)) == [1, 2]
    new = lives.bots(home)
    assert catchup.pending(Files(home)) == []
    lives.settle(new)
    lives.right(home, new)
    for bot, other in zip(new, old, strict=True):
        same(bot, other)
    assert sold > 2, "the other machine did trade after the copy was made"
    lives.run(new, 25)
    lives.settle(new)
    lives.right(home, new)
    assert sum(bot.position.totals.trades for bot in new) > sold


def points(lives: Lives) -> list[str]:
    found: list[str] = []
    lives.take(found.append)
    return found


def test_the_bots_may_trade_between_any_two_readings_of_a_copy(lives: Lives) -> None:
    old = lives.bots()
    lives.run(old, 7)
    names = points(lives)
    assert len(names) > 15
    for at in range(len(names)):
        left = iter(range(len(names)))
        lives.world.home, lives.world.files = lives.folder / "one", Files(lives.folder / "one")

        def trade(name: str, left: Iterator[int] = left, at: int = at) -> None:
            if next(left, None) == at:
                lives.run(old, 3 + at % 3)

        copy = lives.take(trade)
        lives.run(old, at % 7)
        lives.settle(old)
        home = lives.back(copy)
        new = lives.bots(home)
        lives.settle(new)
        try:
            lives.right(home, new)
            for bot, other in zip(new, old, strict=True):
                same(bot, other)
        except AssertionError as e:
            raise AssertionError(f"traded after {names[at]} ({at}): {e}") from e


def test_bots_that_never_pause_are_copied_with_a_journal_younger_than_their_position(lives: Lives) -> None:
    old = lives.bots()
    lives.run(old, 7)
    words: list[str] = []

    def trade(name: str) -> None:
        if name.startswith("read"):
            lives.run(old, 2)

    made = backup.create(Files(lives.folder / "one"), lives.folder / "busy.tar.gz", paper=False, between=trade)
    words += made.words
    assert any("wrote all the while" in w for w in words)
    lives.run(old, 11)
    lives.settle(old)
    home = lives.back(made.path)
    new = lives.bots(home)
    lives.settle(new)
    lives.right(home, new)
    for bot, other in zip(new, old, strict=True):
        same(bot, other)


def test_a_death_at_any_call_of_the_catch_up_comes_to_the_same_end(lives: Lives, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catchup, "BATCH", 3)
    old = lives.bots()
    lives.run(old, 7)
    copy = lives.take()
    lives.run(old, 19)
    lives.settle(old)
    restored = lives.back(copy)
    died: list[str] = []
    for n in range(1, 400):
        home = lives.folder / f"life {n}"
        shutil.copytree(restored, home)
        lives.world.home = home
        fate = Fate(n)
        lives.world.files = MortalFiles(home, fate)
        killed = False
        try:
            for bot_id in (1, 2):
                assert lives.world.bot(bot_id, "BTCUSDT", Restless(), "1000", **lives.record).start()
        except Killed:
            killed = True
            died.append(fate.places[-1])
        new = lives.bots(home)
        lives.settle(new)
        try:
            lives.right(home, new)
            assert catchup.pending(Files(home)) == []
            for bot, other in zip(new, old, strict=True):
                same(bot, other)
        except AssertionError as e:
            raise AssertionError(f"killed at {fate.places[-1]} ({n}): {e}") from e
        shutil.rmtree(home)
        if not killed:
            break
    assert len(died) > 20 and {"write data/restored.json", "write bot_1_position.json", "append bot_2_fills.jsonl"} <= {d.split(" ", 1)[1] for d in died}


def test_while_the_exchange_does_not_tell_of_its_orders_a_bot_watches_its_stop_and_buys_nothing(lives: Lives) -> None:
    lives.record["protection"] = "bot"  # nobody else watches it
    old = lives.bots()
    while any(bot.position.direction is None for bot in old):
        lives.run(old, 1)
    copy = lives.take()
    home = lives.back(copy)
    lives.world.ask("POST", "/paper/faults", {"method": "GET", "path": "/api/v3/allOrders", "fault": "drop_before", "times": None})
    new = lives.bots(home)
    assert all(bot.catchup.pending and bot.entry_block().startswith("the books have not caught up") for bot in new)
    assert not any(bot.guardian.due() for bot in new)
    for _ in range(60):
        lives.run(new, 1)
        if all(bot.position.direction is None for bot in new):
            break
    lives.run(new, 20)
    assert [bot.position.totals.trades for bot in new] == [1, 1], "out by its stop, and not in again"
    lives.world.ask("DELETE", "/paper/faults")
    lives.settle(new)
    lives.run(new, 20)
    lives.settle(new)
    assert all(bot.position.totals.trades > 1 or bot.position.direction for bot in new)
    lives.right(home, new)


def test_a_flat_bot_does_not_even_start_before_it_has_caught_up(lives: Lives) -> None:
    copy = lives.take()  # no bot ever ran
    old = lives.bots()
    lives.run(old, 30)
    lives.settle(old)
    home = lives.back(copy)
    Files(home).write_json("active_bots.json", [{"id": 1}, {"id": 2}])
    Files(home).write_json(catchup.FILE, {"schema": 1, "bots": {"1": "to do", "2": "to do"}, "since_ms": {"1": None, "2": None}})
    Files(home).write_json("data/baseline.json", json.loads((lives.folder / "one/data/baseline.json").read_text()))
    lives.world.home, lives.world.files = home, Files(home)
    lives.world.ask("POST", "/paper/faults", {"method": "GET", "path": "/api/v3/allOrders", "fault": "drop_before", "times": None})
    assert not lives.world.bot(1, "BTCUSDT", Restless(), "1000", **lives.record).start()
    lives.world.ask("DELETE", "/paper/faults")
    new = lives.bots(home)
    lives.right(home, new)
    for bot, other in zip(new, old, strict=True):
        same(bot, other)


def test_an_old_position_file_put_back_by_hand_is_caught_up_alike(lives: Lives) -> None:
    old = lives.bots()
    lives.run(old, 7)
    home = lives.folder / "one"
    kept = (home / "bot_1_position.json").read_bytes()
    lives.run(old, 37)
    lives.settle(old)
    (home / "bot_1_position.json").write_bytes(kept)
    new = lives.bots()
    lives.settle(new)
    lives.right(home, new)
    same(new[0], old[0])


def test_a_yard_whose_other_self_goes_on_trading_buys_nothing_and_takes_the_others_orders_in_when_that_has_ended(lives: Lives) -> None:
    old = lives.bots()
    lives.run(old, 7)
    lives.settle(old)
    home = lives.back(lives.take())
    new = lives.bots(home)
    lives.world.step_to(lives.world.market_ms() + 1)
    lives.run(old, 9)  # nobody stopped it
    lives.settle(old)
    for bot in new:
        assert "another yard of this installation" in bot.entry_block()
        assert [w["kind"] for w in bot.status.fields["warnings"] if w["kind"] == "twin"] == ["twin"]
    assert catchup.pending(Files(home)) == [1, 2]
    again = lives.bots(home)
    lives.settle(again)
    lives.right(home, again)
    assert [bot.entry_block() for bot in again] == ["", ""]
    for bot, other in zip(again, old, strict=True):
        same(bot, other)


def test_before_all_bots_have_caught_up_no_difference_is_explained_away(lives: Lives) -> None:
    old = lives.bots()
    lives.run(old, 7)
    copy = lives.take()
    lives.run(old, 20)
    lives.settle(old)
    home = lives.back(copy)
    lives.world.home, lives.world.files = home, Files(home)
    first = lives.world.bot(1, "BTCUSDT", Restless(), "1000", **lives.record)
    assert first.start()
    found = reconcile.examine(Files(home), first.exchange)
    assert (found.unsettled, found.proposals) == ([2], [])
    outcome, text = first.hands._do(commands.Command("adopt", "a test", home / "1.json", {"quantity": D(1)}))
    assert outcome == "refused" and "bot 2 was restored" in text
    second = lives.world.bot(2, "BTCUSDT", Restless(), "1000", **lives.record)
    assert second.start()
    lives.settle([first, second])
    assert reconcile.examine(Files(home), first.exchange).unsettled == []
    lives.right(home, [first, second])


class Watched(Files):
    """A copy is taken around every write of a bot's money files, as if the backup came at that moment."""

    take: Callable[[str], None] = staticmethod(lambda name: None)

    def write_json(self, name: str, value: Any, **more: Any) -> None:
        watched = name.endswith("_position.json")
        if watched:
            Watched.take(f"before {name}")
        super().write_json(name, value, **more)
        if watched:
            Watched.take(f"after {name}")

    def append_line(self, name: str, value: Any, *, durable: bool = True) -> None:
        super().append_line(name, value, durable=durable)
        if name.endswith("_fills.jsonl"):
            Watched.take(f"after {name}")


@pytest.mark.parametrize("fault", ["none", "drop_before", "drop_after"])
def test_a_copy_taken_around_any_write_of_a_bot_comes_to_the_same_end_also_where_answers_are_lost(
    lives: Lives, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[tuple[str, Path]] = []
    seen = iter(range(10_000))

    def take(name: str) -> None:
        if next(seen) % (2 if fault == "none" else 3) == 0:
            copies.append((name, lives.take()))

    if fault != "none":
        for path in ("/api/v3/order", "/api/v3/orderList/oco"):
            lives.world.ask("POST", "/paper/faults", {"method": "POST", "path": path, "fault": fault, "probability": 0.3})
    lives.world.files = Watched(lives.folder / "one")
    old = lives.bots()
    lives.run(old, 4)
    monkeypatch.setattr(Watched, "take", staticmethod(take))
    lives.run(old, 13)
    monkeypatch.setattr(Watched, "take", staticmethod(lambda name: None))
    lives.world.ask("DELETE", "/paper/faults")
    lives.run(old, 8)
    lives.settle(old)
    assert len(copies) > 15
    pending = 0
    for name, copy in copies:
        home = lives.back(copy)
        pending += any(o["status"] == "SENDING" for n in (1, 2) for o in json.loads((home / f"bot_{n}_position.json").read_text())["orders"])
        new = lives.bots(home)
        lives.settle(new)
        try:
            lives.right(home, new)
            for bot, other in zip(new, old, strict=True):
                same(bot, other, lost=fault != "none")
        except AssertionError as e:
            raise AssertionError(f"copied {name} ({copy.name}): {e}") from e
    assert pending > 3, "some of the copies hold an order that was on its way"


def test_a_guard_that_only_books_catches_a_stopped_bot_up_and_ends(lives: Lives) -> None:
    old = lives.bots()
    lives.run(old, 7)
    copy = lives.take()
    lives.run(old, 20)
    lives.settle(old)
    home = lives.back(copy)
    lives.world.home, lives.world.files = home, Files(home)
    guards = []
    for bot_id in (1, 2):
        made = lives.world.bot(bot_id, "BTCUSDT", Restless(), "1000", **lives.record)
        guard = Trader(made.config, made.settings, made.files, made.exchange, made.clock, None, once=True)
        assert guard.start()
        for _ in range(20):
            guard.step()
            lives.world.wall += 1000
            if guard.finished:
                break
        assert guard.finished
        guards.append(guard)
    assert catchup.pending(Files(home)) == []
    lives.right(home, guards)
    for bot, other in zip(guards, old, strict=True):
        same(bot, other)
