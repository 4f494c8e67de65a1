"""A thousand closed candles as one small, exact blob: how the store keeps what no longer changes.

Pure; owns no file (core/market/history.py keeps the blobs). A blob gives back Binance's rows
to the letter: of each column it is known how many decimals its text showed. Rows that don't
share one form (another count of decimals within a column, a close time of their own, a number
beyond an int64) are not taken (`pack` answers None), and stay rows.

Layout: of a column of integers the differences that are small (an open to the close before
it, a close to its open, a high and a low to the nearer of the two), the integers' first bytes
together, then their second ones and so on, all of it through zlib, whose checksum notices a
damaged blob. The six columns that a backtest reads are one blob, the other four a second.
Packing and reading single rows need the standard library alone: bots don't load numpy for it.
"""

from __future__ import annotations

import math
import re
import sqlite3
import struct
import sys
import zlib
from array import array
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from core.market import timeframes
from core.model import KlineRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIZE = 1000
"""Candles a chunk: as many as one request for candles brings, so that a page of a backfill is a chunk."""
_MOST = 2**61  # differences of two such still fit an int64
_PRICES, _VOLUME, _QUOTE, _TAKER_BASE, _TAKER_QUOTE = range(5)
_MAIN, _REST = 6, 4
_LEVEL = 6
_MOST_SHOWN = 30


class Damaged(sqlite3.DatabaseError):
    """A blob that can't be read. It is an error of the database, which callers of the store expect."""


class Chunk(NamedTuple):
    """`form`: shown decimals and stripped zeros of prices, volume, quote volume and the two taker volumes, a byte each."""

    start_ms: int
    candles: int
    form: bytes
    main: bytes
    rest: bytes


def start_of(open_ms: int, timeframe: str) -> int | None:
    """Where the chunk begins that a candle belongs to; None for `1M`, which is never packed."""
    if timeframe == "1M":
        return None
    span = SIZE * timeframes.length_ms(timeframe)
    offset = timeframes.floor(0, timeframe)  # a week opens on a Monday, the epoch did not
    return (open_ms - offset) // span * span + offset


def end_of(start_ms: int, timeframe: str) -> int:
    """When the chunk is over."""
    return start_ms + SIZE * timeframes.length_ms(timeframe)


def settled(start_ms: int, timeframe: str, now_ms: int) -> bool:
    """Whether the chunk may be packed: it has been over for as long as it lasted, so that the last thousand
    candles, which bots ask for at every check, are rows and cost them no unpacking."""
    return start_ms + 2 * SIZE * timeframes.length_ms(timeframe) <= now_ms


