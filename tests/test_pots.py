"""A bot's pot in its owner's hands: topped up, paid out, and what stays true through both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots import Script
from core.account import ledger, pots
from core.account.members import Members
from core.bot import decisions, position, setup
from core.bot.trader import Trader
from core.config import load
from core.dash.rows import row
from core.dash.watch import BotState
from core.errors import Conflict, InputError, NotFound
from core.fleet import records
from core.fleet.pot import Changed, change_pot
from core.fleet.registry import Registry
from core.model import Position, Totals, Venue
from stepped import World, run_until

D = Decimal
SLOT = 900_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, PAPER_START="2024-03-15T08:20", RISK_INTERVAL="300")
    yield made
    made.close()


def listed(world: World, *amounts: int, status: str = "stopped", **fields: Any) -> Registry:
    bots = [
        {"id": n, "name": f"Bot {n}", "symbol": "BTCUSDT", "strategy": "script", "trade_amount": amount, "status": status, **fields}
        for n, amount in enumerate(amounts, 1)
    ]
    world.files.write_json("active_bots.json", bots)
    return Registry(world.files)


def bot_of(world: World, registry: Registry, signals: list[str], bot_id: int = 1, **record: Any) -> Trader:
    """A bot whose record is the list's, read anew at each check."""
    given = {"stop_loss_pct": 50, "take_profit_pct": 0, "protection": "bot", **record}
    first = registry.bot(bot_id)
    rest = {k: v for k, v in first.items() if k not in ("id", "symbol", "strategy")}
    bot = world.bot(bot_id, first["symbol"], Script(signals), str(first["trade_amount"]), **{**rest, **given})
    bot.read_record = lambda: {**registry.bot(bot_id), **given}
    assert bot.start()
    return bot


def change(world: World, amount: Any, bot_id: int = 1, **settings: str) -> Changed:
    client = world.client()
    client.connect()
    own = world.settings if not settings else load({"BOTYARD_HOME": str(world.home), "PAPER_SPEED": "0", **settings})
    return change_pot(world.files, own, bot_id, amount, "a test", client)


def made(world: World, registry: Registry, profit: str, bot_id: int = 1) -> None:
    """A bot that has closed three trades with this profit, and is flat."""
    store = position.PositionStore(world.files, bot_id)
    venue = world.client()
    venue.connect()
    amount = registry.bot(bot_id)["trade_amount"]
    store.save(Position(bot_id, venue.venue, "BTCUSDT", "BTC", "USDT", totals=Totals(D(profit), 3, 2, 1), trade=3, has_traded=True, initial_investment=amount))


def shown(world: World, registry: Registry, bot_id: int = 1) -> dict[str, Any]:
    """The overview's row."""
    record = registry.bot(bot_id)
    state = BotState(position=world.files.read_json(position.name(bot_id), schema=1))
    return row(record, state, {"status": "stopped"}, running=False, watched=False, now_wall_ms=0, quote="USDT")


def audited(world: World) -> list[dict[str, Any]]:
    return [r for r in world.files.read_lines("data/audit.jsonl") if r["what"] == "pot"]


def plan_of(world: World, registry: Registry, bot_id: int = 1) -> decisions.Plan:
    record = registry.bot(bot_id)
    return setup.build(world.settings, bot_id, record["name"], record["symbol"], "script", record["trade_amount"], record, Script()).plan


def pot_now(world: World, registry: Registry, bot_id: int = 1) -> Decimal:
    """The pot as the bot itself decides by it; the page's and the books' view must say the same."""
    held = position.PositionStore(world.files, bot_id).load()
    assert held is not None
    found = decisions.pot(plan_of(world, registry, bot_id), held)
    assert pots.pot_of(registry.bot(bot_id), position.to_json(held)) == found
    return found


# --- what a change does ---------------------------------------------------------------------------


def test_a_top_up_counts_from_the_next_entry_of_a_running_bot(world: World) -> None:
    registry = listed(world, 500)
    bot = bot_of(world, registry, ["BUY", "SELL", "BUY"])
    run_until(world, [bot], world.market_ms() + 1000)
    assert bot.position.entry_quote <= 500
    found = change(world, "+250")
    assert (found.before, found.after, found.trade_amount, found.warning) == (500, 750, 750, "")
    run_until(world, [bot], world.market_ms() + 2 * SLOT)
    profit = bot.position.totals.profit
    assert bot.position.totals.trades == 1
    run_until(world, [bot], world.market_ms() + SLOT)
    assert abs(bot.position.entry_quote - (750 + profit)) < 2
    assert bot.position.initial_investment == 500, "what it began with stays what it was"
    assert ledger.compare(world.files, world.client()) == []


