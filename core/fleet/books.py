"""The books of an account in a person's hands: examine them, acknowledge, mend a stopped bot.

What could be done is core/bot/reconcile.py's to say; here it is done under the bot's action
lock and leaves a line in data/audit.jsonl, for page and command alike. Owns no file.
"""

from __future__ import annotations

import contextlib
import time

from core.bot import commands, reconcile
from core.errors import Conflict, InputError
from core.exchange import Exchange
from core.fleet import locks
from core.fleet.audit import audit
from core.storage import Files

KINDS = ("acknowledge",)
LOOKS = 3
PAUSE_S = 0.4


def examine(files: Files, exchange: Exchange) -> reconcile.Finding:
    """What differs for longer than a moment. Conflict while the account keeps changing.

    Bots trade while this looks: a fill that lies in the wallet and not yet in the journal is no
    difference, so one counts only when two looks in a row have shown the same."""
    found = reconcile.examine(files, exchange)
    for _ in range(LOOKS):
        if not found.differences:
            return found
        time.sleep(PAUSE_S)
        before, found = found, reconcile.examine(files, exchange)
        if found.differences == before.differences:
            return found
    raise Conflict("the account is changing just now; ask again in a moment")


def acknowledge(files: Files, exchange: Exchange, kinds: list[str], by: str) -> tuple[reconcile.Finding, reconcile.Finding]:
    """Take deposits and withdrawals into the books; the finding before and after it.

    Only what no bot is concerned by. InputError for other kinds; Conflict while an order is unsettled."""
    if not kinds or any(k not in KINDS for k in kinds):
        raise InputError(f"kinds: must be {['acknowledge']}; what concerns a bot is mended there, or by utils/reconcile.py --apply")
    with locks.held(files, "data/action/books.lock", 20, "the books are just being mended by somebody else; try again in a moment"):
        found = examine(files, exchange)
        if found.unsettled:
            raise Conflict(f"an order of bot {', '.join(map(str, found.unsettled))} is not booked yet; try again when its outcome is known")
        chosen = [p for p in found.proposals if p.kind in kinds]
        if not chosen:
            return found, found
        reconcile.apply(files, exchange, chosen, {}, by)
        with contextlib.suppress(OSError):
            audit(files, by, "acknowledge", None, venue=exchange.venue.key(), changes=[p.row() for p in chosen])
        return found, reconcile.examine(files, exchange)


def mend_stopped(files: Files, exchange: Exchange, bot_id: int, choice: str, by: str) -> str:
    """`mend` for a bot that doesn't run; what was done, in words. InputError, Conflict."""
    commands.check("mend", {"choice": choice})
    with locks.action(files, f"bot_{bot_id}"):
        outcome = "done"
        try:
            return reconcile.mend(files, exchange, bot_id, choice, by)
        except BaseException as e:
            outcome = f"{type(e).__name__}: {e}"
            raise
        finally:
            with contextlib.suppress(OSError):
                audit(files, by, "mend", bot_id, choice=choice, outcome=outcome)