def pack(rows: Sequence[KlineRow], timeframe: str) -> Chunk | None:
    """Rows of one chunk, ascending; None where they can't be given back exactly."""
    start = start_of(int(rows[0][0]), timeframe)
    if start is None:
        return None
    length = timeframes.length_ms(timeframe)
    places = [(int(row[0]) - start) // length for row in rows]
    if any(int(row[6]) != int(row[0]) + length - 1 or start + place * length != row[0] for row, place in zip(rows, places, strict=True)):
        return None
    columns = list(zip(*(row[:11] for row in rows), strict=True))
    found = [_integers([text for at in group for text in columns[at]]) for group in ((1, 2, 3, 4), (5,), (7,), (9,), (10,))]
    if any(f is None for f in found) or any(not isinstance(n, int) or not 0 <= n < _MOST for n in columns[8]):
        return None
    form = bytes(b for f in found if f for b in f[:2])
    (prices, volume, quote, taker_base, taker_quote) = [f[2] for f in found if f]
    n = len(rows)
    o, h, low, c = (prices[i * n : (i + 1) * n] for i in range(4))
    main = [
        _steps(places),
        [a - b for a, b in zip(o, [0, *c], strict=False)],
        [a - max(b, d) for a, b, d in zip(h, o, c, strict=True)],
        [min(b, d) - a for a, b, d in zip(low, o, c, strict=True)],
        [a - b for a, b in zip(c, o, strict=True)],
        volume,
    ]
    return Chunk(start, n, form, _squeeze(main), _squeeze([quote, list(columns[8]), taker_base, taker_quote]))


def rows_of(chunk: Chunk, timeframe: str) -> list[KlineRow]:
    """The rows as they were, Binance's twelve fields. Raises Damaged."""
    places, o, h, low, c, volume = _planes(chunk.main, chunk.candles, _MAIN)
    quote, trades, taker_base, taker_quote = _planes(chunk.rest, chunk.candles, _REST)
    length, form = timeframes.length_ms(timeframe), chunk.form
    rows: list[KlineRow] = []
    before = 0
    price, base, quoted = _writer(form, _PRICES), _writer(form, _VOLUME), _writer(form, _QUOTE)
    taken, paid = _writer(form, _TAKER_BASE), _writer(form, _TAKER_QUOTE)
    for i, place in enumerate(accumulate(places)):
        opened = before + o[i]
        before = closed = opened + c[i]
        ms = chunk.start_ms + place * length
        high, lowest = max(opened, closed) + h[i], min(opened, closed) - low[i]
        told = [ms, price(opened), price(high), price(lowest), price(closed), base(volume[i]), ms + length - 1]
        rows.append([*told, quoted(quote[i]), trades[i], taken(taker_base[i]), paid(taker_quote[i]), "0"])
    return rows


def columns_of(chunk: Chunk, timeframe: str) -> tuple[NDArray[np.int64], NDArray[np.int64] | None, NDArray[np.float64]]:
    """open_ms (n), prices in units of 1e-8 (4 × n: open, high, low, close) and volumes, as numpy's columns.

    Prices are None where they don't fit units of 1e-8: then the rows must be asked. Raises Damaged."""
    import numpy as np

    raw = np.frombuffer(_whole(chunk.main, chunk.candles, _MAIN), np.uint8).reshape(_MAIN, 8, chunk.candles)
    told = np.ascontiguousarray(raw.transpose(0, 2, 1)).view("<i8")[:, :, 0]
    opened = chunk.start_ms + np.cumsum(told[0]) * timeframes.length_ms(timeframe)
    shown, stripped = chunk.form[2 * _VOLUME : 2 * _VOLUME + 2]
    volume = _quotient(told[5], stripped - shown)
    # An open is the sum of all steps to it: from close to open, and from open to close.
    o = np.cumsum(told[1]) + np.cumsum(told[4]) - told[4]
    c = o + told[4]
    prices = np.stack((o, np.maximum(o, c) + told[2], np.minimum(o, c) - told[3], c))
    shown, stripped = chunk.form[0], chunk.form[1]
    power = 8 - shown + stripped
    if power < 0 or int(np.abs(prices).max()) > (2**63 - 1) // 10**power:
        return opened, None, volume
    return opened, prices * np.int64(10**power), volume


def _quotient(whole: NDArray[np.int64], power: int) -> NDArray[np.float64]:
    """whole × 10**power as floats, each the nearest to its text's number."""
    import numpy as np

    if -22 <= power < 0 and int(np.abs(whole).max()) <= 2**53:  # both sides exact, so that the quotient is the nearest
        return whole / np.float64(10**-power)
    return np.array([float(f"{v}e{power}") for v in whole.tolist()], np.float64)


def _integers(texts: Sequence[str]) -> tuple[int, int, list[int]] | None:
    """Decimals shown, zeros stripped, and the integers; None where the texts don't share one form."""
    if not all(isinstance(t, str) for t in texts):
        return None
    shown = len(texts[0].partition(".")[2])
    form = re.compile(rf"(0|[1-9][0-9]*)\.[0-9]{{{shown}}}" if shown else "0|[1-9][0-9]*").fullmatch
    if shown > _MOST_SHOWN or not all(map(form, texts)):  # what has a sign or another form is not given back to the letter
        return None
    found = [int(t.replace(".", "")) for t in texts]
    common, stripped = math.gcd(*found), 0
    while common and common % 10 == 0 and stripped < _MOST_SHOWN:
        common, stripped = common // 10, stripped + 1
    if stripped:
        unit = 10**stripped
        found = [v // unit for v in found]
    return (shown, stripped, found) if max(found) < _MOST else None


def _writer(form: bytes, which: int) -> Callable[[int], str]:
    return _write(form[2 * which], form[2 * which + 1])


def _write(shown: int, stripped: int) -> Callable[[int], str]:
    times, unit = 10**stripped, 10**shown

    def text(value: int) -> str:
        value *= times
        sign, value = ("-", -value) if value < 0 else ("", value)
        return f"{sign}{value // unit}.{value % unit:0{shown}d}" if shown else f"{sign}{value}"

    return text


def _steps(values: Sequence[int]) -> list[int]:
    return [b - a for a, b in zip([0, *values], values, strict=False)]


def _squeeze(columns: Sequence[Sequence[int]]) -> bytes:
    planes = bytearray()
    for column in columns:
        raw = struct.pack(f"<{len(column)}q", *column)
        for byte in range(8):
            planes += raw[byte::8]
    return zlib.compress(bytes(planes), _LEVEL)


def _whole(blob: bytes, count: int, columns: int) -> bytes:
    try:
        raw = zlib.decompress(blob)
    except zlib.error as e:
        raise Damaged(f"a chunk of stored candles is damaged ({e})") from None
    if len(raw) != columns * 8 * count or not count:
        raise Damaged(f"a chunk of stored candles holds {len(raw)} bytes; {columns * 8 * count} would be right")
    return raw


def _planes(blob: bytes, count: int, columns: int) -> list[array[int]]:
    raw = _whole(blob, count, columns)
    made = []
    for column in range(columns):
        mixed = bytearray(8 * count)
        for byte in range(8):
            at = (column * 8 + byte) * count
            mixed[byte::8] = raw[at : at + count]
        values = array("q", bytes(mixed))
        if sys.byteorder == "big":
            values.byteswap()
        made.append(values)
    return made
