"""Strategies: what the registry finds, what the base class promises, and how the shipped ones behave."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError, StrategyError
from core.model import Candles, Decision, Position, Rules, Symbol, Venue
from market_data import real_candles, table, walk
from strategies.base import MarketView, Param, Strategy
from strategies.plain import PlainStrategy
from strategies.registry import load
from strategies.tables import frame, rows_of

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("simple_profitable", "ticker_news", "volatile")

PLAIN = '''
class Mine:
    """Buys when the close rises."""
    def analyze(self, data):
        up = float(data[-1][4]) > float(data[-2][4])
        return {"signal": "BUY" if up else "HOLD", "reasoning": "close rose"}
'''


def write(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


# --- the registry -------------------------------------------------------------------


def test_the_shipped_strategies_are_found_by_their_keys():
    registry = load()
    assert set(SHIPPED) <= set(registry)
    assert registry.broken == {}
    assert registry.get("volatile").file.name == "volatile_coins_strategy.py"
    assert registry.get("simple_profitable").file.name == "simple_profitable_strategy.py"
    assert "volatile" in registry and "nonsense" not in registry


def test_an_unknown_key_is_answered_with_the_known_ones():
    with pytest.raises(StrategyError, match=r"no strategy 'moonshot'; known are: .*simple_profitable.*volatile"):
        load().get("moonshot")


def test_a_file_in_the_extra_folder_is_found_by_its_name(tmp_path):
    write(tmp_path / "s", "my_own_strategy.py", PLAIN)
    write(tmp_path / "s", "not_one.py", "raise SystemExit(1)")
    registry = load(tmp_path / "s")
    assert registry.get("my_own").title == "Mine"
    assert registry.get("my_own").description == "Buys when the close rises."
    assert registry.broken == {}


def test_a_missing_extra_folder_is_no_problem(tmp_path):
    assert "volatile" in load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("import no_such_module_anywhere", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("1 / 0", "ZeroDivisionError"),
        ("x = 1", "it has no strategy"),
        ("class A:\n    def analyze(self, data): ...\nclass B:\n    def analyze(self, data): ...\n", "several strategies"),
        ("class A:\n    key = 'a b/c'\n    def analyze(self, data): ...\n", "its key must be"),
        ("class A:\n    def __init__(self, x): ...\n    def analyze(self, data): ...\n", "broke in __init__"),
        ("class A:\n    warmup = 0\n    def analyze(self, data): ...\n", "warmup must be"),
        ("\x00", "null bytes"),
    ],
)
def test_a_broken_file_is_named_and_keeps_no_other_from_loading(tmp_path, text, reason):
    write(tmp_path, "bad_strategy.py", text)
    write(tmp_path, "good_strategy.py", PLAIN)
    registry = load(tmp_path)
    assert reason in registry.broken["bad_strategy.py"]
    assert {"good", *SHIPPED} <= set(registry.keys())
    with pytest.raises(StrategyError, match=r"bad_strategy\.py is broken"):
        load(tmp_path).get("bad") if "SyntaxError" in reason or "null" in reason else registry.get("bad")


def test_a_copy_of_a_shipped_file_is_no_second_strategy(tmp_path):
    for name in ("scalping_strategy.py", "ema_trend.yaml"):
        (tmp_path / name).write_bytes((ROOT / "strategies" / name).read_bytes())
    assert load(tmp_path).broken == {} and list(load(tmp_path)) == list(load())
    (tmp_path / "scalping_strategy.py").write_bytes(b"# changed\n" + (ROOT / "strategies/scalping_strategy.py").read_bytes())
    assert list(load(tmp_path).broken) == ["scalping_strategy.py"]


def test_a_key_that_two_files_have_is_named_and_the_first_keeps_it(tmp_path):
    write(tmp_path, "a_strategy.py", PLAIN.replace("def analyze", "key = 'volatile'\n    def analyze"))
    registry = load(tmp_path)
    assert "already that of" in registry.broken["a_strategy.py"]
    assert registry.get("volatile").file.parent == ROOT / "strategies"


def test_a_key_that_only_running_the_file_tells_is_found(tmp_path):
    write(tmp_path, "odd_strategy.py", PLAIN.replace("def analyze", "key = '-'.join(['made', 'up'])\n    def analyze"))
    assert load(tmp_path).build("made-up").name == "made-up"


def test_a_bot_loads_its_own_strategy_and_no_other(tmp_path):
    write(tmp_path, "noisy_strategy.py", "open(__file__ + '.ran', 'w').close()\n" + PLAIN)
    write(tmp_path, "mine_strategy.py", PLAIN)
    load(tmp_path).build("mine")
    assert not (tmp_path / "noisy_strategy.py.ran").exists()
    load(tmp_path).keys()
    assert (tmp_path / "noisy_strategy.py.ran").exists()


def test_a_plain_strategy_brings_neither_pandas_nor_numpy(tmp_path):
    write(tmp_path, "mine_strategy.py", PLAIN)
    code = (
        "import sys\nfrom strategies.registry import load\n"
        f"s = load({str(tmp_path)!r}).build('mine')\n"
        "assert s.analyze([[0, '1', '1', '1', '1', '1'], [1, '2', '2', '2', '2', '2']])['signal'] == 'BUY'\n"
        "sys.exit('pandas' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_version_is_that_of_the_files_text(tmp_path):
    write(tmp_path, "mine_strategy.py", PLAIN)
    first = load(tmp_path).build("mine")
    again = load(tmp_path).build("mine")
    write(tmp_path, "mine_strategy.py", PLAIN.replace('"BUY"', '"SELL"'))
    changed = load(tmp_path).build("mine")
    rows = rows_of(table([1, 2]))
    assert first.version == again.version != changed.version
    assert (first.analyze(rows)["signal"], changed.analyze(rows)["signal"]) == ("BUY", "SELL")
    assert changed.ref().key == "mine" and changed.ref().version == changed.version


def test_describe_has_all_that_the_page_shows():
    described = {d["key"]: d for d in load().describe()}
    for key in SHIPPED:
        d = described[key]
        assert d["title"] and d["description"] and d["warmup"] <= 1000 and d["version"]
        assert {"name", "type", "default", "min", "max", "help", "choices"} == set(d["params"][0])
        assert all(p["help"] for p in d["params"])


# --- parameters ---------------------------------------------------------------------


def test_parameters_are_read_from_text_and_kept_in_their_type():
    strategy = load().build("volatile", {"rsi_window": "10", "rsi_buy": Decimal("33.5"), "patience": 2.0})
    assert (strategy.p.rsi_window, strategy.p.rsi_buy, strategy.p.patience) == (10, 33.5, 2)
    assert strategy.ref().params["rsi_window"] == 10
    assert strategy.p.band_window == 20


def test_every_wrong_parameter_is_listed_at_once():
    with pytest.raises(InputError) as e:
        load().build("volatile", {"rsi_window": 0, "rsi_buy": "low", "nonsense": 1, "patience": 1.5, "macd_fast": True})
    text = str(e.value)
    expected = ("rsi_window: must be a whole number from 2 to 34, not '0'", "rsi_buy: must be a number", "nonsense: volatile has no", "patience", "macd_fast")
    assert [part for part in expected if part not in text] == []


def test_parameters_that_contradict_each_other_are_refused():
    with pytest.raises(InputError, match="macd_fast: must be below macd_slow"):
        load().build("volatile", {"macd_fast": 30, "macd_slow": 20})
    with pytest.raises(InputError, match="ema_fast: must be below ema_slow"):
        load().build("simple_profitable", {"ema_fast": 50, "ema_slow": 20})


@pytest.mark.parametrize(
    ("param", "given", "kept"),
    [
        (Param("x", bool, False), "yes", True),
        (Param("x", str, "a", choices=("a", "b")), "b", "b"),
        (Param("x", Decimal, Decimal(1)), "0.1", Decimal("0.1")),
        (Param("x", float, 1.0), 3, 3.0),
    ],
)
def test_each_type_of_parameter_is_converted(param, given, kept):
    assert param.check(given) == kept and type(param.check(given)) is type(kept)


@pytest.mark.parametrize(
    ("param", "given"),
    [
        (Param("x", bool, False), "maybe"),
        (Param("x", str, "a", choices=("a", "b")), "c"),
        (Param("x", str, "a"), 5),
        (Param("x", float, 1.0), "nan"),
        (Param("x", float, 1.0), float("inf")),
        (Param("x", int, 1, 0, 5), 6),
        (Param("x", int, 1), None),
        (Param("x", int, 1), "1e40"),
        (Param("x", int, 1), [1]),
    ],
)
def test_what_does_not_fit_a_parameter_is_refused_with_what_would_be_right(param, given):
    with pytest.raises(ValueError, match="must be"):
        param.check(given)


@pytest.mark.parametrize("key", SHIPPED)
def test_no_allowed_parameter_asks_for_more_candles_than_one_request_brings(key):
    cls = load().get(key).cls
    assert cls(**{p.name: p.high for p in cls.params if p.type is int and "fast" not in p.name}).warmup <= 1000


# --- the base class -----------------------------------------------------------------


class Steps(Strategy):
    """Buys above 10, sells below 5."""

    key = "steps"

    def signals(self, candles):
        close = candles["close"]
        return (close > 10).to_numpy().astype(int) - (close < 5).to_numpy().astype(int)


def test_analyze_follows_from_signals():
    strategy = Steps()
    answers = [strategy.analyze(rows_of(table([7, last]))) for last in (11, 4, 7)]
    assert [a["signal"] for a in answers] == ["BUY", "SELL", "HOLD"]
    assert all(isinstance(a["reasoning"], str) and a["reasoning"] for a in answers)
    assert strategy.analyze([])["signal"] == "HOLD"


def test_signals_follow_from_analyze_over_the_window_a_bot_would_hand_it():
    class Windowed:
        seen: list[int] = []

        def analyze(self, data):
            self.seen.append(len(data))
            return {"signal": "BUY" if float(data[-1][4]) >= max(float(r[4]) for r in data) else "SELL", "reasoning": ""}

    strategy = PlainStrategy(Windowed)
    strategy.kline_limit = 3
    found = strategy.signals(table([1, 2, 3, 2, 1, 2, 2]))
    assert found.tolist() == [0, 0, 1, -1, -1, 1, 1]
    assert set(Windowed.seen) == {3}
    assert found.dtype == np.int8


def test_a_plain_class_answers_with_its_recommended_symbol():
    class News:
        params = (Param("top", int, 3, 1, 9, ""),)
        timeframe = "1h"

        def __init__(self, top):
            self.top = top

        def analyze(self, data):
            return {"signal": "HOLD", "reasoning": f"best of {self.top}", "recommended_symbol": "ETHUSDT"}

    strategy = PlainStrategy(News, top="5")
    assert strategy.analyze([[0] * 12]) == {"signal": "HOLD", "reasoning": "best of 5", "recommended_symbol": "ETHUSDT"}
    assert strategy.timeframe == "1h" and strategy.warmup is None and strategy.ready(250) == strategy.candles_needed(250) == 250


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda c: np.zeros(len(c) - 1), "one number a candle"),
        (lambda c: np.full(len(c), 2), r"\+1, -1 or 0"),
        (lambda c: np.full(len(c), np.nan), r"\+1, -1 or 0"),
        (lambda c: ["BUY"] * len(c), r"\+1, -1 or 0"),
        (lambda c: None, "one number a candle"),
        (lambda c: c["nothing"], "broke in signals: KeyError"),
    ],
)
def test_a_strategy_that_breaks_is_named(answer, says):
    class Bad(Strategy):
        key = "bad"

        def signals(self, candles):
            return answer(candles)

    with pytest.raises(StrategyError, match=r"strategy bad.*" + says):
        Bad().signals(table([1, 2, 3]))
    with pytest.raises(StrategyError, match=r"strategy bad.*" + says):
        Bad().analyze(rows_of(table([1, 2, 3])))


@pytest.mark.parametrize("answer", [None, {}, {"signal": "buy"}, {"signal": ["BUY"]}, "BUY"])
def test_an_answer_that_is_none_is_refused(answer):
    class Bad:
        def analyze(self, data):
            return answer

    with pytest.raises(StrategyError, match="strategy Bad: analyze must return"):
        PlainStrategy(Bad).analyze([[0] * 12])


def test_a_strategy_that_manages_its_position_says_so_and_its_decision_is_checked():
    class Managed(Strategy):
        def decide(self, market, position):
            return Decision(reasoning=f"{market.price}") if position.flat else "sell"

    view = MarketView(Symbol("BTCUSDT", "BTC", "USDT", True, Rules()), Candles("BTCUSDT", "5m", []), Decimal(7), 0, Decimal(1), Decimal(0))
    flat = Position(1, Venue(), "BTCUSDT", "BTC", "USDT")
    assert Managed.manages_position and not Steps.manages_position
    assert Managed().decide(view, flat).reasoning == "7"
    assert Managed().decide(market=view, position=flat).reasoning == "7"
    with pytest.raises(StrategyError, match="decide must return a Decision"):
        Managed().decide(view, Position(1, Venue(), "BTCUSDT", "BTC", "USDT", direction="LONG"))
    with pytest.raises(StrategyError, match="doesn't manage its position"):
        Steps().decide(view, flat)


def test_rows_become_a_table_and_back():
    rows = [[1000, "1.5", "2", "1", "1.75", "0.00001", 60999, "0", 0, "0", "0", "0"], [61000, "1.75", "3", "1.7", "2.5", "12", 120999, "0", 0, "0", "0", "0"]]
    made = frame(rows)
    assert made["open_time"].dtype == np.int64 and all(made[c].dtype == np.float64 for c in ("open", "high", "low", "close", "volume"))
    assert rows_of(made) == rows
    assert frame([]).shape == (0, 6)
    with pytest.raises(StrategyError, match="can't be read as a table"):
        frame([[1, 2]])


# --- the shipped strategies ----------------------------------------------------------


@pytest.mark.parametrize("key", SHIPPED)
@pytest.mark.parametrize("market", ["walk", "wild", "BTC", "ETH", "COCOS"])
def test_the_value_at_a_row_from_the_whole_table_is_the_value_from_its_window(key, market):
    """What bot and backtester rest on: neither sees a difference in where the table began."""
    made = {"walk": lambda: walk(5000, seed=11), "wild": lambda: walk(5000, seed=12, move=0.02)}
    # COCOS: from rows where nothing traded across a price that became a thousandfold in one bar.
    candles = made[market]() if market in made else real_candles(f"spot-5m/{market}_USDT-5m", first=11_500, rows=5000)
    strategy = load().build(key)
    needed = strategy.candles_needed()
    whole = strategy.signals(candles)
    # Every row that has a signal (those are the rare ones) and a spread of the others.
    active = np.flatnonzero(whole)
    chosen = sorted({*active[active >= strategy.warmup - 1][::4].tolist(), *range(strategy.warmup - 1, len(candles), 97)})
    assert (whole[chosen] != 0).sum() >= 10 and len(chosen) >= 40
    for i in chosen:
        window = candles.iloc[max(0, i + 1 - needed) : i + 1]
        assert strategy.signals(window)[-1] == whole[i], f"row {i}"
    i = chosen[-1]
    window = candles.iloc[max(0, i + 1 - needed) : i + 1].reset_index(drop=True)
    assert strategy.reason(window, len(window) - 1) == strategy.reason(candles, i)


@pytest.mark.parametrize("key", SHIPPED)
def test_no_signal_looks_ahead(key):
    strategy = load().build(key)
    candles = walk(1500, seed=21)
    whole = strategy.signals(candles)
    for end in (700, 900, 1200, 1499):
        np.testing.assert_array_equal(whole[:end], strategy.signals(candles.iloc[:end]))


@pytest.mark.parametrize("key", SHIPPED)
def test_the_live_answer_is_the_signal_of_the_last_row(key):
    strategy = load().build(key)
    candles = walk(1200, seed=31)
    whole = strategy.signals(candles)
    names = {1: "BUY", -1: "SELL", 0: "HOLD"}
    for i in (*np.flatnonzero(whole)[-3:], 1100, 1199):
        answer = strategy.analyze(rows_of(candles.iloc[: i + 1]))
        assert answer["signal"] == names[whole[i]]
        assert "RSI" in answer["reasoning"]


@pytest.mark.parametrize("key", SHIPPED)
def test_too_few_candles_and_a_market_that_stands_still_are_no_signal(key):
    strategy = load().build(key)
    for rows in (1, 5, 30):
        answer = strategy.analyze(rows_of(walk(rows)))
        assert answer["signal"] == "HOLD" and f"Too few candles yet: {rows} of {strategy.warmup}" in answer["reasoning"]
    still = table([100.0] * 900, volume=[0.0] * 900)
    assert not strategy.signals(still).any()
    assert strategy.analyze(rows_of(still))["signal"] == "HOLD"
    # Trading stops after a busy time: no fresh signal once the last ones have run out.
    stopped = walk(900, seed=5)
    after = table([*stopped["close"], *[stopped["close"].iloc[-1]] * 300])
    assert not strategy.signals(after)[-250:].any()


@pytest.mark.parametrize("key", SHIPPED)
@pytest.mark.parametrize("market", ["walk", "BTC"])
def test_a_bot_at_default_intervals_finds_trades_every_day_but_not_all_the_time(key, market):
    """Checks every 900 s see each third 5m candle."""
    candles = walk(8640, seed=41) if market == "walk" else real_candles("spot-5m/BTC_USDT-5m", first=20_000, rows=8640)
    seen = load().build(key).signals(candles)[2::3]
    days = len(candles) / 288
    holding, trades = False, 0
    for signal in seen:
        if signal > 0 and not holding:
            holding = True
        elif signal < 0 and holding:
            holding, trades = False, trades + 1
    assert 0.8 <= trades / days <= 6
    assert (seen > 0).sum() / days <= 20 and (seen < 0).sum() / days <= 20


def dip(base):
    """A calm market, a sharp fall, and a turn."""
    return [*base, 99.5, 98.5, 97.0, 95.5, 95.4, 96.2]


CALM = [100 + 0.3 * np.sin(i / 3) for i in range(500)]


def test_volatile_buys_a_sharp_fall_that_turns_and_not_the_fall_itself():
    signals = load().build("volatile").signals(table(dip(CALM)))
    assert signals[-6:].tolist() == [0, 0, 0, 0, 0, 1]


def test_volatile_sells_a_sharp_rise_that_turns():
    signals = load().build("volatile").signals(table([200 - x for x in dip(CALM)]))
    assert signals[-6:].tolist() == [0, 0, 0, 0, 0, -1]


def rising(rows=800):
    """A steady rise of 0.03 % a candle with small waves."""
    return [100 * 1.0003**i * (1 + 0.0005 * np.sin(i / 2)) for i in range(rows)]


def test_simple_profitable_buys_the_end_of_a_pull_back_in_a_rise():
    base = rising()
    closes = [*base, *[base[-1] * f for f in (0.998, 0.996, 0.9945, 0.993, 0.9945)]]
    signals = load().build("simple_profitable").signals(table(closes))
    assert signals[-3:].tolist() == [0, 0, 1]


def test_simple_profitable_does_not_buy_in_a_fall_nor_without_volume():
    base = rising()
    up = [*base, *[base[-1] * f for f in (0.998, 0.996, 0.9945, 0.993, 0.9945)]]
    dead = table(up, volume=[*[10.0] * (len(up) - 1), 1.0])
    assert load().build("simple_profitable").signals(dead)[-1] == 0
    falling = load().build("simple_profitable").signals(table([100 * 0.9997**i * (1 + 0.002 * np.sin(i / 5)) for i in range(900)]))
    assert not (falling[100:] > 0).any()


def test_simple_profitable_sells_when_the_trend_breaks_and_when_it_overheats():
    base = rising()
    broken = load().build("simple_profitable").signals(table([*base, *[base[-1] * 0.998**i for i in range(1, 25)]]))
    assert -1 in broken[-20:] and 1 not in broken[-15:]
    hot = load().build("simple_profitable").signals(table([*base, *[base[-1] * 1.004**i for i in range(1, 12)], base[-1] * 1.004**11 * 0.999]))
    assert hot[-1] == -1
