"""Backtests side by side: this project, freqtrade, backtesting.py and vectorbt on the same candles and rules, in one run.

    python3 benchmarks/backtest.py --peers /tmp/peers                  all that can be installed
    python3 benchmarks/backtest.py --peers /tmp/peers --only botyard,vectorbt --candles 100000

Candles: a seeded random walk of 1m around 30000, whose closes are the next opens. Rules: means of
10 and 30 closes; the upward cross buys with all the money at the next open, the downward one sells;
stop 2 %, target 5 %; fee 0.01 % a side (a larger one leaves nothing to trade with after a year of 1m).

Each engine runs in a process of its own, alone, first as a command would (import, read the candles from
the form it likes, one run), then warm. Memory is the most that the process held. Peers are installed into
virtual environments below --peers from requirements-peers.txt; one that can't be is left out, and said so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = Path(__file__).with_name("requirements-peers.txt")
FAST, SLOW, STOP, TARGET, FEE, CASH = 10, 30, 0.02, 0.05, 0.0001, 100_000
START = 1_640_995_200_000  # 2022-01-01
MINUTE = 60_000


# --- candles ----------------------------------------------------------------------------


def walk(count: int) -> tuple[Any, ...]:
    """times (ms), open, high, low, close (cents) and volume (thousandths) of a seeded random walk."""
    import numpy as np

    random = np.random.default_rng(7)
    close = np.rint(3_000_000 * np.exp(np.cumsum(random.normal(0, 0.0012, count)))).astype(np.int64)
    opened = np.concatenate(([3_000_000], close[:-1]))
    high = np.maximum(opened, close) + random.integers(0, 900, count)
    low = np.minimum(opened, close) - random.integers(0, 900, count)
    volume = random.integers(1, 100_000, count)
    return START + np.arange(count, dtype=np.int64) * MINUTE, opened, high, low, close, volume


def make(folder: Path, count: int) -> None:
    """The same candles in the form each engine likes: the store, an .npz file, and freqtrade's feather (written by its own pandas)."""
    import numpy as np

    times, opened, high, low, close, volume = walk(count)
    np.savez(folder / "candles.npz", time=times, open=opened / 100, high=high / 100, low=low / 100, close=close / 100, volume=volume / 1000.0)

    from core.market.history import CandleStore
    from core.model import Venue, row12

    rows = []
    for t, *prices, v in zip(*(column.tolist() for column in (times, opened, high, low, close, volume)), strict=True):
        o, h, lo, c = (f"{p // 100}.{p % 100:02d}000000" for p in prices)
        rows.append(row12(t, o, h, lo, c, f"{v // 1000}.{v % 1000:03d}00000", t + MINUTE - 1))
    store = CandleStore(folder / "data" / "history.db")
    store.fill(Venue(mode="live"), "BTCUSDT", "1m", rows, 2**50)
    store.close()


# --- the engines: each returns a function that runs once, and says (trades, final equity) -------


def botyard_wanted() -> Any:
    from decimal import Decimal

    from core.backtest import prepare

    return prepare.Wanted(
        "scalping",
        "BTCUSDT",
        "1m",
        params={"fast": FAST, "slow": SLOW},
        cash=Decimal(CASH),
        fee_pct=Decimal(str(FEE)) * 100,
        stop_loss_pct=Decimal(str(STOP)) * 100,
        take_profit_pct=Decimal(str(TARGET)) * 100,
        cooldown_checks=0,
    )


def run_botyard(folder: Path) -> Any:
    sys.path.insert(0, str(ROOT))
    os.environ["BOTYARD_HOME"] = str(folder)
    from core.backtest import engine, prepare

    prepared = prepare.prepare(botyard_wanted())

    def once() -> tuple[int, float]:
        result = engine.run(prepared.config, prepared.bars, prepared.strategy)
        return len(result.trades), float(result.equity.value[-1])

    return once


def _frame(folder: Path) -> Any:
    import numpy as np
    import pandas as pd

    found = np.load(folder / "candles.npz")
    return pd.DataFrame({name: found[name] for name in ("open", "high", "low", "close", "volume")}, index=pd.to_datetime(found["time"], unit="ms"))


