"""Accounts and what they own: found by key, credited, debited, reported.

Memory is the working copy, the store the lasting one; every change here goes to both,
within the request's transaction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from core.errors import InputError, NotFound
from core.market.fees import floor8
from core.model import ZERO
from core.paper.jsonio import check_keys, number
from core.paper.store import Account, Holding, Store
from core.paper.wire import pad8

DEFAULT_RATE = Decimal("0.001")
MAX_AMOUNT = "1000000000000000"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ASSET = re.compile(r"[A-Z0-9]{1,20}")


class Accounts:
    """Every account by name and by key."""

    def __init__(self, store: Store):
        self._store = store
        self.by_name: dict[str, Account] = {}
        self.by_key: dict[str, Account] = {}

    def load(self) -> None:
        """Take what the store holds; whatever memory held before is forgotten."""
        self.by_name, self.by_key = {}, {}
        for account in self._store.accounts():
            self._keep(account)

    def _keep(self, account: Account) -> None:
        self.by_name[account.name] = account
        self.by_key[account.api_key] = account

    def named(self, name: str) -> Account:
        try:
            return self.by_name[name]
        except KeyError:
            raise NotFound(f"there is no account named {name[:60]!r}; GET /paper/accounts lists them") from None

    def changed(self, account: Account, assets: set[str], now: int) -> None:
        """Write what was changed in memory."""
        account.updated_ms = now
        self._store.put_account(account)
        for asset in assets:
            self._store.put_balance(account.name, asset, account.holding(asset))

    def create(
        self,
        name: str,
        key: str,
        secret: str,
        balances: Mapping[str, Decimal],
        now: int,
        maker: Decimal = DEFAULT_RATE,
        taker: Decimal = DEFAULT_RATE,
        bnb_fees: bool = False,
    ) -> Account:
        uid = max((a.uid for a in self.by_name.values()), default=354937867) + 1
        account = Account(name, key, secret, maker, taker, uid, now, bnb_fees)
        for asset, amount in balances.items():
            account.holding(asset).free = amount
            self._store.put_transfer(name, asset, amount, now)
        self._keep(account)
        self.changed(account, set(balances), now)
        return account

    def add(self, value: dict[str, Any], now: int) -> Account:
        """An account from its JSON object (name, api_key, api_secret, balances; maker and taker as rates; bnb_fees: pays fees in BNB)."""
        check_keys(value, {"name", "api_key", "api_secret"}, {"balances", "maker", "taker", "bnb_fees"})
        name, key, secret = value["name"], value["api_key"], value["api_secret"]
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InputError("name: must be 1 to 40 letters, digits, ., - or _")
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise InputError("api_key: must be 1 to 128 letters, digits, - or _")
        if not isinstance(secret, str) or not 1 <= len(secret) <= 128 or not secret.isascii() or not secret.isprintable():
            raise InputError("api_secret: must be 1 to 128 printable characters")
        if name in self.by_name:
            raise InputError(f"name: there is an account named {name!r} already")
        if key in self.by_key:
            raise InputError(f"api_key: the account {self.by_key[key].name!r} has this key already")
        raw = value.get("balances", {})
        if not isinstance(raw, dict):
            raise InputError('balances: must be an object of amounts, such as {"USDT": 10000}')
        balances = {_asset(asset): _amount(f"balances.{asset}", amount, allow_zero=True) for asset, amount in raw.items()}
        rates = {k: number(k, value[k], low=0, high="0.1") if value.get(k) is not None else DEFAULT_RATE for k in ("maker", "taker")}
        return self.create(name, key, secret, balances, now, **rates, bnb_fees=_switch("bnb_fees", value.get("bnb_fees", False)))

    def pay_fees_in_bnb(self, account: Account, on: bool, now: int) -> None:
        account.bnb_fees = on
        self.changed(account, set(), now)

    def set_bnb_fees(self, name: str, value: dict[str, Any], now: int) -> Account:
        account = self.named(name)
        check_keys(value, {"enabled"}, set())
        self.pay_fees_in_bnb(account, _switch("enabled", value["enabled"]), now)
        return account

    def deposit(self, name: str, value: dict[str, Any], now: int) -> Account:
        account, asset, amount = self._transfer(name, value)
        held = account.balances.get(asset) or Holding()
        if held.free + held.locked + amount > Decimal(MAX_AMOUNT):  # sums stay far from where a Decimal would round
            raise InputError(f"amount: the account would hold more than {MAX_AMOUNT} {asset}; less would be right")
        account.holding(asset).free += amount
        self._store.put_transfer(name, asset, amount, now)
        self.changed(account, {asset}, now)
        return account

    def withdraw(self, name: str, value: dict[str, Any], now: int) -> Account:
        account, asset, amount = self._transfer(name, value)
        held = account.balances.get(asset)
        free = held.free if held else ZERO
        if free < amount:
            raise InputError(f"amount: {pad8(amount)} {asset} is more than the account's free {pad8(free)} {asset}")
        account.holding(asset).free -= amount
        self._store.put_transfer(name, asset, -amount, now)
        self.changed(account, {asset}, now)
        return account

    def _transfer(self, name: str, value: dict[str, Any]) -> tuple[Account, str, Decimal]:
        account = self.named(name)
        check_keys(value, {"asset", "amount"}, set())
        return account, _asset(value["asset"]), _amount("amount", value["amount"])

    def shown(self) -> list[dict[str, Any]]:
        return [show(a) for a in self.by_name.values()]


def discount(account: Account) -> dict[str, Any]:
    """What is told of fees in BNB: a multiplier of the standard fee (BINANCE.md §4)."""
    return {"enabledForAccount": account.bnb_fees, "enabledForSymbol": True, "discountAsset": "BNB", "discount": "0.75000000"}


def show(account: Account) -> dict[str, Any]:
    """An account as /paper/accounts lists it: what it holds, and no secret."""
    balances = [{"asset": asset, "free": pad8(h.free), "locked": pad8(h.locked)} for asset, h in sorted(account.balances.items()) if h.free or h.locked]
    return {"name": account.name, "api_key": account.api_key, "balances": balances, "bnb_fees": account.bnb_fees}


def _asset(value: Any) -> str:
    if not isinstance(value, str) or not _ASSET.fullmatch(value):
        raise InputError("asset: must be a coin's name in capitals, such as USDT")
    return value


def _switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{name}: must be true (fees are paid in BNB, at three quarters, while it suffices) or false")
    return value


def _amount(name: str, value: Any, *, allow_zero: bool = False) -> Decimal:
    found = number(name, value, low=0 if allow_zero else None, above=None if allow_zero else 0, high=MAX_AMOUNT)
    if found != floor8(found):
        raise InputError(f"{name}: must have at most 8 decimals")
    return found
