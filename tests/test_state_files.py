"""A bot that holds coins, protected at the exchange, is killed and finds its files damaged: it touches nothing.

Real processes: one paper exchange and one position for all cases, market time standing
still. tests/test_trader_faults.py shows disks that fill up under a running bot.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from core.account import ledger
from core.binance_client import BinanceClient
from core.config import load
from core.storage import Files
from patience import patience
from processes import BUY_ONCE, ROOT, Home, until

FILES = ("bot_1_position.json", "bot_1_position.json.prev", "bot_1_fills.jsonl")


@dataclass
class Held:
    """A killed bot's home, the files as it left them, and the exchange as it stands."""

    home: Home
    kept: dict[str, bytes]
    orders: list[tuple[str, str]]

    def client(self) -> BinanceClient:
        made = BinanceClient(load(self.home.env), "paper")
        made.connect()
        return made

    def orders_now(self) -> list[tuple[str, str]]:
        return [(o["clientOrderId"], o["status"]) for o in self.client()._client.get_all_orders(symbol="BTCUSDT")]

    def lay(self, **contents: bytes | None) -> dict[str, bytes | None]:
        """Put the files as given (`position`, `prev`; None: not there), the journal as it was; what lies there now."""
        laid: dict[str, bytes | None] = {**self.kept, FILES[0]: contents["position"], FILES[1]: contents["prev"]}
        for name, content in laid.items():
            path = self.home.path / name
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
        return laid

    def lies(self) -> dict[str, bytes | None]:
        return {name: (self.home.path / name).read_bytes() if (self.home.path / name).exists() else None for name in FILES}


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    home = Home(tmp_path_factory.mktemp("state") / "home")
    try:
        home.strategy("buy_once", BUY_ONCE)
        home.paper()
        bot = home.bot(strategy="buy_once")
        until(lambda: [o["status"] for o in home.position()["orders"]] == ["NEW", "NEW"] and not home.position()["unjournaled"], "a protected position", 40)
        home.post("/paper/clock", {"speed": 0})
        bot.kill()
        bot.wait()
        made = Held(home, {name: (home.path / name).read_bytes() for name in FILES}, [])
        made.orders = made.orders_now()
        assert sorted(status for _, status in made.orders) == ["FILLED", "NEW", "NEW"]
        yield made
    finally:
        home.end()


def changed(content: bytes, **fields: Any) -> bytes:
    value = json.loads(content)
    for field, new in fields.items():
        if new is None:
            del value[field]
        else:
            value[field] = new
    return json.dumps(value).encode()


GARBAGE = bytes(range(256)) * 4


def damaged(kept: bytes, how: str) -> bytes | None:
    return {
        "good": kept,
        "truncated": kept[: len(kept) // 2],
        "empty": b"",
        "garbage": GARBAGE,
        "gone": None,
        "a list": b"[]",
        "of a newer version": changed(kept, schema=99),
        "changed by hand": changed(kept, quantity=5),
        "without its fills": changed(kept, fills=None),
        "of another bot": changed(kept, bot_id=7),
    }[how]


CASES = [(how, prev) for how in ("truncated", "empty", "garbage", "gone") for prev in ("good", "garbage", "gone")]
CASES += [(how, "good") for how in ("a list", "of a newer version", "changed by hand", "without its fills", "of another bot")]


@pytest.mark.parametrize(("position", "prev"), CASES)
def test_a_position_file_that_cant_be_trusted_stops_the_bot_with_the_way_to_mend_it_and_nothing_is_touched(held: Held, position: str, prev: str) -> None:
    home = held.home
    laid = held.lay(position=damaged(held.kept[FILES[0]], position), prev=damaged(held.kept[FILES[1]], prev))
    bot = home.bot(strategy="buy_once")
    assert bot.wait(patience(30)) == 4
    last = home.status()
    assert (last["state"], last["pid"], last["exit"]["code"]) == ("ended", bot.pid, 4)
    reason = last["exit"]["reason"]
    assert "bot_1_position.json" in reason
    if position == "of a newer version":
        assert "Update Botyard" in reason
    elif position == "of another bot":
        assert "Put each bot's own file back" in reason
    elif prev == "good":
        assert "cp bot_1_position.json.prev bot_1_position.json" in reason
    else:
        assert "backup" in reason
        assert ("previous copy can't be read either" in reason) is (prev == "garbage")
    assert held.lies() == laid, "nothing is overwritten"
    assert held.orders_now() == held.orders, "stop and target stand, nothing was sent"
    assert "Traceback" not in home.log()


def test_the_previous_copy_put_back_as_the_remedy_says_goes_on_with_the_same_orders(held: Held) -> None:
    home = held.home
    held.lay(position=held.kept[FILES[1]], prev=held.kept[FILES[1]])
    bot = home.bot(strategy="buy_once")
    until(lambda: home.status()["pid"] == bot.pid and home.status()["state"] == "running", "the bot")
    until(lambda: [o["status"] for o in home.position()["orders"]] == ["NEW", "NEW"], "both orders known")
    bot.terminate()
    assert bot.wait(patience(5)) == 0
    assert held.orders_now() == held.orders
    assert {o["request"]["client_id"] for o in home.position()["orders"]} == {name for name, status in held.orders if status == "NEW"}
    home.position()
    assert ledger.compare(Files(home.path), held.client()) == []


# --- disks -----------------------------------------------------------------------------------


def own_mounts() -> bool:
    """Whether this user may mount in a name space of its own, which ends with its process."""
    try:
        return subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, timeout=patience(10)).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


