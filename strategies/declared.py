"""Strategies that are declared in a YAML file, made into classes like any other. Touches no file.

`make(source, name)` reads a file's text (strategies/fields.py says what may stand in it) and
gives a class whose parameters, signals, warm-up and reasons follow from it. A declared strategy buys
when its entry rules hold on a closed candle and sells when its exit rules do; where both hold it
sells, because what would be bought would have to be sold at once. Short rules are read, checked and
shown, and used by nothing: no market here has shorts yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from core.errors import StrategyError
from core.market import timeframes
from strategies import rule_values
from strategies.base import Strategy
from strategies.declaration import Declaration, Group, Measure, Rule
from strategies.fields import read
from strategies.rules import COLUMNS, Given, Join, Value, leaves

MOST_ROWS = 1000  # what one request for candles brings (core/bot/feed.py)
SHOWN_VALUES = 12
NO_SHORTS = "Its short rules are kept but not used: this market has no shorts."
_BY_DAY = "vwap_day"  # the one indicator that depends on how long a candle is


class Declared(Strategy):
    """What all of them share. Each file becomes a class of its own with its `declaration`."""

    declaration: ClassVar[Declaration]

    @property
    def warmup(self) -> int:
        return rows_needed(self.declaration, self.values)

    @property
    def sizes_entries(self) -> bool:
        return self.declaration.size < 100

    @classmethod
    def problems(cls, values: Mapping[str, Any]) -> list[str]:
        return [line for p in _problems(cls.declaration, values) for line in p.split("\n")]

    def _table(self, candles: pd.DataFrame) -> rule_values.Table:
        return self.once(candles, lambda: _table(self, candles))

    def _holds(self, group: Group, table: rule_values.Table) -> np.ndarray:
        """int8 truths of a group, as rules have them (strategies/rule_values.py)."""
        if not group.parts:
            return np.full(table.size, -1, dtype=np.int8)
        found = [self._holds(p, table) if isinstance(p, Group) else table.truth(p.node) for p in group.parts]
        return np.minimum.reduce(found) if group.every else np.maximum.reduce(found)

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        d, table = self.declaration, self._table(candles)
        leave = self._holds(d.exit, table) > 0
        enter = (self._holds(d.entry, table) > 0) & ~leave
        found = enter.astype(np.int8) - leave.astype(np.int8)
        found[: self.warmup - 1] = 0  # earlier values show where the table began
        return found

    def size(self, candles: pd.DataFrame) -> np.ndarray | None:
        return np.full(len(candles), self.declaration.size / 100) if self.sizes_entries else None

    def reason(self, candles: pd.DataFrame, i: int) -> str:
        if i + 1 < self.warmup:
            return f"Too few candles yet: {i + 1} of {self.warmup}"
        d, table = self.declaration, self._table(candles)
        signal = int(self.signals(candles)[i])
        if signal > 0:
            told = f"Entry: {self._rules(d.entry, table, i, True)}"
        elif signal < 0:
            told = f"Exit: {self._rules(d.exit, table, i, True)}"
        else:
            told = f"Waiting for: {self._rules(d.entry, table, i, False)}"
        short = "; its short entry holds, but this market has no shorts" if d.short_entry.parts and self._holds(d.short_entry, table)[i] > 0 else ""
        return f"{told} ({self._shown((d.entry, d.exit), table, i)}){short}"

    def _rules(self, group: Group, table: rule_values.Table, i: int, holding: bool) -> str:
        """The rules of a group that hold at row `i`, or those that don't."""
        chosen = [r for r in group.rules() if (table.truth(r.node)[i] > 0) == holding]
        return (" and " if group.every or holding else " or ").join(_told(r) if len(chosen) > 1 else r.text for r in chosen)

    def _shown(self, groups: tuple[Group, ...], table: rule_values.Table, i: int) -> str:
        found: dict[str, str] = {}
        for rule in (r for g in groups for r in g.rules()):
            for leaf in leaves(rule.node):
                if isinstance(leaf, Given):
                    found[leaf.name] = f"{self.values[leaf.name]:g}"
                else:
                    value = float(table.past(leaf)[i])
                    # (Cut to ten digits first: the last ones show where the table began, and could turn a five.)
                    found[leaf.text()] = f"{float(f'{value:.10g}'):.6g}" if np.isfinite(value) else "not known"
        shown = [f"{name} {text}" for name, text in found.items()]
        return ", ".join(shown[:SHOWN_VALUES]) + (", ..." if len(shown) > SHOWN_VALUES else "")


