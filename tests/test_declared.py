"""Declared strategies: a YAML file is a strategy like any other, and the two that are shipped decide as plain pandas does."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from backtest_help import START
from core.backtest import honesty, prepare, space
from core.bot import setup
from core.config import load as load_settings
from core.errors import SettingsError, StrategyError
from core.market import indicators
from core.market.bars import Bars
from core.storage import dumps, loads
from market_data import real_candles, table, walk
from patience import patience
from processes import Home, until
from stepped import World, run_until
from strategies.base import Strategy
from strategies.declared import NO_SHORTS, Declared, make
from strategies.registry import load
from strategies.tables import rows_of
from test_more_strategies import wilder_by_hand

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("ema_trend", "rsi_reversal")
D = Decimal


def strategy(text: str, **params: Any) -> Declared:
    return make(text.encode(), "own")(**params)


def write(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


# --- the shipped ones decide as plain pandas does ------------------------------------------


def crossed_above(a: pd.Series, b: Any) -> pd.Series:
    return (a > b) & (a.shift(1) <= (b.shift(1) if isinstance(b, pd.Series) else b))


def rsi_reversal(c: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    close = c["close"]
    change = close.diff().fillna(0.0)
    ups, downs = (change.clip(lower=0).ewm(alpha=1 / 14, adjust=False).mean(), (-change).clip(lower=0).ewm(alpha=1 / 14, adjust=False).mean())
    rsi = 100 - 100 / (1 + ups / downs)
    mean, deviation = close.rolling(20).mean(), close.rolling(20).std(ddof=0)
    came_back = (rsi > 30) & (rsi.rolling(4).min() < 30)
    return came_back & (close < mean), (rsi > 62) | (close > mean + 2 * deviation)


def ema_trend(c: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    close = c["close"]
    quick, calm = close.ewm(span=12, adjust=False).mean(), close.ewm(span=26, adjust=False).mean()
    adx = pd.Series(wilder_by_hand(c)[1])
    return crossed_above(quick, calm) & (close > close.rolling(200).mean()) & (adx > 18), quick < calm


@pytest.mark.parametrize(("key", "plain"), [("rsi_reversal", rsi_reversal), ("ema_trend", ema_trend)])
@pytest.mark.parametrize("coin", ["BTC", "ETH"])
def test_the_signals_on_real_candles_are_those_of_a_plain_calculation(key: str, plain: Any, coin: str):
    candles = real_candles(f"spot-5m/{coin}_USDT-5m", first=20_000, rows=15_000).reset_index(drop=True)
    own = load().build(key)
    found = own.signals(candles)
    enter, leave = plain(candles)
    wanted = np.where(leave, -1, np.where(enter, 1, 0))
    wanted[: own.warmup - 1] = 0
    np.testing.assert_array_equal(found, wanted)
    assert (found > 0).sum() >= 50 and (found < 0).sum() >= 200


@pytest.mark.parametrize("key", SHIPPED)
def test_a_shipped_one_says_when_it_wins_and_when_it_loses(key: str):
    told = load().get(key).describe()
    assert "Wins in" in told["description"] and "Loses in" in told["description"]
    assert all(p["help"] and p["min"] is not None and p["max"] is not None for p in told["params"])
    assert loads(dumps(told)) == loads(dumps(load().get(key).describe())) and told["file"] == f"{key}.yaml"


@pytest.mark.parametrize("key", SHIPPED)
@pytest.mark.parametrize("market", ["walk", "wild", "BTC", "ETH", "COCOS"])
def test_the_value_at_a_row_from_the_whole_table_is_the_value_from_its_window(key: str, market: str):
    made = {"walk": lambda: walk(5000, seed=11), "wild": lambda: walk(5000, seed=12, move=0.02)}
    candles = made[market]() if market in made else real_candles(f"spot-5m/{market}_USDT-5m", first=11_500, rows=5000)
    own = load().build(key)
    needed, whole = own.candles_needed(), own.signals(candles)
    active = np.flatnonzero(whole)
    chosen = sorted({*active[whole[active] > 0].tolist(), *active[::9].tolist(), *range(own.warmup - 1, len(candles), 97)})
    assert (whole[chosen] != 0).sum() >= 10
    for i in chosen:
        window = candles.iloc[max(0, i + 1 - needed) : i + 1]
        assert own.signals(window)[-1] == whole[i], f"row {i}"
    for i in chosen[::10]:
        window = candles.iloc[max(0, i + 1 - needed) : i + 1].reset_index(drop=True)
        assert own.reason(window, len(window) - 1) == own.reason(candles, i)


@pytest.mark.parametrize("key", SHIPPED)
def test_a_shipped_one_is_honest_on_real_candles(key: str):
    candles = real_candles("spot-5m/BTC_USDT-5m", first=20_000, rows=9000)
    rows = [[int(r.open_time), *(f"{x:.8f}" for x in (r.open, r.high, r.low, r.close, r.volume))] for r in candles.itertuples()]
    bars = Bars.from_rows(rows, "BTCUSDT", "5m")
    wanted = prepare.Wanted(key, "BTCUSDT", "5m")
    own = load().build(key)
    ready = prepare.Prepared(prepare.configure(wanted, own, prepare.symbol_of("BTCUSDT", bars), "5m"), bars, own)
    future = honesty.lookahead(ready, lambda: load().build(key), points=60)
    assert future.honest and future.signals >= 5
    needs = honesty.warmup(ready, lambda: load().build(key), points=60)
    assert needs.honest and needs.needed == own.warmup  # it does not answer with fewer


@pytest.mark.parametrize("key", SHIPPED)
def test_the_live_answer_is_the_signal_of_the_last_row_with_the_values_it_rests_on(key: str):
    own, candles = load().build(key), walk(2500, seed=31)
    whole = own.signals(candles)
    for i in (*np.flatnonzero(whole > 0)[-2:], *np.flatnonzero(whole < 0)[-2:], 2400, 2499):
        answer = own.analyze(rows_of(candles.iloc[max(0, i - 999) : i + 1]))
        assert answer["signal"] == {1: "BUY", -1: "SELL", 0: "HOLD"}[whole[i]]
        assert answer["reasoning"].startswith({1: "Entry: ", -1: "Exit: ", 0: "Waiting for: "}[whole[i]])
        assert "close " in answer["reasoning"] and f"close {candles['close'].iloc[i]:.6g}" in answer["reasoning"]


@pytest.mark.parametrize("key", SHIPPED)
def test_too_few_candles_and_a_market_that_stands_still_are_no_signal(key: str):
    own = load().build(key)
    for rows in (1, 5, 30, own.warmup - 1):
        answer = own.analyze(rows_of(walk(rows)))
        assert answer["signal"] == "HOLD" and f"Too few candles yet: {rows} of {own.warmup}" in answer["reasoning"]
    assert not own.signals(table([100.0] * 900, volume=[0.0] * 900)).any()
    busy = walk(900, seed=5)
    after = own.signals(table([*busy["close"], *[busy["close"].iloc[-1]] * 1500]))
    assert not after[-1200:].any()


# --- what a file means ---------------------------------------------------------------------

PLAIN = "entry: close > 10\nexit: close < 5\n"
CLOSES = table([7.0, 11, 7, 4, 11])


def test_entry_buys_and_exit_sells():
    assert strategy(PLAIN).signals(CLOSES).tolist() == [0, 1, 0, -1, 1]


def test_where_both_hold_it_sells():
    assert strategy("entry: close > 10\nexit: close > 10.5\n").signals(CLOSES).tolist() == [0, -1, 0, 0, -1]


def test_a_list_means_all_any_means_one_and_both_nest():
    text = "entry:\n  - close > 3\n  - any:\n      - close < 5\n      - all:\n          - close > 10\n          - close > close[1]\nstop_loss: 3\n"
    assert strategy(text).signals(table([7.0, 11, 12, 11.5, 4, 2])).tolist() == [0, 1, 1, 0, 1, 0]
    assert strategy("entry: {any: [close < 5, close > 10]}\nstop_loss: 3\n").signals(CLOSES).tolist() == [0, 1, 0, 1, 1]


def test_parameters_are_used_by_name_in_rules_and_indicators_and_have_their_type():
    text = "parameters: {n: 3, edge: {default: 1.5, low: 0, high: 9}}\n"
    text += 'indicators: {mean: {indicator: sma, window: {n}}, other: {indicator: sma, window: "{n}"}}\n'
    text += "entry: close > mean * {edge} and other > 0\nexit: close < mean\n"
    closes = table([10.0, 10, 10, 30, 10, 10, 10, 14])
    assert strategy(text).signals(closes).tolist() == [0, 0, 0, 1, -1, -1, 0, 0]
    assert strategy(text, edge=1.1, n="2").signals(closes).tolist() == [0, 0, 0, 1, -1, 0, 0, 1]
    assert [(p.name, p.type, p.default, p.low, p.high) for p in strategy(text).params] == [("n", int, 3, None, None), ("edge", float, 1.5, 0, 9)]


@pytest.mark.parametrize(
    ("rules", "rows"),
    [
        ("close > 1", 1),
        ("close > close[20]", 21),
        ("mean > close", 30),
        ("close crosses above mean", 31),
        ("close[4] crosses above mean[5] or close > 3", 36),
        ("exponential > close", indicators.VOCABULARY["ema"].rows({"window": 9})),
        ("adx > 20 and macd.line > 0", indicators.VOCABULARY["adx"].rows({"window": 14})),
    ],
)
def test_the_warm_up_follows_from_the_indicators_and_how_far_the_rules_look_back(rules: str, rows: int):
    words = "{mean: {indicator: sma, window: 30}, exponential: {indicator: ema, window: 9}, adx: adx, macd: macd, unused: {indicator: rsi, window: 30}}"
    assert strategy(f"indicators: {words}\nentry: {rules}\nstop_loss: 1\n").warmup == rows


def test_the_warm_up_goes_with_the_parameters():
    text = "parameters: {n: 30}\nindicators: {mean: {indicator: sma, window: n}}\nentry: close > mean[n]\nstop_loss: 1\n"
    assert (strategy(text).warmup, strategy(text, n=100).warmup) == (60, 200)


def test_size_is_a_part_of_the_pot():
    assert not strategy(PLAIN).sizes_entries and strategy(PLAIN).size(CLOSES) is None
    assert not strategy(PLAIN + "size: 100%\n").sizes_entries
    own = strategy(PLAIN + "size: 35 %\n")
    assert own.sizes_entries and own.analyze(rows_of(CLOSES))["size"] == D("0.35")


def test_short_rules_are_kept_and_said_to_be_unused():
    own = strategy(PLAIN + "short:\n  entry: close > 10.9\n  exit: close < 6\n")
    assert own.declaration.has_shorts and [r.text for r in own.declaration.all_rules()] == ["close > 10", "close < 5", "close > 10.9", "close < 6"]
    assert own.signals(CLOSES).tolist() == strategy(PLAIN).signals(CLOSES).tolist()
    assert own.description.endswith(NO_SHORTS) and NO_SHORTS not in strategy(PLAIN).description
    assert "this market has no shorts" in own.analyze(rows_of(CLOSES))["reasoning"]


def test_a_file_needs_no_title_and_no_description():
    own = strategy(PLAIN)
    assert (own.name, own.title, own.description) == ("own", "Own", "Buys when close > 10. Sells when close < 5.")
    assert (own.symbol, own.timeframe, own.stop_loss_pct, own.take_profit_pct) == (None, None, None, None)


def test_all_fields_arrive_exactly():
    text = "key: mine\ntitle: On\nsymbol: ETHUSDT\ntimeframe: 1h\nstop_loss: 0\ntake_profit: 7.10%\nmaximum_entries: 1\n"
    own = strategy(PLAIN + text + "description: >\n  two\n  lines\n")
    assert (own.name, own.title, own.symbol, own.timeframe, own.description) == ("mine", "On", "ETHUSDT", "1h", "two lines")
    assert (own.percent("stop_loss_pct"), own.percent("take_profit_pct")) == (D(0), D("7.10"))


@pytest.mark.parametrize("word", sorted(indicators.VOCABULARY))
def test_every_indicator_of_the_vocabulary_can_be_declared(word: str):
    outputs = indicators.VOCABULARY[word].outputs
    known = ["x"] if len(outputs) == 1 else ["x" if o == word else f"x.{o}" for o in outputs]
    rules = "".join(f"    - {name} > {name}[1]\n" for name in known)
    own = strategy(f"timeframe: 5m\nindicators: {{x: {word}}}\nentry:\n  any:\n{rules}exit: close < {known[0]}\n")
    for rows in (1, 2, 3, 40):
        assert own.signals(walk(rows)).tolist() == [0] * rows or own.warmup <= 40
    whole = own.signals(walk(1200, seed=6))
    assert whole.any() and not whole[: own.warmup - 1].any()
    answer = own.analyze(rows_of(walk(1000, seed=6)))
    assert known[0] in answer["reasoning"] and "not known" not in answer["reasoning"]


def test_an_rsi_of_a_price_that_stands_still_is_not_known():
    own = strategy("indicators: {rsi: {indicator: rsi, window: 5}}\nentry: rsi < 50 or rsi >= 50\nstop_loss: 1\n")
    closes = [*walk(400, seed=2)["close"], *[100.0] * 400, 101.0]
    found = own.signals(table(closes))
    assert found[own.warmup : 400].all() and not found[405:800].any() and found[800] == 1


def test_a_day_of_candles_shorter_than_declared_is_refused():
    own = strategy("timeframe: 15m\nindicators: {day: vwap_day}\nentry: close > day\nstop_loss: 1\n")
    assert own.warmup == 96
    with pytest.raises(StrategyError, match="declared for candles of 15m; give the bot that timeframe or a longer one"):
        own.signals(walk(200))


# --- a strategy like any other ---------------------------------------------------------------


def test_a_file_in_the_home_is_found_by_its_name_or_its_key(tmp_path: Path):
    write(tmp_path, "first.yaml", PLAIN)
    write(tmp_path, "second.yml", "key: other\n" + PLAIN)
    write(tmp_path, "third.yml", '"key": a-third   # quoted\n' + PLAIN)
    write(tmp_path, ".swap.yaml", "no strategy")
    registry = load(tmp_path)
    assert {"first", "other", "a-third", *SHIPPED} <= set(registry.keys()) and registry.broken == {}
    assert load(tmp_path).get("other").file.name == "second.yml"
    assert load(tmp_path).build("a-third").ref().key == "a-third"
    with pytest.raises(StrategyError, match="no strategy 'second'"):
        load(tmp_path).get("second")


def test_a_key_that_two_files_have_is_named_and_the_first_keeps_it(tmp_path: Path):
    write(tmp_path, "volatile.yaml", PLAIN)
    write(tmp_path, "a.yaml", "key: twice\n" + PLAIN)
    write(tmp_path, "b.yaml", "key: twice\n" + PLAIN)
    registry = load(tmp_path)
    assert set(registry.broken) == {"volatile.yaml", "b.yaml"} and "already that of" in registry.broken["b.yaml"]
    assert registry.get("volatile").file.suffix == ".py" and registry.get("twice").file.name == "a.yaml"


def test_a_strategy_in_python_loads_neither_yaml_nor_other_files(tmp_path: Path):
    write(tmp_path, "mine_strategy.py", "class Mine:\n    def analyze(self, data):\n        return {'signal': 'HOLD', 'reasoning': ''}\n")
    write(tmp_path, "broken.yaml", "entry: [")
    code = f"import sys\nfrom strategies.registry import load\nload({str(tmp_path)!r}).build('mine')\n"
    code += "sys.exit('yaml' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_version_is_that_of_the_files_text(tmp_path: Path):
    write(tmp_path, "own.yaml", PLAIN)
    first = load(tmp_path).build("own")
    write(tmp_path, "own.yaml", PLAIN.replace("10", "20"))
    changed = load(tmp_path).build("own")
    assert first.version != changed.version == load(tmp_path).build("own").version
    assert (first.signals(CLOSES)[1], changed.signals(CLOSES)[1]) == (1, 0)


def test_what_the_file_declares_counts_where_the_record_is_null_and_over_the_settings(tmp_path: Path):
    (tmp_path / ".env").write_text("STOP_LOSS_PCT=1.5\nTAKE_PROFIT_PCT=8\nKLINE_INTERVAL=1m\n", encoding="utf-8")
    settings = load_settings({"BOTYARD_HOME": str(tmp_path)})

    def built(text: str, **record: Any) -> tuple[Any, ...]:
        own = strategy(PLAIN + text)
        made = setup.build(settings, 1, "Bot", "BTCUSDT", "own", D(100), {"stop_loss_pct": None, "take_profit_pct": None, "timeframe": None, **record}, own)
        return made.plan.stop_loss_pct, made.plan.take_profit_pct, made.timeframe

    declared = "stop_loss: 3\ntake_profit: 6\ntimeframe: 15m\n"
    assert built("") == (D("1.5"), D(8), "1m")
    assert built(declared) == (D(3), D(6), "15m")
    assert built(declared, stop_loss_pct=D("0.5"), take_profit_pct=D(0), timeframe="1h") == (D("0.5"), D(0), "1h")
    assert built("stop_loss: 0\n") == (D(0), D(8), "1m"), "0 is a wish: none"
    guard = setup.build(settings, 1, "Bot", "BTCUSDT", "own", D(100), {}, None)
    assert (guard.plan.stop_loss_pct, guard.plan.take_profit_pct) == (D("1.5"), D(8))


def test_the_smallest_entry_is_reckoned_with_the_stop_that_counts(tmp_path: Path):
    (tmp_path / ".env").write_text("STOP_LOSS_PCT=1.5\n", encoding="utf-8")
    write(tmp_path / "strategies", "own.yaml", PLAIN + "stop_loss: 30\n")
    settings = load_settings({"BOTYARD_HOME": str(tmp_path)})

    def stop(key: str, **record: Any) -> Decimal:
        return setup.stop_loss_of({"strategy": key, "stop_loss_pct": None, **record}, settings, tmp_path / "strategies")

    assert (stop("own"), stop("own", stop_loss_pct=D(4)), stop("own", stop_loss_pct=0)) == (D(30), D(4), D(0))
    assert stop("volatile") == stop("own", params={"no": 1}) == stop("nobody's") == D("1.5")


def test_a_strategy_in_python_declares_stop_and_target_likewise_and_a_wrong_one_is_named(tmp_path: Path):
    class Own(Strategy):
        key = "own"
        stop_loss_pct = 4  # type: ignore[assignment]
        take_profit_pct = "much"  # type: ignore[assignment]

        def signals(self, candles: pd.DataFrame) -> np.ndarray:
            return np.zeros(len(candles))

    settings = load_settings({"BOTYARD_HOME": str(tmp_path)})
    assert Own().percent("stop_loss_pct") == D(4)
    with pytest.raises(SettingsError, match="strategy own: take_profit_pct must be a number from 0 to 10000, not 'much'"):
        setup.build(settings, 1, "Bot", "BTCUSDT", "own", D(100), {}, Own())
    text = "class Own:\n    stop_loss_pct = 100\n    def analyze(self, data): ...\n"
    write(tmp_path / "s", "own_strategy.py", text)
    assert "stop_loss_pct must be a number from 0 to 99" in load(tmp_path / "s").broken["own_strategy.py"]


def test_a_backtest_uses_what_the_file_declares_unless_it_is_told_otherwise():
    rows = [[START + i * 300_000, "10", "10", "10", "10", "1"] for i in range(500)]
    bars = Bars.from_rows(rows, "BTCUSDT", "5m")
    own, symbol = load().build("rsi_reversal"), prepare.symbol_of("BTCUSDT", bars)

    def plan(other: Strategy = own, **fields: Any) -> tuple[Any, Any]:
        made = prepare.configure(prepare.Wanted(other.name, "BTCUSDT", **fields), other, symbol, "5m").plan
        return made.stop_loss_pct, made.take_profit_pct

    assert plan() == (D("2.5"), D(4))
    assert plan(stop_loss_pct=D(0), take_profit_pct=D(1)) == (None, D(1))
    assert plan(load().build("volatile")) == (D(2), D(5))
    assert prepare.timeframe_of(prepare.Wanted("ema_trend", "BTCUSDT"), load().build("ema_trend")) == "1h"


def test_a_bot_trades_a_declared_strategy_with_its_stop_and_its_size(tmp_path: Path):
    text = (ROOT / "strategies/rsi_reversal.yaml").read_text(encoding="utf-8").replace("take_profit: 4", "take_profit: 4\nsize: 50")
    own = make(text.encode(), "rsi_reversal")()
    world = World(tmp_path, PAPER_START="2024-03-01", RISK_INTERVAL="300")
    try:
        bot = world.bot(1, "BTCUSDT", own, "1000", timeframe="5m")
        bot.start()
        while not list(world.files.read_lines("bot_1_fills.jsonl")):
            run_until(world, [bot], world.market_ms() + 7_200_000)
            assert world.market_ms() < 1_709_251_200_000 + 5 * 86_400_000, "five days without an entry"
        entry = next(iter(world.files.read_lines("bot_1_fills.jsonl")))
        position = bot.position
        bought = next(d for d in world.files.read_lines("bot_1_decisions.jsonl") if d["signal"] == "BUY" and d["action"])
    finally:
        world.close()
    rules = "rsi > oversold and (rsi[1] < oversold or rsi[2] < oversold or rsi[3] < oversold) and close < bands.middle"
    assert bought["reasoning"].startswith(f"Entry: {rules} (rsi ")
    level = position.entry_price * (1 - D("2.5") / 100)
    assert 0 <= level - position.stop_loss < D("0.01") and position.take_profit > position.entry_price * D("1.039")
    assert D(490) < D(str(entry["quote"])) <= D(500)


def test_the_readmes_file_works_as_it_stands_and_the_readme_names_all_there_is(tmp_path: Path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("### A strategy without code", 1)[1].split("\n### ", 1)[0]
    write(tmp_path, "my_dips.yaml", section.split("```yaml\n", 1)[1].split("```", 1)[0])
    registry = load(tmp_path)
    assert registry.broken == {}
    own = registry.build("my_dips", {"dip": 40})
    assert (own.timeframe, own.percent("stop_loss_pct"), own.percent("take_profit_pct"), own.declaration.size) == ("1h", D(3), D(6), 50)
    assert {-1, 0, 1} == set(own.signals(walk(3000, seed=2)).tolist())
    assert [word for word in (*indicators.VOCABULARY, *SHIPPED) if f"`{word}`" not in section] == []


def test_a_bot_process_trades_a_file_of_its_home_and_names_the_line_of_a_wrong_one(tmp_path: Path):
    home = Home(tmp_path / "home")
    try:
        write(home.path / "strategies", "always.yaml", "timeframe: 1m\nentry: close > 0\nstop_loss: 7\ntake_profit: 20\n")
        write(home.path / "strategies", "wrong.yaml", "entry: close > rsi\nstop_loss: 7\n")
        child = home.bot(2, strategy="wrong")
        assert child.wait(patience(20)) == 2
        assert "wrong.yaml is broken: line 1, column 16: in the rule 'close > rsi': there is no 'rsi'" in home.status(2)["exit"]["reason"]
        home.paper()
        home.bot(strategy="always")
        until(lambda: home.position()["position"] == "LONG" and home.position()["stop_loss"], "a position: " + home.log())
        held = home.position()
        assert 0.9299 < held["stop_loss"] / held["entry_price"] <= 0.93 and 1.199 < held["take_profit"] / held["entry_price"] <= 1.2
        told = until(lambda: home.lines("bot_1_decisions.jsonl"), "its first decision")[0]["reasoning"]
        assert held["strategy"]["key"] == "always" and told.startswith("Entry: close > 0 (close ")
        assert "1m candles" in home.log()
    finally:
        home.end()


def test_a_sweep_varies_the_parameters_that_a_file_declares():
    entry = load().get("rsi_reversal")
    axes = space.axes(tuple(entry.cls.params), {"oversold": "20:40:10", "overbought": "", "stop_loss_pct": "1,2"})
    assert [(a.name, len(a.grid())) for a in axes] == [("oversold", 3), ("overbought", 5), ("stop_loss_pct", 2)]
    assert all(entry.build({n: v for n, v in c.items() if n != "stop_loss_pct"}).warmup <= 1000 for c in space.grid(axes))
