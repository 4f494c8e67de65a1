"""A home with bots in it, by the contracts of ARCHITECTURE.md, and a dashboard over it. For tests of the page.

The position files are written by the bot's own module, so that they are what a bot writes.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import patience
from core import config
from core.bot import position as position_file
from core.bot.journal import fill_row
from core.clock import wall_ms
from core.errors import NotFound, Unavailable
from core.exchange import Capabilities, Exchange, TimeReading
from core.fleet.subprocess_form import ProcessSupervisor
from core.model import Balance, Candles, Fill, Mode, OrderRequest, Position, Rules, StrategyRef, Symbol, Totals, Update, Venue
from core.storage import Files

MARKET_MS = 1_700_000_000_000
MINUTE = 60_000
VENUE = Venue(source="synthetic:1")
RULES = Rules(tick=Decimal("0.01"), step=Decimal("0.00001"), min_quantity=Decimal("0.00001"), min_notional=Decimal(5), max_notional=Decimal(9_000_000))
SYMBOLS = {
    name: Symbol(name, base, quote, name != "OLDUSDT", RULES)
    for name, base, quote in (
        ("BTCUSDT", "BTC", "USDT"),
        ("ETHUSDT", "ETH", "USDT"),
        ("SOLUSDT", "SOL", "USDT"),
        ("ETHBTC", "ETH", "BTC"),
        ("OLDUSDT", "OLD", "USDT"),
    )
}
PRICES = {"BTCUSDT": Decimal("50500"), "ETHUSDT": Decimal("3010.5"), "SOLUSDT": Decimal("141.27"), "ETHBTC": Decimal("0.0596"), "OLDUSDT": Decimal(1)}


NOTHING = Totals()


class DeskExchange(Exchange):
    """An exchange of a few symbols, in memory: what the page asks for, without a network."""

    def __init__(self, mode: Mode = "paper"):
        self.venue, self.capabilities = Venue(mode=mode), Capabilities()
        self.down = False
        self.asked: list[str] = []

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.down:
            raise Unavailable("not sent: connection refused")

    def time(self) -> TimeReading:
        self._ask("time")
        return TimeReading(wall_ms(), MARKET_MS)

    def symbol(self, name: str) -> Symbol:
        self._ask("symbol")
        if name not in SYMBOLS:
            raise NotFound(f"{name!r} is no symbol of binance {self.venue.mode}")
        return SYMBOLS[name]

    def symbols(self) -> list[Symbol]:
        self._ask("symbols")
        return list(SYMBOLS.values())

    def candles(self, symbol: str, timeframe: str, limit: int, start_ms: int | None = None) -> Candles:
        self._ask("candles")
        step, price, rows = 5 * MINUTE, PRICES[symbol], []
        for i in range(limit):
            opened = MARKET_MS - (limit - i) * step
            o = price * (1 + Decimal((i * 7919) % 83 - 41) / 6000 + Decimal(i - limit) / 9000)
            c = price * (1 + Decimal(((i + 1) * 7919) % 83 - 41) / 6000 + Decimal(i + 1 - limit) / 9000)
            rows.append(
                [opened, str(o), str(max(o, c) * Decimal("1.001")), str(min(o, c) * Decimal("0.999")), str(c), "12.5", opened + step - 1, "0", 0, "0", "0", "0"]
            )
        return Candles(symbol, timeframe, rows)

    def price(self, symbol: str) -> Decimal:
        self._ask("price")
        return PRICES[symbol]

    def balances(self) -> dict[str, Balance]:
        self._ask("balances")
        return {"USDT": Balance("USDT", Decimal("9480.12"), Decimal(0)), "BTC": Balance("BTC", Decimal("0.00999"), Decimal(0))}

    def place(self, request: OrderRequest) -> Update:
        raise AssertionError("the page never orders")

    def cancel(self, symbol: str, client_id: str) -> Update:
        raise AssertionError("the page never cancels")

    def order(self, symbol: str, client_id: str) -> Update:
        raise AssertionError("the page asks for no order")

    def open_orders(self, symbol: str | None = None) -> list[Update]:
        return []

    def fills(self, symbol: str, order_id: str | None = None, since_ms: int | None = None) -> list[Fill]:
        return []


def fill(
    bot: int,
    n: int,
    trade: int,
    side: str,
    price: str,
    quantity: str,
    *,
    fee: str = "0",
    fee_asset: str = "USDT",
    tag: str = "",
    at: int = 0,
    symbol: str = "BTCUSDT",
) -> Fill:
    return Fill(
        trade_id=f"{bot}{n:04d}",
        order_id=str(9000 + n),
        client_id=f"by-{bot}-{n}",
        symbol=symbol,
        side=side,
        price=Decimal(price),  # type: ignore[arg-type]
        quantity=Decimal(quantity),
        quote=Decimal(price) * Decimal(quantity),
        fee=Decimal(fee),
        fee_asset=fee_asset,
        time_ms=at or MARKET_MS - 600 * MINUTE + n * 17 * MINUTE,
        role="entry" if side == "BUY" else "exit",
        tag=tag,
        trade=trade,
        wall_ms=wall_ms(),
    )


class Home:
    """Writes a home's files; `record` first, then what the bot of that record has left behind."""

    def __init__(self, folder: Path):
        self.files = Files(folder)
        self.records: list[dict[str, Any]] = []

    def record(
        self, name: str = "BTC Bot", symbol: str = "BTCUSDT", *, status: str = "stopped", mode: str | None = "paper", amount: str = "500", **more: Any
    ) -> int:
        bot = len(self.records) + 1
        self.records.append(
            {
                "id": bot,
                "name": name,
                "symbol": symbol,
                "strategy": "volatile",
                "trade_amount": Decimal(amount),
                "status": status,
                "profit": 0,
                "trades": 0,
                "mode": mode,
                **more,
            }
        )
        self.files.write_json("active_bots.json", self.records)
        return bot

    def position(
        self,
        bot: int,
        fills: list[Fill] | None = None,
        *,
        trade: int = 1,
        stop: str | None = "49000",
        target: str | None = "52500",
        totals: Totals = NOTHING,
        **more: Any,
    ) -> Position:
        record = self.records[bot - 1]
        symbol = SYMBOLS[record["symbol"]]
        found = Position(
            bot,
            VENUE,
            symbol.name,
            symbol.base,
            symbol.quote,
            "LONG" if fills else None,
            tuple(fills or ()),
            stop_loss=Decimal(stop) if fills and stop else None,
            take_profit=Decimal(target) if fills and target else None,
            strategy=StrategyRef("volatile", "1"),
            trade=trade,
            totals=totals,
            has_traded=True,
            initial_investment=record["trade_amount"],
            opened_ms=fills[0].time_ms if fills else None,
            **more,
        )
        position_file.PositionStore(self.files, bot).save(found)
        return found

    def journal(self, position: Position, fills: list[Fill]) -> None:
        for f in fills:
            self.files.append_line(f"bot_{position.bot_id}_fills.jsonl", fill_row(position, f), durable=False)

    def status(self, bot: int, pid: int = 1, **more: Any) -> None:
        now = wall_ms()
        check = {
            "slot_ms": MARKET_MS,
            "market_ms": MARKET_MS,
            "wall_ms": now,
            "candle_ms": MARKET_MS - 5 * MINUTE,
            "signal": "HOLD",
            "reasoning": "RSI 48.2 is between its bounds",
            "action": "none",
            "why_not": "",
            "price": PRICES["BTCUSDT"],
        }
        value = {
            "schema": 1,
            "bot_id": bot,
            "pid": pid,
            "state": "running",
            "guard": False,
            "mode": "paper",
            "symbol": "BTCUSDT",
            "strategy": "volatile",
            "venue": None,
            "started_wall_ms": now - 3600_000,
            "heartbeat_wall_ms": now,
            "market_ms": MARKET_MS,
            "speed": 1,
            "price": PRICES[self.records[bot - 1]["symbol"]],
            "next_check_ms": MARKET_MS + 2 * MINUTE,
            "next_check_wall_ms": now + 2 * MINUTE,
            "last_check": check,
            "checks_completed": 12,
            "unresolved": False,
            "warnings": [],
            "exit": None,
        }
        value["last_check"] = None if "last_check" in more and more["last_check"] is None else {**check, **more.pop("last_check", {})}
        value.update(more)
        self.files.write_json(f"bot_{bot}_status.json", value, durable=False, keep_previous=False)

    def decision(self, bot: int, signal: str = "HOLD", reasoning: str = "nothing to do", why_not: str = "", n: int = 0) -> None:
        row = {
            "schema": 1,
            "market_ms": MARKET_MS + n,
            "wall_ms": wall_ms(),
            "candle_ms": MARKET_MS,
            "slot_ms": MARKET_MS,
            "signal": signal,
            "reasoning": reasoning,
            "action": "none",
            "why_not": why_not,
            "price": Decimal("50500"),
            "strategy": {"key": "volatile", "version": "1"},
        }
        self.files.append_line(f"bot_{bot}_decisions.jsonl", row, durable=False)

    def log(self, bot: int, *lines: str) -> None:
        with self.files.path(f"bot_{bot}.log").open("a", encoding="utf-8") as f:
            f.writelines(line + "\n" for line in lines)


