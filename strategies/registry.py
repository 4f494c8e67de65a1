"""Finds the strategies: every file whose name ends in `_strategy.py`, and every `.yaml` and `.yml`. Owns no file.

Looks in this folder and, where it is given, in an extra one (BOTYARD_HOME/strategies). A
file is executed only when somebody asks for its strategy, or for all of them, so that a
bot doesn't load what only another bot's strategy needs. What a file's key can be is read
from its text beforehand. A broken file is named and keeps no other from loading. What a
YAML file may hold is told in strategies/fields.py.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import StrategyError
from strategies.base import KLINE_LIMIT, PlainStrategy, Strategy

FOLDER = Path(__file__).resolve().parent
ENDING = "_strategy.py"
DECLARED = (".yaml", ".yml")
MOST_BYTES = 1_000_000  # of a file; a strategy's text is far shorter


@dataclass(frozen=True, slots=True)
class Entry:
    """One strategy: its key, its class, its file, and the short sha256 of the file's source."""

    key: str
    cls: type
    file: Path
    version: str

    @property
    def title(self) -> str:
        named = getattr(self.cls, "title", "")
        return str(named) if named else re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", self.cls.__name__)

    @property
    def description(self) -> str:
        return str(getattr(self.cls, "description", "") or inspect.cleandoc(self.cls.__doc__ or ""))

    def build(self, params: Mapping[str, Any] | None = None, kline_limit: int = KLINE_LIMIT) -> Strategy:
        """An instance with checked parameters. InputError lists all that is wrong with them."""
        if issubclass(self.cls, Strategy):
            try:
                made: Strategy = self.cls(**(params or {}))
            except TypeError as e:
                raise StrategyError(f"strategy {self.key} can't be built: {e}; its __init__ must take its parameters by name") from e
        else:
            made = PlainStrategy(self.cls, **(params or {}))
        made.key = self.key  # type: ignore[misc]
        made.version, made.kline_limit = self.version, kline_limit
        return made

    def describe(self) -> dict[str, Any]:
        """For the page and `/api/strategies`; `warmup` as with the default parameters, None: KLINE_LIMIT."""
        example = self.build()
        return {
            "key": self.key,
            "title": self.title,
            "description": self.description,
            "params": [p.describe() for p in getattr(self.cls, "params", ())],
            "timeframe": example.timeframe,
            "symbol": example.symbol,
            "stop_loss_pct": example.percent("stop_loss_pct"),
            "take_profit_pct": example.percent("take_profit_pct"),
            "warmup": example.warmup,
            "manages_position": example.manages_position,
            "version": self.version,
            "file": self.file.name,
        }


