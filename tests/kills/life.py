"""The bot's side of a run: one life from its start to its death, and its line to the exchange (see world.py)."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import struct
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests

from core import storage
from core.binance_client import BinanceClient
from core.binance_transport import watched as held_back
from core.bot import setup
from core.bot.trader import Trader
from core.config import Settings
from core.paper.adapter import PaperAdapter
from core.paper.wire import Request, Response
from core.storage import Files
from kills.disk import Disk
from kills.scenarios import ByCandle, Scenario
from kills.seams import Points, watched

MOST_STEPS = 600


@dataclass(frozen=True)
class Plan:
    """What kills a life: `cut` names a kind of disk ("" : no power cut), `at` one point alone
    (None: every point in turn), `of`/`rest`: only each `of`-th."""

    cut: str = ""
    seed: int = 0
    at: int | None = None
    of: int = 1
    rest: int = 0


class Line:
    """Pickled messages over a socket pair, a descriptor with one where it is given."""

    def __init__(self, sock: socket.socket):
        self.sock = sock

    def send(self, *message: Any, fd: int | None = None) -> None:
        data = pickle.dumps(message)
        head = struct.pack("!I", len(data))
        if fd is None:
            self.sock.sendall(head)
        else:
            socket.send_fds(self.sock, [head], [fd])
        self.sock.sendall(data)

    def receive(self) -> tuple[tuple[Any, ...], int | None] | None:
        """A message and its descriptor; None when the other side is gone."""
        try:
            head, fds, _, _ = socket.recv_fds(self.sock, 4, 1)
            while head and len(head) < 4:
                head += self.sock.recv(4 - len(head))
            if not head:
                return None
            wanted, data = struct.unpack("!I", head)[0], b""
            while len(data) < wanted:
                part = self.sock.recv(wanted - len(data))
                if not part:
                    return None
                data += part
        except ConnectionError:
            return None
        return pickle.loads(data), (fds[0] if fds else None)

    def ask(self, *message: Any) -> Any:
        self.send(*message)
        found = self.receive()
        if found is None:
            os._exit(70)  # the exchange is gone: whoever ended it has said why
        return found[0][0]


class FarExchange:
    """What the transport takes for a paper exchange: requests go over the line."""

    def __init__(self, line: Line):
        self.line, self.wall, self.requests = line, 0, 0

    def handle(self, request: Request) -> Response:
        self.requests += 1
        return self.line.ask("ask", self.wall, request)  # type: ignore[no-any-return]


class Wire(PaperAdapter):
    """The transport with the client's own look at time stamps (an order stamped too late is held back)."""

    latest_order_ms: int | None = None

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        return held_back(super().send, self, request, *args, **kwargs)


class StepClock:
    """Waiting moves wall time only; market time is moved by the run."""

    stepped, speed = True, 0.0

    def __init__(self, far: FarExchange, market_ms: int):
        self._far, self._market = far, market_ms

    def wall_ms(self) -> int:
        return self._far.wall

    def market_ms(self) -> int:
        return self._market

    def wait(self, market_deadline: int | None, wall_deadline: int | None) -> None:
        self._far.wall += 500

    def wake(self) -> None:
        pass


