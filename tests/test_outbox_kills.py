"""Five hundred events, every fault of a service, and a sender that is killed again and again."""

from __future__ import annotations

import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import notify
from core.clock import wall_ms
from core.model import Event
from core.storage import Files
from message_server import SETTINGS, TOKEN, MessageServer
from patience import patience

SENDER = Path(__file__).with_name("outbox_sender.py")
EVENTS, KILLS = 500, 14
# How often which fault meets a message (of 1000), and a look-up.
SEND = {
    **{"error_400": 20, "wrong_key": 10, "too_many": 40, "error_500": 30, "cut_before": 30, "slow_before": 8},
    **{"error_503_after": 30, "cut_after": 40, "slow_after": 12, "bad_json": 30},
}
FIND = {"error_500": 60, "cut_before": 40, "bad_json": 40, "too_many": 40}


class Chance:
    """Draws faults; kills the sender at random requests: before the answer, after it, or between two."""

    def __init__(self, seed: int):
        self.random, self.lock = random.Random(seed), threading.Lock()
        self.left = sorted(self.random.sample(range(10, 640), KILLS))
        self.count, self.kills = 0, 0
        self.process: subprocess.Popen[bytes] | None = None
        self.killed = threading.Event()

    def __call__(self, what: str) -> str | None:
        with self.lock:
            self.count += 1
            if self.left and self.count >= self.left[0] and self.random.random() < 0.5:
                self._kill()
            draw, table = self.random.randrange(1000), SEND if what == "send" else FIND
            for fault, share in table.items():
                draw -= share
                if draw < 0:
                    return fault
            return None

    def taken(self) -> None:
        """A message is with the service, and the sender has no answer yet: the worst of moments."""
        with self.lock:
            if self.left and self.count >= self.left[0]:
                self._kill()

    def _kill(self) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.left.pop(0)
            self.kills += 1
            self.killed.set()


@pytest.fixture
def server() -> Iterator[MessageServer]:
    with MessageServer(slow_s=0.5) as made:
        yield made


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [int(s) for s in os.environ.get("OUTBOX_SEEDS", "7").split(",")])
def test_over_500_events_no_alert_is_lost_and_repeats_are_no_more_than_kills(home: Path, server: MessageServer, seed: int) -> None:
    files, chance = Files(home), Chance(seed)
    server.chance, server.on_taken = chance, chance.taken
    files.write_json("notify.json", {"schema": 1, "per_day": 10_000, "fold_minutes": 0})
    env = {"PATH": os.environ["PATH"], "HTTP_TIMEOUT": "1", **SETTINGS}
    errors = (home / "stderr").open("ab")

    def post(begin: int, end: int) -> None:
        for n in range(begin, end):
            risk = n % 3 != 0
            kind, severity = ("stop_hit", "risk") if risk else ("alert", "warning")
            notify.post(files, Event(kind, f"event {n} END", severity, n % 50, wall_ms=wall_ms()))  # type: ignore[arg-type]

    writers = [threading.Thread(target=post, args=(i * 100, i * 100 + 100)) for i in range(5)]
    for w in writers:
        w.start()
    try:
        while True:
            chance.killed.clear()
            chance.process = subprocess.Popen([sys.executable, SENDER, home, server.url], env=env, stdout=subprocess.DEVNULL, stderr=errors)
            if not any(w.is_alive() for w in writers):
                (home / "enough").touch()
            code = chance.process.wait(200)
            if code == 0 and (home / "enough").exists():
                break
            assert code == -signal.SIGKILL, (home / "stderr").read_text()[-3000:]
            for w in writers:
                w.join(patience(60))
    finally:
        if chance.process is not None and chance.process.poll() is None:
            chance.process.kill()
            chance.process.wait()
        errors.close()

    told = [m["body"] for m in server.sms]
    copies = Counter(int(n) for body in told for n in re.findall(r"event (\d+) END", body))
    alerts, others = [n for n in range(EVENTS) if n % 3], [n for n in range(EVENTS) if not n % 3]
    assert chance.kills == KILLS
    assert [n for n in alerts if not copies[n]] == [], "an alert about risk was lost"
    assert [n for n in others if copies[n] > 1] == [], "a message was sent twice that must go at most once"
    repeats = sum(copies[n] - 1 for n in alerts)
    assert repeats <= chance.kills, f"{repeats} repeats, {chance.kills} kills"
    # A second copy says what it is; and what did not go out is accounted for, by its text.
    first: set[int] = set()
    for body in told:
        n = int(re.findall(r"event (\d+) END", body)[0])
        assert n not in first or "(possible repeat)" in body
        first.add(n)
    with sqlite3.connect(home / "data/outbox.db") as db:
        states = dict(db.execute("SELECT state, count(*) FROM messages GROUP BY state"))
        given_up = {int(re.findall(r"\d+", t)[0]) for (t,) in db.execute("SELECT text FROM messages WHERE state IN ('given_up', 'refused')")}
    db.close()
    assert sum(states.values()) == EVENTS and set(states) <= {"sent", "given_up", "refused"}
    assert [n for n in others if not copies[n] and n not in given_up] == []
    print(f"seed {seed}: {chance.kills} kills, {repeats} repeats, {len(told)} SMS taken, {sum('possible' in b for b in told)} marked, states {states}")
    everything = b"".join(f.read_bytes() for f in home.rglob("*") if f.is_file())
    assert TOKEN.encode() not in everything, "the token is in a file or in what the sender printed at DEBUG"
