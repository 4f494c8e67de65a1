"""Once a day, moves the candles that bots left in data/history.db as rows into chunks. The store owns the file.

Rows take eight times the room. The yard's sampling thread (core/fleet/sampling.py) calls `step` at each
of its turns; a turn takes at most SPELL_S, and a pause after each of its transactions (some milliseconds,
a thousand candles) lets bots write in between: they wait a second for the store at most, then fetch.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable

from core.errors import BotyardError
from core.market.history import CandleStore
from core.storage import Files

FIRST_S = 600.0  # not while bots are being brought up
EVERY_S = 86_400.0
SPELL_S = 2.0
PAUSE_S = 0.03
log = logging.getLogger("botyard.yard")


class Tidying:
    """For one thread. `sleep` and `monotonic` in wall seconds."""

    def __init__(self, files: Files, *, monotonic: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep):
        self._path, self._monotonic, self._sleep = files.path("data/history.db"), monotonic, sleep
        self._due = monotonic() + FIRST_S
        self._moved = 0

    def step(self) -> None:
        """Tidy for a spell where it is due; raises nothing. What can't be done now is tried tomorrow: nothing depends on it."""
        if self._monotonic() < self._due or not self._path.exists():
            return
        end, whole = self._monotonic() + SPELL_S, True

        def go_on() -> bool:
            nonlocal whole
            self._sleep(PAUSE_S)
            whole = self._monotonic() < end
            return whole

        store = CandleStore(self._path)
        try:
            moved = store.tidy(go_on=go_on)
            self._moved += moved
            whole = whole or not moved  # rows that no chunk takes would be tried again for ever
        except (sqlite3.Error, OSError, BotyardError) as e:
            log.info("the candle store could not be tidied now: %s", e)
            whole = True
        finally:
            store.close()
        if whole:  # else the next turn goes on
            if self._moved:
                log.info("%d candles in data/history.db were packed", self._moved)
            self._due, self._moved = self._monotonic() + EVERY_S, 0
