"""Finds the strategies: every file whose name ends in `_strategy.py`, and every `.yaml` and `.yml`. Owns no file.

Looks in this folder and, where it is given, in an extra one (BOTYARD_HOME/strategies). A
file is executed only when somebody asks for its strategy, or for all of them, so that a
bot doesn't load what only another bot's strategy needs. What a file's key can be is read
from its text beforehand. A broken file is named and keeps no other from loading; so is one
that doesn't end its import (strategies/bounded.py), and what only has a strategy's name: a folder,
a pipe, a device. What a YAML file may hold is told in strategies/fields.py.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import StrategyError
from strategies.base import KLINE_LIMIT, Strategy
from strategies.bounded import Bounded, prints_aside
from strategies.places import DECLARED, ENDING, FOLDER, Stamp, folders, paths, shipped, stamp
from strategies.plain import PlainStrategy

MOST_BYTES = 1_000_000  # of a file; a strategy's text is far shorter
PATIENCE_S = 1.0  # with one file before the next is begun beside it: several that hang use up their bounds at the same time

Watch = Callable[[str, "StrategyFile"], None]
"""Told of each file when its reading or its import has "begun" and when it has "ended"."""

_unended: dict[Stamp, str] = {}  # why a file was left behind, until it changes: its bound is waited for once


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


class StrategyFile:
    """A strategy's file: its source, the keys it may turn out to have, and its class once executed."""

    def __init__(self, path: Path, bound_s: float | None = None, watch: Watch | None = None):
        self.path, self.bound_s, self.watch = path, bound_s, watch
        self.reason = ""  # why it is broken
        self.entry: Entry | None = None
        self.described: dict[str, Any] = {}
        self.tried = False
        self.work: Bounded | None = None
        self.source = b""
        self.own_key = self._own_key()
        self.keys: set[str] | None = {self.own_key}  # None: only executing it can tell
        self.stamp: Stamp | None = None
        try:
            self.stamp = stamp(path)
            if self.stamp in _unended:
                raise StrategyError(_unended[self.stamp])
            self._tell("begun")
            if self.stamp[3] > MOST_BYTES:
                raise StrategyError(f"it has {self.stamp[3]} bytes; a strategy has at most {MOST_BYTES}")
            self.source = path.read_bytes()
            self._foresee()
        except PermissionError as e:
            self.reason = f"it can't be read ({e.strerror}); give the user that runs Botyard the right to read it"
        except (RecursionError, MemoryError):
            self.reason = "it can't be read: it is nested too deeply; write long sums and lists as loops, or load them from a file of data"
        except (OSError, SyntaxError, ValueError, StrategyError) as e:
            self.reason = _short(e)
        self.version = hashlib.sha256(self.source).hexdigest()[:12]
        self._tell("ended")

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

    def likely(self) -> set[str]:
        """Its key, as far as that is known yet."""
        if self.entry is not None:
            return {self.entry.key}
        return (self.keys or set()) - {self.own_key} or {self.own_key}

    def claim(self, key: str) -> tuple[bool, int]:
        """Whose a key is that several have, the lowest first: what is shipped, then whose text or name says so."""
        return self.path.parent != FOLDER, 0 if self.keys is not None and key in self.keys else 1 if key == self.own_key else 2

    def begin(self) -> Bounded | None:
        """Have it executed beside this thread; None where that is over, or makes no sense."""
        if not self.tried and not self.reason:
            self.tried = True
            self._tell("begun")
            self.work = Bounded(self._make, str(self.path), self.bound_s)
            self.work.start()
        return self.work

    def execute(self) -> None:
        """Executed or broken when this returns, and that within a bound."""
        if self.begin() is None or self.work is None:
            return
        work, self.work = self.work, None
        self.reason = work.finish()
        if self.reason and self.stamp is not None:
            _unended[self.stamp] = self.reason
        elif work.error is not None:
            self.reason = _short(work.error)
        elif not self.reason:
            self.entry, self.described = work.value
        self._tell("ended")

    def _tell(self, what: str) -> None:
        if self.watch is not None:
            self.watch(what, self)

    def _make(self) -> tuple[Entry, dict[str, Any]]:
        cls = self._class()
        key = getattr(cls, "key", "") or self.own_key
        if not isinstance(key, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", key):
            raise StrategyError(f"its key must be 1 to 60 letters, digits, _ . or -, not {_cut(repr(key))}")
        entry = Entry(key, cls, self.path, self.version)
        return entry, entry.describe()  # what can't be built with its defaults is broken too

    def _class(self) -> type:
        return _strategy_class(self._module())

    def _module(self) -> types.ModuleType:
        home = "strategies" if self.path.parent == FOLDER else "botyard_own_strategies"
        name = f"{home}.{self.path.stem}"
        known = sys.modules.get(name)
        if known is not None and known.__file__ == str(self.path):
            imported = self.version if getattr(known, "__spec__", None) is not None else ""  # by an import statement of somebody
            if vars(known).get("__version_loaded__", imported) == self.version:
                return known
        module = types.ModuleType(name)
        module.__file__ = str(self.path)
        sys.modules[name] = module
        try:
            # Executed from the very bytes that the version was computed from.
            exec(compile(self.source, str(self.path), "exec"), module.__dict__)  # noqa: S102
        except BaseException:
            if sys.modules.get(name) is module:  # one that was left behind may end long after another took its place
                sys.modules.pop(name)
                if known is not None:
                    sys.modules[name] = known
            raise
        # Only now: whoever finds the module of an import that never ended must not take it for a whole one.
        module.__dict__["__version_loaded__"] = self.version
        return module


class _Declared(StrategyFile):
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
    try:
        text = str(error.msg if isinstance(error, SyntaxError) else error)
    except Exception:  # noqa: BLE001 - an exception of the file's own making, whose text is code too
        text = "its message can't be read"
    return _cut(re.sub(r"\s+", " ", f"{type(error).__name__}: {text}{where}"))


def _cut(text: str) -> str:
    return text[:300]


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

    def __init__(self, files: list[StrategyFile], bound_s: float | None = None, unreadable: Mapping[str, str] | None = None):
        self._files, self.bound_s, self._unreadable = files, bound_s, dict(unreadable or {})

    def get(self, key: str) -> Entry:
        """The strategy of this key. StrategyError names the known keys, or what is wrong with its file."""
        # One that says so before one of which only executing it could tell: no bot waits for a file of another's.
        for file in sorted((f for f in self._files if f.may_have(key)), key=lambda f: f.claim(key)):
            with prints_aside():
                file.execute()
            if file.entry is not None and file.entry.key == key:
                return file.entry
        for file in self._files:
            if file.reason and (file.own_key == key or (file.keys and key in file.keys)):
                raise StrategyError(f"strategy {key!r} can't be used, {file.path.name} is broken: {file.reason}")
        # By their texts: none is executed for a list of names.
        known = sorted({name for file in self._files if not file.reason for name in file.likely()})
        raise StrategyError(f"there is no strategy {key!r}; known are: {', '.join(known) or 'none'}")

    __getitem__ = get

    def build(self, key: str, params: Mapping[str, Any] | None = None, kline_limit: int = KLINE_LIMIT) -> Strategy:
        """A strategy with checked parameters. Raises StrategyError (no such key, or it can't be built), InputError (parameters)."""
        entry = self.get(key)
        work = Bounded(lambda: entry.build(params, kline_limit), str(entry.file), self.bound_s)
        with prints_aside():
            work.start()
            late = work.finish()
        if late:
            raise StrategyError(f"strategy {key!r} can't be built by {entry.file.name}: {late}")
        if work.error is not None:
            raise work.error
        made: Strategy = work.value
        return made

    def entries(self) -> dict[str, Entry]:
        """Every strategy that works, by key. Where two files have one key, ours keeps it, else the one whose text or name says so."""
        return {key: file.entry for key, file in self._kept().items() if file.entry is not None}

    def _kept(self) -> dict[str, StrategyFile]:
        """Key → the file that keeps it, in the order of the files."""
        with prints_aside():
            for file in self._files:
                if (work := file.begin()) is not None and work.wait(PATIENCE_S):
                    file.execute()
            for file in self._files:
                file.execute()
        claims: dict[str, list[StrategyFile]] = {}
        for file in self._files:
            if file.entry is not None:
                claims.setdefault(file.entry.key, []).append(file)
        return {key: min(files, key=lambda f: f.claim(key)) for key, files in claims.items()}

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
        reasons: dict[str, str] = dict(self._unreadable)
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
        return [file.described for file in self.working()]

    def working(self) -> list[StrategyFile]:
        """The files whose strategies work, in the order of the keys."""
        return [file for _, file in sorted(self._kept().items())]


def load(folder: str | Path | None = None, *, bound_s: float | None = None, watch: Watch | None = None) -> StrategyRegistry:
    """The strategies shipped here and those in `folder`, if it exists. Never raises for a broken file.

    `bound_s`: seconds for a file's own lines at its import (strategies/bounded.py); `watch` is told of each file."""
    files: list[StrategyFile] = []
    unreadable: dict[str, str] = {}
    for f in folders(folder):
        try:
            files += [_file(p, bound_s, watch) for p in paths(f) if f == FOLDER or not shipped(p)]
        except OSError as e:
            unreadable[f.name] = f"the folder {f} can't be read ({e.strerror}); give the user that runs Botyard the right to read it"
    return StrategyRegistry(files, bound_s, unreadable)


def unended() -> dict[Stamp, str]:
    """The files that were left behind, with the reasons."""
    return dict(_unended)


def left_behind(dead: Mapping[Stamp, str]) -> None:
    """Files that are known not to end their import, or to end the process with it: not tried again until they change."""
    _unended.update(dead)


def _file(path: Path, bound_s: float | None, watch: Watch | None) -> StrategyFile:
    return (_Declared if path.suffix in DECLARED else StrategyFile)(path, bound_s, watch)
