"""The page in a real browser: what people name stays text, forms work by keyboard, stale is never shown as live."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chromium import CHROMIUM, DRIVER, WHY_NOT
from core.model import Totals
from dash_yard import DeskExchange, Home, fill, make_app, served, settings, until

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=WHY_NOT)

EVIL = "<img src=x onerror=\"document.title='owned'\"> & </script><b>"


class Shown:
    """The application over a home, served, and the browser that looks at it."""

    def __init__(self, driver: Any, home: Home, app: Any, url: str, desk: DeskExchange):
        self.driver, self.home, self.app, self.url, self.desk = driver, home, app, url, desk
        self.keeper = app.extensions["board"].supervisor

    def open(self, path: str = "/") -> None:
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get(self.url + path)

    def one(self, css: str) -> Any:
        found = self.driver.find_elements("css selector", css)
        return found[0] if found else None

    def text(self, css: str = "main") -> str:
        return str(self.driver.execute_script("const n = document.querySelector(arguments[0]); return n ? n.innerText : ''", css))

    def wait(self, text: str, css: str = "body") -> None:
        until(lambda: text in self.text(css), 15)

    def click(self, css: str) -> None:
        until(lambda: self.one(css) is not None and self.one(css).is_displayed())
        self.one(css).click()

    def type(self, css: str, text: str) -> None:
        self.one(css).clear()
        self.one(css).send_keys(text)

    def complaints(self) -> list[str]:
        """What the browser's console says, a refused script or style included."""
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]


@pytest.fixture
def shown(browser: Any, home: Path) -> Iterator[Shown]:
    yard = Home(home)
    (home / "active_bots.json").write_text("[]")
    chosen, desk = settings(home), DeskExchange()
    app = make_app(yard.files, chosen, exchange=desk)
    with served(app, chosen.dashboard_port) as url:
        yield Shown(browser, yard, app, url, desk)
        browser.get("about:blank")


def test_an_empty_yard_says_what_to_do(shown: Shown) -> None:
    shown.open()
    shown.wait("No bots yet")
    assert shown.one("#new2").is_displayed() and shown.complaints() == []


def test_whatever_people_name_is_shown_as_text(shown: Shown) -> None:
    bot = shown.home.record(name=EVIL, status="running")
    shown.home.status(bot, pid=7, last_check={"signal": "BUY", "reasoning": EVIL, "why_not": EVIL}, warnings=[{"kind": "x", "text": EVIL, "wall_ms": 0}])
    shown.home.log(bot, f"2026-01-01 10:00:00 - ERROR - {EVIL}")
    shown.home.decision(bot, reasoning=EVIL)
    shown.keeper.pids[bot] = 7
    shown.open()
    shown.wait(EVIL, "#bots")
    assert shown.text("#bots").count(EVIL) >= 2
    shown.open(f"/#bot/{bot}")
    shown.wait(EVIL, "#detail")
    shown.click("#tab-log")
    shown.wait(f"ERROR - {EVIL}", "#log")
    shown.click("#tab-decisions")
    shown.wait(EVIL, "#pane")
    assert shown.driver.title == "Botyard" and shown.one("main img") is None
    assert shown.complaints() == []


def test_messages_that_could_not_be_sent_are_shown_as_text_and_go_when_they_are(shown: Shown) -> None:
    told = {"channel": "SMS", "kind": "stop_hit", "text": EVIL, "why": "Twilio: HTTP 401", "state": "queued", "wall_ms": 1_700_000_000_000, "severity": "risk"}
    status = {"schema": 1, "unsent": [told] * 7, "problems": [], "channels": [{"name": "SMS", "problem": "Twilio: HTTP 401"}]}
    shown.home.files.write_json("data/outbox_status.json", status)
    shown.open()
    shown.wait("7 messages could not be sent", "#unsent")
    assert EVIL in shown.text("#unsent") and "SMS: Twilio: HTTP 401" in shown.text("#unsent") and shown.driver.title == "Botyard"
    shown.home.files.write_json("data/outbox_status.json", {"schema": 1, "unsent": [], "problems": [], "channels": []})
    until(lambda: not shown.one("#unsent").is_displayed(), 15)
    assert shown.complaints() == []


def test_a_bot_is_created_and_started_with_the_keyboard_alone(shown: Shown) -> None:
    from selenium.webdriver.common.keys import Keys

    shown.open()
    shown.wait("No bots yet")
    shown.one("#new").send_keys(Keys.ENTER)
    until(lambda: len(shown.driver.find_elements("css selector", "#f-strategy option")) > 1)
    shown.type("#f-symbol", "eth")
    until(lambda: shown.one("#coins li") is not None and shown.one("#coins li").is_displayed())
    shown.one("#f-symbol").send_keys(Keys.ARROW_DOWN, Keys.ENTER)
    assert shown.one("#f-symbol").get_attribute("value") == "ETHUSDT" and shown.one("#f-name").get_attribute("value") == "ETH Bot"
    shown.one("#f-strategy").send_keys("Vol")
    shown.type("#f-trade_amount", "1")
    shown.one("#f-trade_amount").send_keys(Keys.ENTER)
    shown.wait("at least", "#e-trade_amount")
    assert shown.home.files.read_any("active_bots.json") == []
    shown.type("#f-trade_amount", "250")
    shown.one("#f-trade_amount").send_keys(Keys.ENTER)
    shown.wait("ETH Bot has been started.")
    record = shown.home.files.read_any("active_bots.json")[0]
    assert (record["symbol"], record["trade_amount"], record["status"]) == ("ETHUSDT", 250, "running")
    assert "bot_1" in shown.keeper.started


