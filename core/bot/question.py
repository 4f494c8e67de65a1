"""One question to a strategy, in a thread of its own, so that the bot goes on watching its stop meanwhile.

Owns no file. A strategy's code is a person's: it may take a minute, or never end. A thread
can't be ended from outside, so at most one question runs at a time; its answer is dropped
when it comes too late. The thread touches nothing of the bot's: what it may see was handed
in, and its answer is fetched by the loop. A loop in Python lets the others run; code in C
that holds the interpreter stops the heartbeat too, and the yard's stuck rule finds it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from decimal import getcontext, localcontext
from typing import Any

from core.errors import StrategyError
from core.model import Position, SeriesValue


class Question:
    """`candle_ms`, `position` and `known` are what it was asked about; `late_ms` is the market time from
    which its answer is too old, because a newer candle is closed."""

    def __init__(self, name: str, call: Callable[[], Any], candle_ms: int, late_ms: int, position: Position, known: Mapping[str, SeriesValue], wall_ms: int):
        self.name, self.candle_ms, self.late_ms, self.position, self.known, self.asked_wall = name, candle_ms, late_ms, position, known, wall_ms
        self.again_wall = wall_ms  # not looked at before, where its candle is late but no newer one is there
        self.told = False  # that it is slow
        self.dropped = False  # a newer candle came first
        self._call = call
        self._context = getcontext().copy()
        self._done = threading.Event()
        self._answer: Any = None
        self._error: StrategyError | None = None

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def run(self) -> None:
        """Ask, here and now. Whatever goes wrong inside is kept as the answer."""
        try:
            with localcontext(self._context):  # whatever precision a strategy sets, money is not counted in it
                self._answer = self._call()
        except StrategyError as e:
            self._error = e
        except BaseException as e:  # noqa: BLE001 - SystemExit too: a strategy doesn't end the bot
            self._error = StrategyError(f"strategy {self.name} broke: {type(e).__name__}: " + re.sub(r"\s+", " ", str(e))[:300])
        finally:
            self._done.set()

    def start(self, patience_s: float) -> None:
        """Ask in a thread and wait for so long at most."""
        threading.Thread(target=self.run, name="strategy", daemon=True).start()
        self._done.wait(patience_s)

    def answer(self) -> Any:
        """What came back. Raises StrategyError where it failed."""
        if self._error is not None:
            raise self._error
        return self._answer