needs_mounts = pytest.mark.skipif(not own_mounts(), reason="needs the right to mount (root): without it a folder can't be made read-only or full for this user")


def mounted(held: Held, script: str, bot_id: int) -> subprocess.Popen[str]:
    """The bot in a name space of its own in which `script` has done something to the home, `$H`."""
    whole = f'{script} && exec "{sys.executable}" integrated_trader.py {bot_id} "Bot" BTCUSDT buy_once 500'
    out = (held.home.path.parent / f"out-{bot_id}.txt").open("w")
    child = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", whole],
        cwd=ROOT,
        env={**held.home.env, "H": str(held.home.path), "KEPT": str(held.home.path.parent / "kept")},
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    out.close()
    held.home.children.append(child)
    return child


def said(held: Held, bot_id: int) -> str:
    return (held.home.path.parent / f"out-{bot_id}.txt").read_text()


READ_ONLY = 'mount --bind "$H" "$H" && mount -o remount,bind,ro "$H"'
# Copied onto a small disk, of which the rest is then filled to the last block.
FULL = 'mount -t tmpfs -o size=8m none "$H" && cp -a "$KEPT/." "$H/" && { dd if=/dev/zero of="$H/filler" bs=4096 2>/dev/null || true; }'


def as_killed(held: Held) -> dict[str, bytes | None]:
    laid = held.lay(position=held.kept[FILES[0]], prev=held.kept[FILES[1]])
    kept = held.home.path.parent / "kept"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(held.home.path, kept)
    return laid


@needs_mounts
@pytest.mark.parametrize("bot_id", [1, 2])
def test_in_a_folder_that_cant_be_written_no_bot_starts_and_it_says_so(held: Held, bot_id: int) -> None:
    laid = as_killed(held)
    bot = mounted(held, READ_ONLY, bot_id)
    _, err = bot.communicate(timeout=patience(30))
    assert bot.returncode == 4
    assert "bot_" in err and "Read-only file system" in err and "mend the folder's rights" in err
    assert "Traceback" not in err
    assert held.lies() == laid
    assert held.orders_now() == held.orders


@needs_mounts
def test_on_a_full_disk_a_flat_bot_ends_with_code_4_before_it_sends_anything(held: Held) -> None:
    as_killed(held)
    bot = mounted(held, FULL, 2)
    bot.communicate(timeout=patience(30))
    assert bot.returncode == 4
    assert "No space left on device" in said(held, 2) and "Free the disk" in said(held, 2)
    assert held.orders_now() == held.orders


@needs_mounts
def test_on_a_full_disk_a_bot_that_holds_coins_stays_says_so_and_neither_sells_nor_takes_its_stop_away(held: Held) -> None:
    """It stays because nobody else would watch; what it can't write first, it doesn't do."""
    laid = as_killed(held)
    held.home.strategy("buy_once", BUY_ONCE.replace('"BUY"', '"SELL"'))
    as_killed(held)
    bot = mounted(held, FULL, 1)
    try:
        until(lambda: "STARTING BOT" in said(held, 1), "its start")
        held.home.post("/paper/clock", {"advance_ms": 300_000})
        until(lambda: "free the disk now" in said(held, 1), "its word about the disk")
        assert bot.poll() is None
        assert held.orders_now() == held.orders
    finally:
        bot.terminate()
        assert bot.wait(patience(5)) == 0
        held.home.strategy("buy_once", BUY_ONCE)
    assert held.lies() == laid
    assert held.orders_now() == held.orders
