"""Parameters of a strategy: declared with type, default, range and help, and checked against that. Touches no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from core.errors import InputError


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter: page, checks and optimiser read type, default, range and help from here.

    `type` is int, float, Decimal, bool or str; `low` and `high` belong to the range.
    """

    name: str
    type: type
    default: Any
    low: Any = None
    high: Any = None
    help: str = ""
    choices: tuple[Any, ...] = ()

    def wanted(self) -> str:
        """What would be right, for an error message."""
        if self.choices:
            return "one of " + ", ".join(str(c) for c in self.choices)
        kind = {int: "a whole number", float: "a number", Decimal: "a number", bool: "true or false"}.get(self.type, "a text")
        if self.low is not None and self.high is not None:
            return f"{kind} from {self.low} to {self.high}"
        if self.low is not None:
            return f"{kind} of at least {self.low}"
        if self.high is not None:
            return f"{kind} of at most {self.high}"
        return kind

    def check(self, value: Any) -> Any:
        """The value in the parameter's own type. Text is read as a number where one is wanted.

        Raises ValueError that says what would be right.
        """
        problem = ValueError(f"must be {self.wanted()}, not {str(value)[:60]!r}")
        try:
            found = self._convert(value)
        except (TypeError, ValueError, OverflowError, InvalidOperation):
            raise problem from None
        if self.choices and found not in self.choices:
            raise problem
        if (self.low is not None and found < self.low) or (self.high is not None and found > self.high):
            raise problem
        return found

    def _convert(self, value: Any) -> Any:
        if self.type is bool:
            known = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
            if isinstance(value, bool):
                return value
            if str(value).strip().lower() in known:
                return known[str(value).strip().lower()]
            raise ValueError
        if self.type is str:
            if not isinstance(value, str):
                raise ValueError
            return value
        if isinstance(value, bool):
            raise ValueError
        number = Decimal(str(value).strip())
        if not number.is_finite():
            raise ValueError
        if self.type is int:
            if number != number.to_integral_value() or abs(number) > 10**15:
                raise ValueError
            return int(number)
        return number if self.type is Decimal else float(number)

    def describe(self) -> dict[str, Any]:
        """As the page and `/api/strategies` show it."""
        return {
            "name": self.name,
            "type": {int: "int", float: "float", Decimal: "decimal", bool: "bool"}.get(self.type, "text"),
            "default": self.default,
            "min": self.low,
            "max": self.high,
            "help": self.help,
            "choices": list(self.choices),
        }


def check_params(cls: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter of a strategy's class with its value. Raises InputError that lists all problems."""
    declared = {p.name: p for p in getattr(cls, "params", ())}
    problems = []
    for name in given:
        if name not in declared:
            known = ", ".join(declared) or "none"
            problems.append(f"{name}: {strategy_name(cls)} has no such parameter; it has {known}")
    values: dict[str, Any] = {}
    for name, param in declared.items():
        try:
            values[name] = param.check(given[name]) if given.get(name) is not None else param.default
        except ValueError as e:
            problems.append(f"{name}: {e}")
    together = getattr(cls, "problems", None)
    if not problems and callable(together):
        problems = list(together(values))
    if problems:
        raise InputError("\n".join(problems))
    return values


def strategy_name(cls: type) -> str:
    return str(getattr(cls, "key", "") or cls.__name__)
