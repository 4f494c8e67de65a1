"""What must hold after a death and a restart (DESIGN §1): with the clock stopped, and at the scenario's end."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from core.account import ledger
from core.bot.fold import lacks_fills
from core.bot.position import PositionStore
from core.model import SENDING, Position, floor_to
from core.storage import Files

if TYPE_CHECKING:
    from kills.world import Run

ZERO = Decimal(0)


def _position(files: Files) -> Position | None:
    return PositionStore(files, 1).load()


def settled(run: Run) -> list[str]:
    """Books = wallet, each fill once, one order an intent, and the exchange holds what the file says."""
    faults, run.exchange.faults = run.exchange.faults, type(run.exchange.faults)()
    try:
        return _settled(run)
    finally:
        run.exchange.faults = faults


def _settled(run: Run) -> list[str]:
    files, client = Files(run.home), run.client()
    wrong = [f"{d.asset}: wallet {d.wallet}, books {d.books}" for d in ledger.compare(files, client)]
    store = run.exchange.store
    orders, fills = store.orders("1 = 1", (), "ORDER BY id"), store.fills("1 = 1", (), "ORDER BY id")
    rows = list(files.read_lines("bot_1_fills.jsonl"))
    told, there = Counter(str(r["trade_id"]) for r in rows), Counter(str(f.id) for f in fills)
    if told != there:
        wrong.append(f"the journal has trades {sorted(told.elements())}, the exchange {sorted(there.elements())}")
    twice = [n for n, times in Counter(o.client_id for o in orders).items() if times > 1]
    if twice:
        wrong.append(f"sent twice: {twice}")
    bought = [o for o in orders if o.side == "BUY" and o.executed]
    if len(bought) > 1:
        wrong.append(f"one entry was signalled, {len(bought)} were executed")
    p = _position(files)
    wallet = client.balances()
    base, quote = wallet.get("BTC"), wallet.get("USDT")
    owns = base.total if base else ZERO
    if p is None:
        return [*wrong, *(["no position file, but orders at the exchange"] if orders else [])]
    if any(o.status == SENDING or lacks_fills(p, o) for o in p.orders) or (p.unjournaled and {str(f.trade_id) for f in p.unjournaled} - set(told)):
        wrong.append("something is still open to question")
    if p.quantity + p.dust != owns:
        wrong.append(f"the position says {p.quantity} and {p.dust} dust, the wallet {owns}")
    live = {o.client_id for o in orders if o.status in ("NEW", "PARTIALLY_FILLED")}
    if live != {o.client_id for o in p.orders}:
        wrong.append(f"open at the exchange: {sorted(live)}, in the file: {sorted(o.client_id for o in p.orders)}")
    if p.direction is not None and (p.stop_loss is None or p.take_profit is None):
        wrong.append("a position without stop or target")
    if p.direction is not None and run.scenario.protected:
        stops = [o for o in orders if o.client_id in live and o.stop_price]
        if len(stops) == 1:
            if stops[0].stop_price != p.stop_loss or stops[0].quantity - stops[0].executed != floor_to(p.quantity, Decimal("0.0001")):
                left = stops[0].quantity - stops[0].executed
                wrong.append(f"the stop at the exchange: {left} at {stops[0].stop_price}; the position: {p.quantity} at {p.stop_loss}")
        elif stops or not run.outcome.refusal:
            wrong.append(f"{len(stops)} stops lie at the exchange, the position says {p.protection}")
    if p.direction is None and quote is not None and p.totals.profit != quote.total - 10000:
        wrong.append(f"profit {p.totals.profit}, the wallet made {quote.total - 10000}")
    if p.direction is None and p.totals.trades != (1 if fills else 0):
        wrong.append(f"{p.totals.trades} trades are counted")
    return wrong


def final(run: Run) -> list[str]:
    """As `settled`, and the scenario has come to its end."""
    wrong = settled(run)
    files = Files(run.home)
    p = _position(files)
    if p is None or not p.has_traded:
        # A bot that was down while its hour passed has rightly bought nothing.
        return wrong if run.scenario.down_until is not None else [*wrong, "nothing was ever bought"]
    long = p.direction == "LONG"
    if long != run.scenario.long_at_end:
        wrong.append(f"at the end the position is {p.direction}")
    exits: list[Any] = [r for r in files.read_lines("bot_1_fills.jsonl") if r["side"] == "SELL"]
    if run.scenario.stop_at_end is not None:
        stop = [o for o in run.exchange.store.orders("1 = 1", (), "ORDER BY id") if o.stop_price and o.executed]
        by_bot = [r for r in exits if r["role"] == "exit" and r["tag"] == "stop_loss"]
        if not by_bot and [str(o.stop_price.normalize()) for o in stop] != [run.scenario.stop_at_end]:
            wrong.append(f"the stop that fired lay at {[str(o.stop_price) for o in stop]}, it should have been {run.scenario.stop_at_end}")
    return wrong