def test_stopping_a_bot_that_holds_coins_asks_first_and_deletion_too(shown: Shown) -> None:
    bot = shown.home.record(status="running")
    shown.home.position(bot, [fill(bot, 1, 1, "BUY", "50000", "0.01")])
    shown.home.status(bot, pid=7)
    shown.keeper.pids[bot] = 7
    shown.open()
    shown.click('button[aria-label="Stop BTC Bot"]')
    shown.wait("nobody watches its stop", "#ask-t")
    shown.click("#ask-no")
    assert shown.keeper.pids == {bot: 7}
    shown.click('button[aria-label="Stop BTC Bot"]')
    shown.click("#ask-yes")
    shown.wait("BTC Bot has been stopped.")
    until(lambda: shown.one('button[aria-label="Delete BTC Bot"]') is not None)
    shown.click('button[aria-label="Delete BTC Bot"]')
    shown.click("#ask-yes")
    shown.wait("can't be deleted while", "#toasts")  # its refusal is shown to the person
    assert len(shown.home.files.read_any("active_bots.json")) == 1


def test_what_needs_a_person_stands_first_and_the_list_can_be_narrowed_to_it(shown: Shown) -> None:
    for n in range(1, 8):
        shown.keeper.pids[shown.home.record(name=f"Bot {n}", status="running")] = n
        shown.home.status(n, pid=n)
    shown.home.position(3, [fill(3, 1, 1, "BUY", "50000", "0.01")])
    del shown.keeper.pids[3]
    shown.open()
    shown.wait("Nobody watches the stop of 1 open position: Bot 3", "#bare")
    shown.wait("Attention 1", "#filter")
    shown.click("#show-attention")
    until(lambda: "Bot 3" in shown.text("#bots") and "Bot 1" not in shown.text("#bots"))
    assert shown.driver.execute_script("return document.activeElement.id") == "show-attention", "the keyboard stays where it was"
    shown.driver.refresh()
    until(lambda: "Bot 3" in shown.text("#bots"))
    assert "Bot 1" not in shown.text("#bots"), "a reload keeps what was chosen"
    shown.keeper.pids[3] = 3
    shown.wait("No bot is like that now.", "#nothing")
    until(lambda: not shown.one("#bare").is_displayed())
    shown.click("#show-open")
    until(lambda: "Bot 3" in shown.text("#bots") and "Bot 1" not in shown.text("#bots"))
    shown.driver.execute_script("sessionStorage.clear()")


def test_times_are_the_readers_and_utc_is_told(shown: Shown) -> None:
    bot = shown.home.record(status="running")
    shown.home.status(bot, pid=7, last_check={"signal": "HOLD", "reasoning": "waits", "market_ms": 1_704_067_200_000})
    shown.keeper.pids[bot] = 7
    shown.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "America/St_Johns"})
    try:
        shown.open()
        shown.wait("2023-12-31 20:30", "#bots")
        assert shown.one("#bots time").get_attribute("title") == "2024-01-01 00:00 UTC"
        assert "America/St Johns, now UTC−" in shown.text("#zone") and "limits and backtests are UTC" in shown.text("#zone")
    finally:
        shown.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ""})


def test_a_form_says_so_when_somebody_else_changed_its_field_meanwhile(shown: Shown) -> None:
    bot = shown.home.record(limits={"trades_per_day": {"soft": 3}})
    registry = shown.app.extensions["board"].registry
    shown.open()
    shown.click('button[aria-label="Edit BTC Bot"]')
    until(lambda: bool(shown.one("#f-strategy").get_attribute("value")))
    registry.update(bot, {"limits": {"trades_per_day": {"soft": 9}}, "name": "Renamed"})
    shown.type("#l-trades_per_day-soft", "4")
    shown.click("#save")
    shown.wait("changed by somebody else meanwhile", "#e-limits")
    assert registry.bot(bot)["limits"] == {"trades_per_day": {"soft": 9}}
    shown.click("#cancel")
    until(lambda: shown.one('button[aria-label="Edit Renamed"]') is not None)
    shown.click('button[aria-label="Edit Renamed"]')
    until(lambda: bool(shown.one("#f-strategy").get_attribute("value")))
    shown.type("#l-trades_per_day-soft", "4")
    shown.click("#save")
    shown.wait("Saved.", "#toasts")
    assert registry.bot(bot)["limits"] == {"trades_per_day": {"soft": 4}}


