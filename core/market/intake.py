"""Candles between files and the store: import, export and checks. Owns no file; writes what a person names.

An import looks at all of a file before it takes anything of it; one that was killed on its way
is simply done again. What the store has already stays, unless the person says that the file is right. Exports are Binance's 12 columns, so that any tool, and
an import, reads them.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from core.errors import InputError, NotFound
from core.market import candle_files, timeframes
from core.market.bars import Bars, price_text
from core.market.candle_files import Problem
from core.market.history import CandleStore, Series
from core.market.holes import Missing
from core.market.resample import floors
from core.model import KlineRow

_PAGE = 1000


class Taken(NamedTuple):
    """What an import did: candles that were new, there already alike, there otherwise and replaced; what is worth knowing."""

    new: int
    same: int
    replaced: int
    notes: list[str]


@dataclass(slots=True)
class Checked:
    """What is wrong with a series. A gap with a reason is the exchange's own, and not wrong."""

    name: str
    candles: int
    first_ms: int
    last_ms: int
    gaps: list[Missing] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        return len(self.problems) + sum(1 for gap in self.gaps if gap.reason is None)

    def told(self) -> dict[str, Any]:
        """As JSON."""
        problems = [{"kind": p.kind, "line": p.line or None, "open_ms": p.open_ms, "text": p.text} for p in self.problems]
        span = {"candles": self.candles, "first_ms": self.first_ms, "last_ms": self.last_ms}
        return {"name": self.name, **span, "gaps": [gap._asdict() for gap in self.gaps], "problems": problems, "wrong": self.wrong}


def take(store: CandleStore, path: str | Path, venue: str, symbol: str, timeframe: str, now_ms: int, *, replace: bool = False) -> Taken:
    """Import a file. InputError, and nothing is taken, where anything in it is wrong or contradicts the store (unless `replace`)."""
    path, notes = Path(path).expanduser(), []
    rows: list[KlineRow]
    if candle_files.is_store(path):
        if path.resolve() == store.path.resolve():
            raise InputError(f"{path} is the store itself; name another file")
        other = CandleStore(path, read_only=True)
        try:
            rows = list(other.rows(other.venue_of(symbol, timeframe), symbol, timeframe))
        finally:
            other.close()
    else:
        told = candle_files.load(path, timeframe).checked()
        rows = told.rows
        if told.rounded:
            notes.append(f"{told.rounded:,} volumes had more than 8 decimals (traces of a float) and were rounded to 8")
        if told.duplicates:
            notes.append(f"{told.duplicates:,} rows that repeat another one were left out")
    closed = [row for row in rows if int(row[6]) < now_ms]
    if len(closed) < len(rows):
        notes.append(f"{len(rows) - len(closed):,} candles are not closed yet and were left out")
    new, same, other_rows = _compared(store, venue, symbol, timeframe, closed)
    if other_rows and not replace:
        if [int(row[0]) for row in other_rows] == [int(closed[-1][0])]:
            other_rows = []  # a file's last row may have been unfinished when it was written
            notes.append("the file's last candle differs from the stored one and was left out: it may have been unfinished")
        else:
            ms = int(other_rows[0][0])
            raise InputError(
                f"{path} contradicts the store on {len(other_rows):,} candles, first on that of {ms}; nothing was taken. "
                "Is it of another market (--mode, --venue)? Where the file is right, say --replace"
            )
    wanted = sorted([*new, *other_rows], key=lambda row: int(row[0]))
    for i in range(0, len(wanted), _PAGE):  # a transaction each, so that bots can write in between
        store.fill(venue, symbol, timeframe, wanted[i : i + _PAGE], now_ms)
    return Taken(len(new), same, len(other_rows), notes)


def _compared(store: CandleStore, venue: str, symbol: str, timeframe: str, rows: list[KlineRow]) -> tuple[list[KlineRow], int, list[KlineRow]]:
    """Rows that are new, how many are there alike, and rows that are there otherwise. Only the six columns that every file has count."""
    if not rows:
        return [], 0, []
    there = store.arrays(venue, symbol, timeframe, int(rows[0][0]), int(rows[-1][0]) + 1)
    told = Bars.from_rows(rows, symbol, timeframe)
    at = np.searchsorted(there.open_ms, told.open_ms)
    at[at == len(there)] = 0
    known = there.open_ms[at] == told.open_ms if len(there) else np.zeros(len(told), np.bool_)
    alike = known.copy()
    if len(there):
        for mine, theirs in zip(told.columns()[1:5], there.columns()[1:5], strict=True):
            alike &= mine == theirs[at]
        alike &= np.abs(told.volume - there.volume[at]) <= 1e-8 + 1e-12 * np.abs(told.volume)
    new = [rows[i] for i in np.flatnonzero(~known)]
    return new, int(alike.sum()), [rows[i] for i in np.flatnonzero(known & ~alike)]


