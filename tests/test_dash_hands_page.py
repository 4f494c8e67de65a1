"""By hand, in a real browser: levels, entries left out, coins brought in, missing coins, books that differ, real money."""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.account import ledger
from core.model import Balance
from core.storage import loads
from dash_yard import DeskExchange, Home, fill, make_app, served, settings, until
from test_dash_hands import Answering
from test_dash_page import EVIL, Shown, pytestmark  # noqa: F401 - of all tests here

D = Decimal
SHOTS = os.environ.get("SHOTS")  # a folder for pictures, for people who work on the page


class Rich(DeskExchange):
    """More coins in the account than the bots claim."""

    bitcoin = D("0.31")

    def balances(self) -> dict[str, Balance]:
        return {"BTC": Balance("BTC", self.bitcoin, D(0)), "USDT": Balance("USDT", D("9480.12"), D(0))}


class Hand(Shown):
    bot: Answering

    def picture(self, name: str) -> None:
        if SHOTS:
            self.driver.save_screenshot(f"{SHOTS}/{name}.png")

    def heard(self) -> list[tuple[str, dict[str, Any]]]:
        return [(command, data) for _, command, _, data in self.bot.heard]


@pytest.fixture
def shown(browser: Any, home: Path) -> Iterator[Hand]:
    yard = Home(home)
    bot = yard.record(status="running")
    yard.position(bot, [fill(bot, 1, 1, "BUY", "50000", "0.01")])
    yard.status(bot, pid=7)
    chosen, desk = settings(home), Rich()
    app = make_app(yard.files, chosen, {bot: 7}, desk)
    with served(app, chosen.dashboard_port) as url:
        made = Hand(browser, yard, app, url, desk)
        made.bot = made.keeper.command = Answering(yard, text="so it is")
        yield made
        browser.get("about:blank")


def opened(shown: Hand) -> None:
    shown.open("/#bot/1")
    until(lambda: shown.one("#hand-stop") is not None and shown.one("#hand-stop").is_displayed())
    until(lambda: shown.one("#hand-stop").get_attribute("value") == "49000")


def test_stop_and_target_are_moved_with_the_keyboard_and_a_wider_stop_asks_first(shown: Hand) -> None:
    from selenium.webdriver.common.keys import Keys

    opened(shown)
    shown.type("#hand-stop", "48000.5")
    shown.wait("−4.95% from the price", "#hand-stop-hint")
    shown.one("#hand-stop").send_keys(Keys.ENTER)
    shown.wait("more may be lost than before", "#ask-t")
    shown.wait("−20.00 USDT", "#ask-t")
    shown.picture("levels-ask")
    shown.click("#ask-no")
    assert shown.heard() == [] and shown.one("#hand-stop").get_attribute("value") == "48000.5"
    shown.one("#hand-stop").send_keys(Keys.ENTER)
    shown.click("#ask-yes")
    shown.wait("so it is", "#toasts")
    assert shown.heard() == [("levels", {"stop_loss": D("48000.5")})]
    shown.type("#hand-target", "53000")
    shown.click("#hand-move")  # the stop is as before in this home's file: only the target moves, which risks nothing
    until(lambda: len(shown.heard()) == 2)
    assert shown.heard()[1] == ("levels", {"take_profit": D(53000)})
    shown.type("#hand-stop", "abc")
    shown.click("#hand-move")
    shown.wait("plain number", "#hand-stop-wrong")
    assert len(shown.heard()) == 2 and shown.complaints() == []


def test_what_is_being_typed_stays_while_the_bot_goes_on(shown: Hand) -> None:
    opened(shown)
    shown.type("#hand-target", "5300")
    polls = "return performance.getEntriesByType('resource').filter(e => e.name.includes('/details')).length"
    seen = shown.driver.execute_script(polls)
    until(lambda: shown.driver.execute_script(polls) >= seen + 2, 20)
    assert shown.one("#hand-target").get_attribute("value") == "5300"
    shown.click("#hand-reset")
    until(lambda: shown.one("#hand-target").get_attribute("value") == "52500")


def test_a_refusal_is_shown_in_the_bots_words(shown: Hand) -> None:
    shown.bot.outcome, shown.bot.text = "refused", f"no {EVIL}"
    opened(shown)
    shown.type("#hand-target", "53000")
    shown.click("#hand-move")
    shown.wait(f"no {EVIL}", "#toasts")
    assert shown.driver.title == "Botyard" and shown.one("#hand-target").get_attribute("value") == "53000"


