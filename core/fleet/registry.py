"""The list of bots. Owns active_bots.json, data/ids.json and what deletion puts into archive/.

The file is written only here, under data/registry.lock, beside and renamed, with its
previous copy kept, and only when a person or the supervisor changes a bot. A file that
can't be trusted is refused (StateError) and never overwritten.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from core.account import pots
from core.clock import wall_ms
from core.config import ROOT
from core.errors import AlreadyRunning, Conflict, NotFound, StateError
from core.fleet import locks, records, state
from core.fleet.audit import audit
from core.model import HIGHEST_ID
from core.storage import Files

BOTS = "active_bots.json"
IDS = "data/ids.json"
ARCHIVE = "archive"
_OF_BOT = re.compile(r"bot_(\d{1,18})(?!\d)", re.ASCII)


class Registry:
    """All bots of one home. Safe to use from several threads and processes."""

    def __init__(self, files: Files, shipped: Path = ROOT / BOTS):
        self.files, self.shipped = files, shipped

    # --- reading --------------------------------------------------------------------

    def bots(self) -> list[dict[str, Any]]:
        """Every record, complete (what was not given is null or its default), in the file's order.

        Raises StateError when the file can't be trusted."""
        return [records.view(raw) for raw in self._load()]

    def bot(self, bot_id: int) -> dict[str, Any]:
        """One record, complete; NotFound."""
        return records.view(self._find(self._load(), bot_id))

    def _load(self, *, locked: bool = False) -> list[dict[str, Any]]:
        """The raw records, checked; a first use copies the shipped list. `locked`: the caller holds the lock."""
        value = self.files.read_any(BOTS)
        if value is None:
            with contextlib.nullcontext() if locked else self._lock():
                value = self._first()
        path = self.files.path(BOTS)
        remedy = self.files.remedy(path)
        if not isinstance(value, list):
            raise StateError(path, "it holds no list of bots", remedy)
        seen: set[int] = set()
        for raw in value:
            try:
                identity = records.view(raw)["id"]
            except ValueError as e:
                raise StateError(path, f"{records.label(raw)} can't be trusted: {e}", f"Correct that record by hand. {remedy}") from None
            if identity in seen:
                raise StateError(path, f"{records.label(raw)} has an id that another record has too", f"Give one of them another id by hand. {remedy}")
            seen.add(identity)
        return value

    def _first(self) -> Any:
        """No file: the shipped list where the home is untouched; an empty one where bots ran without records. Under the lock."""
        path = self.files.path(BOTS)
        value = self.files.read_any(BOTS)
        if value is not None:
            return value  # somebody was quicker
        if self.files.exists(IDS):
            remedy = f"Restore it from a backup, or write [] into it to begin anew ({IDS} keeps old ids from being used again)."
            raise StateError(path, "the file is missing though bots were registered here", remedy)
        if any(_OF_BOT.match(p.name) for p in self.files.home.glob("bot_*")) or not self.shipped.is_file():
            return []
        value = Files(self.shipped.parent).read_any(self.shipped.name)
        if isinstance(value, list):
            self._write(value)
        return value

    @staticmethod
    def _find(bots: list[dict[str, Any]], bot_id: int) -> dict[str, Any]:
        for raw in bots:
            if raw["id"] == bot_id and not isinstance(bot_id, bool):
                return raw
        known = ", ".join(str(b["id"]) for b in bots[:20]) or "none yet"
        raise NotFound(f"there is no bot {bot_id!r}; known ids: {known}")

    # --- writing --------------------------------------------------------------------

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        return locks.held(self.files, "data/registry.lock", 20, "the list of bots is just being changed by somebody else; try again in a moment")

    def _write(self, bots: list[Any]) -> None:
        highest = max((b["id"] for b in bots if isinstance(b, dict) and isinstance(b.get("id"), int)), default=0)
        self._remember(highest)
        self.files.write_json(BOTS, bots)

    def _remember(self, identity: int) -> None:
        """The highest id ever given, on disk before the record that uses it."""
        known = self._highest_remembered()
        if identity > known or not self.files.exists(IDS):
            self.files.write_json(IDS, {"schema": 1, "highest": max(identity, known)})

    def _highest_remembered(self) -> int:
        value = self.files.read_json(IDS, schema=1)
        highest = value.get("highest") if value else 0
        if isinstance(highest, bool) or not isinstance(highest, int):
            raise StateError(self.files.path(IDS), "`highest` is not a whole number", "Write the highest bot id ever used into it.")
        return highest

    def _next_id(self, bots: list[dict[str, Any]]) -> int:
        """One above every id that a record, a remembered number, a file here or in archive/ names."""
        names = [p.name for folder in (self.files.home, self.files.path(ARCHIVE)) if folder.is_dir() for p in folder.glob("bot_*")]
        found = [int(m.group(1)) for n in names if (m := _OF_BOT.match(n))]
        used = {self._highest_remembered(), *found, *(b["id"] for b in bots)}
        following = max(used) + 1
        if following <= HIGHEST_ID:
            return following
        # Somebody ran a bot by hand under the last number there is; what it left must not end the yard's counting.
        return next(n for n in range(1, following) if n not in used)

    def create(self, fields: Mapping[str, Any], by: str = "") -> dict[str, Any]:
        """A new bot, stopped, with an id never used before. InputError lists all problems.

        A live one needs `confirm` (records.going_live); `by` says who asked."""
        clean = records.check(fields, complete=True)
        records.together(clean)
        live = records.going_live(fields, None)
        with self._lock():
            bots = self._load(locked=True)
            raw: dict[str, Any] = dict.fromkeys(records.FIELDS)
            raw.update(clean)
            raw.update(id=self._next_id(bots), status="stopped", profit=Decimal(0), trades=0)
            if live:
                raw["live_since"] = self._agreed(raw, by)
            self._write([*bots, raw])
        return records.view(raw)

    def _agreed(self, raw: Mapping[str, Any], by: str) -> dict[str, Any]:
        """A person's consent to real money, for the record; it is in the audit before it counts."""
        audit(self.files, by or "registry", "went live", raw["id"], symbol=raw["symbol"], trade_amount=raw["trade_amount"])
        return {"wall_ms": wall_ms(), "by": by, "name": raw["name"], "bot_id": raw["id"]}

    def update(self, bot_id: int, changes: Mapping[str, Any], by: str = "", agree: Callable[[Mapping[str, Any]], None] | None = None) -> dict[str, Any]:
        """Change a bot's fields (null clears one). InputError, NotFound, Conflict while business is open.

        Going live needs `confirm` (records.going_live); `by` says who asked; `agree` looks at the record
        while nobody else can change it, and raises what forbids the change."""
        clean = records.check(changes, complete=False)
        with self._lock():
            bots = self._load(locked=True)
            raw = self._find(bots, bot_id)
            before = records.view(raw)
            if agree is not None:
                agree(before)
            live = records.going_live(changes, before)
            new = {**raw, **clean}
            after = records.view(new)
            records.together(after)
            bound = [k for k in records.BOUND if before[k] != after[k]]
            business = state.open_business(state.read_position(self.files, bot_id)) if bound else None
            if business:
                raise Conflict(f"bot {bot_id}: {', '.join(bound)} can't change while {business}; close it first")
            if before["trade_amount"] != after["trade_amount"]:
                with contextlib.suppress(StateError, OSError, LookupError, TypeError, ValueError, ArithmeticError):  # the bot itself says so
                    new["pot"] = pots.note_on(before, state.read_position(self.files, bot_id))
            if live:
                new["live_since"] = self._agreed(new, by)
            elif after["mode"] != "live" and new.get("live_since") is not None:
                new["live_since"] = None
            after = records.view(new)
            if new != raw:
                self._write([new if b is raw else b for b in bots])
        return after

    def set_pot(self, seen: Mapping[str, Any], trade_amount: Decimal, note: Mapping[str, Any] | None) -> dict[str, Any]:
        """Another pot for a bot (core/fleet/pot.py): its amount, and the note on the change.

        `seen` is the record that this was decided upon; Conflict where its amount has changed since. NotFound."""
        with self._lock():
            bots = self._load(locked=True)
            raw = self._find(bots, seen["id"])
            now = records.view(raw)
            if any(now[k] != seen[k] for k in ("trade_amount", "pot", "sizing", "symbol", "mode")):
                raise Conflict(f"bot {seen['id']} was changed by somebody else just now; look at it, then try again")
            new = {**raw, "trade_amount": trade_amount, "pot": note}
            after = records.view(new)
            self._write([new if b is raw else b for b in bots])
        return after

    def set_wanted(self, bot_id: int, status: str, why: str = "") -> dict[str, Any]:
        """Whether a bot is to run: `running` or `stopped`. `why` goes into the audit when that changes."""
        if status not in ("running", "stopped"):
            raise ValueError(f"{status!r}: wanted is running or stopped")
        with self._lock():
            bots = self._load(locked=True)
            raw = self._find(bots, bot_id)
            if raw.get("status") != status:
                raw["status"] = status
                self._write(bots)
                audit(self.files, "registry", f"wanted {status}", bot_id, why=why)
        return records.view(raw)

    def note(self, bot_id: int, profit: Decimal, trades: int) -> None:
        """Keep copies of what the bot has made, for people who read the file. Written only when they changed."""
        with self._lock():
            bots = self._load(locked=True)
            raw = self._find(bots, bot_id)
            old = records.view(raw)
            if (old["profit"], old["trades"]) != (profit, trades):
                raw["profit"], raw["trades"] = profit, trades
                self._write(bots)

    def delete(self, bot_id: int) -> None:
        """Take a bot off the list; its files go to archive/. Conflict while it runs or business is open."""
        with locks.action(self.files, f"bot_{bot_id}"):
            raw = self._find(self._load(), bot_id)
            lock = self.files.lock(f"bot_{bot_id}.lock")
            try:
                lock.acquire()  # no process of it can begin while its files move
            except AlreadyRunning as e:
                raise Conflict(f"bot {bot_id} is running (process {e.pid}); stop it first") from None
            try:
                business = state.open_business(state.read_position(self.files, bot_id))
                if business:
                    raise Conflict(f"bot {bot_id} can't be deleted while {business}; close it first")
                with self._lock():
                    bots = self._load(locked=True)
                    raw = self._find(bots, bot_id)
                    folder = self._archive_folder(bot_id)
                    Files(folder).write_json("record.json", raw)
                    self._write([b for b in bots if b is not raw])
                # The record first: a death here leaves files without a record, which harm nobody.
                self._move_files(bot_id, folder)
            finally:
                lock.release()

    def _archive_folder(self, bot_id: int) -> Path:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        folder = self.files.path(ARCHIVE) / f"bot_{bot_id}-{stamp}"
        folder.mkdir(parents=True)
        return folder

    def _move_files(self, bot_id: int, folder: Path) -> None:
        own = re.compile(rf"bot_{bot_id}(?:_.*|\.(?!lock$).*)", re.ASCII | re.DOTALL)
        for path in sorted(self.files.home.glob(f"bot_{bot_id}[_.]*")):
            if own.fullmatch(path.name):
                shutil.move(path, folder / path.name)
        shutil.rmtree(self.files.path(f"data/commands/bot_{bot_id}"), ignore_errors=True)
        self.files.path(f"data/stop/bot_{bot_id}.json").unlink(missing_ok=True)
        self.files.path(f"bot_{bot_id}.lock").unlink(missing_ok=True)
