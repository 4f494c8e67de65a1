"""Market time and wall time, and the one place where a process waits.

Market time rules candles, checks, looks and order times; wall time rules signatures,
time-outs, rate limits and messages (ARCHITECTURE.md, "Two clocks"). On a real exchange
both are one. On paper, market time is the paper exchange's clock: it may run faster,
stand still, or be moved by steps.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

from core.exchange import TimeReading


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def utc_text(ms: int) -> str:
    """`2021-02-10T00:00:02.000Z`, for people and files."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Clock(Protocol):
    """What a bot needs of time. Deadlines are ms; None means: not for this reason."""

    def wall_ms(self) -> int: ...

    def market_ms(self) -> int: ...

    def wait(self, market_deadline: int | None, wall_deadline: int | None) -> None:
        """Return when either deadline is reached or somebody called `wake`."""

    def wake(self) -> None:
        """End a wait now. Safe to call from a signal handler."""


class RealClock:
    """Waits on the wall; market time is carried on from the exchange's last reading.

    `read` asks the exchange for its clocks. On paper it is asked again at least every
    `refresh_s` of wall time, because speed may change and steps may come; on a real
    exchange seldom. A failed reading keeps the last one: time goes on.
    """

    def __init__(self, read: Callable[[], TimeReading] | None = None, refresh_s: float = 1.0):
        self._read = read
        self._refresh = refresh_s
        self._reading: TimeReading | None = None
        self._wall_last, self._wall_at = wall_ms(), time.monotonic_ns()
        self._read_at = 0.0
        self._pipe_r, self._pipe_w = os.pipe()
        os.set_blocking(self._pipe_r, False)
        os.set_blocking(self._pipe_w, False)

    def wall_ms(self) -> int:
        """The wall's time, but never set back: pauses are counted by it, and an owner (or NTP) who
        sets the host's clock back by an hour must not keep a stop unwatched for an hour."""
        now, at = wall_ms(), time.monotonic_ns()
        going_on = self._wall_last + (at - self._wall_at) // 1_000_000
        if now >= going_on:
            self._wall_last, self._wall_at = now, at
            return now
        return going_on

    def sync(self) -> None:
        """Ask the exchange now; raises what the exchange raises."""
        if self._read is not None:
            # Counted from the answer's arrival: our market time is then never ahead of the
            # exchange's, and a candle that we take for closed is closed there.
            self._reading = self._read()
            self._read_at = time.monotonic()

    @property
    def speed(self) -> float:
        return self._reading.speed if self._reading else 1.0

    @property
    def stepped(self) -> bool:
        """Market time stands still: it is moved by steps, if at all."""
        return self.speed == 0

    def market_ms(self) -> int:
        if self._reading is None:
            return wall_ms()
        return self._reading.market_ms + int((time.monotonic() - self._read_at) * 1000 * self._reading.speed)

    def wait(self, market_deadline: int | None, wall_deadline: int | None) -> None:
        while True:
            pause = self._refresh
            if wall_deadline is not None:
                pause = min(pause, (wall_deadline - self.wall_ms()) / 1000)
            speed = self.speed
            if market_deadline is not None:
                ahead = (market_deadline - self.market_ms()) / 1000
                if ahead <= 0:
                    return
                if speed > 0:
                    pause = min(pause, ahead / speed)
            if pause <= 0:
                return
            if self._pause(pause):
                return
            if self._read is not None and time.monotonic() - self._read_at >= self._refresh:
                try:
                    self.sync()
                except Exception:  # noqa: BLE001 - a clock that can't be asked goes on from its last reading
                    self._read_at_failed()

    def _read_at_failed(self) -> None:
        """Keep the reading but move its base to now, so that the next try is a refresh away."""
        if self._reading is not None:
            now = self.market_ms()
            self._reading = TimeReading(self._reading.server_ms, now, self._reading.speed)
        self._read_at = time.monotonic()

    def _pause(self, seconds: float) -> bool:
        """Sleep; True when somebody woke us."""
        ready, _, _ = select.select([self._pipe_r], [], [], max(0.0, seconds))
        if not ready:
            return False
        with suppress(BlockingIOError):
            while os.read(self._pipe_r, 512):
                pass
        return True

    def wake(self) -> None:
        with suppress(BlockingIOError):  # the pipe is full of wake-ups already
            os.write(self._pipe_w, b"x")

    def close(self) -> None:
        os.close(self._pipe_r)
        os.close(self._pipe_w)