def test_the_next_entries_are_left_out_and_taken_back(shown: Hand) -> None:
    opened(shown)
    shown.click("#hand-skip")
    until(lambda: shown.heard() == [("skip", {"entries": 1})])
    position = loads((shown.home.files.home / "bot_1_position.json").read_bytes())
    shown.home.files.write_json("bot_1_position.json", {**position, "skip_entries": 1})
    shown.wait("Its next entry is left out")
    shown.click("#hand-skip")
    until(lambda: len(shown.heard()) == 2)
    shown.click("#hand-back")
    until(lambda: len(shown.heard()) == 3)
    assert shown.heard()[1:] == [("skip", {"entries": 2}), ("skip", {"entries": 0})]
    shown.open()
    shown.wait("skips the next entry", "#bots")


def test_coins_that_no_bot_claims_are_brought_under_one(shown: Hand) -> None:
    opened(shown)
    shown.wait("0.3 BTC in the account belong to no bot")
    shown.type("#hand-quantity", "0.4")
    shown.click("#hand-adopt")
    shown.wait("At most 0.3", "#hand-quantity-wrong")
    shown.type("#hand-quantity", "0.25000001")
    shown.click("#hand-adopt")
    shown.wait("the price now", "#ask-t")
    shown.click("#ask-yes")
    until(lambda: shown.heard() == [("adopt", {"quantity": D("0.25000001"), "price": None})])
    until(lambda: shown.one("#hand-quantity").get_attribute("value") == "")


def test_without_unclaimed_coins_there_is_nothing_to_bring(shown: Hand) -> None:
    shown.desk.bitcoin = D("0.01")  # type: ignore[attr-defined]
    opened(shown)
    assert not shown.one("#hand-adopt").is_displayed()


def test_missing_coins_are_explained_with_three_choices(shown: Hand) -> None:
    shown.home.status(1, pid=7, warnings=[{"kind": "foreign", "text": f"0.005 BTC are missing {EVIL}", "wall_ms": 0}])
    shown.open()
    shown.click('button[aria-label^="Coins of BTC Bot"]')
    shown.wait("Coins of this bot are missing", "#detail")
    assert EVIL in shown.text(".missing") and shown.driver.title == "Botyard"
    shown.picture("missing")
    shown.click("#mend-book")
    shown.click("#ask-yes")
    until(lambda: shown.heard() == [("mend", {"choice": "book"})])
    shown.home.status(1, pid=7, warnings=[{"kind": "foreign", "text": "0.005 BTC are missing", "wall_ms": 0}])
    until(lambda: shown.one("#mend-close").is_enabled())
    shown.click("#mend-close")
    shown.click("#ask-yes")
    until(lambda: len(shown.heard()) == 2 and shown.heard()[1] == ("mend", {"choice": "close"}))
    until(lambda: shown.one("#mend-stop").is_enabled())
    shown.home.status(1, pid=7, warnings=[{"kind": "foreign", "text": "0.005 BTC are missing", "wall_ms": 0}])
    shown.wait("0.005 BTC are missing", ".missing")
    shown.click("#mend-stop")
    shown.click("#ask-yes")
    until(lambda: shown.keeper.pids == {})


def test_a_bot_that_does_not_run_says_to_start_it_first(shown: Hand) -> None:
    shown.keeper.pids.clear()
    opened(shown)
    shown.wait("start it first", "#detail")
    assert not shown.one("#hand-move").is_enabled() and not shown.one("#hand-skip").is_enabled()


def test_books_that_differ_are_shown_and_a_deposit_is_taken_in(shown: Hand) -> None:
    ledger.ensure_baseline(shown.home.files, shown.desk)
    shown.desk.bitcoin = D("0.81")  # type: ignore[attr-defined]
    shown.open()
    shown.wait("BTC: the account holds 0.81, the books say 0.31 (+0.5)", "#books")
    shown.picture("books")
    shown.click("#books button")
    shown.wait("+0.5 BTC", "#ask-t")
    shown.click("#ask-yes")
    shown.wait("Books and account agree.", "#toasts")
    until(lambda: not shown.one("#books").is_displayed())
    assert ledger.compare(shown.home.files, shown.desk) == [] and shown.complaints() == []


