"""What a YAML file declares: its fields read and checked, each problem with its line. Touches no file.

`read(source, name)` gives a Declaration or raises StrategyError that lists what is wrong, the first
five problems at once. What may stand in a file is told in the README.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from core.errors import StrategyError
from core.market import indicators, timeframes
from strategies import rules
from strategies.base import Param
from strategies.declaration import NO_RULES, Declaration, Group, Measure, Ref, Rule
from strategies.marked_yaml import List, Map, MarkedError, Node, Text
from strategies.marked_yaml import read as read_yaml

SHOWN = 5  # problems told at once
MOST_PARAMETERS, MOST_INDICATORS, MOST_RULES = 30, 30, 50
FIELDS = ("key", "title", "description", "symbol", "timeframe", "parameters", "indicators", "entry", "exit")
PLAN = ("take_profit", "stop_loss", "size", "maximum_entries", "short")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d{1,20}(\.\d{1,20})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,15}", re.ASCII)
# What a sweep varies beside a strategy's own parameters, and what Python keeps for itself.
_TAKEN = ("self", "stop_loss_pct", "take_profit_pct", "trailing_stop_pct", "trailing_activation_pct", "break_even_pct", "time_stop_candles", "cooldown_checks")


def read(source: bytes, name: str) -> Declaration:
    """The declaration of a file, `name` being its name without the ending. StrategyError lists what is wrong, with lines."""
    root = read_yaml(source)
    if not isinstance(root, Map):
        raise root.wrong("a strategy's file is a list of fields such as entry: and exit:, one a line")
    reader = _Reader(root)
    found = reader.declaration(name)
    if reader.problems or found is None:
        ordered = sorted(reader.problems, key=lambda e: e.line)
        more = f"; and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
        raise StrategyError("; ".join(" ".join(str(e).split()) for e in ordered[:SHOWN]) + more)
    return found


def _near(name: str, known: tuple[str, ...] | list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]}? " if close else ""


@dataclass(slots=True)
class _Reader:
    root: Map
    problems: list[MarkedError] = field(default_factory=list)
    blind: bool = False  # a parameter or an indicator is wrong: rules that miss a name tell nothing new

    def declaration(self, name: str) -> Declaration | None:
        root = self.root
        self.known(root, (*FIELDS, *PLAN), "field")
        key = self.text("key", 60) or name
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", key):
            where = root.values.get("key")
            what = f"the key must be 1 to 60 letters, digits, _ . or -, not {key[:70]!r}" + ("" if where is not None else "; rename the file, or give it a key")
            self.problems.append((where or root).wrong(what))
        params = self.parameters()
        measures = self.measures(params)
        names = self.names(params, measures)
        self.blind = bool(self.problems)
        groups = {n: self.group(root.values.get(n), names, n) for n in ("entry", "exit")}
        short = self.mapping("short")
        self.known(short, ("entry", "exit"), "field of short")
        shorts = {n: self.group(short.values.get(n), names, f"short {n}") for n in ("entry", "exit")}
        if shorts["exit"].parts and not shorts["entry"].parts:
            self.problems.append(short.wrong("short has an exit and no entry; give it an entry, or remove it"))
        profit, loss = self.percent("take_profit", Decimal(10000)), self.percent("stop_loss", Decimal(99))
        if not groups["entry"].parts and "entry" not in root.values:
            self.problems.append(root.wrong("there is no entry; say when to buy, as in entry: rsi < 30"))
        if "exit" not in root.values and not profit and not loss:
            self.problems.append(root.wrong("nothing ever sells; give it an exit, a take_profit or a stop_loss"))
        self.entries()
        title, description = self.text("title", 80), self.text("description", 2000)
        found = (self.symbol(), self.timeframe(), self.size())
        if not self.problems:
            self.unused(params, measures, [*groups.values(), *shorts.values()])
        if self.problems:
            return None
        return Declaration(
            key=key,
            title=title or name.replace("_", " ").replace("-", " ").strip().capitalize(),
            description=" ".join(description.split()),
            symbol=found[0],
            timeframe=found[1],
            params=tuple(params.values()),
            measures=tuple(measures.values()),
            entry=groups["entry"],
            exit=groups["exit"],
            short_entry=shorts["entry"],
            short_exit=shorts["exit"],
            take_profit=profit,
            stop_loss=loss,
            size=found[2],
        )

    # --- plain fields -----------------------------------------------------------------

    def known(self, where: Map, names: tuple[str, ...], what: str) -> None:
        for name, key in where.keys.items():
            if name not in names:
                self.problems.append(key.wrong(f"there is no {what} {name[:60]!r}; {_near(name, names)}known are {', '.join(names)}"))

    def text(self, name: str, most: int) -> str:
        node = self.root.values.get(name)
        if node is None or (isinstance(node, Text) and node.null):
            return ""
        if not isinstance(node, Text):
            self.problems.append(node.wrong(f"{name} must be a text; put it in quotes if it begins with {{ or ["))
            return ""
        if len(node.value) > most:
            self.problems.append(node.wrong(f"{name} has {len(node.value)} characters; at most {most} are read"))
        return node.value.strip()

    def mapping(self, name: str) -> Map:
        node = self.root.values.get(name)
        if node is None or (isinstance(node, Text) and node.null):
            return Map(self.root.line, self.root.column)
        if not isinstance(node, Map):
            example = {"parameters": "low: 30", "indicators": "rsi: {indicator: rsi, window: 14}"}.get(name, "entry: rsi > 70")
            self.problems.append(node.wrong(f"{name} must hold names, one a line and indented, as in {example}"))
            return Map(node.line, node.column)
        return node

    def symbol(self) -> str | None:
        found = self.text("symbol", 30)
        if found and not re.fullmatch(r"[A-Z0-9/_\-.]{1,30}", found):
            self.problems.append(self.root.values["symbol"].wrong(f"symbol must be written as the exchange does, such as BTCUSDT, not {found!r}"))
        return found or None

    def timeframe(self) -> str | None:
        found = self.text("timeframe", 10)
        if found and found not in timeframes.MS:
            self.problems.append(self.root.values["timeframe"].wrong(f"timeframe must be one of {', '.join(timeframes.MS)}, not {found!r}"))
        return found or None

    def percent(self, name: str, most: Decimal) -> Decimal | None:
        node = self.root.values.get(name)
        if node is None or (isinstance(node, Text) and node.null):
            return None
        text = node.value.strip().removesuffix("%").rstrip() if isinstance(node, Text) else ""
        if not _NUMBER.fullmatch(text) or not 0 <= Decimal(text) <= most:
            shown = f", not {node.value[:40]!r}" if isinstance(node, Text) else ""
            self.problems.append(node.wrong(f"{name} must be a percentage from 0 (none) to {most}, such as 2.5{shown}"))
            return None
        return Decimal(text)

    def size(self) -> int:
        node = self.root.values.get("size")
        if node is None or (isinstance(node, Text) and node.null):
            return 100
        text = node.value.strip().removesuffix("%").rstrip() if isinstance(node, Text) else ""
        if not _NUMBER.fullmatch(text) or not 0 < Decimal(text) <= 100 or Decimal(text) != int(Decimal(text)):
            shown = f", not {node.value[:40]!r}" if isinstance(node, Text) else ""
            self.problems.append(node.wrong(f"size must be a whole percentage of the pot above 0, to 100 at most, such as 50{shown}"))
            return 100
        return int(Decimal(text))

    def entries(self) -> None:
        node = self.root.values.get("maximum_entries")
        if node is None or (isinstance(node, Text) and (node.null or node.value.strip() == "1")):
            return
        if isinstance(node, Text) and _WHOLE.fullmatch(node.value.strip()) and int(node.value) > 1:
            what = f"maximum_entries: {int(node.value)} would add to an open position, which declared strategies can't do yet; set it to 1 or remove it"
        else:
            what = "maximum_entries must be 1"
        self.problems.append(node.wrong(what))

    # --- parameters and indicators ------------------------------------------------------

    def new_name(self, key: Text, taken: Mapping[str, Any], what: str) -> bool:
        name = key.value
        if not _NAME.fullmatch(name):
            wrong = f"{name[:50]!r} can't be the name of {what}; use up to 40 letters, digits and _, beginning with a letter, such as rsi_low"
        elif name in rules.COLUMNS or name.lower() in rules.WORDS or name in _TAKEN:
            wrong = f"{name} can't be the name of {what}, it has a meaning already; choose another, such as my_{name}"
        elif name in taken:
            wrong = f"{name} is the name of a parameter already; give {what} another"
        else:
            return True
        self.problems.append(key.wrong(wrong))
        return False

    def parameters(self) -> dict[str, Param]:
        where, found = self.mapping("parameters"), {}
        if len(where.keys) > MOST_PARAMETERS:
            self.problems.append(where.wrong(f"{len(where.keys)} parameters are too many; at most {MOST_PARAMETERS}"))
            return {}
        for name, key in where.keys.items():
            made = self.parameter(name, where.values[name]) if self.new_name(key, {}, "a parameter") else None
            if made is not None:
                found[name] = made
        return found

    def parameter(self, name: str, node: Node) -> Param | None:
        if isinstance(node, List):
            self.problems.append(node.wrong(f"parameter {name} must be a number, or fields as in {{default: 30, low: 10, high: 50, help: what it is}}"))
            return None
        fields = node.values if isinstance(node, Map) else {"default": node}
        if isinstance(node, Map):
            self.known(node, ("default", "low", "high", "help"), f"field of parameter {name},")
        help_ = fields.get("help", Text("", node.line, node.column))
        if not isinstance(help_, Text):
            self.problems.append(help_.wrong(f"help of parameter {name} must be a text; put it in quotes if it begins with {{ or ["))
            return None
        numbers = {n: v for n in ("default", "low", "high") if (v := fields.get(n)) is not None and not (isinstance(v, Text) and v.null)}
        if "default" not in numbers:
            self.problems.append(node.wrong(f"parameter {name} has no default; give it one, as in default: 30"))
            return None
        for n, v in numbers.items():
            if not isinstance(v, Text) or not _NUMBER.fullmatch(v.value.strip()):
                shown = f", not {v.value[:40]!r}" if isinstance(v, Text) else ""
                self.problems.append(v.wrong(f"{n} of parameter {name} must be a number such as 14 or 0.5{shown}"))
                return None
        texts = {n: v.value.strip() for n, v in numbers.items() if isinstance(v, Text)}
        kind = int if all(_WHOLE.fullmatch(t) for t in texts.values()) else float
        values = {n: kind(t) for n, t in texts.items()}
        low, high = values.get("low"), values.get("high")
        if low is not None and high is not None and low > high:
            self.problems.append(numbers["low"].wrong(f"low of parameter {name} is {low}, above its high of {high}; exchange them"))
            return None
        param = Param(name, kind, values["default"], low, high, "" if help_.null else help_.value.strip()[:200])
        try:
            param.check(values["default"])
        except ValueError as e:
            self.problems.append(numbers["default"].wrong(f"default of parameter {name} {e}"))
            return None
        return param

    def measures(self, params: Mapping[str, Param]) -> dict[str, Measure]:
        where, found = self.mapping("indicators"), {}
        if len(where.keys) > MOST_INDICATORS:
            self.problems.append(where.wrong(f"{len(where.keys)} indicators are too many; at most {MOST_INDICATORS}"))
            return {}
        for name, key in where.keys.items():
            made = self.measure(name, where.values[name], params) if self.new_name(key, params, "an indicator") else None
            if made is not None:
                found[name] = made
        return found

    def measure(self, name: str, node: Node, params: Mapping[str, Param]) -> Measure | None:
        fields = dict(node.values) if isinstance(node, Map) else {"indicator": node}
        word = fields.pop("indicator", None)
        known = tuple(indicators.VOCABULARY)
        if not isinstance(word, Text) or word.value not in known:
            shown = word.value[:40] if isinstance(word, Text) else ""
            what = f"there is no indicator {shown!r}; {_near(shown, known)}"
            if not shown:
                what = f"{name} must say which indicator it is, as in {{indicator: rsi, window: 14}}; "
            self.problems.append((word or node).wrong(f"{what}known are {', '.join(known)}"))
            return None
        indicator = indicators.VOCABULARY[word.value]
        own, given, before = {p.name: p for p in indicator.params}, {}, len(self.problems)
        for n, value in fields.items():
            if n not in own:
                key = node.keys[n] if isinstance(node, Map) else word
                self.problems.append(key.wrong(f"{word.value} has no parameter {n[:40]!r}; {_near(n, list(own))}it has {', '.join(own) or 'none'}"))
                continue
            try:
                given[n] = self.setting(own[n], value, params)
            except ValueError as e:
                self.problems.append(value.wrong(f"{name}: {e}"))
        made = Measure(name, indicator, given)
        if len(self.problems) == before:
            try:
                made.values({p.name: p.default for p in params.values()})
            except ValueError as e:
                self.problems.append(node.wrong(str(e).replace("\n", ", ")))
        return made

    def setting(self, own: indicators.Parameter, node: Node, params: Mapping[str, Param]) -> Any:
        """A number, or a reference; `{name}`, which YAML takes for a mapping, is one too."""
        if isinstance(node, Map) and len(node.keys) == 1 and all(isinstance(v, Text) and v.null for v in node.values.values()):
            node = next(iter(node.keys.values()))
        if not isinstance(node, Text):
            raise ValueError(f"{own.name} must be a number or the name of a parameter")
        text = node.value.strip().removeprefix("{").removesuffix("}").strip()
        if text in params:
            return Ref(text)
        if _NUMBER.fullmatch(text):
            return own.check(int(text) if _WHOLE.fullmatch(text) else float(text))
        if _NAME.fullmatch(text):
            raise ValueError(f"{own.name}: there is no parameter {text!r}; known are {', '.join(params) or 'none; declare it under parameters'}")
        raise ValueError(f"{own.name} must be a number from {own.low} to {own.high} or the name of a parameter, not {text[:40]!r}")

    def unused(self, params: Mapping[str, Param], measures: Mapping[str, Measure], groups: list[Group]) -> None:
        """A parameter that changes nothing would make a sweep's table a lie."""
        used = {v.name for m in measures.values() for v in m.given.values() if isinstance(v, Ref)}
        for leaf in (leaf for g in groups for r in g.rules() for leaf in rules.leaves(r.node)):
            used.update(g.name for g in (leaf, getattr(leaf, "back", None)) if isinstance(g, rules.Given))
        keys = self.mapping("parameters").keys
        self.problems += [keys[n].wrong(f"parameter {n} changes nothing; use it in a rule or an indicator, or remove it") for n in params if n not in used]

    # --- rules ------------------------------------------------------------------------

    def names(self, params: Mapping[str, Param], measures: Mapping[str, Measure]) -> rules.Names:
        values, several = set(rules.COLUMNS), {}
        for m in measures.values():
            outputs = m.outputs()
            values.update(outputs.values())
            if m.name not in outputs.values():
                several[m.name] = tuple(m.indicator.outputs)
        whole = frozenset(p.name for p in params.values() if p.type is int)
        return rules.Names(frozenset(values), several, frozenset(params), whole)

    def group(self, node: Node | None, names: rules.Names, what: str) -> Group:
        if node is None:
            return NO_RULES
        before = len(self.problems)
        found = self.part(node, names, what)
        made = found if isinstance(found, Group) else Group(True, (found,) if found is not None else ())
        if len(made.rules()) > MOST_RULES:
            self.problems.append(node.wrong(f"{what} has {len(made.rules())} rules; at most {MOST_RULES}"))
        if not made.rules() and len(self.problems) == before and not self.blind:
            self.problems.append(node.wrong(f"{what} has no rule; write one such as rsi < 30, or remove it"))
        return made

    def part(self, node: Node, names: rules.Names, what: str) -> Group | Rule | None:
        if isinstance(node, Text):
            if node.null:
                self.problems.append(node.wrong(f"{what} has an empty rule; write one such as rsi < 30, or remove it"))
                return None
            try:
                return Rule(" ".join(node.value.split()), rules.parse(node.value, names))
            except rules.RuleError as e:
                if e.unknown and self.blind:
                    return None
                self.problems.append(node.wrong(f"in the rule {' '.join(node.value.split())[:80]!r}: {e}", e.at))
                return None
        if isinstance(node, List):
            return Group(True, tuple(p for item in node.items if (p := self.part(item, names, what)) is not None))
        if len(node.keys) != 1 or next(iter(node.keys)) not in ("any", "all"):
            shown = ", ".join(node.keys)[:60]
            self.problems.append(node.wrong(f"{what} must be a rule, a list of rules, or one of any: and all: with a list, not fields ({shown})"))
            return None
        word, inner = next(iter(node.values.items()))
        if not isinstance(inner, List):
            self.problems.append(inner.wrong(f"{word}: must hold a list of rules, each on a line that begins with -"))
            return None
        made = self.part(inner, names, what)
        return Group(word == "all", made.parts) if isinstance(made, Group) else None
