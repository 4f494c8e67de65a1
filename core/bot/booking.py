"""A guard that only books (`--guard --once`): it ends when the books say what the exchange says.

The yard runs it for a stopped bot whose order has filled, was taken away, or was left unknown.
It asks for what is open, books it, places the pair that the bot itself would have placed after
an entry, and leaves what rests at the exchange where it is. It watches no stop. Owns no file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from core.bot import commands
from core.model import SENDING

if TYPE_CHECKING:
    from core.bot.trader import Trader

LOOK_MS = 500
Attempt = Callable[[str, Callable[[], bool], Callable[[], None]], None]


class Booking:
    def __init__(self, bot: Trader):
        self.bot = bot
        self._asked_wall = -LOOK_MS
        self._left_unknown: bool | None = None  # whether the last run left an order without an outcome

    def step(self, attempt: Attempt) -> str:
        """Ask, book, obey, protect, each by `attempt` (core/bot/attempts.py); why the run is over, "" while it isn't."""
        bot = self.bot
        if self._left_unknown is None:
            self._left_unknown = any(o.status == SENDING for o in bot.position.orders)
        attempt("catchup", lambda: bot.catchup.pending, bot.catchup.step)
        attempt("orders", lambda: bot.executor.unresolved or bool(bot.position.orders), bot.executor.resolve)
        attempt("commands", lambda: True, bot.hands.obey)
        attempt("protect", self._to_protect, bot.guardian.protect)
        over = [""]

        def ask() -> None:
            over[0] = self.done()

        attempt("booking", lambda: True, ask)
        return over[0]

    def _to_protect(self) -> bool:
        """A pair that was taken away behind the bot's back is left away: its owner, or the bot's next start, decides.
        One that was just being sent counts as the bot's own wish."""
        return self.bot.guardian.due() and (self.bot.position.protection != "exchange" or bool(self._left_unknown))

    def done(self) -> str:
        """Why nothing is left to be booked, "" while something is. Raises what the exchange raises."""
        bot, now = self.bot, self.bot.clock.wall_ms()
        if bot.catchup.pending or bot.executor.unresolved or any(o.status == SENDING for o in bot.position.orders):
            return ""
        if self._to_protect() or commands.waiting(bot.files, bot.config.bot_id):
            return ""
        if not bot.position.orders:
            return "guard: everything is booked; no order of this bot lies at the exchange"
        if now - self._asked_wall < LOOK_MS:
            return ""
        self._asked_wall = now
        listed = {u.client_id: u.executed for u in bot.exchange.open_orders(bot.symbol.name)}
        if all(listed.get(o.client_id) == o.executed for o in bot.position.orders):
            return "guard: everything is booked; what rests at the exchange stays there"
        return ""

    def due_wall_ms(self) -> int:
        return self._asked_wall + LOOK_MS
