"""Sizing by the account's equity and by risk: what an entry spends, and when it waits."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import toy
from bots import Script, run_checks, settings, trader
from core.account import pots
from core.account.claims import Claim, claims
from core.account.equity import equity, worth
from core.bot import decisions, setup
from core.bot.decisions import Plan
from core.bot.trader import Trader
from core.dash import inputs
from core.errors import InputError, SettingsError, Unavailable
from core.fleet import records
from core.fleet.registry import Registry
from core.market import sizing
from core.model import Balance, Rules, Symbol, floor_to
from core.storage import Files
from test_fold import flat

D = Decimal
RULES = Rules(tick=D("0.01"), step=D("0.00001"), min_quantity=D("0.00001"), max_quantity=D(9000), min_notional=D(5))
SYMBOL = Symbol("BTCUSDT", "BTC", "USDT", True, RULES)
EQUITY = Plan(D(100), sizing="equity", sizing_pct=D(10))
RISK = Plan(D(100), sizing="risk", risk_pct=D(1), stop_loss_pct=D(2))


def budget(plan: Plan, equity: str | None = "1000", free: str = "1000", price: str = "100") -> tuple[Decimal, str]:
    return decisions.entry_budget(plan, flat(), SYMBOL, D(price), D(free), None if equity is None else D(equity))


# --- the decision ---------------------------------------------------------------------------


def test_an_entry_by_equity_spends_its_percentage_of_it() -> None:
    assert budget(EQUITY) == (D(100), "")
    assert budget(EQUITY, "12345.678", "99999") == (D("1234.5678"), "")


def test_an_entry_by_risk_loses_its_percentage_where_the_stop_is_hit_fees_of_both_sides_included() -> None:
    size, why = budget(RISK, "1000", "1000")
    assert why == ""
    coins = size / 100 * D("0.999")
    back = coins * 98 * D("0.999")
    assert abs(size - back - 10) < D("0.000001"), "1 % of 1000"
    assert size < 500, "without the fees it would have been 10 / 2 %"


@given(
    equity=st.decimals("100", "1000000", places=2),
    risk=st.decimals("0.1", "5", places=2),
    stop=st.decimals("0.5", "50", places=2),
    price=st.decimals("0.5", "90000", places=2),
)
def test_no_entry_by_risk_loses_more_than_asked_for_at_its_stop(equity: Decimal, risk: Decimal, stop: Decimal, price: Decimal) -> None:
    plan = Plan(D(1), sizing="risk", risk_pct=risk, stop_loss_pct=stop)
    size, why = decisions.entry_budget(plan, flat(), SYMBOL, price, equity, equity)
    if why:
        assert size == 0
        return
    back = size / price * D("0.999") * sizing.level(price, stop, RULES, above=False) * D("0.999")
    assert size - back <= equity * risk / 100 + D("0.000001")
    assert size <= equity


@pytest.mark.parametrize("plan", [EQUITY, RISK])
def test_both_are_bounded_by_the_free_balance_by_max_entry_and_by_the_symbol(plan: Plan) -> None:
    assert budget(plan, "1000000", "50") == (D(50), "")
    assert budget(replace(plan, max_entry=D("33.333333333")), "1000000", "1000000") == (D("33.33333333"), "")
    capped = replace(SYMBOL, rules=replace(RULES, max_notional=D(77)))
    assert decisions.entry_budget(plan, flat(), capped, D(100), D(10**6), D(10**6)) == (D(77), "")


def test_max_entry_bounds_a_pot_too() -> None:
    assert budget(Plan(D(500), max_entry=D(120)), None) == (D(120), "")


@pytest.mark.parametrize("plan", [EQUITY, RISK])
@pytest.mark.parametrize("free", ["1000", "2"])
def test_a_size_below_the_smallest_that_can_be_sold_again_is_told_and_not_bought(plan: Plan, free: str) -> None:
    size, why = budget(plan, "3" if free == "1000" else "100000", free)
    assert size == 0
    assert f"size by {plan.sizing}" in why and "smallest entry" in why


@pytest.mark.parametrize("plan", [EQUITY, RISK])
@pytest.mark.parametrize(("equity", "price"), [(None, "100"), ("NaN", "100"), ("Infinity", "100"), ("1000", "0"), ("1000", "NaN")])
def test_an_equity_that_cant_be_told_defers_the_entry(plan: Plan, equity: str | None, price: str) -> None:
    size, why = budget(plan, equity, "1000", price)
    assert size == 0 and "equity can't be told" in why


def test_an_entry_says_why_the_equity_cant_be_told() -> None:
    found = decisions.check("BUY", "", EQUITY, flat(), SYMBOL, D(100), D(1000), None, "equity can't be told: the price of X can't be read")
    assert found.intents == () and found.why_not == "equity can't be told: the price of X can't be read"


def test_a_bot_that_sizes_by_equity_has_no_pot_of_its_own_to_bound_it() -> None:
    assert decisions.room(EQUITY, flat()) is None
    assert "10 % of the account's equity" in decisions.purse(EQUITY, flat())


# --- the equity ------------------------------------------------------------------------------


def claim(bot_id: int, asset: str, amount: str, quote: str = "USDT", **more: Any) -> Claim:
    return Claim(bot_id, asset, D(amount), asset + quote, bool(more.get("unsettled")), quote)


def purse(**amounts: str) -> dict[str, Balance]:
    return {a: Balance(a, D(v.split("+")[0]), D(v.split("+")[1] if "+" in v else "0")) for a, v in amounts.items()}


def test_equity_is_the_quote_asset_free_and_locked_and_the_bots_coins_at_the_price_now() -> None:
    claims = [claim(1, "BTC", "0.5"), claim(2, "BTC", "0.25"), claim(3, "ETH", "2"), claim(4, "ETH", "1", "BTC")]
    wallet = purse(USDT="1000+50", BTC="5", ETH="3", DOGE="1000000")
    asked: list[str] = []

    def price(symbol: str) -> Decimal:
        asked.append(symbol)
        return {"BTCUSDT": D(1000), "ETHUSDT": D(10)}[symbol]

    found = worth(claims, wallet, "USDT", price)
    assert found.value == 1050 + 750 + 20, "neither the owner's coins nor those traded against another asset"
    assert sorted(asked) == ["BTCUSDT", "ETHUSDT"], "one price a symbol"


@pytest.mark.parametrize("price", [D(0), D(-1), D("NaN"), D("Infinity"), None])
def test_a_price_that_is_no_price_makes_the_equity_unknown_and_never_smaller(price: Decimal | None) -> None:
    found = worth([claim(1, "BTC", "1")], purse(USDT="1000", BTC="1"), "USDT", lambda s: price)  # type: ignore[arg-type, return-value]
    assert found.value is None and "price of BTCUSDT" in found.why


def test_a_price_that_cant_be_read_coins_that_are_missing_and_orders_under_way_make_it_unknown() -> None:
    def broken(symbol: str) -> Decimal:
        raise Unavailable("no answer")

    wallet = purse(USDT="1000", BTC="1")
    assert "no answer" in worth([claim(1, "BTC", "1")], wallet, "USDT", broken).why
    assert "the account holds 1" in worth([claim(1, "BTC", "1"), claim(2, "BTC", "0.1")], wallet, "USDT", lambda s: D(1)).why
    assert "order of bot 2" in worth([claim(2, "BTC", "1", unsettled=True)], wallet, "USDT", lambda s: D(1)).why


def test_an_order_at_the_exchange_that_has_filled_unbooked_makes_it_unknown() -> None:
    """The stop has fired: the money is there, the coins are still claimed, and the owner's own coins hide that they are gone."""
    stopped = replace(claim(1, "BTC", "1"), resting=D(1))
    assert "has just filled" in worth([stopped], purse(USDT="1000", BTC="5"), "USDT", lambda s: D(1)).why
    assert worth([stopped], purse(USDT="1000", BTC="5+1"), "USDT", lambda s: D(1)).value == 1001
    bought = replace(claim(1, "BTC", "0"), bids=D(300))
    assert "has just filled" in worth([bought], purse(USDT="700", BTC="3"), "USDT", lambda s: D(1)).why
    assert worth([bought], purse(USDT="700+300"), "USDT", lambda s: D(1)).value == 1000


