"""Candle files that people bring: Binance's 12-column CSV and `[[ms, open, high, low, close, volume], ...]` JSON, also gzipped.

Nothing is rounded in silence and nothing passes through a float: rows come back as decimal
text with where they stand in the file, and what can't be trusted is named with file, line
and remedy. Reads files, owns none. (The paper exchange's replay reads its folder by
core/paper/markets/files.py, which needs no store.)
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

from core.errors import InputError
from core.market import bars, quick_files, timeframes
from core.market.bars import Bars
from core.model import Venue

SQLITE = b"SQLite format 3\x00"
GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
_NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?")
_MICROSECONDS = 10**14  # a ms time this large lies in the year 5138: Binance's archives count µs since 2025
_MOST_VOLUME = 10**20
_ENOUGH = 10  # candles; of fewer it may be chance that none is another's neighbour
_SHOWN = 10
_NAMES = ("open time", "open", "high", "low", "close", "volume", "close time", "quote volume", "count of trades", "taker volume", "taker quote volume")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a candle. `kind`: number, off_grid, order, duplicate, contradiction, impossible, too_fine, too_large."""

    kind: str
    line: int
    text: str
    open_ms: int | None = None


@dataclass(frozen=True, slots=True)
class CandleFile:
    """A file's candles as Binance's 12-field rows (numbers as plain text of 8 decimals), and what was noticed.

    `rounded` counts volumes with more than 8 decimals (traces of a float in the file), rounded
    to 8; `duplicates` rows that repeat another one exactly, left out."""

    path: Path
    rows: list[list[Any]]
    rounded: int
    duplicates: int
    problems: list[Problem]

    def checked(self) -> CandleFile:
        """Itself; InputError with the first problems where there are any, or without a candle."""
        refuse(self.path, self.problems, len(self.problems), len(self.rows))
        return self


def refuse(path: Path, problems: Sequence[Problem], wrong: int, candles: int) -> None:
    """InputError with the first of `wrong` problems where there are any, or without a candle."""
    if wrong:
        told = "\n".join(f"  line {p.line}: {p.text}" for p in problems[:_SHOWN])
        more = wrong - min(len(problems), _SHOWN)
        tail = f"\n  and {more:,} more" if more > 0 else ""
        raise InputError(f"{path} can't be used, nothing of it was taken. Correct these lines, or fetch the file again:\n{told}{tail}")
    if not candles:
        raise InputError(f"{path} holds no candle; it must hold at least one")


def zipped(path: Path) -> str:
    return f"{path}: is a zip archive, as Binance's public data comes; unpack it and give the .csv"


def is_store(path: Path) -> bool:
    """Whether the file is an SQLite database."""
    try:
        with path.open("rb") as f:
            return f.read(len(SQLITE)) == SQLITE
    except OSError:
        return False


def read(path: str | Path, symbol: str, timeframe: str, venue: Venue | str | None = None) -> Bars:
    """See `core.market.bars.read_file`."""
    path = Path(path).expanduser()
    try:
        timeframes.known(timeframe)
    except ValueError as e:
        raise InputError(str(e)) from None
    if is_store(path):
        from core.market.history import CandleStore

        store = CandleStore(path, read_only=True)
        try:
            key = store.venue_of(symbol, timeframe, venue)
            return store.arrays(key, symbol, timeframe)
        finally:
            store.close()
    content = _content(path)
    quick = quick_files.read(content, symbol, timeframe)
    if quick is not None:
        of_this_timeframe(path, len(quick), _apart(quick.open_ms.tolist()), timeframe)
    return quick if quick is not None else Bars.from_rows(_loaded(path, content, timeframe).checked().rows, symbol, timeframe)


def load(path: str | Path, timeframe: str) -> CandleFile:
    """A candle file with everything that is wrong in it. InputError where it can't be read as one at all."""
    path = Path(path).expanduser()
    return _loaded(path, _content(path), timeframe)


def _loaded(path: Path, raw: bytes, timeframe: str) -> CandleFile:
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise InputError(_no_text(path, f"byte {e.start}")) from e
    rows, above = _json_rows(path, content) if content.lstrip()[:1] in ("[", "{") else _csv_rows(path, content)
    found = _Reader(path, timeframe, above).read(rows)
    of_this_timeframe(path, len(found.rows), _apart([row[0] for row in found.rows]), timeframe)
    return found


