"""Does the wallet still hold what the bots claim? Asked at each check of a bot that owns coins.

Somebody may have sold or moved coins by hand. What is missing is told once it was seen
twice, some seconds apart, because an order of another bot may be settling just then.
While it is missing nothing is bought; getting out goes on, with what is there.
"""

from __future__ import annotations

from core.account.claims import missing
from core.clock import Clock
from core.errors import StateError
from core.exchange import Exchange
from core.model import ZERO, Position, plain
from core.storage import Files

LOOK_AGAIN_MS = 3000


class WalletWatch:
    """`problem` is the word for people, empty while all is there."""

    def __init__(self, files: Files, exchange: Exchange, clock: Clock):
        self.files, self.exchange, self.clock = files, exchange, clock
        self.problem = ""
        self._due_wall: int | None = None
        self._suspected = False

    def ask(self) -> None:
        """A check was made: compare soon."""
        if self._due_wall is None:
            self._due_wall = self.clock.wall_ms()

    def due(self) -> bool:
        return self._due_wall is not None and self.clock.wall_ms() >= self._due_wall

    def due_wall_ms(self) -> int | None:
        return self._due_wall

    def later(self) -> None:
        """Not now: the same question again in a moment."""
        self._due_wall = self.clock.wall_ms() + LOOK_AGAIN_MS

    def compare(self, position: Position) -> None:
        """Raises what the exchange raises; the question then stays."""
        owns = position.quantity + position.dust
        if position.direction == "SHORT" or owns <= 0:
            self.problem, self._due_wall, self._suspected = "", None, False
            return
        balance = self.exchange.balances().get(position.base)
        held = balance.total if balance else ZERO
        try:
            gone = missing(self.files, position.venue, position.base, held)
        except StateError:
            gone = None  # another bot's file can't be read: that bot says so itself
        if gone is None or (gone > 0 and not self._suspected):
            self._suspected = self._suspected or bool(gone)
            self._due_wall = self.clock.wall_ms() + LOOK_AGAIN_MS
            return
        self._due_wall, self._suspected = None, False
        self.problem = (
            f"{plain(gone)} {position.base} are missing: the bots claim more than the {plain(held)} that the account holds. Somebody sold or moved them. "
            "Choose on the page: book what happened, close the book, or stop the bot (or see utils/reconcile.py)"
            if gone > 0
            else ""
        )
