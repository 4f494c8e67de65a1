"""Reads YAML as texts, lists and mappings that know their line and column. Touches no file.

Nothing of YAML but its shape is used: PyYAML's safe loader finds the events, no value is ever
constructed, each text stays as it was written (so `12.10` keeps its zero, `on` is a text). What a
strategy has no use for is refused, because it can only be a mistake or an attack: tags, anchors and
aliases (a few lines of which can mean gigabytes), several documents, keys that are given twice, depth, size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from core.errors import StrategyError

MOST_BYTES = 65_536
MOST_DEPTH = 12
MOST_NODES = 3000
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")  # controls, halves, turned writing
_NULLS = ("", "~", "null", "Null", "NULL")


class MarkedError(StrategyError):
    """What is wrong, with line and column (from 1), and what would be right."""

    def __init__(self, line: int, column: int | None, text: str):
        where = f"line {line}" if column is None else f"line {line}, column {column}"
        super().__init__(f"{where}: {text}")
        self.line = line


@dataclass(frozen=True, slots=True)
class Text:
    """A scalar. `offset`: where its value begins in its line, from 0; None where the value is not what stands there letter for letter."""

    value: str
    line: int
    column: int
    null: bool = False
    offset: int | None = None

    def wrong(self, what: str, at: int = 0) -> MarkedError:
        """An error at character `at` (from 0) of the value."""
        if self.offset is not None:
            return MarkedError(self.line, self.offset + at + 1, what)
        return MarkedError(self.line, self.column, what if not at else f"at character {at + 1} of the text: {what}")


@dataclass(slots=True)
class List:
    line: int
    column: int
    items: list[Node] = field(default_factory=list)

    def wrong(self, what: str) -> MarkedError:
        return MarkedError(self.line, self.column, what)


@dataclass(slots=True)
class Map:
    """`keys` and `values` have the same names, in the file's order."""

    line: int
    column: int
    keys: dict[str, Text] = field(default_factory=dict)
    values: dict[str, Node] = field(default_factory=dict)

    def wrong(self, what: str) -> MarkedError:
        return MarkedError(self.line, self.column, what)


Node = Text | List | Map


def read(source: bytes) -> Node:
    """The one document of the source. MarkedError with line, column and remedy."""
    if len(source) > MOST_BYTES:
        raise MarkedError(1, None, f"the file has {len(source)} bytes; a strategy has at most {MOST_BYTES}")
    try:
        text = source.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise MarkedError(source.count(b"\n", 0, e.start) + 1, None, "this is not UTF-8; save the file as UTF-8 text") from None
    try:
        return _Builder(text).build()
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1
        raise MarkedError(line, None, f"the file holds a character that YAML does not allow (number {e.character}); remove it") from None
    except yaml.MarkedYAMLError as e:
        raise _unread(e) from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as e:
        # (The scanner itself fails with the plain ones on some escapes and directives.)
        raise MarkedError(1, None, f"this is not YAML ({str(e)[:120]}); compare it with the strategies that come with Botyard") from None


def _unread(error: yaml.MarkedYAMLError) -> MarkedError:
    unclosed = "end of stream" in str(error.problem) and error.context_mark is not None  # tell where it began
    mark = error.context_mark if unclosed else error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    told = ", ".join(str(part) for part in (error.context, error.problem) if part)
    if "\\t" in told:
        remedy = "indent with blanks, not with tabs"
    elif unclosed and "quoted" in told:
        remedy = "the quote that opens here is never closed"
    elif "mapping values" in told:
        remedy = "put a text that holds ': ' in quotes, and give each field a line of its own"
    else:
        remedy = "check the indentation, the blank after each ':', and put a rule that begins with { or [ in quotes"
    return MarkedError(line, column, f"this is not YAML ({told}); {remedy}")


class _Builder:
    def __init__(self, text: str):
        self.text, self.lines, self.nodes = text, text.splitlines(), 0

    def build(self) -> Node:
        root: Node | None = None
        stack: list[tuple[Map | List, Text | None]] = []  # what is being filled, and the key that waits for its value
        for event in self.events():
            if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                stack.pop()
                continue
            node = self.node(event)
            if not stack:
                root = node
            else:
                inner, key = stack[-1]
                stack[-1] = (inner, self.add(inner, key, node))
            if not isinstance(node, Text):
                stack.append((node, None))
                if len(stack) > MOST_DEPTH:
                    raise node.wrong(f"more than {MOST_DEPTH} lists and mappings lie in each other; write it flatter")
        if root is None:
            raise MarkedError(1, None, "the file is empty; it needs at least entry: and exit:")
        return root

    def events(self) -> Iterator[Any]:
        """Events that make nodes, or end them."""
        documents = 0
        for event in yaml.parse(self.text, Loader=yaml.SafeLoader):
            mark: Any = event.start_mark
            line, column = mark.line + 1, mark.column + 1
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise MarkedError(line, column, "a second document begins here (---); keep one strategy a file")
            elif isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise MarkedError(line, column, "anchors (&) and aliases (*) are not read here; write out what is meant, or put the text in quotes")
            elif tag := getattr(event, "tag", None):
                raise MarkedError(line, column, f"the tag {str(tag)[:60]!r} is not read here; remove it, or put the text in quotes")
            elif isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):
                self.nodes += 1
                if self.nodes > 2 * MOST_NODES:
                    raise MarkedError(line, column, f"the file holds more than {MOST_NODES} values; a strategy has far fewer")
                yield event

    def node(self, event: Any) -> Node:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, yaml.MappingStartEvent):
            return Map(line, column)
        if isinstance(event, yaml.SequenceStartEvent):
            return List(line, column)
        plain = event.style is None
        if _HIDDEN.search(event.value):
            raise MarkedError(line, column, "this text holds a character that can't be shown; remove it")
        return Text(event.value, line, column, plain and event.value in _NULLS, self.offset(event, 0 if plain else 1))

    def offset(self, event: Any, quote: int) -> int | None:
        start, end = event.start_mark, event.end_mark
        if start.line != end.line or start.line >= len(self.lines):
            return None
        stands = self.lines[start.line][start.column + quote : end.column - quote]
        return start.column + quote if stands == event.value else None

    def add(self, inner: Map | List, key: Text | None, node: Node) -> Text | None:
        """Put a node where it belongs; the key that waits now."""
        if isinstance(inner, List):
            inner.items.append(node)
            return None
        if key is not None:
            inner.values[key.value] = node
            return None
        if not isinstance(node, Text):
            raise node.wrong("a field's name must be a text; put a rule that begins with { or [ in quotes")
        if node.value in inner.keys:
            raise node.wrong(f"{node.value[:60]!r} is given twice, first in line {inner.keys[node.value].line}; keep one of them")
        inner.keys[node.value] = node
        return node
