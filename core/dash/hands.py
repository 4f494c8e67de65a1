"""What a person does to one bot's position or to an account's books, asked for on the page. Owns no file.

A running bot is given a command and answers it itself; only the mending of a stopped bot's
books, and of what concerns no bot, is done here.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from core.account.claims import claims
from core.bot import commands, reconcile
from core.dash.board import Board
from core.dash.rows import mode_of
from core.dash.trades import dec
from core.errors import BotyardError, ExchangeError, InputError, StateError
from core.exchange import Exchange
from core.fleet import books, control, records, state
from core.model import ZERO, Venue

BY = "dashboard"
WAIT_S = 10.0
AMOUNTS = ("stop_loss", "take_profit", "quantity", "price")


def exact(given: Mapping[str, Any]) -> dict[str, Any]:
    """The body with amounts that came as text as exact numbers, as forms send them; an empty one as null."""
    clean = dict(given)
    for name in AMOUNTS:
        value = clean.get(name)
        if isinstance(value, str):
            try:
                clean[name] = records.number(value) if value.strip() else None
            except ValueError:
                raise InputError(f"{name}: {value[:40]!r} must be a plain number such as 100 or 99.5") from None
    return clean


def command(board: Board, bot_id: int, name: str, given: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """An HTTP status and the answer: 200 done, 202 the bot hasn't answered yet, 409 it refused (its words as `error`).

    NotFound; InputError where no bot could follow; Conflict where the bot must run and doesn't."""
    data = exact(given)
    if name == "mend" and board.supervisor.pid(bot_id) is None:
        told = {"outcome": "done", "text": _mend_stopped(board, bot_id, data)}
    else:
        told = control.command_bot(board.files, board.settings, bot_id, name, BY, data, board.supervisor, wait_s=WAIT_S)
    if told["outcome"] == "refused":
        return 409, {"success": False, "error": told["text"], **told}
    return 202 if told["outcome"] == "waiting" else 200, {"success": True, **told, "bot": board.row(bot_id)}


def _mend_stopped(board: Board, bot_id: int, data: Mapping[str, Any]) -> str:
    record = board.record(bot_id)
    commands.check("mend", data)
    text: str = asking(board, mode_of(record), lambda c: books.mend_stopped(board.files, c, bot_id, data["choice"], BY), bring_up=True)
    return text


def report(board: Board, mode: str) -> dict[str, Any]:
    """Books against the exchange, as `utils/reconcile.py --json` tells it. Asks the exchange: it takes a moment."""
    found = asking(board, mode, lambda c: books.examine(board.files, c))
    return reconcile.report(found, found, False)


def acknowledge(board: Board, given: Mapping[str, Any]) -> dict[str, Any]:
    """Take an account's deposits and withdrawals into the books; the report after it."""
    unknown = [k for k in given if k not in ("mode", "kinds")]
    mode, kinds = given.get("mode", "paper"), given.get("kinds")
    if unknown or not isinstance(mode, str) or not isinstance(kinds, list) or not all(isinstance(k, str) for k in kinds):
        raise InputError('The body must be such as {"mode": "paper", "kinds": ["acknowledge"]}')
    before, after = asking(board, mode, lambda c: books.acknowledge(board.files, c, kinds, BY), bring_up=True)
    return reconcile.report(before, after, True)


def asking(board: Board, mode: str, what: Any, *, bring_up: bool = False) -> Any:
    """Do something with that mode's client. What our own files say against it is no fault of the exchange."""
    desk = board.market.ready(mode) if bring_up else board.market.desk(mode)
    refused: list[BotyardError] = []

    def asked(client: Exchange) -> Any:
        try:
            return what(client)
        except BotyardError as e:
            if isinstance(e, ExchangeError):
                raise
            refused.append(e)
            return None

    found = desk.ask(asked)
    if refused:
        raise refused[0]
    return found


def unclaimed(board: Board, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """`{"asset", "amount"}`: coins of the bot's base asset that lie in its account and that no bot claims.

    From the balances last asked for; None where they, the asset or a claim can't be known."""
    mode, bot_id = str(row["mode"]), int(row["id"])
    if mode not in board.market.modes():
        return None
    desk = board.market.desk(mode)
    held = desk.balances().get("assets")
    try:
        position = state.read_position(board.files, bot_id) or {}
        told = position.get("venue") or (state.read_status(board.files, bot_id) or {}).get("venue")
        base = position.get("base") or desk.base(str(row["symbol"]))
        if held is None or not isinstance(told, Mapping) or not base:
            return None
        mine = [c for c in claims(board.files, Venue(**told)) if c.asset == base]
    except (StateError, OSError, TypeError):
        return None
    if any(c.unsettled for c in mine):
        return None
    total = sum(((dec(a["free"]) or ZERO) + (dec(a["locked"]) or ZERO) for a in held if a["asset"] == base), ZERO)
    left: Decimal = total - sum((c.amount for c in mine), ZERO)
    return {"asset": base, "amount": max(left, ZERO)}
