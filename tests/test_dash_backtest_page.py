"""The backtest panel in a real browser: candles fetched from a real paper exchange, a run, its report, a reload, a cancel; and the form's fields."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import processes
from core import config
from core.storage import Files
from dash_yard import make_app, served, until
from test_dash_account_page import Over
from test_dash_backtest import NEWS, SLOW, TRADER
from test_dash_page import pytestmark  # noqa: F401 - of all tests here

PLAIN = """
class Wanderer:
    def analyze(self, data):
        return {"signal": "HOLD", "reasoning": "", "recommended_symbol": "ETHUSDT"}
"""


class Page(Over):
    def choose(self, css: str, value: str) -> None:
        from selenium.webdriver.support.ui import Select

        until(lambda: self.one(css) is not None)
        Select(self.one(css)).select_by_value(value)

    def shown(self, css: str) -> bool:
        found = self.one(css)
        return found is not None and bool(found.is_displayed())

    def date(self, css: str, day: str) -> None:
        self.driver.execute_script("const n = document.querySelector(arguments[0]); n.value = arguments[1]; n.dispatchEvent(new Event('input'))", css, day)


@pytest.fixture
def yard(browser: Any, tmp_path: Path) -> Iterator[tuple[Page, processes.Home, Any]]:
    home = processes.Home(tmp_path / "yard")
    for name, text in (("ticker", TRADER), ("slow", SLOW), ("reader", NEWS), ("wanderer", PLAIN)):
        home.strategy(name, text)
    (home.path / "active_bots.json").write_text("[]")
    port = processes.free_port()
    mine = {**{k: home.env[k] for k in ("PAPER_PORT", "PAPER_START", "PAPER_SPEED", "CHECK_INTERVAL")}, "DASHBOARD_PORT": str(port)}
    (home.path / ".env").write_text("".join(f"{k}={v}\n" for k, v in mine.items()))
    try:
        home.paper()
        # Only what starts bots and the yard is the test's; the exchange that candles come from is real.
        app = make_app(Files(home.path), config.load({"BOTYARD_HOME": str(home.path)}))
        until(lambda: not app.extensions["board"].strategies()["reading"], 60)
        with served(app, port) as url:
            yield Page(browser, None, app, url, None), home, app  # type: ignore[arg-type]
            browser.get("about:blank")
        runs = app.extensions["board"].backtests
        for run in runs.ids():
            if runs.state(run)["state"] in ("starting", "running"):
                runs.cancel(run)
        app.extensions["board"].close()
    finally:
        home.end()


def bot(app: Any, **fields: Any) -> int:
    made = app.extensions["board"].create({"name": "BTC Bot", "symbol": "BTCUSDT", "strategy": "ticker", "trade_amount": 300, **fields})
    return int(made["id"])


def test_a_backtest_from_the_first_candle_to_the_report(yard: tuple[Page, processes.Home, Any]) -> None:
    page, _, app = yard
    made = bot(app, check_interval=300)
    page.open(f"/#bot/{made}")
    page.click("#bt-open")
    page.wait("No 5m candles of BTCUSDT are stored yet", "#backtest")
    assert page.one("#bt-fetch").is_selected() and page.one("#bt-cash").get_attribute("value") == "300"
    # what is wrong is said beside its field, and starts nothing
    page.type("#bt-cash", "20")
    page.type("#bt-fee_pct", "many")
    page.click("#bt-run")
    page.wait("must be at least the bot's amount", "#bt-e-cash")
    assert "must be a number" in page.text("#bt-e-fee_pct") and page.one("#bt-fee_pct").get_attribute("aria-invalid") == "true"
    page.type("#bt-cash", "1000")
    page.type("#bt-fee_pct", "0.1")
    page.click("#bt-run")
    until(lambda: "Buy and hold" in page.text("#backtest"), 60)
    said = page.text("#backtest")
    assert "No. 1: ticker on BTCUSDT 5m" in said and "Trades (" in said and "No slippage was assumed" in said
    assert page.one("#backtest canvas") is not None and page.width()[0] <= page.width()[1]
    # a reload finds it
    page.open(f"/#bot/{made}")
    page.wait("Buy and hold", "#backtest")
    assert page.complaints() == []
    # the report runs in a sandbox of its own, and draws
    mine = page.driver.current_window_handle
    page.click("#backtest a[href$='report.html']")
    until(lambda: len(page.driver.window_handles) == 2)
    page.driver.switch_to.window(next(w for w in page.driver.window_handles if w != mine))
    try:
        until(lambda: page.one("#equity canvas") is not None, 15)
        assert page.driver.execute_script("return window.origin") == "null"
        assert "ticker on BTCUSDT 5m" in page.driver.title and page.complaints() == []
    finally:
        page.driver.close()
        page.driver.switch_to.window(mine)
    # and it can be removed
    page.click("#bt-end")
    until(lambda: app.extensions["board"].backtests.ids() == [])
    until(lambda: "No. 1" not in page.text("#backtest"))


def test_a_run_is_cancelled_after_a_reload_and_what_can_not_be_tested_says_why(yard: tuple[Page, processes.Home, Any]) -> None:
    page, _, app = yard
    made, news = bot(app, strategy="slow"), bot(app, strategy="reader")
    page.open(f"/#bot/{made}")
    page.click("#bt-open")
    page.wait("No 5m candles", "#backtest")
    page.click("#bt-fetch")  # off
    page.date("#bt-from", "2024-02-25")
    page.click("#bt-run")
    page.wait("Let them be fetched first", "#backtest")
    page.click("#bt-fetch-run")
    page.wait("Trading through the past", "#backtest")
    page.open(f"/#bot/{made}")
    page.wait("Trading through the past", "#backtest")
    assert page.text("#bt-end") == "Cancel"
    page.click("#bt-end")
    page.wait("It was cancelled", "#backtest")
    page.open(f"/#bot/{news}")
    page.wait("decides by news as well", "#backtest")
    assert not page.shown("#bt-open") and [c for c in page.complaints() if "404" not in c] == []


def test_the_form_asks_where_a_bot_may_follow_only_of_strategies_that_recommend(yard: tuple[Page, processes.Home, Any]) -> None:
    page, _, app = yard
    page.open()
    page.click("#new2")
    until(lambda: len(page.driver.find_elements("css selector", "#f-strategy option")) > 3)
    page.choose("#f-strategy", "ema_trend")
    until(lambda: page.one("#f-stop_loss_pct").get_attribute("placeholder") == "3 (the strategy's own)")
    assert page.one("#f-take_profit_pct").get_attribute("placeholder") == "9 (the strategy's own)"
    assert page.text("#params-h").startswith("Parameters (3") and not page.shown("#follow")
    page.choose("#f-strategy", "wanderer")
    until(lambda: page.shown("#follow"))
    assert page.one("#f-stop_loss_pct").get_attribute("placeholder") == "default"
    for css, text in (("#f-name", "Wanderer"), ("#f-symbol", "BTCUSDT"), ("#f-trade_amount", "300")):
        page.type(css, text)
    page.choose("#f-follow_recommended", "true")
    page.type("#f-symbols", "ethusdt, SOLUSDT")
    page.click("#start-box")
    page.driver.execute_script("document.getElementById('coins').hidden = true")
    page.click("#save")
    until(lambda: len(app.extensions["board"].records()) == 1)
    record = app.extensions["board"].records()[0]
    assert record["follow_recommended"] is True and record["symbols"] == ["ETHUSDT", "SOLUSDT"]
    page.wait("Wanderer", "#bots")
    page.click("#bots .acts .btn[aria-label^='Edit']")
    until(lambda: page.shown("#follow") and page.one("#f-follow_recommended").get_attribute("value") == "true")
    assert page.one("#f-symbols").get_attribute("value") == "ETHUSDT, SOLUSDT"
    page.choose("#f-follow_recommended", "")
    page.type("#f-symbols", "")
    page.click("#save")
    until(lambda: app.extensions["board"].records()[0]["symbols"] is None)
    assert not app.extensions["board"].records()[0]["follow_recommended"] and page.complaints() == []
