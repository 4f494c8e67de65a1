"""A bot's symbol as the exchange lists it: whether it can be traded, and by which rules. Owns no file."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from core.bot.status import Status
from core.clock import Clock
from core.errors import AccessRefused, ExchangeError, NotFound, RateLimited
from core.exchange import Exchange
from core.model import Symbol

log = logging.getLogger("botyard")

AGE_MS = 3_600_000  # older rules are read anew at the next check


class Listing:
    """`symbol`: as it was read last, None before the start. `risk` tells the bot's owner (kind, text)."""

    def __init__(self, exchange: Exchange, clock: Clock, status: Status, risk: Callable[[str, str], None]):
        self._exchange, self._clock, self._status, self._risk = exchange, clock, status, risk
        self.symbol: Symbol | None = None
        self._read_wall = 0

    def take(self, symbol: Symbol) -> None:
        """It was read just now."""
        self.symbol, self._read_wall = symbol, self._clock.wall_ms()

    def age_ms(self) -> int:
        return self._clock.wall_ms() - self._read_wall

    def doubt(self) -> None:
        """It may be halted, or its rules may have changed: the next check reads them anew."""
        self._read_wall = 0

    def read(self) -> None:
        """What the symbol allows now; one that is gone can't be traded, and its owner is told. Raises what the exchange raises."""
        known = self._known()
        try:
            self.take(self._exchange.symbol(known.name))
            self._status.clear("symbol")
        except NotFound as e:
            self.take(replace(known, tradeable=False, status="DELISTED"))
            self._risk("symbol", f"{e}; it can't be traded any more")

    def renew(self) -> None:
        """Read rules that are old; where that fails the known ones stand. Raises RateLimited and AccessRefused."""
        if self.age_ms() <= AGE_MS:
            return
        try:
            self.read()
        except (RateLimited, AccessRefused):
            raise
        except ExchangeError as e:
            log.warning("⚠️ The rules of %s can't be read anew, the known ones stand: %s", self._known().name, e)

    def _known(self) -> Symbol:
        if self.symbol is None:
            raise RuntimeError("the trader was not started")
        return self.symbol
