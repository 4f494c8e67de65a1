"""A market out of a seed: the candle of any minute since 2019-01-01 is the same whenever and in whatever order asked.

Nothing is kept: each candle is a pure function of seed, symbol, minute and `VERSION`. The
logarithm of the price is laid out by bisection, as a Brownian path can be: knots 512 days
apart, held near the symbol's anchor so that years don't carry it off; between two knots
their mean plus noise fit to their distance; so down to 45 minutes, and inside those a walk
tied at both ends. How wild a stretch is comes from a cascade along the same bisection, so
that quiet and stormy hours cluster. Now and then the whole market crashes and recovers.

All of it is integers and IEEE's own operations (the square root is one), so that every platform gets
the same candles; no library's exp, log or sin is asked. Change anything and `VERSION` must go up.
Owns no files; a bounded cache of days lives in memory.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from decimal import Decimal, localcontext
from functools import cache
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.clock import wall_ms
from core.market import listings, timeframes
from core.market.resample import floors
from core.market.timeframes import DAY, HOUR, MINUTE
from core.paper.markets.tape import NO_BARS, SCALE, Bars, Frame, Ints, TapeMarket, fold, join

VERSION = 1
LISTED_MS = 1_546_300_800_000  # 2019-01-01T00:00:00Z
ONE = 1 << 32  # fixed point of the price's logarithm
_SUPER = 512  # days between two knots that hold the price near its anchor
_CELLS, _CELL = 32, 45  # a day is 32 cells of 45 minutes
_MINUTES = _CELLS * _CELL
_DAYS_KEPT = 256  # about 30 MB
_HOURS_KEPT = 20_000  # days of hourly candles, about 40 MB
_BATCH = 32  # days made at once
_CRASH_DAYS = 12  # at most one crash in so many days

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
Hashes = NDArray[np.uint64]


def mixed(x: Hashes) -> Hashes:
    """A well-mixed 64-bit hash of every element (the finaliser that splitmix64 is known for)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _key(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "big")


def _hashed(key: int, index: Ints) -> Hashes:
    return mixed(index.astype(np.uint64) * np.uint64(_GOLDEN) + np.uint64(key & _MASK))


def _field(h: Hashes, n: int) -> Ints:
    """The n-th 16 bits, 0..65535."""
    return ((h >> np.uint64(16 * n)) & np.uint64(0xFFFF)).astype(np.int64)


_BELL = 37_837  # standard deviation of _bell: 65536/sqrt(3)


def _bell(h: Hashes) -> Ints:
    """Nearly normal, mean 0, deviation _BELL, never beyond 3.5 deviations: four uniforms added."""
    return _field(h, 0) + _field(h, 1) + _field(h, 2) + _field(h, 3) - 131_070


@cache
def _tables() -> tuple[NDArray[np.float64], NDArray[np.float64], Ints]:
    """exp of sixteenths from -8 to 8, exp of 1/4096ths below 1/16, and the cascade's wildness in 1/65536."""
    with localcontext() as context:
        context.prec = 30
        coarse = [float((Decimal(i) / 16).exp()) for i in range(-128, 128)]
        fine = [float((Decimal(i) / 4096).exp()) for i in range(256)]
        # Eleven steps of -1, 0 or 1, each 0.19: the mean square is brought back to one.
        wild = [int((Decimal("0.19") * i - Decimal("0.2")).exp() * 65536) for i in range(-11, 12)]
    return np.array(coarse), np.array(fine), np.array(wild, np.int64)


def grown(log: Ints) -> NDArray[np.float64]:
    """exp(log / ONE), to 1e-12, by table and three products."""
    coarse, fine, _ = _tables()
    log = np.clip(log, -8 * ONE, 8 * ONE - 1)
    rest = (log & ((1 << 20) - 1)).astype(np.float64) / ONE
    return np.asarray(coarse[(log >> 28) + 128] * fine[(log >> 20) & 255] * (1.0 + rest + rest * rest * 0.5))


