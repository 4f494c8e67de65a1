"""Candles as columns of integers: what backtester, resampler and the store's mass reads work on. Owns no files.

Prices are int64 in units of 1e-8 of the quote asset, so that they are exact and still quick;
volumes are float64, because nothing is ever paid by them. Text becomes an integer without
passing through a float. Bots, which read a hundred rows, need none of this: they read
Binance's rows (core/market/history.py), and never import numpy for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.errors import InputError
from core.market import timeframes

if TYPE_CHECKING:
    import pandas as pd

    from core.model import Venue

DECIMALS = 8
SCALE = 10**DECIMALS
MOST = 2**63 - 1  # an int64; as a price 92,233,720,368.54775807
PRICES = ("open", "high", "low", "close")
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_EXACT = 2**53  # up to here an integer is a float without loss


@dataclass(frozen=True, slots=True)
class Gap:
    """Missing candles: open times of the first and the last of them (ms), and how many."""

    first_ms: int
    last_ms: int
    missing: int


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """Candles of one symbol and timeframe, oldest first; all columns have one length.

    `open_ms` ascends strictly. Prices: int64, units of 1e-8 of the quote asset. `volume`:
    float64, in the base asset. The columns are not writeable."""

    symbol: str
    timeframe: str
    open_ms: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Floats

    def __post_init__(self) -> None:
        timeframes.known(self.timeframe)
        for name in ("open_ms", *PRICES, "volume"):
            column = getattr(self, name)
            if column.dtype != (np.float64 if name == "volume" else np.int64):
                raise TypeError(f"{name} is a column of {column.dtype}; it must be {'float64' if name == 'volume' else 'int64'}")
            if column.shape != self.open_ms.shape or column.ndim != 1:
                raise ValueError(f"{name} has the shape {column.shape}, open_ms {self.open_ms.shape}; they must be columns of one length")
            if column.flags.writeable:
                column = column.view()
                column.flags.writeable = False
                object.__setattr__(self, name, column)
        if len(self.open_ms) > 1 and not (self.open_ms[1:] > self.open_ms[:-1]).all():
            i = int((self.open_ms[1:] <= self.open_ms[:-1]).argmax())
            raise ValueError(f"candles must ascend by open time; {self.open_ms[i + 1]} follows {self.open_ms[i]}")

    def __len__(self) -> int:
        return len(self.open_ms)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bars):
            return NotImplemented
        same = (self.symbol, self.timeframe) == (other.symbol, other.timeframe)
        return same and all(np.array_equal(a, b) for a, b in zip(self.columns(), other.columns(), strict=True))

    __hash__ = None  # type: ignore[assignment]

    @property
    def length_ms(self) -> int:
        """A candle's length; ValueError for `1M`, whose candles differ in theirs."""
        return timeframes.length_ms(self.timeframe)

    def columns(self) -> tuple[NDArray[Any], ...]:
        """open_ms, open, high, low, close, volume."""
        return self.open_ms, self.open, self.high, self.low, self.close, self.volume

    @classmethod
    def empty(cls, symbol: str, timeframe: str) -> Bars:
        none = np.empty(0, np.int64)
        return cls(symbol, timeframe, none, none, none, none, none, np.empty(0, np.float64))

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[Any]], symbol: str, timeframe: str) -> Bars:
        """Rows `[open_ms, open, high, low, close, volume, ...]`, oldest first; what follows is left aside.

        Prices are decimal text, Decimal or int, never float. InputError with the row's number
        (from 1) where a price does not fit units of 1e-8."""
        told = list(rows)
        if not told:
            return cls.empty(symbol, timeframe)
        prices: list[Ints] = []
        for at, name in enumerate(PRICES, 1):
            try:
                prices.append(np.array([units(row[at]) for row in told], np.int64))
            except ValueError:
                raise _unfit(told, at, name, symbol, timeframe) from None
        opened = np.array([int(row[0]) for row in told], np.int64)
        o, h, low, c = prices
        return cls(symbol, timeframe, opened, o, h, low, c, np.array([float(row[5]) for row in told], np.float64))

    def slice(self, from_ms: int | None = None, to_ms: int | None = None) -> Bars:
        """Candles that open at `from_ms` or later and before `to_ms`; views, nothing is copied."""
        start = 0 if from_ms is None else int(np.searchsorted(self.open_ms, from_ms))
        stop = len(self) if to_ms is None else int(np.searchsorted(self.open_ms, to_ms))
        return self.cut(start, stop)

    def cut(self, start: int | None, stop: int | None) -> Bars:
        """Candles by their place, as a Python slice."""
        return Bars(self.symbol, self.timeframe, *(column[start:stop] for column in self.columns()))  # type: ignore[arg-type]

    def frame(self) -> pd.DataFrame:
        """The table that strategies get: open_time (int64 ms), open, high, low, close, volume (float64)."""
        import pandas as pd

        prices = {name: floats(getattr(self, name)) for name in PRICES}
        return pd.DataFrame({"open_time": self.open_ms, **prices, "volume": self.volume})

    def gaps(self) -> list[Gap]:
        """Where candles are missing between the first and the last. A candle without volume is there."""
        if len(self) < 2:
            return []
        if self.timeframe == "1M":
            pairs = ((timeframes.next_open(a, "1M"), b) for a, b in pairwise(self.open_ms.tolist()))
            return [_months(a, b) for a, b in pairs if a < b]
        length = self.length_ms
        missing = np.diff(self.open_ms) // length - 1
        return [Gap(int(self.open_ms[i]) + length, int(self.open_ms[i]) + length * int(missing[i]), int(missing[i])) for i in np.flatnonzero(missing > 0)]


