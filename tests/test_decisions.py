"""The pure decisions: what a bot does at a price, after a signal, after closed candles."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from core.bot import decisions, fold
from core.bot.decisions import Plan
from core.model import NEW, Position, Symbol, Update, row12
from test_fold import RULES, bought, fill, flat, order

D = Decimal
SYMBOL = Symbol("BTCUSDT", "BTC", "USDT", True, RULES)
PLAN = Plan(D(100))


def held() -> Position:
    """Long 0.999 @ 100 since minute 0, stop 98, target 105."""
    return decisions.after_fills(bought(), PLAN, RULES, bought().fills)


def protected() -> Position:
    pair = (order("t", "SELL", "target", "take_profit"), order("s", "SELL", "stop", "stop_loss"))
    kinds = ("LIMIT_MAKER", "STOP_LOSS")
    resting = tuple(replace(o, status=NEW, trade=1, request=replace(o.request, kind=k)) for o, k in zip(pair, kinds, strict=True))
    return replace(held(), protection="exchange", orders=resting)


def candles(*highs: str, first: int = 1) -> list[list[object]]:
    return [row12(first + i * 60_000, h, h, "99", h, 1, first + (i + 1) * 60_000 - 1) for i, h in enumerate(highs)]


@pytest.mark.parametrize(
    ("price", "tag"), [("98", "stop_loss"), ("97.5", "stop_loss"), ("105", "take_profit"), ("130", "take_profit"), ("98.01", None), ("104.99", None)]
)
def test_a_look_acts_at_the_stop_and_at_the_target_and_nowhere_else(price: str, tag: str | None) -> None:
    found = decisions.look(held(), D(price)).intents
    assert [i.tag for i in found] == ([tag] if tag else [])


def test_a_look_leaves_a_held_stop_to_the_exchange_for_two_looks() -> None:
    position = protected()
    assert decisions.look(position, D(97), 0).intents == ()
    acts = decisions.look(position, D(97), 1).intents
    assert [(i.action, i.tag) for i in acts] == [("cancel", "t"), ("cancel", "s"), ("close", "stop_loss")]


def test_a_sell_signal_takes_the_pair_back_before_it_sells() -> None:
    found = decisions.check("SELL", "because", PLAN, protected(), SYMBOL, D(101), None)
    assert [(i.action, i.tag) for i in found.intents] == [("cancel", "t"), ("cancel", "s"), ("close", "signal")]


def test_an_entry_waits_while_an_order_is_open_but_not_for_what_only_exits_need() -> None:
    waiting = fold.begin(flat(), order("a"))
    assert "open" in decisions.check("BUY", "", PLAN, waiting, SYMBOL, D(100), D(1000)).why_not
    assert "balance" in decisions.check("BUY", "", PLAN, flat(), SYMBOL, D(100), None).why_not
    assert decisions.check("SELL", "", PLAN, held(), SYMBOL, D(100), None).intents


@pytest.mark.parametrize(
    ("plan", "position", "free", "why"),
    [
        (PLAN, flat(), "99", "low funds"),
        (Plan(D(3)), flat(), "1000", "smallest entry"),
        (PLAN, replace(flat(), cooldown=2), "1000", "cooling down"),
        (PLAN, held(), "1000", "already long"),
    ],
)
def test_a_buy_says_what_kept_it_from_acting(plan: Plan, position: Position, free: str, why: str) -> None:
    found = decisions.check("BUY", "", plan, position, SYMBOL, D(100), D(free))
    assert found.intents == ()
    assert why in found.why_not


def test_a_halted_symbol_is_not_bought() -> None:
    halted = replace(SYMBOL, tradeable=False, status="HALT")
    assert "HALT" in decisions.check("BUY", "", PLAN, flat(), halted, D(100), D(1000)).why_not


def test_all_available_spends_what_is_free_and_fixed_forgets_the_profit() -> None:
    rich = replace(flat(), totals=replace(flat().totals, profit=D(50)))
    kinds = ("compound", "fixed", "all_available")
    sizes = {s: decisions.check("BUY", "", replace(PLAN, sizing=s), rich, SYMBOL, D(100), D(777)).intents[0].size_quote for s in kinds}
    assert sizes == {"compound": 150, "fixed": 100, "all_available": 777}


def test_the_trailing_stop_follows_closed_candles_up_and_never_down() -> None:
    plan = replace(PLAN, trailing_stop_pct=D(1), trailing_activation_pct=D(2))
    position = held()
    assert decisions.moved_stop(position, plan, RULES, candles("101.9")) is None, "not active yet"
    stop = decisions.moved_stop(position, plan, RULES, candles("103"))
    assert stop == D("101.97")
    position = replace(position, stop_loss=stop)
    assert decisions.moved_stop(position, plan, RULES, candles("103", "102")) is None
    assert decisions.moved_stop(position, plan, RULES, candles("103", "104")) == D("102.96")


def test_a_candle_from_before_the_entry_moves_nothing() -> None:
    plan = replace(PLAN, trailing_stop_pct=D(1))
    assert decisions.moved_stop(held(), plan, RULES, candles("200", first=0)) is None


def test_a_trailing_stop_without_an_activation_stands_though_the_price_only_fell() -> None:
    """It was at the entry's own price once: without a stop loss nothing else would ever sell."""
    plan = replace(PLAN, trailing_stop_pct=D(1), stop_loss_pct=None)
    position = replace(held(), stop_loss=None)
    assert decisions.moved_stop(position, plan, RULES, candles("99.5")) == D("99.00")
    assert decisions.moved_stop(position, replace(plan, trailing_activation_pct=D(1)), RULES, candles("99.5")) is None


