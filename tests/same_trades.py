"""One bot on the paper exchange in stepped time, and the backtest of the same settings and candles.

The wall goes with market time, as at speed 1. Looks at which nothing new was printed are left
out, as DESIGN §5 allows; whatever a look or a fill changed is looked at again at the next one.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from core.backtest.engine import run, trades
from core.backtest.result import Config, Trade
from core.backtest.tape import Tape, money
from core.bot import schedule
from core.bot.series import Recorded
from core.bot.trader import Trader
from core.clock import utc_text
from core.config import market_time
from core.market import timeframes
from core.market.bars import PRICES, Bars, price_text, read_file
from core.model import Fill
from core.paper.markets import open_market
from core.paper.markets.replay import ReplayMarket
from market_data import shared
from stepped import WALL_START, World
from strategies.base import Strategy

DAY = 86_400_000
WEEK = 7 * DAY
AMOUNT = "3000"


@dataclass(frozen=True)
class Case:
    """What both run. `record` is the bot's; `days` from `start`, a market time that is a slot of its checks."""

    symbol: str
    strategy: str
    start: str
    days: float
    record: Mapping[str, Any]
    slippage: str = "0"
    pace: int = 1  # market ms that go by in a ms of wall time: questions about what rests go by the wall

    @property
    def span(self) -> tuple[int, int]:
        begin = market_time(self.start)
        return begin, begin + int(self.days * DAY)

    @property
    def compared(self) -> int:
        """Exits up to here are compared: the backtest closes what is open at the last candle's open."""
        return self.span[1] - 900_000


@cache
def real_bars(symbol: str) -> Bars:
    base = symbol.removesuffix("USDT")
    return read_file(shared(f"spot-5m/{base}_USDT-5m.json.gz"), symbol, "5m")


def replayed(home: Path, case: Case, invented: Bars | None = None) -> Path:
    """A folder for the paper exchange to replay: the case's candles, and a week before them; or those that a test invented."""
    if invented is not None:
        folder = home / "candles"
        folder.mkdir()
        columns = [invented.open_ms.tolist(), *([price_text(p) for p in getattr(invented, c).tolist()] for c in PRICES)]
        rows_text = ",".join(f"[{','.join(map(str, row))},1.5]" for row in zip(*columns, strict=True))
        (folder / f"BTC_USDT-{invented.timeframe}.json.gz").write_bytes(gzip.compress(f"[{rows_text}]".encode()))
        return folder
    name = f"{case.symbol.removesuffix('USDT')}_USDT-5m.json.gz"
    begin, end = case.span
    rows = json.loads(gzip.decompress(shared(f"spot-5m/{name}").read_bytes()), parse_float=str)
    folder = home / "candles"
    folder.mkdir()
    numbers = ",".join(f"[{r[0]},{','.join(map(str, r[1:6]))}]" for r in rows if begin - WEEK <= int(r[0]) <= end + DAY)
    (folder / name).write_bytes(gzip.compress(f"[{numbers}]".encode()))
    return folder


class WithoutStops(ReplayMarket):
    """A market whose symbols take stops with a limit only."""

    def symbol(self, name: str) -> dict[str, Any] | None:
        found = super().symbol(name)
        return None if found is None else {**found, "orderTypes": [t for t in found["orderTypes"] if t not in ("STOP_LOSS", "TAKE_PROFIT")]}

    def symbols(self) -> list[dict[str, Any]]:
        return [entry for known in super().symbols() if (entry := self.symbol(known["symbol"])) is not None]


