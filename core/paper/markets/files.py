"""Candle files read into columns of integers: Binance's 12-column CSV and `[[ms,o,h,l,c,v]]` JSON, also gzipped.

Every number goes from its decimal text to an integer of 1e-8; none is ever a float. Times
may be ms or, as in Binance's archives since 2025, µs. What can't be trusted is refused
with the file's name, the row and what would be right. Reads files, owns none.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from core.errors import InputError
from core.market import listings, timeframes
from core.paper.markets.tape import UNIT, Bars, Ints

_PAIR = re.compile(r"(?P<base>[A-Z0-9]+)_(?P<quote>[A-Z0-9]+)-(?P<tf>[0-9]+[A-Za-z]+)(-[\w-]+)?\.(?P<kind>json|csv)(\.gz)?")
_ONE = re.compile(r"(?P<symbol>[A-Z0-9]+)-(?P<tf>[0-9]+[A-Za-z]+)(-[\w-]+)?\.(?P<kind>json|csv)(\.gz)?")
_MICROSECONDS = 10**14  # a ms time this large lies in the year 5138
_MOST = 9 * 10**18  # what an int64 holds, nearly
_COLUMNS = (
    "the open time in ms or µs",
    *(f"the {name}, a plain number" for name in ("open", "high", "low", "close", "volume")),
    "the close time",
    "the quote volume, a plain number",
    "the count of trades",
    "the taker buy volume, a plain number",
    "the taker buy quote volume, a plain number",
    "0",
)


class BadFile(InputError):
    """A candle file can't be trusted."""


class Name(NamedTuple):
    """What a file's name says."""

    symbol: str
    base: str
    quote: str
    timeframe: str
    kind: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """One file's candles. Volumes are integers of 10**-`volume_decimals`: 8, or fewer where they would not fit."""

    path: Path
    name: Name
    bars: Bars
    volume_decimals: int


def name_of(path: Path) -> Name | None:
    """`BTC_USDT-5m.json.gz` or `BTCUSDT-1m-2023-01.csv.gz`, taken at its word; None when it is not a candle file's name.

    A symbol is never taken apart by its text: without the underscore it must be in the
    table, which knows both assets; BadFile otherwise.
    """
    match = _PAIR.fullmatch(path.name) or _ONE.fullmatch(path.name)
    if match is None:
        return None
    timeframe = match["tf"]
    if timeframe not in timeframes.ALL:
        raise BadFile(f"{path}: {timeframe} is not a timeframe; the name must have one of {', '.join(timeframes.ALL)}")
    if "base" in match.groupdict():
        return Name(match["base"] + match["quote"], match["base"], match["quote"], timeframe, match["kind"])
    figures = listings.known().get(match["symbol"])
    if figures is None:
        raise BadFile(f"{path}: {match['symbol']} is not a known symbol, so its base and quote asset can't be told; name the file BASE_QUOTE-{timeframe}...")
    return Name(figures.symbol, figures.base, figures.quote, timeframe, match["kind"])


