"""Candles between files and the store: import, export and checks. Owns no file; writes what a person names.

An import looks at all of a file before it takes anything of it; one that was killed on its way
is simply done again. What the store has already stays, unless the person says that the file is right. Exports are Binance's 12 columns, so that any tool, and
an import, reads them.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from core.errors import InputError, NotFound
from core.market import candle_files, chunks, long_files, timeframes
from core.market.bars import Bars, price_text
from core.market.candle_files import Problem
from core.market.history import CandleStore, Series
from core.market.holes import Missing
from core.market.long_files import Noticed
from core.market.resample import floors
from core.model import KlineRow

Tell = Callable[[int, int], None]
Mask = NDArray[np.bool_]


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


def take(
    store: CandleStore, path: str | Path, venue: str, symbol: str, timeframe: str, now_ms: int, *, replace: bool = False, tell: Tell | None = None
) -> Taken:
    """Import a file. InputError, and nothing is taken, where anything in it is wrong or contradicts the store (unless `replace`).

    It is read twice, a piece at a time: all of it is looked at, then what is new of it is taken. `tell` is called with the
    candles looked at so far and, in the second reading, with those gone through."""
    path, tell = Path(path).expanduser(), tell or (lambda looked_at, taken: None)
    if candle_files.is_store(path) and path.resolve() == store.path.resolve():
        raise InputError(f"{path} is the store itself; name another file")
    noticed, until = Noticed(), timeframes.floor(now_ms, timeframe)  # what opens from there on has not closed
    left_out = new = same = 0
    others: list[int] = []  # opens of the first few candles that are there otherwise
    count_others, last_ms = 0, None
    for piece in long_files.pieces(path, symbol, timeframe, noticed):
        told = piece.bars.slice(None, until)
        left_out += len(piece.bars) - len(told)
        if len(told):
            known, alike = _compared(store, venue, told)
            new, same, last_ms = new + int((~known).sum()), same + int(alike.sum()), int(told.open_ms[-1])
            others += told.open_ms[known & ~alike].tolist()[: 2 - len(others)]
            count_others += int((known & ~alike).sum())
        tell(noticed.candles, 0)
    noticed.checked(path, timeframe)
    notes = _notes(noticed, left_out)
    skip: int | None = None
    if count_others and not replace:
        if others != [last_ms]:
            raise InputError(
                f"{path} contradicts the store on {count_others:,} candles, first on that of {others[0]}; nothing was taken. "
                "Is it of another market (--mode, --venue)? Where the file is right, say --replace"
            )
        skip, count_others = last_ms, 0  # a file's last row may have been unfinished when it was written
        notes.append("the file's last candle differs from the stored one and was left out: it may have been unfinished")
    if new or count_others:
        new, count_others = _taken(store, path, venue, symbol, timeframe, now_ms, skip, replace, tell)
    return Taken(new, same, count_others, notes)


def _taken(
    store: CandleStore, path: Path, venue: str, symbol: str, timeframe: str, now_ms: int, skip: int | None, replace: bool, tell: Tell
) -> tuple[int, int]:
    """The second reading: new candles, and those that are there otherwise, go into the store. How many of each."""
    noticed, until, new, replaced = Noticed(), timeframes.floor(now_ms, timeframe), 0, 0
    for piece in long_files.pieces(path, symbol, timeframe, noticed):
        told = piece.bars.slice(None, until)
        if not len(told):
            continue
        known, alike = _compared(store, venue, told)  # again: bots, or another import, may have written meanwhile
        other = known & ~alike & (told.open_ms != (-1 if skip is None else skip))
        if noticed.wrong or (other.any() and not replace):
            raise InputError(f"{path}, or the store, changed during the import: what was taken until now stays; start it again, which says what differs")
        if not other.any() and known.all():
            continue
        rows = piece.rows
        wanted = (rows[i] for i in np.flatnonzero(~known | other).tolist())
        # A transaction each, so that bots can write in between; a chunk each, so that none is packed twice.
        for _, page in groupby(wanted, lambda row: chunks.start_of(int(row[0]), timeframe)):
            store.fill(venue, symbol, timeframe, list(page), now_ms)
            tell(noticed.candles, noticed.candles)
        new, replaced = new + int((~known).sum()), replaced + int(other.sum())
    return new, replaced


def _notes(noticed: Noticed, left_out: int) -> list[str]:
    notes = []
    if noticed.rounded:
        notes.append(f"{noticed.rounded:,} volumes had more than 8 decimals (traces of a float) and were rounded to 8")
    if noticed.duplicates:
        notes.append(f"{noticed.duplicates:,} rows that repeat another one were left out")
    if left_out:
        notes.append(f"{left_out:,} candles are not closed yet and were left out")
    return notes


def _compared(store: CandleStore, venue: str, told: Bars) -> tuple[Mask, Mask]:
    """Of each candle whether it is stored, and whether alike. Only the six columns that every file has count."""
    there = store.arrays(venue, told.symbol, told.timeframe, int(told.open_ms[0]), int(told.open_ms[-1]) + 1)
    if not len(there):
        return np.zeros(len(told), np.bool_), np.zeros(len(told), np.bool_)
    at = np.searchsorted(there.open_ms, told.open_ms)
    at[at == len(there)] = 0
    known = there.open_ms[at] == told.open_ms
    alike = known.copy()
    for mine, theirs in zip(told.columns()[1:5], there.columns()[1:5], strict=True):
        alike &= mine == theirs[at]
    alike &= np.abs(told.volume - there.volume[at]) <= 1e-8 + 1e-12 * np.abs(told.volume)
    return known, alike


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
