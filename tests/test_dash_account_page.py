"""Account & risk in a real browser: with real bots on a real paper exchange, and over a home whose figures the test knows."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

import processes
from core import config
from core.account import access, guard_files
from core.account.budget import FILE, Budget, host_of
from core.bot import ids
from core.clock import wall_ms
from core.fleet import kill as switch
from core.fleet import maintenance
from core.model import OrderRequest
from core.storage import Files, installation, loads
from dash_yard import SYMBOLS, Home, fill, make_app, served, settings, until
from fleet_help import Yardful
from patience import patience
from test_dash_account import ACCOUNT, Held, trip
from test_dash_page import EVIL, Shown, pytestmark  # noqa: F401 - of all tests here

D = Decimal
SHOTS = os.environ.get("SHOTS")  # a folder for pictures, for people who work on the page


class Over(Shown):
    def picture(self, name: str) -> None:
        if SHOTS:
            self.driver.save_screenshot(f"{SHOTS}/{name}.png")

    def say(self, text: str) -> None:
        """Type into the question's field, and press Enter."""
        from selenium.webdriver.common.keys import Keys

        until(lambda: self.one("#ask-word").is_displayed())
        self.type("#ask-word", text)
        self.one("#ask-word").send_keys(Keys.ENTER)

    def width(self) -> tuple[int, int]:
        return tuple(self.driver.execute_script("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"))


# --- with real bots ----------------------------------------------------------------------------


class Real:
    """A paper exchange, a yard and bots as processes, and the page over them."""

    def __init__(self, folder: Path, driver: Any, url: str, app: Any):
        self.files, self.url = Files(folder), url
        self.page = Over(driver, None, app, url, None)  # type: ignore[arg-type]

    def rows(self) -> list[dict[str, Any]]:
        told = requests.get(self.url + "/api/overview", timeout=patience(10))
        return list(loads(told.content)["bots"])

    def post(self, path: str, body: Any) -> Any:
        answer = requests.post(self.url + path, json=body, timeout=patience(60))
        assert answer.status_code < 400, answer.text
        return answer.json()

    def bots(self, *symbols: str, **more: Any) -> None:
        """Bots that buy at their first check; returns when all of them hold something."""
        for symbol in symbols:
            made = self.post("/api/create-bot", {"name": f"{symbol} Bot", "symbol": symbol, "strategy": "buy_once", "trade_amount": 300, **more})
            self.post(f"/api/bot/{made['bot']['id']}/start", {})
        until(lambda: all(r["position"] and not r["unresolved"] for r in self.rows()), 40)


@pytest.fixture
def real(browser: Any, tmp_path: Path) -> Iterator[Real]:
    home = processes.Home(tmp_path / "yard")
    home.strategy("buy_once", processes.BUY_ONCE)
    (home.path / "active_bots.json").write_text("[]")
    prefix, port = f"t{secrets.token_hex(4)}_", processes.free_port()
    mine = {**{k: home.env[k] for k in ("PAPER_PORT", "PAPER_START", "PAPER_SPEED", "CHECK_INTERVAL")}, "SESSION_PREFIX": prefix, "DASHBOARD_PORT": str(port)}
    (home.path / ".env").write_text("".join(f"{k}={v}\n" for k, v in mine.items()))
    yard = Yardful(home.path, "screen", prefix)
    try:
        home.paper()
        import simple_dash

        app = simple_dash.create_app(config.load({"BOTYARD_HOME": str(home.path)}), Files(home.path))
        with served(app, port) as url:
            yield Real(home.path, browser, url, app)
            browser.get("about:blank")
        app.extensions["board"].close()
    finally:
        yard.clean_up()
        home.end()