def of_this_timeframe(path: Path, candles: int, apart: int | None, timeframe: str) -> None:
    """InputError where no two candles are neighbours (`apart`: ms between the nearest two opens): candles of an hour all open
    on whole minutes too, and would be minutes with gaps."""
    if timeframe == "1M" or candles < _ENOUGH or apart is None or apart <= timeframes.length_ms(timeframe):
        return
    told = next((t for t, ms in timeframes.MS.items() if ms == apart), None)
    right = f"say --timeframe {told}, or give the file of {timeframe}" if told else f"give the file of {timeframe}"
    raise InputError(f"{path}: no two of its candles open less than {told or f'{apart // 1000} s'} apart, so they are not {timeframe}; {right}")


def _apart(opens: Sequence[int]) -> int | None:
    return min((b - a for a, b in pairwise(opens)), default=None)


def examine_lines(path: Path, timeframe: str, lines: Sequence[bytes], above: int, last: list[Any] | None) -> CandleFile:
    """Lines of a CSV, `above` of them before and `last` the row that the last of those gave. InputError where they are no candles."""
    try:
        content = b"".join(lines).decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise InputError(_no_text(path, f"behind line {above}, byte {e.start}")) from e
    rows, header = _csv_rows(path, content, above)
    return _Reader(path, timeframe, above + header, last).read(rows)


def _no_text(path: Path, where: str) -> str:
    return f"{path}: is not text ({where}); it must be a candle store, JSON or CSV, the last two also gzipped"


def examine(rows: Sequence[Sequence[Any]], path: Path, timeframe: str) -> CandleFile:
    """Rows from elsewhere, judged as those of a file; a line is a row's number."""
    return _Reader(path, timeframe, 0).read(rows)


class _Reader:
    def __init__(self, path: Path, timeframe: str, above: int, last: list[Any] | None = None):
        self.path, self.timeframe, self.above, self.last = path, timeframe, above, last
        self.problems: list[Problem] = []
        self.rounded = self.duplicates = 0

    def read(self, rows: Sequence[Sequence[Any]]) -> CandleFile:
        made: list[list[Any]] = []
        fixed = None if self.timeframe == "1M" or self.timeframe == "1w" else timeframes.length_ms(self.timeframe)
        for i, told in enumerate(rows):
            line = i + 1 + self.above
            row = self._row(told, line)
            if row is None:
                continue
            ms = row[0]
            if ms % fixed if fixed else timeframes.floor(ms, self.timeframe) != ms:
                self._say("off_grid", line, f"no {self.timeframe} candle opens at {ms}; it would be {timeframes.floor(ms, self.timeframe)}", ms)
                continue
            self._possible(row, line)
            if self.last is not None and ms <= self.last[0]:
                self._again(self.last, row, line)
                continue
            row[6] = timeframes.close_ms(ms, self.timeframe)  # in the file it may be µs, or missing
            made.append(row)
            self.last = row
        return CandleFile(self.path, made, self.rounded, self.duplicates, self.problems)

    def _row(self, told: Sequence[Any], line: int) -> list[Any] | None:
        row: list[Any] = [0, *["0.00000000"] * 5, 0, "0.00000000", 0, "0.00000000", "0.00000000", "0"]
        for at in range(min(len(told), 11)):
            convert: Callable[[str], Any] = _time if at in (0, 6) else int if at == 8 else self._volume if at in (5, 7, 9, 10) else _price
            try:
                row[at] = convert(str(told[at]).strip())
            except _Unfit as e:
                self._say(e.kind, line, f"the {_NAMES[at]} {e}")
                return None
            except ValueError:
                kind = "a time in ms or µs" if at in (0, 6) else "a whole number" if at == 8 else "a plain number"
                self._say("number", line, f"the {_NAMES[at]} is {_shown(told[at])!r}; it must be {kind}")
                return None
        return row

    def _volume(self, text: str) -> str:
        number = _number(text)
        if abs(number) >= _MOST_VOLUME:
            raise _Unfit("too_large", f"{_shown(text)} is too large; it must lie below {_MOST_VOLUME:g}")
        exponent = number.as_tuple().exponent
        if isinstance(exponent, int) and exponent < -bars.DECIMALS:
            number, self.rounded = number.quantize(Decimal("0.00000001"), ROUND_HALF_EVEN), self.rounded + 1
        return _padded(number)

    def _possible(self, row: list[Any], line: int) -> None:
        o, h, low, c = (bars.units(v) for v in row[1:5])
        if min(o, h, low, c) <= 0:
            self._say("impossible", line, "a price is not above 0", row[0])
        elif h < low:
            self._say("impossible", line, f"the high {row[2]} lies below the low {row[3]}", row[0])
        elif not low <= o <= h or not low <= c <= h:
            what, price = ("open", row[1]) if not low <= o <= h else ("close", row[4])
            self._say("impossible", line, f"the {what} {price} lies outside of low {row[3]} and high {row[2]}", row[0])
        if any(str(row[at]).startswith("-") for at in (5, 7, 8, 9, 10)):
            self._say("impossible", line, "a volume is negative", row[0])

    def _again(self, last: list[Any], row: list[Any], line: int) -> None:
        ms = row[0]
        if ms < last[0]:
            self._say("order", line, f"the candle of {ms} follows that of {last[0]}; rows must ascend by open time", ms)
        elif row[:6] == last[:6] and row[7:] == last[7:]:
            self.duplicates += 1
        else:
            self._say("contradiction", line, f"the candle of {ms} is there already, and says something else; keep the right one", ms)

    def _say(self, kind: str, line: int, text: str, open_ms: int | None = None) -> None:
        self.problems.append(Problem(kind, line, text, open_ms))