def run_vectorbt(folder: Path) -> Any:
    import vectorbt as vbt

    table = _frame(folder)

    def once() -> tuple[int, float]:
        close = table["close"]
        fast, slow = vbt.MA.run(close, FAST), vbt.MA.run(close, SLOW)
        # A cross at a close is traded at the next open.
        entries, exits = (fast.ma_crossed_above(slow).vbt.fshift(1), fast.ma_crossed_below(slow).vbt.fshift(1))
        made = vbt.Portfolio.from_signals(
            close,
            entries,
            exits,
            price=table["open"],
            open=table["open"],
            high=table["high"],
            low=table["low"],
            sl_stop=STOP,
            tp_stop=TARGET,
            stop_entry_price="fillprice",
            fees=FEE,
            init_cash=CASH,
            freq="1min",
        )
        return int(made.trades.count()), float(made.final_value())

    return once


def run_backtesting(folder: Path) -> Any:
    import warnings

    warnings.filterwarnings("ignore")
    from backtesting import Strategy, backtesting
    from backtesting.lib import FractionalBacktest, crossover

    backtesting._tqdm = lambda it, *_, **__: it  # no progress bar
    table = _frame(folder).rename(columns=str.capitalize)

    class Cross(Strategy):  # type: ignore[misc]
        def init(self) -> None:
            close = self.data.Close.s
            self.fast = self.I(lambda: close.rolling(FAST).mean())
            self.slow = self.I(lambda: close.rolling(SLOW).mean())

        def next(self) -> None:
            if crossover(self.slow, self.fast):
                self.position.close()
            elif crossover(self.fast, self.slow) and not self.position:
                price = self.data.Close[-1]  # the next open, in these candles
                self.buy(sl=price * (1 - STOP), tp=price * (1 + TARGET))

    def once() -> tuple[int, float]:
        found = FractionalBacktest(table, Cross, cash=CASH, commission=FEE, finalize_trades=True).run()
        return int(found["# Trades"]), float(found["Equity Final [$]"])

    return once


FREQTRADE_STRATEGY = f"""
from pandas import DataFrame
from freqtrade.strategy import IStrategy

class Cross(IStrategy):
    INTERFACE_VERSION = 3
    timeframe = "1m"
    minimal_roi = {{"0": {TARGET}}}
    stoploss = -{STOP}
    startup_candle_count = {SLOW + 1}

    def populate_indicators(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        dataframe["fast"] = dataframe["close"].rolling({FAST}).mean()
        dataframe["slow"] = dataframe["close"].rolling({SLOW}).mean()
        return dataframe

    def populate_entry_trend(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        up = (dataframe["fast"] > dataframe["slow"]) & (dataframe["fast"].shift(1) <= dataframe["slow"].shift(1))
        dataframe.loc[up, "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        down = (dataframe["fast"] < dataframe["slow"]) & (dataframe["fast"].shift(1) >= dataframe["slow"].shift(1))
        dataframe.loc[down, "exit_long"] = 1
        return dataframe
"""


