"""Summaries: when they come, through restarts, and what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core import notify
from core.config import ROOT, load
from core.fleet import messages
from core.fleet.messages import TAIL, Summaries, post_now, summary_now
from core.model import Totals
from core.notify.sms_text import is_gsm, segments
from core.storage import Files
from dash_yard import Home, KnownPids, fill
from message_server import SETTINGS, TELEGRAM, TOKEN, MessageServer, make_channels
from patience import patience
from utils import send_summary

MIDNIGHT = 1_700_006_400_000 - 1_700_006_400_000 % 86_400_000
HOUR = 3_600_000


class Day:
    """A home with bots, an outbox on an injected clock, and a Twilio of its own."""

    def __init__(self, folder: Path, **settings: str):
        self.folder, self.now = folder, MIDNIGHT + HOUR
        self.home = Home(folder)
        self.files = self.home.files
        self.settings = load({"BOTYARD_HOME": str(folder), **SETTINGS, **settings})
        self.keeper = KnownPids(self.files, self.settings)
        self.keeper.pids, self.keeper.started = {}, []
        self.server = MessageServer(now_ms=lambda: self.now)
        self.open()

    def open(self) -> None:
        make = make_channels(self.server.url)
        self.box = messages.make_outbox(self.files, self.settings, self.keeper, make=make, clock_ms=lambda: self.now, settings_now=lambda: self.settings)

    def restart(self) -> None:
        self.box.close()
        self.open()

    def bot(self, name: str = "BTC Bot", *, profit: str = "0", mode: str = "testnet", symbol: str = "BTCUSDT", held: bool = False, **more: Any) -> int:
        bot = self.home.record(name, symbol, mode=mode, status=more.pop("status", "running"))
        self.made(bot, profit, held)
        self.home.status(bot, pid=1000 + bot, heartbeat_wall_ms=self.now + 365 * 24 * HOUR, mode=mode, **more)
        self.keeper.pids[bot] = 1000 + bot
        return bot

    def made(self, bot: int, profit: str, held: bool = False) -> None:
        fills = [fill(bot, 1, 1, "BUY", "50000", "0.01")] if held else None
        self.home.position(bot, fills, totals=Totals(profit=Decimal(profit), trades=1), protection="bot")

    def told(self) -> list[str]:
        return [m["body"].rpartition(" #")[0] for m in self.server.sms]

    def text(self) -> str:
        return summary_now(self.files, self.settings, self.keeper, self.now).text

    def close(self) -> None:
        self.box.close()
        self.server.close()


@pytest.fixture
def day(home: Path) -> Iterator[Day]:
    made = Day(home)
    yield made
    made.close()


# --- when -----------------------------------------------------------------------------------


def test_over_a_day_summaries_come_on_the_hour_and_a_restart_neither_loses_nor_doubles_one(day: Day) -> None:
    bot = day.bot(profit="10")
    came: list[tuple[str, str]] = []
    for minute in range(1, 30 * 60):
        day.now += 60_000
        if day.now % (4 * HOUR) < 3 * 60_000:
            day.restart()  # three times around each even hour
        if minute % 60 == 0:
            day.made(bot, str(10 + minute // 60))
        before = len(day.server.sms)
        day.box.turn()
        came += [(messages._hour(day.now), t) for t in day.told()[before:]]
    assert [hour for hour, _ in came] == ["06:00", "12:00", "18:00", "00:00", "06:00"]
    assert came[0][1] == "Botyard 06:00 UTC: 1 bot running. testnet USDT: +5.00 since 01:01, +15.00 in all. No open positions. No problems."
    assert came[1][1] == "Botyard 12:00 UTC: 1 bot running. testnet USDT: +6.00 since 06:00, +21.00 in all. No open positions. No problems."
    assert all(segments(m["body"]) == 1 for m in day.server.sms)


def test_one_that_was_due_while_no_yard_ran_comes_at_its_start_and_several_missed_ones_are_one(day: Day) -> None:
    day.bot(profit="1")
    day.box.turn()
    day.box.close()
    day.now += 17 * HOUR + 600_000
    day.open()
    for _ in range(5):
        day.now += 60_000
        day.box.turn()
    assert len(day.told()) == 1 and day.told()[0].startswith("Botyard 18:11 UTC")


def test_a_sender_that_dies_between_telling_and_remembering_tells_nothing_twice(day: Day) -> None:
    day.bot(profit="1")
    day.box.turn()
    kept = (day.folder / messages.FILE).read_bytes()
    day.now = MIDNIGHT + 6 * HOUR
    day.box.turn()
    (day.folder / messages.FILE).write_bytes(kept)  # as if it had died before this was written
    day.restart()
    day.box.turn()
    assert len(day.told()) == 1 and len([e for e in notify.recent(day.files) if e["kind"] == "summary"]) == 2


def test_a_clock_that_was_set_wrong_and_right_again_stops_no_summaries(day: Day) -> None:
    day.bot(profit="1")
    right = day.now
    for now in (right, right + 400 * 24 * HOUR, right, right + 6 * HOUR, right + 12 * HOUR):
        day.now = now
        day.box.turn()
    assert [t[:20] for t in day.told()][1:] == ["Botyard 07:00 UTC: 1", "Botyard 13:00 UTC: 1"]


def test_one_that_falls_into_quiet_hours_comes_at_their_end(day: Day) -> None:
    day.files.write_json("notify.json", {"schema": 1, "quiet_hours": [22, 7]})
    day.bot(profit="1")
    for quarter in range(4 * 30):
        day.now += HOUR // 4
        day.box.turn()
        assert quarter or not day.told()
    assert [t[8:13] for t in day.told()] == ["12:00", "18:00", "07:00"]


@pytest.mark.parametrize("hours", ["0.5", "1", "24"])
def test_the_hours_between_summaries_are_a_setting(home: Path, hours: str) -> None:
    day = Day(home, SMS_SUMMARY_HOURS=hours)
    try:
        day.bot(profit="1")
        for _ in range(48 * 4):
            day.now += HOUR // 4
            day.box.turn()
        assert len(day.told()) == int(48 / float(hours))
    finally:
        day.close()


# --- what it says -----------------------------------------------------------------------------


def test_modes_and_assets_never_meet_and_paper_bots_are_told_of_only_when_wanted(home: Path) -> None:
    for notify_paper in ("false", "true"):
        folder = home / notify_paper
        folder.mkdir()
        (folder / ".env").touch()
        day = Day(folder, NOTIFY_PAPER=notify_paper)
        day.bot("A", profit="10.5")
        day.bot("B", profit="-3.25", symbol="ETHUSDT")
        day.bot("C", profit="0.00012", symbol="ETHBTC")
        day.bot("P", profit="1000", mode="paper")
        day.box.turn()
        day.made(1, "12.5")
        day.made(3, "-0.0001")
        day.now = MIDNIGHT + 6 * HOUR
        day.box.turn()
        more = " paper USDT: 0 since 01:00, +1000.00 in all." if notify_paper == "true" else ""
        bots = "4" if more else "3"
        assert day.told() == [
            f"Botyard 06:00 UTC: {bots} bots running. testnet BTC: -0.00022 since 01:00, -0.0001 in all. "
            f"testnet USDT: +2.00 since 01:00, +9.25 in all.{more} No open positions. No problems."
        ]
        day.close()


def test_with_paper_bots_alone_there_is_no_summary_unless_wanted(home: Path) -> None:
    day = Day(home)
    try:
        day.bot(profit="5", mode="paper")
        for _ in range(30):
            day.now += HOUR
            day.box.turn()
        assert day.told() == [] and day.text() == "" and notify.recent(day.files) == []
    finally:
        day.close()


def test_open_positions_and_problems_are_named(day: Day) -> None:
    day.bot("BTC Bot", profit="5", held=True, price=Decimal("50600"))
    crashed = day.bot("🚀 Möwe", profit="1", symbol="ETHUSDT")
    del day.keeper.pids[crashed]
    day.bot("机器人", profit="1", symbol="SOLUSDT", warnings=[{"kind": "funds", "text": "Low funds", "wall_ms": 1}])
    broken = day.bot("Broken")
    (day.folder / f"bot_{broken}_position.json").write_text("{")
    unwatched = day.bot("Left", held=True, status="stopped")
    del day.keeper.pids[unwatched]
    day.box.turn()
    assert day.text() == (
        "Botyard 01:00 UTC: 3 of 4 bots running. testnet USDT: 0 since 01:00, +7.00 in all. Open: BTC Bot LONG BTCUSDT +1.2%, Left LONG BTCUSDT +1.0%. "
        "Problems: Möwe crashed, bot 3 low funds, Broken its state can't be read, Left stopped, its position is unwatched."
    )


def test_fifty_bots_fit_into_two_segments_and_what_is_left_out_is_counted(day: Day) -> None:
    for n in range(50):
        day.bot(f"Bot with a long name {n}", profit="123456.78", held=n % 2 == 0, price=Decimal(50000 + n))
        if n % 7 == 0:
            del day.keeper.pids[n + 1]
    text = day.text()
    assert is_gsm(text) and segments(text + TAIL) == 2
    assert "and " in text and "more" in text and "+6172839.00 in all" in text and "42 of 50 bots running" in text


# --- the command ------------------------------------------------------------------------------


def command(home: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    given = {"PATH": os.environ["PATH"], "BOTYARD_HOME": str(home), **env}
    return subprocess.run([sys.executable, ROOT / "utils/send_summary.py", *arguments], env=given, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_prints_sends_nothing_and_changes_nothing_when_run_dry(day: Day) -> None:
    day.bot(profit="7.5")
    before = sorted(f.name for f in day.folder.rglob("*"))
    done = command(day.folder, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "dry_run" and "+7.50 in all" in json.loads(done.stdout)["text"] and json.loads(done.stdout)["segments"] == 1
    assert sorted(f.name for f in day.folder.rglob("*")) == before


def test_the_commands_exit_codes_are_stable(day: Day) -> None:
    day.bot(profit="7.5", mode="paper")
    nothing = command(day.folder, **SETTINGS)
    assert nothing.returncode == 0 and "NOTIFY_PAPER" in nothing.stdout
    assert command(day.folder, "--loud").returncode == 2
    assert command(day.folder, CHECK_INTERVAL="0").returncode == 2
    unset = command(day.folder, "--json")
    assert unset.returncode == 2 and json.loads(unset.stdout)["success"] is False and "test_connection" in unset.stderr


def test_where_a_yard_runs_the_command_hands_the_summary_to_it(day: Day) -> None:
    day.bot(profit="7.5")
    hold = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from core.storage import Files; l = Files({str(day.folder)!r}).lock('data/yard.lock'); l.acquire()"
    yard = subprocess.Popen([sys.executable, "-c", hold + "; print(1, flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert yard.stdout is not None and yard.stdout.readline() == b"1\n"
        done = command(day.folder, "--json", **SETTINGS)
        assert done.returncode == 0 and json.loads(done.stdout)["state"] == "queued", done.stderr
        assert not day.files.exists("data/outbox.db")
    finally:
        yard.communicate(b"\n", timeout=patience(20))
    day.now = notify.recent(day.files)[-1]["wall_ms"]
    day.box.turn()
    assert "+7.50 in all" in day.told()[0]


def test_where_no_yard_runs_the_command_sends_itself_and_the_next_summary_counts_from_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    day = Day(home)
    try:
        day.box.close()
        day.bot(profit="7.5")
        monkeypatch.setattr(send_summary, "make_supervisor", lambda *_: day.keeper)
        make = make_channels(day.server.url)
        box = messages.make_outbox(day.files, day.settings, day.keeper, scheduled=False, make=make, settings_now=lambda: day.settings)
        done = send_summary.send(day.files, day.settings, 20, box)
        assert done["state"] == "sent" and len(day.told()) == 1 and "+7.50 in all" in day.told()[0]
        day.made(1, "9.5")
        told, once = post_now(day.files, day.settings, day.keeper)
        assert "+2.00 since" in told.text and once.startswith("asked:")
        # One that can't be sent says why, without the token.
        day.server.chance = lambda what: "error_400"
        box = messages.make_outbox(day.files, day.settings, day.keeper, scheduled=False, make=make, settings_now=lambda: day.settings)
        with pytest.raises(Exception, match="error 21211") as failed:
            send_summary.send(day.files, day.settings, 20, box)
        assert TOKEN not in str(failed.value)
    finally:
        day.close()


def test_a_summary_goes_to_every_channel(home: Path) -> None:
    day = Day(home, **TELEGRAM)
    try:
        day.bot(profit="1")
        day.box.turn()
        day.now = MIDNIGHT + 6 * HOUR
        day.box.turn()
        assert len(day.told()) == 1 and day.server.telegrams[0].startswith("Botyard 06:00 UTC: 1 bot running.")
    finally:
        day.close()


def test_no_summary_is_posted_where_nothing_could_send_it(home: Path) -> None:
    settings = load({"BOTYARD_HOME": str(home)})
    files = Files(home)
    Home(home).record(mode="testnet")
    tell = Summaries(files, KnownPids(files, settings))
    tell.supervisor.pids, tell.supervisor.started = {}, []  # type: ignore[attr-defined]
    for hour in range(30):
        tell(MIDNIGHT + hour * HOUR, settings)
    assert notify.recent(files) == []
