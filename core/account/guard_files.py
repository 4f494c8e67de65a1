"""The guards' files: read, checked, written. Owns what core/account/guards.py says it owns.

`guards.json` is a person's; `data/guards_state.json` is changed under `data/guards.lock` only;
`data/kill.json` is written whole, so that pulling the kill switch reads nothing first.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from core.account import limits as rules
from core.errors import AlreadyRunning, InputError, StateError, Unavailable
from core.storage import Files

ACCOUNTS = "guards.json"
STATE = "data/guards_state.json"
KILL = "data/kill.json"
LOCK = "data/guards.lock"
SCHEMA = 1
KILLS = ("entries", "flatten")
LOCK_WAIT_S = 1.0  # a bot that waits longer would leave its stop unwatched

_threads: dict[str, threading.Lock] = {}
_threads_guard = threading.Lock()


@contextlib.contextmanager
def locked(files: Files) -> Iterator[None]:
    """Hold the guards' lock. Unavailable when it isn't free within a second."""
    path = str(files.path(LOCK).absolute())
    with _threads_guard:
        thread = _threads.setdefault(path, threading.Lock())
    end = time.monotonic() + LOCK_WAIT_S
    busy = Unavailable("the guards' lock (data/guards.lock) has been held for a second by another process: asked again in a moment")
    if not thread.acquire(timeout=LOCK_WAIT_S):
        raise busy
    try:
        lock = files.lock(LOCK)
        while True:
            try:
                lock.acquire()
                break
            except AlreadyRunning:
                if time.monotonic() >= end:
                    raise busy from None
                time.sleep(0.005)
        try:
            yield
        finally:
            lock.release()
    finally:
        thread.release()


def read_state(files: Files) -> dict[str, Any]:
    """The guards' state, every amount a Decimal; StateError when it can't be trusted."""
    value = files.read_json(STATE, schema=SCHEMA)
    if value is None:
        return {"schema": SCHEMA, "scopes": {}, "reserved": [], "bots": {}}
    try:
        for scope, part in value["scopes"].items():
            for trip in part["trips"].values():
                if trip["limit"] not in rules.MOST or trip["level"] not in ("soft", "hard") or not isinstance(trip["day"], str):
                    raise ValueError(f"a trip of {scope} is not one")
            for row in part["members"].values():
                _decimals(row, "first", "value", "last", "capital")
            if part["peak"] is not None:
                _decimals(part, "peak", "peak_capital")
            _decimals(part, "gone", "gone_day")
        for row in value["reserved"]:
            _decimals(row, "quote")
            _ = row["bot_id"], row["scope"], row["coin"], row["order"], row["wall_ms"] + 0
        bots_of(value)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as e:
        path = files.path(STATE)
        raise StateError(path, f"its content can't be right ({type(e).__name__}: {e})", files.remedy(path)) from e
    return value


def _decimals(row: dict[str, Any], *names: str) -> None:
    """JSON's whole numbers come as int: all money is Decimal from here on."""
    for name in names:
        if isinstance(row[name], bool) or not isinstance(row[name], int | Decimal):
            raise TypeError(f"{name} is {row[name]!r}, it must be a number")
        row[name] = Decimal(row[name])


def bots_of(state: Mapping[str, Any]) -> dict[int, tuple[str, Decimal]]:
    """Quote asset and trade amount as each bot told them itself: for bots without a position file or a record."""
    return {int(i): (str(row["quote"]), Decimal(row["amount"])) for i, row in state["bots"].items()}


def read_accounts(files: Files) -> dict[str, dict[str, dict[str, Decimal]]]:
    """guards.json, checked: `{"schema": 1, "accounts": {"paper/main/USDT": {limits}}}`; StateError says what is wrong."""
    value = files.read_json(ACCOUNTS, schema=SCHEMA)
    if value is None:
        return {}
    try:
        unknown = sorted(set(value) - {"schema", "accounts"})
        if unknown or not isinstance(value.get("accounts", {}), dict):
            raise ValueError(f'it takes schema and accounts only, accounts an object such as {{"paper/main/USDT": {rules.EXAMPLE}}}')
        return {check_scope(scope): rules.check(limits, account=True) for scope, limits in value.get("accounts", {}).items()}
    except ValueError as e:
        raise StateError(files.path(ACCOUNTS), str(e), "Correct it; until then nothing is bought, and everything that is open is looked after.") from None


def check_scope(scope: str) -> str:
    """The name of an account's scope; ValueError where it is none."""
    parts = scope.split("/")
    if len(parts) != 3 or parts[0] not in ("paper", "testnet", "live") or not all(parts):
        raise ValueError(f"{scope[:60]!r} is no account; it must be mode/account/quote asset, such as paper/main/USDT")
    return scope


def set_limits(files: Files, scope: str, limits: Any) -> dict[str, dict[str, Decimal]]:
    """Replace an account's limits (an empty object takes them away); what they are now. InputError, StateError."""
    try:
        clean = rules.check(limits, account=True)
        check_scope(scope)
    except ValueError as e:
        raise InputError(f"limits: they must be {e}" if "no account" not in str(e) else str(e)) from None
    with files.lock("data/guards_accounts.lock"):
        accounts: dict[str, Any] = dict(read_accounts(files))
        accounts.pop(scope, None)
        if clean:
            accounts[scope] = clean
        files.write_json(ACCOUNTS, {"schema": SCHEMA, "accounts": accounts})
    return clean


def read_kill(files: Files) -> dict[str, Any] | None:
    """The kill switch as it lies on disk; StateError when it can't be told whether it is on."""
    value = files.read_json(KILL, schema=SCHEMA)
    if value is None or value.get("what") is None:
        return None
    if value["what"] not in KILLS:
        raise StateError(files.path(KILL), f"it says {value['what']!r}, which is none of {', '.join(KILLS)}", files.remedy(files.path(KILL)))
    return {"what": value["what"], "by": str(value.get("by") or "hand"), "wall_ms": value.get("wall_ms")}


def write_kill(files: Files, what: str | None, by: str, wall_ms: int) -> None:
    """Pull the switch or lift it (None), on disk when this returns. What lay there is not read: it works on a broken file too."""
    if what is not None and what not in KILLS:
        raise InputError(f"{what!r} is no way to pull the kill switch; it must be one of {', '.join(KILLS)}")
    files.write_json(KILL, {"schema": SCHEMA, "what": what, "by": by, "wall_ms": wall_ms})