def as_a_bot(
    home: Path, case: Case, strategy: str | Strategy | None = None, invented: Bars | None = None, stops: bool = True
) -> tuple[list[Trade], list[dict[str, Any]], Config]:
    """The trades that a bot closed, its decisions, and the settings that a backtest needs for the same.

    `invented`: candles to trade on instead of the real ones; `stops` False: the symbol takes STOP_LOSS_LIMIT only."""
    values = {
        "PAPER_MARKET": "replay",
        "PAPER_DATA": str(replayed(home, case, invented)),
        "PAPER_START": case.start,
        "PAPER_SLIPPAGE_PCT": case.slippage,
        "PAPER_BALANCE_USDT": "10000",
    }
    world = World(home, open_market if stops else lambda told: WithoutStops(told.paper_data), **values)
    try:
        bot = world.bot(1, case.symbol, strategy or case.strategy, AMOUNT, **{"offset": 0, "timeframe": "5m", **case.record})
        begin, end = case.span
        assert world.market_ms() == begin
        _play(world, bot, Tape(real_bars(case.symbol) if invented is None else invented), end, case.pace)
        rows = world.files.read_lines("bot_1_fills.jsonl")
        names = set(Fill.__dataclass_fields__)
        fills = [Fill(**{k: v for k, v in row.items() if k in names}) for row in rows]
        own = bot.config
        config = Config(
            symbol=bot.symbol,
            timeframe=own.timeframe,
            plan=own.plan,
            cash=Decimal(10_000),
            slippage_pct=Decimal(case.slippage),
            check_interval_s=own.check_interval_s,
            offset_ms=own.offset_ms,
            risk_interval_s=own.risk_interval_s,
            kline_limit=own.kline_limit,
            from_ms=begin,
        )
        found, still_open = trades(fills, bot.symbol)
        assert still_open <= 1
        if bot.position.direction is not None and found and len({f.trade for f in fills}) == len(found):
            found = found[:-1]  # partly sold, and open
        return found, list(world.files.read_lines("bot_1_decisions.jsonl")), config
    finally:
        world.close()


def _play(world: World, bot: Trader, tape: Tape, end_ms: int, pace: int) -> None:
    assert bot.start()
    begin = world.market_ms()
    while True:
        before = bot.position
        bot.step()
        while bot.guardian.due() and world.wall >= bot.attempts.retry_wall.get("protect", 0):
            bot.step()  # what was bought gets its stop at once
        assert not bot.executor.unresolved
        now = world.market_ms()
        due = [bot.agenda.next_slot()]
        if bot.watching or bot.position.orders:
            printed = tape.at[tape.index(now) + 1]
            changed = bot.position is not before or bot._looks_beyond
            look = schedule.look_after(now if changed else max(now, int(printed) - 1), bot.config.risk_interval_s * 1000)
            due.append(max(look, (bot.attempts.retry_wall.get("look", 0) - WALL_START) * pace + begin))
        nearest = min(due)
        if nearest >= end_ms:
            world.step_to(end_ms)
            return
        world.step_to(nearest)
        world.wall = WALL_START + (nearest - begin) // pace


def as_a_backtest(case: Case, config: Config, decisions: list[dict[str, Any]], strategy: Strategy, invented: Bars | None = None, **asked: Any) -> list[Trade]:
    """The same in the backtester, without what was closed because the candles end."""
    end = case.span[1]
    bars = real_bars(case.symbol).slice(case.span[0] - WEEK, end) if invented is None else invented.slice(None, end)
    finer = None
    if config.timeframe != bars.timeframe:  # the path is that of the candles which the paper exchange replays
        rows = [list(row) for row in zip(*(column.tolist() for column in bars.columns()), strict=True)]
        made = timeframes.resample(rows, bars.timeframe, config.timeframe)
        finer, bars = bars, Bars.from_rows([[t, *map(money, prices), volume] for t, *prices, volume in made], case.symbol, config.timeframe)
    recorded = {name: Recorded(decisions, name, (config.check_interval_s or 1) * 1000) for name in strategy.needs}
    result = run(config, bars, strategy, finer, providers=recorded, **asked)
    return [t for t in result.trades if t.exit_reason != "end" and t.exit_time < case.compared]


def differences(bot: list[Trade], backtest: list[Trade]) -> list[str]:
    """Trades that are not the same to the last digit, both sides of each in a line."""
    lines = []
    for i in range(max(len(bot), len(backtest))):
        a, b = bot[i] if i < len(bot) else None, backtest[i] if i < len(backtest) else None
        if a != b:
            lines.append(f"trade {i + 1}: the bot {_line(a)}; the backtest {_line(b)}")
    return lines


def _line(t: Trade | None) -> str:
    if t is None:
        return "none"
    return f"{utc_text(t.entry_time)} {t.entry_price} × {t.quantity} → {utc_text(t.exit_time)} {t.exit_price} {t.exit_reason} {t.profit} fees {t.fees}"
