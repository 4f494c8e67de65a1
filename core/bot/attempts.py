"""What a bot tries, and tries again: each by itself, after a pause of its own. Owns no file.

What fails at the exchange or the disk is told once and does not keep the rest from going on:
candles that can't be read never keep a stop from being watched. Where the exchange asks for
silence, nothing is tried until it is over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from core.bot.status import Status
from core.clock import Clock
from core.errors import AccessRefused, BudgetSpent, ExchangeError, RateLimited
from core.model import Position

log = logging.getLogger("botyard")

RETRY_MS = {
    "check": 5000,
    "look": 1000,
    "protect": 1000,
    "orders": 1000,
    "wallet": 5000,
    "commands": 1000,
    "start": 5000,
    "catchup": 5000,
    "booking": 1000,
    "guards": 1000,
}


class Attempts:
    """`retry_wall`: wall ms before which a thing that failed is not tried again; `quiet_until_wall`: nothing at all.

    `position` gives the bot's position: with one open, what would end the bot is told and tried again.
    `risk` tells its owner (kind, text)."""

    def __init__(self, clock: Clock, status: Status, position: Callable[[], Position], risk: Callable[[str, str], None]):
        self._clock, self._status, self._position, self._risk = clock, status, position, risk
        self.retry_wall: dict[str, int] = {}
        self.quiet_until_wall = 0
        self._raised_by: dict[str, str] = {}  # kind of warning: what failed last

    def make(self, what: str, due: Callable[[], bool], do: Callable[[], None]) -> None:
        """Do what is due; what fails at the exchange or the disk is told, and tried again after its pause.

        Raises AccessRefused and OSError where nothing is open: then nobody needs this bot to stay."""
        now = self._clock.wall_ms()
        if now < self.quiet_until_wall or now < self.retry_wall.get(what, 0) or not due():
            return
        try:
            do()
        except AccessRefused as e:
            if self._position().idle:
                raise
            self._endured("access", what, f"The exchange refuses this account ({e}) while a position or an order is open: mend the keys now", now)
        except ExchangeError as e:
            self.failed(what, e)
        except OSError as e:
            # A disk that takes nothing: nothing was sent, and nothing is forgotten. While something
            # is open the bot stays and tries again; nobody else would watch it.
            if self._position().idle and not self._position().unjournaled:
                raise
            text = f"{e.filename or 'A file'} can't be written ({e.strerror or e}): free the disk now, the bot can't act until then"
            self._endured("disk", what, text, now)
        else:
            # A warning goes when what raised it works again: cleared by anything else it would be told anew each time.
            self._status.clear(what, *(kind for kind, raised in self._raised_by.items() if raised == what))

    def _endured(self, kind: str, what: str, text: str, now: int) -> None:
        self.retry_wall[what] = now + RETRY_MS["check"]
        self._raised_by[kind] = what
        self._risk(kind, text)

    def failed(self, what: str, e: ExchangeError, pause_ms: int | None = None) -> None:
        """It failed at the exchange: tell, and wait `pause_ms`, or as long as is usual for it, or as the exchange asks."""
        now = self._clock.wall_ms()
        pause = pause_ms or RETRY_MS[what]
        if isinstance(e, RateLimited):
            pause = max(pause, int(e.retry_after_s * 1000))
            if not isinstance(e, BudgetSpent):  # our own budget holds this one back: what is more urgent may still go
                self.quiet_until_wall = now + pause
        self.retry_wall[what] = now + pause
        if self._status.warn(what, f"The exchange failed ({what}): {e}"):
            log.warning("⚠️ The exchange failed (%s): %s; trying again in %d s", what, e, pause // 1000)
        self._status.write()

    def pause(self, what: str) -> None:
        """It came to nothing without a failure: not before its usual pause is over, or what holds it back longer."""
        self.retry_wall[what] = max(self.retry_wall.get(what, 0), self._clock.wall_ms() + RETRY_MS[what])

    def put_off(self, what: str, pause_ms: int) -> None:
        """Not before `pause_ms` from now, wall time, whatever held it back before."""
        self.retry_wall[what] = self._clock.wall_ms() + pause_ms

    def waiting(self, what: str) -> int | None:
        """Wall ms at which it is tried again after it failed, None where nothing holds it back."""
        wall = self.retry_wall.get(what, 0)
        return wall if self._clock.wall_ms() < wall else None
