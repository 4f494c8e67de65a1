"""Clocks: market time is never ahead of the exchange's for long, wall time never runs back, waits end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from core import clock as rooms
from core.clock import RealClock, utc_text
from core.errors import Unavailable
from core.exchange import TimeReading
from patience import patience


class Market:
    """An exchange's clock that the test moves; its answers may fail."""

    def __init__(self) -> None:
        self.ms, self.speed, self.asked, self.broken = 1_000_000, 0.0, 0, False

    def read(self) -> TimeReading:
        self.asked += 1
        if self.broken:
            raise Unavailable("no answer")
        return TimeReading(1, self.ms, self.speed)


@pytest.fixture
def market() -> Market:
    return Market()


@pytest.fixture
def made(market: Market) -> Iterator[RealClock]:
    clock = RealClock(market.read, refresh_s=0.02)
    clock.sync()
    yield clock
    clock.close()


def test_a_wait_ends_when_somebody_wakes_it(made: RealClock) -> None:
    threading.Timer(0.02, made.wake).start()
    started = time.monotonic()
    made.wait(None, made.wall_ms() + 60_000)
    assert time.monotonic() - started < patience(10)


def test_a_wake_before_the_wait_counts_and_many_are_one(made: RealClock) -> None:
    for _ in range(100_000):  # more than the pipe holds: a signal handler must never block
        made.wake()
    started = time.monotonic()
    made.wait(None, made.wall_ms() + 60_000)
    assert time.monotonic() - started < patience(10)


def test_deadlines_in_the_past_return_at_once(made: RealClock, market: Market) -> None:
    for deadlines in ((market.ms, None), (None, made.wall_ms() - 1), (market.ms - 5, made.wall_ms() + 60_000)):
        started = time.monotonic()
        made.wait(*deadlines)
        assert time.monotonic() - started < patience(10)


def test_a_step_of_a_clock_that_stands_still_ends_a_wait_for_market_time(made: RealClock, market: Market) -> None:
    assert made.stepped
    threading.Timer(0.05, lambda: setattr(market, "ms", 2_000_000)).start()
    made.wait(1_500_000, made.wall_ms() + 60_000)
    assert made.market_ms() == 2_000_000


def test_a_speed_that_rises_shortens_a_wait_that_runs(made: RealClock, market: Market) -> None:
    def quick() -> None:
        market.speed = 100_000.0

    threading.Timer(0.05, quick).start()
    started = time.monotonic()
    made.wait(market.ms + 1_000_000, made.wall_ms() + 60_000)
    assert time.monotonic() - started < patience(15)


def test_market_time_is_counted_from_the_answers_arrival_so_it_is_never_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [50.0]
    monkeypatch.setattr(rooms.time, "monotonic", lambda: now[0])

    def slow() -> TimeReading:
        told = TimeReading(1, 1000, 10.0)
        now[0] += 3  # the way back takes 3 s: the exchange is at 31,000 by then
        return told

    clock = RealClock(slow)
    clock.sync()
    assert clock.market_ms() == 1000
    now[0] += 1
    assert clock.market_ms() == 11_000 <= 41_000
    clock.close()


def test_a_reading_that_fails_keeps_time_going_and_is_tried_again(made: RealClock, market: Market) -> None:
    market.speed = 1000.0
    made.sync()
    market.broken = True
    before, asked = made.market_ms(), market.asked
    made.wait(None, made.wall_ms() + 120)
    assert made.market_ms() > before
    assert market.asked > asked
    with pytest.raises(Unavailable):
        made.sync()
    market.broken = False
    market.ms, market.speed = 5_000_000, 0.0
    made.sync()
    assert made.market_ms() == 5_000_000


def test_without_a_reading_market_time_is_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = RealClock()
    assert abs(clock.market_ms() - rooms.wall_ms()) < 5000
    assert clock.speed == 1.0 and not clock.stepped
    clock.close()


def test_a_host_clock_that_is_set_back_or_forward_never_stops_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, mono = [10_000_000], [0]
    monkeypatch.setattr(rooms, "wall_ms", lambda: wall[0])
    monkeypatch.setattr(rooms.time, "monotonic_ns", lambda: mono[0] * 1_000_000)
    clock = RealClock()
    wall[0] -= 3_600_000  # NTP, or the owner
    mono[0] += 1500
    assert clock.wall_ms() == 10_001_500, "it goes on from where it was"
    mono[0] += 500
    assert clock.wall_ms() == 10_002_000
    wall[0] = 20_000_000  # a host that slept
    assert clock.wall_ms() == 20_000_000
    clock.close()


def test_times_are_told_in_utc_with_milliseconds() -> None:
    assert utc_text(1_612_915_202_003) == "2021-02-10T00:00:02.003Z"