def test_the_forms_fields_on_risk_reach_the_record(shown: Hand) -> None:
    shown.open()
    shown.click('button[aria-label="Edit BTC Bot"]')
    until(lambda: len(shown.driver.find_elements("css selector", "#f-strategy option")) > 1)
    shown.driver.execute_script("document.querySelectorAll('#form details').forEach(d => d.open = true)")
    for name, value in {"trailing_stop_pct": "2", "trailing_activation_pct": "1.5", "break_even_pct": "1", "time_stop_candles": "20"}.items():
        shown.type(f"#f-{name}", value)
    shown.one("#f-protection").send_keys("in the bot")
    shown.picture("form")
    shown.click("#save")
    shown.wait("Saved.", "#toasts")
    record = shown.home.files.read_any("active_bots.json")[0]
    told = [record[k] for k in ("trailing_stop_pct", "trailing_activation_pct", "break_even_pct", "time_stop_candles", "protection")]
    assert told == [2, D("1.5"), 1, 20, "bot"]
    assert shown.complaints() == []


def test_a_bot_for_real_money_shows_its_checks_and_wants_the_word_live(shown: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    board = shown.app.extensions["board"]
    asked: list[tuple[dict[str, Any], Any]] = []
    checks = [{"name": "keys", "ok": "ok", "text": "they trade spot", "remedy": ""}, {"name": "clock", "ok": "fail", "text": EVIL, "remedy": "set the clock"}]

    def preflight(given: dict[str, Any], bot_id: int | None) -> dict[str, Any]:
        asked.append((given, bot_id))
        return {"checks": checks, "ready": False}

    created: list[dict[str, Any]] = []

    def create(given: dict[str, Any]) -> dict[str, Any]:
        created.append(dict(given))
        return dict(board.row(1))

    overview = board.overview

    def with_live() -> dict[str, Any]:
        told = overview()
        told["settings"]["modes"] = ["paper", "testnet", "live"]
        told["bots"][0]["mode"] = "live"
        return dict(told)

    monkeypatch.setattr(board, "preflight", preflight, raising=False)
    monkeypatch.setattr(board, "create", create)
    monkeypatch.setattr(board, "overview", with_live)
    shown.open()
    shown.wait("LIVE", "#bots")
    assert shown.one("#bots tr.money") is not None
    shown.click("#new")
    until(lambda: len(shown.driver.find_elements("css selector", "#f-strategy option")) > 1)
    assert not shown.one("#real").is_displayed()
    shown.one("#f-mode").send_keys("live")
    shown.wait("When name, coin, amount and strategy", "#flight-note")
    shown.type("#f-name", "Real")
    shown.type("#f-symbol", "BTCUSDT")
    shown.one("#f-strategy").send_keys("Vol")
    shown.type("#f-trade_amount", "250")
    shown.click("#f-start")
    until(lambda: bool(asked) and asked[-1][0].get("trade_amount") == "250")
    shown.wait("they trade spot", "#flight")
    assert EVIL in shown.text("#flight") and "set the clock" in shown.text("#flight") and shown.driver.title == "Botyard"
    assert asked[-1] == ({"name": "Real", "mode": "live", "symbol": "BTCUSDT", "trade_amount": "250", "strategy": "volatile"}, None)
    shown.type("#f-confirm", "live")
    shown.click("#save")
    shown.wait("Type LIVE, in capitals.", "#e-confirm")
    shown.picture("live")
    assert created == []
    shown.type("#f-confirm", "LIVE")
    shown.click("#save")
    until(lambda: len(created) == 1)
    assert created[0]["confirm"] == "LIVE" and created[0]["mode"] == "live"
    shown.keeper.pids.clear()
    shown.wait("Start", "#bots .acts")
    until(lambda: shown.one('button[aria-label="Start BTC Bot"]') is not None and shown.one('button[aria-label="Start BTC Bot"]').is_displayed())
    shown.click('button[aria-label="Start BTC Bot"]')
    shown.wait("with real money", "#ask-h")
    shown.click("#ask-no")
    assert shown.keeper.pids == {}


@pytest.mark.parametrize(("name", "width", "dark"), [("wide", 1400, False), ("dark", 1400, True), ("phone", 390, True)])
def test_by_hand_fits_every_width_in_light_and_dark(shown: Hand, name: str, width: int, dark: bool) -> None:
    shown.home.status(1, pid=7, warnings=[{"kind": "foreign", "text": "0.005 BTC are missing: somebody sold or moved them", "wall_ms": 0}])
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    shown.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    shown.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 1500, "deviceScaleFactor": 1, "mobile": width < 500})
    try:
        opened(shown)
        shown.wait("belong to no bot")
        shown.picture(f"hands-{name}")
        assert shown.driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    finally:
        shown.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        shown.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
