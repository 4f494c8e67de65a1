"""Commands to a running bot: files in `data/commands/bot_N/`, taken one by one, oldest first.

Their sender writes one (core/fleet) and wakes the bot by SIGUSR1; the bot removes what it
has done and says in its status (`last_command`) what came of it. A file that can't be read
is dropped with a word in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from core.errors import BotyardError, InputError
from core.storage import Files

log = logging.getLogger("botyard")

FIELDS: dict[str, tuple[str, ...]] = {
    "check": (),
    "close": (),
    "levels": ("stop_loss", "take_profit"),  # prices; take_profit null turns the target off
    "skip": ("entries",),  # how many of the next entries are left out; 0 takes it back
    "adopt": ("quantity", "price"),  # base asset; what it cost, null: the price now
    "mend": ("choice",),  # coins are missing: `book` what happened to them, or `close` the book of the position
}
CHOICES = ("book", "close")
MOST_SKIPPED = 100


@dataclass(frozen=True, slots=True)
class Command:
    """`number` is its own; the bot's status tells under it what came of it."""

    name: str
    by: str
    path: Path
    data: Mapping[str, Any]

    @property
    def number(self) -> str:
        return self.path.stem

    def done(self) -> None:
        self.path.unlink(missing_ok=True)


def check(name: str, data: Mapping[str, Any]) -> None:
    """InputError where no bot could follow this command, whatever its position."""
    if name not in FIELDS:
        raise InputError(f"{name[:40]!r} is no command; known are {', '.join(FIELDS)}")
    unknown = [k for k in data if k not in FIELDS[name]]
    if unknown:
        raise InputError(f"{name}: {', '.join(map(repr, unknown))} is not known; it takes {', '.join(FIELDS[name]) or 'nothing'}")
    if name == "levels":
        if not data:
            raise InputError("levels: stop_loss or take_profit must be given")
        if "stop_loss" in data:
            _price("stop_loss", data["stop_loss"])
        if data.get("take_profit") is not None:
            _price("take_profit", data["take_profit"])
    elif name == "skip":
        entries = data.get("entries", 1)
        if isinstance(entries, bool) or not isinstance(entries, int) or not 0 <= entries <= MOST_SKIPPED:
            raise InputError(f"entries: {entries!r} must be a whole number from 0 to {MOST_SKIPPED}")
    elif name == "adopt":
        _price("quantity", data.get("quantity"))
        if data.get("price") is not None:
            _price("price", data["price"])
    elif name == "mend" and data.get("choice") not in CHOICES:
        raise InputError(f"choice: {data.get('choice')!r} must be one of {', '.join(CHOICES)}")


def _price(field: str, value: Any) -> None:
    right = isinstance(value, int | Decimal) and not isinstance(value, bool)
    if not right or not Decimal(value).is_finite() or not 0 < value < Decimal(10) ** 20:
        raise InputError(f"{field}: {value!r} must be a number above 0")


def waiting(files: Files, bot_id: int) -> list[Command]:
    folder = files.path(f"data/commands/bot_{bot_id}")
    try:
        names = sorted(p.name for p in folder.iterdir() if p.suffix == ".json" and not p.name.startswith("."))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        path = folder / name
        try:
            value = files.read_any(f"data/commands/bot_{bot_id}/{name}")
            if not isinstance(value, dict) or not isinstance(value.get("data", {}), dict):
                raise InputError("it holds no command")
            command = Command(str(value.get("command")), str(value.get("by") or "hand"), path, value.get("data", {}))
            check(command.name, command.data)
        except BotyardError as e:
            log.warning("⚠️ A command can't be followed and is dropped: %s", e)
            path.unlink(missing_ok=True)
        else:
            found.append(command)
    return found
