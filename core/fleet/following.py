"""Bots that follow what their strategy recommends: another symbol, while nothing is open. Owns no file.

A bot tells in its status (`recommended`: core/bot/following.py) which symbol its strategy would
rather trade, once the exchange has said that it can be traded and has the same quote asset. Whether
to follow is the owner's choice in the bot's record: `follow_recommended` true (paper and testnet), or
"live" for a bot that trades real money; `symbols` bounds where it may go. The yard then changes the
record, which is refused while a position or an order is open, and starts the bot anew: from there on
all is as if a person had changed the symbol. The flat file goes to `archive/`, dust stays in the books.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from core.errors import BotyardError, Conflict, NotFound
from core.fleet import locks, maintenance, state
from core.fleet.audit import audit
from core.fleet.registry import Registry
from core.fleet.supervisor import Supervisor
from core.storage import Files

PAUSE_S = 60.0  # between two moves of one bot: a strategy that can't make up its mind must not keep it starting
log = logging.getLogger("botyard.yard")


def target(record: Mapping[str, Any], status: Mapping[str, Any]) -> str | None:
    """The symbol that this bot is to be moved to, None where it stays. `status` is that of its running process."""
    told = status.get("recommended")
    symbol = told.get("symbol") if isinstance(told, Mapping) else None
    if not isinstance(symbol, str) or not allowed(record, symbol):
        return None
    return None if symbol == record["symbol"] == status.get("symbol") else symbol


def allowed(record: Mapping[str, Any], symbol: str) -> bool:
    """Whether the record lets the bot go there."""
    wish = record.get("follow_recommended")
    if wish != "live" and (wish is not True or record["mode"] == "live"):
        return False
    listed = record.get("symbols")
    return not listed or symbol in listed


def follow(files: Files, supervisor: Supervisor, bot_id: int, pid: int, symbol: str, told: Callable[[Mapping[str, Any], str], None]) -> int | None:
    """Change the record's symbol and start the bot that is process `pid` anew; its new pid.

    None, and nothing done: something is open, somebody else is at it, it is not wanted any more,
    another process, in maintenance, or may not follow. Raises what stop and start raise."""
    registry = Registry(files)
    try:
        with locks.action(files, f"bot_{bot_id}", 0):
            record = registry.bot(bot_id)
            mine = record["status"] == "running" and supervisor.pid(bot_id) == pid and not supervisor.is_guard(bot_id, pid)
            if not mine or not allowed(record, symbol) or maintenance.read(files).on or state.has_open_business(files, bot_id):
                return None
            before = record["symbol"]
            if before != symbol:
                record = registry.update(bot_id, {"symbol": symbol}, by="the yard")
                audit(files, "the yard", "followed its strategy", bot_id, symbol=symbol, before=before)
            told(record, before)
            supervisor.stop(bot_id, by="the yard, to follow its strategy")
            return supervisor.start(record)
    except (Conflict, NotFound):
        return None


class Followers:
    """Looks at each running bot's status, and moves those that want to and may.

    `submit(bot_id, job)` has a job done by a thread of the yard's; `tell(record, text)` posts an event."""

    def __init__(
        self,
        files: Files,
        supervisor: Supervisor,
        submit: Callable[[int, Callable[[], None]], None],
        tell: Callable[[Mapping[str, Any], str], None],
        monotonic: Callable[[], float],
    ):
        self.files, self.supervisor, self._submit, self._tell, self._monotonic = files, supervisor, submit, tell, monotonic
        self._moved: dict[int, float] = {}

    def look(self, record: Mapping[str, Any], pid: int, status: Mapping[str, Any]) -> None:
        bot_id, symbol = int(record["id"]), target(record, status)
        if symbol is None or self._monotonic() - self._moved.get(bot_id, float("-inf")) < PAUSE_S or state.has_open_business(self.files, bot_id):
            return

        def move() -> None:
            def told(after: Mapping[str, Any], before: str) -> None:
                self._moved[bot_id] = self._monotonic()
                self._tell(after, f"follows its strategy from {before} to {symbol}")

            try:
                follow(self.files, self.supervisor, bot_id, pid, symbol, told)
            except (BotyardError, OSError) as e:  # stopped, perhaps: the next look starts it as any other that is wanted
                log.warning("bot %s: %s", bot_id, e)

        self._submit(bot_id, move)
