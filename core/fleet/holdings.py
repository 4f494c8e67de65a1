"""What an account holds, for the page and for commands, and the one thing that may be done about it:
an order of this yard that no bot knows is taken back. Owns no file.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from core.account.holdings import Holdings, holdings
from core.bot import ids
from core.bot.position import PositionStore
from core.errors import AlreadyRunning, Conflict, ExchangeError, InputError, NotFound, RateLimited, StateError
from core.exchange import Exchange
from core.fleet import locks
from core.fleet.audit import audit
from core.fleet.registry import Registry
from core.model import Update, plain
from core.storage import Files, installation

LOOKS = 3
PAUSE_S = 0.4


def look(files: Files, exchange: Exchange) -> Holdings:
    """The account's holdings. What the books can't explain counts only when two looks in a row have shown
    it: a bot's fill may lie in the wallet and not yet in its journal. Raises StateError, ExchangeError."""
    found = _once(files, exchange)
    for _ in range(LOOKS):
        if found.settled and not any(a.unexplained for a in found.assets):
            return found
        time.sleep(PAUSE_S)
        before, found = found, _once(files, exchange)
        if _unexplained(before) == _unexplained(found) and before.settled == found.settled:
            return found
    return found


def account(files: Files, exchange: Exchange) -> dict[str, Any]:
    """For `GET /api/account?mode=`: Holdings.as_json."""
    return look(files, exchange).as_json()


def _unexplained(found: Holdings) -> dict[str, Decimal | None]:
    return {a.asset: a.unexplained for a in found.assets}


def _once(files: Files, exchange: Exchange) -> Holdings:
    own = installation(files)

    def prices(symbols: Iterable[str]) -> Mapping[str, Decimal]:
        told: dict[str, Decimal] = {}
        names = list(symbols)
        try:
            return exchange.prices(names)
        except RateLimited:
            return told
        except ExchangeError:  # one that is gone keeps the others' prices from nobody
            for name in names:
                with contextlib.suppress(ExchangeError):
                    told[name] = exchange.price(name)
        return told

    return holdings(files, exchange, Registry(files).bots(), lambda client_id: ids.owner_of(client_id, own), prices)


def cancel_orphan(files: Files, exchange: Exchange, client_id: str, by: str) -> Update:
    """Take back an order of this yard that no bot knows; what the exchange said of it.

    InputError: not this yard's. NotFound: not open. Conflict: its bot runs, knows it, or can't be
    asked because its position file can't be read. What it had executed before is in nobody's books:
    it shows as unexplained until its owner acknowledges it."""
    bot_id = ids.owner_of(client_id, installation(files))
    if bot_id is None:
        raise InputError(f"{client_id[:40]!r} is not an order of this yard; whoever placed it must cancel it")
    with locks.action(files, f"bot_{bot_id}"):
        outcome = "done"
        try:
            return _cancel(files, exchange, client_id, bot_id)
        except BaseException as e:
            outcome = f"{type(e).__name__}: {e}"
            raise
        finally:
            with contextlib.suppress(OSError):
                audit(files, by, "cancel orphan", bot_id, client_id=client_id, outcome=outcome)


def _cancel(files: Files, exchange: Exchange, client_id: str, bot_id: int) -> Update:
    lock = files.lock(f"bot_{bot_id}.lock")
    try:
        lock.acquire()  # its bot can't begin meanwhile, nor be sending
    except AlreadyRunning as e:
        raise Conflict(f"bot {bot_id} is running (process {e.pid}): it looks after its orders itself; stop it first") from None
    try:
        try:
            held = PositionStore(files, bot_id).load()
        except StateError as e:
            raise Conflict(f"whether bot {bot_id} knows the order can't be told, its position file can't be read: {e}") from None
        if held is not None and any(o.client_id == client_id for o in held.orders):
            raise Conflict(f"bot {bot_id} knows this order: start it, or close its position, and it takes the order back itself")
        found = next((u for u in exchange.open_orders() if u.client_id == client_id), None)
        if found is None:
            raise NotFound(f"no order {client_id} is open on this account (executed or cancelled before, or of another mode)")
        return exchange.cancel(found.symbol, client_id)
    finally:
        lock.release()


def words(update: Update) -> str:
    """What became of a cancelled order, for people."""
    done = f"; {plain(update.executed)} of it had been executed: see utils/reconcile.py" if update.executed else ""
    return f"order {update.client_id} on {update.symbol} is {update.status.lower()}{done}"
