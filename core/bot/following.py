"""What a strategy recommends, told in the status for the yard (core/fleet/following.py). Owns no file.

The bot only tells: it changes neither its symbol nor its record. What it tells was asked of the
exchange: the symbol is there, can be traded, and has the quote asset of this bot's pot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.clock import wall_ms
from core.errors import ExchangeError, NotFound

if TYPE_CHECKING:
    from core.bot.trader import Trader


class Following:
    def __init__(self, bot: Trader):
        self.bot = bot

    def heard(self, symbol: str) -> None:
        """A check is over; `symbol` is what its strategy recommended, "" for nothing."""
        bot = self.bot
        if not symbol or symbol == bot.symbol.name or not (bot.read_record() or {}).get("follow_recommended"):
            bot.status.fields["recommended"] = None
            bot.status.clear("recommended")
            return
        if (bot.status.fields.get("recommended") or {}).get("symbol") == symbol:
            return
        bot.status.fields["recommended"] = None
        try:
            found = bot.exchange.symbol(symbol)
        except NotFound:
            self._not(f"{symbol} is not a symbol of this exchange")
            return
        except ExchangeError:
            return  # not known now: the next check asks again
        if not found.tradeable:
            self._not(f"{symbol} can't be traded now (status {found.status})")
        elif found.quote != bot.symbol.quote:
            self._not(f"{symbol} is paid in {found.quote}, this bot's pot is {bot.symbol.quote}")
        else:
            bot.status.clear("recommended")
            bot.status.fields["recommended"] = {"symbol": symbol, "candle_ms": bot.last_candle, "wall_ms": wall_ms()}

    def _not(self, why: str) -> None:
        self.bot.teller.warn("recommended", f"The strategy's recommendation is not followed: {why}", self.bot.config, self.bot.symbol)
