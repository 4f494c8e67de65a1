"""The replay market: candle files as they lie, gaps kept, and a clear word about files that can't be trusted.

The market that follows the real one is here too, over a fetcher that answers from memory.
"""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import load
from core.errors import ExchangeError, SettingsError, Unavailable
from core.market import listings, path, timeframes
from core.model import Rules
from core.paper.markets import files, open_market
from core.paper.markets.live import LiveMarket
from core.paper.markets.replay import WARM_UP, ReplayMarket

D = Decimal
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
T0 = 1_672_531_200_000  # 2023-01-01
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "spot-5m").is_dir(), reason="the real candles of ../shared/data are not here")


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def candle(i, o="100.00", h="101.00", low="99.00", c="100.50", v="2.00000000", start=T0, step=MINUTE):
    return [start + i * step, o, h, low, c, v]


def as_json(rows) -> bytes:
    return ("[" + ",".join(f"[{r[0]},{','.join(r[1:])}]" for r in rows) + "]").encode()


def as_csv(rows, header=False, factor=1, step=MINUTE) -> bytes:
    head = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore\n"
    return ((head if header else "") + "".join(f"{r[0] * factor},{','.join(r[1:])},{(r[0] + step) * factor - 1},200.5,7,1.5,150.25,0\n" for r in rows)).encode()


