"""What the candle store costs: bytes a candle and the time to columns, from 10^4 candles up.

    python3 benchmarks/history.py                        10^4, 10^5 and 10^6 candles, beside plain tables
    python3 benchmarks/history.py --candles 5000000 --no-tables
    python3 benchmarks/history.py --file BTC_USDT-1m.json.gz --timeframe 1m     the candles of a file

Candles are a seeded random walk of minutes with all of Binance's columns. The plain tables are
what the store could have been: rows of text (as its first version was), rows of integers.
Everything is in a temporary folder.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from core.market import candle_files
from core.market.bars import Bars, floats, units
from core.market.history import CandleStore
from core.model import KlineRow

MINUTE, PAGE = 60_000, 1000
T0 = 1_600_000_000_000 // (PAGE * MINUTE) * PAGE * MINUTE
VENUE, SYMBOL = "binance/spot/live", "BTCUSDT"


def walk(number: int, seed: int = 1) -> Iterator[list[KlineRow]]:
    """Pages of a random walk."""
    random, last = np.random.default_rng(seed), 20_000.0
    for start in range(0, number, PAGE):
        n = min(PAGE, number - start)
        close = np.round(last * np.exp(np.cumsum(random.normal(0, 0.0005, n))), 2)
        opened = np.concatenate(([last], close[:-1]))
        high = np.round(np.maximum(opened, close) + random.exponential(5, n), 2)
        low = np.round(np.minimum(opened, close) - random.exponential(5, n), 2)
        volume = np.round(random.lognormal(3, 1, n), 5)
        taken = np.round(volume * random.random(n), 5)
        columns = [[f"{v:.8f}" for v in column] for column in (opened, high, low, close, volume, volume * close, taken, taken * close)]
        times, trades = [T0 + (start + i) * MINUTE for i in range(n)], random.integers(1, 3000, n).tolist()
        last = float(close[-1])
        yield [
            [ms, o, h, lo, c, v, ms + MINUTE - 1, q, k, tb, tq, "0"]
            for ms, o, h, lo, c, v, q, k, tb, tq in zip(times, *columns[:6], trades, *columns[6:], strict=True)
        ]


def timed(what: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = what()
    return time.perf_counter() - began, found


def chunks(folder: Path, pages: Callable[[], Iterator[list[KlineRow]]], timeframe: str) -> tuple[float, float, float, Bars]:
    path = folder / "chunks.db"
    store = CandleStore(path)
    written = 0.0
    for page in pages():
        began = time.perf_counter()
        store.fill(VENUE, SYMBOL, timeframe, page, 2**60)
        written += time.perf_counter() - began
    store.close()
    size = path.stat().st_size
    store = CandleStore(path, read_only=True)
    took, found = min((timed(lambda: store.arrays(VENUE, SYMBOL, timeframe)) for _ in range(3)), key=lambda t: t[0])
    store.close()
    return written, size, took, found


def table(folder: Path, pages: Callable[[], Iterator[list[KlineRow]]], timeframe: str, integers: bool) -> tuple[float, float, float, Bars]:
    path = folder / f"table{int(integers)}.db"
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    kind = "INTEGER" if integers else "TEXT"
    names = [f"c{i} {kind}" for i in range(10)]
    db.execute(f"CREATE TABLE t (series TEXT, ms INTEGER, {', '.join(names)}, PRIMARY KEY (series, ms)) WITHOUT ROWID")
    written, key = 0.0, f"{VENUE} {SYMBOL} {timeframe}"
    for page in pages():
        rows = [[key, row[0], *(units(v) if integers and isinstance(v, str) else v for v in row[1:11])] for row in page]
        began = time.perf_counter()
        db.execute("BEGIN")
        db.executemany(f"INSERT INTO t VALUES ({','.join('?' * 12)})", rows)
        db.execute("COMMIT")
        written += time.perf_counter() - began
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def load() -> Bars:
        found = db.execute("SELECT ms, c0, c1, c2, c3, c4 FROM t WHERE series=? ORDER BY ms", (key,)).fetchall()
        if not integers:
            return Bars.from_rows(found, SYMBOL, timeframe)
        ms, o, h, low, c, v = np.array(found, np.int64).T.copy()
        return Bars(SYMBOL, timeframe, ms, o, h, low, c, floats(v))

    took, bars = timed(load)
    db.close()
    return written, path.stat().st_size, took, bars


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candles", type=int, action="append", help="how many (10000, 100000 and 1000000)")
    parser.add_argument("--file", type=Path, help="a candle file instead of the random walk")
    parser.add_argument("--timeframe", default="1m", help="of the file")
    parser.add_argument("--no-tables", action="store_true", help="the store alone")
    given = parser.parse_args()
    print(f"{'candles':>10}  {'kept as':<16} {'bytes each':>10} {'write s':>8} {'to columns s':>12}")
    read: list[KlineRow] = candle_files.load(given.file, given.timeframe).checked().rows if given.file else []
    for number in [len(read)] if read else given.candles or [10**4, 10**5, 10**6]:

        def pages(number: int = number) -> Iterator[list[KlineRow]]:
            return (read[i : i + PAGE] for i in range(0, number, PAGE)) if read else walk(number)

        with tempfile.TemporaryDirectory() as folder:
            forms = {"chunks": lambda at=folder: chunks(Path(at), pages, given.timeframe)}
            if not given.no_tables:
                forms["rows of text"] = lambda at=folder: table(Path(at), pages, given.timeframe, False)
                forms["rows of integers"] = lambda at=folder: table(Path(at), pages, given.timeframe, True)
            first: Bars | None = None
            for name, form in forms.items():
                written, size, took, found = form()
                first = first if first is not None else found
                same = all((a == b).all() for a, b in zip(first.columns()[:5], found.columns()[:5], strict=True))
                print(f"{number:>10,}  {name:<16} {size / number:>10.1f} {written:>8.2f} {took:>12.3f}{'' if same else '  OTHER PRICES'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