def test_the_keyboard_goes_into_a_bots_page_and_comes_back_to_its_row(shown: Shown) -> None:
    shown.home.record(name="First")
    shown.home.record(name="Second")
    shown.open()
    shown.wait("Second")
    shown.driver.execute_script("document.querySelectorAll('#bots .name')[1].focus()")
    shown.driver.switch_to.active_element.send_keys("\n")
    until(lambda: shown.driver.execute_script("return document.activeElement.id") == "main")
    shown.driver.back()
    until(lambda: shown.driver.switch_to.active_element.text == "Second")


def test_a_bots_own_page_has_chart_curve_trades_and_a_log_that_goes_on(shown: Shown) -> None:
    bot = shown.home.record(status="running")
    fills = [fill(bot, 1, 1, "BUY", "50000", "0.01"), fill(bot, 2, 1, "SELL", "51000", "0.01", tag="take_profit"), fill(bot, 3, 2, "BUY", "50200", "0.01")]
    position = shown.home.position(bot, [fills[2]], trade=2, totals=Totals(fills[1].quote - fills[0].quote, 1, 1, 0))
    shown.home.journal(position, fills)
    shown.home.status(bot, pid=7)
    shown.home.log(bot, "2026-01-01 10:00:00 - INFO - first line")
    shown.keeper.pids[bot] = 7
    shown.open(f"/#bot/{bot}")
    shown.wait("take profit", "#pane")
    until(lambda: len(shown.driver.find_elements("css selector", ".chart canvas")) > 2)
    until(
        lambda: bool(
            shown.driver.execute_script("const c = document.querySelector('.equity canvas'); return c && Chart.getChart(c)?.data.datasets[0].data.length === 2")
        )
    )
    shown.click("#tab-log")
    shown.wait("first line", "#log")
    shown.home.log(bot, "2026-01-01 10:00:05 - WARNING - second line")
    shown.wait("second line", "#log")
    assert shown.text("#log").count("first line") == 1
    assert shown.complaints() == []


def test_when_the_dashboard_is_gone_nothing_is_shown_as_live(shown: Shown) -> None:
    shown.home.record()
    shown.open()
    shown.wait("BTC Bot")
    assert shown.text("#link") == "up to date"
    # The browser is told that there is no network: the same to it as a dashboard that is gone.
    shown.driver.set_network_conditions(offline=True, latency=0, throughput=0)
    try:
        shown.wait("no connection", "#link")
        shown.wait("can't be reached", "#gone")
        assert shown.one("body.stale") is not None and "old" in shown.text("#gone")
    finally:
        shown.driver.set_network_conditions(offline=False, latency=0, throughput=-1)
    until(lambda: shown.text("#link") == "up to date")
    assert not shown.one("#gone").is_displayed()


def test_a_broken_list_of_bots_is_told_on_the_page(shown: Shown) -> None:
    shown.home.record()
    shown.open()
    shown.wait("BTC Bot")
    shown.home.files.path("active_bots.json").write_text("[{")
    shown.wait("active_bots.json", "#broken")
    assert shown.text("#link") == "no connection"


@pytest.mark.parametrize("width", [1400, 1024, 420])
def test_nothing_sticks_out_of_the_window(shown: Shown, width: int) -> None:
    bot = shown.home.record(name="W" * 60, status="running")
    shown.home.position(bot, [fill(bot, 1, 1, "BUY", "50000", "0.01")])
    shown.home.status(bot, pid=7, last_check={"reasoning": "x" * 400})
    shown.keeper.pids[bot] = 7
    crashed = shown.home.record(name="WWW", status="running")  # it has the most buttons
    shown.home.position(crashed, [fill(crashed, 1, 1, "BUY", "50000", "0.01")])
    shown.home.status(crashed, pid=8)
    shown.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500})
    try:
        for path in ("/", f"/#bot/{bot}"):
            shown.open(path)
            shown.wait("WWW")
            assert shown.driver.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        shown.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_login_by_hand_opens_the_page(browser: Any, home: Path) -> None:
    (home / "active_bots.json").write_text("[]")
    chosen = settings(home, DASHBOARD_PASSWORD="correct horse")
    app = make_app(Home(home).files, chosen)
    with served(app, chosen.dashboard_port) as url:
        page = Shown(browser, Home(home), app, url, DeskExchange())
        page.open()
        until(lambda: page.one("input[name=password]") is not None)
        page.type("input[name=user]", "admin")
        page.type("input[name=password]", "wrong")
        page.click("form button")
        page.wait("wrong.")
        page.type("input[name=user]", "admin")
        page.type("input[name=password]", "correct horse")
        page.click("form button")
        page.wait("No bots yet")
        page.click("#logout")
        until(lambda: page.one("input[name=password]") is not None)
        browser.get("about:blank")
