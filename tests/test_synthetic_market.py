"""The synthetic market: the same candle whenever asked, nothing of the future, and prices that behave."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import load
from core.market import listings, path, timeframes
from core.model import Rules
from core.paper.markets import open_market
from core.paper.markets.synthetic import LISTED_MS, VERSION, SyntheticMarket

D = Decimal
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
NOW = int(datetime(2024, 5, 17, 13, 7, 33, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture(scope="module")
def market() -> SyntheticMarket:
    return SyntheticMarket(42, first_ms=NOW)


def minute(market, symbol, ms):
    rows = market.klines(symbol, "1m", ms, ms, 1, ms + MINUTE)
    assert len(rows) == 1
    return rows[0]


def test_the_setting_opens_it_and_its_source_names_the_seed(home):
    market = open_market(load({"BOTYARD_HOME": str(home), "PAPER_SEED": "7"}))
    assert market.source == "synthetic:7" and market.end_ms is None and market.first_ms > LISTED_MS


def test_version_1_has_these_candles():
    """Other prices under the same version would change every finished paper run: raise VERSION instead."""
    market = SyntheticMarket(1, first_ms=NOW)
    told = hashlib.sha256()
    for symbol in ("BTCUSDT", "SHIBUSDT", "MKRUSDT"):
        for day in (0, 511, 1961, 5000):  # the first, both sides of a knot, one to come
            told.update(repr(market.klines(symbol, "1m", LISTED_MS + day * DAY, None, 1440, NOW + 9000 * DAY)).encode())
    assert minute(market, "BTCUSDT", NOW // MINUTE * MINUTE)[1:6] == ["39063.92000000", "39086.47000000", "39061.83000000", "39086.43000000", "9.73088000"]
    assert (VERSION, told.hexdigest()) == (1, "5294ad62f470dba022da81b33bc16991ddd2bf675666bdd370cbed4d481c5221")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(["BTCUSDT", "ETHUSDT", "HOTUSDT"]), st.integers(0, 15 * 365 * 1440)), min_size=1, max_size=12), st.randoms())
def test_a_minute_is_the_same_in_whatever_order_it_is_asked(wanted, order):
    first, second = SyntheticMarket(5, NOW), SyntheticMarket(5, NOW)
    told = {(s, m): minute(first, s, LISTED_MS + m * MINUTE) for s, m in wanted}
    shuffled = list(wanted)
    order.shuffle(shuffled)
    for s, m in shuffled:
        ms = LISTED_MS + m * MINUTE
        second.klines(s, "1h", max(ms - 5 * DAY, LISTED_MS), None, 40, ms + DAY)  # other ways in fill other caches
        assert minute(second, s, ms) == told[s, m]


def test_days_made_one_by_one_equal_days_made_together_across_every_border():
    one, many = SyntheticMarket(9, NOW), SyntheticMarket(9, NOW)
    start = LISTED_MS + 505 * DAY  # crosses a 512-day knot
    together = many.klines("SOLUSDT", "1m", start, None, 12 * 1440, start + 12 * DAY)
    days = list(range(12))
    random.Random(3).shuffle(days)
    apart = {d: one.klines("SOLUSDT", "1m", start + d * DAY, start + (d + 1) * DAY - 1, 1440, start + 20 * DAY) for d in days}
    assert [row for d in range(12) for row in apart[d]] == together


def test_seeds_and_symbols_have_markets_of_their_own():
    told = {(seed, s): minute(SyntheticMarket(seed, NOW), s, LISTED_MS)[1:6] for seed in (1, 2) for s in ("BTCUSDT", "ETHUSDT")}
    assert len({tuple(row) for row in told.values()}) == 4


def test_every_symbol_lists_on_2019_01_01_and_not_before(market):
    for entry in market.symbols():
        name = entry["symbol"]
        assert market.listed(name, LISTED_MS) and not market.listed(name, LISTED_MS - 1)
    assert market.price("BTCUSDT", LISTED_MS - 1) is None and market.candle("BTCUSDT", LISTED_MS - 1) is None
    assert market.klines("BTCUSDT", "1d", 0, None, 1, NOW)[0][0] == LISTED_MS
    assert market.klines("BTCUSDT", "1d", None, None, 10, LISTED_MS - 1) == []
    assert next(market.prints("BTCUSDT", 0, LISTED_MS + DAY)).ms == LISTED_MS


def test_a_symbol_that_is_not_there_answers_nothing(market):
    assert market.symbol("NOPEUSDT") is None and not market.listed("NOPEUSDT", NOW) and market.price("NOPEUSDT", NOW) is None
    assert market.klines("NOPEUSDT", "1m", None, None, 5, NOW) == [] and list(market.prints("NOPEUSDT", NOW - DAY, NOW)) == []
    assert market.reach("NOPEUSDT", NOW - DAY, NOW, D(10**6), None) is None and not market.halted("NOPEUSDT", NOW)


def test_at_least_forty_pairs_have_filters_in_the_form_of_2026(market):
    entries = market.symbols()
    assert len(entries) >= 40 and len({e["symbol"] for e in entries}) == len(entries)
    for e in entries:
        rules = Rules.from_binance(e["filters"])
        assert e["symbol"] == e["baseAsset"] + e["quoteAsset"] and e == market.symbol(e["symbol"])
        assert rules.tick > 0 and rules.step > 0 and rules.min_notional == 5 and rules.max_algo_orders == 5 and rules.max_orders == 200
        figures = listings.known()[e["symbol"]]
        assert figures.anchor / figures.tick > 400  # a tick is a small part of a price
        assert {"STOP_LOSS", "LIMIT_MAKER"} < set(e["orderTypes"]) and e["quoteOrderQtyMarketAllowed"] and e["ocoAllowed"] and e["cancelReplaceAllowed"]
        assert not any(e[k] for k in ("icebergAllowed", "otoAllowed", "opoAllowed", "amendAllowed", "pegInstructionsAllowed", "allowTrailingStop"))
    btc = {f["filterType"]: f for f in market.symbol("BTCUSDT")["filters"]}
    assert btc["PRICE_FILTER"] == {"filterType": "PRICE_FILTER", "minPrice": "0.01000000", "maxPrice": "1000000.00000000", "tickSize": "0.01000000"}
    assert btc["LOT_SIZE"] == {"filterType": "LOT_SIZE", "minQty": "0.00001000", "maxQty": "9000.00000000", "stepSize": "0.00001000"}


def test_every_symbols_candles_lie_on_its_grid_and_make_sense(market):
    for name, figures in listings.known().items():
        rows = market.klines(name, "1m", NOW - DAY, None, 1000, NOW)
        assert len(rows) == 1000
        for row in rows:
            o, h, low, c, v, q = (D(row[i]) for i in (1, 2, 3, 4, 5, 7))
            assert 0 < low <= min(o, c) and max(o, c) <= h
            assert all(p % figures.tick == 0 for p in (o, h, low, c))
            assert v > 0 and v % figures.step == 0 and 0 <= D(row[9]) <= v and 0 <= D(row[10]) <= q
            assert low * v <= q * D("1.0001") and q <= h * v * D("1.0001")
            assert isinstance(row[8], int) and row[8] > 0 and row[11] == "0" and row[6] == row[0] + MINUTE - 1
        for before, after in pairwise(rows):
            assert after[0] == before[0] + MINUTE and abs(D(after[1]) - D(before[4])) <= figures.tick


@pytest.mark.parametrize("interval", [t for t in timeframes.ALL if t not in ("1s", "1m")])
def test_longer_candles_equal_resampled_minutes(market, interval):
    opened = timeframes.floor(NOW - (40 * DAY if interval in ("1w", "1M") else 7 * DAY), interval)
    until = timeframes.close_ms(timeframes.next_open(opened, interval), interval)
    minutes = market.klines("ETHUSDT", "1m", opened, until, 10**6, NOW + 400 * DAY)
    assert market.klines("ETHUSDT", interval, opened, until, 1000, NOW + 400 * DAY) == timeframes.resample(minutes, "1m", interval)


def test_finer_than_a_minute_there_is_nothing_and_a_bad_interval_is_refused(market):
    assert market.klines("BTCUSDT", "1s", None, None, 5, NOW) == []
    with pytest.raises(ValueError, match="not a timeframe"):
        market.klines("BTCUSDT", "7m", None, None, 5, NOW)


def test_start_end_and_limit_follow_binances_rules(market):
    def opens(start, end, limit):
        return [row[0] for row in market.klines("BTCUSDT", "5m", start, end, limit, NOW)]

    five, newest = 5 * MINUTE, NOW // (5 * MINUTE) * 5 * MINUTE
    assert opens(None, None, 3) == [newest - 2 * five, newest - five, newest]
    assert opens(newest - 10 * five, None, 3) == [newest - k * five for k in (10, 9, 8)]
    assert opens(newest - 10 * five + 1, None, 2) == [newest - 9 * five, newest - 8 * five]
    assert opens(None, newest - 4 * five, 2) == [newest - 5 * five, newest - 4 * five]
    assert opens(newest - 9 * five, newest - 7 * five, 100) == [newest - k * five for k in (9, 8, 7)]
    assert opens(newest, newest, 5) == [newest]
    assert opens(NOW + 1, None, 5) == [] and opens(newest, newest - 1, 5) == [] and opens(None, None, 0) == []
    assert len(opens(0, None, 1000)) == 1000 and opens(0, None, 1) == [LISTED_MS]
    assert len(market.klines("BTCUSDT", "1M", LISTED_MS, None, 20, NOW)) == 20


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(LISTED_MS, NOW), st.sampled_from(["1m", "5m", "1h", "4h", "1d", "1w"]))
def test_the_open_candle_is_made_of_prints_up_to_now_and_the_last_is_the_price(now, interval):
    market = SHARED
    rows = market.klines("BTCUSDT", interval, None, None, 2, now)
    opened = timeframes.floor(now, interval)
    seen = [p.price for p in market.prints("BTCUSDT", opened - 1, now)]
    assert rows[-1][0] == opened and rows[-1][6] == timeframes.close_ms(opened, interval)
    assert [D(x) for x in rows[-1][1:5]] == [seen[0], max(seen), min(seen), seen[-1]]
    assert D(rows[-1][4]) == market.price("BTCUSDT", now) and D(rows[-1][5]) > 0
    if len(rows) > 1:
        assert rows[0] == market.klines("BTCUSDT", interval, rows[0][0], rows[0][0], 1, now + 400 * DAY)[0]


def test_nothing_seen_at_a_moment_depends_on_what_comes_after_it(market):
    """Two markets that part ways after a moment look alike until then."""
    now = NOW // HOUR * HOUR + 15 * MINUTE + 14_999  # one ms before a print

    class Parted(SyntheticMarket):
        def _made(self, symbol, first, count):
            bars = super()._made(symbol, first, count)
            after = bars.t + MINUTE // 4 > now  # prints after `now` are shifted
            later = bars.t > now
            bars.h[after], bars.c[after] = bars.h[after] * 3, bars.c[after] * 2
            bars.l[after] //= 2
            bars.o[later] //= 3
            return bars

    parted = Parted(market.seed, NOW)
    for interval in ("1m", "5m", "1h", "1d"):
        same = [market.klines("BTCUSDT", interval, None, None, 5, now), parted.klines("BTCUSDT", interval, None, None, 5, now)]
        assert [row[:5] for row in same[0]] == [row[:5] for row in same[1]]
    assert market.price("BTCUSDT", now) == parted.price("BTCUSDT", now)
    assert market.price("BTCUSDT", now + 1) != parted.price("BTCUSDT", now + 1)


def test_volume_of_the_open_candle_grows_print_by_print(market):
    opened = NOW // MINUTE * MINUTE
    volumes = [D(market.klines("BTCUSDT", "1m", None, None, 1, opened + at)[0][5]) for at in (0, 15_000, 45_000, 59_999)]
    assert volumes == sorted(volumes) and volumes[0] > 0 and volumes[-1] == D(minute(market, "BTCUSDT", opened)[5])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(LISTED_MS - DAY, NOW), st.integers(-1, 30 * HOUR))
def test_prints_are_the_candles_prints_in_order_within_the_bounds(after, span):
    until = after + span
    told = list(SHARED.prints("XRPUSDT", after, until))
    rows = SHARED.klines("XRPUSDT", "1m", after - MINUTE, until, 10**5, NOW + 90 * DAY) if until >= LISTED_MS else []
    want = [(ms, p, i == 0) for r in rows for i, (ms, p) in enumerate(path.prints(r[0], MINUTE, *map(D, r[1:5]))) if after < ms <= until]
    assert [tuple(p) for p in told] == want
    if told:
        assert told[-1].price == SHARED.price("XRPUSDT", until)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(LISTED_MS, NOW), st.integers(0, 60 * HOUR), st.integers(-300, 300), st.integers(-300, 300))
def test_reach_finds_the_print_that_a_walk_print_by_print_finds(after, span, under, over):
    price = SHARED.price("ADAUSDT", after)
    below, above = price * (10_000 - under) / 10_000, price * (10_000 + over) / 10_000
    for low, high in ((below, None), (None, above), (below, above), (None, None)):
        want, came = None, price
        for said in SHARED.prints("ADAUSDT", after, after + span):
            hits = [path.reached(side, level, came, said.price, said.opens) for side, level in (("below", low), ("above", high)) if level is not None]
            if any(h is not None for h in hits):
                want = (came, said)
                break
            came = said.price
        assert SHARED.reach("ADAUSDT", after, after + span, low, high) == want


def test_the_finest_candle_holds_its_instant(market):
    opened, closed, o, h, low, c = market.candle("BTCUSDT", NOW)
    assert opened == NOW // MINUTE * MINUTE and closed == opened + MINUTE - 1
    assert [o, h, low, c] == [D(x) for x in minute(market, "BTCUSDT", opened)[1:5]] and not market.halted("BTCUSDT", NOW)


def columns(market, symbol, days):
    rows = market.klines(symbol, "5m", NOW - days * DAY, None, days * 288, NOW)
    return np.array([[float(x) for x in r[1:6]] for r in rows])


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT", "SOLUSDT", "DOGEUSDT"])
def test_prices_behave_like_a_coins(market, symbol):
    bars = columns(market, symbol, 180)
    close, volume = bars[:, 3], bars[:, 4]
    returns = np.diff(np.log(close))
    calm = np.clip(returns, *np.quantile(returns, (0.001, 0.999)))
    assert 0.001 < calm.std() < 0.0035
    assert 0.02 < np.diff(np.log(close[::288])).std() < 0.07  # a day
    size = np.abs(calm)
    assert np.corrcoef(size[:-1], size[1:])[0, 1] > 0.1 and np.corrcoef(size[:-12], size[12:])[0, 1] > 0.05  # storms cluster
    assert abs(np.corrcoef(calm[:-1], calm[1:])[0, 1]) < 0.1  # but their direction can't be told
    assert np.mean(calm**4) / np.mean(calm**2) ** 2 > 3.5  # fat tails
    assert np.corrcoef(np.abs(returns), volume[1:])[0, 1] > 0.3  # big moves trade more


@pytest.mark.parametrize("symbol", ["BTCUSDT", "SHIBUSDT"])
def test_years_do_not_carry_a_price_off(market, symbol):
    anchor = float(listings.known()[symbol].anchor)
    closes = np.array([float(r[4]) for r in market.klines(symbol, "1w", LISTED_MS, None, 1000, LISTED_MS + 12 * 365 * DAY)])
    assert len(closes) > 600 and anchor / 10 < closes.min() and closes.max() < anchor * 10
    assert closes.max() / closes.min() > 1.5  # nor does it stand


def test_now_and_then_the_market_crashes_within_minutes_and_recovers(market):
    close = columns(market, "BTCUSDT", 365)[:, 3]
    fall = close[8:] / close[:-8] - 1  # 40 minutes
    falls = [i for i in np.flatnonzero(fall < -0.05) if fall[i] == fall[max(0, i - 288) : i + 288].min()]
    assert 3 <= len(falls) <= 40 and fall.min() > -0.25
    other = columns(market, "ETHUSDT", 365)[:, 3]
    assert sum(other[i + 8] / other[i] < 0.97 for i in falls) > len(falls) / 2  # coins crash together


def test_common_strategies_find_something_to_do_several_times_a_day(market):
    close = columns(market, "BTCUSDT", 30)[:, 3]
    change = np.diff(close)
    up, down = np.clip(change, 0, None), np.clip(-change, 0, None)
    gain, loss = (np.convolve(x, np.ones(14) / 14, "valid") for x in (up, down))
    rsi = 100 - 100 / (1 + gain / np.maximum(loss, 1e-9))
    low_days = (np.diff((rsi < 30).astype(int)) == 1).sum() / 30
    mean, dev = np.array([close[i : i + 20].mean() for i in range(len(close) - 20)]), np.array([close[i : i + 20].std() for i in range(len(close) - 20)])
    outside = (np.diff((close[20:] < mean - 2 * dev).astype(int)) == 1).sum() / 30
    assert low_days > 2 and outside > 2


SHARED = SyntheticMarket(42, first_ms=NOW)
