"""The processes of one run: an exchange that outlives its bot, a bot that dies, its next lives.

    yard ──fork──► exchange ◄──socket pair── bot ──at a kill point──► SIGKILL, by its own hand
                      │ fork, at each point                  │ fork, before it dies
                      ▼                                      ▼
                   exchange' ◄────────── socket pair ────── bot' lives on to the next point

So one run visits every point: at each, the process that has come so far dies by SIGKILL, its
exchange goes on with the home as it lay on the disk at that moment (a copy: the fork that
lives on keeps the home), starts the bot anew in a process of its own and judges. All of it
are forks of one warm process; the yard adopts and reaps them, and counts the SIGKILLs.

The exchange is core/paper in memory behind unmodified python-binance; market time moves by
steps only, wall time is a counter that the living bot carries on.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests

from core import storage
from core.binance_client import BinanceClient, watched as held_back
from core.bot import setup
from core.bot.trader import Trader
from core.config import Settings, load
from core.paper.adapter import PaperAdapter
from core.paper.exchange import PaperExchange
from core.paper.wire import Request, Response
from core.storage import Files
from kills import judge
from kills.disk import Disk
from kills.scenarios import ByCandle, Outcome, Scenario, candles, minute
from kills.seams import Points, watched
from paper_fixed import FixedMarket

WALL_START = 1_795_000_000_000
LATE_MS = 3000
MOST_STEPS = 600


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


# --- the bot's side -------------------------------------------------------------------------


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

    def __init__(self, line: Line, home: Path, scenario: Scenario, run: Run, wall: int, market_ms: int, plan: Plan):
        self.line, self.home, self.scenario, self.plan = line, home, scenario, plan
        self.far = FarExchange(line)
        self.far.wall = wall
        self.disk: Disk | None = None
        self.points = Points(home, self._changes, self._strike)
        if plan.cut:
            self.disk = Disk(home, self.points)
            storage.os = self.disk  # type: ignore[assignment]
        self.settings = run.settings(home)
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
            if quiet == (28 if self.bot.position.orders else 8):
                return
        raise AssertionError("with the clock stopped it never came to rest")

    def _quiet(self) -> bool:
        bot = self.bot
        pending = any(wall > self.far.wall for wall in bot.retry_wall.values())
        return not bot.executor.unresolved and not pending and not bot.guardian.due()

    def until(self, end_ms: int) -> None:
        """Everything that is due before `end_ms` of market time, the nearest first."""
        bot = self.bot
        for _ in range(MOST_STEPS):
            bot.step()
            self.far.wall += 2000 if bot.position.orders else 10
            waiting = [wall for wall in bot.retry_wall.values() if wall > self.far.wall]
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


# --- the exchange's side ---------------------------------------------------------------------


class Wrong(Exception):
    """The judge found something."""

    def __init__(self, problems: list[str]):
        self.problems = problems
        super().__init__("; ".join(problems))


@dataclass(frozen=True)
class Plan:
    """What kills a life: `cut` names a kind of disk ("" : no power cut), `at` one point alone
    (None: every point in turn), `of`/`rest`: only each `of`-th."""

    cut: str = ""
    seed: int = 0
    at: int | None = None
    of: int = 1
    rest: int = 0


@dataclass
class Run:
    """One scenario with one outcome, killed at every point. Results go to `results`, a line a pass."""

    scenario: Scenario
    outcome: Outcome
    plan: Plan
    folder: Path
    results: Path
    tokens: tuple[int, int]
    second: int = 0  # >0: the second life dies, too, at a seeded one of its first points
    wall: int = WALL_START
    held: list[tuple[int, Request]] = field(default_factory=list)
    armed: bool = False
    was_late: bool = False

    def settings(self, home: Path) -> Settings:
        return load({"BOTYARD_HOME": str(home), "PAPER_SPEED": "0", "PAPER_BALANCE_USDT": "10000", "CHECK_INTERVAL": "60", "RISK_INTERVAL": "20"})

    def whole(self) -> None:
        """This process becomes the exchange of the run. Never returns."""
        self.home = self.folder / "home"
        self.home.mkdir(parents=True)
        (self.home / ".env").touch()
        (self.home / "data").mkdir()
        self.place, self.number = "nowhere", 0
        self.exchange = PaperExchange(
            self.settings(self.home),
            opener=lambda s: FixedMarket(candles(self.scenario)),
            wall=lambda: self.wall,
            monotonic_ns=lambda: self.wall * 1_000_000,
        )
        self.exchange.installation = ""  # in memory it has no yard of its own
        self._step(minute(2))
        try:
            told = self._live(self.plan, first=True)
            if told is None:
                self._next_life()
            else:
                self._say(judge.final(self))
                self._say_end(told)
        except Wrong as e:
            self._say(e.problems)
        except BaseException as e:  # noqa: BLE001 - told in the results: nobody reads this process's output
            self._say([f"{type(e).__name__}: {e}\n{traceback.format_exc(limit=-4)}"])
        os._exit(0)

    def _next_life(self) -> None:
        """The bot was killed: another one is started on what it left, and judged."""
        os.read(self.tokens[0], 1)  # so many at a time as there are tokens
        try:
            if self.scenario.down_until is not None:
                self._arm()
                self._step(minute(self.scenario.down_until))
            if self.second:
                at = 1 + (self.number * 7919 + self.plan.seed) % self.second
                if self._live(Plan(cut=self.plan.cut, seed=self.plan.seed + 1, at=at), first=False) is not None:
                    self.place += ", then nowhere"
            if self._live(Plan(), first=False) is None:
                self._say(["the next life was killed, by nobody of ours"])
            else:
                self._say(judge.final(self))
        finally:
            os.write(self.tokens[1], b"t")
            shutil.rmtree(self.home, ignore_errors=True)

    def _live(self, plan: Plan, *, first: bool) -> dict[str, Any] | None:
        """One life on this home; None when it was killed."""
        mine, theirs = socket.socketpair()
        if os.fork() == 0:
            mine.close()
            self._be_bot(Line(theirs), plan, first)
        theirs.close()
        return self._serve(Line(mine))

    def _be_bot(self, line: Line, plan: Plan, first: bool) -> None:
        try:
            life = Life(line, self.home, self.scenario, self, self.wall, self._market(), plan)
            if first:
                if self.scenario.arm == 2:
                    line.ask("arm")
                    life.points.armed = True
                life.start()
                if self.scenario.arm > 2:
                    life.until(minute(self.scenario.arm))
                    line.ask("arm")
                    life.points.armed = True
            else:
                life.points.armed = plan.at is not None
                life.start()
                life.settle()
                line.ask("settled")
            life.until(minute(self.scenario.end))
            line.send("done", {"found": life.points.found, "struck": life.points.struck})
        except BaseException as e:  # noqa: BLE001 - told to the exchange's side
            line.send("failed", f"{type(e).__name__}: {e}\n{traceback.format_exc(limit=-6)}")
        os._exit(0)

    def _serve(self, line: Line) -> dict[str, Any] | None:
        while (found := line.receive()) is not None:
            (kind, *rest), fd = found
            if kind == "ask":
                self.wall = rest[0]
                line.send(self._handle(rest[1]))
            elif kind == "step":
                self.wall = rest[0]
                self._step(rest[1])
                line.send(rest[1])
            elif kind == "arm":
                self._arm()
                line.send(None)
            elif kind == "settled":
                problems = judge.settled(self)
                if problems:
                    raise Wrong(["with the clock stopped: " + p for p in problems])
                line.send(None)
            elif kind == "point":
                name, number, copy = rest
                shutil.copytree(self.home, copy)
                if os.fork() == 0:
                    line.sock.close()
                    line = Line(socket.socket(fileno=fd))
                    continue
                os.close(fd)  # type: ignore[arg-type]
                self.home, self.place, self.number = Path(copy), name, number
                line.send("copied")
            elif kind == "dying":
                self.place += f", then {rest[0]}"
            elif kind == "failed":
                raise AssertionError(rest[0])
            else:
                return rest[0]  # type: ignore[no-any-return]
        return None

    # --- the exchange -------------------------------------------------------------------

    def _handle(self, request: Request) -> Response:
        for due, late in list(self.held):
            if self.wall >= due:
                self.held.remove((due, late))
                self.exchange.handle(late)
        if self.armed and not self.was_late and self.outcome.late == request.path and request.method == "POST":
            self.was_late = True
            self.held.append((self.wall + LATE_MS, request))
            return Response(cut=True)
        return self.exchange.handle(request)

    def _arm(self) -> None:
        """From here on the outcome's faults strike."""
        if not self.armed:
            self.armed = True
            for f in self.outcome.faults:
                self._admin("POST", "/paper/faults", f)

    def _step(self, ms: int) -> None:
        if ms > self._market():
            self._admin("POST", "/paper/clock", {"step_to_ms": ms})

    def _market(self) -> int:
        return int(self._admin("GET", "/paper/clock")["market_ms"])

    def _admin(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        raw = json.dumps(body).encode() if body is not None else b""
        answer = self.exchange.handle(Request(method, path, "", raw, {"host": "127.0.0.1"}))
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    def client(self) -> BinanceClient:
        """The judge's own look at the exchange, on this side of the line."""
        self.exchange.faults.clear()
        made = BinanceClient(self.settings(self.home), "paper", clock_ms=lambda: self.wall)
        made.mount(PaperAdapter(self.exchange))
        made.connect()
        return made

    # --- what is told ----------------------------------------------------------------------

    def _say(self, problems: list[str]) -> None:
        self._line({"scenario": self.scenario.name, "outcome": self.outcome.name, "cut": self.plan.cut, "place": self.place, "n": self.number, "problems": problems})

    def _say_end(self, told: dict[str, Any]) -> None:
        self._line({"scenario": self.scenario.name, "outcome": self.outcome.name, "cut": self.plan.cut, "points": told})

    def _line(self, value: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            fd = os.open(self.results, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.write(fd, (json.dumps(value) + "\n").encode())
            os.close(fd)


def reap() -> Iterator[int]:
    """The wait statuses of all children, adopted ones too, until there are none."""
    while True:
        try:
            yield os.waitpid(-1, 0)[1]
        except ChildProcessError:
            return


def carry_out(run: Run) -> int:
    """Run it in forks of this process; how many processes ended by SIGKILL."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork() == 0:
        run.whole()
    return sum(1 for status in reap() if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL)