def run_freqtrade(folder: Path) -> Any:
    import logging

    logging.disable(logging.INFO)
    from freqtrade.configuration import Configuration
    from freqtrade.enums import RunMode
    from freqtrade.exchange import Exchange
    from freqtrade.optimize.backtesting import Backtesting

    home = folder / "freqtrade"
    (home / "strategies").mkdir(parents=True, exist_ok=True)
    (home / "data" / "binance").mkdir(parents=True, exist_ok=True)
    (home / "strategies" / "cross.py").write_text(FREQTRADE_STRATEGY)
    feather = home / "data" / "binance" / "BTC_USDT-1m.feather"
    if not feather.exists():
        table = _frame(folder).reset_index(names="date")
        table["date"] = table["date"].dt.tz_localize("UTC")
        table.to_feather(feather)
    settings = {
        **{"dry_run": True, "max_open_trades": 1, "stake_currency": "USDT", "stake_amount": "unlimited", "tradable_balance_ratio": 1.0},
        **{"dry_run_wallet": CASH, "fee": FEE, "timeframe": "1m", "strategy": "Cross", "user_data_dir": str(home), "export": "none"},
        **{"datadir": str(home / "data" / "binance"), "strategy_path": str(home / "strategies"), "dataformat_ohlcv": "feather"},
        "exchange": {"name": "binance", "pair_whitelist": ["BTC/USDT"], "pair_blacklist": []},
        "pairlists": [{"method": "StaticPairList"}],
        "entry_pricing": {"price_side": "same", "use_order_book": False, "price_last_balance": 0.0},
        "exit_pricing": {"price_side": "same", "use_order_book": False},
    }
    (home / "config.json").write_text(json.dumps(settings))
    market = {
        **{"id": "BTCUSDT", "symbol": "BTC/USDT", "base": "BTC", "quote": "USDT", "baseId": "BTC", "quoteId": "USDT", "active": True, "spot": True},
        **{"type": "spot", "margin": False, "swap": False, "future": False, "option": False, "contract": False, "taker": FEE, "maker": FEE, "info": {}},
        "precision": {"amount": 0.00001, "price": 0.01, "base": 1e-8, "quote": 1e-8},
        "limits": {"amount": {"min": 0.00001, "max": 9000}, "price": {"min": 0.01, "max": 1e6}, "cost": {"min": 5, "max": 9e6}, "leverage": {}},
    }

    def markets(self: Any, force: bool = False, **_: Any) -> None:
        """The one market, told instead of asked for: a benchmark needs no network."""
        for api in (self._api, self._api_async):
            api.set_markets([market])
        self._markets = self._api.markets

    Exchange.reload_markets = markets
    arguments = {"config": [str(home / "config.json")], "user_data_dir": str(home), "datadir": str(home / "data" / "binance"), "strategy": "Cross"}
    config = Configuration(arguments, RunMode.BACKTEST).get_config()
    tester = Backtesting(config)
    data, span = tester.load_bt_data()

    def once() -> tuple[int, float]:
        tester.all_bt_content.clear()
        tester.backtest_one_strategy(tester.strategylist[0], data, span)
        found = next(iter(tester.all_bt_content.values()))
        return len(found["results"]), float(found["final_balance"])

    return once


ENGINES = {"botyard": run_botyard, "vectorbt": run_vectorbt, "backtesting": run_backtesting, "freqtrade": run_freqtrade}


def inside(name: str, folder: Path, runs: int) -> None:
    """In the engine's own process: load, run, print the times as JSON."""
    began = time.perf_counter()
    once = ENGINES[name](folder)
    loaded = time.perf_counter() - began
    times = []
    for _ in range(runs):
        at = time.perf_counter()
        trades, final = once()
        times.append(time.perf_counter() - at)
    print("RESULT " + json.dumps({"load_s": loaded, "runs_s": times, "trades": trades, "final": final}))


def growth(counts: list[int]) -> None:
    """How this project's engine alone grows with the number of candles: the best of three runs each.

    Without fees and with less money: ten years of fees leave nothing to trade with, and at the walk's
    lowest price more money would be more than one order may be."""
    sys.path.insert(0, str(ROOT))
    from dataclasses import replace
    from decimal import Decimal

    from core.backtest import engine, prepare
    from core.market.bars import Bars

    print(f"{'candles':>10} {'run s':>8} {'µs a candle':>12} {'trades':>8}")
    for count in counts:
        times, *prices, volume = walk(count)
        bars = Bars("BTCUSDT", "1m", times, *(p * 10**6 for p in prices), volume / 1000.0)
        wanted = replace(botyard_wanted(), fee_pct=Decimal(0), cash=Decimal(1000))
        strategy = prepare.build(wanted, wanted.params)
        config = prepare.configure(wanted, strategy, prepare.symbol_of("BTCUSDT", bars), "1m")
        best, trades = float("inf"), 0
        for _ in range(3):
            at = time.perf_counter()
            trades = len(engine.run(config, bars, strategy).trades)
            best = min(best, time.perf_counter() - at)
        print(f"{count:>10,} {best:>8.3f} {best / count * 1e6:>12.3f} {trades:>8,}")


# --- outside --------------------------------------------------------------------------------


def python_of(name: str, peers: Path) -> str | None:
    """The interpreter that has the engine; installs it where it can. None, with the reason printed, where it can't."""
    if name == "botyard":
        return sys.executable
    line = next(text for text in REQUIREMENTS.read_text().split("\n") if text.startswith(name + "=="))
    python = peers / name / "bin" / "python"
    if not python.exists():
        print(f"installing {line} ...", file=sys.stderr)
        made = subprocess.run([sys.executable, "-m", "venv", str(peers / name)], capture_output=True, text=True, check=False)
        done = subprocess.run([str(python), "-m", "pip", "install", "-q", line], capture_output=True, text=True, check=False) if not made.returncode else made
        if done.returncode:
            print(f"{name} is left out, it can't be installed here: {(done.stderr or done.stdout).strip()[-300:]}", file=sys.stderr)
            return None
    return str(python)


