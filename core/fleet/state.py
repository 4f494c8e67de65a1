"""What the fleet reads of a bot's own files. It never writes them.

The fleet asks three things only: does the bot live (status), has it business open
(position), and what was its last word (status, `exit`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.bot import position as position_room
from core.bot import status as status_room
from core.errors import StateError
from core.model import SENDING, TERMINAL
from core.storage import Files


def read_status(files: Files, bot_id: int) -> dict[str, Any] | None:
    """The status file's object, None where there is none or it can't be read: heartbeats are not worth an error."""
    try:
        return files.read_json(status_room.name(bot_id), schema=status_room.SCHEMA)
    except (StateError, OSError):
        return None


def read_position(files: Files, bot_id: int) -> dict[str, Any] | None:
    """The position file's object, None where there is none; StateError when it can't be trusted."""
    return files.read_json(position_room.name(bot_id), schema=position_room.SCHEMA)


def open_business(position: Mapping[str, Any] | None) -> str | None:
    """`a LONG position is open`, `an order is open`, or None when the bot is idle."""
    if not position:
        return None
    if position.get("position"):
        return f"a {position['position']} position is open"
    if position.get("pending_order"):
        return "an order's outcome is not known yet"
    orders = position.get("orders") or []
    if isinstance(orders, Mapping):
        orders = list(orders.values())
    if any(not isinstance(o, Mapping) or (o.get("status") or o.get("state")) not in TERMINAL for o in orders):
        return "an order is open"
    return None


def has_open_business(files: Files, bot_id: int) -> bool:
    """Whether somebody should watch; a file that can't be read counts as yes."""
    try:
        return open_business(read_position(files, bot_id)) is not None
    except (StateError, OSError):
        return True


def exposed(position: Mapping[str, Any] | None) -> bool:
    """Whether only a running bot keeps this position's stop, or an order's outcome is unknown."""
    if not position:
        return False
    orders = [o for o in position.get("orders") or [] if isinstance(o, Mapping)]
    if position.get("pending_order") or any(o.get("status") == SENDING for o in orders):
        return True
    if not position.get("position") or position.get("stop_loss") is None:
        return False
    held = any(o.get("role") == "stop" and o.get("status") not in TERMINAL for o in orders)
    return not (held and position.get("protection") == "exchange")


def is_exposed(files: Files, bot_id: int) -> bool:
    """`exposed` of the bot's file. One that can't be read counts as no: a new start could not read it either."""
    try:
        return exposed(read_position(files, bot_id))
    except (StateError, OSError):
        return False


def last_word(status: Mapping[str, Any] | None, pid: int | None = None, since_wall_ms: int = 0) -> dict[str, Any] | None:
    """The exit that a bot wrote: of process `pid` where one is given, not older than `since_wall_ms`."""
    word = status.get("exit") if status else None
    if not status or not isinstance(word, Mapping) or (pid is not None and status.get("pid") != pid):
        return None
    when = word.get("wall_ms")
    return dict(word) if isinstance(when, int) and when >= since_wall_ms else None