def units(price: object) -> int:
    """A price as an integer of 1e-8; ValueError where it is no plain number, has more than 8 decimals or is too large."""
    text = price if isinstance(price, str) else _plain(price)
    whole, _, fraction = text.partition(".")
    if len(fraction) <= DECIMALS and whole.isdecimal() and whole.isascii() and (not fraction or (fraction.isdecimal() and fraction.isascii())):
        found = int(whole + fraction.ljust(DECIMALS, "0"))
    else:
        try:
            number = Decimal(text if text.isascii() and "_" not in text else "no number")
            sign, digits, exponent = number.as_tuple()
        except InvalidOperation:
            raise ValueError(f"{text!r} is not a number") from None
        if not isinstance(exponent, int):
            raise ValueError(f"{text!r} is not a number")
        if number and number.adjusted() > 30:  # before 10**exponent is worked out
            raise ValueError(f"{text!r} is too large")
        amount = int("".join(map(str, digits)))
        down = max(-exponent - DECIMALS, 0)
        if amount and (down > len(digits) or amount % 10**down):
            raise ValueError(f"{text!r} has more than {DECIMALS} decimals")
        found = (amount // 10 ** min(down, len(digits))) * 10 ** (max(exponent + DECIMALS, 0) if amount else 0)
        found = -found if sign else found
    if abs(found) > MOST:
        raise ValueError(f"{text!r} is too large")
    return found


def price_text(price: int) -> str:
    """Units of 1e-8 as Binance prints a price: plain digits, 8 decimals."""
    sign, digits = ("-", -price) if price < 0 else ("", price)
    return f"{sign}{digits // SCALE}.{digits % SCALE:08d}"


def floats(column: Ints) -> Floats:
    """Units of 1e-8 as floats: each the nearest to its price, as float() of its text would be."""
    made = column / np.float64(SCALE)
    beyond = np.flatnonzero(np.abs(column) > _EXACT)
    for i in beyond.tolist():  # the integer itself would be rounded before it is divided
        made[i] = float(Decimal(int(column[i])).scaleb(-DECIMALS))
    return made


def read_file(path: str | Path, symbol: str, timeframe: str, venue: Venue | str | None = None) -> Bars:
    """Candles of a file: this project's store, Binance's 12-column CSV, or `[[ms, open, high, low, close, volume], ...]` JSON (both also .gz).

    `venue` is needed only where a store holds the series for several. InputError with file,
    line and remedy where anything can't be trusted; a file without a candle is refused too."""
    from core.market import candle_files

    return candle_files.read(path, symbol, timeframe, venue)


def _plain(price: object) -> str:
    if isinstance(price, bool | float):
        raise TypeError(f"{price!r} is a {type(price).__name__}; a price must be decimal text, Decimal or int")
    return format(price, "f") if isinstance(price, Decimal) else str(price)


def _unfit(rows: list[Sequence[Any]], at: int, name: str, symbol: str, timeframe: str) -> InputError:
    for i, row in enumerate(rows, 1):
        try:
            units(row[at])
        except ValueError as e:
            return InputError(f"{symbol} {timeframe}, row {i}: the {name} {e}; it must be a plain number of at most 8 decimals, below {MOST // SCALE:,}")
    raise AssertionError("a row that did not fit fits now")


def _months(first: int, until: int) -> Gap:
    count, at = 1, first
    while (following := timeframes.next_open(at, "1M")) < until:
        count, at = count + 1, following
    return Gap(first, at, count)
