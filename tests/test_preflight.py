"""Before real money: the word, the checks, and what each refusal says. A paper exchange stands in for the live one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bots import Script
from core.binance_client import BinanceClient
from core.bot.trader import Trader
from core.dash.board import Board
from core.dash.market import Market
from core.errors import AccessRefused, InputError, Unavailable
from core.exchange import KeyRights, live_problem
from core.fleet import checks, preflight, records
from core.fleet.registry import Registry
from core.model import OrderRequest
from core.paper.adapter import PaperAdapter
from dash_yard import KnownPids
from stepped import World, run_until

LIVE = {"TRADING_MODE": "live", "BINANCE_API_KEY": "paper", "BINANCE_API_SECRET": "paper", "BINANCE_URL": "http://127.0.0.1:1"}
GOOD = {"name": "BTC Bot", "symbol": "BTCUSDT", "strategy": "volatile", "trade_amount": 500}


class Stand:
    """A yard allowed to go live, and the exchange that it takes for Binance."""

    def __init__(self, home: Path, **values: str):
        self.world = World(home, **{**LIVE, **values})
        self.settings, self.files = self.world.settings, self.world.files
        self.skew_ms = 0
        keeper = KnownPids(self.files, self.settings)
        keeper.pids, keeper.started = {}, []
        self.client = self.connected()
        self.market = Market(self.settings, lambda mode: self.client)
        self.board = Board(self.settings, self.files, keeper, self.market, clock_ms=self.now)
        self.registry = Registry(self.files)

    def now(self) -> int:
        return self.world.wall + self.skew_ms

    def connected(self) -> BinanceClient:
        made = BinanceClient(self.settings, "live", sleep=lambda s: None, clock_ms=self.now)
        made.mount(PaperAdapter(self.world.exchange))
        return made

    def restrict(self, **rights: bool) -> None:
        self.world.ask("POST", "/paper/accounts/paper/restrictions", rights)

    def checks(self, **record: Any) -> dict[str, checks.Check]:
        whole = {**records.view({"id": 9, **GOOD}), **record}
        found = preflight.run(self.settings, self.files, whole, self.client, self.registry.bots(), clock_ms=self.now)
        return {c.name: c for c in found}


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    (tmp_path / "active_bots.json").write_text("[]")
    made = Stand(tmp_path)
    yield made
    made.board.close()
    made.world.close()


def failed(checks: dict[str, checks.Check]) -> set[str]:
    return {c.name for c in checks.values() if c.ok == "fail"}


# --- the word -----------------------------------------------------------------------------


@pytest.mark.parametrize("word", [None, "", "live", "Live", "yes", True, ["LIVE"]])
def test_without_the_word_no_bot_goes_live(stand: Stand, word: Any) -> None:
    with pytest.raises(InputError, match="confirm: type LIVE to let this bot trade with real money"):
        stand.board.create({**GOOD, "mode": "live", "confirm": word})
    stand.board.create(GOOD)
    with pytest.raises(InputError, match="type LIVE"):
        stand.board.update(1, {"mode": "live", "confirm": word})
    with pytest.raises(InputError, match="type LIVE"):
        stand.registry.update(1, {"mode": "live", "confirm": word})
    assert [(b["mode"], b["live_since"]) for b in stand.registry.bots()] == [("paper", None)]


def test_with_the_word_a_bot_goes_live_and_the_record_says_when_and_by_whom(stand: Stand) -> None:
    row = stand.board.create({**GOOD, "mode": "live", "confirm": "LIVE"}, by="page (anna)")
    record = stand.registry.bot(row["id"])
    assert record["mode"] == "live" and live_problem(record) is None
    assert {k: record["live_since"][k] for k in ("by", "name", "bot_id")} == {"by": "page (anna)", "name": "BTC Bot", "bot_id": 1}
    assert "confirm" not in json.loads(stand.files.path("active_bots.json").read_text())[0]
    assert "went live" in stand.files.path("data/audit.jsonl").read_text()


def test_what_is_live_stays_so_without_the_word_and_leaving_live_ends_the_consent(stand: Stand) -> None:
    stand.board.create({**GOOD, "mode": "live", "confirm": "LIVE"})
    since = stand.registry.bot(1)["live_since"]
    stand.board.update(1, {"mode": "live", "name": "Renamed", "trade_amount": 400})
    assert stand.registry.bot(1)["live_since"] == since
    stand.board.update(1, {"mode": "paper"})
    assert stand.registry.bot(1)["live_since"] is None
    with pytest.raises(InputError, match="type LIVE"):
        stand.board.update(1, {"mode": "live"})


def test_a_client_can_not_give_the_consent_itself(stand: Stand) -> None:
    stand.board.create(GOOD)
    with pytest.raises(InputError, match=r"live_since.*kept by Botyard itself"):
        stand.board.update(1, {"live_since": {"wall_ms": 1, "by": "me", "bot_id": 1}})


def test_a_record_made_live_by_hand_may_not_run_nor_may_a_copy_of_a_live_one(stand: Stand) -> None:
    by_hand = records.view({"id": 1, **GOOD, "mode": "live"})
    assert "python3 utils/yard.py live 1" in str(records.mode_problem(by_hand, "live"))
    agreed = {**by_hand, "live_since": {"wall_ms": 1, "by": "x", "name": "BTC Bot", "bot_id": 1}}
    assert records.mode_problem(agreed, "live") is None
    assert "utils/yard.py live 2" in str(records.mode_problem({**agreed, "id": 2}, "live"))
    assert "TRADING_MODE" in str(records.mode_problem(agreed, "testnet"))
    assert records.mode_problem(by_hand, "live", guard=True) is None


# --- the checks -----------------------------------------------------------------------------


def test_all_checks_pass_on_a_sound_account_and_what_is_not_restricted_is_a_warning(stand: Stand) -> None:
    found = stand.checks()
    assert failed(found) == set()
    assert {c.name for c in found.values() if c.ok == "warn"} == {"address"}
    stand.restrict(ipRestrict=True)
    assert {c.ok for c in stand.checks().values()} == {"ok"}


REFUSED: list[tuple[dict[str, bool], str, str]] = [
    ({"enableWithdrawals": True}, "withdrawals", "Turn withdrawals off"),
    ({"enableSpotAndMarginTrading": False}, "trading", "Allow reading and spot trading"),
    ({"enableReading": False}, "trading", "Allow reading and spot trading"),
    ({"canTrade": False}, "account", "Ask the exchange why"),
]


@pytest.mark.parametrize(("rights", "name", "remedy"), REFUSED)
def test_a_key_or_an_account_that_is_not_as_it_must_be_is_refused_with_its_remedy(stand: Stand, rights: dict[str, bool], name: str, remedy: str) -> None:
    stand.restrict(**rights)
    assert failed(stand.checks()) == {name}
    with pytest.raises(InputError, match=f"nothing was changed. {name}: .*{remedy}"):
        stand.board.create({**GOOD, "mode": "live", "confirm": "LIVE"})
    assert stand.registry.bots() == []


def test_rights_that_no_bot_needs_are_named(stand: Stand) -> None:
    stand.restrict(enableInternalTransfer=True, enableFutures=True, ipRestrict=True)
    check = stand.checks()["other rights"]
    assert check.ok == "warn" and "internal transfers, futures" in check.text


def test_an_exchange_that_tells_nothing_of_its_keys_is_a_warning() -> None:
    assert [(c.name, c.ok) for c in checks.rights(KeyRights(True))] == [("account", "ok"), ("withdrawals", "warn")]


@pytest.mark.parametrize(("skew", "outcome"), [(0, "ok"), (-900, "ok"), (1500, "warn"), (-4500, "warn"), (6000, "fail"), (-86_400_000, "fail")])
def test_the_clock_is_judged_by_how_far_it_is_off(stand: Stand, skew: int, outcome: str) -> None:
    stand.skew_ms = skew
    check = stand.checks()["clock"]
    assert check.ok == outcome
    assert outcome == "ok" or "Set the clock" in check.remedy
    assert outcome == "ok" or ("ahead" if skew > 0 else "behind") in check.text


def test_amounts_and_balance_are_judged_against_symbol_and_account(stand: Stand) -> None:
    small, large, poor = stand.checks(trade_amount=Decimal(5)), stand.checks(trade_amount=Decimal("1e9")), stand.checks(trade_amount=Decimal(10001))
    assert failed(small) == {"amount"} and "Set trade_amount to at least" in small["amount"].remedy
    assert failed(large) == {"amount", "balance"} and "at most" in large["amount"].remedy
    assert failed(poor) == {"balance"} and "10000 USDT are free" in poor["balance"].text and "Deposit" in poor["balance"].remedy


def test_a_bot_that_spends_a_share_of_the_account_needs_no_balance_as_large_as_its_amount(stand: Stand) -> None:
    check = stand.checks(trade_amount=Decimal(10001), sizing="equity", sizing_pct=Decimal(5))["balance"]
    assert (check.ok, check.text) == ("ok", "10000 USDT are free")


def test_every_failure_is_listed_at_once(stand: Stand) -> None:
    stand.restrict(enableWithdrawals=True)
    stand.skew_ms = 60_000
    told = stand.board.preflight({**GOOD, "trade_amount": 20000})
    assert told["ready"] is False
    assert {c["name"] for c in told["checks"] if c["ok"] == "fail"} == {"withdrawals", "clock", "balance"}
    with pytest.raises(InputError, match=r"withdrawals: .*clock: .*balance: "):
        stand.board.create({**GOOD, "trade_amount": 20000, "mode": "live", "confirm": "LIVE"})


def test_a_symbol_that_is_unknown_or_closed_is_refused(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failed(stand.checks(symbol="NOPEUSDT")) == {"symbol"}
    closed = replace(stand.client.symbol("BTCUSDT"), tradeable=False, status="BREAK")
    monkeypatch.setattr(stand.client, "symbol", lambda name: closed)
    check = stand.checks()["symbol"]
    assert check.ok == "fail" and "BREAK" in check.text and check.remedy


def test_the_same_coin_on_another_live_bot_is_named_by_what_the_exchange_says_it_is(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand.board.create({**GOOD, "name": "First", "symbol": "ETHUSDT", "mode": "live", "confirm": "LIVE"})
    stand.board.create({**GOOD, "name": "On paper", "symbol": "BTCUSDT"})
    ask = stand.client.symbol  # the paper exchange lists each coin against one other only: SOLUSDT is made a pair of ETH here
    monkeypatch.setattr(stand.client, "symbol", lambda name: replace(ask(name), base="ETH") if name == "SOLUSDT" else ask(name))
    for symbol in ("ETHUSDT", "SOLUSDT"):
        check = stand.checks(symbol=symbol)["same coin"]
        assert check.ok == "warn" and "First (bot 1, ETHUSDT)" in check.text and "5 stop orders a symbol" in check.text
    assert stand.checks(symbol="BTCUSDT")["same coin"].ok == "ok"


def test_a_stop_that_only_the_bot_would_watch_is_a_warning(stand: Stand) -> None:
    assert stand.checks()["protection"].ok == "ok"
    check = stand.checks(protection="bot")["protection"]
    assert check.ok == "warn" and "while the bot does not run, nothing sells" in check.text


def test_orders_and_coins_of_others_are_told_and_left_alone(stand: Stand) -> None:
    stand.world.ask("POST", "/paper/accounts/paper/deposit", {"asset": "BTC", "amount": "0.5"})
    price = (stand.client.price("BTCUSDT") * Decimal("0.9")).quantize(Decimal(1))
    stand.client.place(OrderRequest("by-hand", "BTCUSDT", "BUY", "LIMIT", quantity=Decimal("0.001"), price=price, life="GTC"))
    found = stand.checks()
    assert found["coins"].ok == "warn" and "0.5 BTC" in found["coins"].text
    assert found["foreign orders"].ok == "warn" and "an order of BTCUSDT" in found["foreign orders"].text
    assert failed(found) == set()


def test_wrong_keys_and_no_keys_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "active_bots.json").write_text("[]")
    for keys, text in (({"BINANCE_API_SECRET": "wrong"}, "doesn't accept the keys"), ({"BINANCE_API_KEY": ""}, "no keys for live")):
        home = tmp_path / text.replace(" ", "").replace("'", "")
        home.mkdir()
        settings = World(home, **{**LIVE, **keys})
        client = None
        if keys.get("BINANCE_API_KEY") is None:
            client = BinanceClient(settings.settings, "live", sleep=lambda s: None, clock_ms=lambda w=settings: w.wall)  # type: ignore[misc]
            client.mount(PaperAdapter(settings.exchange))
        (check,) = preflight.general(settings.settings, client)[0]
        assert check.name == "keys" and check.ok == "fail" and text in check.text and check.remedy
        settings.close()


def test_where_trading_mode_is_lower_nobody_is_asked_and_the_page_is_told_what_to_set(tmp_path: Path) -> None:
    stand = Stand(tmp_path, TRADING_MODE="testnet")
    told = stand.board.preflight(GOOD)
    assert told["ready"] is False and "TRADING_MODE=live" in told["checks"][0]["remedy"]
    with pytest.raises(InputError, match="TRADING_MODE"):
        stand.board.create({**GOOD, "mode": "live", "confirm": "LIVE"})
    stand.board.close()
    stand.world.close()


# --- what the bot itself asks ----------------------------------------------------------------


def test_a_bot_with_dangerous_keys_refuses_when_idle_and_warns_loudly_when_it_holds_something(stand: Stand) -> None:
    assert preflight.vet(stand.client, True, clock_ms=stand.now) == ""
    stand.restrict(enableWithdrawals=True)
    with pytest.raises(AccessRefused, match=r"the key may withdraw.*Turn withdrawals off"):
        preflight.vet(stand.client, True, clock_ms=stand.now)
    assert "a position is open, which is guarded on" in preflight.vet(stand.client, False, clock_ms=stand.now)


def test_rights_that_can_not_be_asked_for_keep_an_idle_bot_waiting_and_no_other(stand: Stand) -> None:
    fault = {"method": "GET", "path": "/sapi/v1/account/apiRestrictions", "fault": "error", "params": {"status": 500, "code": -1000, "msg": "down"}}
    stand.world.ask("POST", "/paper/faults", {**fault, "times": 100})
    with pytest.raises(Unavailable):
        preflight.vet(stand.client, True, clock_ms=stand.now)
    assert "can't be asked for" in preflight.vet(stand.client, False, clock_ms=stand.now)


def test_a_wrong_clock_alone_does_not_keep_a_bot_from_starting(stand: Stand) -> None:
    stand.skew_ms = 60_000
    assert preflight.vet(stand.client, True, clock_ms=stand.now) == ""


@pytest.mark.parametrize("mended", [True, False])
def test_a_bot_whose_keys_became_wrong_sells_what_it_holds_and_buys_only_once_they_are_mended(tmp_path: Path, mended: bool) -> None:
    world = World(tmp_path, CHECK_INTERVAL="60", KLINE_INTERVAL="1m")

    def bot(*signals: str) -> Trader:
        made = world.bot(1, "BTCUSDT", Script(signals), "500", timeframe="1m", check_interval=60, offset=0, protection="bot")
        made.vet = lambda idle: preflight.vet(made.exchange, idle, clock_ms=lambda: world.wall)
        return made

    first = bot("BUY")
    assert first.start()
    run_until(world, [first], world.market_ms() + 60_000)
    assert first.position.direction == "LONG"
    world.ask("POST", "/paper/accounts/paper/restrictions", {"canTrade": False})
    second = bot("SELL", "BUY")
    assert second.start()
    assert [w["kind"] for w in second.status.fields["warnings"]] == ["rights"]
    run_until(world, [second], world.market_ms() + 60_000)
    assert second.position.idle
    if mended:
        world.ask("POST", "/paper/accounts/paper/restrictions", {"canTrade": True})
        run_until(world, [second], world.market_ms() + 120_000)
        assert second.position.direction == "LONG" and second.status.fields["warnings"] == []
    else:
        with pytest.raises(AccessRefused, match="may not trade"):
            run_until(world, [second], world.market_ms() + 120_000)
    sides = [row["side"] for row in world.files.read_lines("bot_1_fills.jsonl")]
    assert sides == ["BUY", "SELL", *(["BUY"] if mended else [])]
    world.close()


# --- the paper exchange's pretence ---------------------------------------------------------------


def test_pretended_rights_are_kept_and_unknown_ones_refused(stand: Stand) -> None:
    stand.restrict(enableWithdrawals=True)
    stand.restrict(ipRestrict=True)
    stand.world.close()
    again = World(stand.world.home, **LIVE)
    client = BinanceClient(again.settings, "live", sleep=lambda s: None, clock_ms=lambda: again.wall)
    client.mount(PaperAdapter(again.exchange))
    told = client.key_rights().restrictions or {}
    assert told["enableWithdrawals"] is True and told["ipRestrict"] is True and told["enableReading"] is True
    with pytest.raises(AssertionError, match="not known here"):
        again.ask("POST", "/paper/accounts/paper/restrictions", {"enableMagic": True})
    with pytest.raises(AssertionError, match="must be true or false"):
        again.ask("POST", "/paper/accounts/paper/restrictions", {"ipRestrict": "yes"})
    again.close()