def put(home: Path, name: str, content: bytes) -> Path:
    (home / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return home


def refusal(home: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        ReplayMarket(home)
    return str(caught.value)


# -- the forms of files ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["BTC_USDT-1m.json.gz", "BTC_USDT-1m.json", "BTCUSDT-1m.json"])
def test_json_candles_are_read_without_a_float(tmp_path, name):
    market = ReplayMarket(put(tmp_path, name, as_json([candle(0, "0.1", "0.30000001", "0.07", "0.29", "848629.5699999999")])))
    assert market.klines("BTCUSDT", "1m", None, None, 5, T0 + HOUR) == [
        [T0, "0.10000000", "0.30000001", "0.07000000", "0.29000000", "848629.57000000", T0 + 59_999, "0.00000000", 0, "0.00000000", "0.00000000", "0"]
    ]


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("factor", [1, 1000])
@pytest.mark.parametrize("name", ["BTCUSDT-1m-2023-01.csv.gz", "BTCUSDT-1m-2023-01-01.csv", "BTCUSDT-1m.csv", "BTC_USDT-1m.csv.gz"])
def test_binances_csv_is_read_with_or_without_header_in_ms_or_microseconds(tmp_path, name, header, factor):
    market = ReplayMarket(put(tmp_path, name, as_csv([candle(0), candle(1)], header, factor)))
    rows = market.klines("BTCUSDT", "1m", None, None, 5, T0 + HOUR)
    assert rows[1][:6] == [T0 + MINUTE, "100.00000000", "101.00000000", "99.00000000", "100.50000000", "2.00000000"]
    assert rows[1][6:] == [T0 + 119_999, "200.50000000", 7, "1.50000000", "150.25000000", "0"]
    assert len(rows) == 2


def test_months_of_one_symbol_are_joined_and_the_finest_timeframe_drives(tmp_path):
    put(tmp_path, "BTCUSDT-1m-2023-01.csv", as_csv([candle(i) for i in range(10)]))
    put(tmp_path, "BTCUSDT-1m-2023-02.csv.gz", as_csv([candle(i, c="99.50") for i in range(10, 20)], factor=1000))
    put(tmp_path, "BTC_USDT-5m.json.gz", as_json([candle(i, h="500.0", step=5 * MINUTE) for i in range(4)]))
    put(tmp_path, "README.txt", b"not a candle")
    market = ReplayMarket(tmp_path)
    assert [r[0] for r in market.klines("BTCUSDT", "1m", None, None, 100, T0 + DAY)] == [T0 + i * MINUTE for i in range(20)]
    assert [r[2] for r in market.klines("BTCUSDT", "5m", None, None, 100, T0 + DAY)] == ["101.00000000"] * 4
    assert market.klines("BTCUSDT", "1s", None, None, 100, T0 + DAY) == []
    assert market.end_ms == T0 + 20 * MINUTE - 1 and len(market.symbols()) == 1


def test_overlapping_files_that_agree_are_joined_and_an_unfinished_last_row_yields(tmp_path):
    put(tmp_path, "BTCUSDT-1m-2023-01.csv", as_csv([*[candle(i) for i in range(5)], candle(5, h="100.60", v="0.10000000")]))
    put(tmp_path, "BTCUSDT-1m-2023-02.csv", as_csv([candle(i) for i in range(3, 9)]))
    rows = ReplayMarket(tmp_path).klines("BTCUSDT", "1m", None, None, 100, T0 + DAY)
    assert [r[0] for r in rows] == [T0 + i * MINUTE for i in range(9)] and {r[2] for r in rows} == {"101.00000000"}


def test_overlapping_files_that_contradict_each_other_are_refused(tmp_path):
    put(tmp_path, "BTCUSDT-1m-2023-01.csv", as_csv([candle(i) for i in range(6)]))
    put(tmp_path, "BTCUSDT-1m-2023-02.csv", as_csv([candle(i, h="102.00") for i in range(3, 9)]))
    said = refusal(tmp_path)
    assert "2023-01.csv" in said and "2023-02.csv" in said and "contradicts" in said and str(T0 + 3 * MINUTE) in said


def test_base_and_quote_come_from_the_underscore_or_the_table(tmp_path):
    put(tmp_path, "FOO_BAR-1m.json", as_json([candle(0, "0.123", "0.2", "0.1", "0.15", "5.25")]))
    put(tmp_path, "ETHUSDT-1m.json", as_json([candle(0)]))
    market = ReplayMarket(tmp_path)
    foo, eth = market.symbol("FOOBAR"), market.symbol("ETHUSDT")
    assert (foo["baseAsset"], foo["quoteAsset"]) == ("FOO", "BAR") and (eth["baseAsset"], eth["quoteAsset"]) == ("ETH", "USDT")
    rules = Rules.from_binance(foo["filters"])
    assert rules.tick == D("0.001") and rules.step == D("0.01") and rules.min_notional == 5
    assert eth["filters"] == listings.filters(listings.known()["ETHUSDT"])
    put(tmp_path, "FOOUSDT-1m.csv", as_csv([candle(0)]))
    assert "FOOUSDT-1m.csv" in refusal(tmp_path) and "BASE_QUOTE" in refusal(tmp_path)


def test_a_known_symbol_whose_data_lie_off_its_tick_gets_the_datas_tick(tmp_path):
    market = ReplayMarket(put(tmp_path, "COCOS_USDT-5m.json", as_json([candle(0, "0.000295", "0.000299", "0.00029", "0.000291")])))
    rules = Rules.from_binance(market.symbol("COCOSUSDT")["filters"])
    assert rules.tick == D("0.000001") and rules.step == listings.known()["COCOSUSDT"].step


def test_volumes_too_large_for_eight_decimals_are_kept_with_fewer(tmp_path):
    rows = [candle(i, "0.00000100", "0.00000100", "0.00000100", "0.00000100", "987654321987.5") for i in range(2000)]
    told = ReplayMarket(put(tmp_path, "PEPE_USDT-1m.json", as_json(rows))).klines("PEPEUSDT", "1w", None, None, 5, T0 + 9 * DAY)
    total = sum(D(r[5]) for r in told)
    assert abs(total / (2000 * D("987654321987.5")) - 1) < D("1e-9")


def test_the_folders_cleaned_name_is_the_source_and_settings_open_it(home):
    folder = home / "mein kurs (1m)"
    folder.mkdir()
    put(folder, "BTC_USDT-1m.json", as_json([candle(0)]))
    for named in (str(folder), folder.name):  # a relative folder counts from the yard's home
        market = open_market(load({"BOTYARD_HOME": str(home), "PAPER_MARKET": "replay", "PAPER_DATA": named}))
        assert market.source == "replay:mein-kurs-1m-"


def test_a_new_market_begins_when_the_youngest_symbol_is_warm(tmp_path):
    put(tmp_path, "BTC_USDT-1m.json", as_json([candle(i) for i in range(2 * WARM_UP)]))
    put(tmp_path, "ETH_USDT-1m.json", as_json([candle(i) for i in range(500, 2 * WARM_UP)]))
    assert ReplayMarket(tmp_path).first_ms == T0 + (500 + WARM_UP) * MINUTE
    put(tmp_path, "ETH_USDT-1m.json", as_json([candle(i) for i in range(500, 700)]))
    assert ReplayMarket(tmp_path).first_ms == T0 + 500 * MINUTE


# -- files that can't be trusted --------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("BTC_USDT-1m.json", b"[[1672531200000,1,2,1", ["row 1", "JSON"]),
        ("BTC_USDT-1m.json", b'{"a": 1}', ["list of candles"]),
        ("BTC_USDT-1m.json", b"[]", ["no candle"]),
        ("BTC_USDT-1m.json", b"[1,2]", ["row 1", "not a candle"]),
        ("BTC_USDT-1m.json", b"\xff\xfe\x00garbage", ["not text"]),
        ("BTC_USDT-1m.json", as_json([candle(0), candle(1, h="x")]).replace(b"x", b'"x"'), ["row 2", "x", "column 3", "the high"]),
        ("BTC_USDT-1m.json", as_json([candle(0), candle(1, h="null")]), ["row 2", "None", "column 3"]),
        ("BTC_USDT-1m.json", as_json([candle(0), candle(1, h="NaN")]), ["row 2", "NaN"]),
        ("BTC_USDT-1m.json", as_json([candle(0), candle(1, h="1e30")]), ["row 2", "too large"]),
        ("BTC_USDT-1m.json", as_json([candle(0), candle(1, low="0")]), ["row 2", "above 0"]),
        ("BTC_USDT-1m.json", as_json([candle(0), candle(1, v="-1")]), ["row 2", "volume"]),
        ("BTC_USDT-1m.json", as_json([candle(0), candle(1, low="100.20")]), ["row 2", "low must not"]),
        ("BTC_USDT-1m.json", as_json([candle(1), candle(0)]), ["row 2", "ascend"]),
        ("BTC_USDT-1m.json", as_json([candle(0), candle(0, h="105.0")]), ["row 2", "something else"]),
        ("BTC_USDT-1m.json", as_json([candle(0, start=T0 + 1)]), ["row 1", "no 1m candle opens then"]),
        ("BTC_USDT-1w.json", as_json([candle(0)]), ["row 1", "no 1w candle opens then"]),
        ("BTC_USDT-7m.json", as_json([candle(0)]), ["7m is not a timeframe"]),
        ("BTCUSDT-1m.csv", as_csv([candle(0)]) + b"1,2,3\n", ["row 2", "3 columns"]),
        ("BTCUSDT-1m.csv", as_csv([candle(0), candle(1, o="oops")], header=True), ["row 3", "oops", "the open"]),
        ("BTCUSDT-1m.csv", b"hello world\n", ["row 1", "12"]),
        ("BTCUSDT-1m.csv", b"", ["no candle"]),
    ],
)
def test_a_bad_file_is_refused_by_name_and_row(tmp_path, name, content, words):
    said = refusal(put(tmp_path, name, content))
    assert "PAPER_DATA" in said and name in said
    for word in words:
        assert word in said, said


