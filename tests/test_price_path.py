"""The price path of DESIGN.md §5, print by print, and what it means for resting orders, stops and targets."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.market import path, triggers

D = Decimal
MINUTE = 60_000


@st.composite
def candles(draw):
    """(open_ms, length, open, high, low, close) on a grid of cents, with many ties and flat ones."""
    length = draw(st.sampled_from([1000, MINUTE, 5 * MINUTE, 3_600_000, 86_400_000]))
    opened = draw(st.integers(0, 10**6)) * length
    low = draw(st.integers(1, 10**7))
    high = low + draw(st.one_of(st.integers(0, 4), st.integers(0, 10**5)))
    o, c = draw(st.integers(low, high)), draw(st.integers(low, high))
    return opened, length, *(D(n).scaleb(-2) for n in (o, high, low, c))


@settings(max_examples=3000, deadline=None, derandomize=True)
@given(candles())
def test_a_candle_prints_open_nearer_extreme_other_extreme_and_close_at_0_a_quarter_three_quarters_and_the_last_ms(candle):
    opened, length, o, high, low, c = candle
    said = path.prints(*candle)
    assert [ms - opened for ms, _ in said] == [0, length // 4, length * 3 // 4, length - 1]
    assert said[0][1] == o and said[3][1] == c
    assert {said[1][1], said[2][1]} == {low, high}
    assert abs(said[1][1] - o) <= abs(said[2][1] - o)
    if o - low == high - o:
        assert said[1][1] == low  # a tie


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(candles(), st.data())
def test_between_prints_the_price_is_the_last_print(candle, data):
    opened, length, o, high, low, c = candle
    said = path.prints(*candle)
    whole = (opened, opened + length - 1, o, high, low, c)
    at = data.draw(st.one_of(st.integers(opened, opened + 2 * length), st.sampled_from([ms + d for ms, _ in said for d in (-1, 0, 1) if ms + d >= opened])))
    assert path.price(whole, at) == [p for ms, p in said if ms <= at][-1]


def test_a_candle_has_no_price_before_it_opens():
    with pytest.raises(ValueError, match="the candle before it"):
        path.price((1000, 1999, D(1), D(2), D(1), D(2)), 999)


@pytest.mark.parametrize(
    ("side", "level", "came", "to", "opens", "fill"),
    [
        ("below", "100", "101", "99", False, "100"),  # passed: at its own price
        ("below", "100", "101", "100", False, "100"),  # touched
        ("below", "100", "101", "100.01", False, None),
        ("below", "100", "101", "99", True, "99"),  # a candle opens beyond it: at that open
        ("below", "100", "101", "100", True, "100"),
        ("below", "100", "100", "105", False, "100"),  # the walk starts on it
        ("above", "100", "99", "101", False, "100"),
        ("above", "100", "99", "100", False, "100"),
        ("above", "100", "99", "99.99", False, None),
        ("above", "100", "99", "102", True, "102"),
        ("above", "100", "100", "90", False, "100"),
    ],
)
def test_a_resting_order_fills_at_its_price_or_at_an_open_beyond_it(side, level, came, to, opens, fill):
    said = path.reached(side, D(level), D(came), D(to), opens)
    assert said == (None if fill is None else D(fill))


cents = st.integers(1, 400).map(lambda n: D(n).scaleb(-2))


@settings(max_examples=2000, deadline=None, derandomize=True)
@given(cents, cents, cents, st.booleans())
def test_an_order_is_reached_exactly_when_a_small_step_walk_would_touch_it(level, came, to, opens):
    steps = int(abs(to - came) * 100)
    walk = [came + (to - came) / steps * i if steps else came for i in range(steps + 1)]
    for side, beyond in (("below", min(walk) <= level), ("above", max(walk) >= level)):
        fill = path.reached(side, level, came, to, opens)
        assert (fill is not None) == beyond
        if fill is not None:
            assert fill == (to if opens and triggers.touches(side, level, to) else level)


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(cents, cents, cents, st.booleans())
def test_below_and_above_are_mirrors(level, came, to, opens):
    below = path.reached("below", level, came, to, opens)
    above = path.reached("above", -level, -came, -to, opens)
    assert (below is None and above is None) or below == -above


@settings(max_examples=500, deadline=None, derandomize=True)
@given(candles(), cents)
def test_integers_of_one_unit_walk_like_decimals(candle, level):
    opened, length, *prices = candle
    whole = [int(p * 100) for p in prices]
    assert [(ms, D(p).scaleb(-2)) for ms, p in path.prints(opened, length, *whole)] == list(path.prints(opened, length, *prices))
    as_int = path.reached("below", int(level * 100), whole[0], whole[1], False)
    as_decimal = path.reached("below", level, prices[0], prices[1], False)
    assert (as_int is None and as_decimal is None) or D(as_int).scaleb(-2) == as_decimal


def test_a_longs_stop_is_touched_at_or_below_and_its_target_at_or_above():
    assert triggers.stop_touched("LONG", D(98), D(98)) and triggers.stop_touched("LONG", D(98), D(97))
    assert not triggers.stop_touched("LONG", D(98), D("98.01"))
    assert triggers.target_touched("LONG", D(105), D(105)) and not triggers.target_touched("LONG", D(105), D("104.99"))


def test_a_shorts_stop_and_target_are_mirrored():
    assert triggers.stop_touched("SHORT", D(102), D(102)) and not triggers.stop_touched("SHORT", D(102), D("101.99"))
    assert triggers.target_touched("SHORT", D(95), D(95)) and not triggers.target_touched("SHORT", D(95), D("95.01"))


def test_without_a_level_nothing_is_touched_and_the_stop_goes_first():
    assert triggers.touched("LONG", None, None, D(1)) is None
    assert triggers.touched("LONG", D(98), D(105), D(97)) == "stop_loss"
    assert triggers.touched("LONG", D(98), D(105), D(106)) == "take_profit"
    assert triggers.touched("LONG", D(98), D(105), D(100)) is None
    assert triggers.touched("SHORT", D(102), D(95), D(103)) == "stop_loss"
    assert triggers.touched("LONG", D(100), D(99), D("99.5")) == "stop_loss"
