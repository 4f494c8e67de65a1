"""After a stop-out a bot skips its checks, as many as the record says, from the stop's own time on, whenever it hears of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.bot.trader import Trader
from core.model import KlineRow
from paper_fixed import FILTERS, FixedMarket
from same_trades import Case, as_a_backtest, as_a_bot, differences
from stepped import World
from strategies.base import Strategy
from test_same_trades import Dice, wild

MINUTE = 60_000
FLAT = ("100", "100", "100", "100")
FALL = ("100", "100", "97", "97")  # reaches a stop at 98 on its way to the low, 45 s after its open
ROOMY = [f for f in FILTERS if f["filterType"] != "MAX_NUM_ORDERS"]


class Always(Strategy):
    """Says the same of every candle; of the fallen one `after`."""

    key = "always"
    warmup = 1  # type: ignore[assignment]

    def __init__(self, after: str = "BUY"):
        super().__init__()
        self.after = after

    def analyze(self, data: Sequence[KlineRow]) -> dict[str, Any]:
        return {"signal": self.after if Decimal(str(data[-1][4])) < 98 and Decimal(str(data[-1][1])) == 100 else "BUY", "reasoning": "always"}


class Dead(BaseException):
    """The process ends here."""


@pytest.fixture
def live(tmp_path: Path) -> Any:
    worlds: list[World] = []

    def make() -> World:
        market = FixedMarket([FLAT] * 10 + [FALL] + [("97", "97", "97", "97")] * 10, filters=ROOMY)
        home = tmp_path / str(len(worlds))
        home.mkdir()
        made = World(home, opener=lambda _: market, RISK_INTERVAL="15", CHECK_INTERVAL="60", KLINE_INTERVAL="1m")
        made.step_to(market.first_ms + 10 * MINUTE + 2000)
        worlds.append(made)
        return made

    yield make
    for made in worlds:
        made.close()


Live = Callable[[], World]


def bot_of(world: World, after: str = "BUY", **record: Any) -> Trader:
    made = world.bot(1, "BTCUSDT", Always(after), "500", **{"timeframe": "1m", "check_interval": 60, "offset": 0, **record})
    assert made.start()
    return made


def bought(world: World) -> list[int]:
    """The minutes, from the first check on, at which something was bought."""
    fills = [row for row in world.files.read_lines("bot_1_fills.jsonl") if row["side"] == "BUY"]
    return [(int(row["time_ms"]) - int(fills[0]["time_ms"])) // MINUTE for row in fills]


def next_minute(world: World, wall_ms: int = 0) -> None:
    world.step_to((world.market_ms() // MINUTE + 1) * MINUTE + 2000)
    world.wall += wall_ms


@pytest.mark.parametrize("wall_ms", [0, 1900, 2500])
@pytest.mark.parametrize("after", ["BUY", "SELL", "HOLD"])
@pytest.mark.parametrize(("checks", "minutes"), [(0, [0, 1]), (1, [0, 2]), (2, [0, 3])])
def test_a_stop_that_filled_before_a_check_counts_that_check_as_skipped(live: Live, checks: int, minutes: list[int], after: str, wall_ms: int) -> None:
    """Whether the bot asks in time (2.5 s since it asked last), or no sooner than in the check."""
    world = live()
    bot = bot_of(world, after, cooldown_checks=checks)
    for _ in range(6):
        for _ in range(3):
            bot.step()  # what was bought gets its stop at once
        next_minute(world, wall_ms)
    if checks == 0 and after != "BUY":
        minutes = [0, 2]  # nothing was signalled at the first check after the stop
    assert bought(world)[: len(minutes)] == minutes


def test_a_stop_that_the_exchange_tells_of_late_counts_by_its_own_time(live: Live) -> None:
    """The question at the check fails; taking the pair back for the sale finds the fill."""
    world = live()
    bot = bot_of(world, "SELL")
    for _ in range(3):
        bot.step()
    next_minute(world)
    world.ask("POST", "/paper/faults", {"method": "GET", "path": "/api/v3/order", "fault": "error", "times": 3, "params": {"status": 503, "executed": False}})
    for _ in range(3):
        bot.step()
        world.wall += 2500
    for _ in range(3):
        next_minute(world)
        for _ in range(3):
            bot.step()
    assert bought(world)[:2] == [0, 2]


def test_a_death_at_any_write_of_the_check_neither_loses_the_cool_down_nor_repeats_it(live: Live) -> None:
    places = 0
    for late in (False, True):
        for n in range(1, 50):
            world = live()
            bot = bot_of(world)
            for _ in range(3):
                bot.step()
            next_minute(world)
            _mortal(bot, n, late)
            try:
                bot.step()
            except Dead:
                places += 1
                bot = bot_of(world)
            else:
                break
            finally:
                world.wall += 3000
            for _ in range(4):
                for _ in range(3):
                    bot.step()
                    world.wall += 700
                next_minute(world)
            assert bought(world)[:2] == [0, 2], f"death {'after' if late else 'before'} write {n}"
    assert places >= 6


def _mortal(bot: Trader, n: int, late: bool) -> None:
    """The bot dies at its n-th write of position, journal or status from here on: before it, or after."""
    left = [n]

    def around(write: Callable[..., Any]) -> Callable[..., Any]:
        def dying(*given: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0 and not late:
                raise Dead
            done = write(*given, **named)
            if left[0] == 0:
                raise Dead
            return done

        return dying

    bot.store.save = around(bot.store.save)  # type: ignore[method-assign]
    bot.journal.append_fills = around(bot.journal.append_fills)  # type: ignore[method-assign]
    bot.status.write = around(bot.status.write)  # type: ignore[method-assign]


@pytest.mark.parametrize("seed", [1, 3])
def test_a_bot_that_hears_late_of_its_stops_trades_as_the_backtest_does(tmp_path: Path, seed: int) -> None:
    """Market time goes 200 times as quick as the wall: what rests is asked for every seventh check or so, but for the checks themselves."""
    record = {"timeframe": "1m", "stop_loss_pct": "0.3", "take_profit_pct": "1", "check_interval": 60, "risk_interval": 30}
    case = Case("BTCUSDT", "dice", "2022-03-01T00:00:02", 0.12, record, pace=200)
    bars = wild(seed, 60 + 240, holes=0)
    as_bot, decisions, config = as_a_bot(tmp_path, case, Dice(), bars)
    as_backtest = as_a_backtest(case, config, decisions, Dice(), bars)
    as_bot = [t for t in as_bot if t.exit_time < case.compared]
    assert differences(as_bot, as_backtest) == []
    assert sum(t.exit_reason == "stop_loss" for t in as_bot) >= 5
