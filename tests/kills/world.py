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
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.binance_client import BinanceClient
from core.config import Settings, load
from core.paper.adapter import PaperAdapter
from core.paper.exchange import PaperExchange
from core.paper.wire import Request, Response
from kills import judge
from kills.life import Life, Line, Plan
from kills.scenarios import Outcome, Scenario, candles, minute
from paper_fixed import FixedMarket

WALL_START = 1_795_000_000_000
LATE_MS = 3000


class Wrong(Exception):
    """The judge found something."""

    def __init__(self, problems: list[str]):
        self.problems = problems
        super().__init__("; ".join(problems))


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
            life = Life(line, self.home, self.scenario, self.settings(self.home), self.wall, self._market(), plan)
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
        self._line({**self._which(), "place": self.place, "n": self.number, "problems": problems})

    def _say_end(self, told: dict[str, Any]) -> None:
        self._line({**self._which(), "points": told})

    def _which(self) -> dict[str, str]:
        return {"scenario": self.scenario.name, "outcome": self.outcome.name, "cut": self.plan.cut}

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
