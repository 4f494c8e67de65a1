"""The candle store: rows and chunks are one series, whatever was written by whom in what order."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError, NotFound
from core.market import chunks, timeframes
from core.market.bars import Bars, read_file
from core.market.history import BUSY_S, CandleStore, Series
from core.market.holes import Hole, Missing
from core.model import Venue
from tests.market_data import shared

MINUTE = 60_000
T0 = 1_700_000_000_000 // (1000 * MINUTE) * 1000 * MINUTE  # where a chunk of minutes begins
LIVE, PAPER = Venue(mode="live"), Venue(mode="paper", source="synthetic:1")
LATE = T0 + 10**12
ROOT = Path(__file__).resolve().parents[1]


def row(i: int, price: int = 0, timeframe: str = "1m") -> list:
    """The i-th candle from T0, in Binance's form; `price` tells two tellings of one candle apart."""
    seeded = random.Random(f"{i}/{price}")
    opened = seeded.randrange(10**6, 10**13)
    high, low = opened + seeded.randrange(10**5), opened - seeded.randrange(10**5)

    def text(value: int) -> str:
        return f"{value // 10**8}.{value % 10**8:08d}"

    ms = T0 + i * timeframes.length_ms(timeframe)
    volumes = [text(seeded.randrange(10**14)) for _ in range(4)]
    prices = [text(opened), text(high), text(low), text(seeded.randrange(low, high + 1))]
    return [ms, *prices, volumes[0], timeframes.close_ms(ms, timeframe), volumes[1], seeded.randrange(10**5), *volumes[2:], "0"]


def rows(*places: int) -> list[list]:
    return [row(i) for i in places]


@pytest.fixture
def store(tmp_path):
    made = CandleStore(tmp_path / "data/history.db")
    yield made
    made.close()


def tables(store: CandleStore) -> tuple[int, int]:
    """Rows, and candles in chunks."""
    db = sqlite3.connect(store.path)
    found = db.execute("SELECT (SELECT count(*) FROM candles), (SELECT coalesce(sum(count), 0) FROM chunks)").fetchone()
    db.close()
    return found


def test_a_thousand_settled_candles_become_one_chunk_and_are_read_to_the_letter(store):
    told = rows(*range(2500))
    store.fill(LIVE, "BTCUSDT", "1m", told, LATE)
    assert tables(store) == (0, 2500)
    assert list(store.rows(LIVE, "BTCUSDT", "1m")) == told
    assert store.read(LIVE, "BTCUSDT", "1m", 1700) == told[-1700:]
    assert store.read(LIVE, "BTCUSDT", "1m", 3, told[1001][0]) == told[999:1002]
    assert store.arrays(LIVE, "BTCUSDT", "1m") == Bars.from_rows(told, "BTCUSDT", "1m")
    assert store.arrays(LIVE, "BTCUSDT", "1m", told[10][0], told[1200][0]) == Bars.from_rows(told[10:1200], "BTCUSDT", "1m")


def test_what_bots_ask_for_stays_rows_so_that_their_reads_unpack_nothing(store, monkeypatch):
    told = rows(*range(3300))
    now = told[-1][0] + MINUTE
    store.fill(LIVE, "BTCUSDT", "1m", told, now)
    assert tables(store) == (1300, 2000)

    def never(*_):
        raise AssertionError("a bot's read unpacked a chunk")

    monkeypatch.setattr(chunks, "rows_of", never)
    assert store.closed(LIVE, "BTCUSDT", "1m", 1000, now) == told[-1000:]