class _File:
    """A strategy's file: its source, the keys it may turn out to have, and its class once executed."""

    def __init__(self, path: Path):
        self.path = path
        self.reason = ""  # why it is broken
        self.entry: Entry | None = None
        self.tried = False
        self.source = b""
        self.own_key = self._own_key()
        self.keys: set[str] | None = {self.own_key}  # None: only executing it can tell
        try:
            if path.stat().st_size > MOST_BYTES:
                raise StrategyError(f"it has {path.stat().st_size} bytes; a strategy has at most {MOST_BYTES}")
            self.source = path.read_bytes()
            self._foresee()
        except (OSError, SyntaxError, ValueError, RecursionError, StrategyError) as e:
            self.reason = _short(e)
        self.version = hashlib.sha256(self.source).hexdigest()[:12]

    def _own_key(self) -> str:
        return self.path.name.removesuffix(ENDING)

    def _foresee(self) -> None:
        """Find the keys that the file may turn out to have; what it raises says why the file is broken."""
        for node in [n for n in ast.walk(ast.parse(self.source)) if isinstance(n, ast.ClassDef)]:
            # (A helper, which begins with _, is no strategy; one that inherits from it is seen by its own bases.)
            if not node.name.startswith("_") and any(getattr(b, "id", getattr(b, "attr", "")) not in ("Strategy", "object") for b in node.bases):
                self.keys = None  # it may inherit a key
            for part in node.body:
                targets = part.targets if isinstance(part, ast.Assign) else [part.target] if isinstance(part, ast.AnnAssign) else []
                if any(isinstance(t, ast.Name) and t.id == "key" for t in targets):
                    value = getattr(part, "value", None)
                    if not (isinstance(value, ast.Constant) and isinstance(value.value, str)):
                        self.keys = None
                    elif self.keys is not None:
                        self.keys.add(value.value)

    def may_have(self, key: str) -> bool:
        return not self.reason and (self.keys is None or key in self.keys)

    def execute(self) -> None:
        if self.tried or self.reason:
            return
        self.tried = True
        try:
            cls = self._class()
            key = getattr(cls, "key", "") or self.own_key
            if not isinstance(key, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", key):
                raise StrategyError(f"its key must be 1 to 60 letters, digits, _ . or -, not {key!r}")
            entry = Entry(key, cls, self.path, self.version)
            entry.describe()  # what can't be built with its defaults is broken too
            self.entry = entry
        except (Exception, SystemExit) as e:  # noqa: BLE001 - a person's file may do anything; it is named, others go on
            self.reason = _short(e)

    def _class(self) -> type:
        return _strategy_class(self._module())

    def _module(self) -> types.ModuleType:
        home = "strategies" if self.path.parent == FOLDER else "botyard_own_strategies"
        name = f"{home}.{self.path.stem}"
        known = sys.modules.get(name)
        if known is not None and getattr(known, "__version_loaded__", self.version) == self.version and known.__file__ == str(self.path):
            return known
        module = types.ModuleType(name)
        module.__file__ = str(self.path)
        module.__dict__["__version_loaded__"] = self.version
        sys.modules[name] = module
        try:
            # Executed from the very bytes that the version was computed from.
            exec(compile(self.source, str(self.path), "exec"), module.__dict__)  # noqa: S102
        except BaseException:
            if known is not None:
                sys.modules[name] = known
            else:
                sys.modules.pop(name, None)
            raise
        return module


class _Declared(_File):
    """A YAML file. The reader of YAML and the indicators are loaded only when its strategy is asked for."""

    def _own_key(self) -> str:
        return self.path.stem

    def _foresee(self) -> None:
        if b"key" in self.source:
            told = re.findall(rb"(?m)^key:[ ]+([A-Za-z0-9_.-]+)[ ]*\r?$", self.source)
            self.keys = {told[0].decode()} if len(told) == 1 and self.source.count(b"key") == 1 else None

    def _class(self) -> type:
        from strategies import declared

        return declared.make(self.source, self.path.stem)


def _short(error: BaseException) -> str:
    if isinstance(error, StrategyError):
        return str(error)
    where = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return re.sub(r"\s+", " ", f"{type(error).__name__}: {text}{where}")[:300]


def _strategy_class(module: types.ModuleType) -> type:
    """The one class of the file that is a strategy; StrategyError when there is none or more than one."""

    def answers(cls: type) -> bool:
        if issubclass(cls, Strategy):
            return any(getattr(cls, m) is not getattr(Strategy, m) for m in ("signals", "analyze", "decide"))
        return callable(getattr(cls, "analyze", None))

    own = [c for n, c in vars(module).items() if isinstance(c, type) and c.__module__ == module.__name__ and not n.startswith("_") and answers(c)]
    own = list(dict.fromkeys(own))
    leaves = [c for c in own if not any(other is not c and issubclass(other, c) for other in own)]
    if not leaves:
        raise StrategyError("it has no strategy: write a class with signals(candles), analyze(data) or decide(market, position)")
    if len(leaves) > 1:
        names = ", ".join(c.__name__ for c in leaves)
        raise StrategyError(f"it has several strategies ({names}): keep one a file, and begin the names of helpers with _")
    return leaves[0]


class StrategyRegistry:
    """The strategies of the yard by key. Iterating, `broken` and `describe` execute every file."""

    def __init__(self, files: list[_File]):
        self._files = files

    def get(self, key: str) -> Entry:
        """The strategy of this key. StrategyError names the known keys, or what is wrong with its file."""
        for file in self._files:
            if file.may_have(key):
                file.execute()
                if file.entry is not None and file.entry.key == key:
                    return file.entry
        for file in self._files:
            if file.reason and (file.own_key == key or (file.keys and key in file.keys)):
                raise StrategyError(f"strategy {key!r} can't be used, {file.path.name} is broken: {file.reason}")
        raise StrategyError(f"there is no strategy {key!r}; known are: {', '.join(self.keys()) or 'none'}")

    __getitem__ = get

    def build(self, key: str, params: Mapping[str, Any] | None = None, kline_limit: int = KLINE_LIMIT) -> Strategy:
        """A strategy with checked parameters. Raises StrategyError (no such key), InputError (parameters)."""
        return self.get(key).build(params, kline_limit)

    def entries(self) -> dict[str, Entry]:
        """Every strategy that works, by key. Where two files have one key, the first keeps it, ours before others."""
        found: dict[str, Entry] = {}
        for file in self._files:
            file.execute()
            if file.entry is not None:
                found.setdefault(file.entry.key, file.entry)
        return found

    def keys(self) -> list[str]:
        return sorted(self.entries())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.entries())

    def __contains__(self, key: object) -> bool:
        try:
            self.get(str(key))
        except StrategyError:
            return False
        return True

    @property
    def broken(self) -> dict[str, str]:
        """File name → why its strategy can't be used; a key that another file has already is a reason too."""
        kept = self.entries()
        reasons: dict[str, str] = {}
        for file in self._files:
            reason = file.reason
            if file.entry is not None and kept[file.entry.key] is not file.entry:
                first = kept[file.entry.key].file
                reason = f"its key {file.entry.key!r} is already that of {first}; give its class another key"
            if reason:
                # Two folders may hold one name; then the second is told by its whole path.
                name = file.path.name if file.path.name not in reasons else str(file.path)
                reasons[name] = reason
        return reasons

    def describe(self) -> list[dict[str, Any]]:
        """Every working strategy for the page, in the order of the keys."""
        return [entry.describe() for _, entry in sorted(self.entries().items())]


def load(folder: str | Path | None = None) -> StrategyRegistry:
    """The strategies shipped here and those in `folder`, if it exists. Never raises for a broken file."""
    folders = [FOLDER]
    if folder is not None and Path(folder).resolve() != FOLDER:
        folders.append(Path(folder).resolve())
    return StrategyRegistry([file for f in folders if f.is_dir() for file in _files(f) if f == FOLDER or not _shipped(file.path)])


def _shipped(path: Path) -> bool:
    """A copy of one that is shipped, as a backup of the project's own folder brings it: not a second strategy."""
    original = FOLDER / path.name
    try:
        return original.is_file() and original.read_bytes() == path.read_bytes()
    except OSError:
        return False


def _files(folder: Path) -> list[_File]:
    """Those in Python first. What begins with a dot is an editor's, not a strategy."""
    found = [p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".")]
    return [_File(p) for p in found if p.name.endswith(ENDING)] + [_Declared(p) for p in found if p.suffix in DECLARED]
