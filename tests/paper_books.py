"""The books of a paper exchange, added up from its database alone: what every account must own, and must have locked."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from decimal import Decimal as D

OPEN = ("NEW", "PARTIALLY_FILLED")


def faults_in(db: sqlite3.Connection, pairs: dict[str, tuple[str, str]]) -> list[str]:
    """What doesn't add up, in words; [] when all does. `pairs`: base and quote asset of each symbol.

    Balance = transfers + fills - fees, for each account and asset; what is locked = what open
    orders lock; an order's sums = its fills; nothing is negative; nothing that ended locks.
    """
    found: list[str] = []
    owed: dict[tuple[str, str], D] = defaultdict(D)
    for account, asset, amount in db.execute("SELECT account, asset, amount FROM transfers"):
        owed[account, asset] += D(amount)
    sums: dict[int, tuple[D, D]] = {}
    rows = db.execute("SELECT order_id, account, symbol, side, quantity, quote, fee, fee_asset FROM fills")
    for order, account, symbol, side, *numbers, fee_asset in rows:
        quantity, quote, fee = map(D, numbers)
        base, quoted = pairs[symbol]
        sign = 1 if side == "BUY" else -1
        owed[account, base] += sign * quantity
        owed[account, quoted] -= sign * quote
        owed[account, fee_asset] -= fee
        done = sums.get(order, (D(0), D(0)))
        sums[order] = (done[0] + quantity, done[1] + quote)
        if quantity <= 0 or quote < 0 or fee < 0:
            found.append(f"a fill of order {order} has {quantity}, {quote}, {fee}")
    locks: dict[tuple[str, str], D] = defaultdict(D)
    rows = db.execute("SELECT id, account, symbol, side, status, quantity, executed, executed_quote, locked FROM orders")
    for order, account, symbol, side, status, *texts in rows:
        quantity, executed, executed_quote, locked = map(D, texts)
        if (executed, executed_quote) != sums.pop(order, (D(0), D(0))):
            found.append(f"order {order} says {executed} for {executed_quote}, its fills something else")
        if executed > quantity or (status == "FILLED") != (executed == quantity) or locked < 0 or (locked and status not in OPEN):
            found.append(f"order {order} is {status} with {executed} of {quantity} and locks {locked}")
        locks[account, pairs[symbol][0 if side == "SELL" else 1]] += locked
    found += [f"fills of an order {order} that is not there" for order in sums]
    held = {(account, asset): (D(free), D(locked)) for account, asset, free, locked in db.execute("SELECT account, asset, free, locked FROM balances")}
    for key in sorted({*owed, *held, *locks}):
        free, locked = held.get(key, (D(0), D(0)))
        if free < 0 or locked < 0 or free + locked != owed[key] or locked != locks[key]:
            found.append(f"{key}: free {free}, locked {locked}; it should own {owed[key]} and lock {locks[key]}")
    return found
