"""A host whose clock jumps or drifts: a bot keeps to the exchange's time, buys nothing in doubt, and always watches its stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from bots import Script
from core.binance_client import BinanceClient
from core.bot import setup
from core.bot.trader import Trader
from core.clock import MISSED_READINGS, RealClock
from core.errors import Unavailable
from core.exchange import TimeReading
from core.market.history import CandleStore
from core.model import KlineRow, OrderRequest, Update
from core.paper.adapter import PaperAdapter
from paper_fixed import FILTERS, FixedMarket
from stepped import World

D = Decimal
HOUR, MINUTE = 3_600_000, 60_000
Bar = tuple[str, str, str, str]
FLAT: Bar = ("100", "100", "100", "100")


class Host:
    """A machine with a wall clock and a monotonic one, in a world whose true time is `world.wall`."""

    def __init__(self, world: World, jumps: dict[int, int] | None = None, wall_drift: float = 0, mono_drift: float = 0):
        self.world, self.start = world, world.wall
        self.jumps = jumps or {}  # ms since the start → how far the wall clock is moved
        self.wall_drift, self.mono_drift = wall_drift, mono_drift

    @property
    def passed(self) -> int:
        return self.world.wall - self.start

    def wall(self) -> int:
        moved = sum(by for at, by in self.jumps.items() if at <= self.passed)
        return self.start + int(self.passed * (1 + self.wall_drift)) + moved

    def monotonic_ns(self) -> int:
        return int(self.passed * (1 + self.mono_drift) * 1_000_000) + 10**12


class HostClock(RealClock):
    """The real clock; only its sleep moves the world's time instead of taking any."""

    def __init__(self, host: Host, read: Callable[[], TimeReading], refresh_s: float):
        self.host = host
        super().__init__(read, refresh_s, wall=host.wall, monotonic_ns=host.monotonic_ns)

    def _pause(self, seconds: float) -> bool:
        self.host.world.wall += max(1, int(seconds * 1000))
        return False


class Counting(PaperAdapter):
    """Counts refusals of our time stamps."""

    refused = 0

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        answer = super().send(request, *args, **kwargs)
        self.refused += b"-1021" in answer.content[:40]
        return answer


