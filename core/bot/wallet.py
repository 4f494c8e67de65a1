"""Does the wallet still hold what the bots claim? Asked at each check of a bot that owns coins.

Somebody may have sold or moved coins by hand. What is missing is told once it was seen
twice, some seconds apart, because an order of another bot may be settling just then, and
not while the stop of a bot has filled at the exchange without that bot knowing it yet.
While it is missing nothing is bought; getting out goes on, with what is there.
"""

from __future__ import annotations

from decimal import Decimal

from core.account import ledger
from core.account.claims import missing, unbooked
from core.clock import Clock
from core.errors import StateError
from core.exchange import Exchange
from core.model import ZERO, Position, plain
from core.storage import Files

LOOK_AGAIN_MS = 3000
BOOKED_WITHIN_MS = 30_000  # the yard has such a fill booked within seconds, also a stopped bot's; who has no yard is told after this


class WalletWatch:
    """`problem` is the word for people, empty while all is there."""

    def __init__(self, files: Files, exchange: Exchange, clock: Clock):
        self.files, self.exchange, self.clock = files, exchange, clock
        self.problem = ""
        self._due_wall: int | None = None
        self._suspected_wall: int | None = None

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
            self.problem, self._due_wall, self._suspected_wall = "", None, None
            return
        balance = self.exchange.balances().get(position.base)
        held = balance.total if balance else ZERO
        try:
            gone = missing(self.files, position.venue, position.base, held)
            first = bool(gone) and self._suspected_wall is None
            if gone and not first and self._may_be_unbooked():
                gone = None if unbooked(self.files, position.venue, position.base, self.exchange.open_orders) else gone
        except StateError:
            gone, first = None, False  # another bot's file can't be read: that bot says so itself
        if gone is None or first:
            if first:
                self._suspected_wall = self.clock.wall_ms()
            self._due_wall = self.clock.wall_ms() + LOOK_AGAIN_MS
            return
        self._due_wall, self._suspected_wall = None, None
        self.problem = (
            f"{plain(gone)} {position.base} are missing: the bots claim more than the {plain(held)} that the account holds. Somebody sold or moved them. "
            "Choose on the page: book what happened, close the book, or stop the bot (or see utils/reconcile.py)"
            if gone > 0
            else ""
        )

    def _may_be_unbooked(self) -> bool:
        return self._suspected_wall is not None and self.clock.wall_ms() - self._suspected_wall < BOOKED_WITHIN_MS


class JumpWatch:
    """A price that is suddenly many times another: a crash, or a redenomination (the coin was
    exchanged for a thousand new ones)? The books tell: after a redenomination the account holds
    another number of coins. Then the bot neither sells nor buys until its owner has chosen."""

    FACTOR = Decimal(4)  # between two looks; a stop-out at such a price is asked about first

    def __init__(self, files: Files, exchange: Exchange):
        self.files, self.exchange = files, exchange
        self._known: Decimal | None = None  # the last price that was believed
        self._trade = 0

    def word(self, position: Position, price: Decimal) -> str:
        """Why this price is not acted upon, "" where it is. Raises what the exchange raises."""
        entry = position.entry_price
        if position.direction is None or not entry:  # coins brought under the bot may have cost nothing
            self._known = None
            return ""
        known = self._known if self._known is not None and self._trade == position.trade else entry
        if max(price / known, known / price) < self.FACTOR or not self._coins_changed(position):
            self._known, self._trade = price, position.trade
            return ""
        return (
            f"the price went from {plain(known)} to {plain(price)} at once and the account holds another number of {position.base}: "
            "it looks as if the coin was redenominated. Nothing is sold or bought by itself; close the book of this bot by hand, "
            "then bring the new coins under it"
        )

    def _coins_changed(self, position: Position) -> bool:
        """What the books can't explain is half of what this bot owns, or more."""
        known = ledger.books(self.files, position.venue)
        if known is None:
            return False
        balance = self.exchange.balances().get(position.base)
        foreign = (balance.total if balance else ZERO) - known.get(position.base, ZERO)
        return abs(foreign) * 2 >= position.quantity