def _halved(ends: Ints, steps: Ints, first: int, key: int, scale: float, spread: bool) -> tuple[Ints, Ints]:
    """One bisection of rows of knots: (rows, k + 1) knots of k stretches, numbered on from `first`, become 2k + 1.

    `steps` are the stretches' places in the cascade, `scale` the deviation at the middle.
    """
    rows, stretches = steps.shape
    index = np.arange(rows * stretches, dtype=np.int64).reshape(rows, stretches) + first
    h = _hashed(key, index)
    wild = _tables()[2]
    unit = int(scale * ONE / _BELL * 256)  # 1/256ths, so that small scales keep their digits
    middle = ((ends[:, :-1] + ends[:, 1:]) >> 1) + ((_bell(h) * unit >> 8) * wild[steps + 11] >> 16)
    knots = np.empty((rows, 2 * stretches + 1), np.int64)
    knots[:, ::2], knots[:, 1::2] = ends, middle
    finer = np.repeat(steps, 2, axis=1)
    if spread:
        bits = mixed(_hashed(key, np.arange(2 * rows * stretches, dtype=np.int64).reshape(rows, -1) + 2 * first) ^ np.uint64(_MASK))
        finer += (bits & np.uint64(1)).astype(np.int64) + ((bits >> np.uint64(1)) & np.uint64(1)).astype(np.int64) - 1
    return knots, finer


class _Shape(NamedTuple):
    """A symbol's own numbers, all fixed by seed and name."""

    key: int
    figures: listings.Figures
    sigma: float  # deviation of a one-minute return
    tick_units: int
    anchor_ticks: float
    volume_decimals: int
    crash: int  # its share of a market-wide crash, in 1/256


