"""What a rule of a declared strategy rests on, and its truth at every row of a table. Pure.

A truth is +1 (it holds), −1 (it doesn't) or 0 (a value isn't known yet): then neither the rule nor
its opposite holds. `and` is the smaller of two, `or` the greater, `not` the negative (Kleene's
logic). Two values that differ by less than a ten-thousand-millionth are the same, as everywhere
(core/market/indicators.py, `SAME`): so nothing turns on the remainder of a running sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from core.market import indicators
from strategies.rules import MOST_BACK, Compare, Cross, Given, Join, Node, Not, Number, Sum, Value, parts


def rows(node: Node, settled: Mapping[str, int], given: Mapping[str, Any]) -> int:
    """Closed candles behind the newest (itself included) that the rule rests on; `settled` says it of each value.
    ValueError where a parameter counts candles back that can't be counted."""
    if isinstance(node, Value):
        return settled[node.name] + _back(node, given)
    return max((rows(part, settled, given) for part in parts(node)), default=0) + isinstance(node, Cross)


def _back(node: Value, given: Mapping[str, Any]) -> int:
    if not isinstance(node.back, Given):
        return node.back
    back = int(given[node.back.name])
    if not 0 <= back <= MOST_BACK:
        raise ValueError(f"{node.back.name}: must be a whole number from 0 to {MOST_BACK}, because {node.text()} counts candles back by it, not {back}")
    return back


@dataclass(frozen=True, slots=True)
class Table:
    """`columns`: every value by its name, float64 arrays of `size`; NaN: not known. `given`: the parameters."""

    columns: Mapping[str, np.ndarray]
    given: Mapping[str, Any]
    size: int

    def truth(self, node: Node) -> np.ndarray:
        """int8 of the table's length: +1 it holds, −1 it doesn't, 0 not known."""
        if isinstance(node, Not):
            return -self.truth(node.part)
        if isinstance(node, Join):
            found = [self.truth(part) for part in node.parts]
            return np.minimum.reduce(found) if node.every else np.maximum.reduce(found)
        if isinstance(node, Compare | Cross):
            left, right = pd.Series(self.number(node.left)), pd.Series(self.number(node.right))
            known = (left.notna() & right.notna()).to_numpy()
            if isinstance(node, Cross):
                known = known & np.concatenate(([False], known[:-1]))[: self.size]
                held = indicators.crosses(left, right) == (1 if node.above else -1)
            else:
                held = _HOLDS[node.sign](indicators.side(left, right))
            return np.where(known, np.where(held, 1, -1), 0).astype(np.int8)
        raise TypeError(f"{type(node).__name__} is a number")

    def number(self, node: Node) -> np.ndarray:
        """float64 of the table's length; NaN where it isn't known or has no value (a division by 0)."""
        if isinstance(node, Number):
            return np.full(self.size, node.value)
        if isinstance(node, Given):
            return np.full(self.size, float(self.given[node.name]))
        if isinstance(node, Value):
            return self.past(node)
        if isinstance(node, Sum):
            left, right = self.number(node.left), self.number(node.right)
            with np.errstate(all="ignore"):
                if node.sign in "+-":
                    found = left + right if node.sign == "+" else left - right
                    # A difference that is nothing beside its parts is a remainder of running sums.
                    nothing = np.abs(found) <= indicators.SAME * np.maximum(np.abs(left), np.abs(right))
                    found = np.where(nothing, 0.0, found)
                else:
                    found = left * right if node.sign == "*" else left / right
            return np.where(np.isfinite(found), found, np.nan)
        raise TypeError(f"{type(node).__name__} is no number")

    def past(self, node: Value) -> np.ndarray:
        back, column = _back(node, self.given), self.columns[node.name]
        if not back:
            return column
        found = np.full(self.size, np.nan)
        found[back:] = column[: self.size - back] if back < self.size else []
        return found


_HOLDS: Mapping[str, Any] = {
    "<": lambda s: s < 0,
    "<=": lambda s: s <= 0,
    ">": lambda s: s > 0,
    ">=": lambda s: s >= 0,
    "==": lambda s: s == 0,
    "!=": lambda s: s != 0,
}
