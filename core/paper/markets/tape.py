"""What synthetic and replay share: candles kept as columns of integers, served as klines, prices and prints.

A form says where its finest candles come from (`_bars`, `_whole`, `_at`); everything seen
of them is made here, so that klines, prices and prints can't disagree. Prices and quote
volumes are integers of 1e-8, base volumes integers of 10**-`volume_decimals`: exact, and
small in memory. Owns no files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.market import listings, path, resample, timeframes
from core.market.timeframes import DAY
from core.paper.markets import Print

UNIT = Decimal("0.00000001")
SCALE = 100_000_000
Ints = NDArray[np.int64]
_SAFE_SUM = 9.0e18  # below 2**63: a sum that may pass it is taken with Python's integers


class Bars(NamedTuple):
    """Candles as columns, oldest first. Volumes may be object columns of Python ints where int64 is too small."""

    t: Ints  # open time
    o: Ints
    h: Ints
    l: Ints  # noqa: E741 - the field's own name
    c: Ints
    v: Ints  # base volume
    q: Ints  # quote volume
    n: Ints  # trades
    bv: Ints  # taker buy base volume
    bq: Ints  # taker buy quote volume

    def cut(self, start: int | None, stop: int | None) -> Bars:
        return Bars(*(column[start:stop] for column in self))


NO_BARS = Bars(*(np.empty(0, np.int64) for _ in Bars._fields))


def join(parts: list[Bars]) -> Bars:
    if not parts:
        return NO_BARS
    return parts[0] if len(parts) == 1 else Bars(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def fold(bars: Bars, opens: Ints) -> Bars:
    """Longer candles: `opens` is each bar's longer candle's open time, ascending. Prices by `core.market.resample.joined`."""
    if not len(bars.t):
        return NO_BARS
    made = resample.joined(opens, bars.o, bars.h, bars.l, bars.c, bars.v > 0)
    longest = int(np.diff(np.append(made.starts, len(opens))).max())
    sums = (_sums(column, made.starts, longest) for column in (bars.v, bars.q, bars.n, bars.bv, bars.bq))
    return Bars(opens[made.starts], made.open, made.high, made.low, made.close, *sums)


def _sums(column: Ints, starts: Ints, longest: int) -> Ints:
    if column.dtype != object and float(column.max()) * longest > _SAFE_SUM:
        column = column.astype(object)
    return np.add.reduceat(column, starts)


def text(units: int) -> str:
    """Units of 1e-8 as Binance prints them: plain digits, 8 decimals."""
    s = str(units)
    return f"{s[:-8]}.{s[-8:]}" if len(s) > 8 else f"0.{s:0>8}"


def decimal(units: int) -> Decimal:
    return units * UNIT


class Block(NamedTuple):
    """A stretch of the path: when, at what price, and whether a candle opens there."""

    at: Ints
    price: Ints
    opens: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Frame:
    """What is fixed of a symbol's candles: timeframe, span, volume unit."""

    timeframe: str
    first_ms: int  # open time of the first candle
    end_ms: int | None  # close time of the last one
    volume_decimals: int