class SyntheticMarket(TapeMarket):
    """The market of one seed. `first_ms`: where a new market begins; by default now, so that people see today's dates."""

    def __init__(self, seed: int, first_ms: int | None = None) -> None:
        self.seed = seed
        self.source = f"synthetic:{seed}"
        self.first_ms = max(wall_ms() if first_ms is None else first_ms, LISTED_MS)
        self.end_ms = None
        self._shapes: dict[str, _Shape] = {}
        self._knots: OrderedDict[tuple[str, int], tuple[Ints, Ints]] = OrderedDict()
        self._days: OrderedDict[tuple[str, int], Bars] = OrderedDict()
        self._hours: OrderedDict[tuple[str, int], Bars] = OrderedDict()
        self._crashes: dict[int, tuple[list[int], list[int]] | None] = {}

    def _figures(self) -> dict[str, listings.Figures]:
        return listings.known()

    def _frame(self, symbol: str) -> Frame | None:
        figures = listings.known().get(symbol)
        return None if figures is None else Frame("1m", LISTED_MS, None, _decimals(figures.step))

    def _shape(self, symbol: str) -> _Shape:
        shape = self._shapes.get(symbol)
        if shape is None:
            f = listings.known()[symbol]
            key = _key("botyard", VERSION, self.seed, symbol)
            sigma = f.wildness / 10_000 / sqrt(5.0)
            shape = _Shape(key, f, sigma, int(f.tick * SCALE), float(f.anchor / f.tick), _decimals(f.step), 180 + key % 150)
            self._shapes[symbol] = shape
        return shape

    # -- the path -----------------------------------------------------------------

    def _daily(self, shape: _Shape, block: int) -> tuple[Ints, Ints]:
        """Knots at 513 day borders of a 512-day block, and the 512 days' places in the cascade."""
        name = (shape.figures.symbol, block)
        if name not in self._knots:
            h = _hashed(shape.key, np.array([block, block + 1], np.int64))
            ends = (_bell(h) * int(0.2 * ONE / _BELL)).reshape(1, 2)
            steps = np.zeros((1, 1), np.int64)
            for level in range(9):
                days = _SUPER >> level
                # Long swings are held smaller than a free walk's, so that the price stays near its anchor.
                held = (0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.1)[level]
                scale = shape.sigma * sqrt(days * _MINUTES) / 2 * held
                ends, steps = _halved(ends, steps, block << level, shape.key + 101 * (level + 1), scale, days <= 64)
            self._knots[name] = ends[0], steps[0]
            if len(self._knots) > 400:
                self._knots.popitem(last=False)
        return self._knots[name]

    def _logs(self, shape: _Shape, first: int, count: int) -> tuple[Ints, Ints, Ints]:
        """For days first..first+count-1: logs at (count, 1441) minute borders; wildness and bursts (1/65536) of (count, 1440) minutes."""
        borders, steps = [], []
        for day in range(first, first + count):
            knots, places = self._daily(shape, day // _SUPER)
            at = day % _SUPER
            borders.append(knots[at : at + 2])
            steps.append(places[at : at + 1])
        ends, places = np.array(borders), np.array(steps)
        for level in range(5):
            minutes = _MINUTES >> level
            ends, places = _halved(ends, places, first << level, shape.key + 1009 * (level + 1), shape.sigma * sqrt(minutes) / 2 * 1.05, True)
        h = _hashed(shape.key + 7, np.arange(count * _MINUTES, dtype=np.int64) + first * _MINUTES)
        wild = np.repeat(_tables()[2][places + 11], _CELL, axis=1).ravel()
        burst = np.where(h % np.uint64(61) == 0, 3 * 65536, 61_000)  # a minute in 61 jumps
        unit = int(shape.sigma * ONE / _BELL * 256)
        noise = ((_bell(h) * unit >> 8) * (wild * burst >> 16) >> 16).reshape(-1, _CELL)
        walk = np.cumsum(noise, axis=1)
        reach = (ends[:, 1:] - ends[:, :-1]).reshape(-1, 1) - walk[:, -1:]
        logs = np.empty((count, _MINUTES + 1), np.int64)
        tied = walk + reach * np.arange(1, _CELL + 1, dtype=np.int64) // _CELL
        logs[:, 1:] = (ends[:, :-1, None] + tied.reshape(count, _CELLS, _CELL)).reshape(count, _MINUTES)
        logs[:, 0] = ends[:, 0]
        self._fall(shape, logs, first, count)
        return logs, wild.reshape(count, _MINUTES), burst.reshape(count, _MINUTES)

    def _crash(self, window: int) -> tuple[list[int], list[int]] | None:
        """The crash of a window of days, if there is one: minutes since the listing, and logs (ONE) at them."""
        if window not in self._crashes:
            h = _key("botyard", VERSION, self.seed, "crash", window)
            found = None
            if h % 100 < 45:
                begin = window * _CRASH_DAYS * _MINUTES + (h >> 8) % (10 * _MINUTES)
                depth = (5 + (h >> 24) % 1000 * 11 // 1000) * ONE // 100  # 5 to 15 %
                fall, bounce, rest = 8 + (h >> 36) % 30, 180 + (h >> 44) % 300, 720 + (h >> 52) % 900
                kept = depth * (40 + (h >> 40) % 40) // 100
                found = [begin, begin + fall, begin + fall + bounce, begin + fall + bounce + rest], [0, -depth, -kept, 0]
            self._crashes[window] = found
        return self._crashes[window]

    def _fall(self, shape: _Shape, logs: Ints, first: int, count: int) -> None:
        """Adds the market's crashes to logs of days first..first+count-1, in place."""
        for window in range(first // _CRASH_DAYS, (first + count - 1) // _CRASH_DAYS + 1):
            crash = self._crash(window)
            if crash is None:
                continue
            for row in range(max(0, window * _CRASH_DAYS - first), min(count, (window + 1) * _CRASH_DAYS - first)):
                begin = (first + row) * _MINUTES
                minutes = np.arange(begin, begin + _MINUTES + 1, dtype=np.int64)
                for (x0, x1), (y0, y1) in zip(zip(crash[0], crash[0][1:], strict=False), zip(crash[1], crash[1][1:], strict=False), strict=True):
                    inside = (minutes >= x0) & (minutes < x1)
                    if inside.any():
                        logs[row, inside] += (y0 + (minutes[inside] - x0) * (y1 - y0) // (x1 - x0)) * shape.crash >> 8

    # -- candles ------------------------------------------------------------------

    def _made(self, symbol: str, first: int, count: int) -> Bars:
        """Every minute of days first..first+count-1."""
        shape = self._shape(symbol)
        logs, wilds, bursts = self._logs(shape, first, count)
        ticks = np.maximum(np.rint(grown(logs) * shape.anchor_ticks).astype(np.int64), 2)
        index = np.arange(count * _MINUTES, dtype=np.int64) + first * _MINUTES
        h, g = _hashed(shape.key + 8, index), _hashed(shape.key + 9, index)
        o, c = ticks[:, :-1].ravel(), ticks[:, 1:].ravel()
        some = _field(h, 3)
        o = o + (some < 4096) - (some >= 61_440)  # one candle in eight opens a tick off the last close
        wild = (wilds.ravel() * (bursts.ravel() >> 8) >> 8).astype(np.float64) / 65536
        ranging = shape.sigma * wild * 1.7
        top, bottom = np.maximum(o, c), np.minimum(o, c)
        above = _field(h, 0) * _field(h, 1) / 4294967296.0
        below = _field(h, 2) * _field(g, 0) / 4294967296.0
        high = top + np.rint(top * (ranging * above)).astype(np.int64)
        low = np.maximum(bottom - np.rint(bottom * (ranging * below)).astype(np.int64), 1)
        # Volume: more when wild, more in a big move, and uneven by itself.
        luck = _field(g, 1) / 65536.0
        move = np.minimum((high - low) / (bottom * shape.sigma), 20.0)
        spent = shape.figures.volume * (0.15 + 1.6 * luck * luck * luck) * (0.4 + wild) * (0.3 + 0.45 * move)
        tick, step = float(shape.figures.tick), float(shape.figures.step)
        mean = (o + high + low + c) * (tick / 4)
        v = np.floor(spent / (mean * step)).astype(np.int64) + 1
        q = np.rint(v * step * mean * SCALE).astype(np.int64)
        share = 0.35 + _field(g, 2) / 65536.0 * 0.3 + np.where(c > o, 0.08, -0.02)
        trades = (spent / 400.0 * (0.7 + _field(g, 3) / 109226.0)).astype(np.int64) + 1
        bought = (v * share).astype(np.int64)
        unit = shape.tick_units
        return Bars(LISTED_MS + index * MINUTE, o * unit, high * unit, low * unit, c * unit, v, q, trades, bought, (q * share).astype(np.int64))

    def _batches(self, symbol: str, kept: OrderedDict[tuple[str, int], Bars], first: int, last: int) -> list[tuple[int, int]]:
        """The runs of days first..last that are not in `kept`, at most _BATCH days each."""
        runs: list[tuple[int, int]] = []
        for day in range(first, last + 1):
            if (symbol, day) in kept:
                kept.move_to_end((symbol, day))
            elif runs and sum(runs[-1]) == day and runs[-1][1] < _BATCH:
                runs[-1] = runs[-1][0], runs[-1][1] + 1
            else:
                runs.append((day, 1))
        return runs

    def _day(self, symbol: str, day: int) -> Bars:
        if (symbol, day) not in self._days:
            self._remember(self._days, symbol, day, 1, self._made(symbol, day, 1), _MINUTES, _DAYS_KEPT)
        return self._days[symbol, day]

    @staticmethod
    def _remember(kept: OrderedDict[tuple[str, int], Bars], symbol: str, first: int, count: int, bars: Bars, rows: int, most: int) -> None:
        for i in range(count):
            kept[symbol, first + i] = bars.cut(i * rows, (i + 1) * rows)
        while len(kept) > most:
            kept.popitem(last=False)

    def _bars(self, symbol: str, from_ms: int, to_ms: int) -> Bars:
        from_ms = max(from_ms, LISTED_MS)
        if to_ms <= from_ms:
            return NO_BARS
        start, stop = -((LISTED_MS - from_ms) // MINUTE), -((LISTED_MS - to_ms) // MINUTE)
        first, last = start // _MINUTES, (stop - 1) // _MINUTES
        if first == last:
            return self._day(symbol, first).cut(start - first * _MINUTES, stop - first * _MINUTES)
        days: dict[int, Bars] = {day: self._days[symbol, day] for day in range(first, last + 1) if (symbol, day) in self._days}
        for day, count in self._batches(symbol, self._days, first, last):
            made = self._made(symbol, day, count)
            days.update({day + i: made.cut(i * _MINUTES, (i + 1) * _MINUTES) for i in range(count)})
            self._remember(self._days, symbol, day, count, made, _MINUTES, _DAYS_KEPT)
        return join([days[day] for day in range(first, last + 1)]).cut(start - first * _MINUTES, stop - first * _MINUTES)

    def _hourly(self, symbol: str, from_ms: int, to_ms: int) -> Bars:
        """Hours of whole days, from the day of `from_ms` to that of `to_ms`, both included."""
        first, last = (max(from_ms, LISTED_MS) - LISTED_MS) // DAY, (to_ms - LISTED_MS) // DAY
        days: dict[int, Bars] = {day: self._hours[symbol, day] for day in range(first, last + 1) if (symbol, day) in self._hours}
        for day, count in self._batches(symbol, self._hours, first, last):
            minutes = self._made(symbol, day, count)
            made = fold(minutes, floors(minutes.t, "1h"))
            # A copy: a slice would keep the batch alive.
            days.update({day + i: Bars(*(column[i * 24 : (i + 1) * 24].copy() for column in made)) for i in range(count)})
            for i in range(count):
                self._remember(self._hours, symbol, day + i, 1, days[day + i], 24, _HOURS_KEPT)
        return join([days[day] for day in range(first, last + 1)])

    def _whole(self, symbol: str, timeframe: str, from_ms: int | None, to_ms: int, limit: int) -> Bars:
        newest = timeframes.floor(to_ms, timeframe)
        oldest = timeframes.floor(LISTED_MS, timeframe)
        if from_ms is None:
            start = max(timeframes.back(newest, timeframe, limit - 1), oldest)
        else:
            start = max(timeframes.ceil(from_ms, timeframe), oldest)
            newest = min(newest, _ahead(start, timeframe, limit - 1))
        if newest < start:
            return NO_BARS
        until = timeframes.close_ms(newest, timeframe)
        if timeframe == "1m":
            return self._bars(symbol, start, until + 1)
        if timeframes.nests("1h", timeframe):
            bars = self._hourly(symbol, start, until)
            inside = (bars.t >= start) & (bars.t <= until)
            bars = Bars(*(column[inside] for column in bars))
        else:
            bars = self._bars(symbol, start, until + 1)
        return fold(bars, floors(bars.t, timeframe))

    def _at(self, symbol: str, ms: int) -> tuple[int, int, int, int, int, int] | None:
        if ms < LISTED_MS or symbol not in listings.known():
            return None
        minute = (ms - LISTED_MS) // MINUTE
        day = self._day(symbol, minute // _MINUTES)
        i = minute % _MINUTES
        open_ms = LISTED_MS + minute * MINUTE
        return open_ms, open_ms + MINUTE - 1, int(day.o[i]), int(day.h[i]), int(day.l[i]), int(day.c[i])


def _ahead(open_ms: int, timeframe: str, n: int) -> int:
    """Open time of the candle `n` after; months are taken as 32 days and so reach a little further."""
    return open_ms + n * (32 * DAY if timeframe == "1M" else timeframes.length_ms(timeframe))


def _decimals(step: Decimal) -> int:
    exponent = step.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return max(0, -exponent)


assert _MINUTES * MINUTE == DAY and DAY % HOUR == 0
