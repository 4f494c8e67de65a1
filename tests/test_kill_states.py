"""The kill switch over bots in every state that they are found in: stopped with a pair at the exchange, dead in
the middle of an order, just buying, holding adopted coins, given up, without a list, without guards' files."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from core.account import guard_files
from core.fleet import kill, reserve
from core.storage import Files
from fleet_help import yardful
from kill_help import command, held, killable, records, sales, start, wallet_is_the_books, with_positions
from patience import patience
from processes import ROOT, Home, free_port, until

WAITS = '''
class Waits:
    """Never buys."""
    key = "waits"
    warmup = 2
    def analyze(self, data):
        return {"signal": "HOLD", "reasoning": "never"}
'''


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with killable(tmp_path / "home") as made:
        yield made


def press(home: Home, seconds: float = 60) -> subprocess.Popen[str]:
    argv = [sys.executable, str(ROOT / "utils/kill_switch.py"), "--flatten", "--yes", "--wait", str(patience(seconds))]
    return subprocess.Popen(argv, env=home.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def resting(position: dict[str, Any]) -> int:
    return sum(1 for o in position["orders"] if o["status"] == "NEW")


def test_a_stopped_pair_a_death_in_an_order_and_one_that_just_buys_end_flat_with_damaged_guards(home: Home) -> None:
    """Bot 1 was stopped, its stop and target rest at the exchange; bot 2 died with a sale that never arrived (-2013);
    bot 3's entry is on its way when the switch is pulled. The guards' state file is broken."""
    children = with_positions(home, 2)
    until(lambda: resting(home.position(1)) >= 1, "the pair at the exchange", patience(20))
    children[0].terminate()
    assert children[0].wait(patience(10)) == 0
    home.post("/paper/faults", {"method": "POST", "path": "/api/v3/order", "fault": "drop_before", "times": 1})
    assert command(home, "yard", "close", "2").returncode == 0
    until(lambda: any(o["status"] == "SENDING" and o["role"] == "exit" for o in home.position(2)["orders"]), "the sale of bot 2", patience(20))
    children[1].kill()
    children[1].wait()
    Files(home.path).path(guard_files.STATE).write_text("{")
    home.post("/paper/faults", {"method": "POST", "path": "/api/v3/order", "fault": "hang_after", "times": 1, "params": {"seconds": 3}})
    listed = json.loads((home.path / "active_bots.json").read_text())
    for bot in listed:
        bot["status"] = "stopped"  # so that nobody else brings them back
    third = {**listed[0], "id": 3, "name": "Bot 3", "symbol": "BTCUSDT"}
    Files(home.path).write_json("active_bots.json", [*listed, third])
    Files(home.path).path(guard_files.STATE).unlink()  # entries need it; it is broken again before the switch is pulled
    start(home, 3, first=3)
    until(lambda: any(o["status"] == "SENDING" and o["role"] == "entry" for o in home.position(3)["orders"]), "the entry of bot 3", patience(20))
    Files(home.path).path(guard_files.STATE).write_text("{")
    pressed = press(home)
    told, _ = pressed.communicate(timeout=patience(70))
    assert pressed.returncode == 0, told
    assert held(home, 3) == [] and [len(sales(home, n)) for n in (1, 2, 3)] == [1, 1, 1], told
    wallet_is_the_books(home)


def test_a_broken_list_keeps_no_running_bot_from_selling_and_what_it_keeps_is_told(home: Home) -> None:
    children = with_positions(home, 2)
    children[1].kill()
    children[1].wait()
    os.kill(children[0].pid, signal.SIGSTOP)
    (home.path / "active_bots.json").write_text("{")
    (home.path / "active_bots.json.prev").unlink(missing_ok=True)
    done = command(home, "kill_switch", "--flatten", "--yes", "--wait", "5")
    assert done.returncode == 1 and "is not ended" in done.stdout and "active_bots.json" in done.stdout, done.stdout
    assert "no guard could be started" in done.stdout and children[0].poll() is None
    os.kill(children[0].pid, signal.SIGCONT)
    until(lambda: held(home, 1) == [], "bot 1 to sell by itself", patience(20))


def test_bots_that_run_without_a_record_are_sold_too_dead_or_hanging(home: Home) -> None:
    children = with_positions(home, 2)
    Files(home.path).write_json("active_bots.json", [])
    os.kill(children[0].pid, signal.SIGSTOP)
    children[1].kill()
    children[1].wait()
    pressed = press(home)
    told, _ = pressed.communicate(timeout=patience(70))
    assert pressed.returncode == 0 and [len(sales(home, n)) for n in (1, 2)] == [1, 1], told
    wallet_is_the_books(home)


def test_a_position_that_can_not_be_read_is_told_and_nobody_is_ended_for_it(home: Home) -> None:
    child = with_positions(home, 1)[0]
    os.kill(child.pid, signal.SIGSTOP)
    (home.path / "bot_1_position.json").write_text("{")
    done = command(home, "kill_switch", "--flatten", "--yes", "--wait", "5")
    assert done.returncode == 1 and "nobody knows what is open" in done.stdout and "bot_1_position.json" in done.stdout, done.stdout
    assert child.poll() is None


def test_a_bot_that_was_given_up_is_sold_too(home: Home) -> None:
    """Its strategy breaks at each start: no process of its own ever comes up again; the yard has given it up."""
    child = with_positions(home, 1)[0]
    child.kill()
    child.wait()
    home.strategy("buy_once", "raise RuntimeError('broken')\n")
    notes = {"1": {"state": "given_up", "why": "given up after 10 starts in a row", "pid": None, "since_wall_ms": 0, "starts": 10, "late": ""}}
    Files(home.path).write_json("data/yard_status.json", {"schema": 1, "pid": 1, "state": "ended", "heartbeat_wall_ms": 1, "adopted": True, "bots": notes})
    done = command(home, "kill_switch", "--flatten", "--yes", "--wait", str(patience(40)))
    assert done.returncode == 0 and len(sales(home, 1)) == 1, done.stdout
    wallet_is_the_books(home)


def test_the_page_replaces_a_bot_that_hangs_too_with_the_yard_standing_still(home: Home) -> None:
    children = with_positions(home, 2)
    port = free_port()
    page = home.start("simple_dash.py", DASHBOARD_PORT=str(port))
    url, lock = f"http://127.0.0.1:{port}", Files(home.path).lock("data/yard.lock")
    until(lambda: requests.get(url + "/api/overview", timeout=patience(5)).status_code == 200 and lock.holder(), "the page and its yard", patience(20))
    yard = lock.holder()
    assert yard is not None
    os.kill(yard, signal.SIGSTOP)
    os.kill(children[0].pid, signal.SIGSTOP)
    pressed = requests.post(url + "/api/kill-switch", json={"level": "flatten", "confirm": "FLATTEN"}, timeout=patience(30))
    assert pressed.status_code == 200 and pressed.json()["errors"] == {}, pressed.text
    told = "Everything is flat"
    until(lambda: any(told in e["text"] for e in home.lines("data/events.jsonl")), "the page to tell that all is flat", patience(40))
    assert held(home, 2) == [] and [len(sales(home, n)) for n in (1, 2)] == [1, 1]
    assert any("hung while the kill switch" in e["text"] for e in home.lines("data/events.jsonl"))
    wallet_is_the_books(home)
    page.terminate()
    assert page.wait(patience(10)) == 0


def test_adopted_coins_are_sold_with_the_rest(home: Home) -> None:
    home.strategy("waits", WAITS)
    home.paper()
    records(home, 1, strategy="waits", symbol="BTCUSDT")
    home.bot(1, "Bot 1", "BTCUSDT", "waits", "500")
    home.checked(1)
    account = requests.get(f"{home.url}/paper/accounts", timeout=patience(5)).json()[0]["name"]
    home.post(f"/paper/accounts/{account}/deposit", {"asset": "BTC", "amount": "0.01"})
    adopted = command(home, "yard", "adopt", "1", "0.01", "--price", "43000")
    assert adopted.returncode == 0, adopted.stdout + adopted.stderr
    until(lambda: held(home, 1) == [1], "the coins to be the bot's", patience(20))
    done = command(home, "kill_switch", "--flatten", "--yes", "--wait", str(patience(40)))
    assert done.returncode == 0 and held(home, 1) == [] and len(sales(home, 1)) == 1, done.stdout


class FullDisk(Files):
    """A home on a disk that takes no file while the space put by for a flatten is not given back."""

    def write_json(self, name: str, value: Any, **how: Any) -> None:
        if self.exists(reserve.RESERVE):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path(name)))
        super().write_json(name, value, **how)


def test_a_full_disk_gives_back_what_was_put_by_so_that_the_switch_can_be_pulled(tmp_path: Path) -> None:
    with yardful(tmp_path / "home") as y:
        assert reserve.keep(y.files) and y.files.path(reserve.RESERVE).stat().st_size == reserve.RESERVE_BYTES
        full = FullDisk(y.files.home)
        kill.pull(full, y.settings, "flatten", "a test", y.supervisor, guards=False)
        assert (kill.read(y.files) or {})["what"] == "flatten" and not y.files.exists(reserve.RESERVE)
        kill.lift(y.files, y.settings, "a test", y.supervisor)
        assert y.files.exists(reserve.RESERVE), "put by anew for the next time"


def test_a_disk_that_is_still_full_then_says_so_and_nothing_has_happened(tmp_path: Path) -> None:
    with yardful(tmp_path / "home") as y:
        full = FullDisk(y.files.home)
        full.path("data").mkdir(exist_ok=True)
        full.path(reserve.RESERVE).mkdir()  # it can't be given back
        with pytest.raises(OSError, match="No space"):
            kill.pull(full, y.settings, "flatten", "a test", y.supervisor, guards=False)
        assert kill.read(y.files) is None
