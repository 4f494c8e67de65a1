"""Messages and trading: no bot waits for one, no yard either, and none changes a trade."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core import notify
from core.config import load
from core.fleet.yard import Yard
from core.model import Event
from core.notify.outbox import Outbox, Pace
from core.notify.rules import Rules
from core.storage import Files, loads
from fleet_help import Yardful, until, yardful
from message_server import SETTINGS, TELEGRAM, MessageServer, make_channels
from patience import patience
from stepped import World, run_until

HOUR = 3_600_000


def traded(home: Path, how: str) -> tuple[list[Any], list[Any], list[str]]:
    """Two bots over half a day in stepped time; their fills and decisions to the last field, the kinds of event they posted."""
    home.mkdir()
    Files(home).write_json("data/installation.json", {"schema": 1, "installation": "samename"})  # order ids carry it
    loud = {**SETTINGS, **TELEGRAM, "NOTIFY_PAPER": "true"} if how != "off" else {}
    world = World(home, PAPER_SEED="42", PAPER_START="2024-03-15T08:20", RISK_INTERVAL="60", **loud)
    box, sock = None, socket.socket()
    if how == "down":
        world.files.write_json("notify.json", {"schema": 1, "least": "info", "trades": True, "fold_minutes": 0})
        sock.bind(("127.0.0.1", 0))  # bound, and nobody listens: every service is down
        pace = Pace(first_pause=5, longest_pause=20)
        box = Outbox(world.files, world.settings, make=make_channels(f"http://127.0.0.1:{sock.getsockname()[1]}"), pace=pace, clock_ms=lambda: world.wall)
        box.step()
    if how == "disk":
        (home / "data").mkdir(exist_ok=True)
        (home / notify.EVENTS).mkdir()  # not even the event can be written
    try:
        bots = [world.bot(1, "BTCUSDT", "volatile"), world.bot(2, "SOLUSDT", "volatile")]
        for bot in bots:
            bot.start()
        run_until(world, bots, world.market_ms() + 12 * HOUR)
        if box is not None:
            until(lambda: world.files.path("data/outbox_status.json").exists() and _status(world.files)["waiting"] > 0)
            assert all("can't be reached" in c["problem"] for c in _status(world.files)["channels"])
    finally:
        if box is not None:
            box.close()
        sock.close()
        world.close()
    files = Files(home)
    rows = [[r for b in (1, 2) for r in files.read_lines(f"bot_{b}_{what}.jsonl")] for what in ("fills", "decisions")]
    kinds = [] if how == "disk" else [e["kind"] for e in notify.recent(files, 1000)]
    return rows[0], rows[1], kinds


def _status(files: Files) -> Any:
    return json.loads(files.path("data/outbox_status.json").read_text())


def test_in_stepped_time_a_bot_with_every_message_on_and_every_service_down_trades_as_one_with_them_off(tmp_path: Path) -> None:
    off, down, disk = (traded(tmp_path / how, how) for how in ("off", "down", "disk"))
    assert len(off[0]) >= 6 and "opened" in down[2], "something must have been traded and told"
    assert down[0] == off[0] and down[1] == off[1] and down[2] == off[2]
    assert disk[:2] == off[:2]


@pytest.fixture
def y(tmp_path: Path) -> Iterator[Yardful]:
    with yardful(tmp_path / "home") as made:
        yield made


def test_a_service_that_does_not_answer_holds_up_neither_the_yard_nor_its_end(y: Yardful) -> None:
    y.files.path("active_bots.json").write_text("[]")  # else the yard would begin with the bots as shipped, and start them
    with MessageServer(slow_s=60) as server:
        settings = load({"BOTYARD_HOME": str(y.files.home), "HTTP_TIMEOUT": "60", **SETTINGS})
        asked = threading.Event()
        server.chance = lambda what: asked.set() or "slow_after"  # type: ignore[func-returns-value]
        box = Outbox(y.files, settings, make=make_channels(server.url, 60))
        yard = Yard(y.files, settings, y.supervisor, settings_now=lambda: settings, outbox=box)
        notify.post(y.files, Event("bot_stuck", "Bot is stuck", "risk", 1))
        yard.step()
        assert asked.wait(patience(20))
        for _ in range(20):
            yard.step()
        assert not server.released.is_set(), "all of that while the service kept the message waiting"
        box.close(0.05)
    assert Rules().fold_minutes and loads((y.files.path(notify.EVENTS)).read_bytes())["kind"] == "bot_stuck"


def test_the_yards_events_name_the_mode_of_their_bot(y: Yardful) -> None:
    yard = Yard(y.files, y.settings, y.supervisor)
    record = y.bots("BTC Bot", mode="testnet")[0]
    yard.tell(record, "bot_stuck", "is stuck", "risk")
    assert notify.recent(y.files)[-1]["data"] == {"mode": "testnet"}
