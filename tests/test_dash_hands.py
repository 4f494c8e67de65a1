"""What a person asks for on the page: a bot's answer becomes an HTTP answer; books and account are made to agree."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

import processes
import simple_dash
from bots import Script
from core import config
from core.account import ledger
from core.bot import reconcile
from core.bot.trader import Trader
from core.errors import Conflict
from core.fleet import books
from core.model import OrderRequest, floor_to
from core.storage import Files, dumps, loads
from dash_yard import DeskExchange, Home, fill, make_app, settings
from patience import patience
from stepped import World, run_until

D = Decimal


class Answering:
    """In place of the supervisor's `command`: a bot that answers at once, through its status file, as a bot does."""

    def __init__(self, yard: Home, outcome: str = "done", text: str = "as you say"):
        self.yard, self.outcome, self.text = yard, outcome, text
        self.heard: list[tuple[int, str, str, dict[str, Any]]] = []

    def __call__(self, bot_id: int, command: str, by: str, data: Mapping[str, Any] | None = None, wait_s: float = 10) -> str:
        self.heard.append((bot_id, command, by, dict(data or {})))
        number = f"n{len(self.heard)}"
        if self.outcome != "silent":
            word = {"number": number, "command": command, "by": by, "outcome": self.outcome, "text": self.text, "wall_ms": 1}
            self.yard.status(bot_id, pid=7, last_command=word)
        return number


def app_of(yard: Home, pids: dict[int, int] | None = None, exchange: Any = None) -> Any:
    chosen = settings(yard.files.home)
    app = make_app(yard.files, chosen, pids, exchange)
    app.config["PORT"] = chosen.dashboard_port
    return app


