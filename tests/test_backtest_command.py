"""utils/backtest.py: what it takes, what it says, which exit code it ends with."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.backtest import prepare
from core.errors import InputError, NotFound
from core.market.bars import price_text
from core.market.history import CandleStore
from core.model import Venue, row12
from core.storage import loads
from tests.backtest_help import START, walk_bars
from utils import backtest

ROOT = Path(__file__).resolve().parent.parent
BARS = walk_bars(1200, seed=4)
LOOKS_AHEAD = '''
from strategies.base import Strategy

class Oracle(Strategy):
    """Knows the next close."""
    key = "oracle"
    warmup = 2

    def signals(self, candles):
        return (candles["close"].shift(-1) > candles["close"]).astype(int).to_numpy()
'''
BREAKS = '''
from strategies.base import Strategy

class Breaks(Strategy):
    """Divides by zero."""
    key = "breaks"
    warmup = 2

    def signals(self, candles):
        return 1 // 0
'''


def rows(bars: Any = BARS) -> list[list[Any]]:
    told = []
    for i in range(len(bars)):
        o, h, low, c = (price_text(int(column[i])) for column in (bars.open, bars.high, bars.low, bars.close))
        told.append(row12(int(bars.open_ms[i]), o, h, low, c, str(int(bars.volume[i])), int(bars.open_ms[i]) + bars.length_ms - 1))
    return told


def as_json(told: list[list[Any]]) -> str:
    """`[[ms, open, high, low, close, volume], ...]` with the numbers as they are written."""
    return "[" + ",".join("[" + ",".join(map(str, r[:6])) + "]" for r in told) + "]"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A candle file of BTC_USDT 5m."""
    path = tmp_path / "BTC_USDT-5m.json.gz"
    path.write_bytes(gzip.compress(as_json(rows()).encode()))
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], data: Path) -> Callable[..., tuple[int, str, str]]:
    def call(*more: str, strategy: str = "scalping", where: tuple[str, ...] | None = None) -> tuple[int, str, str]:
        here = ("--data", str(data)) if where is None else where
        try:
            code = backtest.main(["--strategy", strategy, "--symbol", "BTCUSDT", *here, *more])
        except SystemExit as e:
            code = int(e.code or 0)
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def test_the_json_has_the_trades_and_metrics_that_scripts_rely_on(run: Any) -> None:
    code, out, err = run("--json")
    found = loads(out)
    assert (code, err) == (0, "")
    assert len(found["trades"]) == found["metrics"]["trades"] > 5
    first = found["trades"][0]
    assert {"entry_time", "exit_time", "entry_price", "exit_price", "quantity", "profit", "profit_pct", "exit_reason"} <= set(first)
    assert isinstance(first["entry_time"], int) and first["entry_time"] % 300_000 == 0, "filled at a candle's open"
    assert found["settings"]["strategy"] == "scalping" and found["settings"]["timeframe"] == "5m", "the file's name says the timeframe"


def test_the_table_report_and_csv_are_written(run: Any, tmp_path: Path) -> None:
    code, out, _ = run("--report", str(tmp_path / "r.html"), "--csv", str(tmp_path / "t.csv"))
    assert code == 0 and "Profit factor" in out and "! No slippage" in out and "written: " in out
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "t.csv").read_text().startswith("entry_time,exit_time,")


def test_stop_target_fee_and_parameters_count(run: Any) -> None:
    def told(*more: str) -> Any:
        return loads(run("--json", *more)[1])

    plain = told("--stop-loss-pct", "0", "--take-profit-pct", "0")
    assert {t["exit_reason"] for t in plain["trades"]} <= {"signal", "end"} and plain["settings"]["stop_loss_pct"] is None
    assert {"stop_loss"} & {t["exit_reason"] for t in told("--stop-loss-pct", "0.3")["trades"]}
    assert told("--fee-pct", "0")["metrics"]["fees"] == 0
    assert told("--param", "fast=3", "--param", "slow=9")["settings"]["params"] == {"fast": 3, "slow": 9}
    late = told("--from", str(START + 200 * 300_000), "--to", str(START + 400 * 300_000))
    assert all(t["entry_time"] >= START + 200 * 300_000 for t in late["trades"]) and late["metrics"]["start"] == START + 200 * 300_000
    timed = told("--check-interval", "900", "--offset", "3")
    assert all(t["entry_time"] % 900_000 == 5_000 for t in timed["trades"]) and timed["trades"], "stamped k·interval + 2 s + offset"


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (("--param", "fats=3"), 2, "it has fast, slow"),
        (("--param", "fast=x"), 2, "must be a whole number"),
        (("--param", "fast=30"), 2, "fast: must be below slow"),
        (("--param", "fast"), 2, "must be NAME=VALUE"),
        (("--param", "fast=3", "--param", "fast=4"), 2, "given twice"),
        (("--cash", "0"), 2, "cash: 0 must be an amount above 0"),
        (("--cash", "nan"), 2, "must be a number"),
        (("--trade-amount", "20000"), 2, "at most the cash"),
        (("--stop-loss-pct", "-1"), 2, "from 0 to 99"),
        (("--fee-pct", "50"), 2, "from 0 to below 10"),
        (("--timeframe", "7m"), 2, "must be one of 1s, 1m"),
        (("--from", "yesterday"), 2, "such as 2024-01-31"),
        (("--from", "2021-01-01", "--to", "2020-01-01"), 2, "must lie before"),
        (("--from", "2031-01-01"), 3, "no BTCUSDT 5m candle lies in the time asked for; there is 2020-09-13"),
        (("--offset", "3"), 2, "needs --check-interval"),
        (("--check-interval", "900", "--offset", "299"), 2, "from 0 to 72"),
        (("--time-stop-candles", "0"), 2, "from 1"),
        (("--finer", "7m"), 2, "multiple of"),
        (("--protection", "hope"), 2, "invalid choice"),
    ],
)
def test_bad_arguments_are_refused_with_what_would_be_right(run: Any, more: tuple[str, ...], code: int, words: str) -> None:
    found, out, err = run(*more)
    assert (found, out) == (code, "") and words in err, err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("where", "code", "words"),
    [
        (("--data", "/nowhere/x.json"), 3, "is not there"),
        ((), 3, "there is no candle store at"),
        (("--data", "{folder}"), 3, "holds no file of BTCUSDT 1h"),
    ],
)
def test_where_there_are_no_candles_it_says_how_to_get_some(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: tuple[str, ...], code: int, words: str
) -> None:
    monkeypatch.setenv("BOTYARD_HOME", str(tmp_path))
    found, _, err = run("--timeframe", "1h", where=tuple(w.format(folder=tmp_path) for w in where))
    assert found == code and words in err