def load(path: Path, name: Name) -> Loaded:
    """The candles of one file, checked: ascending, on the timeframe's grid, low <= open, close <= high. BadFile otherwise."""
    content = _content(path)
    rows, above = _json_rows(path, content) if name.kind == "json" else _csv_rows(path, content)
    if not rows:
        raise BadFile(f"{path}: holds no candle; remove it or fetch it again")
    told = _Rows(path, rows, above)
    times = told.ints(0, _time)
    o, h, low, c = (told.ints(at, units) for at in (1, 2, 3, 4))
    volume = told.column(5, units)
    more = len(rows[0]) >= 11  # Binance's columns, not the six
    bought = told.column(9, units) if more else None
    decimals = 8
    while max(volume) // 10 ** (8 - decimals) > _MOST // 1000 and decimals:
        decimals -= 1  # a thousand such candles still add up; more do with Python's integers
    down = 10 ** (8 - decimals)
    nothing: Ints = np.broadcast_to(np.zeros(1, np.int64), len(rows))
    bars = Bars(
        times,
        o,
        h,
        low,
        c,
        told.fitting(5, [v // down for v in volume]),
        told.ints(7, units) if more else nothing,
        told.ints(8, int) if more else nothing,
        told.fitting(9, [v // down for v in bought]) if bought is not None else nothing,
        told.ints(10, units) if more else nothing,
    )
    return Loaded(path, name, _checked(path, above, name.timeframe, bars), decimals)


@dataclass(frozen=True, slots=True)
class _Rows:
    """A file's rows as text, and how many lines lie above the first, so that an error names the row a person sees."""

    path: Path
    rows: list[list[Any]]
    above: int

    def column(self, at: int, convert: Callable[[str], int]) -> list[int]:
        try:
            return [convert(row[at]) for row in self.rows]
        except (ValueError, TypeError, AttributeError):  # null, true and lists have no digits
            for i, row in enumerate(self.rows):
                try:
                    convert(row[at])
                except (ValueError, TypeError, AttributeError) as e:
                    raise self.bad(i, at, "is not " + ("a time in ms or µs" if at == 0 else "a number")) from e
            raise

    def fitting(self, at: int, values: list[int]) -> Ints:
        if max(values) >= _MOST:
            raise self.bad(values.index(max(values)), at, "is too large")
        if min(values) <= -_MOST:
            raise self.bad(values.index(min(values)), at, "is too small")
        return np.array(values, np.int64)

    def ints(self, at: int, convert: Callable[[str], int]) -> Ints:
        return self.fitting(at, self.column(at, convert))

    def bad(self, i: int, at: int, why: str) -> BadFile:
        return BadFile(f"{self.path}: row {i + 1 + self.above}: {_shown(self.rows[i][at])} {why} in column {at + 1}; it must be {_COLUMNS[at]}")


def units(number: str) -> int:
    """A decimal's text as an integer of 1e-8. What has more digits is rounded: Binance has 8. ValueError if it is no number."""
    whole, _, fraction = number.partition(".")
    if len(fraction) <= 8 and whole.isdecimal() and (not fraction or fraction.isdecimal()):
        return int(whole + fraction.ljust(8, "0"))
    try:
        return int((Decimal(number) / UNIT).to_integral_value(ROUND_HALF_EVEN))
    except (InvalidOperation, OverflowError, ValueError):
        raise ValueError(f"{number!r} is not a number") from None


def _time(value: str) -> int:
    ms = int(value)
    ms = ms // 1000 if ms >= _MICROSECONDS else ms
    if not 0 <= ms < _MICROSECONDS:
        raise ValueError(f"{value} is not a time")
    return ms


def _content(path: Path) -> str:
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
        return raw.decode("utf-8-sig")
    except (EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise BadFile(f"{path}: is not a whole gzip file ({e}); fetch it again") from e
    except UnicodeDecodeError as e:
        raise BadFile(f"{path}: is not text (byte {e.start}); it must be JSON or CSV, gzipped only if its name ends in .gz") from e
    except OSError as e:
        raise BadFile(f"{path}: can't be read ({e.strerror or e}); it must be a file that you may read") from e


def _json_rows(path: Path, content: str) -> tuple[list[list[Any]], int]:
    try:
        rows = json.loads(content, parse_float=str, parse_int=str, parse_constant=str)
    except json.JSONDecodeError as e:
        row = max(content.count("[", 0, e.pos) - 1, 1)
        raise BadFile(f"{path}: row {row}: is not JSON ({e.msg} at character {e.pos}); it must be [[ms, open, high, low, close, volume], ...]") from e
    except RecursionError:
        rows = None
    if not isinstance(rows, list):
        raise BadFile(f"{path}: must be a list of candles, [[ms, open, high, low, close, volume], ...]")
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) < 6 or len(row) != len(rows[0]):
            raise BadFile(f"{path}: row {i + 1}: {_shown(row)} is not a candle; it must be [ms, open, high, low, close, volume]")
    return rows, 0


def _csv_rows(path: Path, content: str) -> tuple[list[list[Any]], int]:
    lines = content.rstrip("\r\n").splitlines()
    header = int(bool(lines) and lines[0].split(",")[0].strip().replace("_", "").isalpha())
    if lines and not content.endswith(("\n", "\r")) and lines[-1].count(",") < 11:
        lines.pop()  # torn while it was written
    rows: list[list[Any]] = [line.split(",") for line in lines[header:]]
    for i, row in enumerate(rows):
        if len(row) != 12:
            raise BadFile(f"{path}: row {i + 1 + header}: {_shown(','.join(row))} has {len(row)} columns; it must have Binance's 12, from open time to ignore")
    return rows, header


def _checked(path: Path, above: int, timeframe: str, bars: Bars) -> Bars:
    def refuse(wrong: Any, why: str) -> None:
        if wrong.any():
            i = int(wrong.argmax())
            raise BadFile(f"{path}: row {i + 1 + above} ({int(bars.t[i])}): {why}")

    def off_grid(ms: int) -> bool:
        return timeframes.floor(ms, timeframe) != ms

    refuse((bars.l <= 0) | (bars.o <= 0) | (bars.c <= 0), "a price must be above 0")
    refuse((bars.l > bars.o) | (bars.l > bars.c) | (bars.h < bars.o) | (bars.h < bars.c), "the low must not lie above open or close, nor the high below")
    refuse(bars.v < 0, "a volume must not be below 0")
    if timeframe in ("1M", "1w"):
        refuse(np.array([off_grid(ms) for ms in bars.t.tolist()]), f"no {timeframe} candle opens then")
    else:
        refuse(bars.t % timeframes.length_ms(timeframe) != 0, f"no {timeframe} candle opens then")
    step = np.diff(bars.t, prepend=bars.t[0] - 1)
    refuse(step < 0, "opens before the row above it; rows must ascend by open time")
    again = step == 0
    if again.any():
        before = np.flatnonzero(again) - 1
        differs = np.zeros(len(again), np.bool_)
        for column in bars:
            differs[before + 1] |= column[before] != column[before + 1]
        refuse(differs, "opens when the row above it does, but says something else; keep the right one")
        bars = Bars(*(column[~again] for column in bars))
    return bars


def merged(first: Loaded, second: Loaded) -> Bars:
    """Two files of one symbol and timeframe as one. Where both have a candle they must agree.

    But a file's last row may be unfinished: there the other file is right.
    """
    a, b = first.bars, second.bars
    if a.t[-1] > b.t[-1]:
        a, b, first, second = b, a, second, first
    if a.t[-1] < b.t[0]:
        return Bars(*(np.concatenate(columns) for columns in zip(a, b, strict=True)))
    _, in_a, in_b = np.intersect1d(a.t, b.t, assume_unique=True, return_indices=True)
    same = np.ones(len(in_a), np.bool_)
    for left, right in zip(a, b, strict=True):
        same &= left[in_a] == right[in_b]
    last_a, last_b = in_a == len(a.t) - 1, in_b == len(b.t) - 1
    if not (same | last_a | last_b).all():
        i = int((~(same | last_a | last_b)).argmax())
        raise BadFile(f"{second.path}: row of {int(b.t[in_b[i]])} contradicts {first.path}; keep the right one of the two files")
    # A last row yields to the other file's row; where both are last, the second file's stays.
    keep_a, keep_b = np.ones(len(a.t), np.bool_), np.ones(len(b.t), np.bool_)
    yields = last_b & ~last_a & ~same
    keep_b[in_b[yields]] = False
    keep_a[in_a[~yields]] = False
    both = Bars(*(np.concatenate((left[keep_a], right[keep_b])) for left, right in zip(a, b, strict=True)))
    order = np.argsort(both.t, kind="stable")
    return Bars(*(column[order] for column in both))


def _shown(value: object) -> str:
    shown = str(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