class TapeMarket(ABC):
    """Market (core/paper/markets/__init__.py) over columns of finest candles."""

    source: str
    first_ms: int
    end_ms: int | None
    chunk_ms = DAY  # how much of the path is laid out at once

    # -- what a form says ---------------------------------------------------------

    @abstractmethod
    def _figures(self) -> dict[str, listings.Figures]:
        """Every symbol, in order."""

    @abstractmethod
    def _frame(self, symbol: str) -> Frame | None:
        """None for a symbol that isn't there."""

    @abstractmethod
    def _bars(self, symbol: str, from_ms: int, to_ms: int) -> Bars:
        """The finest candles with from_ms <= open < to_ms."""

    @abstractmethod
    def _whole(self, symbol: str, timeframe: str, from_ms: int | None, to_ms: int, limit: int) -> Bars:
        """Finished candles of a longer timeframe with from_ms <= open <= to_ms: the oldest `limit` (a few more do no harm), or without from_ms the latest."""

    @abstractmethod
    def _at(self, symbol: str, ms: int) -> tuple[int, int, int, int, int, int] | None:
        """The last finest candle that opens at or before `ms`: (open_ms, close_ms, open, high, low, close)."""

    # -- Market -------------------------------------------------------------------

    def symbols(self) -> list[dict[str, Any]]:
        return [listings.entry(f) for f in self._figures().values()]

    def symbol(self, name: str) -> dict[str, Any] | None:
        figures = self._figures().get(name)
        return listings.entry(figures) if figures else None

    def listed(self, name: str, ms: int) -> bool:
        frame = self._frame(name)
        return frame is not None and ms >= frame.first_ms

    def price(self, symbol: str, ms: int) -> Decimal | None:
        candle = self._at(symbol, ms)
        return None if candle is None else decimal(path.price(candle, ms))

    def candle(self, symbol: str, ms: int) -> tuple[int, int, Decimal, Decimal, Decimal, Decimal] | None:
        candle = self._at(symbol, ms)
        if candle is None or candle[1] < ms:
            return None
        open_ms, close_ms, *prices = candle
        o, h, low, c = (decimal(p) for p in prices)
        return open_ms, close_ms, o, h, low, c

    def halted(self, symbol: str, ms: int) -> bool:
        candle = self._at(symbol, ms)
        return candle is not None and candle[1] < ms

    def klines(self, symbol: str, interval: str, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int) -> list[list[Any]]:
        timeframes.known(interval)
        frame = self._frame(symbol)
        if frame is None or limit < 1 or now_ms < frame.first_ms or not timeframes.nests(frame.timeframe, interval):
            return []
        last = now_ms if end_ms is None else min(end_ms, now_ms)
        if last < 0 or (start_ms is not None and start_ms > last):
            return []
        # One more where the open candle may have to be dropped: of a candle that straddles
        # a gap nothing may have printed yet.
        bars = self._whole(symbol, interval, start_ms, last, limit if start_ms is not None else limit + 1)
        if len(bars.t):
            opened = int(bars.t[-1])
            if timeframes.close_ms(opened, interval) > now_ms:
                bars = join([bars.cut(None, -1), self._open_candle(symbol, frame, opened, now_ms)])
        bars = bars.cut(-limit, None) if start_ms is None else bars.cut(None, limit)
        return self._rows(bars, interval, frame.volume_decimals)

    def prints(self, symbol: str, after_ms: int, until_ms: int) -> Iterator[Print]:
        for block in self._printed(symbol, after_ms, until_ms):
            for ms, price, opens in zip(block.at.tolist(), block.price.tolist(), block.opens.tolist(), strict=True):
                yield Print(ms, price * UNIT, opens)

    def reach(self, symbol: str, after_ms: int, until_ms: int, below: Decimal | None, above: Decimal | None) -> tuple[Decimal, Print] | None:
        if below is None and above is None:
            return None
        floor_ = None if below is None else int((below / UNIT).to_integral_value(ROUND_FLOOR))
        ceiling = None if above is None else int((above / UNIT).to_integral_value(ROUND_CEILING))
        before = self._at(symbol, after_ms)
        came = None if before is None else path.price(before, after_ms)
        for at, prices, opens in self._printed(symbol, after_ms, until_ms):
            walked = np.empty_like(prices)  # where each walk comes from
            walked[0] = prices[0] if came is None else came
            walked[1:] = prices[:-1]
            hit = np.zeros(len(prices), np.bool_)
            if floor_ is not None:
                hit |= np.minimum(walked, prices) <= floor_
            if ceiling is not None:
                hit |= np.maximum(walked, prices) >= ceiling
            first = int(hit.argmax())
            if hit[first]:
                return decimal(int(walked[first])), Print(int(at[first]), decimal(int(prices[first])), bool(opens[first]))
            came = int(prices[-1])
        return None

    # -- inside -------------------------------------------------------------------

    def _printed(self, symbol: str, after_ms: int, until_ms: int) -> Iterator[Block]:
        frame = self._frame(symbol)
        if frame is None:
            return
        begun = self._at(symbol, after_ms + 1)
        start = frame.first_ms if begun is None else begun[0]
        until = until_ms if frame.end_ms is None else min(until_ms, frame.end_ms)
        while start <= until:
            stop = min((start // self.chunk_ms + 1) * self.chunk_ms, until + 1)
            bars = self._bars(symbol, start, stop)
            start = stop
            block = _laid_out(bars, frame)
            inside = (block.at > after_ms) & (block.at <= until)
            if inside.any():
                yield Block(block.at[inside], block.price[inside], block.opens[inside])

    def _open_candle(self, symbol: str, frame: Frame, opened: int, now_ms: int) -> Bars:
        """The candle that opened at `opened` as it stands at `now_ms`: nothing of what comes after goes into it."""
        bars = self._bars(symbol, opened, now_ms + 1)
        if not len(bars.t):
            return NO_BARS
        block = _laid_out(bars.cut(-1, None), frame)
        seen = block.price[block.at <= now_ms]
        part = len(seen)
        if part < 4:
            # Volume comes in four equal parts, one a print, rounded up so that trading never looks like none.
            last = [int(bars.t[-1]), int(bars.o[-1]), int(seen.max()), int(seen.min()), int(seen[-1])]
            last += [-(-int(column[-1]) * part // 4) for column in (bars.v, bars.q, bars.n, bars.bv, bars.bq)]
            bars = join([bars.cut(None, -1), Bars(*(np.array([value], np.int64) for value in last))])
        return fold(bars, np.full(len(bars.t), opened, np.int64))

    @staticmethod
    def _rows(bars: Bars, interval: str, volume_decimals: int) -> list[list[Any]]:
        pad = 10 ** (8 - volume_decimals)
        closes = _closes(bars.t, interval)
        columns = (column.tolist() for column in (bars.t, bars.o, bars.h, bars.l, bars.c, bars.v, closes, bars.q, bars.n, bars.bv, bars.bq))
        return [
            [t, text(o), text(h), text(low), text(c), text(v * pad), close, text(q), n, text(bv * pad), text(bq), "0"]
            for t, o, h, low, c, v, close, q, n, bv, bq in zip(*columns, strict=True)
        ]


def _closes(t: Ints, timeframe: str) -> Ints:
    if timeframe == "1M":
        return np.array([timeframes.close_ms(ms, timeframe) for ms in t.tolist()], np.int64)
    return t + (timeframes.length_ms(timeframe) - 1)


def _laid_out(bars: Bars, frame: Frame) -> Block:
    """`path.prints` of every candle."""
    lengths = _closes(bars.t, frame.timeframe) - bars.t + 1
    low_first = bars.o - bars.l <= bars.h - bars.o
    at = np.stack((bars.t, bars.t + lengths // 4, bars.t + 3 * lengths // 4, bars.t + lengths - 1), axis=1)
    prices = np.stack((bars.o, np.where(low_first, bars.l, bars.h), np.where(low_first, bars.h, bars.l), bars.c), axis=1)
    return Block(at.ravel(), prices.ravel(), np.arange(at.size) % 4 == 0)