@pytest.mark.parametrize("amount", ["100", "-100", "-30"])
@pytest.mark.parametrize("profit", ["50", "-20", "0"])
def test_no_change_by_hand_looks_like_a_profit_or_a_loss(world: World, amount: str, profit: str) -> None:
    registry = listed(world, 400)
    made(world, registry, profit)
    before, capital = shown(world, registry), pot_now(world, registry)
    change(world, amount)
    after = shown(world, registry)
    assert (after["profit"], after["profit_pct"], after["trades"], after["wins"]) == (before["profit"], before["profit_pct"], before["trades"], before["wins"])
    assert pot_now(world, registry) == capital + D(amount)


def test_what_is_made_after_a_top_up_is_measured_by_the_money_that_made_it(world: World) -> None:
    registry = listed(world, 100)
    made(world, registry, "10")
    change(world, 900)
    assert shown(world, registry)["profit_pct"] == 10
    store = position.PositionStore(world.files, 1)
    held = store.load()
    assert held is not None
    from dataclasses import replace

    store.save(replace(held, totals=replace(held.totals, profit=D(60), trades=4), trade=4))
    assert shown(world, registry)["profit_pct"] == 15, "10 % of 100, then 5 % of 1000; not 60 %"


def test_another_amount_given_on_the_page_moves_no_percentage_either(world: World) -> None:
    registry = listed(world, 1000)
    made(world, registry, "100")
    change(world, -50)
    registry.update(1, {"trade_amount": 200})
    now = shown(world, registry)
    assert (now["profit"], now["profit_pct"], now["paid_out"]) == (100, 10, 50)
    assert pot_now(world, registry) == 250
    registry.update(1, {"name": "Other"})
    assert shown(world, registry) == {**now, "name": "Other"}
    (world.home / "bot_1_position.json").write_text("{")
    assert registry.update(1, {"trade_amount": 300})["trade_amount"] == 300, "a broken file keeps nobody from changing a record"


def test_a_payout_takes_profit_first_and_leaves_the_capital(world: World) -> None:
    registry = listed(world, 100)
    made(world, registry, "300")
    found = change(world, -250)
    assert (found.before, found.after, found.from_profit, found.trade_amount) == (400, 150, 250, 100)
    assert registry.bot(1)["trade_amount"] == 100
    found = change(world, -100)
    assert (found.from_profit, found.trade_amount) == (50, 50), "the rest of the profit, then capital"
    assert pot_now(world, registry) == 50
    assert shown(world, registry)["profit"] == 300, "it was made, whoever has it now"
    assert shown(world, registry)["paid_out"] == 300


def test_a_loss_after_a_payout_is_borne_by_the_pot_and_by_nobodys_money(world: World) -> None:
    registry = listed(world, 100)
    made(world, registry, "300")
    change(world, -300)
    made(world, registry, "240")
    assert pot_now(world, registry) == 40


def test_a_fixed_pot_holds_no_profit_so_a_payout_lowers_the_amount(world: World) -> None:
    registry = listed(world, 100, sizing="fixed")
    made(world, registry, "300")
    found = change(world, -40)
    assert (found.before, found.after, found.from_profit, found.trade_amount) == (100, 60, 0, 60)


def test_a_bot_that_begins_its_totals_anew_owes_no_old_payout(world: World) -> None:
    registry = listed(world, 100)
    made(world, registry, "300")
    change(world, -300)
    fresh = Position(1, Venue(), "ETHBTC", "ETH", "BTC", trade=3)  # another quote asset: totals begin anew, trades count on
    assert decisions.pot(plan_of(world, registry), fresh) == 100
    assert pots.pot_of(registry.bot(1), position.to_json(fresh)) == 100
    assert pots.profit_pct(registry.bot(1), position.to_json(fresh), D(5)) == 5


