"""The rules of declared strategies: a small language, read by a parser of its own. Touches no file.

    rsi < 30                            close crosses above ema_20
    close > bands.lower * 1.01          rsi[1] < rsi and not (macd.line < macd.signal)

What there is: numbers, names of columns, indicators and parameters (`low` or `{low}`), `name[n]` for
the value n candles before, + - * /, parentheses, < <= > >= == !=, `crosses above`, `crosses below`,
and, or, not. Nothing is ever executed: a text becomes a tree of the few forms below, or RuleError.

Nothing here loads numpy; strategies/rule_values.py computes what a tree says of a table.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MOST_LENGTH = 500  # characters of a rule
MOST_DEPTH = 20  # parentheses and the like, one in the other
MOST_BACK = 500  # candles that [n] may look back
WORDS = ("and", "or", "not", "crosses", "above", "below")
COLUMNS = ("open", "high", "low", "close", "volume")

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?|\.\d+)(?![\w.])"
    r"|(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)(?![\w.])"
    r"|\{\s*(?P<given>[A-Za-z_]\w*)\s*\}"
    r"|(?P<sign><=|>=|==|!=|<|>|\+|-|\*(?!\*)|/(?!/)|\(|\)|\[|\]))",
    re.ASCII,
)
_INSTEAD = (
    ("&", "write and"),
    ("|", "write or"),
    ("!", "write not, or != for different"),
    ("=", "write == for the same, <= or >= for at most and at least"),
    ("≤", "write <="),
    ("≥", "write >="),
    ("%", "write a part of a number as 0.02 for 2 %"),
    ("**", "powers are not offered; multiply"),
    ("//", "write / to divide"),
    ("^", "powers are not offered; multiply"),
    ("{", "a parameter in braces is written {name}"),
    ("}", "a parameter in braces is written {name}"),
    ('"', "a rule holds no texts; remove the quotes inside it"),
    ("'", "a rule holds no texts; remove the quotes inside it"),
    (",", "join two rules by and, or write them as two lines of the list"),
    (";", "join two rules by and, or write them as two lines of the list"),
)


class RuleError(ValueError):
    """What is wrong with a rule, and what would be right; `at` is the place in its text, from 0; `unknown`: it names what there isn't."""

    def __init__(self, text: str, at: int, unknown: bool = False):
        super().__init__(text)
        self.at, self.unknown = at, unknown


# --- the forms ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number:
    value: float


@dataclass(frozen=True, slots=True)
class Given:
    """A parameter."""

    name: str


@dataclass(frozen=True, slots=True)
class Value:
    """A column or an output of an indicator, `back` candles ago."""

    name: str
    back: int | Given = 0

    def text(self) -> str:
        return self.name if self.back == 0 else f"{self.name}[{self.back.name if isinstance(self.back, Given) else self.back}]"


@dataclass(frozen=True, slots=True)
class Sum:
    """`sign` is one of + - * /. (−x is 0 − x.)"""

    sign: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Compare:
    sign: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Cross:
    above: bool
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Not:
    part: Node


@dataclass(frozen=True, slots=True)
class Join:
    """All of the parts (`every`), or one of them."""

    every: bool
    parts: tuple[Node, ...]


Node = Number | Given | Value | Sum | Compare | Cross | Not | Join
_TRUTHS = (Compare, Cross, Not, Join)


@dataclass(frozen=True, slots=True)
class Names:
    """What a rule may name. `values`: columns and outputs; `several`: indicators that have more than one
    output, with them, which must be named by one; `given`: parameters; `whole`: those of them that count candles."""

    values: frozenset[str] = frozenset(COLUMNS)
    several: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    given: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()


# --- reading ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # number, name, given, sign, word, end
    text: str
    at: int


def parse(text: str, names: Names) -> Node:
    """The rule as a tree that is a truth. RuleError says where it is wrong and what would be right."""
    if len(text) > MOST_LENGTH:
        raise RuleError(f"the rule is {len(text)} characters long; at most {MOST_LENGTH} are read, so make several of it", MOST_LENGTH)
    if not text.strip():
        raise RuleError("the rule is empty; write one such as rsi < 30", 0)
    return _Reader(_tokens(text), names).rule()


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise _unread(text, at + len(text[at:]) - len(text[at:].lstrip()))
        kind = match.lastgroup or ""
        word = match[kind]
        place = match.start(kind) - (kind == "given")
        if kind == "name" and word.lower() in WORDS:
            kind, word = "word", word.lower()
        found.append(_Token(kind, word, place))
        at = match.end()
    return [*found, _Token("end", "", len(text))]


