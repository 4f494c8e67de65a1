"""Candles as columns of integers, and the files that they are read from."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError
from core.market import candle_files, quick_files
from core.market.bars import Bars, Gap, floats, price_text, read_file, units
from strategies.tables import frame
from tests.market_data import shared

MINUTE = 60_000
T0 = 1_700_000_040_000
HEADER = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore\n"


def row(minute: int, price: str = "10", volume: str = "1") -> list:
    return [minute * MINUTE, price, price, price, price, volume]


def csv_line(minute: int, close: str = "10.5", micro: bool = False) -> str:
    opened = (T0 + minute * MINUTE) * (1000 if micro else 1)
    closed = opened + (MINUTE * 1000 - 1 if micro else MINUTE - 1)
    return f"{opened},10.00000000,11.00000000,9.00000000,{close},2.5,{closed},25.1,7,1.25,12.6,0\n"


@settings(derandomize=True)
@given(st.integers(0, 2**63 - 1))
def test_a_price_goes_to_an_integer_and_back_without_loss(number):
    assert units(price_text(number)) == number
    assert units(Decimal(number).scaleb(-8)) == number
    assert floats(np.array([number]))[0] == float(price_text(number))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1", 10**8),
        ("0.1", 10**7),
        (".5", 5 * 10**7),
        ("1e-8", 1),
        ("1E+2", 10**10),
        ("1.0000000000", 10**8),
        ("-2.5", -25 * 10**7),
        (7, 7 * 10**8),
        ("0e99", 0),
    ],
)
def test_every_way_to_write_a_price_is_read(text, found):
    assert units(text) == found


UNFIT = [
    "",
    "x",
    "NaN",
    "inf",
    "1,5",
    "1_0",
    "٣.٥",
    "1e-9",
    "0.123456789",
    "1." + "0" * 31 + "1",
    "1e11",
    "92233720368.54775808",
    "1e999999999",
    "1e-999999999",
]


@pytest.mark.parametrize("text", UNFIT)
def test_a_price_that_does_not_fit_is_refused_at_once(text):
    with pytest.raises(ValueError, match=r"not a number|more than 8 decimals|too large"):
        units(text)


def test_a_float_is_no_price():
    with pytest.raises(TypeError, match="must be decimal text"):
        units(0.1)


def test_columns_are_cut_by_time_and_can_not_be_written():
    made = Bars.from_rows([row(i) for i in range(10)], "BTCUSDT", "1m")
    assert made.slice(2 * MINUTE, 5 * MINUTE).open_ms.tolist() == [2 * MINUTE, 3 * MINUTE, 4 * MINUTE]
    assert made.slice(2 * MINUTE + 1).open_ms[0] == 3 * MINUTE and len(made.slice(None, 0)) == 0
    assert made.length_ms == MINUTE and made == made.cut(None, None) and made != made.cut(1, None)
    with pytest.raises(ValueError, match="read-only"):
        made.close[0] = 1


def test_columns_of_another_kind_length_or_order_are_refused():
    one = np.ones(1, np.int64)
    with pytest.raises(TypeError, match="must be int64"):
        Bars("A", "1m", one, one.astype(float), one, one, one, one.astype(float))
    with pytest.raises(ValueError, match="one length"):
        Bars("A", "1m", one, np.ones(2, np.int64), one, one, one, one.astype(float))
    with pytest.raises(ValueError, match="ascend"):
        Bars.from_rows([row(1), row(1)], "A", "1m")


def test_the_table_of_the_columns_is_the_one_that_a_bot_hands_to_its_strategy():
    told = json.loads(gzip.decompress(shared("spot-5m/BTC_USDT-5m.json.gz").read_bytes()), parse_float=str)[:3000]
    made = Bars.from_rows(told, "BTCUSDT", "5m").frame()
    assert made.equals(frame(told))


def test_gaps_are_told_with_their_first_and_last_missing_candle():
    made = Bars.from_rows([row(0), row(1, volume="0"), row(4), row(6)], "A", "1m")
    assert made.gaps() == [Gap(2 * MINUTE, 3 * MINUTE, 2), Gap(5 * MINUTE, 5 * MINUTE, 1)]
    day = 86_400_000
    months = Bars.from_rows([[0, 1, 1, 1, 1, 1], [(31 + 28 + 31) * day, 1, 1, 1, 1, 1]], "A", "1M")
    assert months.gaps() == [Gap(31 * day, 59 * day, 2)] and Bars.empty("A", "1M").gaps() == []


def test_the_unittest_file_has_538_gaps_and_717_missing_minutes():
    found = read_file(shared("gaps/UNITTEST_BTC-1m.json.gz"), "UNITTESTBTC", "1m").gaps()
    assert (len(found), sum(g.missing for g in found)) == (538, 717)


@pytest.mark.parametrize("name", ["BTC", "ETH"])
def test_the_5m_files_have_the_six_outages_of_the_catalogue(name):
    made = read_file(shared(f"spot-5m/{name}_USDT-5m.json.gz"), f"{name}USDT", "5m")
    catalogue = [
        ("2020-12-21T14:05", "2020-12-21T18:00"), ("2020-12-25T01:55", "2020-12-25T03:00"), ("2021-02-11T03:40", "2021-02-11T05:00"),
        ("2021-03-06T01:55", "2021-03-06T03:30"), ("2021-04-20T01:55", "2021-04-20T04:30"), ("2021-04-25T04:00", "2021-04-25T08:45"),
    ]  # fmt: skip
    last_before = [str(np.datetime64(g.first_ms - 300_000, "ms"))[:16] for g in made.gaps()]
    first_after = [str(np.datetime64(g.last_ms + 300_000, "ms"))[:16] for g in made.gaps()]
    assert list(zip(last_before, first_after, strict=True)) == catalogue
    assert sum(g.missing for g in made.gaps()) == 177 and int((made.volume == 0).sum()) == 28


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("header", ["", HEADER])
@pytest.mark.parametrize("micro", [False, True])
def test_binances_csv_is_read_zipped_or_not_with_ms_or_microseconds(tmp_path, zipped, header, micro):
    text = header + csv_line(1, micro=micro) + csv_line(2, micro=micro)
    path = tmp_path / ("a.csv.gz" if zipped else "a.csv")
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    made = read_file(path, "BTCUSDT", "1m")
    assert made.open_ms.tolist() == [T0 + MINUTE, T0 + 2 * MINUTE] and made.close.tolist() == [1_050_000_000] * 2 and made.volume.tolist() == [2.5, 2.5]


BAD_ROWS = {
    "the close is 'NaN'": [[1 * MINUTE, 1, 1, 1, float("nan"), 1]],
    "more than 8 decimals": [row(1, "0.123456789")],
    "is too large; it must lie below": [row(1, "92233720369")],
    "the high 1.00000000 lies below the low 2.00000000": [[MINUTE, 1, 1, 2, 1, 1]],
    "the open 3.00000000 lies outside": [[MINUTE, 3, 2, 1, 2, 1]],
    "the close 0.50000000 lies outside": [[MINUTE, 1, 2, 1, "0.5", 1]],
    "not above 0": [row(1, "-1")],
    "a volume is negative": [row(1, "1", "-1")],
    "no 1m candle opens at 60001": [[MINUTE + 1, 1, 1, 1, 1, 1]],
    "rows must ascend": [row(2), row(1)],
    "is there already": [row(1), row(1, "11")],
    "the open time is 'x'": [["x", 1, 1, 1, 1, 1]],
    "the volume 1e20 is too large": [row(1, "1", "1e20")],
    "is not a candle": [[1, 2, 3]],
    "holds no candle": [],
}


@pytest.mark.parametrize("why", BAD_ROWS)
def test_a_file_that_can_not_be_trusted_is_refused_with_file_line_and_remedy(tmp_path, why):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(BAD_ROWS[why]))
    with pytest.raises(InputError) as e:
        read_file(path, "BTCUSDT", "1m")
    told = str(e.value)
    assert why in told and str(path) in told and ("must" in told or "Correct" in told)
    assert why == "holds no candle" or f"line {len(BAD_ROWS[why])}" in told


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\x1f\x8b\x08cut", "not a whole gzip"),
        (b"PK\x03\x04rest", "zip archive.*unpack"),
        (b"\xff\xfe\x00", "not text"),
        (b'{"a":1}', "not a list"),
        (b"[[1,", "not JSON"),
        (b"1,2,3\n", "3 columns"),
        (None, "can't be read"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, content, why):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=why):
        read_file(path, "BTCUSDT", "1m")


def test_rows_told_twice_alike_count_once_and_an_unknown_timeframe_is_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([row(1), row(1), row(2)]))
    assert len(read_file(path, "A", "1m")) == 2
    with pytest.raises(InputError, match="not a timeframe"):
        read_file(path, "A", "7m")


REAL = ["spot-5m/BTC_USDT-5m", "spot-5m/COCOS_USDT-5m", "spot-5m/GRT_USDT-5m", "spot-1h/ETH_USDT-1h", "gaps/UNITTEST_BTC-1m", "resample/BTC_USDT-1h"]


@pytest.mark.parametrize("name", REAL)
def test_the_quick_way_and_the_careful_one_read_real_files_alike(name):
    path, timeframe = shared(name + ".json.gz"), name.rpartition("-")[2]
    careful = Bars.from_rows(candle_files.load(path, timeframe).rows, "A", timeframe)
    assert read_file(path, "A", timeframe) == careful
    quick = quick_files.read(gzip.decompress(path.read_bytes()), "A", timeframe)
    assert quick == careful or (quick is None and name[8:13] in ("COCOS", "GRT_U", "TTEST"))  # volumes with traces of floats, exponents


@settings(derandomize=True, max_examples=200)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 10**17), st.integers(0, 9), st.integers(0, 10**17), st.integers(0, 9)), min_size=1, max_size=4),
    st.booleans(),
)
def test_the_quick_way_reads_what_the_careful_one_reads_or_nothing(tmp_path_factory, told, as_csv):
    def text(digits: int, decimals: int) -> str:
        return f"{digits // 10**decimals}.{digits % 10**decimals:0{decimals}d}" if decimals else str(digits)

    ms, rows = T0, []
    for step, price, decimals, volume, more in told:
        ms += step * MINUTE
        rows.append([ms, *[text(price, decimals)] * 4, text(volume, more)])
    content = "".join(",".join(map(str, [*r, r[0] + 59_999, "1", "2", "3", "4", "0"])) + "\n" for r in rows) if as_csv else json.dumps(rows).replace('"', "")
    quick = quick_files.read(content.encode(), "A", "1m")
    path = tmp_path_factory.mktemp("q") / "a"
    path.write_text(content)
    found = candle_files.load(path, "1m")
    if quick is not None:
        assert not found.problems and quick == Bars.from_rows(found.rows, "A", "1m")
    elif not found.problems:
        assert any(max(price, volume) > 2**53 or max(decimals, more) > 8 for _, price, decimals, volume, more in told)


NOT_PLAIN = [
    b"",
    b"[]",
    b"[[1]]",
    b"1,2\n",
    b"[[60000,1,1,1,1,1e2]]",
    b"[[60000,-1,1,1,1,1]]",
    b"[[60000,1,2,3,1,1]]",
    b"[[60001,1,1,1,1,1]]",
    b"[[60000,1.,1,1,.5,1]]",
]


@pytest.mark.parametrize(
    "content", [*NOT_PLAIN, b"[[60000,1..1,1,1,1,1]]", b"[[60000,,1,1,1,1,1]]", b"[[60000,1,1,1,1,1],[0,1,1,1,1,1]]", b"[[60000,1,1,1,1],[1,2,3,4,5,6,7]]"]
)
def test_what_is_not_plain_is_left_to_the_careful_way(content):
    assert quick_files.read(content, "A", "1m") is None