def test_a_change_is_audited_with_amount_and_pot_before_and_after(world: World) -> None:
    registry = listed(world, 100)
    made(world, registry, "20")
    change(world, "-30")
    with pytest.raises(InputError):
        change(world, "-1000")
    done, refused = audited(world)
    assert done["by"] == "a test" and done["bot_id"] == 1
    assert {k: D(str(done["detail"][k])) for k in ("amount", "pot_before", "pot_after", "from_profit")} == {
        "amount": -30,
        "pot_before": 120,
        "pot_after": 90,
        "from_profit": 20,
    }
    assert done["detail"]["outcome"] == "done" and "InputError" in refused["detail"]["outcome"]


# --- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [0, "0", "-0.00", "NaN", "Infinity", "-Infinity", "1e999999", "much", "", None, True, [5], 10**40])
def test_what_is_no_amount_is_refused_and_nothing_is_changed(world: World, amount: Any) -> None:
    registry = listed(world, 100)
    before = world.files.path("active_bots.json").read_bytes()
    with pytest.raises(InputError, match="must be a number other than 0"):
        change(world, amount)
    assert world.files.path("active_bots.json").read_bytes() == before
    assert registry.bot(1)["trade_amount"] == 100


@pytest.mark.parametrize("sizing", ["all_available", "equity", "risk"])
def test_a_sizing_without_a_pot_has_none_to_change(world: World, sizing: str) -> None:
    listed(world, 100, sizing=sizing, sizing_pct=5, risk_pct=1)
    with pytest.raises(InputError, match="no pot of its own"):
        change(world, 50)


def test_a_payout_that_leaves_too_little_to_trade_is_refused_with_the_figures(world: World) -> None:
    registry = listed(world, 100)
    with pytest.raises(InputError, match=r"would leave 2 of the pot of 100; .* at least"):
        change(world, -98)
    with pytest.raises(InputError, match="would leave -50 of"):
        change(world, -150)
    assert registry.bot(1)["trade_amount"] == 100


def test_what_is_tied_up_in_a_position_cant_be_paid_out_and_the_rest_can(world: World) -> None:
    registry = listed(world, 500)
    bot = bot_of(world, registry, ["BUY"])
    run_until(world, [bot], world.market_ms() + 1000)
    assert bot.position.direction == "LONG"
    with pytest.raises(InputError, match=r"100 USDT is more than can be paid out; of the pot of 500 USDT .* are not tied up"):
        change(world, -100)
    change(world, 200)
    held = (world.home / "bot_1_position.json").read_bytes()
    found = change(world, -150)
    assert found.after == 550
    assert (world.home / "bot_1_position.json").read_bytes() == held, "the bot's own file is the bot's"


def test_an_order_whose_outcome_is_unknown_defers_a_change(world: World) -> None:
    registry = listed(world, 500)
    bot = bot_of(world, registry, ["BUY"])
    world.ask("POST", "/paper/faults", {"method": "POST", "path": "/api/v3/order", "fault": "drop_after", "times": 1})
    bot.step()
    assert bot.position.pending_order is not None
    with pytest.raises(Conflict, match="no known outcome"):
        change(world, 100)


def test_a_top_up_beyond_what_nobody_claims_is_told_and_refused_with_strict_pots(world: World) -> None:
    registry = listed(world, 6000, 3000, status="running")
    assert change(world, 900, 2).warning == ""
    with pytest.raises(InputError, match=r"10000 USDT are free, 100 of them are in no bot's pot"):
        change(world, 200, 2, STRICT_POTS="true")
    assert registry.bot(2)["trade_amount"] == 3900
    assert "100 of them are in no bot's pot" in change(world, 200, 2).warning
    assert registry.bot(2)["trade_amount"] == 4100


def test_a_pot_above_what_one_order_takes_is_refused(world: World) -> None:
    listed(world, 100)
    with pytest.raises(InputError, match="in one order at most"):
        change(world, "100000000000")


def test_a_bot_that_is_not_there_has_no_pot(world: World) -> None:
    listed(world, 100)
    with pytest.raises(NotFound):
        change(world, 50, 9)


