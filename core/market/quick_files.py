"""Large candle files into columns at once, where they are plain: digits, points and separators, and nothing wrong.

Pure; owns no file. Exact: the integers are read from the digits themselves, and a point only
says by which power of ten to multiply. Whatever is not plain (an exponent, a sign, a header,
more than 8 decimals, a candle off the grid) answers None; then core/market/candle_files.py
reads row by row, and says what is wrong where something is. Measured with 525,600 rows of Binance's
CSV: 2.0 s so, 23 s row by row, on the same busy machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.market import bars
from core.market.bars import Bars
from core.market.resample import floors

_COMMA, _END, _POINT, _ZERO, _NINE = b",\n.09"
_BLANKS = b" \t\r\n"
_MICROSECONDS = 10**14
_MOST_DIGITS = 18  # always fits an int64
_EXACT = 2**53


def read(content: bytes, symbol: str, timeframe: str) -> Bars | None:
    """Binance's 12-column CSV or `[[ms, open, high, low, close, volume], ...]` JSON, unpacked; None where it must be read row by row."""
    if content[:1] == b"[":
        content = content.translate(None, _BLANKS)
        if content[:2] != b"[[" or content[-2:] != b"]]":
            return None
        content = content[2:-2].replace(b"],[", b"\n") + b"\n"
        columns = 6
    else:
        content = content.replace(b"\r\n", b"\n")
        content += b"" if content.endswith(b"\n") else b"\n"
        columns = 12
    table = _table(content, columns)
    if table is None:
        return None
    digits, decimals, lengths = table
    if decimals[:, 0].any() or decimals[:, 1:6].max() > bars.DECIMALS or lengths[:, :6].max() > _MOST_DIGITS:
        return None
    if columns == 12 and (decimals[:, (6, 8)].any() or decimals[:, 7:11].max() > bars.DECIMALS or lengths[:, 6:11].max() > _MOST_DIGITS):
        return None
    power = bars.DECIMALS - decimals[:, 1:5]
    prices = digits[:, 1:5]
    if (prices > bars.MOST // 10**power).any():
        return None
    o, h, low, c = np.ascontiguousarray((prices * 10**power).T)
    times = np.where(digits[:, 0] >= _MICROSECONDS, digits[:, 0] // 1000, digits[:, 0])
    volume = digits[:, 5]
    fine = (low > 0) & (low <= o) & (low <= c) & (o <= h) & (c <= h) & (floors(times, timeframe) == times) & (volume <= _EXACT)
    if not fine.all() or (times[1:] <= times[:-1]).any():
        return None
    return Bars(symbol, timeframe, times, o, h, low, c, volume / 10.0 ** decimals[:, 5])


def _table(content: bytes, columns: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None:
    """Of every field its digits as one number, how many of them are decimals, and how many there are."""
    raw = np.frombuffer(content, np.uint8)
    between = np.flatnonzero((raw == _COMMA) | (raw == _END))
    points = np.flatnonzero(raw == _POINT)
    others = len(raw) - len(between) - len(points)
    if not len(between) or len(between) % columns or int(np.count_nonzero((raw >= _ZERO) & (raw <= _NINE))) != others:
        return None
    ends = between.reshape(-1, columns)
    if (raw[ends[:, -1]] != _END).any() or (raw[ends[:, :-1]] != _COMMA).any():
        return None
    owners = np.searchsorted(between, points)
    if len(owners) > 1 and (np.diff(owners) == 0).any():
        return None
    decimals = np.zeros(len(between), np.int64)
    decimals[owners] = between[owners] - points - 1
    lengths = np.diff(between, prepend=-1) - 1
    lengths[owners] -= 1
    if (lengths <= 0).any() or (lengths - decimals <= 0).any() or lengths.max() > _MOST_DIGITS + 1:
        return None
    digits = np.fromstring(content.replace(b".", b"").replace(b"\n", b","), np.int64, sep=",")  # type: ignore[call-overload]
    if len(digits) != len(between):
        return None
    return digits.reshape(-1, columns), decimals.reshape(-1, columns), lengths.reshape(-1, columns)
