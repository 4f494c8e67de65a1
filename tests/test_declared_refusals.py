"""Declared strategies that are wrong: each is refused with its line and what would be right, and keeps no other from loading."""

from __future__ import annotations

from decimal import Decimal as D
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from core.errors import InputError, StrategyError
from core.storage import loads
from strategies import marked_yaml
from strategies.declared import make
from strategies.registry import FOLDER, load
from test_dash_gate import Page

GOOD = """\
title: Mine
timeframe: 5m
parameters:
  low: {default: 30, low: 5, high: 50, help: the level}
indicators:
  rsi: {indicator: rsi, window: 14}
  macd: macd
entry:
  - rsi < level
exit: rsi > 70
""".replace("  low: {", "  level: {")


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def added(text: str) -> str:
    return GOOD + text + "\n"


WRONG: list[tuple[str, str | bytes, str, str]] = [
    # what is wrong, the file, where, what it says
    ("an unknown field", added("take_proft: 3"), "line 11, column 1", "there is no field 'take_proft'; did you mean take_profit?"),
    ("a field given twice", added("title: Again"), "line 11, column 1", "'title' is given twice, first in line 1; keep one"),
    ("an indented tab", changed("  - rsi < level", "\t- rsi < level"), "line 9", "indent with blanks, not with tabs"),
    ("a missing quote", changed("title: Mine", "title: 'Mine"), "line 1, column 8", "the quote that opens here is never closed"),
    ("two fields on a line", changed("title: Mine", "title: Mine: yours"), "line 1, column 12", "in quotes"),
    ("a wrong indentation", changed("exit: rsi > 70", " exit: rsi > 70"), "line 10", "check the indentation"),
    ("a rule that begins with a brace", changed("  - rsi < level", "  - {level} > rsi"), "line 9", "put a rule that begins with { or [ in quotes"),
    ("an anchor", changed("exit: rsi", "exit: &a rsi"), "line 10, column 7", "anchors (&) and aliases (*) are not read"),
    ("an alias bomb", "a: &a [x, x]\nb: &b [*a, *a]\nentry: [*b, *b]", "line 1, column 4", "write out what is meant"),
    ("a tag that would run code", added("key: !!python/object/apply:os.system [id]"), "line 11, column 6", "is not read here; remove it"),
    ("two documents", added("---\nentry: rsi < 3"), "line 11", "keep one strategy a file"),
    ("an empty file", "", "line 1", "the file is empty"),
    ("a list instead of fields", "- rsi < 30", "line 1, column 1", "a list of fields such as entry: and exit:"),
    ("bytes that are no text", b"title: \xff", "line 1", "save the file as UTF-8"),
    ("a control character", b"title: a\x07b", "line 1", "does not allow"),
    ("an escape that hides one", 'title: "a\\u202eb"\nentry: close > 1\nstop_loss: 1', "line 1, column 8", "can't be shown"),
    ("an escape beyond all characters", 'title: "\\UFFFFFFFF"', "line 1", "this is not YAML"),
    ("lists in lists without end", "entry: " + "[" * 5000, "line 1, column 19", "write it flatter"),
    ("too many values", "entry:\n" + "- close > 1\n" * 7000, "line", "a strategy has"),
    ("a file that is too long", "# " + "x" * 70_000 + "\n" + GOOD, "line 1", "at most 65536"),
    ("no entry", changed("entry:\n  - rsi < level\n", ""), "line 1", "there is no entry; say when to buy, as in entry: rsi < 30"),
    ("an empty entry", changed("entry:\n  - rsi < level", "entry: []"), "line 8", "entry has no rule"),
    ("an empty rule", changed("  - rsi < level", "  -"), "line 9", "entry has an empty rule"),
    ("nothing that sells", changed("exit: rsi > 70\n", ""), "line 1", "give it an exit, a take_profit or a stop_loss"),
    ("a rule with a wrong name", changed("  - rsi < level", "  - rsj < level"), "line 9, column 5", "there is no 'rsj'; did you mean rsi?"),
    ("a rule with a wrong name in quotes", changed("  - rsi < level", "  - 'rsi < levle'"), "line 9, column 12", "did you mean level?"),
    ("a rule that is no comparison", changed("exit: rsi > 70", "exit: rsi"), "line 10, column 7", "compare it, as in rsi < 30"),
    ("a rule that is cut off", changed("exit: rsi > 70", "exit: rsi >"), "line 10, column 12", "a name, a number or ( belongs here"),
    ("one of several outputs not named", changed("exit: rsi > 70", "exit: macd > 0"), "line 10, column 7", "write macd.line or macd.signal or macd.histogram"),
    ("a look into the future", changed("exit: rsi > 70", "exit: rsi[-1] > 70"), "line 10, column 11", "later candles can't be looked at"),
    ("code in a rule", changed("exit: rsi > 70", "exit: __import__('os').system('id')"), "line 10", "a rule holds no texts"),
    ("a folded rule", changed("exit: rsi > 70", "exit: >\n  rsi >\n  seventy"), "line 10", "at character 7 of the text: "),
    ("fields instead of rules", changed("exit: rsi > 70", "exit: {rsi: 70}"), "line 10, column 7", "exit must be a rule, a list of rules, or one of any:"),
    ("any without a list", changed("exit: rsi > 70", "exit:\n  any: rsi > 70"), "line 11", "any: must hold a list of rules"),
    ("too many rules", changed("exit: rsi > 70", "exit:" + "\n  - rsi > 70" * 51), "line 11", "exit has 51 rules; at most 50"),
    ("an unknown indicator", changed("indicator: rsi", "indicator: rsii"), "line 6, column 20", "there is no indicator 'rsii'; did you mean rsi?"),
    ("an indicator without its word", changed("{indicator: rsi, window: 14}", "{window: 14}"), "line 6, column 8", "must say which indicator it is"),
    ("an unknown parameter of an indicator", changed("window: 14", "windw: 14"), "line 6, column 25", "rsi has no parameter 'windw'; did you mean window?"),
    ("an indicator out of range", changed("window: 14", "window: 1"), "line 6, column 33", "window must be a whole number from 2 to 500, not '1'"),
    ("half a candle", changed("window: 14", "window: 14.5"), "line 6, column 33", "a whole number"),
    ("a reference to nothing", changed("window: 14", "window: lenght"), "line 6, column 33", "there is no parameter 'lenght'; known are level"),
    ("a fast mean that is slower", changed("macd: macd", "macd: {indicator: macd, fast: 30, slow: 20}"), "line 7", "fast must be below slow (20), not 30"),
    ("indicators that are no names", changed("indicators:\n", "indicators: [rsi]\nx:\n"), "line 5, column 13", "indicators must hold names"),
    ("a name that means something already", changed("  macd: macd", "  close: rsi"), "line 7, column 3", "close can't be the name of an indicator"),
    ("a name with a blank", changed("  macd: macd", "  my macd: macd"), "line 7, column 3", "letters, digits and _"),
    ("a name given twice over", changed("  macd: macd", "  level: macd"), "line 7, column 3", "level is the name of a parameter already"),
    ("a parameter without default", changed("default: 30, ", ""), "line 4, column 10", "parameter level has no default"),
    ("a parameter that is no number", changed("default: 30", "default: thirty"), "line 4, column 20", "must be a number such as 14 or 0.5, not 'thirty'"),
    ("a default out of its range", changed("default: 30", "default: 60"), "line 4, column 20", "must be a whole number from 5 to 50, not '60'"),
    ("a range upside down", changed("low: 5", "low: 55"), "line 4, column 29", "above its high of 50; exchange them"),
    ("an unknown field of a parameter", changed("help: the", "hlep: the"), "line 4", "did you mean help?"),
    ("a parameter called as a setting", changed("  level: {", "  stop_loss_pct: {").replace("rsi < level", "rsi < 30"), "line 4", "has a meaning already"),
    ("a timeframe that there isn't", changed("timeframe: 5m", "timeframe: 7m"), "line 2, column 12", "timeframe must be one of 1s, 1m"),
    ("a symbol as people write it", added("symbol: btc to usdt"), "line 11, column 9", "such as BTCUSDT"),
    ("a key that can't be one", added("key: a b/c"), "line 11, column 6", "1 to 60 letters, digits"),
    ("a stop of more than there is", added("stop_loss: 120"), "line 11, column 12", "a percentage from 0 (none) to 99, such as 2.5, not '120'"),
    ("a target that is no number", added("take_profit: much"), "line 11, column 14", "take_profit must be a percentage"),
    ("a size of nothing", added("size: 0"), "line 11, column 7", "a whole percentage of the pot above 0"),
    ("a size beyond the pot", added("size: 101"), "line 11, column 7", "to 100 at most"),
    ("a size between two percents", added("size: 12.5"), "line 11, column 7", "a whole percentage"),
    ("more than one entry", added("maximum_entries: 3"), "line 11, column 18", "maximum_entries: 3 would add to an open position"),
    ("no entries at all", added("maximum_entries: 0"), "line 11, column 18", "maximum_entries must be 1"),
    ("a wrong short rule", added("short:\n  entry: rsi >> 70"), "line 12, column 15", "a name, a number"),
    ("a short exit without an entry", added("short:\n  exit: rsi < 70"), "line", "short has an exit and no entry"),
    ("windows beyond what a bot is handed", changed("window: 14", "window: 500"), "", "rest on 14302 candles, and no bot is handed more than 1000"),
    ("a day of candles too short", changed("  macd: macd", "  macd: vwap_day").replace("5m", "1m").replace("> 70", "> macd"), "", "timeframe of 3m or longer"),
    ("a parameter that changes nothing", changed("rsi < level", "rsi < 30"), "line 4, column 3", "parameter level changes nothing; use it"),
    ("a help that is a list", changed("help: the level", "help: [the]"), "line 4", "help of parameter level must be a text"),
    ("a title that is a list", changed("title: Mine", "title: [Mine]"), "line 1, column 8", "title must be a text"),
    ("a title without end", changed("title: Mine", "title: " + "x" * 81), "line 1, column 8", "at most 80"),
    ("a name that is a list", added("? [a, b]\n: 1"), "line 11", "a field's name must be a text"),
]