def test_a_truncated_or_false_gzip_is_refused_by_name(tmp_path):
    whole = gzip.compress(as_json([candle(i) for i in range(1000)]))
    for broken in (whole[:-20], whole[: len(whole) // 2], b"not gzip at all", whole[:-8] + b"12345678"):
        (tmp_path / "BTC_USDT-1m.json.gz").write_bytes(broken)
        assert "BTC_USDT-1m.json.gz" in refusal(tmp_path) and "gzip" in refusal(tmp_path)


def test_every_bad_file_is_named_at_once_and_a_folder_must_hold_something(tmp_path):
    assert "holds no candle file" in refusal(tmp_path) and "is not a folder" in refusal(tmp_path / "nowhere")
    put(put(tmp_path, "BTC_USDT-1m.json", b"["), "ETH_USDT-1m.json", b"[")
    assert "BTC_USDT" in refusal(tmp_path) and "ETH_USDT" in refusal(tmp_path)


def test_identical_duplicates_and_a_torn_last_line_are_dropped(tmp_path):
    content = as_csv([candle(0), candle(1), candle(1), candle(2)]) + b"1672531380000,100.0,1"
    rows = ReplayMarket(put(tmp_path, "BTCUSDT-1m.csv", content)).klines("BTCUSDT", "1m", None, None, 9, T0 + DAY)
    assert [r[0] for r in rows] == [T0, T0 + MINUTE, T0 + 2 * MINUTE]


@settings(derandomize=True)
@given(st.decimals(min_value=0, max_value=10**9, places=8, allow_nan=False))
def test_a_decimals_text_becomes_exact_units(value):
    assert files.units(str(value)) == files.units(format(value, "f")) == int(value * 10**8)


# -- gaps -------------------------------------------------------------------------------


def gapped(tmp_path) -> ReplayMarket:
    """Minutes 0-6 and 13-20, minutes 3 and 4 without trading; the 5m candle of minutes 10-14 straddles the gap's end."""
    still = {"o": "100.50", "h": "100.50", "low": "100.50", "c": "100.50", "v": "0"}
    rows = [candle(i, **(still if i in (3, 4) else {})) for i in range(7)] + [candle(i, "110.00", "112.00", "109.00", "111.00") for i in range(13, 21)]
    return ReplayMarket(put(tmp_path, "BTC_USDT-1m.json", as_json(rows)))


def test_inside_a_gap_the_last_price_stands_nothing_prints_and_the_symbol_is_halted(tmp_path):
    market = gapped(tmp_path)
    for inside in (7 * MINUTE, 10 * MINUTE, 13 * MINUTE - 1):
        now = T0 + inside
        assert market.halted("BTCUSDT", now) and market.price("BTCUSDT", now) == D("100.5") and market.candle("BTCUSDT", now) is None
        assert market.listed("BTCUSDT", now) and market.klines("BTCUSDT", "1m", None, None, 1, now)[0][0] == T0 + 6 * MINUTE
        assert market.klines("BTCUSDT", "5m", None, None, 1, now)[0][0] == T0 + 5 * MINUTE  # not the one that prints later
    assert list(market.prints("BTCUSDT", T0 + 7 * MINUTE - 1, T0 + 13 * MINUTE - 1)) == []
    assert not market.halted("BTCUSDT", T0 + 7 * MINUTE - 1) and not market.halted("BTCUSDT", T0 + 13 * MINUTE)
    after = next(market.prints("BTCUSDT", T0 + 7 * MINUTE - 1, T0 + DAY))
    assert after == (T0 + 13 * MINUTE, D(110), True) and market.price("BTCUSDT", T0 + 13 * MINUTE) == 110
    assert market.klines("BTCUSDT", "5m", None, None, 1, T0 + 13 * MINUTE)[0][:5] == [T0 + 10 * MINUTE, *["110.00000000"] * 4]
    assert market.klines("BTCUSDT", "1m", T0 + 7 * MINUTE, T0 + 12 * MINUTE, 9, T0 + DAY) == []


def test_an_order_waiting_through_a_gap_is_reached_at_the_open_after_it(tmp_path):
    market = gapped(tmp_path)
    came, said = market.reach("BTCUSDT", T0 + 7 * MINUTE, T0 + DAY, None, D(105))
    assert (came, said) == (D("100.5"), (T0 + 13 * MINUTE, D(110), True))
    assert path.reached("above", D(105), came, said.price, said.opens) == 110


def test_after_the_last_candle_nothing_prints_and_before_the_first_nothing_is_listed(tmp_path):
    market = gapped(tmp_path)
    assert market.end_ms == T0 + 21 * MINUTE - 1
    assert market.halted("BTCUSDT", market.end_ms + 1) and market.price("BTCUSDT", market.end_ms + DAY) == 111
    assert not market.listed("BTCUSDT", T0 - 1) and market.price("BTCUSDT", T0 - 1) is None and not market.halted("BTCUSDT", T0 - 1)
    assert market.klines("BTCUSDT", "1m", None, None, 5, T0 - 1) == []
    assert sum(1 for _ in market.prints("BTCUSDT", 0, T0 + 900 * DAY)) == 15 * 4


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sets(st.integers(0, 80), min_size=1), st.integers(-5, 95 * 60), st.sampled_from(["1m", "3m", "5m", "1h"]), st.integers(1, 30), st.data())
def test_klines_are_prints_up_to_now_and_nothing_else(tmp_path_factory, minutes, seconds, interval, limit, data):
    rows = []
    for i in sorted(minutes):
        low, high = 90 + i % 7, 110 + i % 11
        o, c, v = data.draw(st.integers(low, high)), data.draw(st.integers(low, high)), data.draw(st.sampled_from(["0", "0.00000001", "3.5"]))
        rows.append(candle(i, *map(str, (o, high, low, c)), v))
    market = ReplayMarket(put(tmp_path_factory.mktemp("r"), "BTC_USDT-1m.json", as_json(rows)))
    now = T0 + seconds * 1000
    seen: list[list[str]] = []
    for row in rows:
        part = [p for at, p in path.prints(row[0], MINUTE, *map(D, row[1:5])) if at <= now]
        if part:
            volume = D(-(-int(D(row[5]) * 10**8) * len(part) // 4)) / 10**8
            seen.append([row[0], part[0], max(part), min(part), part[-1], volume])
    want = timeframes.resample(seen, "1m", interval)
    told = [[r[0], *map(D, r[1:6])] for r in market.klines("BTCUSDT", interval, None, None, limit, now)]
    assert told == want[-limit:]
    begin = T0 + data.draw(st.integers(-3, 90)) * MINUTE
    until = begin + data.draw(st.integers(0, 90)) * MINUTE
    told = [[r[0], *map(D, r[1:6])] for r in market.klines("BTCUSDT", interval, begin, until, limit, now)]
    assert told == [r for r in want if begin <= r[0] <= until][:limit]
    told = [[r[0], *map(D, r[1:6])] for r in market.klines("BTCUSDT", interval, None, until, limit, now)]
    assert told == [r for r in want if r[0] <= until][-limit:]


# -- real files ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def five() -> ReplayMarket:
    return ReplayMarket(DATA / "spot-5m")


@pytest.fixture(scope="module")
def one() -> ReplayMarket:
    return ReplayMarket(DATA / "spot-1m")


@needs_data
@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_the_outage_of_2021_02_11_is_a_halt(five, symbol):
    last, first = ms("2021-02-11T03:40:00"), ms("2021-02-11T05:00:00")
    begin = last + 5 * MINUTE
    assert not five.halted(symbol, begin - 1) and five.halted(symbol, begin) and five.halted(symbol, first - 1) and not five.halted(symbol, first)
    stands = five.price(symbol, begin - 1)
    assert five.price(symbol, ms("2021-02-11T04:30:00")) == stands == five.price(symbol, first - 1)
    assert five.klines(symbol, "5m", None, None, 2, first)[0][0] == last
    assert five.klines(symbol, "5m", begin, first - 1, 100, first + DAY) == []
    assert [r[0] for r in five.klines(symbol, "1h", ms("2021-02-11T03:00:00"), ms("2021-02-11T05:00:00"), 9, first + DAY)] == [
        ms("2021-02-11T03:00:00"),
        ms("2021-02-11T05:00:00"),
    ]
    said = list(five.prints(symbol, begin - 2, first))
    assert [p.ms for p in said] == [begin - 1, first] and said[1].opens
    assert all(D(r[5]) == 0 for r in five.klines(symbol, "5m", ms("2021-02-11T02:20:00"), last, 100, first))  # open, but nobody traded


@needs_data
@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_the_outage_of_2023_03_24_is_a_halt(one, symbol):
    last, first = ms("2023-03-24T12:39:00"), ms("2023-03-24T14:00:00")
    assert not one.halted(symbol, last + MINUTE - 1) and one.halted(symbol, last + MINUTE) and one.halted(symbol, first - 1) and not one.halted(symbol, first)
    assert one.price(symbol, first - 1) == one.price(symbol, last + MINUTE - 1)
    rows = one.klines(symbol, "1m", None, None, 1000, first)
    assert [rows[-2][0], rows[-1][0]] == [last, first] and rows[-1][1] == rows[-1][4]  # so far only its open
    assert D(rows[-1][1]) == one.price(symbol, first)
    assert list(one.prints(symbol, last + MINUTE, first - 1)) == []


@needs_data
def test_every_row_of_a_real_file_is_served_as_it_lies_there(five):
    rows = json.loads(gzip.decompress((DATA / "spot-5m" / "ETH_USDT-5m.json.gz").read_bytes()), parse_float=str, parse_int=str)
    told = five.klines("ETHUSDT", "5m", 0, None, 10**6, five.end_ms)
    assert len(told) == len(rows) > 65_000
    assert all(int(r[0]) == t[0] and all(D(a) == D(b) for a, b in zip(r[1:5], t[1:5], strict=True)) for r, t in zip(rows, told, strict=True))
    assert all(abs(D(r[5]) - D(t[5])) <= D("0.000000005") for r, t in zip(rows, told, strict=True))


@needs_data
def test_the_gap_finders_exam_holds_here_too():
    market = ReplayMarket(DATA / "gaps")
    opens = [r[0] for r in market.klines("UNITTESTBTC", "1m", 0, None, 10**6, market.end_ms)]
    missing = sorted(set(range(opens[0], opens[-1], MINUTE)) - set(opens))
    assert len(opens) == 13_681 and len(missing) == 717
    assert all(market.halted("UNITTESTBTC", t) for t in missing) and not any(market.halted("UNITTESTBTC", t) for t in opens[::50])


# -- the real market, followed --------------------------------------------------------------


class Told:
    """A fetcher that answers from memory and counts."""

    def __init__(self) -> None:
        self.price, self.asked, self.down = "100.00000000", [], False

    def _ask(self, what):
        self.asked.append(what)
        if self.down:
            raise ExchangeError("no route to host")

    def fetch_price(self, symbol):
        self._ask("price")
        return self.price

    def fetch_klines(self, symbol, interval, start, end, limit):
        self._ask("klines")
        first = T0 if start is None else timeframes.ceil(start, interval)
        last = T0 + HOUR if end is None else end
        rows = [[*candle((t - T0) // MINUTE), t + 59_999, "0", 1, "0", "0", "0"] for t in range(first, last + 1, MINUTE)]
        return rows[:limit] if start is not None else rows[-limit:]

    def fetch_exchange_info(self):
        self._ask("info")
        known = listings.entry(listings.known()["BTCUSDT"])
        real = {**known, "otoAllowed": True, "orderTypes": ["LIMIT", "MARKET", "STOP_LOSS", "NEW_ONE"], "status": "TRADING"}
        return {"symbols": [real, {**real, "symbol": "ETHUSDT", "status": "BREAK"}]}


def followed():
    told, now = Told(), [T0 + HOUR]
    return told, now, LiveMarket(told, now=lambda: now[0])


def test_following_orders_meet_the_last_price_seen_and_looks_are_shared():
    told, now, market = followed()
    assert market.source == "binance" and market.end_ms is None and market.first_ms == now[0]
    assert [market.price("BTCUSDT", now[0]) for _ in range(50)] == [100] * 50 and told.asked.count("price") == 1
    now[0] += 5000
    told.price = "95.5"
    assert market.price("BTCUSDT", now[0]) == D("95.5") and market.price("BTCUSDT", now[0] - 1) == 100
    assert list(market.prints("BTCUSDT", T0 + HOUR, now[0])) == [(now[0], D("95.5"), False)]
    assert market.reach("BTCUSDT", T0 + HOUR, now[0], D(97), None) == (D(100), (now[0], D("95.5"), False))
    assert market.reach("BTCUSDT", T0 + HOUR, now[0], D(95), D(101)) is None


def test_what_a_market_missed_before_its_first_look_is_laid_out_by_closed_minutes():
    _, now, market = followed()
    now[0] = T0 + HOUR + 30_000
    said = list(market.prints("BTCUSDT", T0 + HOUR - 2 * MINUTE - 1, now[0]))
    assert [p.ms for p in said] == [T0 + HOUR + d for d in (-120_000, -105_000, -75_000, -60_001, -60_000, -45_000, -15_000, -1, 30_000)]
    assert [p.opens for p in said] == [True, False, False, False] * 2 + [False]


def test_only_what_the_engine_can_do_is_offered_and_a_symbol_that_does_not_trade_is_halted():
    told, now, market = followed()
    entry = market.symbol("BTCUSDT")
    assert entry["orderTypes"] == ["LIMIT", "MARKET", "STOP_LOSS"]
    assert entry["ocoAllowed"] and not entry["otoAllowed"] and entry["quoteOrderQtyMarketAllowed"]
    assert list(entry) == list(listings.entry(listings.known()["BTCUSDT"])) and entry["baseAsset"] == "BTC"
    assert market.halted("ETHUSDT", now[0]) and not market.halted("BTCUSDT", now[0]) and market.symbol("X") is None
    assert market.klines("X", "1m", None, None, 5, now[0]) == [] and market.price("X", now[0]) is None
    assert market.klines("BTCUSDT", "1m", None, None, 5, now[0])[-1][0] == now[0]
    with pytest.raises(ValueError, match="not a timeframe"):
        market.klines("BTCUSDT", "2m", None, None, 5, now[0])
    assert told.asked.count("info") == 1


def test_a_real_market_out_of_reach_is_said_and_nothing_is_made_up():
    told, now, market = followed()
    told.down = True
    with pytest.raises(Unavailable, match="PAPER_MARKET=binance needs the network"):
        market.price("BTCUSDT", now[0])
    told.down = False
    market.price("BTCUSDT", now[0])
    told.down, now[0] = True, now[0] + DAY
    with pytest.raises(Unavailable):
        market.price("BTCUSDT", now[0])
    assert market.symbol("BTCUSDT") is not None  # the list of symbols outlives an outage


def test_following_the_real_market_needs_speed_1(home):
    with pytest.raises(SettingsError, match="PAPER_SPEED"):
        open_market(load({"BOTYARD_HOME": str(home), "PAPER_MARKET": "binance", "PAPER_SPEED": "2"}))