def _unread(text: str, at: int) -> RuleError:
    rest = text[at:]
    if rest[0].isascii() and (rest[0].isalnum() or rest[0] in "._"):
        piece = re.match(r"[\w.]+", rest)
        shown = piece[0] if piece else rest[0]
        if rest[0].isdigit() or rest[0] == ".":
            return RuleError(f"{shown[:40]!r} is neither a number nor a name; write numbers as 30 or 0.5", at)
        return RuleError(f"{shown[:40]!r} is no name; write it as rsi, or bands.lower for one output of an indicator", at)
    remedy = next((told for sign, told in sorted(_INSTEAD, key=lambda pair: -len(pair[0])) if rest.startswith(sign)), "")
    offered = "use names, numbers, + - * / < <= > >= == !=, and, or, not, crosses above, crosses below"
    return RuleError(f"{rest[0]!r} has no meaning in a rule; {remedy or offered}", at)


class _Reader:
    """Recursive descent, one method a level: or, and, not, comparison, sum, product, sign, part."""

    def __init__(self, tokens: list[_Token], names: Names):
        self.tokens, self.names, self.place, self.depth = tokens, names, 0, 0

    @property
    def next(self) -> _Token:
        return self.tokens[self.place]

    def take(self, kind: str, *texts: str) -> _Token | None:
        token = self.next
        if token.kind != kind or (texts and token.text not in texts):
            return None
        self.place += 1
        return token

    def rule(self) -> Node:
        found = self.either()
        if self.next.kind != "end":
            raise self.wrong_next("an operator such as <, and, or crosses above is missing before it")
        return self.truth(found, 0, "the rule")

    def wrong_next(self, remedy: str) -> RuleError:
        token = self.next
        shown = "the end of the rule" if token.kind == "end" else repr(token.text)
        return RuleError(f"{shown} is not expected here; {remedy}", token.at)

    def truth(self, node: Node, at: int, what: str) -> Node:
        if not isinstance(node, _TRUTHS):
            raise RuleError(f"{what} is a number, not something that holds or not; compare it, as in rsi < 30", at)
        return node

    def number(self, node: Node, at: int) -> Node:
        if isinstance(node, _TRUTHS):
            raise RuleError("a comparison can't be counted with or compared; join two of them by and or or", at)
        return node

    def either(self) -> Node:
        return self.joined("or", self.both)

    def both(self) -> Node:
        return self.joined("and", self.negated)

    def joined(self, word: str, below: Any) -> Node:
        at = self.next.at
        parts = [below()]
        while self.take("word", word):
            if len(parts) == 1:
                self.truth(parts[0], at, f"what stands before {word}")
            here = self.next.at
            parts.append(self.truth(below(), here, f"what stands after {word}"))
        return parts[0] if len(parts) == 1 else Join(word == "and", tuple(parts))

    def negated(self) -> Node:
        if not self.take("word", "not"):
            return self.comparison()
        at = self.next.at
        with _Deeper(self):
            return Not(self.truth(self.negated(), at, "what stands after not"))

    def comparison(self) -> Node:
        at = self.next.at
        left = self.total()
        if self.take("word", "crosses"):
            way = self.take("word", "above", "below")
            if way is None:
                raise self.wrong_next("write crosses above or crosses below")
            return self.checked(Cross(way.text == "above", *self.operands(left, at)), at)
        found: list[Node] = []
        while token := self.take("sign", "<", "<=", ">", ">=", "==", "!="):
            left, right = self.operands(left, at)
            found.append(self.checked(Compare(token.text, left, right), at))
            left, at = right, token.at
        return left if not found else found[0] if len(found) == 1 else Join(True, tuple(found))

    def operands(self, left: Node, at: int) -> tuple[Node, Node]:
        here = self.next.at
        return self.number(left, at), self.number(self.total(), here)

    def checked(self, node: Compare | Cross, at: int) -> Node:
        if next(values(node), None) is None:
            raise RuleError("this says the same of every candle; name a column (open, high, low, close, volume) or an indicator in it", at)
        return node

    def total(self) -> Node:
        return self.counted(("+", "-"), self.product)

    def product(self) -> Node:
        return self.counted(("*", "/"), self.signed)

    def counted(self, signs: tuple[str, ...], below: Any) -> Node:
        at = self.next.at
        found = below()
        while token := self.take("sign", *signs):
            here = self.next.at
            found = Sum(token.text, self.number(found, at), self.number(below(), here))
        return found

    def signed(self) -> Node:
        if not self.take("sign", "-"):
            return self.part()
        at = self.next.at
        with _Deeper(self):
            return Sum("-", Number(0.0), self.number(self.signed(), at))

    def part(self) -> Node:
        token = self.next
        if self.take("number"):
            return Number(_amount(token))
        if self.take("given"):
            return self.parameter(token)
        if self.take("name"):
            return self.named(token)
        if self.take("sign", "("):
            with _Deeper(self):
                inner = self.either()
            if not self.take("sign", ")"):
                raise self.wrong_next("close the parenthesis with )")
            if (after := self.next).text == "[":
                raise RuleError("[n] belongs to a name, as in close[1]; give it to each name inside the parentheses", after.at)
            return inner
        raise self.wrong_next("a name, a number or ( belongs here")

    def parameter(self, token: _Token) -> Given:
        if token.text not in self.names.given:
            known = ", ".join(sorted(self.names.given)) or "none; declare it under parameters"
            raise RuleError(f"there is no parameter {token.text!r}; known are {known}", token.at, True)
        return Given(token.text)

    def named(self, token: _Token) -> Node:
        name, known = token.text, self.names
        if name in known.given:
            if self.next.text == "[":
                raise RuleError(f"{name} is a parameter and the same at every candle; remove [n]", self.next.at)
            return Given(name)
        if name in known.several:
            raise RuleError(f"{name} has several values; write {' or '.join(f'{name}.{o}' for o in known.several[name])}", token.at)
        if name not in known.values:
            raise RuleError(self.unknown(name), token.at, True)
        if not self.take("sign", "["):
            return Value(name)
        return Value(name, self.back())

    def back(self) -> int | Given:
        token = self.next
        found: int | Given
        if self.take("number"):
            if not token.text.isdigit() or len(token.text) > 6 or int(token.text) > MOST_BACK:
                raise RuleError(f"[{token.text[:20]}]: the candles back must be a whole number from 0 to {MOST_BACK}", token.at)
            found = int(token.text)
        elif self.take("given") or self.take("name"):
            if token.text not in self.names.whole:
                raise RuleError(f"[{token.text}]: only a number or a parameter with whole numbers counts candles back", token.at, True)
            found = Given(token.text)
        else:
            raise RuleError(f"in [ ] belongs how many candles back, a whole number from 0 to {MOST_BACK}; later candles can't be looked at", token.at)
        if not self.take("sign", "]"):
            raise self.wrong_next("close the bracket with ]")
        return found

    def unknown(self, name: str) -> str:
        known = self.names
        words = [*known.values, *known.given]
        near = difflib.get_close_matches(name, words, 1)
        base, dot, _ = name.partition(".")
        if dot and base in known.several:
            return f"{base} has no value {name!r}; write {' or '.join(f'{base}.{o}' for o in known.several[base])}"
        meant = f"did you mean {near[0]}? " if near else ""
        own = sorted(set(words) - set(COLUMNS))
        return f"there is no {name!r}; {meant}known are {', '.join([*COLUMNS, *own])}; an indicator is declared under indicators first"