class Life:
    """One bot process, from its start to its death or its end."""

    def __init__(self, line: Line, home: Path, scenario: Scenario, settings: Settings, wall: int, market_ms: int, plan: Plan):
        self.line, self.home, self.scenario, self.plan = line, home, scenario, plan
        self.far = FarExchange(line)
        self.far.wall = wall
        self.disk: Disk | None = None
        self.points = Points(home, self._changes, self._strike)
        if plan.cut:
            self.disk = Disk(home, self.points)
            storage.os = self.disk  # type: ignore[assignment]
        self.settings = settings
        client = watched(BinanceClient, self.points)(self.settings, "paper", sleep=self._sleep, clock_ms=lambda: self.far.wall)
        client.mount(Wire(self.far, sleep=self._sleep))  # type: ignore[arg-type]
        self.clock = watched(StepClock, self.points)(self.far, market_ms)
        strategy = ByCandle()
        strategy.sell_from = scenario.sell_from
        record = {"offset": 0, "timeframe": "1m", "check_interval": 60, **scenario.record}
        config = setup.build(self.settings, 1, "Bot", "BTCUSDT", "by_candle", Decimal(500), record, strategy)
        self.bot = Trader(config, self.settings, watched(Files, self.points)(home), client, self.clock, strategy)

    def _changes(self) -> tuple[int, int]:
        return self.far.requests, self.disk.changes if self.disk else 0

    def _sleep(self, seconds: float) -> None:
        self.far.wall += int(seconds * 1000)

    # --- dying ---------------------------------------------------------------------

    def _strike(self, name: str) -> None:
        """A point: this process dies here, its fork lives on; or, with `at`, only at the one."""
        number = self.points.struck
        if self.plan.at is not None:
            if number == self.plan.at:
                self._die(None, name, number)
            return
        if self.plan.of > 1 and number % self.plan.of != self.plan.rest:
            return
        mine, theirs = socket.socketpair()
        copy = self.home.with_name(f"{self.home.name.split('+')[0]}+{number}")
        self.line.send("point", name, number, str(copy), fd=theirs.fileno())
        if self.line.receive() is None:
            os._exit(70)
        if os.fork():
            self._die(copy, name, number)
        theirs.close()
        self.line.sock.close()
        self.line.sock = mine

    def _die(self, copy: Path | None, name: str, number: int) -> None:
        if self.disk is not None:
            self.disk.cut(copy or self.home, self.plan.cut, self.plan.seed + number)
        if copy is None:
            self.line.send("dying", name, number)
        os.kill(os.getpid(), signal.SIGKILL)

    # --- living ----------------------------------------------------------------------

    def start(self) -> None:
        for _ in range(60):
            if self.bot.start():
                return
            self.far.wall += 1000
        raise AssertionError("the bot did not start")

    def settle(self) -> None:
        """With the clock stopped, until nothing is open to question."""
        quiet = 0
        for _ in range(MOST_STEPS):
            self.bot.step()
            self.far.wall += 500
            quiet = quiet + 1 if self._quiet() else 0
            # What rests is asked for every two seconds, and the exchange may not know it five times.
            if quiet >= (28 if self.bot.position.orders else 8):
                return
        bot = self.bot
        why = {"unresolved": bot.executor.unresolved, "to be protected": bot.guardian.due(), "orders": [(o.role, o.status) for o in bot.position.orders],
               "retries in s": {what: (wall - self.far.wall) / 1000 for what, wall in bot.attempts.retry_wall.items() if wall > self.far.wall}}  # fmt: skip
        raise AssertionError(f"with the clock stopped it never came to rest: {why}, warnings {bot.status.fields['warnings']}")

    def _quiet(self) -> bool:
        bot = self.bot
        pending = any(wall > self.far.wall for wall in bot.attempts.retry_wall.values())
        return not bot.executor.unresolved and not pending and not bot.guardian.due()

    def until(self, end_ms: int) -> None:
        """Everything that is due before `end_ms` of market time, the nearest first."""
        bot = self.bot
        for _ in range(MOST_STEPS):
            bot.step()
            self.far.wall += 2000 if bot.position.orders else 10
            waiting = [wall for wall in bot.attempts.retry_wall.values() if wall > self.far.wall]
            if bot.executor.unresolved or waiting:
                self.far.wall += 500
                continue
            market = bot.deadlines()[0]
            if market is None or market >= end_ms:
                self.step_to(end_ms)
                self.settle()
                return
            self.step_to(market)
        raise AssertionError("it did not come to its end")

    def step_to(self, ms: int) -> None:
        if ms > self.clock._market:
            self.clock._market = self.line.ask("step", self.far.wall, ms)
