"""Longer candles out of shorter ones, and candles out of trades: the one place where the rule is. Pure; owns no file.

Binance's rule: rows without volume are ignored for open, high and low, unless a candle has no
others; the close is the last row's (measured by the catalogue: 235,205 candles made from 1m
without a mismatch). Prices are integers and stay exact. The paper exchange makes its longer
candles by `joined` too; `timeframes.resample` says the same row by row, in Decimals, and tests
compare the two.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.errors import InputError
from core.market import bars, timeframes
from core.market.bars import Bars, Floats, Ints
from core.market.timeframes import DAY


class Joined(NamedTuple):
    """Prices of the longer candles; `starts`: where in the shorter ones each begins."""

    starts: NDArray[np.intp]
    open: Ints
    high: Ints
    low: Ints
    close: Ints


def floors(times: Ints, timeframe: str) -> Ints:
    """`timeframes.floor` of a whole column."""
    if timeframe == "1M":
        months = times.astype("datetime64[ms]").astype("datetime64[M]")
        return months.astype("datetime64[ms]").astype(np.int64)
    offset = 4 * DAY if timeframe == "1w" else 0
    length = timeframes.length_ms(timeframe)
    return (times - offset) // length * length + offset


def joined(opens: Ints, o: Ints, h: Ints, low: Ints, c: Ints, traded: NDArray[np.bool_]) -> Joined:
    """The rule. `opens`: of each row, the open time of the longer candle that it belongs to, ascending; not empty.

    `traded`: whether the row has volume."""
    starts = np.flatnonzero(np.concatenate(([True], opens[1:] != opens[:-1])))
    lengths = np.diff(np.append(starts, len(opens)))
    closes = c[starts + lengths - 1]
    if traded.all():
        return Joined(starts, o[starts], np.maximum.reduceat(h, starts), np.minimum.reduceat(low, starts), closes)
    # A candle none of whose rows traded is made of all of them, any other of those that did.
    counted = traded | ~np.repeat(np.logical_or.reduceat(traded, starts), lengths)
    first = np.minimum.reduceat(np.where(counted, np.arange(len(opens)), len(opens)), starts)
    high = np.maximum.reduceat(np.where(counted, h, np.iinfo(np.int64).min), starts)
    lowest = np.minimum.reduceat(np.where(counted, low, np.iinfo(np.int64).max), starts)
    return Joined(starts, o[first], high, lowest, closes)


def longer(found: Bars, timeframe: str, *, whole: bool = True) -> Bars:
    """The same candles as longer ones of `timeframe`. A gap inside leaves a candle with what there is, or none.

    `whole`: without a first candle that began before the first row, and without a last one
    that is not over with the last row. InputError where the timeframes don't nest."""
    if not timeframes.nests(found.timeframe, timeframe):
        raise InputError(f"{timeframe} candles can't be made of {found.timeframe} ones; {found.timeframe} must fit into {timeframe} a whole number of times")
    if whole and len(found):
        first = timeframes.ceil(int(found.open_ms[0]), timeframe)
        found = found.slice(first, timeframes.floor(timeframes.next_open(int(found.open_ms[-1]), found.timeframe), timeframe))
    if not len(found):
        return Bars.empty(found.symbol, timeframe)
    if timeframe == found.timeframe:
        return found
    opens = floors(found.open_ms, timeframe)
    made = joined(opens, found.open, found.high, found.low, found.close, found.volume > 0)
    return Bars(found.symbol, timeframe, opens[made.starts], *made[1:], np.add.reduceat(found.volume, made.starts))


def from_trades(times: Ints, prices: Ints, quantities: Floats, symbol: str, timeframe: str) -> Bars:
    """Candles of trades, in the order in which they happened: ms, units of 1e-8, base asset. Candles without a trade are absent."""
    if not len(times):
        return Bars.empty(symbol, timeframe)
    if (np.diff(times) < 0).any():
        i = int((np.diff(times) < 0).argmax())
        raise InputError(f"trades must be in the order of their times; {int(times[i + 1])} follows {int(times[i])}")
    opens = floors(times, timeframe)
    made = joined(opens, prices, prices, prices, prices, np.ones(len(times), np.bool_))
    return Bars(symbol, timeframe, opens[made.starts], *made[1:], np.add.reduceat(quantities, made.starts))


def read_trades(path: str | Path, symbol: str, timeframe: str) -> Bars:
    """Candles of a file of trades (JSON, also gzipped): `[[ms, id, kind, side, price, quantity, cost], ...]`, or a list of
    objects, Binance's (`T`, `p`, `q`) or ccxt's (`timestamp`, `price`, `amount`). InputError with file, place and remedy."""
    path = Path(path).expanduser()
    try:
        raw = path.read_bytes()
        told = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw, parse_float=Decimal)
    except (OSError, EOFError, ValueError) as e:
        raise InputError(f"{path}: can't be read as JSON ({e}); it must be a list of trades") from e
    if not isinstance(told, list) or not told:
        raise InputError(f"{path}: must be a list of trades, and hold at least one")
    rows = list(_trades(path, told))
    times, prices = (np.array([row[at] for row in rows], np.int64) for at in (0, 1))
    return from_trades(times, prices, np.array([row[2] for row in rows], np.float64), symbol, timeframe)


def _trades(path: Path, told: Sequence[Any]) -> Iterable[tuple[int, int, float]]:
    for i, trade in enumerate(told, 1):
        try:
            if isinstance(trade, dict):
                ms, price, quantity = (trade[a] if a in trade else trade[b] for a, b in (("T", "timestamp"), ("p", "price"), ("q", "amount")))
            else:
                ms, price, quantity = trade[0], trade[4], trade[5]
            yield int(ms), bars.units(price), float(quantity)
        except (KeyError, IndexError, TypeError, ValueError) as e:
            raise InputError(f"{path}: trade {i}: {e}; it must have a time in ms, a price of at most 8 decimals and a quantity") from e
