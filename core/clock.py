"""Market time and wall time, and the one place where a process waits.

Market time rules candles, checks, looks and order times; wall time rules signatures,
time-outs, rate limits and messages (ARCHITECTURE.md, "Two clocks"). On a real exchange
both are one. On paper, market time is the paper exchange's clock: it may run faster,
stand still, or be moved by steps. Between two readings of the exchange's clocks only the
monotonic clock counts, never the host's wall: that one may jump (NTP, an owner, a host
that slept), and then nothing is bought until two measurements agree (`RealClock.trouble`).
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

from core.errors import ExchangeError
from core.exchange import TimeReading

JUMP_MS = 1000  # beyond it, a clock that is not where it should be has jumped
DRIFT = 0.05  # of the time since the last look: a wall clock that is slewed by so much doesn't jump
MISSED_READINGS = 5  # in a row: the exchange's clock is not known any more
MEASURE_AGAIN_S = 5.0  # while there is trouble
APART_S = 1.0  # two measurements that are to agree lie so far apart


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

    `wall` (ms) and `monotonic_ns` are handed in for tests; None: the host's.
    """

    def __init__(
        self,
        read: Callable[[], TimeReading] | None = None,
        refresh_s: float = 1.0,
        *,
        wall: Callable[[], int] | None = None,
        monotonic_ns: Callable[[], int] | None = None,
    ):
        self._read = read
        self._refresh = refresh_s
        self._reading: TimeReading | None = None
        self._wall, self._given_ns = wall or (lambda: wall_ms()), monotonic_ns
        self._wall_last, self._wall_at = self._wall(), self._mono_ns()
        self._seen = self._wall_last, self._wall_at  # wall and monotonic clock at the last look
        self._read_at = 0.0
        self._offset_ms: float | None = None  # the exchange's wall clock minus the monotonic one
        self._way_ms = 0.0  # how long that reading took
        self._missed = 0
        self._doubt = ""  # why the clock can't be trusted
        self._agreed = 0
        self._agreed_at = 0.0
        self._measure_now = False
        self._pipe_r, self._pipe_w = os.pipe()
        os.set_blocking(self._pipe_r, False)
        os.set_blocking(self._pipe_w, False)

    def _mono_ns(self) -> int:
        return self._given_ns() if self._given_ns is not None else time.monotonic_ns()

    def _mono(self) -> float:
        """Seconds."""
        return self._given_ns() / 1e9 if self._given_ns is not None else time.monotonic()

    def wall_ms(self) -> int:
        """The wall's time, but never set back: pauses are counted by it, and an owner (or NTP) who
        sets the host's clock back by an hour must not keep a stop unwatched for an hour."""
        now, at = self._wall(), self._mono_ns()
        self._compare(now, at)
        going_on = self._wall_last + (at - self._wall_at) // 1_000_000
        if now >= going_on:
            self._wall_last, self._wall_at = now, at
            return now
        return going_on

    # --- trust ----------------------------------------------------------------------

    def trouble(self) -> str:
        """Why the clock can't be trusted, "" where it can: then nothing is bought. Getting out goes on."""
        self._compare(self._wall(), self._mono_ns())
        return f"the clock can't be trusted: {self._doubt}; it is measured again every {MEASURE_AGAIN_S:.0f} s" if self._doubt else ""

    def _compare(self, wall: int, mono_ns: int) -> None:
        """The host's wall clock against its monotonic one, since the last look."""
        (wall_before, ns_before), self._seen = self._seen, (wall, mono_ns)
        passed = (mono_ns - ns_before) / 1e6
        jumped = wall - wall_before - passed
        if abs(jumped) > JUMP_MS + passed * DRIFT:
            self._distrust(f"the host's clock jumped by {jumped / 1000:.0f} s")

    def _distrust(self, why: str) -> None:
        if self._read is None:
            return  # nothing to measure by: the host's clock is all there is
        self._doubt, self._agreed, self._measure_now = why, 0, True

    def _measured(self, server_ms: int, began: float) -> None:
        """A reading arrived. Trust comes back with the second one in a row that agrees."""
        now = self._mono()
        offset, way = server_ms - (began + now) * 500, (now - began) * 1000
        before, slack = self._offset_ms, JUMP_MS + (way + self._way_ms) / 2
        self._offset_ms, self._way_ms, self._missed, self._measure_now = offset, way, 0, False
        if before is not None and abs(offset - before) > slack:
            if not self._doubt:
                self._distrust(f"the exchange's clock moved by {(offset - before) / 1000:.1f} s against ours")
            self._agreed, self._measure_now = 1, False
            self._agreed_at = now
        elif self._doubt and (not self._agreed or now - self._agreed_at >= APART_S):
            self._agreed, self._agreed_at = self._agreed + 1, now
            if self._agreed >= 2:
                self._doubt = ""

    # --- market time ------------------------------------------------------------------

    def sync(self) -> None:
        """Ask the exchange now; raises what the exchange raises."""
        if self._read is None:
            return
        began = self._mono()
        try:
            # Counted from the answer's arrival: our market time is then never ahead of the
            # exchange's, and a candle that we take for closed is closed there.
            reading = self._read()
        except ExchangeError:
            self._missed += 1
            if self._missed >= MISSED_READINGS:
                self._distrust(f"the exchange's clock could not be read {MISSED_READINGS} times in a row")
            self._measure_now = False  # not before its time: an exchange that fails is not asked in a loop
            raise
        self._reading = reading
        self._read_at = self._mono()
        self._measured(reading.server_ms, began)

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
        return self._reading.market_ms + int((self._mono() - self._read_at) * 1000 * self._reading.speed)

    def wait(self, market_deadline: int | None, wall_deadline: int | None) -> None:
        while True:
            self._refresh_if_due()  # also where a deadline lies behind: a busy bot must not go on with a wrong clock
            pause = self._every()
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

    def _every(self) -> float:
        """Seconds between two readings."""
        return min(self._refresh, MEASURE_AGAIN_S) if self._doubt else self._refresh

    def _refresh_if_due(self) -> None:
        self._compare(self._wall(), self._mono_ns())
        if self._read is not None and (self._measure_now or self._mono() - self._read_at >= self._every()):
            try:
                self.sync()
            except ExchangeError:  # a clock that can't be asked goes on from its last reading
                self._read_at_failed()

    def _read_at_failed(self) -> None:
        """Keep the reading but move its base to now, so that the next try is a refresh away."""
        if self._reading is not None:
            now = self.market_ms()
            self._reading = TimeReading(self._reading.server_ms, now, self._reading.speed)
        self._read_at = self._mono()

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
