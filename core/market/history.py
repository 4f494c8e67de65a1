"""Closed candles, shared by bots, page, backfill and backtester: `data/history.db` (SQLite, WAL), which this module owns.

Everything is keyed by venue (exchange, market, mode, and on paper the market's source),
symbol and timeframe. Three tables:

- `candles`: Binance's rows as text, one each. Bots write here and mostly read here.
- `chunks`: a thousand candles as one exact blob (core/market/chunks.py). What a backfill
  or an import brings goes here at once, but for the last thousand or two; `tidy` moves what
  has become older in `candles`. A row in `candles` is newer than its twin in a chunk, and is what counts.
- `holes`: what the exchange was asked for and does not have, with reason and time.

Measured with 1,000,000 candles of 1m (benchmarks/history.py): rows of text 195 bytes a candle
and 3.4 s to columns, rows of integers 117 bytes and 1.5 s, chunks 25 bytes and 0.19 s. Rows go
into a chunk and out of `candles` in one transaction, so a kill at any moment loses and doubles
nothing.

Only closed candles are stored. The store is a cache of what the exchange would say: when it
is busy or broken (sqlite3.Error), callers fetch. Numpy is loaded only by who asks for
columns: bots don't.
"""
# ruff: noqa: S608 - statements are put together from constants only

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from core.errors import InputError, NotFound
from core.market import chunks, holes, timeframes
from core.market.chunks import Chunk
from core.market.holes import Hole, Missing
from core.model import KlineRow, Venue

if TYPE_CHECKING:
    from core.market.bars import Bars

VERSION = 2  # 1 had the first table only, and did not say so
_TABLES = """
CREATE TABLE IF NOT EXISTS candles (
    venue TEXT NOT NULL, symbol TEXT NOT NULL, timeframe TEXT NOT NULL, open_ms INTEGER NOT NULL,
    open TEXT NOT NULL, high TEXT NOT NULL, low TEXT NOT NULL, close TEXT NOT NULL, volume TEXT NOT NULL,
    close_ms INTEGER NOT NULL, quote_volume TEXT NOT NULL, trades INTEGER NOT NULL,
    taker_base TEXT NOT NULL, taker_quote TEXT NOT NULL,
    PRIMARY KEY (venue, symbol, timeframe, open_ms)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS chunks (
    venue TEXT NOT NULL, symbol TEXT NOT NULL, timeframe TEXT NOT NULL, start_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL, count INTEGER NOT NULL, form BLOB NOT NULL, main BLOB NOT NULL, rest BLOB NOT NULL,
    PRIMARY KEY (venue, symbol, timeframe, start_ms)
);
CREATE TABLE IF NOT EXISTS holes (
    venue TEXT NOT NULL, symbol TEXT NOT NULL, timeframe TEXT NOT NULL, first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL, reason TEXT NOT NULL, asked_ms INTEGER NOT NULL,
    PRIMARY KEY (venue, symbol, timeframe, first_ms)
) WITHOUT ROWID
"""
_COLUMNS = "open_ms, open, high, low, close, volume, close_ms, quote_volume, trades, taker_base, taker_quote"
_OF = "venue=? AND symbol=? AND timeframe=?"
_INSERT = "INSERT OR REPLACE INTO candles VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_ALWAYS = 2**62
# A wait for another process's write must end before a bot that is told to stop has to be gone.
BUSY_S = 1.0
PATIENT_S = 30.0  # for a command, which has nothing else to do

Key = tuple[str, str, str]


class Series(NamedTuple):
    """A stored series: open times of its first and last candle, and how many there are (a candle in both tables counts twice)."""

    venue: str
    symbol: str
    timeframe: str
    first_ms: int
    last_ms: int
    candles: int