class _Unfit(ValueError):
    def __init__(self, kind: str, text: str):
        self.kind = kind
        super().__init__(text)


def _number(text: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    return Decimal(text)


def _price(text: str) -> str:
    try:
        return bars.price_text(bars.units(text))
    except ValueError:
        number = _number(text)  # no number at all: told as such
    if abs(number) * bars.SCALE > bars.MOST:
        raise _Unfit("too_large", f"{_shown(text)} is too large; it must lie below {bars.MOST // bars.SCALE:,}")
    raise _Unfit("too_fine", f"{_shown(text)} has more than 8 decimals; round it to the exchange's tick, or fetch the file again")


def _padded(number: Decimal) -> str:
    whole, _, fraction = format(number, "f").partition(".")
    return f"{whole}.{fraction:0<8}"


def _time(text: str) -> int:
    ms = int(text)
    ms = ms // 1000 if ms >= _MICROSECONDS else ms
    if not 0 <= ms < _MICROSECONDS:
        raise ValueError(text)
    return ms


def _content(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        if raw.startswith(ZIP):
            raise InputError(zipped(path))
        if raw.startswith(GZIP):
            raw = gzip.decompress(raw)
        return raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise InputError(f"{path}: is not a whole gzip file ({e}); fetch it again") from e
    except OSError as e:
        raise InputError(f"{path}: can't be read ({e.strerror or e}); it must be a file that you may read") from e


def _json_rows(path: Path, content: str) -> tuple[list[Any], int]:
    wanted = "[[ms, open, high, low, close, volume], ...]"
    try:
        rows = json.loads(content, parse_float=str, parse_int=str, parse_constant=str)
    except json.JSONDecodeError as e:
        raise InputError(f"{path}: line {max(content.count('[', 0, e.pos) - 1, 1)}: is not JSON ({e.msg}, character {e.pos}); it must be {wanted}") from e
    except RecursionError:
        rows = None
    if not isinstance(rows, list):
        raise InputError(f"{path}: is not a list of candles; it must be {wanted}")
    for i, row in enumerate(rows, 1):
        if not isinstance(row, list) or len(row) not in (6, 11, 12):
            raise InputError(f"{path}: line {i}: {_shown(row)} is not a candle; it must be [ms, open, high, low, close, volume] or Binance's 12 fields")
    return rows, 0


def _csv_rows(path: Path, content: str, above: int = 0) -> tuple[list[Any], int]:
    lines = content.rstrip("\r\n").splitlines()
    header = int(bool(lines) and not above and re.match(r'"?[A-Za-z]', lines[0]) is not None)
    rows = [line.split(",") for line in lines[header:]]
    for i, row in enumerate(rows, 1 + header + above):
        if len(row) != 12:
            raise InputError(f"{path}: line {i}: {_shown(','.join(row))!r} has {len(row)} columns; it must have Binance's 12, from open time to ignore")
    return rows, header


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
