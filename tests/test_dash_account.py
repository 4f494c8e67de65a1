"""The routes of "Account & risk": what they show over a real home, what they change, and what they refuse. Nothing is started or sold here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.account import guard_files
from core.account.budget import FILE, Budget, host_of
from core.clock import wall_ms
from core.dash import account
from core.fleet import kill as switch
from core.fleet import maintenance
from core.model import Balance, OrderRequest, Update
from core.storage import installation, loads
from dash_yard import MARKET_MS, SYMBOLS, VENUE, DeskExchange, fill
from patience import patience
from test_dash_gate import Page

D = Decimal
ACCOUNT = "paper/main/USDT"


class Held(DeskExchange):
    """An account with orders at the exchange that no bot's file lists."""

    orders: tuple[Update, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.venue = VENUE

    def balances(self) -> dict[str, Balance]:
        self._ask("balances")
        return {"USDT": Balance("USDT", D("9480.12"), D(0)), "BTC": Balance("BTC", D("0.3"), D("0.01"))}

    def open_orders(self, symbol: str | None = None) -> list[Update]:
        return list(self.orders)


class Yard(Page):
    """A client over a home with one bot that holds 0.01 BTC and one that is flat."""

    def __init__(self, home: Path, **env: str):
        super().__init__(home, **env)
        self.desk = Held()
        self.app.extensions["board"].market._make = lambda mode: self.desk
        self.board = self.app.extensions["board"]
        self.board.market.desk("paper")._symbols.update(SYMBOLS)
        self.bot = self.home.record(status="running")
        self.position = self.home.position(self.bot, [fill(self.bot, 1, 1, "BUY", "50000", "0.01")])
        self.home.journal(self.position, [fill(self.bot, 1, 1, "BUY", "50000", "0.01")])
        self.home.status(self.bot, pid=7)
        self.home.record("Ether", "ETHUSDT", amount="300")
        self.keeper.pids[self.bot] = 7

    def get(self, path: str) -> Any:
        response = self.send("GET", path)
        assert response.status_code == 200, response.text
        return loads(response.data)

    def post(self, path: str, body: Any) -> Any:
        response = self.send("POST", path, body)
        assert response.status_code < 400, response.text
        return loads(response.data)

    def error(self, path: str, body: Any, status: int = 400) -> str:
        assert self.status("POST", path, body) == status
        return str(loads(self.send("POST", path, body).data)["error"])

    def line(self, limit: str, scope: str = ACCOUNT) -> Any:
        guards = self.get("/api/account?mode=paper")["guards"]
        found = [s for s in guards["accounts"] + guards["bots"] if s["scope"] == scope]
        return next((x for s in found for x in s["lines"] if x["limit"] == limit), None)


@pytest.fixture
def yard(home: Path) -> Iterator[Yard]:
    (home / "active_bots.json").write_text("[]")
    made = Yard(home)
    yield made
    made.board.close()


# --- what is shown ---------------------------------------------------------------------------


def test_the_account_shows_whose_coins_lie_there_and_what_is_nobodys(yard: Yard) -> None:
    told = yard.get("/api/account?mode=paper")
    assert told["error"] is None and told["holdings"]["unknown"] == []
    bitcoin = next(a for a in told["holdings"]["assets"] if a["asset"] == "BTC")
    share = bitcoin["shares"][0]
    assert (share["bot_id"], share["quantity"], share["worth"], share["quote"]) == (yard.bot, D("0.01"), D(505), "USDT")
    assert (bitcoin["free"], bitcoin["locked"], bitcoin["unclaimed"]) == (D("0.3"), D("0.01"), D("0.30"))


def test_foreign_orders_and_orphans_are_told_apart(yard: Yard) -> None:
    own = installation(yard.home.files)
    for n, client_id in enumerate(("somebody", f"by{own}-{yard.bot}-900-1")):
        asked = OrderRequest(client_id, "BTCUSDT", "BUY", "LIMIT", quantity=D("0.001"), price=D(40000), life="GTC")
        yard.desk.orders += (Update(client_id=client_id, symbol="BTCUSDT", status="NEW", order_id=str(n), request=asked),)
    orders = yard.get("/api/account?mode=paper")["holdings"]["orders"]
    assert [(o["client_id"], o["whose"], o["price"]) for o in orders] == [("somebody", "foreign", D(40000)), (f"by{own}-{yard.bot}-900-1", "orphan", D(40000))]
    assert "not an order of this yard" in yard.error("/api/cancel-orphan", {"mode": "paper", "client_id": "somebody"})
    for wrong in ({}, {"client_id": 5}, {"client_id": ""}, {"client_id": "x" * 65}, {"client_id": "x", "more": 1}, {"client_id": "x", "mode": ["paper"]}):
        assert yard.status("POST", "/api/cancel-orphan", wrong) == 400


def test_an_exchange_that_does_not_answer_leaves_the_guards_shown_and_says_why(yard: Yard) -> None:
    yard.post("/api/guards", {"scope": ACCOUNT, "limits": {"open_positions": 3}})
    yard.desk.down = True
    told = yard.get("/api/account?mode=paper")
    assert told["holdings"] is None and "does not answer" in told["error"]
    assert yard.line("open_positions")["value"] == 1


def test_a_position_that_can_not_be_read_makes_the_answer_unknown_and_no_smaller(yard: Yard) -> None:
    yard.post("/api/guards", {"scope": ACCOUNT, "limits": {"exposure_pct": 50}})
    yard.home.files.path("bot_1_position.json").write_text("{")
    yard.home.files.path("bot_1_position.json.prev").unlink(missing_ok=True)
    told = yard.get("/api/account?mode=paper")
    assert told["holdings"]["unknown"] and all(a["unclaimed"] is None for a in told["holdings"]["assets"])
    line = yard.line("exposure_pct")
    assert line["value"] is None and "can't be judged" in line["unknown"]


def test_an_unknown_mode_is_refused(yard: Yard) -> None:
    for mode in ("live", "", "paper'--", "../x", "%00"):
        assert yard.status("GET", f"/api/account?mode={mode}") == 400


def test_the_request_budget_is_told_as_it_stands(yard: Yard) -> None:
    assert yard.get("/api/account?mode=paper")["budgets"] == []
    host = host_of(f"http://127.0.0.1:{yard.settings.paper_port}")
    budget = Budget(yard.home.files.path(FILE), host, wall_ms)
    budget.take(40, "page")
    budget.told(418, {}, 60)
    budget.close()
    told = yard.get("/api/account?mode=paper")["budgets"]
    assert len(told) == 1 and told[0]["host"] == host and told[0]["limit"] == 6000 and told[0]["banned_until_wall_ms"] > wall_ms()


def test_the_machine_is_told_from_the_yards_last_sample(yard: Yard) -> None:
    sample = {"memory_mb": 612.5, "cpu_pct": 3.1, "disk_mb": 0.4, "at_wall_ms": wall_ms()}
    status = {
        "schema": 1, "bots": {"1": {"resources": sample}}, "units": {"yard": {**sample, "disk_mb": None, "pid": 1}},
        "machine": {"disk_free_mb": 90.0, "memory_available_mb": 800.0, "load": 0.5},
    }  # fmt: skip
    yard.home.files.write_json("data/yard_status.json", status)
    told = yard.get("/api/yard")
    assert told["bots"][0]["resources"]["memory_mb"] == D("612.5") and told["bots"][0]["limits"]["memory_mb"] == 500 and told["bots"][1]["resources"] is None
    assert any("memory 612 MB" in w for w in told["warnings"]) and any("90 MB left" in w for w in told["warnings"])
    assert any("yard is not running" in w for w in told["warnings"])
    yard.home.files.path("data/yard_status.json").write_text('{"bots": [1], "machine": 5, "units": "x"}')
    assert yard.get("/api/yard")["bots"][0]["resources"] is None


# --- the kill switch ------------------------------------------------------------------------------


def test_selling_everything_needs_the_typed_word_while_a_position_is_open(yard: Yard) -> None:
    for confirm in (None, "", "flatten", "FLATTEN ", "LIVE", True, 1, ["FLATTEN"], {"FLATTEN": 1}):
        assert "FLATTEN" in yard.error("/api/kill-switch", {"level": "flatten", "confirm": confirm})
    assert switch.read(yard.home.files) is None
    told = yard.post("/api/kill-switch", {"level": "flatten", "confirm": "FLATTEN"})
    assert told["kill"]["level"] == "flatten" and told["kill"]["by"] == "dashboard"
    assert yard.get("/api/overview")["kill"]["level"] == "flatten"


def test_a_live_bot_alone_asks_for_the_word_and_a_flat_paper_yard_does_not(home: Path) -> None:
    (home / "active_bots.json").write_text("[]")
    page = Page(home)
    page.home.record()
    assert page.status("POST", "/api/kill-switch", {"level": "flatten"}) == 200
    page.home.record("Live Bot", mode="live")
    assert page.status("POST", "/api/kill-switch", {"level": "flatten"}) == 400


def test_a_position_that_can_not_be_read_asks_for_the_word(home: Path) -> None:
    (home / "active_bots.json").write_text("[]")
    page = Page(home)
    page.home.record()
    (home / "bot_1_position.json").write_text("nonsense")
    assert page.status("POST", "/api/kill-switch", {"level": "flatten"}) == 400


def test_the_kill_switch_works_while_the_list_of_bots_can_not_be_read(yard: Yard) -> None:
    yard.home.files.path("active_bots.json").write_text("{")
    assert yard.status("GET", "/api/overview") == 500 and any("active_bots.json" in w for w in yard.get("/api/yard")["warnings"])
    assert yard.status("POST", "/api/kill-switch", {"level": "flatten"}) == 400
    assert yard.post("/api/kill-switch", {"level": "flatten", "confirm": "FLATTEN"})["kill"]["level"] == "flatten"
    told = yard.get("/api/yard")
    assert told["kill"]["level"] == "flatten" and [(s["id"], s["open"]) for s in told["left"]] == [(1, "a LONG position is open")]
    yard.post("/api/kill-switch", {"level": "off"})
    assert switch.read(yard.home.files) is None


def test_entries_are_stopped_and_allowed_again(yard: Yard) -> None:
    assert yard.post("/api/kill-switch", {"level": "entries"})["kill"]["level"] == "entries"
    assert yard.get("/api/yard")["kill"]["level"] == "entries"
    assert yard.post("/api/kill-switch", {"level": "off"})["kill"]["level"] == "off"
    assert switch.read(yard.home.files) is None


@pytest.mark.parametrize("level", [None, "", "ON", "FLATTEN", 1, True, ["off"], {"level": "off"}, "off\n", "x" * 10_000])
def test_a_kill_switch_level_that_is_none_changes_nothing(yard: Yard, level: Any) -> None:
    assert "level" in yard.error("/api/kill-switch", {"level": level, "confirm": "FLATTEN"})
    assert "surprise" in yard.error("/api/kill-switch", {"level": "entries", "surprise": 1})
    assert switch.read(yard.home.files) is None


def test_a_kill_switch_that_can_not_be_read_is_told_and_can_be_lifted(yard: Yard) -> None:
    yard.home.files.path("data").mkdir(exist_ok=True)
    yard.home.files.path(guard_files.KILL).write_text('{"schema": 1, "what": "perhaps"}')
    told = yard.get("/api/overview")["kill"]
    assert told["level"] == "unknown" and "perhaps" in told["problem"]
    yard.post("/api/kill-switch", {"level": "off"})
    assert yard.get("/api/overview")["kill"]["level"] == "off"


# --- maintenance ---------------------------------------------------------------------------------


def test_maintenance_stops_bots_keeps_them_wanted_and_refuses_starts(yard: Yard) -> None:
    told = yard.post("/api/maintenance", {"on": True, "note": "new server"})
    assert told["bots"]["1"] == {"stopped": True, "error": None} and [u["bot"] for u in told["unwatched"]] == [1]
    assert yard.get("/api/overview")["maintenance"]["note"] == "new server" and yard.bots()[0]["status"] == "running"
    assert "new server" in yard.error("/api/bot/2/start", {}, 409)
    yard.post("/api/maintenance", {"on": False})
    assert yard.get("/api/overview")["maintenance"]["on"] is False
    assert yard.status("POST", "/api/bot/2/start", {}) == 200


@pytest.mark.parametrize(
    "body",
    [
        {}, {"on": "true"}, {"on": 1}, {"on": None}, {"on": []}, {"on": True, "note": 5}, {"on": True, "note": "x" * 201},
        {"on": True, "note": "a\u202eb"}, {"on": True, "more": 1},
    ],
)  # fmt: skip
def test_maintenance_takes_true_or_false_and_a_short_note(yard: Yard, body: Any) -> None:
    assert yard.status("POST", "/api/maintenance", body) == 400
    assert maintenance.read(yard.home.files).on is False and yard.keeper.pids == {1: 7}


# --- guards ------------------------------------------------------------------------------------


def test_an_accounts_limits_are_set_shown_with_their_values_and_taken_away(yard: Yard) -> None:
    limits = {"exposure_pct": {"soft": "120", "hard": "200"}, "open_positions": {"soft": 1}, "daily_loss_pct": {"soft": "", "hard": "5"}}
    told = yard.post("/api/guards", {"scope": ACCOUNT, "limits": limits})
    assert told["limits"] == {"exposure_pct": {"soft": 120, "hard": 200}, "open_positions": {"soft": 1}, "daily_loss_pct": {"hard": 5}}
    line = yard.line("exposure_pct")
    assert line["coin"] == "BTC" and 95 < line["value"] < 105 and abs(line["percent"] - line["value"] / D("1.2")) < D("0.1")
    places = yard.line("open_positions")
    assert (places["value"], places["percent"], places["reached"]) == (1, 100, "soft")
    assert yard.post("/api/guards", {"mode": "paper", "quote": "USDT", "limits": {}})["limits"] == {} and yard.line("exposure_pct") is None


def test_limits_that_somebody_else_changed_meanwhile_are_not_overwritten(yard: Yard) -> None:
    shown = {"open_positions": {"soft": 3, "hard": None}, "daily_loss_pct": {"soft": None, "hard": None}}
    yard.post("/api/guards", {"scope": ACCOUNT, "limits": {"open_positions": 3}})
    yard.post("/api/guards", {"scope": ACCOUNT, "limits": {"open_positions": 4}, "before": shown})
    assert yard.status("POST", "/api/guards", {"scope": ACCOUNT, "limits": {"open_positions": 5}, "before": shown}) == 409
    assert guard_files.read_accounts(yard.home.files) == {ACCOUNT: {"open_positions": {"soft": D(4)}}}
    assert yard.status("POST", "/api/guards", {"scope": ACCOUNT, "limits": {}, "before": "x"}) == 400


@pytest.mark.parametrize(
    "limits",
    [
        None, [], "x", 5, {"daily_loss_pct": "NaN"}, {"daily_loss_pct": "Infinity"}, {"daily_loss_pct": -1}, {"daily_loss_pct": 0}, {"daily_loss_pct": 101},
        {"daily_loss_pct": True}, {"daily_loss_pct": {"soft": 5, "hard": 5}}, {"daily_loss_pct": {"medium": 5}}, {"daily_loss_pct": {"soft": [1]}},
        {"trades_per_day": 2.5}, {"trades_per_day": 10**29}, {"nothing_pct": 5}, {"memory_mb": 5}, {"daily_loss_pct": "5" * 60},
    ],
)  # fmt: skip
def test_limits_that_are_none_are_refused_and_the_old_ones_hold(yard: Yard, limits: Any) -> None:
    yard.post("/api/guards", {"scope": ACCOUNT, "limits": {"open_positions": 3}})
    assert "limit" in yard.error("/api/guards", {"scope": ACCOUNT, "limits": limits})
    assert guard_files.read_accounts(yard.home.files) == {ACCOUNT: {"open_positions": {"soft": D(3)}}}


def test_nan_and_numbers_of_any_length_are_refused_before_they_are_read(yard: Yard) -> None:
    for number in ("NaN", "Infinity", "-Infinity", "1e999999", "1" * 5000):
        assert yard.status("POST", "/api/guards", f'{{"scope": "{ACCOUNT}", "limits": {{"daily_loss_pct": {number}}}}}') == 400
        assert yard.status("POST", "/api/bot/1/pot", f'{{"amount": {number}}}') == 400
    assert not yard.home.files.exists("guards.json")


@pytest.mark.parametrize("scope", ["paper/main/EUR", "live/main/USDT", "paper/other/USDT"])
def test_an_account_on_which_no_bot_trades_is_not_known(yard: Yard, scope: str) -> None:
    assert ACCOUNT in yard.error("/api/guards", {"scope": scope, "limits": {"open_positions": 1}}, 404)
    assert yard.status("POST", "/api/guards/reset", {"scope": scope, "limit": "all"}) == 404


@pytest.mark.parametrize(
    "scope", ["", "paper", "paper/main", "paper/main/USDT/x", "../../etc/passwd", "bot_1", 5, ["paper/main/USDT"], "paper/main/usdt", "paper/main/USDT\n"]
)
def test_a_scope_that_is_no_account_is_refused(yard: Yard, scope: Any) -> None:
    assert yard.status("POST", "/api/guards", {"scope": scope, "limits": {}}) == 400
    assert yard.status("POST", "/api/guards/reset", {"scope": scope, "limit": "all"}) == 400


def trip(yard: Yard, scope: str, level: str = "hard") -> None:
    """The state as it is after a guard has tripped."""
    part = {
        "day": "2023-11-14", "members": {}, "gone": 0, "gone_day": 0, "peak": None, "peak_capital": 0, "peak_since": 0,
        "told": {}, "resets": [], "reset_wall": {},
        "trips": {f"drawdown_pct:{level}": {
            "key": f"drawdown_pct:{level}", "limit": "drawdown_pct", "level": level, "coin": "", "value": 12, "at": 10, "day": "2023-11-14",
            "text": "the drawdown from the peak is 12.00 %", "market_ms": MARKET_MS, "wall_ms": wall_ms(),
        }},
    }  # fmt: skip
    yard.home.files.write_json(guard_files.STATE, {"schema": 1, "scopes": {scope: part}, "reserved": [], "bots": {}})


@pytest.mark.parametrize(("scope", "body"), [(ACCOUNT, {"scope": ACCOUNT}), ("bot_1", {"bot": 1})])
def test_a_tripped_guard_is_shown_with_its_bots_and_reset(yard: Yard, scope: str, body: dict[str, Any]) -> None:
    trip(yard, scope)
    assert yard.line("drawdown_pct", scope)["tripped"]["level"] == "hard"
    rows = yard.get("/api/overview")["bots"]
    assert [bool(r["guards"]) for r in rows] == [True, scope == ACCOUNT] and "12.00 %" in rows[0]["guards"][0]["text"]
    assert yard.post("/api/guards/reset", {**body, "limit": "drawdown_pct"})["tripped"] == ["drawdown_pct"]
    assert yard.line("drawdown_pct", scope) is None and yard.get("/api/overview")["bots"][0]["guards"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400), ({"limit": "all"}, 400), ({"bot": 1, "scope": ACCOUNT, "limit": "all"}, 400), ({"bot": 99, "limit": "all"}, 404),
        ({"bot": "1", "limit": "all"}, 400), ({"bot": True, "limit": "all"}, 400), ({"bot": -1, "limit": "all"}, 400),
        ({"bot": 1.5, "limit": "all"}, 400), ({"bot": 1}, 400), ({"bot": 1, "limit": 5}, 400),
        ({"bot": 1, "limit": "everything"}, 400), ({"bot": 1, "limit": "all", "x": 1}, 400),
    ],
)  # fmt: skip
def test_a_reset_of_what_is_not_there_is_refused(yard: Yard, body: Any, status: int) -> None:
    trip(yard, "bot_1")
    assert yard.status("POST", "/api/guards/reset", body) == status
    assert yard.line("drawdown_pct", "bot_1")["tripped"]


