"""Several bots on one coin of one account: nobody ever sells another's coins.

On the toy (stops watched by the bots) and against the paper exchange (stops at the exchange,
fees, filters), with sales by hand in between. A sale is judged at the moment it is sent: it
may not be larger than what its own bot owns, and it leaves each other bot what it owns, but
for what was missing before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import given as hypothesis_given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import toy
from bots import Script, run_checks, trader
from core.account import ledger
from core.account.claims import Claim, claims, may_sell
from core.bot import decisions, reconcile
from core.bot.position import PositionStore
from core.bot.trader import Trader
from core.model import ZERO, OrderRequest, Update, floor_to
from core.storage import Files, dumps
from stepped import World, run_until

D = Decimal


class Watched(toy.ToyExchange):
    """A toy that judges each sale when it is sent. `bots` are those whose coins lie here."""

    def __init__(self, clock: toy.StepClock, **values: Any):
        super().__init__(clock, **values)
        self.bots: list[Trader] = []
        self.foreign = False

    def place(self, request: OrderRequest, latest_ms: int | None = None) -> Update:
        if request.side == "SELL" and not self.foreign:
            seller = next(b for b in self.bots if any(o.client_id == request.client_id for o in b.position.orders))
            assert request.quantity is not None and request.quantity <= seller.position.quantity, "more than its own"
        return super().place(request, latest_ms)

    def total(self, asset: str = "BTC") -> Decimal:
        return sum(self.wallet[asset], ZERO)

    def sell_by_hand(self, quantity: Decimal) -> None:
        self.foreign = True
        self.place(OrderRequest(f"web-{len(self.sent)}", "BTC/USD", "SELL", "MARKET", quantity=floor_to(quantity, D("0.001"))))
        self.foreign = False


def owned(bot: Trader) -> Decimal:
    return bot.position.quantity + bot.position.dust


def bots_on(home: Path, clock: toy.StepClock, exchange: Watched, *scripts: list[str], **record: Any) -> list[Trader]:
    made = [trader(home, clock, exchange, Script(s), {"offset": 0, **record}, n, "100", f"Bot {n}") for n, s in enumerate(scripts, 1)]
    exchange.bots = made
    assert all(b.start() for b in made)
    return made


@pytest.fixture
def exchange(clock: toy.StepClock) -> Watched:
    made = Watched(clock, usd="10000")
    made.closes = [D(100)] * 120
    return made


def command(home: Path, bot_id: int, name: str, **data: Any) -> None:
    folder = home / f"data/commands/bot_{bot_id}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "1.json").write_text(dumps({"schema": 1, "command": name, "by": "a test", "data": data}))


# --- on the toy -------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["signal", "stop", "target", "close", "time"])
def test_one_bot_gets_out_of_all_it_owns_and_the_other_keeps_every_coin(tmp_path: Path, clock: toy.StepClock, exchange: Watched, way: str) -> None:
    one, two = bots_on(tmp_path, clock, exchange, ["BUY", "SELL" if way == "signal" else "HOLD"], ["BUY"])
    for bot in (one, two):
        run_checks(bot, clock, 1)
    kept = owned(two)
    two.store.save(replace(two.position, stop_loss=D(1), take_profit=D(9999)))  # only the first bot's levels are reached
    if way == "stop":
        exchange.move("97")
    elif way == "target":
        exchange.move("106")
    elif way == "close":
        command(tmp_path, 1, "close")
    elif way == "time":
        one.desk.act(decisions.leave(one.position, "time_stop", "over"), exchange.last)
    if way == "signal":
        run_checks(one, clock, 1)
    else:
        clock.wait(*one.deadlines())
        one.step()
    assert one.position.direction is None
    assert owned(two) == kept and two.position.direction == "LONG"
    assert exchange.total() == kept + owned(one), "the wallet holds what is left of both, dust and all"
    assert ledger.compare(Files(tmp_path), exchange) == []


def test_the_dust_of_each_stays_its_own_over_many_trades(tmp_path: Path, clock: toy.StepClock, exchange: Watched) -> None:
    one, two = bots_on(tmp_path, clock, exchange, ["BUY", "SELL"] * 6, ["BUY", "HOLD", "SELL"] * 4, stop_loss_pct=90, take_profit_pct=0)
    for step in range(12):
        exchange.move(str(D("93.7") + step * D("1.113")))
        for bot in (one, two):
            if bot.status.fields["checks_completed"] <= step:
                run_checks(bot, clock, 1)
        assert exchange.total() == owned(one) + owned(two)
    assert one.position.totals.trades > 1 and two.position.totals.trades > 1
    assert one.position.dust + two.position.dust > 0
    assert ledger.compare(Files(tmp_path), exchange) == []


@pytest.mark.parametrize("first", [0, 1])
def test_where_coins_are_missing_it_does_not_matter_who_sells_first(tmp_path: Path, clock: toy.StepClock, exchange: Watched, first: int) -> None:
    bots = bots_on(tmp_path, clock, exchange, ["BUY", "SELL"], ["BUY", "SELL"], stop_loss_pct=90, take_profit_pct=0)
    for bot in bots:
        run_checks(bot, clock, 1)
    exchange.sell_by_hand(D("0.4"))
    before = [b.position.quantity for b in bots]
    order = bots if first == 0 else bots[::-1]
    for bot in order:
        run_checks(bot, clock, 1)
    sold = [b - bot.position.quantity for b, bot in zip(before, bots, strict=True)]
    assert sold == [D("0.599"), D("0.999")], "the second keeps and sells its own; the first bears what its owner sold"
    for bot in bots:
        clock.now += 10_000
        bot.wallet.ask()
        for _ in range(4):
            clock.now += 3100
            bot.step()
    assert "are missing" in bots[0].wallet.problem, "it is told"
    found = reconcile.examine(Files(tmp_path), exchange)
    assert [(p.bot_id, p.kind, p.amount) for p in found.proposals if p.bot_id] == [(1, "book_sale", D("-0.4"))], "the repair names the same bot"


def test_coins_missing_beyond_all_that_one_bot_owns_are_borne_by_the_next(tmp_path: Path, clock: toy.StepClock, exchange: Watched) -> None:
    one, two = bots_on(tmp_path, clock, exchange, ["BUY", "SELL"], ["BUY", "SELL"], stop_loss_pct=90, take_profit_pct=0)
    run_checks(one, clock, 1)
    run_checks(two, clock, 1)
    exchange.sell_by_hand(D("1.5"))
    run_checks(one, clock, 1)
    assert one.position.direction == "LONG", "none of what is left is its own"
    assert "other bots'" in one.status.fields["last_check"]["why_not"]
    run_checks(two, clock, 1)
    assert exchange.sent[-1].quantity == D("0.498")
    assert exchange.total() < D("0.001")


def test_the_owners_own_coins_cover_a_sale_by_hand(tmp_path: Path, clock: toy.StepClock, exchange: Watched) -> None:
    exchange.wallet["BTC"][0] = D(1)
    one, two = bots_on(tmp_path, clock, exchange, ["BUY", "SELL"], ["BUY", "SELL"], stop_loss_pct=90, take_profit_pct=0)
    run_checks(one, clock, 1)
    run_checks(two, clock, 1)
    exchange.sell_by_hand(D(1))
    run_checks(one, clock, 1)
    run_checks(two, clock, 1)
    assert one.position.direction is None and two.position.direction is None
    assert exchange.total() == owned(one) + owned(two)


def test_a_claim_that_cant_be_read_keeps_nobody_from_getting_out(tmp_path: Path, clock: toy.StepClock, exchange: Watched) -> None:
    one, two = bots_on(tmp_path, clock, exchange, ["BUY", "SELL"], ["BUY"], stop_loss_pct=90, take_profit_pct=0)
    run_checks(one, clock, 1)
    run_checks(two, clock, 1)
    (tmp_path / "bot_2_position.json").write_text("{")
    (tmp_path / "bot_2_position.json.prev").unlink(missing_ok=True)
    run_checks(one, clock, 1)
    assert one.position.direction is None


def claim(bot_id: int, amount: str, resting: str = "0") -> Claim:
    return Claim(bot_id, "BTC", D(amount), "BTCUSDT", False, "USDT", D(resting))


def test_coins_in_an_order_are_there_so_who_could_lock_only_a_part_is_the_one_short() -> None:
    """Bot 2's owner took its pair back, sold 0.5 by hand, and the bot could lock 0.5 only; bot 1 is just
    getting out, its coins lie free."""
    both = [claim(1, "1"), claim(2, "1", "0.5")]
    assert may_sell(both, 1, D(1), D(1)) == 1
    assert may_sell(both, 2, D("0.5"), D(1)) == 0


def test_a_stop_that_has_just_fired_at_the_exchange_unbooked_cuts_nobody_elses() -> None:
    both = [claim(1, "1"), claim(2, "1", "1")]
    assert may_sell(both, 1, D(1), D(1)) == 1, "of bot 2 nothing lies free, sold or not"


@hypothesis_given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=4),
    st.integers(0, 400),
)
def test_what_all_may_sell_together_is_what_is_free_and_nobody_more_than_its_own(rows: list[tuple[int, int]], free: int) -> None:
    found = [claim(n, str(amount + resting), str(resting)) for n, (amount, resting) in enumerate(rows, 1)]
    shares = [may_sell(found, c.bot_id, c.loose, D(free)) for c in found]
    assert all(0 <= s <= c.loose for s, c in zip(shares, found, strict=True))
    assert sum(shares, ZERO) == min(D(free), sum((c.loose for c in found), ZERO))


def guaranteed(bots: list[Trader], wallet: Decimal) -> dict[int, Decimal]:
    """What each bot could sell if all sold now, whoever goes first (no order rests on the toy)."""
    found = [claim(b.config.bot_id, str(owned(b))) for b in bots]
    return {c.bot_id: may_sell(found, c.bot_id, c.amount, wallet) for c in found}


STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["SELL", "hand", "BUY", "move", "restart", "owner"]), st.integers(1, 99)), min_size=4, max_size=16
)


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@hypothesis_given(count=st.integers(2, 4), steps=STEPS)
def test_in_any_sequence_of_trades_and_sales_by_hand_every_bot_keeps_its_own(
    tmp_path_factory: pytest.TempPathFactory, count: int, steps: list[tuple[int, str, int]]
) -> None:
    home, clock = tmp_path_factory.mktemp("yard"), toy.StepClock()
    exchange = Watched(clock, usd="10000")
    exchange.closes = [D(100)] * 120
    bots = bots_on(home, clock, exchange, *[[] for _ in range(count)], stop_loss_pct=90, take_profit_pct=0)
    files = Files(home)
    for bot in bots[: count - 1]:  # most of them hold the coin from the beginning
        bot.strategy.left[:] = ["BUY"]  # type: ignore[union-attr]
        run_checks(bot, clock, 1)
    for who, what, size in steps:
        bot = bots[who % count]
        before = {b.config.bot_id: owned(b) for b in bots}
        sure = guaranteed(bots, exchange.total())
        if what in ("BUY", "SELL"):
            bot.strategy.left[:] = [what]  # type: ignore[union-attr]
            run_checks(bot, clock, 1)
        elif what == "hand" and exchange.wallet["BTC"][0] >= D("0.001"):
            exchange.sell_by_hand(max(exchange.wallet["BTC"][0] * size / 100, D("0.001")))
        elif what == "owner":
            exchange.wallet["BTC"][0] += D(size) / 1000  # a deposit: the owner's own
        elif what == "move":
            exchange.move(str(D(80) + size / D(2)))
        elif what == "restart":
            again = trader(home, clock, exchange, Script([]), {"offset": 0, "stop_loss_pct": 90, "take_profit_pct": 0}, bot.config.bot_id, "100")
            exchange.bots = bots = [again if b is bot else b for b in bots]
            assert again.start()
        for other in bots:
            if other.config.bot_id != bot.config.bot_id or what not in ("BUY", "SELL"):
                assert owned(other) == before[other.config.bot_id], "nobody's books change by another's trade"
        if what != "hand":
            now = guaranteed(bots, exchange.total())
            for n, coins in sure.items():
                assert n == bot.config.bot_id or now[n] >= coins, "what was there for another bot is still there"
        assert sum((c.amount for c in claims(files, exchange.venue)), ZERO) == sum((owned(b) for b in bots), ZERO)
        for b in bots:
            told = PositionStore(files, b.config.bot_id).load()
            assert told is None or told.quantity + told.dust == owned(b)


# --- against the paper exchange ---------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, PAPER_START="2024-03-15T08:20", RISK_INTERVAL="300")
    yield made
    made.close()


@pytest.mark.parametrize("protection", ["bot", "exchange"])
def test_on_paper_one_sells_all_again_and_again_and_the_other_holds_on(world: World, protection: str) -> None:
    holder = world.bot(2, "BTCUSDT", Script(["BUY"]), "777", stop_loss_pct=60, take_profit_pct=0, protection=protection)
    seller = world.bot(1, "BTCUSDT", Script(["BUY", "SELL"] * 8), "1000", stop_loss_pct=50, take_profit_pct=0, protection=protection, offset=5)
    assert holder.start() and seller.start()
    run_until(world, [holder, seller], world.market_ms() + 1000)
    kept = owned(holder)
    assert kept > 0
    run_until(world, [holder, seller], world.market_ms() + 16 * 900_000)
    assert seller.position.totals.trades >= 5
    assert owned(holder) == kept, "not a coin less"
    client = world.client()
    client.connect()
    assert client.balances()["BTC"].total == kept + owned(seller)
    assert ledger.compare(world.files, client) == []


def test_on_paper_two_stops_of_one_coin_that_fire_together_sell_each_its_own(world: World) -> None:
    bots = [world.bot(n, "BTCUSDT", Script(["BUY"]), str(400 + 111 * n), stop_loss_pct="0.05", take_profit_pct=0, offset=n) for n in (1, 2, 3)]
    assert all(b.start() for b in bots)
    run_until(world, bots, world.market_ms() + 900_000 * 6)
    assert all(b.position.totals.trades >= 1 for b in bots)
    client = world.client()
    client.connect()
    assert client.balances()["BTC"].total == sum((owned(b) for b in bots), ZERO)
    assert ledger.compare(world.files, client) == []
