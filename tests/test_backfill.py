"""utils/backfill.py against the real paper exchange: fetching, resuming, waiting, importing, exporting, checking."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
import requests

from core.errors import NotFound, RateLimited, Unavailable
from core.market.backfill import Backfill, pages
from core.market.history import CandleStore
from core.market.holes import Missing
from core.model import Candles, Venue
from patience import patience
from tests.processes import ROOT, Home, until
from tests.test_history import LATE, LIVE, MINUTE, T0, row
from utils.backfill import main

COMMAND = "utils/backfill.py"
MINUTES = 26_000
GONE = (*range(100, 160), *range(4000, 6500), 9000, *range(25_000, 25_003))  # no candle of the file


def candle_file(folder: Path) -> Path:
    """A market of minutes with gaps: one of two and a half pages, one of a single candle."""
    folder.mkdir()
    seeded, price, rows, gone = random.Random(7), 10_000, [], set(GONE)
    for i in range(MINUTES):
        opened, price = price, max(price + seeded.randrange(-9, 10), 100)
        high, low = max(opened, price) + seeded.randrange(5), min(opened, price) - seeded.randrange(5)
        if i not in gone:
            rows.append([T0 + i * MINUTE, *(f"{v / 100:.2f}" for v in (opened, high, low, price)), f"{seeded.randrange(10**6) / 1000:.3f}"])
    path = folder / "AAA_USDT-1m.json.gz"
    path.write_bytes(gzip.compress(json.dumps(rows).encode()))
    return path


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backfill")
    path = candle_file(folder / "minutes")
    made = Home(folder / "home", PAPER_MARKET="replay", PAPER_DATA=str(path.parent), PAPER_START=str(T0 + 25_500 * MINUTE), PAPER_SPEED="0")
    made.paper()
    yield made
    made.end()


@pytest.fixture
def home(market):
    """The market, and an empty store."""
    for name in ("history.db", "history.db-wal", "history.db-shm", "budget.db"):
        (market.path / "data" / name).unlink(missing_ok=True)
    yield market
    requests.delete(market.url + "/paper/faults", timeout=patience(5))


def run(home: Home, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command in this process: a new one costs more than what it does."""
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.dict(os.environ, {**home.env, **env}, clear=True), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(list(arguments))
        except SystemExit as e:
            code = int(e.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def contents(home: Home) -> tuple[list, list]:
    store = CandleStore(home.path / "data/history.db")
    key = store.venue_of("AAAUSDT", "1m")
    found = list(store.rows(key, "AAAUSDT", "1m")), [hole[:3] for hole in store.holes(key, "AAAUSDT", "1m")]
    store.close()
    return found


def should(home: Home) -> tuple[list, list]:
    """What the exchange has, asked page by page without the store."""
    rows: list = []
    page: list = [None] * 1000
    while len(page) == 1000:
        start = rows[-1][0] + MINUTE if rows else 0
        page = requests.get(home.url + "/api/v3/klines", params={"symbol": "AAAUSDT", "interval": "1m", "limit": 1000, "startTime": start}, timeout=60).json()
        rows += page
    rows = [r for r in rows if r[6] < T0 + 25_500 * MINUTE]
    why = "the exchange answered without it, but has later ones"
    at = [T0 + i * MINUTE for i in (100, 159, 4000, 6499, 9000, 9000, 25_000, 25_002)]
    return rows, [(first, last, why) for first, last in zip(at[::2], at[1::2], strict=True)]


def test_everything_is_fetched_once_and_what_is_not_there_is_not_asked_for_again(home):
    done = run(home, "AAAUSDT", "--timeframe", "1m,1h", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [(s["timeframe"], s["stored"], s["not_there"]) for s in told["series"]] == [("1m", 25_500 - len(GONE), len(GONE)), ("1h", 384, 41)]
    assert contents(home) == should(home)
    again = json.loads(run(home, "AAAUSDT", "--timeframe", "1m,1h", "--json").stdout)
    assert again["requests"] == 6 and all(s["stored"] == s["not_there"] == 0 for s in again["series"])
    asked_again = json.loads(run(home, "AAAUSDT", "--timeframe", "1m", "--recheck", "--json").stdout)
    assert asked_again["series"][0]["not_there"] == len(GONE) and contents(home) == should(home)
    checked = run(home, "--check")
    assert checked.returncode == 0 and "4 gaps, 2,564 candles, that the exchange does not have" in checked.stdout


def test_a_backfill_that_is_killed_at_any_moment_ends_with_the_same_store(home):
    seeded, kills = random.Random(5), 0
    while True:
        child = subprocess.Popen(
            [sys.executable, COMMAND, "AAAUSDT", "--timeframe", "1m"], cwd=ROOT, env=home.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if kills < 6:
            before = page_count(home)
            with contextlib.suppress(AssertionError):
                until(lambda child=child, before=before: child.poll() is not None or page_count(home) > before, "a page", 20)
            time.sleep(seeded.random() * 0.03)  # anywhere within the next pages
        else:
            child.wait(60)
        if child.poll() is None:
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        if child.wait() == 0:
            break
    assert kills >= 3
    assert contents(home) == should(home)
    assert json.loads(run(home, "AAAUSDT", "--timeframe", "1m", "--json").stdout)["requests"] == 3


def page_count(home: Home) -> int:
    import sqlite3

    path = home.path / "data/history.db"
    if not path.exists():
        return 0
    db = sqlite3.connect(path, timeout=patience(5))
    try:
        return int(db.execute("SELECT (SELECT count(*) FROM chunks) + (SELECT count(*) FROM holes) + (SELECT count(*) > 0 FROM candles)").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        db.close()


def test_four_backfills_and_a_bots_saves_at_once_lose_and_double_nothing(home):
    rows, lacking = should(home)
    children = [
        subprocess.Popen(
            [sys.executable, COMMAND, "AAAUSDT", "--timeframe", "1m"], cwd=ROOT, env=home.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    store = CandleStore(home.path / "data/history.db", busy_s=20)
    venue, at = Venue(source="replay:minutes"), 0
    while any(child.poll() is None for child in children):
        at = (at + 611) % len(rows)
        store.save(venue, "AAAUSDT", "1m", rows[at : at + 100], LATE)
    store.close()
    ends = [(child.communicate()[1], child.returncode) for child in children]
    assert [code for _, code in ends] == [0] * 4, ends
    assert contents(home) == (rows, lacking)


def test_a_rate_limit_is_waited_out_and_a_failing_exchange_tried_again(home):
    home.post("/paper/faults", {"method": "GET", "path": "/api/v3/klines", "fault": "rate_limit", "times": 1, "params": {"seconds": 1}})
    home.post("/paper/faults", {"method": "GET", "path": "/api/v3/klines", "fault": "error", "times": 4, "params": {"status": 503, "code": -1000, "msg": "no"}})
    done = run(home, "AAAUSDT", "--timeframe", "1m", "--from", str(T0 + 23_000 * MINUTE))
    assert done.returncode == 0 and "waiting" in done.stderr, done.stderr
    assert contents(home)[0] == [r for r in should(home)[0] if r[0] >= T0 + 23_000 * MINUTE]


def test_only_the_asked_time_is_fetched_and_only_what_is_kept_stays(home):
    run(home, "AAAUSDT", "--timeframe", "1m", "--from", str(T0 + 20_000 * MINUTE), "--to", str(T0 + 21_000 * MINUTE))
    rows, _ = should(home)
    assert contents(home) == ([r for r in rows if T0 + 20_000 * MINUTE <= r[0] < T0 + 21_000 * MINUTE], [])
    done = run(home, "AAAUSDT", "--timeframe", "1m", "--keep", "4d")
    assert done.returncode == 0 and "1,000 candles older than 4 days dropped" not in done.stdout
    now = T0 + 25_500 * MINUTE
    assert contents(home)[0] == [r for r in rows if r[0] >= now - 4 * 1440 * MINUTE]
    done = run(home, "AAAUSDT", "--timeframe", "1m", "--keep", "1d")
    assert "4,320 candles older than 1 days dropped" in done.stdout, done.stdout
    assert contents(home)[0] == [r for r in rows if r[0] >= now - 1440 * MINUTE]


def test_public_candles_of_live_need_no_keys(home):
    done = run(home, "AAAUSDT", "--timeframe", "1h", "--mode", "live", BINANCE_URL=home.url)
    assert done.returncode == 0 and "(binance/spot/live)" in done.stdout, done.stderr


def test_an_unknown_symbol_is_named_and_the_others_are_fetched(home):
    done = run(home, "NOPE", "AAAUSDT", "--timeframe", "1h")
    assert done.returncode == 2 and "NOPE 1h: Invalid symbol" in done.stderr and "AAAUSDT 1h" in done.stdout


# --- files -----------------------------------------------------------------------------------


def test_an_export_is_imported_again_to_the_letter_in_all_three_forms(home, tmp_path):
    run(home, "AAAUSDT", "--timeframe", "1m", "--from", str(T0 + 24_000 * MINUTE))
    rows, _ = contents(home)
    for name in ("a.csv", "a.csv.gz"):
        assert run(home, "AAAUSDT", "--timeframe", "1m", "--export", str(tmp_path / name)).returncode == 0
    (tmp_path / "a.json").write_text(json.dumps([[r[0], *map(float, r[1:6])] for r in rows]))
    for n, path in enumerate((tmp_path / "a.csv", tmp_path / "a.csv.gz", home.path / "data/history.db", tmp_path / "a.json")):
        other = Home(tmp_path / f"other{n}")
        done = run(other, "AAAUSDT", "--timeframe", "1m", "--file", str(path), "--mode", "live")
        assert done.returncode == 0 and f"{len(rows):,} new candles" in done.stdout, done.stderr
        store = CandleStore(other.path / "data/history.db")
        found = list(store.rows("binance/spot/live", "AAAUSDT", "1m"))
        store.close()
        assert found == rows if path.suffix != ".json" else [r[:7] for r in found] == [r[:7] for r in rows]
        again = run(other, "AAAUSDT", "--timeframe", "1m", "--file", str(path), "--mode", "live")
        assert f"0 new candles, {len(rows):,} that were there already, 0 replaced" in again.stdout
    shown = run(home, "AAAUSDT", "--timeframe", "1m", "--export", "-")
    assert shown.stdout == (tmp_path / "a.csv").read_text() and "candles written" in shown.stderr


def test_a_file_that_contradicts_the_store_is_refused_unless_it_is_said_to_be_right(tmp_path):
    home = Home(tmp_path / "home")
    arguments = ["AAAUSDT", "--timeframe", "1m", "--mode", "live", "--file"]
    first, second, last = tmp_path / "1.json", tmp_path / "2.json", tmp_path / "3.json"
    first.write_text(json.dumps([row(i)[:6] for i in range(10)]))
    second.write_text(json.dumps([row(i, telling)[:6] for i, telling in ((3, 0), (4, 1), (12, 0))]))
    last.write_text(json.dumps([row(i, telling)[:6] for i, telling in ((3, 0), (4, 1))]))
    assert run(home, *arguments, str(first)).returncode == 0
    refused = run(home, *arguments, str(second))
    assert refused.returncode == 2 and "contradicts the store on 1 candles" in refused.stderr and "--replace" in refused.stderr
    assert "may have been unfinished" in run(home, *arguments, str(last)).stdout
    store = CandleStore(home.path / "data/history.db")
    assert [r[1:6] for r in store.rows(LIVE, "AAAUSDT", "1m")] == [row(i)[1:6] for i in range(10)]
    assert "1 new candles, 1 that were there already, 1 replaced" in run(home, *arguments, str(second), "--replace").stdout
    assert [r[1:6] for r in store.rows(LIVE, "AAAUSDT", "1m")] == [row(i, int(i == 4))[1:6] for i in (*range(10), 12)]
    store.close()


def test_a_file_with_wrong_lines_is_refused_whole_and_check_names_each_of_them(tmp_path):
    home, path = Home(tmp_path / "home"), tmp_path / "bad.json"
    rows = [row(i)[:6] for i in range(30)]
    rows[3][2], rows[5][0], rows[9][5], rows[12] = "1", rows[5][0] + 1, "-1", rows[11]
    rows[20][1], rows[25][4] = "nan", "0.123456789"
    path.write_text(json.dumps(rows))
    taken = run(home, "AAAUSDT", "--timeframe", "1m", "--mode", "live", "--file", str(path))
    assert taken.returncode == 2 and "nothing of it was taken" in taken.stderr and "line 4:" in taken.stderr
    assert json.loads(run(home, "--list", "--json").stdout) == {"series": []}
    checked = run(home, "AAAUSDT", "--timeframe", "1m", "--file", str(path), "--check", "--json")
    (found,) = json.loads(checked.stdout)["series"]
    assert checked.returncode == 1
    kinds = [(p["kind"], p["line"]) for p in found["problems"]]
    assert kinds == [("impossible", 4), ("off_grid", 6), ("impossible", 10), ("number", 21), ("too_fine", 26), ("duplicate", None)]


def test_check_finds_gaps_and_impossible_candles_in_the_store(tmp_path):
    home = Home(tmp_path / "home")
    store = CandleStore(home.path / "data/history.db")
    told = [row(i) for i in range(20) if i not in (7, 8)]
    told[2][2] = "0.00000001"  # a high below the low
    told[4][5] = "-1.00000000"
    told[5][0] += 1
    store.save(LIVE, "AAAUSDT", "1m", told, LATE)
    done = run(home, "--check", "--json")
    (found,) = json.loads(done.stdout)["series"]
    assert done.returncode == 1 and [p["kind"] for p in found["problems"]] == ["off_grid", "impossible", "impossible"]
    assert [(g["first_ms"] - T0) // MINUTE for g in found["gaps"]] == [5, 7] and [g["missing"] for g in found["gaps"]] == [1, 2]
    told[4][1] = "NaN"
    store.save(LIVE, "AAAUSDT", "1m", told, LATE)
    store.close()
    done = run(home, "--check")
    assert done.returncode == 1 and "number: the open is 'NaN'" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "name at least one symbol"),
        (["AAAUSDT", "--timeframe", "7m"], "not a timeframe"),
        (["AAAUSDT", "--from", "yesterday"], "UTC time"),
        (["AAAUSDT", "--keep", "1y"], "number of days"),
        (["AAAUSDT", "BBBUSDT", "--file", "x.csv"], "one symbol"),
        (["AAAUSDT", "--file", "x.csv", "--mode", "live"], "x.csv: can't be read"),
        (["AAAUSDT", "--export", "x.csv", "--mode", "live"], "holds no AAAUSDT"),
        (["AAAUSDT", "--replace"], "goes with --file"),
        (["AAAUSDT", "--check"], "holds nothing of that"),
        (["AAAUSDT", "--file", "x.csv"], "which paper market"),
    ],
)
def test_wrong_arguments_are_told_with_what_would_be_right(tmp_path, arguments, why):
    done = run(Home(tmp_path / "home"), *arguments)
    assert done.returncode == 2 and why in done.stderr, done.stderr


def test_without_the_paper_exchange_the_command_says_who_starts_it(tmp_path):
    done = run(Home(tmp_path / "home"), "AAAUSDT")
    assert done.returncode == 3 and "python3 -m core.paper" in done.stderr


# --- the rules, without processes ------------------------------------------------------------------


class Few:
    """An exchange of twelve candles; `troubles` are raised first."""

    venue = LIVE

    def __init__(self, *troubles: Exception, speed: float = 0.0):
        self.troubles, self.asked, self.speed, self.cut = list(troubles), 0, speed, 0

    def time(self):
        from core.exchange import TimeReading

        return TimeReading(T0 + 12 * MINUTE, T0 + 12 * MINUTE, self.speed)

    def candles(self, symbol, timeframe, limit, start_ms=None):
        self.asked += 1
        if self.troubles:
            raise self.troubles.pop(0)
        cut = self.cut if limit > 2 else 0
        self.cut -= cut > 0
        rows = [row(i) for i in range(13) if symbol == "AAAUSDT" and not (cut and 3 <= i <= 8)]
        return Candles(symbol, timeframe, [r for r in rows if r[0] >= start_ms][:limit] if start_ms is not None else rows[-limit:])


def test_a_ban_is_waited_out_and_failures_end_after_eight_in_a_row(tmp_path):
    slept: list[float] = []
    store = CandleStore(tmp_path / "h.db")
    exchange = Few(RateLimited("banned", 130.0), Unavailable("down"), Unavailable("down"), RateLimited("slow", 0))
    backfill = Backfill(exchange, store, sleep=slept.append)  # type: ignore[arg-type]
    backfill.run(backfill.plan("AAAUSDT", "1m"))
    assert slept == [130.0, 1.0, 2.0, 1.0] and list(store.rows(LIVE, "AAAUSDT", "1m")) == [row(i) for i in range(12)]
    with pytest.raises(Unavailable):
        Backfill(Few(*[Unavailable("down")] * 9), store, sleep=slept.append).plan("AAAUSDT", "1m")  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="no closed 1m candle of BBB"):
        Backfill(Few(), store).plan("BBB", "1m")  # type: ignore[arg-type]
    store.close()


def test_what_one_answer_lacks_is_asked_for_again_before_it_is_called_missing(tmp_path):
    store, exchange = CandleStore(tmp_path / "h.db"), Few()
    exchange.cut = 1  # the first page comes without six candles
    backfill = Backfill(exchange, store)  # type: ignore[arg-type]
    backfill.run(backfill.plan("AAAUSDT", "1m"))
    assert list(store.rows(LIVE, "AAAUSDT", "1m")) == [row(i) for i in range(12)] and store.holes(LIVE, "AAAUSDT", "1m") == []
    store.close()


@pytest.mark.parametrize(("speed", "pause"), [(0.0, 0), (1.0, 1 / 15), (60.0, 1 / 900)])
def test_requests_are_paced_to_half_of_the_pages_share(tmp_path, speed, pause):
    slept: list[float] = []
    store = CandleStore(tmp_path / "h.db")
    store.fill(LIVE, "AAAUSDT", "1m", [row(3), row(7)], LATE)
    backfill = Backfill(Few(speed=speed), store, sleep=slept.append, monotonic=lambda: 0.0)  # type: ignore[arg-type]
    backfill.run(backfill.plan("AAAUSDT", "1m"))
    assert slept == pytest.approx([pause] * 3 if pause else [])
    store.close()


def test_pages_go_backwards_and_end_where_chunks_do():
    def gap(first: int, last: int) -> Missing:
        return Missing(T0 + first * MINUTE, T0 + last * MINUTE, last - first + 1)

    found = [((a - T0) // MINUTE, (b - T0) // MINUTE) for a, b in pages([gap(5, 5), gap(900, 3100)], "1m")]
    assert found == [(3000, 3100), (2000, 2999), (1000, 1999), (900, 999), (5, 5)]
    months = list(pages([Missing(0, 86_400_000 * 31, 2)], "1M"))
    assert months == [(0, 86_400_000 * 31)]