def export(store: CandleStore, venue: str, symbol: str, timeframe: str, from_ms: int | None, to_ms: int | None, path: str | Path | None, stdout: TextIO) -> int:
    """Write CSV to `path` (beside, then renamed; packed where the name ends in .gz), or to `stdout`. How many candles; NotFound for none."""
    rows = store.rows(venue, symbol, timeframe, from_ms, to_ms)
    first = next(rows, None)
    if first is None:
        raise NotFound(f"{store.path} holds no {symbol} {timeframe} candles of {venue} in that time; --list shows what it holds")
    number = 0
    with _output(path, stdout) as out:
        out.write(_line(first))
        for number, row in enumerate(rows, 1):  # noqa: B007 - the last number counts
            out.write(_line(row))
    return number + 1


def _line(row: KlineRow) -> str:
    return ",".join(str(v) for v in row) + "\n"


@contextmanager
def _output(path: str | Path | None, stdout: TextIO) -> Iterator[TextIO]:
    if path is None:
        yield stdout
        return
    path = Path(path).expanduser()
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with gzip.open(beside, "wt", encoding="ascii") if path.suffix == ".gz" else beside.open("w", encoding="ascii") as out:
            yield out  # type: ignore[misc]
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def check_file(path: str | Path, symbol: str, timeframe: str) -> Checked:
    """What is wrong with a file, without taking anything of it."""
    path = Path(path).expanduser()
    if candle_files.is_store(path):
        other = CandleStore(path, read_only=True)
        try:
            venue = other.venue_of(symbol, timeframe)
            return check_store(other, next(s for s in other.series() if s[:3] == (venue, symbol, timeframe)))
        finally:
            other.close()
    told = candle_files.load(path, timeframe)
    problems = list(told.problems)
    if told.duplicates:
        problems.append(Problem("duplicate", 0, f"{told.duplicates:,} rows repeat another one exactly; an import leaves them out"))
    opens = [row[0] for row in told.rows]
    found = Checked(f"{path} ({symbol} {timeframe})", len(opens), opens[0] if opens else 0, opens[-1] if opens else 0, problems=problems)
    plain = [[ms, 1, 1, 1, 1, 1] for ms in opens]
    found.gaps = [Missing(g.first_ms, g.last_ms, g.missing) for g in Bars.from_rows(plain, symbol, timeframe).gaps()]
    return found


def check_store(store: CandleStore, series: Series, from_ms: int | None = None, to_ms: int | None = None) -> Checked:
    """What is wrong with a stored series between its first and its last candle."""
    venue, symbol, timeframe = series[:3]
    start = series.first_ms if from_ms is None else max(from_ms, series.first_ms)
    end = timeframes.next_open(series.last_ms, timeframe) if to_ms is None else to_ms
    made = Checked(f"{venue} {symbol} {timeframe}", 0, start, start)
    try:
        found = store.arrays(venue, symbol, timeframe, start, end)
        volume_wrong = ~(np.isfinite(found.volume) & (found.volume >= 0))
    except (InputError, ValueError):  # not numbers, or too fine: the rows say which
        rows = list(store.rows(venue, symbol, timeframe, start, end))
        told = candle_files.examine(rows, store.path, timeframe)
        made.candles, made.last_ms, made.problems = len(rows), int(rows[-1][0]), told.problems
        return made
    made.candles, made.last_ms = len(found), int(found.open_ms[-1]) if len(found) else start
    problems = [
        ("off_grid", floors(found.open_ms, timeframe) != found.open_ms, f"no {timeframe} candle opens then"),
        ("impossible", found.low <= 0, "a price is not above 0"),
        ("impossible", found.high < found.low, "the high lies below the low"),
        ("impossible", (found.high >= found.low) & ((found.open > found.high) | (found.open < found.low)), "the open lies outside of high and low"),
        ("impossible", (found.high >= found.low) & ((found.close > found.high) | (found.close < found.low)), "the close lies outside of high and low"),
        ("impossible", volume_wrong, "the volume is negative or no number"),
    ]
    for kind, wrong, text in problems:
        for i in np.flatnonzero(wrong).tolist():
            prices = " ".join(f"{name} {price_text(int(getattr(found, name)[i]))}" for name in ("open", "high", "low", "close"))
            made.problems.append(Problem(kind, 0, f"{text}: {int(found.open_ms[i])}, {prices}", int(found.open_ms[i])))
    made.gaps = store.gaps(venue, symbol, timeframe, start, end)
    return made
