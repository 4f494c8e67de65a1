"""Where the paper exchange's prices come from: one Protocol, three forms of it.

`synthetic` (synthetic.py) invents candles from a seed, `replay` (replay.py, files.py) serves candle
files, `binance` (live.py) follows the real market. `tape.py` is what the first two share,
core/market/listings.py has the figures of well-known symbols. Matching and accounts live elsewhere in
core/paper and learn of prices through `Market` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from core.config import Settings
from core.errors import SettingsError


class Print(NamedTuple):
    """One price of the path. `opens`: it is the first print of a candle."""

    ms: int
    price: Decimal
    opens: bool


class Market(Protocol):
    """A spot market's prices, past and (but for `binance`) to come. Prices are in the quote asset, times market ms.

    Whoever asks may ask about any instant; `klines` alone takes the asker's time and
    hides what lies after it. A symbol that is not there answers None, [] or False.
    """

    source: str  # "synthetic:SEED", "replay:NAME" or "binance"; as Venue.source
    first_ms: int  # where a new market begins when PAPER_START is empty
    end_ms: int | None  # the last instant with data; None: it goes on

    def symbols(self) -> list[dict[str, Any]]:
        """exchangeInfo's symbol entries, in a fixed order."""
        ...

    def symbol(self, name: str) -> dict[str, Any] | None: ...

    def listed(self, name: str, ms: int) -> bool:
        """Whether the symbol has been listed by `ms` (a halt or the data's end doesn't delist it)."""
        ...

    def klines(self, symbol: str, interval: str, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int) -> list[list[Any]]:
        """12-field rows, oldest first, as seen at `now_ms`: none opens after it, the open one is built from prints up to it.

        `start_ms` and `end_ms` filter on open time, inclusive; neither: the latest `limit`;
        start: the oldest from there; end alone: the latest up to it (BINANCE.md §1.0, §7.1).
        A timeframe finer than the data answers []. ValueError for an unknown interval.
        """
        ...

    def price(self, symbol: str, ms: int) -> Decimal | None:
        """The last print at or before `ms`; None before the listing."""
        ...

    def candle(self, symbol: str, ms: int) -> tuple[int, int, Decimal, Decimal, Decimal, Decimal] | None:
        """The finest candle that holds `ms`, whole: (open_ms, close_ms, open, high, low, close); None inside a gap."""
        ...

    def prints(self, symbol: str, after_ms: int, until_ms: int) -> Iterator[Print]:
        """The prints with after_ms < ms <= until_ms, in order, lazily."""
        ...

    def reach(self, symbol: str, after_ms: int, until_ms: int, below: Decimal | None, above: Decimal | None) -> tuple[Decimal, Print] | None:
        """The first print in (after_ms, until_ms] whose walk from the print before it touches `below` or less, or `above` or more.

        Answers (the price the walk came from, the print), or None. It skips whole candles
        that can't touch either level; equal to walking `prints` with `path.reached`.
        """
        ...

    def halted(self, symbol: str, ms: int) -> bool:
        """Whether `ms` lies inside a gap of the data (or after the symbol's last candle)."""
        ...


def open_market(settings: Settings) -> Market:
    """The market that PAPER_MARKET names. SettingsError when it can't be opened."""
    if settings.paper_market == "synthetic":
        from core.paper.markets.synthetic import SyntheticMarket

        return SyntheticMarket(settings.paper_seed)
    if settings.paper_market == "replay":
        from core.paper.markets.replay import ReplayMarket

        # A relative folder is taken from the yard's home, wherever the server was started.
        return ReplayMarket(settings.home / Path(settings.paper_data).expanduser())
    if settings.paper_market == "binance":
        if settings.paper_speed != 1:
            raise SettingsError("PAPER_SPEED: must be 1 with PAPER_MARKET=binance: the real market's time can't be moved")
        from core.paper.markets.live import LiveMarket

        return LiveMarket.from_settings(settings)
    raise SettingsError(f"PAPER_MARKET: {settings.paper_market!r} is not right; it must be one of synthetic, replay, binance")