def test_a_guards_state_that_can_not_be_read_is_told_and_the_overview_goes_on(yard: Yard) -> None:
    yard.home.files.path("data").mkdir(exist_ok=True)
    yard.home.files.path(guard_files.STATE).write_text("{")
    assert "guards_state" in yard.get("/api/account?mode=paper")["guards"]["problem"]
    assert yard.get("/api/overview")["bots"][0]["guards"] == []


# --- pots ----------------------------------------------------------------------------------------


def test_a_pot_is_topped_up_and_paid_out_with_the_figures_before_and_after(yard: Yard) -> None:
    told = yard.post("/api/bot/2/pot", {"amount": "100.5"})
    assert (told["before"], told["after"], told["bot"]["pot"], told["quote"]) == (300, D("400.5"), D("400.5"), "USDT")
    assert yard.post("/api/bot/2/pot", {"amount": -50})["after"] == D("350.5") and yard.bots()[1]["trade_amount"] == D("350.5")


@pytest.mark.parametrize("amount", [None, 0, "0", "", "abc", "NaN", "Infinity", True, [1], {"a": 1}, "1e9999", "-300", "99999999999999"])
def test_an_amount_that_can_not_be_is_refused_and_the_pot_stays(yard: Yard, amount: Any) -> None:
    assert "amount" in yard.error("/api/bot/2/pot", {"amount": amount})
    assert yard.bots()[1]["trade_amount"] == 300


