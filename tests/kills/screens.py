"""Real bots in real screen sessions, each killed at a seeded moment around an order, restarted and judged.

    PYTHONPATH=.:tests python -m kills.screens --rounds 10 --seed 1      3 bots × 10 rounds: 30 sessions

A round: market time runs, each bot is watched until it writes an intent, and gets its SIGKILL
some milliseconds later (before the answer, in the booking, while the pair is placed). Then the
clock is stopped, all are started again in new sessions, and what they come to is judged.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from core import config
from core.account import ledger
from core.binance_client import BinanceClient
from core.bot.fold import lacks_fills
from core.bot.position import PositionStore
from core.errors import BotyardError
from core.fleet import control
from core.fleet.screen import ScreenSupervisor
from core.model import SENDING, Position, floor_to
from fleet_help import Yardful
from processes import BUY_SELL, Home, until

BOTS = 3


class Screens:
    """A home with a real paper exchange and bots in screen sessions of their own prefix."""

    def __init__(self, folder: Path, seed: int):
        self.dice = random.Random(seed)
        self.home = Home(folder, PAPER_SPEED="0")
        self.yard = Yardful(folder, "screen")
        values = {k: v for k, v in self.home.env.items() if k.startswith("PAPER_") or k == "CHECK_INTERVAL"}
        values |= {"SESSION_PREFIX": self.yard.prefix, "RISK_INTERVAL": "60", "STOP_LOSS_PCT": "0.5", "TAKE_PROFIT_PCT": "1"}
        (folder / ".env").write_text("".join(f"{k}={v}\n" for k, v in values.items()))
        self.settings = config.load({"BOTYARD_HOME": str(folder), **values})
        self.keeper = ScreenSupervisor(self.yard.files, self.settings)
        self.home.strategy("buy_sell", BUY_SELL)
        self.yard.bots(*(f"Bot {n}" for n in range(1, BOTS + 1)), strategy="buy_sell", cooldown_checks=0)
        self.kills = 0
        self.places: Counter[str] = Counter()

    def begin(self) -> None:
        self.home.paper()

    def end(self) -> None:
        for bot_id in self.keeper.running():
            control.stop_bot(self.yard.files, self.settings, bot_id, "the kill round's end", self.keeper)
        self.home.end()
        self.yard.clean_up()

    def speed(self, speed: int) -> None:
        self.home.post("/paper/clock", {"speed": speed})

    def start(self) -> None:
        starts = [threading.Thread(target=control.start_bot, args=(self.yard.files, self.settings, n, "kills", self.keeper), kwargs={"yard": False})
                  for n in range(1, BOTS + 1)]  # fmt: skip
        for thread in starts:
            thread.start()
        for thread in starts:
            thread.join()

    # --- one round ------------------------------------------------------------------

    def round(self) -> list[str]:
        """What was wrong after every bot was killed once and started again."""
        self.speed(300)
        victims = [threading.Thread(target=self._kill, args=(n, self.dice.randrange(3), self.dice.random() * 0.08)) for n in range(1, BOTS + 1)]
        for thread in victims:
            thread.start()
        for thread in victims:
            thread.join()
        self.speed(0)
        until(lambda: not self.keeper.running(), "the deaths")
        self.start()
        try:
            until(self._at_rest, "the restarted bots to come to rest", 30)
        except AssertionError as e:
            return [str(e), *(self.home.log(n)[-600:] for n in range(1, BOTS + 1))]
        return self.judge()

    def _kill(self, bot_id: int, skip: int, pause_s: float) -> None:
        """Watch for an intent (the first, or one of the next), wait `pause_s`, kill."""
        path = self.home.path / f"bot_{bot_id}_position.json"
        pid = until(lambda: self.keeper.pid(bot_id), f"bot {bot_id}")
        last, end = self._next_order(path), time.monotonic() + 30
        while time.monotonic() < end:
            now = self._next_order(path)
            if now != last:
                last = now
                if skip == 0:
                    break
                skip -= 1
            time.sleep(0.001)
        time.sleep(pause_s)
        os.kill(pid, signal.SIGKILL)
        self.kills += 1
        left = self._position(bot_id)
        self.places["none yet" if left is None else "sending" if any(o.status == SENDING for o in left.orders) else "unjournaled" if left.unjournaled
                    else "long, pair at the exchange" if left.orders else "long, no pair" if left.direction else "flat"] += 1  # fmt: skip

    def _next_order(self, path: Path) -> int:
        try:
            return int(self.yard.files.read_any(path.name)["next_order"])
        except (BotyardError, TypeError, KeyError):
            return 0

    def _position(self, bot_id: int) -> Position | None:
        return PositionStore(self.yard.files, bot_id).load()

    def _at_rest(self) -> bool:
        """Settled, and for a second on end: a start's first check may still send something."""
        for _ in range(10):
            if not self._settled():
                return False
            time.sleep(0.1)
        return True

    def _settled(self) -> bool:
        for n in range(1, BOTS + 1):
            status, p = self.home.status(n), self._position(n)
            if status["pid"] != self.keeper.pid(n) or status["state"] != "running" or status["unresolved"]:
                return False
            if p is None:
                return False
            if any(o.status == SENDING or lacks_fills(p, o) for o in p.orders) or (p.direction is not None and not p.orders):
                return False
        return True

    def judge(self) -> list[str]:
        client = BinanceClient(self.settings, "paper")
        client.connect()
        wrong = [f"{d.asset}: wallet {d.wallet}, books {d.books}" for d in ledger.compare(self.yard.files, client)]
        orders: list[dict[str, Any]] = client._client.get_all_orders(symbol="BTCUSDT", limit=1000)
        ids = Counter(o["clientOrderId"] for o in orders)
        wrong += [f"sent twice: {name}" for name, times in ids.items() if times > 1]
        rows = [row for n in range(1, BOTS + 1) for row in self.home.lines(f"bot_{n}_fills.jsonl")]
        told, there = sorted(r["trade_id"] for r in rows), sorted(f.trade_id for f in client.fills("BTCUSDT", since_ms=0))
        if list(map(str, told)) != there:
            wrong.append(f"{len(told)} fills in the journals, {len(there)} at the exchange")
        positions = [p for n in range(1, BOTS + 1) if (p := self._position(n)) is not None]
        live = {o.client_id: o for o in client.open_orders("BTCUSDT")}
        if set(live) != {o.client_id for p in positions for o in p.orders}:
            wrong.append(f"open at the exchange: {sorted(live)}, in the files: {sorted(o.client_id for p in positions for o in p.orders)}")
        step = client.symbol("BTCUSDT").rules.step
        for p in positions:
            stops = [o for o in p.orders if o.role == "stop" and not o.terminal]
            if p.direction is not None and (len(stops) != 1 or stops[0].request.stop_price != p.stop_loss):
                wrong.append(f"bot {p.bot_id}: {len(stops)} stops, the position's stop is {p.stop_loss}")
            if p.direction is not None and stops and stops[0].request.quantity != floor_to(p.quantity, step):
                wrong.append(f"bot {p.bot_id}: the stop sells {stops[0].request.quantity} of {p.quantity}")
            entered = Counter(r["trade"] for r in {(r["client_id"]): r for r in rows if r["bot_id"] == p.bot_id and r["role"] == "entry"}.values())
            wrong += [f"bot {p.bot_id}: trade {trade} has {times} entries" for trade, times in entered.items() if times > 1]
        owned = sum((p.quantity + p.dust for p in positions), start=0)
        base = client.balances().get("BTC")
        if owned != (base.total if base else 0):
            wrong.append(f"the bots own {owned}, the wallet {base}")
        if all(p.direction is None for p in positions):
            made = client.balances()["USDT"].total - 10000
            if sum(p.totals.profit for p in positions) != made:
                wrong.append(f"profits {[p.totals.profit for p in positions]}, the wallet made {made}")
        return wrong


def run(folder: Path, rounds: int, seed: int) -> tuple[int, list[str], Counter[str]]:
    """Kills, what was wrong, and in which state each death found its bot."""
    screens, wrong = Screens(folder, seed), []
    try:
        screens.begin()
        screens.start()
        for n in range(rounds):
            wrong += [f"round {n + 1}: {text}" for text in screens.round()]
            if wrong:
                break
    finally:
        screens.end()
    return screens.kills, wrong, screens.places


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="kills.screens")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(argv)
    for name in (*config.names(), "BOTYARD_HOME"):
        os.environ.pop(name, None)
    folder, began = Path(tempfile.mkdtemp(prefix="botyard-screens-")), time.monotonic()
    kills, wrong, places = run(folder, given.rounds, given.seed)
    print(f"{kills} sessions killed in {time.monotonic() - began:.0f} s, {len(wrong)} wrong; found: {dict(places)}")
    for text in wrong:
        print(text)
    if not wrong:
        shutil.rmtree(folder)
    else:
        print(f"kept: {folder}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