def make(source: bytes, name: str) -> type[Declared]:
    """The class of a file's text; `name`: the file's name without its ending. StrategyError lists what is wrong, with lines."""
    found = read(source, name)
    defaults = {p.name: p.default for p in found.params}
    if problems := _problems(found, defaults):
        raise StrategyError("with the parameters' defaults: " + "; ".join(problems))
    about = [found.description or f"Buys when {_told(found.entry)}." + (f" Sells when {_told(found.exit)}." if found.exit.parts else "")]
    if found.has_shorts:
        about.append(NO_SHORTS)
    body: dict[str, Any] = {
        "__doc__": " ".join(about),
        "__module__": __name__,
        "declaration": found,
        "key": found.key,
        "title": found.title,
        "description": " ".join(about),
        "params": found.params,
        "symbol": found.symbol,
        "timeframe": found.timeframe,
        "stop_loss_pct": found.stop_loss,
        "take_profit_pct": found.take_profit,
    }
    return type("Declared_" + "".join(c if c.isalnum() else "_" for c in found.key), (Declared,), body)


def _told(group: Group | Rule) -> str:
    """A rule or a group in words, such that it may stand beside others."""
    if isinstance(group, Rule):
        return f"({group.text})" if isinstance(group.node, Join) and not group.node.every else group.text
    parts = [f"({_told(p)})" if isinstance(p, Group) else _told(p) for p in group.parts]
    return (" and " if group.every else " or ").join(parts)[:600]


def _length_ms(declaration: Declaration) -> int:
    return timeframes.MS[declaration.timeframe or "1m"]


def rows_needed(declaration: Declaration, values: Mapping[str, Any]) -> int:
    """Closed candles that its rules rest on, with these parameters: what their indicators need to settle, and how far they look back."""
    settled = dict.fromkeys(COLUMNS, 1)
    for m in declaration.measures:
        rows = m.indicator.settle(m.values(values), _length_ms(declaration))
        settled.update(dict.fromkeys(m.outputs().values(), rows))
    return max(rule_values.rows(r.node, settled, values) for r in declaration.all_rules())


def _problems(declaration: Declaration, values: Mapping[str, Any]) -> list[str]:
    found = []
    for m in declaration.measures:
        try:
            m.values(values)
        except ValueError as e:
            found.append(str(e))
    if found:
        return found
    try:
        rows = rows_needed(declaration, values)
    except ValueError as e:
        return [str(e)]
    if rows > MOST_ROWS:
        day = any(m.indicator.name == _BY_DAY for m in declaration.measures) and _length_ms(declaration) < 2 * timeframes.MINUTE
        remedy = f"declare a timeframe of 3m or longer, because {_BY_DAY} needs a whole day" if day else "choose shorter windows"
        return [f"its rules rest on {rows} candles, and no bot is handed more than {MOST_ROWS}; {remedy}"]
    return []


def _table(strategy: Declared, candles: pd.DataFrame) -> rule_values.Table:
    """Every value that a rule may name, over the candles."""
    declaration = strategy.declaration
    columns = {name: candles[name].to_numpy(dtype=float) for name in COLUMNS}
    used = {leaf.name for r in declaration.all_rules() for leaf in leaves(r.node) if isinstance(leaf, Value)}
    for m in declaration.measures:
        names = m.outputs()
        if used.isdisjoint(names.values()):
            continue
        if m.indicator.name == _BY_DAY:
            _whole_days(declaration, candles)
        made = m.indicator.compute(candles, m.values(strategy.values))
        columns.update({names[o]: _clean(m, series.to_numpy(dtype=float), columns, strategy.values) for o, series in made.items()})
    return rule_values.Table(columns, strategy.values, len(candles))


def _clean(m: Measure, values: np.ndarray, columns: Mapping[str, np.ndarray], given: Mapping[str, Any]) -> np.ndarray:
    """An indicator's values, not known where a price that stands still leaves nothing but remainders to compare.

    RSI is a ratio of two means that both fade while nothing moves: what is left of it then shows only how
    far back the table reaches. Likewise the differences in a MACD."""
    found = np.where(np.isfinite(values), values, np.nan)
    if m.indicator.name == "rsi":
        window, close = int(m.values(given)["window"]), columns["close"]
        moved = np.concatenate(([False], close[1:] != close[:-1]))
        lately = np.cumsum(moved)
        before = np.concatenate((np.zeros(window, dtype=lately.dtype), lately))[: len(lately)]
        found = np.where(lately > before, found, np.nan)
    elif m.indicator.name == "macd":
        found = np.where(np.abs(found) <= 1e-10 * np.abs(columns["close"]), 0.0, found)
    return found


def _whole_days(declaration: Declaration, candles: pd.DataFrame) -> None:
    """The day's mean price needs the day's first candle: on shorter candles than declared it would not be there."""
    opened = candles["open_time"].to_numpy(dtype=np.int64)
    wanted = _length_ms(declaration)
    if len(opened) > 1 and int(np.diff(opened).min()) < wanted:
        shorter = f"it is declared for candles of {declaration.timeframe}; give the bot that timeframe or a longer one"
        raise StrategyError(f"strategy {declaration.key} uses {_BY_DAY}, which needs whole days, and {shorter}")