def test_a_resting_purchase_and_sale_are_read_from_the_position_files(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    exchange.capabilities = replace(exchange.capabilities, protection=True)
    exchange.wallet["BTC"][0] = D(10)  # the owner's own
    bot = begun(tmp_path, clock, exchange, ["BUY"])
    run_checks(bot, clock, 1)
    for _ in range(3):
        clock.now += 1000
        bot.step()
    assert bot.position.protection == "exchange"
    told = claims(Files(tmp_path), exchange.venue)[0]
    assert told.resting == floor_to(bot.position.quantity, D("0.001")) and told.bids == 0
    before = equity(Files(tmp_path), exchange, "USD").value
    assert before is not None and before < 1000
    exchange.move("97.9")  # the stop fires at the exchange; the bot has not heard of it
    assert "has just filled" in equity(Files(tmp_path), exchange, "USD").why
    for _ in range(4):
        clock.now += 1000
        bot.step()
    after = equity(Files(tmp_path), exchange, "USD").value
    assert after is not None and after == sum(exchange.wallet["USD"])


def test_a_position_file_that_cant_be_read_makes_it_unknown(tmp_path: Path, exchange: toy.ToyExchange) -> None:
    assert equity(Files(tmp_path), exchange, "USD").value == 1000
    (tmp_path / "bot_7_position.json").write_text("{")
    found = equity(Files(tmp_path), exchange, "USD")
    assert found.value is None and "position can't be read" in found.why


# --- whole bots on the toy --------------------------------------------------------------------------


def begun(home: Path, clock: toy.StepClock, exchange: toy.ToyExchange, signals: list[str], bot_id: int = 1, **record: Any) -> Trader:
    bot = trader(home, clock, exchange, Script(signals), record, bot_id)
    assert bot.start()
    return bot


def test_a_bot_spends_its_percentage_of_money_and_all_bots_coins(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    one = begun(tmp_path, clock, exchange, ["BUY"])
    run_checks(one, clock, 1)
    exchange.move("104")
    two = begun(tmp_path, clock, exchange, ["BUY"], 2, sizing="equity", sizing_pct=20)
    run_checks(two, clock, 1)
    worth_now = 1000 - 500 + one.position.quantity * 104
    assert two.position.fills[0].quantity == sizing.quantity_for(worth_now / 5, D(104), exchange.rules)


def test_a_bot_by_risk_that_is_stopped_out_loses_its_percentage(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = begun(tmp_path, clock, exchange, ["BUY"], sizing="risk", risk_pct=1, stop_loss_pct=5)
    run_checks(bot, clock, 1)
    exchange.move("95")
    clock.wait(*bot.deadlines())
    bot.step()
    assert bot.position.direction is None
    made = bot.position.totals.profit + bot.position.dust * 95
    assert D("-10") <= made < D("-9.8"), "1 % of 1000, less what the step cut off; dust is still owned"


@pytest.mark.parametrize(("failures", "lost"), [(2, 0), (3, 1)])
def test_an_equity_that_cant_be_told_for_a_moment_is_asked_for_again_and_then_the_entry_waits(
    tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange, failures: int, lost: int
) -> None:
    bot = begun(tmp_path, clock, exchange, ["BUY"] * 9, sizing="equity", sizing_pct=10)
    left = [True] * failures

    def fresh() -> dict[str, Balance]:
        if left:
            left.pop()
            raise Unavailable("no answer")
        return exchange.balances()

    exchange.fresh_balances = fresh  # type: ignore[method-assign]
    run_checks(bot, clock, 1)
    assert (bot.position.direction is None) == bool(lost)
    if lost:
        assert "equity can't be told: the balance can't be read" in bot.status.fields["last_check"]["why_not"]
        run_checks(bot, clock, 1)
    assert bot.position.direction == "LONG"
    assert bot.position.entry_quote == 100


def test_the_profit_of_a_bot_that_sizes_by_equity_is_told_in_percent_of_its_amount() -> None:
    record = {"trade_amount": D(200), "sizing": "equity"}
    held = {"trade": 1, "totals": {"profit": D(10), "trades": 1}, "position": None, "initial_investment": D(50)}
    assert pots.profit_pct(record, held, D(10)) == 5
    assert (pots.need_of(record, held), pots.left_of(record, held), pots.capital(record, held)) == (0, 0, 200)


# --- records and set-up -----------------------------------------------------------------------------

GOOD = {"name": "A", "symbol": "BTCUSDT", "strategy": "volatile", "trade_amount": 100}


@pytest.mark.parametrize("field", ["sizing_pct", "risk_pct"])
@pytest.mark.parametrize("value", [0, -1, "100.01", "NaN", "Infinity", True, "much", "1e999999"])
def test_a_percentage_must_lie_above_0_and_up_to_100(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{field}: .* above 0 to 100"):
        records.check({**GOOD, field: value}, complete=True)
    assert records.check({**GOOD, field: "100"}, complete=True)[field] == 100


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"sizing": "equity"}, "sizing_pct: is missing"),
        ({"sizing": "risk"}, "risk_pct: is missing"),
        ({"sizing": "risk", "risk_pct": 1, "stop_loss_pct": 0}, "needs a stop"),
    ],
)
def test_a_sizing_without_what_it_needs_is_refused(tmp_path: Path, fields: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        records.together({**dict.fromkeys(records.FIELDS), **GOOD, **fields})
    record = {**GOOD, "id": 1, **fields}
    with pytest.raises(SettingsError):
        setup.build(settings(tmp_path), 1, "A", "BTCUSDT", "volatile", D(100), record, Script())


def test_the_list_of_bots_takes_a_sizing_only_with_what_it_needs(home: Path) -> None:
    registry = Registry(Files(home))
    Files(home).write_json("active_bots.json", [])
    with pytest.raises(InputError, match="sizing_pct: is missing"):
        registry.create({**GOOD, "sizing": "equity"})
    bot = registry.create({**GOOD, "sizing": "equity", "sizing_pct": "2.5", "max_entry": 900})
    with pytest.raises(InputError, match="sizing_pct: is missing"):
        registry.update(bot["id"], {"sizing_pct": None})
    with pytest.raises(InputError, match="risk_pct: is missing"):
        registry.update(bot["id"], {"sizing": "risk"})
    after = registry.update(bot["id"], {"sizing": "risk", "risk_pct": 1})
    assert (after["sizing"], after["sizing_pct"], after["risk_pct"], after["max_entry"]) == ("risk", D("2.5"), 1, 900)


def test_the_page_takes_the_new_fields_and_a_running_bot_takes_them_up(tmp_path: Path) -> None:
    from core.dash.board import AT_ONCE

    clean = inputs.fields({"sizing": "risk", "risk_pct": "1", "max_entry": "250", "sizing_pct": ""}, settings(tmp_path), complete=False)
    assert (clean["risk_pct"], clean["max_entry"], clean["sizing_pct"]) == (1, 250, None)
    assert {"sizing_pct", "risk_pct", "max_entry"} <= AT_ONCE
    plan = setup.build(settings(tmp_path), 1, "A", "BTCUSDT", "volatile", D(100), {**GOOD, **clean}, Script()).plan
    assert (plan.sizing, plan.risk_pct, plan.max_entry) == ("risk", 1, 250)