class Restless(Script):
    """BUY after each even minute, SELL after each odd one."""

    def analyze(self, data: Sequence[KlineRow]) -> dict[str, Any]:
        return {"signal": ("BUY", "SELL")[int(data[-1][0]) // MINUTE % 2], "reasoning": "restless"}


class Run:
    """One bot on such a host, with notes on everything it did at which true market time."""

    def __init__(self, world: World, strategy: Script, refresh_s: float = 60, **host: Any):
        self.world, self.host = world, Host(world, **host)
        clocks = {"clock_ms": self.host.wall, "monotonic_ms": lambda: self.host.monotonic_ns() // 1_000_000}
        self.client = BinanceClient(world.settings, "paper", sleep=world._sleep, **clocks)
        self.wire = Counting(world.exchange, sleep=world._sleep)
        self.client.mount(self.wire)
        self.clock = HostClock(self.host, self.client.time, refresh_s)
        record = {"id": 1, "name": "Bot 1", "symbol": "BTCUSDT", "strategy": "script", "trade_amount": D(500), "timeframe": "1m", "check_interval": 60}
        record |= {"offset": 0, "protection": "bot", "cooldown_checks": 0}
        config = setup.build(world.settings, 1, "Bot 1", "BTCUSDT", "script", D(500), record, strategy)
        store = CandleStore(world.home / "data/history.db")
        self.bot = Trader(config, world.settings, world.files, self.client, self.clock, strategy, candles=store, read_record=lambda: record)
        self.sent: list[tuple[str, int, str]] = []  # side, true market time, the clock's trouble
        self.wrong: list[str] = []
        self.doubts = 0
        self._watch()
        assert self.bot.start()

    def market(self) -> int:
        return self.world._clock()

    def _watch(self) -> None:
        place, candles, row = self.client.place, self.bot.feed.closed_candles, self.bot.teller.row

        def placing(request: OrderRequest, latest_ms: int | None = None) -> Update:
            self.sent.append((request.side, self.market(), self.clock.trouble()))
            return place(request, latest_ms)

        def closed(*args: Any) -> list[KlineRow]:
            found = candles(*args)
            if found and int(found[-1][6]) >= self.market():
                self.wrong.append(f"the candle of {found[-1][0]} is open at {self.market()}")
            return found

        def noted(*args: Any) -> dict[str, Any]:
            shown = row(*args)
            if shown["slot_ms"] is not None and not 0 <= self.market() - shown["slot_ms"] < MINUTE:
                self.wrong.append(f"the slot of {shown['slot_ms']} was done at {self.market()}")
            return shown

        self.client.place, self.bot.feed.closed_candles, self.bot.teller.row = placing, closed, noted  # type: ignore[method-assign]

    def until(self, passed_ms: int) -> None:
        while self.host.passed < passed_ms:
            self.bot.step()
            self.doubts += bool(self.clock.trouble())
            self.clock.wait(*self.bot.deadlines())

    def bought(self, after_ms: int = 0) -> int:
        return sum(side == "BUY" and at >= self.world.market_ms() + after_ms for side, at, _ in self.sent)


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(*bars: Bar) -> World:
        market = FixedMarket([FLAT] * 10 + list(bars), filters=FILTERS)
        made.append(World(tmp_path, opener=lambda _: market, PAPER_SPEED="1", RISK_INTERVAL="15"))
        made[-1].ask("POST", "/paper/clock", {"step_to_ms": market.first_ms + 5 * MINUTE})
        made[-1]._market_ms = made[-1]._clock()
        return made[-1]

    yield make
    for world in made:
        world.close()


def test_jumps_of_an_hour_pause_entries_and_move_no_check_and_no_time_stamp(worlds: Callable[..., World]) -> None:
    at = {10 * MINUTE + 1500: HOUR, 20 * MINUTE + 1700: -HOUR, 30 * MINUTE + 1999: -HOUR, 40 * MINUTE + 59_000: HOUR}
    run = Run(worlds(), Restless(), jumps=at)
    run.until(HOUR)
    assert run.wrong == []
    assert run.wire.refused == 0, "no time stamp was refused"
    assert run.bot.status.fields["checks_completed"] >= 59
    assert run.doubts > 0
    assert [s for s in run.sent if s[0] == "BUY" and s[2]] == [], "nothing was bought in doubt"
    assert run.bought() >= 28 and run.bought(41 * MINUTE) >= 9, "and afterwards it went on"
    rows = list(run.world.files.read_lines("bot_1_decisions.jsonl"))
    assert any("the clock can't be trusted: the host's clock jumped by 3600 s" in r["why_not"] for r in rows)
    assert "clock" not in [w["kind"] for w in run.bot.status.fields["warnings"]]


@pytest.mark.parametrize("drift", [1 / 30, -1 / 30])
@pytest.mark.parametrize("which", ["wall_drift", "mono_drift"])
def test_a_clock_that_drifts_two_seconds_a_minute_is_followed_without_a_refusal(worlds: Callable[..., World], which: str, drift: float) -> None:
    run = Run(worlds(), Restless(), **{which: drift})
    run.until(HOUR // 2)
    assert run.wrong == []
    assert run.wire.refused == 0
    assert run.bot.status.fields["checks_completed"] >= 29
    assert run.bought() >= 13
    assert [s for s in run.sent if s[0] == "BUY" and s[2]] == []
    if which == "wall_drift":
        assert run.doubts == 0, "a drift of the wall is no jump, and nothing goes by it"


def test_a_stop_is_sold_while_the_clock_is_in_doubt(worlds: Callable[..., World]) -> None:
    # True market time begins at minute 5; the price falls in minute 15.
    bars = [FLAT] * 5 + [("100", "100", "90", "90")]
    jumps = {9 * MINUTE + 45_000 + i * 3000: HOUR if i % 2 else -HOUR for i in range(60)}
    run = Run(worlds(*bars), Script(("BUY",)), jumps=jumps)
    run.until(13 * MINUTE)
    assert [side for side, _, _ in run.sent] == ["BUY", "SELL"]
    assert "can't be trusted" in run.sent[1][2], "sold in the midst of the doubt"
    assert run.bot.position.direction is None
    assert run.wire.refused == 0


# --- the clock by itself ------------------------------------------------------------------


class Exchange:
    """An exchange's clock, which the test moves, and the host's."""

    def __init__(self) -> None:
        self.mono, self.wall_off, self.server_off, self.down, self.asked = 100.0, 1_000_000, 5_000_000, False, 0
        self.clock = RealClock(self.read, 60, wall=lambda: int(self.mono * 1000) + self.wall_off, monotonic_ns=lambda: int(self.mono * 1e9))
        self.clock.sync()

    def read(self) -> TimeReading:
        self.asked += 1
        if self.down:
            raise Unavailable("no answer")
        now = int(self.mono * 1000) + self.server_off
        return TimeReading(now, now)

    def measure(self, after_s: float) -> str:
        self.mono += after_s
        self.clock.sync()
        return self.clock.trouble()


@pytest.fixture
def one() -> Iterator[Exchange]:
    made = Exchange()
    yield made
    made.clock.close()


def test_a_jump_of_the_hosts_clock_is_doubted_until_two_measurements_agree(one: Exchange) -> None:
    one.wall_off += 900
    assert one.clock.trouble() == "", "less than a second is none"
    one.wall_off -= HOUR
    assert "the host's clock jumped by -3600 s" in one.clock.trouble()
    before = one.asked
    one.clock.wait(None, one.clock.wall_ms() - 1)
    assert one.asked == before + 1, "measured anew at once, even where nothing is to be waited for"
    assert one.clock.trouble()
    assert one.measure(0.1), "two in a moment are one"
    assert one.measure(1.0) == ""


def test_an_exchange_whose_clock_moves_against_ours_is_doubted_until_two_measurements_agree(one: Exchange) -> None:
    assert one.measure(60) == ""
    one.server_off += 1500
    assert "the exchange's clock moved by 1.5 s against ours" in one.measure(60)
    one.server_off -= 1500
    assert one.measure(5), "it moved again: the first of the two begins anew"
    assert one.measure(5) == ""


def test_readings_that_fail_in_a_row_are_doubted_and_the_exchange_is_not_hammered(one: Exchange) -> None:
    one.down = True
    for n in range(MISSED_READINGS):
        assert one.clock.trouble() == "", f"after {n}"
        with pytest.raises(Unavailable):
            one.measure(1)
    assert f"could not be read {MISSED_READINGS} times in a row" in one.clock.trouble()
    asked = one.asked
    for _ in range(50):
        one.clock.wait(None, one.clock.wall_ms() - 1)
    assert one.asked <= asked + 1
    one.down = False
    assert one.measure(5)
    assert one.measure(5) == ""


def test_market_time_goes_by_the_exchanges_reading_and_never_by_the_wall(one: Exchange) -> None:
    for jump in (HOUR, -2 * HOUR, HOUR):
        one.wall_off += jump
        one.mono += 7
        assert one.clock.market_ms() == int(one.mono * 1000) + one.server_off


def test_an_intents_latest_moment_and_its_time_stamp_go_by_the_same_clock(worlds: Callable[..., World]) -> None:
    run = Run(worlds(), Script(()), jumps={1000: HOUR, 2000: -2 * HOUR})
    for _ in range(3):
        run.world.wall += 1000
        assert abs(run.client.request_time_ms() - run.world.wall) <= 1
        request = OrderRequest(f"own-{run.host.passed}", "BTCUSDT", "BUY", "MARKET", quote_quantity=D(50))
        assert run.client.place(request, run.world.wall + 2000).status == "FILLED"
    assert run.wire.refused == 0