def test_a_pot_of_a_bot_that_is_not_there_is_not_changed(yard: Yard) -> None:
    assert yard.status("POST", "/api/bot/99/pot", {"amount": 5}) == 404
    assert yard.status("POST", "/api/bot/x/pot", {"amount": 5}) == 400
    assert yard.status("POST", "/api/bot/1/pot", {"amount": 5, "x": 1}) == 400


# --- the same door -------------------------------------------------------------------------------

CHANGES = ("/api/kill-switch", "/api/maintenance", "/api/guards", "/api/guards/reset", "/api/bot/1/pot", "/api/cancel-orphan")
GOOD = {"level": "entries"}


@pytest.mark.parametrize("path", CHANGES)
def test_changes_come_from_the_pages_own_origin_as_json(yard: Yard, path: str) -> None:
    assert yard.status("POST", path, GOOD, headers={"Origin": "http://evil.example"}) == 403
    assert yard.status("POST", path, GOOD, headers={"Sec-Fetch-Site": "cross-site"}) == 403
    assert yard.status("POST", path, GOOD, content_type="text/plain") == 415
    assert yard.status("POST", path, GOOD, headers={"Host": "evil.example"}) == 403
    assert yard.status("GET", path) == 405
    for body in (b"", b"[]", b"{", b"\xff", b'{"level": "entries", "level": "off"}'):
        assert yard.status("POST", path, body) == 400
    assert switch.read(yard.home.files) is None and maintenance.read(yard.home.files).on is False


