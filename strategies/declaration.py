"""The forms of a declared strategy: what a YAML file comes to once it is read. Touches no file.

`strategies/fields.py` reads a file into a Declaration; `strategies/declared.py` makes a strategy of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from core.market import indicators
from strategies import rules
from strategies.base import Param


@dataclass(frozen=True, slots=True)
class Ref:
    """The value of a parameter."""

    name: str


@dataclass(frozen=True, slots=True)
class Measure:
    """One declared indicator: the vocabulary's word, and its parameters as numbers or references."""

    name: str
    indicator: indicators.Indicator
    given: Mapping[str, Any]

    def values(self, p: Mapping[str, Any]) -> dict[str, Any]:
        """Its parameters with those of the strategy put in. ValueError names the indicator and what would be right."""
        try:
            return self.indicator.check({n: p[v.name] if isinstance(v, Ref) else v for n, v in self.given.items()})
        except ValueError as e:
            raise ValueError("\n".join(f"indicator {self.name}: {line}" for line in str(e).split("\n"))) from None

    def outputs(self) -> dict[str, str]:
        """Output → the name by which rules know it. An output called as its indicator (`adx`) also has the plain name."""
        if len(self.indicator.outputs) == 1:
            return {self.indicator.outputs[0]: self.name}
        return {o: self.name if o == self.indicator.name else f"{self.name}.{o}" for o in self.indicator.outputs}


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the file."""

    text: str
    node: rules.Node


@dataclass(frozen=True, slots=True)
class Group:
    """All of the parts must hold (`every`), or one of them. An empty group never holds."""

    every: bool
    parts: tuple[Group | Rule, ...]

    def rules(self) -> list[Rule]:
        return [r for part in self.parts for r in (part.rules() if isinstance(part, Group) else [part])]


NO_RULES = Group(True, ())


@dataclass(frozen=True, slots=True)
class Declaration:
    """A whole file. Percentages of 100; None: not declared, 0: none wanted."""

    key: str
    title: str
    description: str
    symbol: str | None
    timeframe: str | None
    params: tuple[Param, ...]
    measures: tuple[Measure, ...]
    entry: Group
    exit: Group
    short_entry: Group = NO_RULES
    short_exit: Group = NO_RULES
    take_profit: Decimal | None = None
    stop_loss: Decimal | None = None
    size: int = 100

    @property
    def has_shorts(self) -> bool:
        return bool(self.short_entry.parts or self.short_exit.parts)

    def all_rules(self) -> list[Rule]:
        return [r for g in (self.entry, self.exit, self.short_entry, self.short_exit) for r in g.rules()]