def test_a_record_that_somebody_else_changed_meanwhile_is_left_alone(world: World) -> None:
    registry = listed(world, 100)
    seen = registry.bot(1)
    registry.update(1, {"trade_amount": 200})
    with pytest.raises(Conflict, match="changed by somebody else"):
        registry.set_pot(seen, D(150), None)
    assert registry.bot(1)["trade_amount"] == 200


def test_the_note_on_a_pot_is_no_ones_to_give_and_a_broken_one_is_named(world: World) -> None:
    with pytest.raises(InputError, match="kept by Botyard itself"):
        records.check({"pot": {"paid_out": 5}}, complete=False)
    raw = {"id": 1, "name": "A", "symbol": "BTCUSDT", "strategy": "x", "trade_amount": 100, "pot": {"paid_out": "much"}}
    with pytest.raises(ValueError, match="pot: must hold the numbers"):
        records.view(raw)


# --- in any order ---------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(["change", "trade"]), st.integers(-60, 90)), max_size=20))
def test_over_any_changes_and_trades_the_pot_is_what_was_put_in_and_made(steps: list[tuple[str, int]]) -> None:
    record: dict[str, Any] = {"trade_amount": D(100), "sizing": None, "pot": None}
    file: dict[str, Any] = {"trade": 0, "totals": {"profit": D(0), "trades": 0}, "position": None, "initial_investment": D(100)}
    moved = D(100)
    for kind, amount in steps:
        profit, percent = pots.profit_of(file), pots.profit_pct(record, file, pots.profit_of(file))
        if kind == "trade":
            file = {**file, "trade": file["trade"] + 1, "totals": {"profit": profit + amount, "trades": file["totals"]["trades"] + 1}}
            moved += amount
            now = pots.profit_pct(record, file, profit + amount)
            assert percent is not None and now is not None
            assert (now > percent) == (amount > 0) or amount == 0
            continue
        if pots.pot_of(record, file) + amount < 6 or not amount:
            continue
        taken = pots.paid_out(record, file)
        from_profit = min(D(-amount), max(profit - taken, D(0))) if amount < 0 else D(0)
        note = {"since_trade": pots.first_trade(file), "paid_out": taken + from_profit, "profit": profit, "percent": percent}
        record = {**record, "trade_amount": record["trade_amount"] + amount + from_profit, "pot": note}
        moved += amount
        assert record["trade_amount"] > 0
        assert pots.profit_pct(record, file, profit) == percent
    assert pots.pot_of(record, file) == moved
    assert pots.left_of(record, file) == max(moved, D(0))


def test_a_deposit_or_a_withdrawal_is_in_nobodys_pot_profit_or_percentage(world: World) -> None:
    registry = listed(world, 500)
    bot = bot_of(world, registry, ["BUY"])
    run_until(world, [bot], world.market_ms() + 1000)
    before = (shown(world, registry), pot_now(world, registry), pots.capital(registry.bot(1), None), bot.position)
    world.ask("POST", "/paper/accounts/paper/deposit", {"asset": "USDT", "amount": "5000"})
    world.ask("POST", "/paper/accounts/paper/withdraw", {"asset": "USDT", "amount": "777"})
    world.ask("POST", "/paper/accounts/paper/deposit", {"asset": "BTC", "amount": "3"})
    bot.step()
    assert (shown(world, registry), pot_now(world, registry), pots.capital(registry.bot(1), None), bot.position) == before
    assert json.loads((world.home / "bot_1_position.json").read_text())["totals"]["profit"] == 0


def test_no_guard_sees_a_profit_in_a_deposit_a_withdrawal_a_top_up_or_a_payout(world: World) -> None:
    registry = listed(world, 500)
    made(world, registry, "120")

    def figures() -> tuple[Decimal | None, Decimal, Any]:
        member = Members(world.files).read()[1]
        value = member.value(D(40000))
        assert value is not None
        return value, member.capital(value), (member.realised, member.trades)

    before = figures()
    assert before[0] == 120 and before[1] == 620
    world.ask("POST", "/paper/accounts/paper/deposit", {"asset": "USDT", "amount": "5000"})
    world.ask("POST", "/paper/accounts/paper/withdraw", {"asset": "USDT", "amount": "777"})
    assert figures() == before
    change(world, 300)
    assert figures() == (before[0], 920, before[2]), "the capital is larger, what was made is not"
    change(world, -200)
    assert figures() == (before[0], 720, before[2])
