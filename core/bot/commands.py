"""Commands to a running bot: files in `data/commands/bot_N/`, taken one by one, oldest first.

Their sender writes one (core/fleet) and wakes the bot by SIGUSR1; the bot removes what it
has done. A file that can't be read is dropped with a word in the log.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from core.errors import BotyardError
from core.storage import Files

log = logging.getLogger("botyard")

KNOWN = ("check", "close")


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    by: str
    path: Path

    def done(self) -> None:
        self.path.unlink(missing_ok=True)


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
        except BotyardError as e:
            log.warning("⚠️ A command can't be read and is dropped: %s", e)
            value = {}
        command = Command(str(value.get("command")), str(value.get("by") or "hand"), path) if isinstance(value, dict) else Command("", "", path)
        if command.name in KNOWN:
            found.append(command)
        else:
            log.warning("⚠️ The command %r is dropped; known are %s", command.name[:40], ", ".join(KNOWN))
            command.done()
    return found