class KnownPids(ProcessSupervisor):
    """The real supervisor, but which bots run is told by the test: no process is started here."""

    pids: dict[int, int]
    started: list[str]

    def unit_pid(self, unit: str) -> int | None:
        if unit.startswith("bot_"):
            return self.pids.get(int(unit[4:]))
        return os.getpid() if unit in self.started else None

    def start_unit(self, unit: str, argv: list[str]) -> int:
        self.started.append(unit)
        if unit.startswith("bot_"):
            self.pids[int(unit[4:])] = os.getpid()
        return os.getpid()

    def stop(self, bot_id: int, *args: Any, **more: Any) -> None:
        self.pids.pop(bot_id, None)

    def running(self) -> dict[int, int]:
        return dict(self.pids)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def settings(home: Path, **env: str) -> config.Settings:
    return config.load({"BOTYARD_HOME": str(home), "DASHBOARD_PORT": str(free_port()), "PAPER_PORT": str(free_port()), **env})


def make_app(files: Files, chosen: config.Settings, pids: dict[int, int] | None = None, exchange: DeskExchange | None = None, **more: Any) -> Any:
    """The dashboard's application with an exchange in memory; nothing of it starts a process by itself."""
    import simple_dash

    keeper = KnownPids(files, chosen)
    keeper.pids, keeper.started = dict(pids or {}), []
    desk = exchange or DeskExchange()
    return simple_dash.create_app(chosen, files, supervisor=keeper, make_client=lambda mode: desk, paper_wait_s=0.3, **more)


@contextlib.contextmanager
def served(app: Any, port: int) -> Iterator[str]:
    """The application behind a real waitress; its address."""
    from waitress.server import create_server

    server = create_server(app, host="127.0.0.1", port=port, threads=8)
    ended = threading.Event()

    def loop() -> None:
        # Not server.run(): that one goes on while a browser keeps a connection open.
        while not ended.is_set():
            server.asyncore.loop(timeout=0.1, map=server._map, count=1)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        ended.set()
        thread.join(10)
        server.task_dispatcher.shutdown(timeout=2)
        for open_still in list(server._map.values()):
            open_still.close()


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for something that another thread does; AssertionError when it never happens."""
    patience.until(true, "what did not happen", seconds, 0.03)  # a browser that is asked all the time has none left to draw