@pytest.mark.parametrize(("text", "where", "says"), [pytest.param(*row[1:], id=row[0]) for row in WRONG])
def test_a_wrong_file_is_refused_with_its_line_and_what_would_be_right(tmp_path: Path, text: str | bytes, where: str, says: str):
    (tmp_path / "bad.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "good.yaml").write_text(GOOD, encoding="utf-8")
    registry = load(tmp_path)
    assert set(registry.broken) == {"bad.yaml"}
    told = registry.broken["bad.yaml"]
    assert where in told and says in told
    assert len(told) < 1500 and "\n" not in told
    assert {"good", "rsi_reversal", "volatile"} <= set(registry.keys()) and "bad" not in registry
    with pytest.raises(StrategyError, match=r"bad\.yaml is broken"):
        registry.get("bad")


def test_there_are_at_least_thirty_kinds_and_the_good_file_is_good(tmp_path: Path):
    assert len({row[0] for row in WRONG}) == len(WRONG) >= 30
    assert make(GOOD.encode(), "good").title == "Mine"


def test_all_that_is_wrong_is_told_at_once_in_the_order_of_the_lines():
    text = changed("timeframe: 5m", "timeframe: 7m").replace("rsi < level", "rsj < level").replace("exit: rsi > 70", "exit: rsi >\nsize: 0")
    with pytest.raises(StrategyError) as e:
        make(text.encode(), "x")
    told = str(e.value)
    assert [told.index(f"line {n},") for n in (2, 9, 10, 11)] == sorted(told.index(f"line {n},") for n in (2, 9, 10, 11))


def test_after_a_wrong_indicator_its_rules_are_not_blamed():
    with pytest.raises(StrategyError) as e:
        make(changed("indicator: rsi", "indicator: rsii").encode(), "x")
    assert str(e.value).count("line ") == 1


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"nonsense": 1}, "nonsense: own has no such parameter; it has level, fast, slow, back"),
        ({"level": "low"}, "level: must be a whole number from 5 to 50, not 'low'"),
        ({"level": 60}, "level: must be a whole number from 5 to 50"),
        ({"level": 30.5}, "level: must be a whole number"),
        ({"level": [30]}, "level: must be"),
        ({"fast": 40, "slow": 20}, "indicator macd: macd: fast must be below slow (20), not 40"),
        ({"slow": 600}, "indicator macd: macd: slow must be a whole number from 3 to 500, not '600'"),
        ({"slow": 120}, "no bot is handed more than 1000"),
        ({"back": -1}, "back: must be a whole number from 0 to 500"),
        ({"back": 501}, "back: must be a whole number from 0 to 500"),
    ],
)
def test_wrong_parameters_are_refused_by_name_with_what_would_be_right(tmp_path: Path, params: dict[str, Any], says: str):
    (tmp_path / "own.yml").write_text(
        "parameters: {level: {default: 30, low: 5, high: 50}, fast: 12, slow: 26, back: 3}\n"
        'indicators: {rsi: rsi, macd: {indicator: macd, fast: fast, slow: "{slow}"}}\n'
        "entry:\n  - rsi < level\n  - macd.line > macd.signal\n  - close > close[back]\nexit: rsi > 70\n",
        encoding="utf-8",
    )
    registry = load(tmp_path)
    assert registry.broken == {}
    with pytest.raises(InputError) as e:
        registry.build("own", params)
    assert says in str(e.value)