def test_the_kill_switch_sells_everything_of_real_bots_and_is_lifted(real: Real) -> None:
    real.bots("BTCUSDT", "ETHUSDT")
    page = real.page
    page.open("/#yard")
    page.click("#kill-flatten")
    page.wait("2 positions are sold", "#ask-t")
    assert "BTCUSDT Bot (paper)" in page.text("#ask-l") and "ETHUSDT Bot (paper)" in page.text("#ask-l")
    page.say("flatten")
    page.wait("in capitals", "#ask-wrong")
    assert switch.read(real.files) is None
    page.picture("kill-ask")
    pressed = wall_ms()
    page.say("FLATTEN")
    page.wait("Everything is flat", "#over")
    print(f"flat {wall_ms() - pressed} ms after the word was typed")
    assert all(r["position"] is None for r in real.rows())
    page.wait("The kill switch is on", "#killed")
    for view in ("/", "/#bot/1"):
        page.open(view)
        page.wait("everything is sold, and nothing is bought (by dashboard", "#killed")
    page.open("/#yard")
    page.click("#kill-off")
    page.click("#ask-yes")
    until(lambda: switch.read(real.files) is None)
    until(lambda: not page.one("#killed").is_displayed())
    page.click("#kill-entries")
    page.click("#ask-yes")
    page.wait("nothing is bought", "#killed")
    page.wait("no entries", "#over")
    assert (switch.read(real.files) or {})["what"] == "entries" and page.complaints() == []


def test_maintenance_guards_and_pots_of_real_bots_by_hand(real: Real) -> None:
    real.bots("BTCUSDT")
    page = real.page
    # a pot
    page.open("/#bot/1")
    page.wait("Its pot is 300.00 USDT", "#detail")
    page.type("#hand-pot", "50.5")
    page.wait("topped up 350.50, paid out 249.50", "#detail")
    page.click("#hand-pot-in")
    page.wait("300.00 USDT now and 350.50 USDT afterwards", "#ask-t")
    page.click("#ask-yes")
    page.wait("was 300.00 USDT and is 350.50 USDT", "#toasts")
    page.type("#hand-pot", "300")
    page.click("#hand-pot-out")
    page.click("#ask-yes")
    page.wait("more than can be paid out", "#toasts")
    page.wait("Its pot is 350.50 USDT", "#detail")
    # the account's limits, while the bot holds more than the soft level allows
    page.open("/#yard")
    page.wait("Holdings", "#over")
    page.wait("BTCUSDT Bot 0.00", "#over")
    page.click("#edit-paper-main-USDT")
    page.type("#a-exposure_pct-soft", "20")
    page.type("#a-exposure_pct-hard", "500")
    page.click("#limits-save")
    page.wait("no entries now", "#over")
    assert guard_files.read_accounts(real.files) == {ACCOUNT: {"exposure_pct": {"soft": D(20), "hard": D(500)}}}
    page.click("#reset-paper-main-USDT-exposure-pct")
    page.click("#ask-yes")
    page.wait("It begins anew", "#toasts")
    # maintenance
    page.type("#maint-note", "new disk")
    page.click("#maint-on")
    page.click("#ask-yes")
    page.wait("Maintenance mode is on", "#paused")
    until(lambda: real.rows()[0]["status"] == "stopped", 30)
    assert real.rows()[0]["wanted"] == "running" and maintenance.read(real.files).note == "new disk"
    page.open("/")
    page.wait("new disk", "#paused")
    until(lambda: page.one("#bots .btn.go") is not None)
    assert not page.one("#bots .btn.go").is_enabled() and "new disk" in page.one("#bots .btn.go").get_attribute("title")
    # an order of this yard that no bot knows, while its bot doesn't run
    lost = ids.client_id(installation(real.files), 1, 900, wall_ms())
    client = access.client(config.load({"BOTYARD_HOME": str(real.files.home)}))
    client.connect(installation(real.files))
    client.place(OrderRequest(lost, "BTCUSDT", "BUY", "LIMIT", quantity=D("0.001"), price=round(client.price("BTCUSDT") * D("0.9"), 1), life="GTC"))
    page.open("/#yard")
    page.wait("this yard's, but no bot knows it", "#over")
    page.click(f"#orphan-{lost}")
    page.click("#ask-yes")
    page.wait(f"order {lost} on BTCUSDT is cancel", "#toasts")
    until(lambda: page.one(f"#orphan-{lost}") is None)
    page.click("#maint-off")
    until(lambda: real.rows()[0]["status"] == "running", 30)
    page.wait("Begin maintenance", "#over")
    assert not page.one("#paused").is_displayed()


