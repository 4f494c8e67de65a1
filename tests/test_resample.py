"""Timeframes, and longer candles made of shorter ones by Binance's rule."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import TIMEFRAMES
from core.errors import InputError
from core.market import timeframes as tf
from core.market.bars import Bars, read_file
from core.market.resample import longer, read_trades
from core.paper.markets.replay import ReplayMarket

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "resample").is_dir(), reason="the real candles of ../shared/data are not here")


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("timeframe", "at", "opened", "closes"),
    [
        ("1m", "2024-02-29T12:34:56", "2024-02-29T12:34:00", "2024-02-29T12:34:59.999"),
        ("4h", "2024-02-29T11:59:59", "2024-02-29T08:00:00", "2024-02-29T11:59:59.999"),
        ("1d", "2024-02-29T23:59:59", "2024-02-29T00:00:00", "2024-02-29T23:59:59.999"),
        ("1w", "2024-03-03T23:00:00", "2024-02-26T00:00:00", "2024-03-03T23:59:59.999"),  # a Sunday belongs to its Monday
        ("1w", "2024-03-04T00:00:00", "2024-03-04T00:00:00", "2024-03-10T23:59:59.999"),
        ("1M", "2024-02-29T12:00:00", "2024-02-01T00:00:00", "2024-02-29T23:59:59.999"),
        ("1M", "2023-12-31T12:00:00", "2023-12-01T00:00:00", "2023-12-31T23:59:59.999"),
        ("3d", "1970-01-05T01:00:00", "1970-01-04T00:00:00", "1970-01-06T23:59:59.999"),
    ],
)
def test_a_candle_opens_and_closes_where_binances_does(timeframe, at, opened, closes):
    assert tf.floor(ms(at), timeframe) == ms(opened)
    assert tf.close_ms(ms(opened), timeframe) == ms(closes)


@settings(derandomize=True)
@given(st.integers(0, 4 * 10**12), st.sampled_from(tf.ALL), st.integers(0, 40))
def test_floor_next_ceil_and_back_agree(at, timeframe, n):
    opened = tf.floor(at, timeframe)
    assert opened <= at < tf.next_open(at, timeframe)
    assert tf.floor(opened, timeframe) == opened == tf.ceil(opened, timeframe)
    assert tf.ceil(opened + 1, timeframe) == tf.next_open(at, timeframe)
    later = opened
    for _ in range(n):
        later = tf.next_open(later, timeframe)
    assert tf.back(later, timeframe, n) == opened or (timeframe == "1w" and opened < 4 * tf.DAY)


def test_an_unknown_timeframe_is_refused_and_case_counts():
    for wrong in ("7m", "1D", "", "5M", "1 m"):
        with pytest.raises(ValueError, match="not a timeframe"):
            tf.floor(0, wrong)
    with pytest.raises(ValueError, match="no fixed length"):
        tf.length_ms("1M")


def test_settings_and_markets_know_the_same_timeframes():
    assert tf.ALL == TIMEFRAMES


def test_which_timeframes_nest():
    assert tf.nests("1m", "5m") and tf.nests("1d", "1w") and tf.nests("12h", "1M") and tf.nests("1d", "3d") and tf.nests("5m", "5m")
    assert not tf.nests("3m", "5m") and not tf.nests("3d", "1w") and not tf.nests("5m", "1m") and not tf.nests("1w", "1M") and not tf.nests("8h", "12h")


def test_rows_without_volume_count_for_nothing_but_the_close():
    rows = [[0, "5", "9", "1", "5", "0"], [60_000, "6", "7", "6", "7", "2"], [120_000, "7", "8", "4", "4", "1.5"], [180_000, "3", "99", "0.5", "3", "0"]]
    assert tf.resample(rows, "1m", "5m") == [[0, "6", "8", "4", "3", "3.5"]]


def test_a_candle_of_rows_without_volume_is_made_of_all_of_them():
    assert tf.resample([[0, 5, 5, 5, 5, 0], [60_000, 5, 6, 5, 6, 0]], "1m", "5m") == [[0, 5, 6, 5, 6, 0]]


def test_twelve_fields_stay_twelve_and_missing_rows_leave_what_there_is():
    row = [300_000, "5.00", "6.00", "4.00", "5.50", "1.00", 359_999, "5.00", 3, "0.50", "2.50", "0"]
    late = [420_000, "5.50", "7.00", "5.00", "6.00", "2.00", 479_999, "12.00", 4, "1.00", "6.00", "0"]
    assert tf.resample([row, late], "1m", "5m") == [[300_000, "5.00", "7.00", "4.00", "6.00", "3.00", 599_999, "17.00", 7, "1.50", "8.50", "0"]]


def test_rows_must_ascend_and_timeframes_must_nest():
    rows = [[60_000, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]]
    with pytest.raises(ValueError, match="ascend"):
        tf.resample(rows, "1m", "5m")
    with pytest.raises(ValueError, match="can't be made"):
        tf.resample(rows, "3m", "5m")
    assert tf.resample([], "1m", "5m") == []


def rows_of(path: Path) -> list[list]:
    return json.loads(gzip.decompress(path.read_bytes()), parse_float=Decimal)


@needs_data
@pytest.mark.parametrize("timeframe", ["5m", "15m", "30m", "1h"])
def test_one_minute_candles_make_binances_own_longer_ones_without_a_mismatch(timeframe):
    minutes = rows_of(DATA / "spot-1m" / "BTC_USDT-1m.json.gz")
    golden = rows_of(DATA / "resample" / f"BTC_USDT-{timeframe}.json.gz")
    made = {row[0]: row for row in tf.resample(minutes, "1m", timeframe)}
    whole = [row for row in golden if row[0] >= minutes[0][0] and tf.close_ms(row[0], timeframe) < minutes[-1][0] + 60_000]
    assert len(whole) > 700
    wrong = [(row, made.get(row[0])) for row in whole if row[:5] != made.get(row[0], [None])[:5] or abs(row[5] - made[row[0]][5]) > Decimal("0.00001")]
    assert wrong == []


@needs_data
@pytest.mark.parametrize("timeframe", ["5m", "15m", "30m", "1h"])
def test_the_replay_market_makes_the_same_candles_from_its_columns(timeframe):
    market = ReplayMarket(DATA / "spot-1m")
    minutes = rows_of(DATA / "spot-1m" / "BTC_USDT-1m.json.gz")
    made = tf.resample(minutes, "1m", timeframe)
    served = market.klines("BTCUSDT", timeframe, 0, None, 10**6, market.end_ms)
    assert [[row[0], *map(Decimal, row[1:5])] for row in served] == [row[:5] for row in made]
    assert all(abs(Decimal(a[5]) - Decimal(b[5])) < Decimal("0.0000001") for a, b in zip(served, made, strict=True))


# --- the same in columns of integers, and out of trades ------------------------------------------


@needs_data
@pytest.mark.parametrize("timeframe", ["5m", "15m", "30m", "1h"])
def test_columns_of_minutes_make_binances_own_longer_candles_without_a_mismatch(timeframe):
    minutes = read_file(DATA / "spot-1m" / "BTC_USDT-1m.json.gz", "BTCUSDT", "1m")
    golden = read_file(DATA / "resample" / f"BTC_USDT-{timeframe}.json.gz", "BTCUSDT", timeframe)
    made = longer(minutes, timeframe)
    start, end = max(made.open_ms[0], golden.open_ms[0]), min(made.open_ms[-1], golden.open_ms[-1]) + made.length_ms
    made, both = made.slice(start, end), golden.slice(start, end)
    assert len(made) > 700
    for name in ("open_ms", "open", "high", "low", "close"):
        assert (getattr(made, name) == getattr(both, name)).all(), name
    assert abs(made.volume - both.volume).max() < 0.00001


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([("1m", "5m"), ("1h", "1d"), ("1d", "1w"), ("1d", "1M"), ("12h", "1M"), ("5m", "5m")]))
def test_columns_and_rows_make_the_same_longer_candles(data, pair):
    short, long = pair
    draw = data.draw(st.lists(st.tuples(st.integers(1, 3), *[st.integers(1, 9)] * 4, st.sampled_from([0, 0, 1, 5])), min_size=1, max_size=60))
    opened, rows = tf.floor(1_700_000_000_000, short), []
    for skip, o, h, low, c, volume in draw:
        opened = tf.next_open(opened, short) if skip == 1 else tf.next_open(tf.next_open(opened, short), short)
        rows.append([opened, o, max(o, h, low, c), min(o, h, low, c), c, volume])
    made = longer(Bars.from_rows(rows, "A", short), long, whole=False)
    assert made == Bars.from_rows(tf.resample(rows, short, long), "A", long)


def test_candles_that_are_cut_at_the_edges_are_left_out():
    rows = [[i * 60_000, 1, 1, 1, 1, 1] for i in range(3, 14)]
    assert longer(Bars.from_rows(rows, "A", "1m"), "5m").open_ms.tolist() == [300_000]
    assert longer(Bars.from_rows(rows, "A", "1m"), "5m", whole=False).open_ms.tolist() == [0, 300_000, 600_000]
    assert len(longer(Bars.from_rows(rows[:3], "A", "1m"), "1h")) == 0 and len(longer(Bars.empty("A", "1m"), "1M")) == 0
    with pytest.raises(InputError, match="can't be made"):
        longer(Bars.from_rows(rows, "A", "1m").cut(0, 0), "1s")


@needs_data
@pytest.mark.parametrize("name", ["XRP_ETH-trades", "XRP_OLD-trades"])
def test_trades_make_the_candles_that_the_catalogue_counts(name):
    minutes = read_trades(DATA / "trades" / f"{name}.json.gz", "XRPETH", "1m")
    fives = read_trades(DATA / "trades" / f"{name}.json.gz", "XRPETH", "5m")
    assert (len(minutes), len(fives)) == (2469, 706)
    again = longer(minutes, "5m", whole=False)
    assert all((a == b).all() for a, b in zip(again.columns()[:5], fives.columns()[:5], strict=True))
    assert abs(again.volume - fives.volume).max() < 1e-6


def test_trades_that_can_not_be_read_are_refused_with_their_place(tmp_path):
    path = tmp_path / "trades.json"
    for content, why in (("{}", "list of trades"), ("[[1]]", "trade 1"), ('[{"T": 1, "p": "x", "q": "1"}]', "trade 1"), ("[", "JSON"), ("[]", "at least one")):
        path.write_text(content)
        with pytest.raises(InputError, match=why):
            read_trades(path, "A", "1m")
    path.write_text('[{"T": 60001, "p": "1.5", "q": "2"}, {"T": 60000, "p": "1", "q": "1"}]')
    with pytest.raises(InputError, match="60000 follows 60001"):
        read_trades(path, "A", "1m")