class CandleStore:
    """All times in ms of market time. Not shared between threads; each opens its own.

    `read_only` neither makes nor changes a file. `busy_s`: how long to wait for another's write."""

    def __init__(self, path: str | Path, *, read_only: bool = False, busy_s: float = BUSY_S):
        self.path, self._read_only, self._busy_s = Path(path), read_only, busy_s
        self._db: sqlite3.Connection | None = None

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    # --- a bot's reads and writes ---------------------------------------------------------

    def read(self, venue: Venue | str, symbol: str, timeframe: str, limit: int, end_ms: int | None = None) -> list[KlineRow]:
        """The last `limit` stored rows (opening at or before `end_ms`), oldest first."""
        key, end = _key(venue, symbol, timeframe), _ALWAYS if end_ms is None else end_ms
        db = self._open()
        # Rows move from here into chunks and never back: asked in this order, none can be missed.
        rows = _rows(db.execute(f"SELECT {_COLUMNS} FROM candles WHERE {_OF} AND open_ms<=? ORDER BY open_ms DESC LIMIT ?", (*key, end, limit)))
        packed = db.execute(f"SELECT start_ms, last_ms FROM chunks WHERE {_OF} AND start_ms<=? ORDER BY start_ms DESC", (*key, end))
        found: dict[int, KlineRow] | None = None
        for start, last in packed:
            opens = [row[0] for row in rows] if found is None else sorted(found, reverse=True)
            if limit < 1 or (len(opens) >= limit and last < opens[limit - 1]):
                break
            found = {row[0]: row for row in rows} if found is None else found
            for row in self._unpacked(db, key, start):
                if row[0] <= end:
                    found.setdefault(row[0], row)
        return rows[::-1] if found is None else [found[ms] for ms in sorted(found)[-limit:]]

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
        closed = [row for row in rows if int(row[6]) < now_ms]
        if closed:
            with self._writing() as db:
                db.executemany(_INSERT, [(*_key(venue, symbol, timeframe), *row[:11]) for row in closed])

    # --- much at once ------------------------------------------------------------------------

    def arrays(self, venue: Venue | str, symbol: str, timeframe: str, from_ms: int | None = None, to_ms: int | None = None) -> Bars:
        """What is stored from `from_ms` to before `to_ms`, as columns. InputError where a price does not fit units of 1e-8."""
        from core.market import columns

        key, since, until = _key(venue, symbol, timeframe), -_ALWAYS if from_ms is None else from_ms, _ALWAYS if to_ms is None else to_ms
        with self._reading() as db:
            rows = _rows(db.execute(f"SELECT {_COLUMNS} FROM candles WHERE {_OF} AND open_ms>=? AND open_ms<? ORDER BY open_ms", (*key, since, until)))
            told = db.execute(
                f"SELECT start_ms, count, form, main, rest FROM chunks WHERE {_OF} AND last_ms>=? AND start_ms<? ORDER BY start_ms", (*key, since, until)
            )
            return columns.bars(symbol, timeframe, (Chunk(*row) for row in told), rows).slice(since, until)

    def rows(self, venue: Venue | str, symbol: str, timeframe: str, from_ms: int | None = None, to_ms: int | None = None) -> Iterator[KlineRow]:
        """What is stored from `from_ms` to before `to_ms` as Binance's rows, ascending; a chunk in memory at a time."""
        key, at, until = _key(venue, symbol, timeframe), -_ALWAYS if from_ms is None else from_ms, _ALWAYS if to_ms is None else to_ms
        while True:
            with self._reading() as db:
                here = db.execute(
                    f"SELECT start_ms FROM chunks WHERE {_OF} AND last_ms>=? AND start_ms<? ORDER BY start_ms LIMIT 1", (*key, at, until)
                ).fetchone()
                end = until if here is None else min(chunks.end_of(here[0], timeframe), until)
                found = {row[0]: row for row in self._unpacked(db, key, here[0])} if here else {}
                found |= {r[0]: r for r in _rows(db.execute(f"SELECT {_COLUMNS} FROM candles WHERE {_OF} AND open_ms>=? AND open_ms<?", (*key, at, end)))}
            yield from (found[ms] for ms in sorted(found) if at <= ms < end)
            if here is None or end >= until:
                return
            at = end

    def fill(self, venue: Venue | str, symbol: str, timeframe: str, rows: Sequence[KlineRow], now_ms: int, lacking: Sequence[Hole] = ()) -> None:
        """Keep what closed before `now_ms`, in chunks where those are settled, and what the exchange does not have; one transaction.

        A candle that is there already is replaced. `rows` ascend or not."""
        key = _key(venue, symbol, timeframe)
        closed = sorted((list(row[:11]) for row in rows if int(row[6]) < now_ms), key=lambda row: int(row[0]))
        with self._writing() as db:
            for start, members in _by_chunk(closed, timeframe):
                if start is None or not chunks.settled(start, timeframe, now_ms):
                    db.executemany(_INSERT, [(*key, *row) for row in members])
                else:
                    self._pack(db, key, start, {int(row[0]): row for row in members})
            self._note(db, key, lacking, [int(row[0]) for row in closed])

    def tidy(self, now_ms: int | None = None, venue: Venue | str | None = None, go_on: Callable[[], bool] = lambda: True) -> int:
        """Move rows whose chunk is settled into it; a transaction a chunk. How many rows were moved.

        Without `now_ms` each series is as old as its last candle, which needs nobody's clock. `go_on` is
        asked after each transaction: it may pause, so that others get to write; False ends it, to go on later."""
        moved = 0
        only = "" if venue is None else (venue.candle_key() if isinstance(venue, Venue) else venue)
        for one in self.series():
            if one.timeframe == "1M" or (only and one.venue != only):
                continue
            key, at = one[:3], -_ALWAYS
            while (ms := self._open().execute(f"SELECT min(open_ms) FROM candles WHERE {_OF} AND open_ms>=?", (*key, at)).fetchone()[0]) is not None:
                start = chunks.start_of(ms, one.timeframe)
                assert start is not None
                if not chunks.settled(start, one.timeframe, one.last_ms if now_ms is None else now_ms):
                    break
                at = chunks.end_of(start, one.timeframe)
                with self._writing() as db:
                    moved += self._pack(db, key, start, {})
                if not go_on():
                    return moved
        return moved

    def forget_before(self, venue: Venue | str, symbol: str, timeframe: str, before_ms: int) -> int:
        """Drop what opens before `before_ms`; how many candles that were."""
        key, gone = _key(venue, symbol, timeframe), 0
        with self._writing() as db:
            here = db.execute(f"SELECT start_ms, last_ms, count FROM chunks WHERE {_OF} AND start_ms<?", (*key, before_ms)).fetchall()
            for start, last, number in here:
                if last >= before_ms:
                    kept = [row for row in self._unpacked(db, key, start) if row[0] >= before_ms]
                    self._put(db, key, kept)
                    number -= len(kept)
                else:
                    db.execute(f"DELETE FROM chunks WHERE {_OF} AND start_ms=?", (*key, start))
                gone += number
            gone += db.execute(f"DELETE FROM candles WHERE {_OF} AND open_ms<?", (*key, before_ms)).rowcount
            db.execute(f"DELETE FROM holes WHERE {_OF} AND last_ms<?", (*key, before_ms))
            db.execute(f"UPDATE OR REPLACE holes SET first_ms=? WHERE {_OF} AND first_ms<?", (timeframes.ceil(before_ms, timeframe), *key, before_ms))
        return gone

    # --- what there is, and what is missing ---------------------------------------------------------

    def series(self) -> list[Series]:
        """Every series that has a candle, by venue, symbol, timeframe."""
        made: dict[Key, Series] = {}
        with self._reading() as db:
            both = (
                "SELECT venue, symbol, timeframe, min(open_ms), max(open_ms), count(*) FROM candles GROUP BY 1, 2, 3",
                ("SELECT venue, symbol, timeframe, min(start_ms), max(last_ms), sum(count) FROM chunks GROUP BY 1, 2, 3"),
            )
            for sql in both:
                for row in map(Series._make, db.execute(sql)):
                    first = row.first_ms if sql is both[0] else self._unpacked(db, row[:3], row.first_ms)[0][0]
                    had = made.get(row[:3])
                    spans = [(first, row.last_ms, row.candles), *([had[3:]] if had else [])]
                    made[row[:3]] = Series(*row[:3], min(s[0] for s in spans), max(s[1] for s in spans), sum(s[2] for s in spans))
        return sorted(made.values())

    def spans(self, symbol: str, timeframe: str) -> list[Series]:
        """`series` of one symbol and timeframe alone: quick, however much else is stored."""
        made = []
        with self._reading() as db:
            venues: set[str] = set()
            for table in ("candles", "chunks"):
                at = ""
                while (at := db.execute(f"SELECT min(venue) FROM {table} WHERE venue>?", (at,)).fetchone()[0]) is not None:
                    venues.add(at)
            for key in ((venue, symbol, timeframe) for venue in sorted(venues)):
                first, last, number = db.execute(f"SELECT min(open_ms), max(open_ms), count(*) FROM candles WHERE {_OF}", key).fetchone()
                start, end, packed = db.execute(f"SELECT min(start_ms), max(last_ms), sum(count) FROM chunks WHERE {_OF}", key).fetchone()
                start = None if start is None else self._unpacked(db, key, start)[0][0]
                ends = [ms for ms in (first, last, start, end) if ms is not None]
                if ends:
                    made.append(Series(*key, min(ends), max(ends), number + (packed or 0)))
        return made

    def venue_of(self, symbol: str, timeframe: str, venue: Venue | str | None = None) -> str:
        """The key of the one venue that this series is stored for (of `venue`, where given). NotFound or InputError otherwise."""
        known = self.series()
        wanted = venue.candle_key() if isinstance(venue, Venue) else venue
        mine = [s.venue for s in known if (s.symbol, s.timeframe) == (symbol, timeframe) and wanted in (None, s.venue)]
        if not mine:
            there = "; ".join(f"{s.symbol} {s.timeframe} ({s.venue})" for s in known[:20]) or "nothing"
            raise NotFound(f"{self.path} holds no {symbol} {timeframe} candles" + (f" of {wanted}" if wanted else "") + f"; it holds {there}")
        if len(mine) > 1:
            raise InputError(f"{self.path} holds {symbol} {timeframe} of {len(mine)} venues; name one of {', '.join(mine)}")
        return mine[0]

    def gaps(self, venue: Venue | str, symbol: str, timeframe: str, from_ms: int, to_ms: int) -> list[Missing]:
        """Every stretch of candles that is not stored of those that open from `from_ms` to before `to_ms`, ascending.

        What the exchange is known not to have comes with its reason, apart from what nobody asked for yet."""
        from core.market import columns

        stretches = columns.missing(self.arrays(venue, symbol, timeframe, from_ms, to_ms), from_ms, to_ms)
        known = self.holes(venue, symbol, timeframe)
        return [part for first, last in stretches for part in holes.split(first, last, known, timeframe)]

    def holes(self, venue: Venue | str, symbol: str, timeframe: str) -> list[Hole]:
        """What the exchange is known not to have, ascending."""
        key = _key(venue, symbol, timeframe)
        return [Hole(*row) for row in self._open().execute(f"SELECT first_ms, last_ms, reason, asked_ms FROM holes WHERE {_OF} ORDER BY first_ms", key)]

    def forget_holes(self, venue: Venue | str, symbol: str, timeframe: str) -> None:
        """So that the exchange is asked for them again."""
        with self._writing() as db:
            db.execute(f"DELETE FROM holes WHERE {_OF}", _key(venue, symbol, timeframe))

    # --- inside a transaction --------------------------------------------------------------------------

    def _pack(self, db: sqlite3.Connection, key: Key, start: int, new: dict[int, KlineRow]) -> int:
        """Chunk, stray rows and new ones of one chunk as one. How many rows left `candles`."""
        span = (*key, start, chunks.end_of(start, key[2]))
        stray = {row[0]: row for row in _rows(db.execute(f"SELECT {_COLUMNS} FROM candles WHERE {_OF} AND open_ms>=? AND open_ms<?", span))}
        there = {row[0]: row for row in self._unpacked(db, key, start)}
        whole = there | stray | new
        if not self._put(db, key, [whole[ms] for ms in sorted(whole)]):
            db.executemany(_INSERT, [(*key, *row[:11]) for row in new.values()])  # not of one form: they stay rows
            return 0
        return db.execute(f"DELETE FROM candles WHERE {_OF} AND open_ms>=? AND open_ms<?", span).rowcount

    def _put(self, db: sqlite3.Connection, key: Key, rows: list[KlineRow]) -> bool:
        made = chunks.pack(rows, key[2])
        if made is not None:
            db.execute("INSERT OR REPLACE INTO chunks VALUES (?,?,?,?,?,?,?,?,?)", (*key, made.start_ms, rows[-1][0], *made[1:]))
        return made is not None

    def _unpacked(self, db: sqlite3.Connection, key: Key, start: int) -> list[KlineRow]:
        row = db.execute(f"SELECT start_ms, count, form, main, rest FROM chunks WHERE {_OF} AND start_ms=?", (*key, start)).fetchone()
        return chunks.rows_of(Chunk(*row), key[2]) if row else []

    def _note(self, db: sqlite3.Connection, key: Key, lacking: Sequence[Hole], opens: list[int]) -> None:
        known = [Hole(*row) for row in db.execute(f"SELECT first_ms, last_ms, reason, asked_ms FROM holes WHERE {_OF}", key)]
        if not known and not lacking:
            return
        now = holes.without(holes.merged([*known, *lacking], key[2]), opens, key[2])
        if now != sorted(known):
            db.execute(f"DELETE FROM holes WHERE {_OF}", key)
            db.executemany("INSERT INTO holes VALUES (?,?,?,?,?,?,?)", [(*key, *hole) for hole in now])

    # --- the database -----------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Several reads of one moment."""
        db = self._open()
        db.execute("BEGIN")
        try:
            yield db
        finally:
            db.execute("COMMIT")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        db = self._open()
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = self._opened_to_read() if self._read_only else self._opened()
        return self._db

    def _opened(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, timeout=self._busy_s, isolation_level=None, check_same_thread=False)
        try:
            _to_wal(db, self._busy_s)
            db.execute("PRAGMA synchronous=NORMAL")
            if self._version(db) < VERSION:
                db.execute("BEGIN IMMEDIATE")
                for sql in _TABLES.split(";"):
                    db.execute(sql)
                db.execute(f"PRAGMA user_version={VERSION}")
                db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        return db

    def _opened_to_read(self) -> sqlite3.Connection:
        uri = self.path.absolute().as_uri()
        db = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=self._busy_s, isolation_level=None)
        try:
            try:
                version = self._version(db)
            except sqlite3.OperationalError:  # a folder that we can't write to has no place for WAL's own files
                db.close()
                db = sqlite3.connect(f"{uri}?immutable=1", uri=True, isolation_level=None)
                version = self._version(db)
            tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
            if "candles" not in tables:
                raise InputError(f"{self.path} is a database, but no candle store; it must be one that Botyard wrote (data/history.db)")
            if version < VERSION:  # what an older one lacks is empty, for this connection
                for sql in _TABLES.replace("CREATE TABLE", "CREATE TEMP TABLE").split(";")[1:]:
                    db.execute(sql)
        except BaseException:
            db.close()
            raise
        return db

    def _version(self, db: sqlite3.Connection) -> int:
        found = int(db.execute("PRAGMA user_version").fetchone()[0])
        if found > VERSION:
            raise sqlite3.NotSupportedError(f"{self.path} is of version {found}, this Botyard reads up to {VERSION}: update it, or move the file away")
        return found


def _to_wal(db: sqlite3.Connection, busy_s: float) -> None:
    """SQLite doesn't wait for others while it changes the journal's kind: a fresh file that many open at once is tried again."""
    end = time.monotonic() + busy_s
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


def _key(venue: Venue | str, symbol: str, timeframe: str) -> Key:
    return venue.candle_key() if isinstance(venue, Venue) else venue, symbol, timeframe


def _rows(told: Iterable[Sequence[Any]]) -> list[KlineRow]:
    return [[*row, "0"] for row in told]


def _by_chunk(rows: Sequence[KlineRow], timeframe: str) -> list[tuple[int | None, list[KlineRow]]]:
    made: dict[int | None, list[KlineRow]] = {}
    for row in rows:
        made.setdefault(chunks.start_of(int(row[0]), timeframe), []).append(row)
    return list(made.items())