def timed(line: list[str], folder: Path) -> tuple[float, float, str]:
    """Wall seconds, most memory in MB (of the process and what it waited for), and what it printed."""
    environment = {**os.environ, "BOTYARD_HOME": str(folder), "NUMBA_CACHE_DIR": str(folder / "numba"), "PYTHONWARNINGS": "ignore"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.perf_counter()
        process = subprocess.Popen(line, stdout=out, stderr=err, env=environment, cwd=folder)
        _, status, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(line)} ended with {process.returncode}: {err.read()[-1500:]}")
        return took, used.ru_maxrss / 1024, out.read()


def measure(name: str, python: str, folder: Path, runs: int) -> dict[str, Any]:
    line = [python, str(Path(__file__).resolve()), "--inside", name, "--folder", str(folder), "--runs"]
    if name == "freqtrade":
        timed([*line, "0"], folder)  # writes its candle file
    whole, memory, _ = timed([*line, "1"], folder)
    if name == "botyard":  # the very command that people type
        command = [python, str(ROOT / "utils" / "backtest.py"), "--strategy", "scalping", "--symbol", "BTCUSDT", "--timeframe", "1m", "--json"]
        settings = ["--param", f"fast={FAST}", "--param", f"slow={SLOW}", "--cash", str(CASH), "--fee-pct", f"{FEE * 100:g}", "--cooldown-checks", "0"]
        whole, memory, _ = timed([*command, *settings], folder)
    _, _, out = timed([*line, str(runs if name != "freqtrade" else min(runs, 2))], folder)
    found = json.loads(next(text for text in out.split("\n") if text.startswith("RESULT ")).removeprefix("RESULT "))
    warm = min(found["runs_s"][1:] or found["runs_s"])
    told = {"engine": name, "command_s": whole, "memory_mb": memory, "load_s": found["load_s"], "first_s": found["runs_s"][0], "warm_s": warm}
    return {**told, "trades": found["trades"], "final": found["final"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--candles", type=int, default=525_600, help="how many 1m candles (525600, a year)")
    parser.add_argument("--runs", type=int, default=4, help="runs in one process; the best of all but the first counts as warm (4)")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "backtest-peers", help="folder of the peers' virtual environments")
    parser.add_argument("--only", default=",".join(ENGINES), help="engines, by comma")
    parser.add_argument("--growth", action="store_true", help="instead: this engine alone on 10^4 to 5*10^6 candles")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inside", choices=list(ENGINES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        inside(given.inside, given.folder, given.runs) if given.runs else ENGINES[given.inside](given.folder)
        return 0
    if given.growth:
        growth([10_000, 100_000, 1_000_000, 5_000_000])
        return 0
    names = given.only.split(",")
    unknown = [n for n in names if n not in ENGINES]
    if unknown or importlib.util.find_spec("numpy") is None:
        parser.error(f"--only: {', '.join(unknown)} must be of {', '.join(ENGINES)}" if unknown else "run it with the project's own Python, .venv/bin/python")
    sys.path.insert(0, str(ROOT))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), given.candles)
        for name in names:
            python = python_of(name, given.peers.expanduser().absolute())
            if python is None:
                continue
            try:
                rows.append(measure(name, python, Path(folder), given.runs))
            except (RuntimeError, StopIteration) as e:
                print(f"{name} is left out: {e}", file=sys.stderr)
    if given.json:
        print(json.dumps(rows, indent=1))
        return 0
    print(f"{given.candles:,} candles of 1m, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'':<12} {'command s':>10} {'memory MB':>10} {'load s':>8} {'first s':>8} {'warm s':>8} {'trades':>8} {'final':>14}")
    for r in rows:
        times = f"{r['command_s']:>10.2f} {r['memory_mb']:>10.0f} {r['load_s']:>8.2f} {r['first_s']:>8.3f} {r['warm_s']:>8.3f}"
        print(f"{r['engine']:<12} {times} {r['trades']:>8,} {r['final']:>14,.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
