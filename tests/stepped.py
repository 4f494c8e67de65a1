"""The stepped world: trader, unmodified python-binance and paper exchange in one process.

Market time moves by steps only, wall time is a counter; requests go through a transport
adapter instead of a socket, as quick as the CPU allows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from core.binance_client import BinanceClient
from core.bot import setup
from core.bot.trader import Trader
from core.config import Settings, load
from core.market.history import CandleStore
from core.paper.adapter import PaperAdapter
from core.paper.exchange import PaperExchange
from core.paper.markets import Market, open_market
from core.paper.wire import Request
from core.storage import Files
from strategies import registry
from strategies.base import Strategy

WALL_START = 1_700_000_000_000


class World:
    """One paper exchange under `home`, its clock, and clients of it."""

    def __init__(self, home: Path, opener: Callable[[Settings], Market] = open_market, **values: str):
        self.home = home
        (home / ".env").touch()  # else the settings of the person who runs the tests would count
        self.settings: Settings = load({"BOTYARD_HOME": str(home), "PAPER_SPEED": "0", **values})
        self.wall = WALL_START
        self.exchange = PaperExchange(
            self.settings, opener=opener, folder=home / "data" / "paper", wall=lambda: self.wall, monotonic_ns=lambda: self.wall * 1_000_000
        )
        self.files = Files(home)
        self.clients: list[BinanceClient] = []
        self._market_ms = self._clock()

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """An admin request; the answer's JSON, which must be a success."""
        raw = json.dumps(body).encode() if body is not None else b""
        answer = self.exchange.handle(Request(method, path, "", raw, {"content-type": "application/json", "host": "127.0.0.1"}, "127.0.0.1"))
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    def market_ms(self) -> int:
        return self._market_ms

    def _clock(self) -> int:
        return int(self.ask("GET", "/paper/clock")["market_ms"])

    def step_to(self, ms: int) -> None:
        if ms > self.market_ms():
            self.ask("POST", "/paper/clock", {"step_to_ms": ms})
            self._market_ms = self._clock()

    def client(self) -> BinanceClient:
        made = BinanceClient(self.settings, "paper", sleep=self._sleep, clock_ms=lambda: self.wall)
        made.mount(PaperAdapter(self.exchange, sleep=self._sleep))
        # python-binance stamps requests with time.time(): the offset carries our wall.
        self.clients.append(made)
        return made

    def _sleep(self, seconds: float) -> None:
        self.wall += int(seconds * 1000)

    def bot(self, bot_id: int, symbol: str, strategy: str | Strategy, amount: str = "1000", **record: Any) -> Trader:
        key = strategy if isinstance(strategy, str) else strategy.name
        own = registry.load().build(strategy) if isinstance(strategy, str) else strategy
        full = {"id": bot_id, "name": f"Bot {bot_id}", "symbol": symbol, "strategy": key, "trade_amount": Decimal(amount), **record}
        config = setup.build(self.settings, bot_id, full["name"], symbol, key, Decimal(amount), full, own)
        return Trader(
            config,
            self.settings,
            self.files,
            self.client(),
            WorldClock(self),
            own,
            candles=CandleStore(self.home / "data/history.db"),
            read_record=lambda: full,
        )

    def close(self) -> None:
        self.exchange.close()


class WorldClock:
    """Waiting moves nothing: the runner below steps the world to the nearest deadline."""

    stepped = True
    speed = 0.0

    def __init__(self, world: World):
        self.world = world

    def wall_ms(self) -> int:
        return self.world.wall

    def market_ms(self) -> int:
        return self.world.market_ms()

    def wait(self, market_deadline: int | None, wall_deadline: int | None) -> None:
        self.world.wall += 500

    def wake(self) -> None:
        pass


def run_until(world: World, bots: list[Trader], end_ms: int) -> None:
    """Everything that is due before `end_ms`, the nearest deadline first.

    Wall time goes on by 2 s a step while an order is open, so that it is looked at each time;
    while an order's outcome is unknown only wall time moves."""
    while True:
        for bot in bots:
            bot.step()
        world.wall += 2000 if any(bot.position.orders for bot in bots) else 10
        if any(bot.executor.unresolved for bot in bots):
            continue
        due = [d for bot in bots if (d := bot.deadlines()[0]) is not None]
        nearest = min(due, default=end_ms)
        if nearest >= end_ms:
            world.step_to(end_ms)
            return
        world.step_to(nearest)