SHIPPED = (FOLDER / "rsi_reversal.yaml").read_text(encoding="utf-8")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    some.integers(0, len(SHIPPED)),
    some.integers(0, 40),
    some.text(some.sampled_from(list("{}[]:-<>&*!|%@`'\"#,? \t\n0123abcé\U0001f600\x07")), max_size=12),
)
def test_a_shipped_file_with_anything_changed_loads_or_is_refused(at: int, length: int, put: str):
    try:
        made = make((SHIPPED[:at] + put + SHIPPED[at + length :]).encode(), "x")
    except StrategyError as e:
        assert str(e)
    else:
        assert 0 < made().warmup <= 1000


@settings(max_examples=150, deadline=None, derandomize=True)
@given(some.binary(max_size=60))
def test_any_bytes_are_yaml_or_a_refusal(source: bytes):
    try:
        marked_yaml.read(source)
    except marked_yaml.MarkedError as e:
        assert str(e).startswith("line ")


def test_the_page_names_a_wrong_file_and_offers_the_right_one(home: Path):
    (home / "active_bots.json").write_text("[]")
    (home / "strategies").mkdir()
    (home / "strategies" / "bad.yaml").write_text(changed("window: 14", "windw: 14"), encoding="utf-8")
    (home / "strategies" / "good.yaml").write_text(added("symbol: ETHUSDT\nstop_loss: 2.50"), encoding="utf-8")
    page = Page(home)
    found = loads(page.send("GET", "/api/strategies").data)
    assert "line 6, column 25" in found["broken"]["bad.yaml"]
    good = next(s for s in found["strategies"] if s["key"] == "good")
    assert (good["title"], good["timeframe"], good["symbol"], good["stop_loss_pct"], good["take_profit_pct"]) == ("Mine", "5m", "ETHUSDT", D("2.50"), None)
    body = {"name": "Bot", "symbol": "ETHUSDT", "strategy": "good", "trade_amount": 100}
    answer = page.send("POST", "/api/create-bot", {**body, "params": {"level": 60}})
    assert answer.status_code == 400 and "level: must be a whole number from 5 to 50" in loads(answer.data)["error"]
    answer = page.send("POST", "/api/create-bot", {**body, "strategy": "bad"})
    assert answer.status_code == 400 and "bad.yaml is broken: line 6, column 25" in loads(answer.data)["error"]
    assert page.send("POST", "/api/create-bot", {**body, "params": {"level": 40}}).status_code == 201
