"""What must hold when all have come to rest: the exchange's own database against the bots' files. Pure reading."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

from chaos import roster
from chaos.house import House
from chaos.truth import STOPS, Filled, Truth
from chaos.watch import WORTH
from core.account import ledger
from core.binance_client import BinanceClient
from core.bot.fold import lacks_fills
from core.bot.ids import owner_of
from core.bot.journal import fills_name
from core.bot.position import PositionStore
from core.errors import BotyardError
from core.model import SENDING, Position

ZERO = Decimal(0)
_MOVED = (ledger.ADOPTED, ledger.RELEASED)  # rows of the journal that moved nothing at the exchange


def position(house: House, bot: int) -> Position | None:
    return PositionStore(house.files, bot).load()


def open_questions(house: House) -> list[str]:
    """Orders whose outcome or fills a bot does not know yet."""
    found = []
    for n in house.ids:
        p = position(house, n)
        if p is not None:
            found += [f"bot {n}: {o.client_id} ({o.status})" for o in p.orders if o.status == SENDING or lacks_fills(p, o)]
    return found


def judge(house: House, truth: Truth) -> list[str]:
    """Everything that is wrong; the exchange must run, without faults, its clock stopped, and no bot may run."""
    wrong = [f"an order is not resolved: {text}" for text in open_questions(house)]
    client = BinanceClient(house.settings, "paper")
    client.connect()
    wrong += [f"books ≠ wallet, {d.asset}: wallet {d.wallet}, books {d.books}, difference {d.foreign}" for d in ledger.compare(house.files, client)]
    truth.follow()
    orders, fills = truth.orders(), truth.fills()
    wrong += [f"sent twice: {name} ({times} times)" for name, times in Counter(o.client_id for o in orders).items() if times > 1]
    wrong += [f"a foreign order: {o}" for o in orders if owner_of(o.client_id, house.installation) not in house.ids]
    rows = {n: list(house.files.read_lines(fills_name(n))) for n in house.ids}
    wrong += journals(fills, rows)
    for n in house.ids:
        own = [f for f in fills if owner_of(f.client_id, house.installation) == n]
        wrong += _bot(house, truth, n, rows[n], own)
    wrong += _said(house)
    return wrong


def journals(fills: list[Filled], rows: dict[int, list[dict[str, Any]]]) -> list[str]:
    """Each fill of the exchange is in exactly one journal, once, and the other way round, to the digit."""
    wrong = []
    told: dict[tuple[str, str], list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for n, lines in rows.items():
        for row in lines:
            if row.get("client_id") and not str(row["client_id"]).startswith(_MOVED):
                told[(str(row["symbol"]), str(row["trade_id"]))].append((n, row))
    for fill in fills:
        found = told.pop((fill.symbol, str(fill.id)), [])
        if len(found) != 1:
            wrong.append(f"fill {fill.id} of {fill.client_id} ({fill.side} {fill.quantity} {fill.symbol}) is in {len(found)} journals: {[n for n, _ in found]}")
            continue
        n, row = found[0]
        same = (row["client_id"], row["side"], Decimal(row["quantity"]), Decimal(row["quote"]), Decimal(row["fee"]), row["fee_asset"])
        if same != (fill.client_id, fill.side, fill.quantity, fill.quote, fill.fee, fill.fee_asset):
            wrong.append(f"bot {n} journaled fill {fill.id} as {same}, the exchange has {fill}")
    return wrong + [f"bot {found[0][0]} journaled a fill that the exchange doesn't know: {key}" for key, found in told.items()]


def _bot(house: House, truth: Truth, n: int, rows: list[dict[str, Any]], own: list[Filled]) -> list[str]:
    wrong = []
    p = position(house, n)
    if p is None:
        return [f"bot {n} has no position file, but {len(own)} fills"] if own else []
    holding = truth.holdings[n].owned
    if p.quantity + p.dust != holding:
        wrong.append(f"bot {n}: its file says {p.quantity} and {p.dust} dust, its fills at the exchange come to {holding}")
    closed = [r for r in rows if not (p.direction is not None and r["trade"] == p.trade)]
    made = sum((cash(r) for r in closed), ZERO)
    if made != p.totals.profit:
        wrong.append(f"bot {n}: its closed trades say a profit of {p.totals.profit}, its fills {made}")
    known = {o.client_id for o in p.orders}
    lying = {o.client_id: o for o in truth.open_orders() if owner_of(o.client_id, house.installation) == n}
    if set(lying) != known:
        wrong.append(f"bot {n}: open at the exchange {sorted(lying)}, in its file {sorted(known)}")
    if p.direction is not None and p.protection == "exchange" and not any(o.kind in STOPS for o in lying.values()):
        wrong.append(f"bot {n}: its file says that the exchange holds its stop, and none lies there")
    if next(r["strategy"] for r in house.records if r["id"] == n) != roster.MANAGED:
        wrong += entries(n, own, truth.bases)
    return wrong


def cash(row: dict[str, Any]) -> Decimal:
    quote = Decimal(row["quote"])
    moved = quote if row["side"] == "SELL" else -quote
    if row["fee_asset"] == row["quote_asset"]:
        return moved - Decimal(row["fee"])
    return moved - Decimal(row.get("fee_quote") or 0) if row["fee_asset"] != row["base"] else moved


def entries(n: int, own: list[Filled], bases: dict[str, str]) -> list[str]:
    """No order buys while what another order bought is still there (a strategy that only signals never adds)."""
    wrong, owned, bought = [], ZERO, ""
    for fill in own:
        if fill.side == "BUY":
            if owned * fill.price >= WORTH and fill.client_id != bought:
                wrong.append(f"bot {n}: {fill.client_id} bought while {owned} of {bought} were still there: one signal executed twice?")
            bought = fill.client_id
        owned += fill.base_change(bases[fill.symbol])
    return wrong


_TROUBLE = re.compile(r"^(Traceback|Fatal Python error)|- CRITICAL -", re.MULTILINE)


def _said(house: House) -> list[str]:
    """Words that no log should hold, and last words of bots that nobody asked to end."""
    wrong = []
    for path in [*sorted(house.path.glob("bot_*.log")), house.path / "data/yard.log", house.path / "dashboard.out", house.path / "data/paper/paper.log"]:
        if path.is_file() and (found := _TROUBLE.search(text := path.read_text(errors="replace"))):
            wrong.append(f"{path.name} holds {text[max(0, found.start() - 200) : found.start() + 1200]!r}")
    for n in house.ids:
        try:
            status = house.files.read_json(f"bot_{n}_status.json", schema=1) or {}
        except BotyardError as e:
            wrong.append(f"bot {n}: {e}")
            continue
        last = status.get("exit")
        if not isinstance(last, dict) or last.get("code") != 0:
            wrong.append(f"bot {n} did not end as asked: {last}")
    return wrong