def test_without_a_login_nothing_of_it_is_shown_or_changed(home: Path) -> None:
    (home / "active_bots.json").write_text("[]")
    page = Page(home, DASHBOARD_PASSWORD="correct horse")
    page.home.record()
    for path in ("/api/yard", "/api/account"):
        assert page.status("GET", path) == 401
    for path in CHANGES:
        assert page.status("POST", path, GOOD) == 401
    assert switch.read(page.home.files) is None


def test_the_overview_of_a_hundred_bots_stays_quick(yard: Yard) -> None:
    for n in range(98):
        bot = yard.home.record(f"Bot {n}", status="running")
        yard.home.position(bot, [fill(bot, 1, 1, "BUY", "50000", "0.01")])
        yard.home.status(bot, pid=7)
        yard.keeper.pids[bot] = 7
    trip(yard, ACCOUNT)
    yard.get("/api/overview")
    took = []
    for _ in range(20):
        begun = time.perf_counter()
        yard.get("/api/overview")
        took.append(time.perf_counter() - begun)
    assert sorted(took)[10] < patience(0.25), took  # the suite's machine is busy; a quiet one takes a tenth of this


def test_the_words_of_each_limit_are_told_for_the_editor(yard: Yard) -> None:
    names = yard.get("/api/account?mode=paper")["guards"]["names"]
    assert [n["name"] for n in names if n["account_only"]] == ["open_positions", "exposure_pct"] and account.WORD == "FLATTEN"
