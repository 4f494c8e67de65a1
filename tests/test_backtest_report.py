"""The report: one file that needs no network, escapes what people wrote, and shows every trade."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.backtest import metrics, report
from core.model import StrategyRef
from core.storage import loads
from tests.backtest_help import HOUR, START, bars_of, config, result, trade

EVIL = "<img src=x onerror=\"document.title='owned'\"> & </script><b> @@DATA@@"
CLOSES = [100 + (i * 7) % 23 for i in range(24 * 70)]


def sample(**fields: Any) -> Any:
    trades = [trade(i * 20, i * 20 + 9, str((i % 7) - 3), reason="stop_loss" if i % 2 else EVIL) for i in range(80)]
    values = [1000 + (i % 40) - i / 50 for i in range(len(CLOSES))]
    made = result(values, trades, strategy=StrategyRef("sma_cross", "1", {"note": EVIL}), **fields)
    return dataclasses.replace(made, refused={EVIL: 2}, warnings=("A jump: " + EVIL,))


def test_json_holds_settings_figures_and_every_trade_with_exact_money() -> None:
    made = sample()
    found = loads(report.json_text(made, metrics.of(made)))
    assert set(found) == {"schema", "settings", "metrics", "trades", "warnings", "refused"}
    assert len(found["trades"]) == 80
    assert {"entry_time", "exit_time", "entry_price", "exit_price", "quantity", "profit", "profit_pct", "exit_reason"} <= set(found["trades"][0])
    assert found["trades"][0]["profit"] == Decimal(-3) and found["metrics"]["profit"] == sum(t.profit for t in made.trades)
    assert found["metrics"]["trades"] == 80 and found["settings"]["strategy"] == "sma_cross"


def test_csv_has_a_line_a_trade_and_nothing_that_a_spreadsheet_would_run() -> None:
    lines = list(csv.reader(io.StringIO(report.csv_text([trade(0, 2, "-1.5", reason="=HYPERLINK(1)"), trade(3, 4, "2", reason='a "b", c')]))))
    named = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    assert [r["profit"] for r in named] == ["-1.5", "2"]
    assert named[0]["exit_reason"] == "'=HYPERLINK(1)" and named[1]["exit_reason"] == 'a "b", c'
    assert named[0]["entry_utc"] == report.utc(START) and int(named[0]["exit_time"]) == START + 2 * HOUR


def test_the_page_asks_no_network_and_carries_the_licences() -> None:
    page = report.html_text(sample(), bars_of(CLOSES))
    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//(?!www\.tradingview\.com)", markup)
    assert "default-src 'none'" in page
    for words in ("Released under the MIT License", "Licensed under Apache License 2.0", "https://www.tradingview.com/"):
        assert words in page


def test_what_people_wrote_stands_in_the_page_as_text() -> None:
    page = report.html_text(sample(), bars_of(CLOSES))
    assert "<img src=x" not in page and "&lt;img src=x" in page
    assert page.count('id="data">{') == 1, "the data are put in once, also where a text names their place"
    assert "@@DATA@@" in page


def test_gaps_and_assumptions_are_told() -> None:
    rows = [*range(40), *range(45, 80)]
    bars = bars_of(CLOSES[:80]).cut(None, None)
    holed = type(bars)(bars.symbol, bars.timeframe, *(column[rows] for column in bars.columns()))  # type: ignore[arg-type]
    told = " ".join(report.notes(result([1000.0] * 80, [trade(0, 1, "1")], filters=False, fee_mode="quote"), holed))
    assert "5 candles missing (1 gap)" in told and "No slippage" in told and "So few trades (1)" in told
    assert "rules on steps" in told and "quote asset" in told
    assert report.assumptions(config(slippage_pct=Decimal("0.1")), []) == []


def test_a_run_without_a_trade_or_a_candle_still_makes_a_report() -> None:
    assert "No month was traded" in report.html_text(result(), bars_of([1, 2]))
    assert "&lt;" not in report.html_text(result([1000.0] * 3), bars_of([1, 2, 3])).split("<script")[0]


def test_many_candles_are_joined_to_what_a_screen_can_show() -> None:
    closes = [100.0 + i % 50 for i in range(10_000)]
    data = report.chart_data(result([1000.0 - i % 9 for i in range(10_000)]), bars_of(closes))
    assert len(data["candles"]) <= report.POINTS and data["joined"] == 4
    assert max(c[2] for c in data["candles"]) == 149 and min(c[3] for c in data["candles"]) == 100
    assert data["candles"][-1][4] == closes[-1] and min(e[2] for e in data["equity"]) == pytest.approx(-0.8)


def test_a_bar_of_results_never_holds_winners_and_losers_both() -> None:
    bins = report.histogram([-3.0, -0.01, 0.0, 0.01, 7.5, 2.0])
    assert sum(b[2] for b in bins) == 6 and not any(b[0] < 0 < b[1] for b in bins)
    assert report.histogram([]) == [] and sum(b[2] for b in report.histogram([0.0, 0.0])) == 2


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_in_a_browser_the_report_draws_and_lists_and_nothing_sticks_out(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    report.write(tmp_path / "r.html", report.html_text(sample(), bars_of(CLOSES)))
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.get((tmp_path / "r.html").as_uri())
    assert browser.get_log("browser") == []
    assert browser.title == "Backtest: sma_cross on BTCUSDT 1h"
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    for box in ("equity", "drawdown", "price"):
        assert browser.execute_script(f"return document.querySelectorAll('#{box} canvas').length") > 0
    assert len(browser.find_elements("css selector", "#rows tr")) == 50
    browser.execute_script("document.getElementById('after').click()")
    assert len(browser.find_elements("css selector", "#rows tr")) == 30
    browser.execute_script("document.querySelectorAll('#heads button')[7].click()")  # best profit first
    first = browser.execute_script("return [...document.querySelectorAll('#rows tr:first-child td')].map(e => e.textContent)")
    assert first[7] == "3.00"
    browser.execute_script("document.querySelector('#rows tr').click()")
    assert browser.get_log("browser") == []
