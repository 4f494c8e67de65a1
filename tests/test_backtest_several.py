"""One strategy on several symbols: a pot each or one pot, and the account that comes out of it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.backtest import engine, metrics, prepare, several
from core.errors import InputError
from core.storage import loads
from tests.backtest_help import walk_bars
from tests.test_backtest_command import as_json, rows
from utils import backtest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "BTC_USDT-5m.json").write_text(as_json(rows(walk_bars(1500, seed=11))))
    (tmp_path / "ETH_USDT-5m.json").write_text(as_json(rows(walk_bars(1500, seed=12))))
    (tmp_path / "XYZ_EUR-5m.json").write_text(as_json(rows(walk_bars(1500, seed=13))))
    return tmp_path


def prepared(folder: Path, *names: str, **fields: Any) -> list[prepare.Prepared]:
    quotes = {"XYZEUR": "EUR"}
    return [prepare.prepare(prepare.Wanted("scalping", n, "5m", data=folder, quote=quotes.get(n), cash=Decimal(1000), **fields)) for n in names]


def test_with_a_pot_each_every_symbol_trades_as_it_would_alone(folder: Path) -> None:
    parts = prepared(folder, "BTCUSDT", "ETHUSDT")
    results = several.run(parts, "each")
    for p, r in zip(parts, results, strict=True):
        assert list(r.trades) == list(engine.run(p.config, p.bars, p.strategy).trades) and len(r.trades) > 5
    whole = several.total(results, [p.bars for p in parts])
    assert whole.config.cash == 2000 and len(whole.trades) == sum(len(r.trades) for r in results)
    assert [t.exit_time for t in whole.trades] == sorted(t.exit_time for t in whole.trades)
    alone = results[0].equity.value + results[1].equity.value
    assert np.abs(whole.equity.value - alone).max() < 0.5, "the curve out of trades is that of the accounts, but for dust"
    assert float(metrics.of(whole).profit) == pytest.approx(whole.equity.value[-1] - 2000)


def test_with_one_pot_the_cash_is_there_once_and_shared(folder: Path) -> None:
    parts = prepared(folder, "BTCUSDT", "ETHUSDT")
    results = several.run(parts, "one")
    assert [r.config.cash for r in results] == [500, 500]
    whole = several.total(results, [p.bars for p in parts])
    assert whole.config.cash == 1000
    assert all(t.entry_price * t.quantity <= 700 for t in whole.trades), "nobody spends the other's part"
    each = several.run([replace(p, config=replace(p.config, cash=Decimal(500), plan=replace(p.config.plan, trade_amount=Decimal(500)))) for p in parts], "each")
    assert [list(r.trades) for r in results] == [list(r.trades) for r in each], "equal parts that nobody exceeds are accounts each"


def test_amounts_of_different_assets_are_not_summed_and_other_pots_not_known(folder: Path) -> None:
    with pytest.raises(InputError, match="EUR, USDT"):
        several.run(prepared(folder, "BTCUSDT", "XYZEUR"), "each")
    with pytest.raises(InputError, match="each, one"):
        several.run(prepared(folder, "BTCUSDT"), "all")


def test_the_command_takes_several_symbols_and_tells_them_apart_and_together(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    base = ["--strategy", "scalping", "--symbol", "BTCUSDT,ETHUSDT", "--timeframe", "5m", "--cash", "1000", "--data"]
    assert backtest.main([*base, str(folder), "--pot", "one", "--json", "--csv", str(tmp_path / "t.csv"), "--report", str(tmp_path / "r.html")]) == 0
    found = loads(capsys.readouterr().out)
    assert set(found["symbols"]) == {"BTCUSDT", "ETHUSDT"} and found["pot"] == "one"
    assert found["metrics"]["trades"] == sum(len(s["trades"]) for s in found["symbols"].values())
    assert found["metrics"]["profit"] == sum(s["metrics"]["profit"] for s in found["symbols"].values())
    assert (tmp_path / "r-BTCUSDT.html").exists() and len((tmp_path / "t.csv").read_text().splitlines()) == found["metrics"]["trades"] + 1
    assert backtest.main([*base, str(folder)]) == 0
    assert "together" in capsys.readouterr().out
    for wrong in (["--symbol", "BTCUSDT,BTCUSDT"], ["--check-lookahead"]):
        assert backtest.main([*base, str(folder), *wrong]) == 2
    assert backtest.main([*base, str(folder / "BTC_USDT-5m.json")]) == 2
    assert "need a folder" in capsys.readouterr().err