# --- over a home whose figures the test knows ----------------------------------------------------


@pytest.fixture
def shown(browser: Any, home: Path) -> Iterator[Over]:
    yard = Home(home)
    bot = yard.record(EVIL, status="running", limits={"daily_loss_pct": {"soft": D(3), "hard": D(6)}, "memory_mb": 200})
    first = fill(bot, 1, 1, "BUY", "50000", "0.01")
    yard.journal(yard.position(bot, [first]), [first])
    yard.status(bot, pid=7)
    yard.record("Ether", "ETHUSDT", amount="300")
    chosen, desk = settings(home), Held()
    app = make_app(yard.files, chosen, {bot: 7}, desk)
    app.extensions["board"].market.desk("paper")._symbols.update(SYMBOLS)
    with served(app, chosen.dashboard_port) as url:
        yield Over(browser, yard, app, url, desk)
        browser.get("about:blank")
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_what_stands_is_shown_as_text_and_fits_a_phone(shown: Over) -> None:
    trip(shown, "bot_1")  # type: ignore[arg-type]
    sample = {"memory_mb": 612.5, "cpu_pct": 3.1, "disk_mb": 0.4, "at_wall_ms": wall_ms()}
    bots = {"1": {"resources": sample}, "2": {"resources": {**sample, "memory_mb": 41}}}
    shown.home.files.write_json("data/yard_status.json", {"schema": 1, "bots": bots, "units": {}})
    budget = Budget(shown.home.files.path(FILE), host_of(f"http://127.0.0.1:{shown.app.extensions['board'].settings.paper_port}"), wall_ms)
    budget.take(4500, "exit")
    budget.told(418, {}, 90)
    budget.close()
    for width in (1280, 390):
        shown.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500})
        shown.open("/#yard")
        shown.wait(f"{EVIL} 0.01", "#over")
        shown.wait("tripped: sold", "#over")
        shown.wait("4,500 of 6,000", "#over")
        shown.wait("Banned: nothing is sent to this host for", "#over")
        shown.wait("memory 612 MB, above its limit of 200 MB", "#over")
        wide, seen = shown.width()
        assert wide <= seen, "nothing makes the page wider than the screen"
        shown.picture(f"over-{width}")
    assert shown.driver.title == "Botyard" and shown.complaints() == []


def test_everything_can_be_sold_while_the_list_of_bots_can_not_be_read(shown: Over) -> None:
    shown.home.files.path("active_bots.json").write_text("{")
    shown.open("/#yard")
    shown.wait("active_bots.json", "#broken")
    shown.click("#kill-flatten")
    shown.wait("The list of bots can't be read now", "#ask-t")
    shown.wait("bot 1: a LONG position is open", "#ask-l")
    shown.say("FLATTEN")
    until(lambda: (switch.read(shown.home.files) or {}).get("what") == "flatten")
    shown.wait("1 position is still open: bot 1", "#over")
    shown.click("#kill-off")
    shown.click("#ask-yes")
    until(lambda: switch.read(shown.home.files) is None)