def test_break_even_covers_the_fees() -> None:
    plan = replace(PLAN, break_even_pct=D(3))
    assert decisions.moved_stop(held(), plan, RULES, candles("102.9")) is None
    assert decisions.moved_stop(held(), plan, RULES, candles("103")) == D("100.20")


@pytest.mark.parametrize(("fee", "asset", "stop"), [("0.01", "BTC", "102.00"), ("0.6", "USDT", "101.20"), ("0.0001", "BTC", "100.20")])
def test_break_even_covers_the_fees_that_the_entry_paid_and_never_less_than_the_usual(fee: str, asset: str, stop: str) -> None:
    position = fold.begin(flat(), order("a"))
    position = fold.tell(position, Update("a", "FILLED", "7", D(1), D(100), (fill("1", "a", "BUY", "1", "100", fee, asset),)), 5)
    position = decisions.after_fills(position, PLAN, RULES, position.fills)
    assert decisions.moved_stop(position, replace(PLAN, break_even_pct=D(3)), RULES, candles("103")) == D(stop)


def test_a_short_mirrors_trailing_and_break_even() -> None:
    position = fold.begin(flat(), order("a", "SELL", "entry"))
    position = fold.tell(position, Update("a", "FILLED", "7", D(1), D(100), (fill("1", "a", "SELL", "1", "100", "0", "USDT"),)), 5)
    position = decisions.after_fills(position, PLAN, RULES, position.fills)
    rows = [row12(1, 99, 99, 96, 97, 1, 60_000)]
    assert decisions.moved_stop(position, replace(PLAN, trailing_stop_pct=D(1)), RULES, rows) == D("96.96")
    assert decisions.moved_stop(position, replace(PLAN, break_even_pct=D(3)), RULES, rows) == D("99.80")


def test_the_time_stop_counts_closed_candles_since_the_entry() -> None:
    plan = replace(PLAN, time_stop_candles=3)
    assert decisions.timed_out(held(), plan, candles("100", "100")).intents == ()
    assert decisions.timed_out(held(), plan, candles("100", "100", "100")).intents[-1].tag == "time_stop"


def test_the_time_stop_counts_candles_before_the_window_by_time() -> None:
    plan, rows = replace(PLAN, time_stop_candles=5), candles("100", "100", "100", first=1 + 2 * 60_000)
    assert decisions.timed_out(held(), plan, rows).intents[-1].tag == "time_stop"
    assert decisions.timed_out(held(), plan, rows[:2]).intents == ()


def test_only_a_stop_out_cools_down() -> None:
    for tag, checks in (("stop_loss", 2), ("take_profit", 0), ("signal", 0)):
        position = fold.begin(held(), order("b", "SELL", "exit", tag))
        position = fold.tell(position, Update("b", "FILLED", "8", D("0.999"), D(97), (fill("2", "b", "SELL", "0.999", "97", at=2),)), 6)
        position = decisions.after_fills(position, replace(PLAN, cooldown_checks=2), RULES, position.fills)
        assert (position.direction, position.cooldown) == (None, checks)