def test_bots_reads_and_writes_load_no_numpy(tmp_path):
    code = """if True:
        import sys
        from core.market.history import CandleStore
        from core.model import Venue
        told = [[i * 60000, *["1.00000000"] * 5, i * 60000 + 59999, "1.0", 1, "1.0", "1.0", "0"] for i in range(1500)]
        store, venue = CandleStore(sys.argv[1]), Venue(mode="live")
        store.fill(venue, "A", "1m", told, 2**60)
        store.save(venue, "A", "1m", told[-5:], 2**60)
        assert store.read(venue, "A", "1m", 50) == told[-50:]
        assert "numpy" not in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "h.db")], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


KINDS = st.sampled_from(["save", "fill", "tidy", "forget"])
OPERATIONS = st.lists(st.tuples(KINDS, st.integers(0, 3400), st.integers(1, 60), st.integers(1, 7), st.integers(0, 3), st.integers(0, 6)), max_size=12)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(OPERATIONS)
def test_whatever_is_written_in_whatever_order_the_store_is_as_one_table_would_be(tmp_path_factory, operations):
    store = CandleStore(tmp_path_factory.mktemp("h") / "history.db")
    should: dict[int, list] = {}
    for what, first, number, step, telling, age in operations:
        now = T0 + (2000 + 1000 * age) * MINUTE
        told = [row(i, telling) for i in range(first, first + number * step, step)]
        if what in ("save", "fill"):
            getattr(store, what)(LIVE, "BTCUSDT", "1m", told, now)
            should |= {r[0]: r for r in told if r[6] < now}
        elif what == "tidy":
            store.tidy(now)
        else:
            before = T0 + first * MINUTE // 4
            store.forget_before(LIVE, "BTCUSDT", "1m", before)
            should = {ms: r for ms, r in should.items() if ms >= before}
        whole = [should[ms] for ms in sorted(should)]
        assert list(store.rows(LIVE, "BTCUSDT", "1m")) == whole
        assert store.arrays(LIVE, "BTCUSDT", "1m") == Bars.from_rows(whole, "BTCUSDT", "1m")
        assert store.read(LIVE, "BTCUSDT", "1m", 40) == whole[-40:]
        at = T0 + first * MINUTE
        assert store.read(LIVE, "BTCUSDT", "1m", 7, at) == [r for r in whole if r[0] <= at][-7:]
        assert [g[:3] for g in store.gaps(LIVE, "BTCUSDT", "1m", at, at + 90 * MINUTE)] == plain_gaps(should, at, at + 90 * MINUTE)
    store.close()


def plain_gaps(there: dict[int, list], start: int, end: int) -> list[tuple[int, int, int]]:
    made: list[tuple[int, int, int]] = []
    for ms in range(start, end, MINUTE):
        if ms not in there:
            joined = made and made[-1][1] == ms - MINUTE
            made[-1:] = [(made[-1][0], ms, made[-1][2] + 1)] if joined else [*made[-1:], (ms, ms, 1)]
    return made


def test_rows_that_a_chunk_could_not_give_back_to_the_letter_stay_rows(store):
    for odd in ({1: "1.5"}, {1: "1e3"}, {1: "01.00000000"}, {5: "-1.00000000"}, {6: 1}, {8: 2**62}, {5: "123456789012345678901.12345678"}):
        told = rows(*range(5))
        for at, value in odd.items():
            told[2][at] = value
        assert chunks.pack(told, "1m") is None, odd
        store.fill(LIVE, "BTCUSDT", "1m", told, LATE)
        assert tables(store) == (5, 0)
        assert list(store.rows(LIVE, "BTCUSDT", "1m")) == told
    assert store.tidy(LATE) == 0


def test_large_volumes_fit_because_zeros_are_not_kept(store):
    told = rows(*range(3))
    for r in told:
        r[5] = "98765432109876.00000000"
    store.fill(LIVE, "PEPEUSDT", "1m", told, LATE)
    assert tables(store) == (0, 3) and list(store.rows(LIVE, "PEPEUSDT", "1m")) == told
    assert store.arrays(LIVE, "PEPEUSDT", "1m").volume.tolist() == [98765432109876.0] * 3


@pytest.mark.parametrize("timeframe", ["1s", "3m", "1d", "3d", "1w", "1M"])
def test_every_timeframe_is_kept(store, timeframe):
    opens = [timeframes.floor(T0, timeframe)]
    while len(opens) < 30:
        opens.append(timeframes.next_open(opens[-1], timeframe))
    told = [[ms, *row(i)[1:6], timeframes.close_ms(ms, timeframe), *row(i)[7:]] for i, ms in enumerate(opens)]
    store.fill(LIVE, "BTCUSDT", timeframe, told[:20] + told[22:], 2**60)
    assert store.arrays(LIVE, "BTCUSDT", timeframe) == Bars.from_rows(told[:20] + told[22:], "BTCUSDT", timeframe)
    end = timeframes.next_open(opens[-1], timeframe)
    assert store.gaps(LIVE, "BTCUSDT", timeframe, opens[0], end) == [Missing(opens[20], opens[21], 2)]
    assert tables(store)[0] == (28 if timeframe == "1M" else 0)


def test_venues_symbols_and_timeframes_never_mix(store):
    store.fill(LIVE, "BTCUSDT", "1m", rows(0, 1), LATE)
    store.fill(PAPER, "BTCUSDT", "1m", rows(5), LATE)
    store.save(LIVE, "ETHUSDT", "1m", rows(7), LATE)
    assert store.series() == [
        Series("binance/spot/live", "BTCUSDT", "1m", T0, T0 + MINUTE, 2),
        Series("binance/spot/live", "ETHUSDT", "1m", T0 + 7 * MINUTE, T0 + 7 * MINUTE, 1),
        Series("binance/spot/paper/synthetic:1", "BTCUSDT", "1m", T0 + 5 * MINUTE, T0 + 5 * MINUTE, 1),
    ]
    assert store.venue_of("ETHUSDT", "1m") == "binance/spot/live"
    with pytest.raises(InputError, match="of 2 venues; name one of"):
        store.venue_of("BTCUSDT", "1m")
    with pytest.raises(NotFound, match="holds no BTCUSDT 5m candles; it holds BTCUSDT 1m"):
        store.venue_of("BTCUSDT", "5m")
    assert read_file(store.path, "BTCUSDT", "1m", PAPER).open_ms.tolist() == [T0 + 5 * MINUTE]


def test_open_candles_are_not_stored(store):
    store.fill(LIVE, "BTCUSDT", "1m", rows(0, 1, 2), T0 + 2 * MINUTE)
    store.save(LIVE, "BTCUSDT", "1m", rows(0, 1, 2), T0 + 2 * MINUTE)
    assert [r[0] for r in store.rows(LIVE, "BTCUSDT", "1m")] == [T0, T0 + MINUTE]


# --- what the exchange does not have ----------------------------------------------------------


def hole(first: int, last: int, reason: str = "none there", asked: int = 1) -> Hole:
    return Hole(T0 + first * MINUTE, T0 + last * MINUTE, reason, asked)


def test_holes_are_kept_with_reason_and_time_merged_and_taken_away_where_candles_arrive(store):
    store.fill(LIVE, "BTCUSDT", "1m", [], LATE, [hole(5, 9), hole(10, 12, asked=3), hole(20, 20, "other")])
    assert store.holes(LIVE, "BTCUSDT", "1m") == [hole(5, 12, asked=3), hole(20, 20, "other")]
    store.fill(LIVE, "BTCUSDT", "1m", rows(7, 12, 20), LATE)
    assert store.holes(LIVE, "BTCUSDT", "1m") == [hole(5, 6, asked=3), hole(8, 11, asked=3)]
    found = store.gaps(LIVE, "BTCUSDT", "1m", T0 + 4 * MINUTE, T0 + 14 * MINUTE)
    assert [((g.first_ms - T0) // MINUTE, (g.last_ms - T0) // MINUTE, g.missing, g.reason) for g in found] == [
        (4, 4, 1, None), (5, 6, 2, "none there"), (8, 11, 4, "none there"), (13, 13, 1, None),
    ]  # fmt: skip
    store.forget_before(LIVE, "BTCUSDT", "1m", T0 + 9 * MINUTE)
    assert store.holes(LIVE, "BTCUSDT", "1m") == [hole(9, 11, asked=3)]
    store.forget_holes(LIVE, "BTCUSDT", "1m")
    assert store.holes(LIVE, "BTCUSDT", "1m") == []


def test_of_two_reasons_for_one_candle_the_later_one_counts(store):
    store.fill(LIVE, "BTCUSDT", "1m", [], LATE, [hole(0, 9, "old", 1)])
    store.fill(LIVE, "BTCUSDT", "1m", [], LATE, [hole(4, 5, "new", 2)])
    assert store.holes(LIVE, "BTCUSDT", "1m") == [hole(0, 3, "old", 1), hole(4, 5, "new", 2), hole(6, 9, "old", 1)]


def test_the_unittest_series_has_538_gaps_and_717_missing_minutes_in_the_store_too(store):
    from core.market.candle_files import load

    told = load(shared("gaps/UNITTEST_BTC-1m.json.gz"), "1m").checked().rows
    store.fill(LIVE, "UNITTESTBTC", "1m", told, LATE)
    found = store.gaps(LIVE, "UNITTESTBTC", "1m", told[0][0], told[-1][0] + MINUTE)
    assert (len(found), sum(g.missing for g in found)) == (538, 717)


# --- files of other times ---------------------------------------------------------------------------

FIRST_TABLE = """CREATE TABLE candles (
    venue TEXT NOT NULL, symbol TEXT NOT NULL, timeframe TEXT NOT NULL, open_ms INTEGER NOT NULL,
    open TEXT NOT NULL, high TEXT NOT NULL, low TEXT NOT NULL, close TEXT NOT NULL, volume TEXT NOT NULL,
    close_ms INTEGER NOT NULL, quote_volume TEXT NOT NULL, trades INTEGER NOT NULL,
    taker_base TEXT NOT NULL, taker_quote TEXT NOT NULL, PRIMARY KEY (venue, symbol, timeframe, open_ms)) WITHOUT ROWID"""


def of_the_first_version(path: Path) -> list[list]:
    told = rows(*range(2300))
    path.parent.mkdir(exist_ok=True)
    db = sqlite3.connect(path)
    db.execute(FIRST_TABLE)
    db.executemany(f"INSERT INTO candles VALUES ({','.join('?' * 14)})", [("binance/spot/live", "BTCUSDT", "1m", *r[:11]) for r in told])
    db.commit()
    db.close()
    return told


def test_a_store_of_the_first_version_is_read_and_packed_without_losing_a_row(store):
    told = of_the_first_version(store.path)
    assert list(store.rows(LIVE, "BTCUSDT", "1m")) == told
    assert store.tidy(LATE) == 2300 and tables(store) == (0, 2300)
    assert list(store.rows(LIVE, "BTCUSDT", "1m")) == told and store.tidy(LATE) == 0


def test_a_reader_changes_no_file_not_even_one_of_the_first_version(store, tmp_path):
    told = of_the_first_version(store.path)
    before = store.path.read_bytes()
    assert read_file(store.path, "BTCUSDT", "1m") == Bars.from_rows(told, "BTCUSDT", "1m")
    assert store.path.read_bytes() == before
    with pytest.raises(InputError, match="no candle store"):
        sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE a (b)").connection.close()
        read_file(tmp_path / "other.db", "BTCUSDT", "1m")


def test_a_store_of_a_newer_version_is_left_alone(store):
    store.fill(LIVE, "BTCUSDT", "1m", rows(1), LATE)
    store.close()
    db = sqlite3.connect(store.path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(sqlite3.Error, match="of version 99"):
        store.read(LIVE, "BTCUSDT", "1m", 1)


def test_a_damaged_chunk_is_an_error_of_the_database_which_callers_expect(store):
    store.fill(LIVE, "BTCUSDT", "1m", rows(*range(1000)), LATE)
    db = sqlite3.connect(store.path)
    (blob,) = db.execute("SELECT main FROM chunks").fetchone()
    for broken in (b"", b"\0" + blob[1:], blob[:50] + bytes([blob[50] ^ 1]) + blob[51:], blob[:-9]):
        db.execute("UPDATE chunks SET main=?", (broken,))
        db.commit()
        for ask in (lambda: store.read(LIVE, "BTCUSDT", "1m", 5), lambda: store.arrays(LIVE, "BTCUSDT", "1m")):
            with pytest.raises(sqlite3.Error, match="chunk of stored candles"):
                ask()
    db.close()
    assert BUSY_S <= 2


WRITER = """
import random, sys, time
sys.path.insert(0, sys.argv[3])
from core.market.history import CandleStore
from core.model import Venue
from tests.test_history import LATE, LIVE, row
number, path = int(sys.argv[1]), sys.argv[2]
store, seeded = CandleStore(path, busy_s=30), random.Random(number)
pages = [range(i, i + 250) for i in range(0, 6000, 250) if (i // 250) % 2 == number % 2 or number > 1]
seeded.shuffle(pages)
for page in pages:
    told = [row(i) for i in page if i % 97]
    kind = seeded.choice(["fill", "save"])
    getattr(store, kind)(LIVE, "BTCUSDT", "1m", told, LATE)
    if seeded.random() < 0.3:
        store.tidy(LATE)
    assert {tuple(r) for r in store.rows(LIVE, "BTCUSDT", "1m")} >= {tuple(r) for r in told}
"""


def test_four_processes_that_write_one_series_at_once_lose_and_double_nothing(store, tmp_path):
    children = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(n), str(store.path), str(ROOT)], stderr=subprocess.PIPE, text=True, cwd=ROOT) for n in range(4)
    ]
    ends = [(child.communicate(timeout=90)[1], child.returncode) for child in children]
    assert [code for _, code in ends] == [0] * 4, ends
    should = [row(i) for i in range(6000) if i % 97]
    assert list(store.rows(LIVE, "BTCUSDT", "1m")) == should
    made = store.arrays(LIVE, "BTCUSDT", "1m")
    assert made == Bars.from_rows(should, "BTCUSDT", "1m") and len(np.unique(made.open_ms)) == len(should)
    store.tidy(LATE)
    assert tables(store) == (0, len(should))