class _Deeper:
    def __init__(self, reader: _Reader):
        self.reader = reader

    def __enter__(self) -> None:
        self.reader.depth += 1
        if self.reader.depth > MOST_DEPTH:
            raise RuleError(f"more than {MOST_DEPTH} parentheses or signs lie in each other; make several rules of it", self.reader.next.at)

    def __exit__(self, *_: object) -> None:
        self.reader.depth -= 1


def _amount(token: _Token) -> float:
    if len(token.text) > 24 or float(token.text) > 1e15:
        raise RuleError(f"{token.text[:30]} is too large or too long for a number; at most 24 digits, and 10^15", token.at)
    return float(token.text)


# --- what a tree rests on -----------------------------------------------------------------


def parts(node: Node) -> tuple[Node, ...]:
    """The trees right below this one, from left to right."""
    if isinstance(node, Sum | Compare | Cross):
        return node.left, node.right
    if isinstance(node, Not):
        return (node.part,)
    return node.parts if isinstance(node, Join) else ()


def leaves(node: Node) -> Iterator[Value | Given]:
    """Columns, indicators and parameters of the rule, from left to right."""
    if isinstance(node, Value | Given):
        yield node
    for part in parts(node):
        yield from leaves(part)


def values(node: Node) -> Iterator[Value]:
    """Columns and indicators of the rule."""
    return (leaf for leaf in leaves(node) if isinstance(leaf, Value))
