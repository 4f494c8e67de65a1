"""A bot's signs of life in its status file (which core/bot/status.py owns)."""

from __future__ import annotations

from typing import Any

from core.bot.status import Status
from core.clock import Clock

HEARTBEAT_MS = 2000
PULSE_MS = 1000


class Heartbeat:
    """`pulse` is called by the exchange before each request, `beat` by the loop. All times are wall ms."""

    def __init__(self, status: Status, clock: Clock):
        self._status, self._clock = status, clock
        self._beat_wall = self._pulse_wall = -HEARTBEAT_MS

    @property
    def due_wall_ms(self) -> int:
        return self._beat_wall + HEARTBEAT_MS

    def due(self) -> bool:
        return self._clock.wall_ms() >= self.due_wall_ms

    def beat(self, **fields: Any) -> None:
        self._beat_wall = self._clock.wall_ms()
        self._status.write(**fields)

    def pulse(self) -> None:
        """A sign of life before each request: a bot that waits for the exchange is slow, not stuck."""
        now = self._clock.wall_ms()
        if now - max(self._beat_wall, self._pulse_wall) >= PULSE_MS:
            self._pulse_wall = now
            self._status.write()
