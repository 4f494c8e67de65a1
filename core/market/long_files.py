"""Candles of a file or of another store, a piece after another, so that an import's memory doesn't grow with what it imports.

Reads files, owns none. A CSV, also gzipped, is read some ten thousand lines at a time (500 MB of it would be
7 GB as rows). JSON has no lines and comes as one piece; years of minutes are CSV everywhere.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

from core.errors import InputError
from core.market import candle_files, quick_files
from core.market.bars import Bars
from core.market.candle_files import Problem
from core.market.history import CandleStore
from core.model import KlineRow

PIECE = 4_000_000  # bytes of text, some 25,000 candles
ROWS = 25_000
_SHOWN = 10
_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Piece:
    """Some candles, ascending and later than those of the pieces before. `rows` are made when asked for, Binance's twelve fields."""

    bars: Bars
    _lines: list[bytes] = field(default_factory=list)
    _rows: list[KlineRow] | None = None
    _path: Path = Path()

    @property
    def rows(self) -> list[KlineRow]:
        if self._rows is not None:
            return self._rows
        return candle_files.examine_lines(self._path, self.bars.timeframe, self._lines, 0, None).rows


@dataclass(slots=True)
class Noticed:
    """What a whole reading came across: the first problems and how many there are; see candle_files.CandleFile."""

    candles: int = 0
    problems: list[Problem] = field(default_factory=list)
    wrong: int = 0
    rounded: int = 0
    duplicates: int = 0
    apart: int | None = None  # ms between the two nearest opens
    last_ms: int | None = None

    def note(self, told: candle_files.CandleFile) -> None:
        self.problems += told.problems[: _SHOWN - len(self.problems)]
        self.wrong += len(told.problems)
        self.rounded += told.rounded
        self.duplicates += told.duplicates

    def count(self, bars: Bars) -> None:
        if not len(bars):
            return
        opens = bars.open_ms
        gaps = ([int((opens[1:] - opens[:-1]).min())] if len(opens) > 1 else []) + ([] if self.last_ms is None else [int(opens[0]) - self.last_ms])
        self.apart = min([*gaps, *([] if self.apart is None else [self.apart])], default=None)
        self.candles, self.last_ms = self.candles + len(bars), int(opens[-1])

    def checked(self, path: Path, timeframe: str) -> None:
        """InputError where anything is wrong with the file, or nothing in it."""
        candle_files.refuse(path, self.problems, self.wrong, self.candles)
        candle_files.of_this_timeframe(path, self.candles, self.apart, timeframe)


def pieces(path: Path, symbol: str, timeframe: str, noticed: Noticed) -> Iterator[Piece]:
    """The candles of a file, what is wrong left out and told in `noticed`. InputError where it can't be read as one at all."""
    if candle_files.is_store(path):
        yield from _of_a_store(path, symbol, timeframe, noticed)
        return
    try:
        with _opened(path) as f:
            begin = f.peek(64)[:64].removeprefix(_BOM).lstrip()  # type: ignore[attr-defined]
            if begin[:1] in (b"[", b"{"):
                told = candle_files.load(path, timeframe)
                noticed.note(told)
                bars = Bars.from_rows(told.rows, symbol, timeframe)
                noticed.count(bars)
                yield Piece(bars, _rows=told.rows)
                return
            yield from _of_lines(f, path, symbol, timeframe, noticed)
    except (EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise InputError(f"{path}: is not a whole gzip file ({e}); fetch it again") from e
    except OSError as e:
        raise InputError(f"{path}: can't be read ({e.strerror or e}); it must be a file that you may read") from e


def _opened(path: Path) -> IO[bytes]:
    raw = path.open("rb")
    begin = raw.peek(4)[:4]
    if not begin.startswith((candle_files.ZIP, candle_files.GZIP)):
        return raw
    raw.close()
    if begin.startswith(candle_files.ZIP):
        raise InputError(candle_files.zipped(path))
    return gzip.open(path)  # type: ignore[return-value]


def _of_lines(f: IO[bytes], path: Path, symbol: str, timeframe: str, noticed: Noticed) -> Iterator[Piece]:
    above, last = 0, None
    while lines := f.readlines(PIECE):
        if not above:
            lines[0] = lines[0].removeprefix(_BOM)
        bars = quick_files.read(b"".join(lines), symbol, timeframe)
        if bars is None or (last is not None and int(bars.open_ms[0]) <= int(last[0])):
            told = candle_files.examine_lines(path, timeframe, lines, above, last)
            noticed.note(told)
            bars = Bars.from_rows(told.rows, symbol, timeframe)
            last = told.rows[-1] if told.rows else last
            piece = Piece(bars, _rows=told.rows)
        else:
            last = candle_files.examine_lines(path, timeframe, lines[-1:], above, None).rows[-1]
            piece = Piece(bars, lines, _path=path)
        above += len(lines)
        noticed.count(bars)
        yield piece


def _of_a_store(path: Path, symbol: str, timeframe: str, noticed: Noticed) -> Iterator[Piece]:
    other = CandleStore(path, read_only=True)
    try:
        told: Iterator[Sequence[Any]] = other.rows(other.venue_of(symbol, timeframe), symbol, timeframe)
        while rows := [list(row) for row in islice(told, ROWS)]:
            bars = Bars.from_rows(rows, symbol, timeframe)
            noticed.count(bars)
            yield Piece(bars, _rows=rows)
    finally:
        other.close()
