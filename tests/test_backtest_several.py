"""One strategy on several symbols: a pot each or one pot, and the account that comes out of it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.backtest import engine, exact, metrics, prepare, several
from core.errors import InputError
from core.market.bars import Bars
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


# --- symbols that come late, go early and have gaps ------------------------------------------------

NAMES = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "LTCUSDT")


def uneven() -> list[Bars]:
    """Four coins with equal instants: one from the start to the end, one listed later, one delisted, one with two gaps."""
    whole = [replace(walk_bars(1000, seed=20 + i, move=0.004), symbol=name) for i, name in enumerate(NAMES)]
    kept = np.ones(1000, np.bool_)
    kept[400:440] = kept[700:790] = False
    holed = Bars(NAMES[3], "5m", *(column[kept] for column in whole[3].columns()))  # type: ignore[arg-type]
    return [whole[0], whole[1].cut(400, None), whole[2].cut(None, 700), holed]


def parts_of(candles: list[Bars], **fields: Any) -> list[prepare.Prepared]:
    found = []
    for bars in candles:
        wanted = prepare.Wanted("scalping", bars.symbol, "5m", cash=Decimal(1000), **fields)
        strategy = prepare.build(wanted, {})
        found.append(prepare.Prepared(prepare.configure(wanted, strategy, prepare.symbol_of(bars.symbol, bars), "5m"), bars, strategy))
    return found


POTS = (("compound", None), ("compound", 700), ("fixed", 200), ("all_available", None))


@pytest.mark.parametrize(("sizing", "amount"), POTS)
def test_each_is_what_it_would_be_alone_and_one_pot_is_never_overdrawn(monkeypatch: pytest.MonkeyPatch, sizing: str, amount: int | None) -> None:
    parts = parts_of(uneven(), sizing=sizing, trade_amount=None if amount is None else Decimal(amount))
    for p, r in zip(parts, several.run(parts, "each"), strict=True):
        assert list(r.trades) == list(engine.run(p.config, p.bars, p.strategy, engine="exact").trades) and len(r.trades) > 5
    logs: list[exact.Played] = []
    plain = exact.play
    monkeypatch.setattr(exact, "play", lambda *a, **k: logs.append(plain(*a, **k)) or logs[-1])
    results = several.run(parts, "one")
    (played,) = logs
    assert min(amount for _, _, amount in played.log) >= 0, "neither cash nor a coin is ever below nothing"
    (*_, cash) = (left for _, asset, left in played.log if asset == "USDT")
    whole = several.total(results, [p.bars for p in parts], Decimal(1000))
    profit = sum(t.profit for t in whole.trades)
    assert whole.config.cash == 1000 and profit == cash - 1000, "all that the account gained are its trades' profits"
    assert whole.equity.value[-1] == pytest.approx(float(cash), abs=1e-6)
    assert whole.equity.value.min() > 0 and all(r.equity.value.min() > 0 for r in results)
    assert [t.exit_time for t in whole.trades] == sorted(t.exit_time for t in whole.trades)


def test_what_was_refused_is_told_of_the_symbol_that_it_was_refused_to(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = parts_of(uneven(), sizing="fixed", trade_amount=Decimal(900))
    results = several.run(parts, "one")
    counts = [sum(r.refused.values()) for r in results]
    assert sum(counts) > 20 and len(set(counts)) > 1, counts
    whole = several.total(results, [p.bars for p in parts], Decimal(1000))
    assert sum(whole.refused.values()) == sum(counts)
    line = ["--strategy", "scalping", "--symbol", "BTCUSDT,ETHUSDT", "--timeframe", "5m", "--cash", "1000", "--trade-amount", "900", "--sizing", "fixed"]
    assert backtest.main([*line, "--data", str(folder), "--pot", "one", "--json"]) == 0
    found = loads(capsys.readouterr().out)
    assert found["metrics"]["cash"] == 1000 and float(found["metrics"]["equity_final"]) == pytest.approx(1000 + float(found["metrics"]["profit"]), abs=1e-6)
    assert backtest.main([*line, "--data", str(folder), "--pot", "one"]) == 0
    assert "USDT: not done" in capsys.readouterr().out
