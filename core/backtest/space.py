"""What a sweep varies: names, their values, and the combinations. Pure; touches no file.

A name is a parameter that the strategy declares, or one of the ways out (`EXITS`). Its values
come from a text: `5,10,20`, `20:100:20` (from, to, step), `5:30` (a range), or nothing: the
range that the strategy declares.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from core.errors import InputError
from core.model import plain
from strategies.base import Param

EXITS = (
    Param("stop_loss_pct", Decimal, Decimal(2), Decimal(0), Decimal(99), "stop loss, percent below the entry; 0: none"),
    Param("take_profit_pct", Decimal, Decimal(5), Decimal(0), Decimal(10000), "take profit, percent above the entry; 0: none"),
    Param("trailing_stop_pct", Decimal, Decimal(0), Decimal(0), Decimal(99), "trailing stop, percent below the highest high; 0: none"),
    Param("trailing_activation_pct", Decimal, Decimal(0), Decimal(0), Decimal(10000), "how far above the entry it begins"),
    Param("break_even_pct", Decimal, Decimal(0), Decimal(0), Decimal(10000), "how far above the entry the stop goes to it; 0: never"),
    Param("time_stop_candles", int, None, 1, 100_000, "out after so many closed candles"),
    Param("cooldown_checks", int, 1, 0, 1000, "checks skipped after a stop"),
)
STEPS = 5  # values that a range without a step becomes in a grid
MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Axis:
    """One name that varies. `values` in ascending order where they have one; a range (`low` to `high`) for random drawing where it has no values."""

    param: Param
    values: tuple[Any, ...] = ()
    low: Any = None
    high: Any = None

    @property
    def name(self) -> str:
        return self.param.name

    @property
    def of_exit(self) -> bool:
        return self.param in EXITS

    def grid(self) -> tuple[Any, ...]:
        """All values; of a range, STEPS of them, evenly spread, both ends included."""
        if self.values:
            return self.values
        low, high = Decimal(str(self.low)), Decimal(str(self.high))
        spread = [self.param.check(_rounded(self.param, low + (high - low) * i / (STEPS - 1))) for i in range(STEPS)]
        return tuple(dict.fromkeys(spread))

    def draw(self, dice: random.Random) -> Any:
        if self.values:
            return dice.choice(self.values)
        if self.param.type is int:
            return dice.randint(int(self.low), int(self.high))
        low, high = Decimal(str(self.low)), Decimal(str(self.high))
        return self.param.check(_rounded(self.param, low + (high - low) * Decimal(str(dice.random()))))

    def edges(self) -> tuple[Any, Any] | None:
        """The smallest and the largest value looked at, where order means something."""
        found = self.values or (self.low, self.high)
        if self.param.type in (bool, str) or len(set(found)) < 2:
            return None
        return min(found), max(found)


def axes(declared: Sequence[Param], texts: Mapping[str, str]) -> list[Axis]:
    """`texts`: name → its values as text (empty: the declared range). InputError lists everything that is wrong."""
    known = {p.name: p for p in (*EXITS, *declared)}  # a strategy's own name wins
    made, problems = [], []
    for name, text in texts.items():
        param = known.get(name)
        if param is None:
            problems.append(f"{name}: there is no such parameter; there are {', '.join(known)}")
            continue
        try:
            made.append(_axis(param, text.strip()))
        except ValueError as e:
            problems.append(f"{name}: {e}")
    if not texts:
        problems.append("nothing varies: name at least one parameter, such as --vary fast=5,10,20 (or --vary fast, for its declared range)")
    if problems:
        raise InputError("\n".join(problems))
    return made


def _axis(param: Param, text: str) -> Axis:
    if not text:
        if param.choices or param.type is bool:
            return Axis(param, tuple(param.choices or (False, True)))
        if param.low is None or param.high is None or param in EXITS:
            raise ValueError(f"it declares no range; give values, such as {param.name}=1,2,3 or {param.name}=1:3")
        return Axis(param, (), param.low, param.high)
    if ":" in text and param.type in (int, float, Decimal):
        low, high, step = (*text.split(":"), "", "")[:3]
        if text.count(":") > 2 or not low or not high:
            raise ValueError(f"{text!r} must be FROM:TO or FROM:TO:STEP, such as 20:100:20")
        first, last = param.check(low), param.check(high)
        if not first < last:
            raise ValueError(f"{text!r} must go upwards, from the smaller to the larger")
        return Axis(param, _steps(param, low, high, step)) if step else Axis(param, (), first, last)
    return Axis(param, tuple(_in_order([param.check(part.strip()) for part in text.split(",")])))


def _steps(param: Param, low: str, high: str, step: str) -> tuple[Any, ...]:
    try:
        by, at, last = Decimal(step), Decimal(low), Decimal(high)
    except InvalidOperation:
        by = at = last = Decimal(0)
    if not by.is_finite() or by <= 0:
        raise ValueError(f"the step {step!r} must be a number above 0")
    if (last - at) / by > MOST:
        raise ValueError(f"{low}:{high}:{step} are more than {MOST:,} values; take a larger step")
    return tuple(param.check(plain(at + by * i)) for i in range(int((last - at) / by) + 1))


def _in_order(values: list[Any]) -> list[Any]:
    unique = list(dict.fromkeys(values))
    return unique if any(isinstance(v, str | bool) for v in unique) else sorted(unique)


def _rounded(param: Param, value: Decimal) -> str:
    """Four digits that count are finer than any optimum is."""
    return str(int(value.to_integral_value())) if param.type is int else plain(Decimal(f"{value:.4g}"))


def size(varied: Sequence[Axis]) -> int:
    """How many combinations a grid has."""
    total = 1
    for axis in varied:
        total *= len(axis.grid())
    return total


def grid(varied: Sequence[Axis]) -> Iterator[dict[str, Any]]:
    """Every combination, the last name varying quickest. InputError above MOST."""
    if size(varied) > MOST:
        raise InputError(f"{size(varied):,} combinations are more than {MOST:,}; vary less, or draw some with --random")
    for values in itertools.product(*(axis.grid() for axis in varied)):
        yield {axis.name: value for axis, value in zip(varied, values, strict=True)}


def drawn(varied: Sequence[Axis], count: int, seed: int) -> list[dict[str, Any]]:
    """`count` different combinations by a seed; fewer where there are no more. The same seed draws the same ones."""
    dice = random.Random(seed)
    found: dict[str, dict[str, Any]] = {}
    for _ in range(count * 20):
        combination = {axis.name: axis.draw(dice) for axis in varied}
        found.setdefault(told(combination), combination)
        if len(found) == count:
            break
    return list(found.values())


def told(combination: Mapping[str, Any]) -> str:
    """A combination as text: for people, and its key among the results."""
    return " ".join(f"{name}={plain(v) if isinstance(v, Decimal) else v}" for name, v in combination.items())