def test_processes_are_sorted_by_what_is_clicked(shown: Over) -> None:
    used = {"cpu_pct": 3.1, "disk_mb": 0.4, "at_wall_ms": wall_ms()}
    bots = {"1": {"resources": {**used, "memory_mb": 41}}, "2": {"resources": {**used, "memory_mb": 80}}}
    shown.home.files.write_json("data/yard_status.json", {"schema": 1, "bots": bots, "units": {}})
    shown.open("/#yard")
    shown.wait("Ether", "#over")

    def order() -> list[str]:
        cells = shown.driver.find_elements("css selector", "[aria-label=Machine] tbody td:first-child")
        return [c.text for c in cells]

    until(lambda: order() == ["Ether", EVIL])
    shown.click("#sort-memory_mb")
    until(lambda: order() == [EVIL, "Ether"])
    assert shown.driver.execute_script("return document.activeElement.id") == "sort-memory_mb", "the keyboard stays where it was"
    shown.click("#sort-name")
    until(lambda: order() == [EVIL, "Ether"])


def test_a_tripped_guard_is_seen_in_the_list_and_reset_by_hand(shown: Over) -> None:
    trip(shown, "bot_1")  # type: ignore[arg-type]
    shown.open()
    shown.wait("guard: sold", "#bots")
    shown.open("/#bot/1")
    shown.wait("A guard has tripped: the drawdown from the peak is 12.00 %", "#detail")
    shown.open("/#yard")
    shown.click("#reset-bot-1-drawdown-pct")
    shown.wait("entries are allowed again", "#ask-t")
    shown.click("#ask-no")
    assert guard_files.read_state(shown.home.files)["scopes"]["bot_1"]["trips"]
    shown.click("#reset-bot-1-drawdown-pct")
    shown.click("#ask-yes")
    until(lambda: guard_files.read_state(shown.home.files)["scopes"]["bot_1"]["trips"] == {})
    until(lambda: shown.one("#reset-bot-1-drawdown-pct") is None)


def test_limits_that_are_none_are_marked_and_what_was_typed_stays(shown: Over) -> None:
    shown.open("/#yard")
    shown.click("#edit-paper-main-USDT")
    shown.type("#a-drawdown_pct-soft", "abc")
    shown.click("#limits-save")
    shown.wait("plain number", "#limits-error")
    assert shown.one("#a-drawdown_pct-soft").get_attribute("aria-invalid") == "true"
    shown.type("#a-drawdown_pct-soft", "20")
    shown.type("#a-drawdown_pct-hard", "10")
    shown.click("#limits-save")
    shown.wait("Fall from the peak has “all sold at” 10, which must lie above “no entries at” 20", "#limits-error")
    assert shown.one("#a-drawdown_pct-hard").get_attribute("value") == "10" and not shown.home.files.exists("guards.json")
    shown.picture("limits-wrong")


def test_a_bots_limits_are_edited_in_its_form(shown: Over) -> None:
    shown.open()
    shown.wait("Ether", "#bots")
    shown.click("[aria-label^='Edit <img']")
    until(lambda: shown.one("#l-daily_loss_pct-soft").is_displayed())
    assert (shown.one("#l-daily_loss_pct-soft").get_attribute("value"), shown.one("#l-memory_mb").get_attribute("value")) == ("3", "200")
    shown.wait("Volatile", "#f-strategy")
    shown.type("#l-daily_loss_pct-hard", "2")
    shown.click("#save")
    shown.wait("must lie above “no entries at” 3", "#e-limits")
    shown.type("#l-daily_loss_pct-hard", "7.5")
    shown.type("#l-trades_per_day-soft", "12")
    shown.one("#l-memory_mb").clear()
    shown.click("#save")
    until(lambda: not shown.one("#edit").is_displayed())
    kept = loads((shown.home.files.home / "active_bots.json").read_bytes())[0]["limits"]
    assert kept == {"daily_loss_pct": {"soft": 3, "hard": D("7.5")}, "trades_per_day": {"soft": 12}}


def test_an_exchange_that_does_not_answer_is_told_beside_the_guards(shown: Over) -> None:
    shown.desk.down = True
    shown.open("/#yard")
    shown.wait("What the account holds can't be told", "#over")
    shown.wait("The day's loss", "#over")
    assert not shown.one("#over [aria-label=Holdings]")