def test_an_unknown_or_broken_strategy_is_named(run: Any, tmp_path: Path) -> None:
    assert "known are" in (told := run(strategy="nope"))[2] and told[0] == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "breaks_strategy.py").write_text(BREAKS)
    code, _, err = run("--strategies", str(tmp_path / "mine"), strategy="breaks")
    assert code == 4 and "strategy breaks broke in signals: ZeroDivisionError" in err


def test_checks_end_with_1_for_one_that_looks_ahead_and_0_for_an_honest_one(run: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "oracle_strategy.py").write_text(LOOKS_AHEAD)
    code, out, _ = run("--strategies", str(tmp_path / "mine"), "--check-lookahead", "--points", "20", strategy="oracle")
    assert code == 1 and "oracle LOOKS AHEAD" in out and "signals: row" in out
    code, out, _ = run("--check-lookahead", "--check-warmup", "--points", "20", "--json")
    found = json.loads(out)
    assert code == 0 and found["lookahead"]["honest"] and found["warmup"]["needed"] <= found["warmup"]["declared"] == 21


def test_candles_come_from_the_store_of_the_venue_that_was_named(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTYARD_HOME", str(tmp_path))
    store = CandleStore(tmp_path / "data" / "history.db")
    for venue in (Venue(mode="live"), Venue(mode="paper", source="synthetic:1")):
        store.fill(venue, "BTCUSDT", "5m", rows(), 2**45)
    store.close()
    by_file = loads(run("--json")[1])["trades"]
    code, _, err = run(where=())
    assert code == 2 and "binance/spot/live" in err and "synthetic:1" in err, "two venues: one must be named"
    for named in (("--mode", "live"), ("--venue", "binance/spot/paper/synthetic:1"), ("--mode", "paper")):
        code, out, err = run("--json", *named, where=())
        assert (code, err) == (0, "") and loads(out)["trades"] == by_file
    code, _, err = run("--mode", "testnet", where=())
    assert code == 3 and "backfill.py" in err


def test_files_of_a_folder_are_joined_and_must_agree(tmp_path: Path) -> None:
    for name, part in (("BTCUSDT-5m-2020-09.json", rows()[:700]), ("BTCUSDT-5m-2020-10.json", rows()[600:])):
        (tmp_path / name).write_text(as_json(part))
    wanted = prepare.Wanted("scalping", "BTCUSDT", "5m", data=tmp_path)
    assert prepare.prepare(wanted).bars == BARS
    other = rows()[650]
    (tmp_path / "BTCUSDT-5m-2020-11.json").write_text(f"[[{other[0]},1,1,1,1,1]]")
    with pytest.raises(InputError, match="two files say different things"):
        prepare.prepare(wanted)


def test_a_symbol_that_nobody_knows_needs_its_quote_asset_told_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "candles.json"
    path.write_text(as_json(rows()))
    wanted = prepare.Wanted("scalping", "XYZEUR", "5m", data=path)
    with pytest.raises(InputError, match="--quote"):
        prepare.prepare(wanted)
    found = prepare.prepare(prepare.Wanted("scalping", "XYZEUR", "5m", data=path, quote="EUR")).config.symbol
    assert (found.base, found.quote, found.rules.tick) == ("XYZ", "EUR", Decimal("0.01"))
    named = tmp_path / "XYZ_EUR-5m.json"
    path.rename(named)
    assert prepare.prepare(prepare.Wanted("scalping", "XYZEUR", data=named)).config.symbol.quote == "EUR"


def test_only_the_candles_that_can_be_looked_at_are_kept() -> None:
    assert len(prepare.trimmed(BARS, 50, START + 300 * 300_000, START + 400 * 300_000)) == 150
    assert len(prepare.trimmed(BARS, 500, START + 300 * 300_000, None)) == 1200
    with pytest.raises(NotFound):
        prepare.trimmed(BARS, 5, START - 10, START)


def test_the_command_works_by_itself_and_imports_nothing_that_it_does_not_use(data: Path, tmp_path: Path) -> None:
    script = "import sys, runpy; sys.argv = sys.argv[1:]\ntry: runpy.run_path(sys.argv[0], run_name='__main__')\nfinally: print('loaded', *sys.modules)"
    line = [sys.executable, "-c", script, str(ROOT / "utils" / "backtest.py"), "--strategy", "scalping", "--symbol", "BTCUSDT", "--data", str(data)]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "BOTYARD_HOME": str(tmp_path)}, timeout=60, check=False)
    assert done.returncode == 0 and done.stderr == ""
    loaded = set(done.stdout.split("loaded ")[1].split())
    assert not loaded & {"flask", "binance", "aiohttp", "openai", "twilio", "requests", "waitress", "core.binance_client"}