def ask(app: Any, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    client, host = app.test_client(), {"Host": f"127.0.0.1:{app.config['PORT']}"}
    response = client.get(path, headers=host) if body is None else client.post(path, data=dumps(body), headers=host, content_type="application/json")
    return response.status_code, loads(response.data)


@pytest.fixture
def yard(home: Path) -> Home:
    made = Home(home)
    bot = made.record(status="running")
    made.position(bot, [fill(bot, 1, 1, "BUY", "50000", "0.01")])
    made.status(bot, pid=7)
    return made


def answering(yard: Home, outcome: str = "done", text: str = "as you say") -> tuple[Any, Answering]:
    app = app_of(yard, {1: 7})
    bot = app.extensions["board"].supervisor.command = Answering(yard, outcome, text)
    return app, bot


@pytest.mark.parametrize(
    ("command", "body", "data"),
    [
        ("levels", {"stop_loss": "49500.50", "take_profit": None}, {"stop_loss": D("49500.50"), "take_profit": None}),
        ("levels", {"take_profit": D("53000.10")}, {"take_profit": D("53000.10")}),
        ("skip", {"entries": 2}, {"entries": 2}),
        ("skip", {}, {}),
        ("adopt", {"quantity": "0.12345678", "price": ""}, {"quantity": D("0.12345678"), "price": None}),
        ("mend", {"choice": "book"}, {"choice": "book"}),
    ],
)
def test_a_command_reaches_the_bot_with_exact_numbers_and_its_word_comes_back(yard: Home, command: str, body: dict[str, Any], data: dict[str, Any]) -> None:
    app, bot = answering(yard, text="moved")
    status, told = ask(app, f"/api/bot/1/{command}", body)
    assert (status, told["success"], told["outcome"], told["text"], told["bot"]["id"]) == (200, True, "done", "moved", 1)
    assert bot.heard == [(1, command, "dashboard", data)]


def test_a_refusal_is_told_in_the_bots_words(yard: Home) -> None:
    app, _ = answering(yard, "refused", "60000 must lie below the price, which is 50500")
    status, told = ask(app, "/api/bot/1/levels", {"stop_loss": 60000})
    assert (status, told["success"], told["error"]) == (409, False, "60000 must lie below the price, which is 50500")


def test_a_bot_that_does_not_answer_in_time_is_waited_for_no_longer(yard: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.dash.hands.WAIT_S", 0.1)
    app, _ = answering(yard, "silent")
    status, told = ask(app, "/api/bot/1/skip", {"entries": 1})
    assert (status, told["outcome"]) == (202, "waiting") and "not answered yet" in told["text"]


@pytest.mark.parametrize(
    ("command", "body", "word"),
    [
        ("levels", {}, "stop_loss or take_profit"),
        ("levels", {"stop_loss": "abc"}, "plain number"),
        ("levels", {"stop_loss": -1}, "above 0"),
        ("levels", {"stop_loss": None}, "above 0"),
        ("levels", {"stop": 1}, "not known"),
        ("skip", {"entries": -1}, "whole number"),
        ("skip", {"entries": 101}, "whole number"),
        ("adopt", {"price": 3}, "quantity"),
        ("mend", {"choice": "sell"}, "book, close"),
    ],
)
def test_what_no_bot_could_follow_is_refused_before_it_is_sent(yard: Home, command: str, body: dict[str, Any], word: str) -> None:
    app, bot = answering(yard)
    status, told = ask(app, f"/api/bot/1/{command}", body)
    assert status == 400 and word in told["error"] and bot.heard == []


def test_a_bot_that_does_not_run_must_be_started_first(yard: Home) -> None:
    app = app_of(yard)
    for command, body in (("levels", {"stop_loss": 1}), ("skip", {}), ("adopt", {"quantity": 1})):
        status, told = ask(app, f"/api/bot/1/{command}", body)
        assert status == 409 and "start it first" in told["error"]
    assert ask(app, "/api/bot/9/skip", {})[0] == 404


def test_the_row_tells_of_missing_coins_and_of_entries_left_out(yard: Home) -> None:
    text = "0.005 BTC are missing"
    yard.status(1, pid=7, warnings=[{"kind": "other", "text": "x", "wall_ms": 0}, {"kind": "foreign", "text": text, "wall_ms": 0}])
    position = loads((yard.files.home / "bot_1_position.json").read_bytes())
    yard.files.write_json("bot_1_position.json", {**position, "skip_entries": 2})
    row = ask(app_of(yard, {1: 7}), "/api/overview")[1]["bots"][0]
    assert (row["missing"], row["skip_entries"], row["notices"]) == (text, 2, ["x", text])


def test_unclaimed_coins_are_the_balance_without_what_the_bots_claim(yard: Home) -> None:
    class Rich(DeskExchange):
        def balances(self) -> Any:
            from core.model import Balance

            return {"BTC": Balance("BTC", D("0.31"), D("0.02"))}

    app = app_of(yard, {1: 7}, Rich())
    assert ask(app, "/api/bot/1/details")[1]["unclaimed"] is None  # not asked for yet: unknown, not zero
    app.extensions["board"].market.desk("paper")._fetch_balances()
    assert ask(app, "/api/bot/1/details")[1]["unclaimed"] == {"asset": "BTC", "amount": D("0.32")}


# --- books and account, against the real exchange ------------------------------------------------


@pytest.fixture
def world(home: Path) -> Iterator[World]:
    made = World(home, PAPER_START="2024-03-15T08:20", RISK_INTERVAL="300")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.fleet.books.PAUSE_S", 0)


def holding(world: World) -> Trader:
    bot = world.bot(1, "BTCUSDT", Script(["BUY"]), "1000", stop_loss_pct=90, protection="bot")
    assert bot.start()
    run_until(world, [bot], world.market_ms() + 1000)
    assert bot.position.direction == "LONG"
    return bot


def stopped_yard(world: World) -> tuple[Any, Trader]:
    """A bot that has bought and does not run, and a dashboard whose client is a real one."""
    yard = Home(world.home)
    yard.record(amount="1000")
    bot = holding(world)
    client = world.client()
    client.connect()
    return app_of(yard, exchange=client), bot


def differences(world: World) -> list[ledger.Difference]:
    return ledger.compare(world.files, world.client())


def test_books_that_agree_are_told_so(world: World) -> None:
    app, _ = stopped_yard(world)
    status, told = ask(app, "/api/reconcile?mode=paper")
    assert (status, told["agree"], told["differences"], told["claims"][0]["bot_id"]) == (200, True, [], 1)
    assert ask(app, "/api/reconcile?mode=testnet")[0] == 400


def test_deposits_and_withdrawals_are_taken_in_from_the_page_and_the_bots_are_left_alone(world: World) -> None:
    app, _ = stopped_yard(world)
    before = (world.home / "bot_1_position.json").read_bytes()
    world.ask("POST", "/paper/accounts/paper/deposit", {"asset": "ETH", "amount": "2"})
    world.ask("POST", "/paper/accounts/paper/withdraw", {"asset": "USDT", "amount": "100"})
    told = ask(app, "/api/reconcile")[1]
    assert told["agree"] is False and {(d["asset"], d["foreign"]) for d in told["differences"]} == {("ETH", 2), ("USDT", -100)}
    status, told = ask(app, "/api/reconcile", {"mode": "paper", "kinds": ["acknowledge"]})
    assert (status, told["agree"], told["left"]) == (200, True, []) and differences(world) == []
    assert (world.home / "bot_1_position.json").read_bytes() == before
    assert ask(app, "/api/reconcile", {"mode": "paper", "kinds": ["acknowledge"]})[1]["differences"] == []


@pytest.mark.parametrize("body", [{}, {"kinds": []}, {"kinds": ["write_off"]}, {"kinds": "acknowledge"}, {"kinds": ["acknowledge"], "x": 1}])
def test_only_what_concerns_no_bot_can_be_taken_in(world: World, body: dict[str, Any]) -> None:
    app, _ = stopped_yard(world)
    status, told = ask(app, "/api/reconcile", body)
    assert status == 400 and "acknowledge" in told["error"]


def test_a_stopped_bots_missing_coins_are_booked_as_they_were_sold(world: World) -> None:
    app, bot = stopped_yard(world)
    held, half = bot.position.quantity, floor_to(bot.position.quantity / 2, D("0.00001"))
    world.client().place(OrderRequest("web_1", "BTCUSDT", "SELL", "MARKET", quantity=half))
    own = [p for p in ask(app, "/api/reconcile")[1]["proposals"] if p["bot_id"]]
    assert [(p["kind"], p["amount"]) for p in own] == [("book_sale", -half)]
    status, told = ask(app, "/api/bot/1/mend", {"choice": "book"})
    assert (status, told["outcome"]) == (200, "done") and "sold by hand" in told["text"]
    assert told["bot"]["position"]["quantity"] == held - half and differences(world) == []
    status, told = ask(app, "/api/bot/1/mend", {"choice": "book"})
    assert status == 409 and "nothing to mend" in told["error"]


def test_a_stopped_bots_book_is_closed_and_what_is_left_is_its_owners(world: World) -> None:
    app, bot = stopped_yard(world)
    held, half = bot.position.quantity, floor_to(bot.position.quantity / 2, D("0.00001"))
    world.ask("POST", "/paper/accounts/paper/withdraw", {"asset": "BTC", "amount": str(half)})
    status, told = ask(app, "/api/bot/1/mend", {"choice": "close"})
    assert status == 200 and "yours again" in told["text"] and told["bot"]["position"] is None
    assert differences(world) == [], "the coins lay there before and after"
    app.extensions["board"].market.desk("paper")._fetch_balances()
    assert ask(app, "/api/bot/1/details")[1]["unclaimed"] == {"asset": "BTC", "amount": held - half}
    again = world.bot(1, "BTCUSDT", Script([]), "1000")
    assert again.start() and again.position.direction is None and again.position.totals.trades == 1
    assert any(line["what"] == "mend" and line["by"] == "dashboard" for line in world.files.read_lines("data/audit.jsonl"))


def test_a_difference_that_is_gone_at_the_second_look_is_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fill lies in the wallet a moment before it lies in the journal."""
    stopped_yard(world)
    real, looks = reconcile.examine, []

    def looked(foreign: list[int]) -> Any:
        def examine(files: Any, exchange: Any) -> reconcile.Finding:
            looks.append(1)
            left = [ledger.Difference("BTC", D(foreign[len(looks) - 1]), D(0))] if len(looks) <= len(foreign) else []
            return replace(real(files, exchange), differences=left)

        return examine

    monkeypatch.setattr(reconcile, "examine", looked([1]))
    assert books.examine(world.files, world.client()).differences == [] and len(looks) == 2
    looks.clear()
    monkeypatch.setattr(reconcile, "examine", looked([1, 2, 3, 4]))
    with pytest.raises(Conflict, match="changing"):
        books.examine(world.files, world.client())


def test_a_running_bot_follows_what_the_page_asks(world: World) -> None:
    """The bot's real half: the command file that the page leaves is followed at its next step, and answered."""
    app, bot = stopped_yard(world)
    board = app.extensions["board"]
    board.supervisor.pids[1] = 7
    given: list[str] = []

    def command(bot_id: int, name: str, by: str, data: Mapping[str, Any] | None = None, wait_s: float = 10) -> str:
        given.append(name)
        number = f"{len(given):015d}-{name}"
        world.files.write_json(f"data/commands/bot_1/{number}.json", {"schema": 1, "command": name, "by": by, "data": dict(data or {})})
        bot.step()
        return number

    board.supervisor.command = command
    price = bot.feed.price("BTCUSDT")
    stop, target = floor_to(price * D("0.9"), D("0.01")), floor_to(price * D("1.1"), D("0.01"))
    status, told = ask(app, "/api/bot/1/levels", {"stop_loss": str(stop), "take_profit": str(target)})
    assert status == 200 and (told["bot"]["position"]["stop_loss"], told["bot"]["position"]["take_profit"]) == (stop, target)
    status, told = ask(app, "/api/bot/1/levels", {"stop_loss": str(target)})
    assert status == 409 and "below the price" in told["error"]
    assert ask(app, "/api/bot/1/skip", {"entries": 2})[1]["bot"]["skip_entries"] == 2
    assert ask(app, "/api/bot/1/skip", {"entries": 0})[1]["bot"]["skip_entries"] == 0
    held = bot.position.quantity
    world.ask("POST", "/paper/accounts/paper/deposit", {"asset": "BTC", "amount": "0.5"})
    assert ask(app, "/api/reconcile", {"mode": "paper", "kinds": ["acknowledge"]})[1]["agree"] is True
    status, told = ask(app, "/api/bot/1/adopt", {"quantity": "0.2", "price": None})
    assert status == 200 and told["bot"]["position"]["quantity"] == held + D("0.2"), told
    assert ask(app, "/api/bot/1/adopt", {"quantity": "0.4"})[0] == 409
    assert differences(world) == []


# --- all of it as processes ---------------------------------------------------------------------------


@pytest.fixture
def running(tmp_path: Path) -> Iterator[processes.Home]:
    made = processes.Home(tmp_path / "running")
    yield made
    made.end()


def test_page_and_command_line_reach_a_bot_that_runs_as_a_process(running: processes.Home) -> None:
    running.strategy("buy_once", processes.BUY_ONCE)
    running.paper()
    (running.path / "active_bots.json").write_text(
        '[{"id": 1, "name": "BTC Bot", "symbol": "BTCUSDT", "strategy": "buy_once", "trade_amount": 500, "protection": "bot"}]'
    )
    bot = running.bot(1, "BTC Bot", "BTCUSDT", "buy_once", "500")
    processes.until(lambda: running.position()["position"] == "LONG", "a position")
    chosen = config.load({**running.env, "DASHBOARD_PORT": str(processes.free_port())})
    app = simple_dash.create_app(chosen, Files(running.path), paper_wait_s=5)
    app.config["PORT"] = chosen.dashboard_port
    try:
        status, told = ask(app, "/api/bot/1/skip", {"entries": 3})
        assert (status, told["outcome"], told["bot"]["skip_entries"]) == (200, "done", 3)
        entry = D(str(running.position()["entry_price"]))
        stop = floor_to(entry * D("0.8"), D("0.01"))
        status, told = ask(app, "/api/bot/1/levels", {"stop_loss": str(stop)})
        assert (status, told["bot"]["position"]["stop_loss"]) == (200, stop), told
        argv = [sys.executable, "utils/yard.py"]

        def yard_py(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run([*argv, *arguments], cwd=processes.ROOT, env=running.env, capture_output=True, text=True, timeout=60)

        done = yard_py("levels", "1", "--take-profit", "none", "--json")
        assert done.returncode == 0 and loads(done.stdout)["outcome"] == "done" and running.position()["take_profit"] is None, done
        refused = yard_py("levels", "1", "--stop-loss", str(entry * 2))
        assert refused.returncode == 3 and "below the price" in refused.stderr
        assert yard_py("skip", "1", "--entries", "0").returncode == 0 and running.position()["skip_entries"] == 0
        assert ask(app, "/api/reconcile")[1]["agree"] is True
        bot.terminate()
        bot.wait(patience(20))
        half = floor_to(D(str(running.position()["quantity"])) / 2, D("0.00001"))
        gone = requests.post(running.url + "/paper/accounts/paper/withdraw", json={"asset": "BTC", "amount": str(half)}, timeout=patience(5))
        assert gone.status_code == 200, gone.text
        assert yard_py("skip", "1").returncode == 3
        mended = yard_py("mend", "1", "book", "--json")
        assert mended.returncode == 0 and "without a sale" in loads(mended.stdout)["text"], mended
        assert yard_py("mend", "1", "book").returncode == 3
        closed = yard_py("mend", "1", "close")
        assert closed.returncode == 0 and "yours again" in closed.stdout and running.position()["position"] is None, closed
        assert ask(app, "/api/reconcile")[1]["agree"] is True
    finally:
        app.extensions["board"].close()
