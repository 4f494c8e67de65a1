"""Closed candles, shared by bots, page and backtester: `data/history.db` (SQLite, WAL).

One table, keyed by venue (exchange, market, mode, and on paper the market's source),
symbol, timeframe and open time. Only closed candles are stored, as Binance's rows. The
store is a cache of what the exchange would say: when it is busy or broken, callers fetch.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from core.market import timeframes
from core.model import KlineRow, Venue

_TABLE = """
CREATE TABLE IF NOT EXISTS candles (
    venue TEXT NOT NULL, symbol TEXT NOT NULL, timeframe TEXT NOT NULL, open_ms INTEGER NOT NULL,
    open TEXT NOT NULL, high TEXT NOT NULL, low TEXT NOT NULL, close TEXT NOT NULL, volume TEXT NOT NULL,
    close_ms INTEGER NOT NULL, quote_volume TEXT NOT NULL, trades INTEGER NOT NULL,
    taker_base TEXT NOT NULL, taker_quote TEXT NOT NULL,
    PRIMARY KEY (venue, symbol, timeframe, open_ms)
) WITHOUT ROWID
"""
_COLUMNS = "open_ms, open, high, low, close, volume, close_ms, quote_volume, trades, taker_base, taker_quote"
# A wait for another process's write must end before a bot that is told to stop has to be gone.
BUSY_S = 1.0


class CandleStore:
    """All times in ms of market time. Not shared between threads; each opens its own."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._db: sqlite3.Connection | None = None

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute(_TABLE)
            self._db = db
        return self._db

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def read(self, venue: Venue | str, symbol: str, timeframe: str, limit: int, end_ms: int | None = None) -> list[KlineRow]:
        """The last `limit` stored rows (opening at or before `end_ms`), oldest first."""
        key = venue.candle_key() if isinstance(venue, Venue) else venue
        rows = self._open().execute(
            f"SELECT {_COLUMNS} FROM candles WHERE venue=? AND symbol=? AND timeframe=? AND open_ms<=? ORDER BY open_ms DESC LIMIT ?",  # noqa: S608 - constants only
            (key, symbol, timeframe, 2**62 if end_ms is None else end_ms, limit),
        )
        return [[*row, "0"] for row in rows][::-1]

    def closed(self, venue: Venue, symbol: str, timeframe: str, needed: int, now_ms: int) -> list[KlineRow] | None:
        """The last `needed` closed candles before `now_ms`, or None unless all of them are here without a hole.

        A hole may be the exchange's own; then it is for the exchange to say so."""
        if timeframe == "1M" or needed < 1:
            return None
        length = timeframes.length_ms(timeframe)
        last = timeframes.floor(now_ms, timeframe) - length
        rows = self.read(venue, symbol, timeframe, needed, last)
        if len(rows) == needed and int(rows[-1][0]) == last and int(rows[0][0]) == last - (needed - 1) * length:
            return rows
        return None

    def save(self, venue: Venue, symbol: str, timeframe: str, rows: Sequence[KlineRow], now_ms: int) -> None:
        """Keep what closed before `now_ms`."""
        key = venue.candle_key()
        closed = [(key, symbol, timeframe, *row[:11]) for row in rows if int(row[6]) < now_ms]
        if not closed:
            return
        db = self._open()
        db.execute("BEGIN IMMEDIATE")
        try:
            db.executemany("INSERT OR REPLACE INTO candles VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)", closed)
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise
