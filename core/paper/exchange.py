"""The paper exchange without sockets: one request in, one answer out. Owns data/paper/.

`PaperExchange.handle` does everything, on whatever thread calls it, one request at a time:
fault → rate limit → parameters → key, time, signature → the endpoint → commit → answer.
Market time is read once a request, so that all of it happens at one instant. server.py
puts it on a socket, adapter.py into a requests session of the same process.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from core.clock import utc_text, wall_ms
from core.config import Settings
from core.errors import InputError, SettingsError, Unavailable
from core.market import filters
from core.model import plain
from core.paper import admin, empty, lists, orders, private, public, replacing, signing, validation, windows
from core.paper.accounts import Accounts
from core.paper.clock import ClockFile, MarketClock
from core.paper.endpoint import Call, Endpoint
from core.paper.faults import Fault, Faults
from core.paper.limits import WEIGHT as WEIGHT_LIMIT
from core.paper.limits import Limits, banned, too_much_weight
from core.paper.markets import Market, open_market
from core.paper.matching import Matching, SymbolInfo
from core.paper.store import Store
from core.paper.wire import HEADERS, Request, Response, WireError, compact, in_microseconds
from core.storage import Files, installation

log = logging.getLogger(__name__)

# What makes a market; a market that is there already keeps its own.
SHAPES = ("paper_market", "paper_data", "paper_start", "paper_speed", "paper_seed", "paper_balance_usdt", "paper_slippage_pct")
# Where the next order's, fill's and order list's id are kept over a reset.
NEXT_IDS = ("next_order", "next_fill", "next_list")
AVERAGE_MS = 300_000
TABLE: dict[tuple[str, str], Endpoint] = {
    key: endpoint for room in (public, windows, private, orders, lists, replacing, empty) for key, endpoint in room.ENDPOINTS.items()
}
GONE = frozenset({"/api/v3/userDataStream", "/api/v1/userDataStream"})


def _text(value: object) -> str:
    return "" if value is None else plain(value) if isinstance(value, Decimal) else str(value)


class PaperExchange:
    """One paper market with its accounts.

    `opener` makes the market (by default what PAPER_MARKET names), `folder` holds the state
    (None: in memory, gone with the object; else data/paper under BOTYARD_HOME), `wall` tells
    ms, `monotonic_ns` drives market time. `reload` is asked for the settings of a new market.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        opener: Callable[[Settings], Market] = open_market,
        folder: Path | None = None,
        wall: Callable[[], int] = wall_ms,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        reload: Callable[[], Settings] | None = None,
    ):
        self.settings, self._opener, self.folder, self.wall, self._monotonic = settings, opener, folder, wall, monotonic_ns
        self._reload = reload or (lambda: self.settings)
        self._lock = threading.RLock()
        self.exchange_filters: list[dict[str, Any]] = []
        self.asset_filters: list[dict[str, Any]] = []
        self.faults = Faults()
        self.limits = Limits(wall)
        self.pid = os.getpid()
        self._clock_file: ClockFile | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self.installation = installation(Files(settings.home))
        else:
            self.installation = "memory"
        self.store = Store(folder / "paper.db" if folder else None)
        meta = self.store.meta()
        if "settings" not in meta:
            self._begin(settings, int(meta.get("generation", "0")) + 1, (1, 1, 1))
        else:
            self._open(meta, self._shaped(json.loads(meta["settings"])))

    # --- a market begins, or goes on ---------------------------------------------------

    def _begin(self, settings: Settings, generation: int, next_ids: tuple[int, int, int]) -> None:
        """A new market from the settings, with the one account that is always there."""
        market = self._opener(settings)
        start = settings.paper_start if settings.paper_start is not None else market.first_ms
        if market.end_ms is not None and start > market.end_ms:
            raise SettingsError(f"PAPER_START: {utc_text(start)} lies after the data's end, {utc_text(market.end_ms)}")
        if market.source != "binance" and not any(market.listed(entry["symbol"], start) for entry in market.symbols()):
            raise SettingsError(f"PAPER_START: at {utc_text(start)} no symbol is listed yet; {utc_text(market.first_ms)} would be right")
        store, accounts = self.store, Accounts(self.store)
        try:
            store.wipe()
            store.set_meta("settings", json.dumps({name: _text(getattr(settings, name)) for name in SHAPES}))
            store.set_meta("generation", str(generation))
            store.set_meta("speed", plain(settings.paper_speed))
            store.set_meta("market_ms", str(start))
            store.set_meta("created_ms", str(self.wall()))
            for name, next_id in zip(NEXT_IDS, next_ids, strict=True):
                store.set_meta(name, str(next_id))
            balances = {"USDT": settings.paper_balance_usdt} if settings.paper_balance_usdt else {}
            accounts.create("paper", "paper", "paper", balances, start)
            store.commit()
        except BaseException:
            store.rollback()
            raise
        self._open(store.meta(), settings, market)

    def _shaped(self, kept: dict[str, str]) -> Settings:
        """The settings that this market was made from, whatever they say today."""
        return replace(
            self.settings,
            paper_market=kept["paper_market"],
            paper_data=kept["paper_data"],
            paper_start=int(kept["paper_start"]) if kept["paper_start"] else None,
            paper_speed=Decimal(kept["paper_speed"]),
            paper_seed=int(kept["paper_seed"]),
            paper_balance_usdt=Decimal(kept["paper_balance_usdt"]),
            paper_slippage_pct=Decimal(kept["paper_slippage_pct"]),
        )

    def _open(self, meta: dict[str, str], shaped: Settings, market: Market | None = None) -> None:
        self.shaped = shaped
        self.market = market = market if market is not None else self._opener(shaped)
        self.generation = int(meta["generation"])
        self.created_ms = int(meta["created_ms"])
        file = ClockFile(self.folder / "clock", self.generation) if self.folder else None
        at = int(meta["market_ms"])
        if file is not None:
            at = max(at, file.read() or 0)
            file.write(at)
        if self._clock_file is not None:
            self._clock_file.close()
        self._clock_file = file
        speed = Decimal(meta["speed"])
        self.clock = MarketClock(at, speed, market.end_ms, self._monotonic, self.wall if market.source == "binance" else None, file)
        self.limits.speed = speed
        self._names: list[str] = []
        self._assets: list[str] = []
        self._entries: dict[tuple[str, bool], bytes] = {}
        self._average: tuple[str, int, Decimal | None] = ("", -1, None)
        self.accounts = Accounts(self.store)
        self.matching = Matching(self.store, self.accounts, self.limits, market, shaped.paper_slippage_pct)
        self._load()

    def _load(self) -> None:
        """Memory from the store: at the start, and after a write that failed."""
        meta = self.store.meta()
        order, fill, order_list = (max(int(meta.get(name, "1")), last + 1) for name, last in zip(NEXT_IDS, self.store.last_ids(), strict=True))
        self.accounts.load()
        self.matching.load(order, fill, order_list)

    def reset(self) -> None:
        """A new market from today's settings; order, trade and list ids go on, so that none means two things."""
        try:
            settings = self._reload()
        except SettingsError as e:
            raise InputError("; ".join(e.problems)) from e
        self._commit()
        try:
            self._begin(settings, self.generation + 1, self.matching.next_ids)
        except SettingsError as e:
            raise InputError("; ".join(e.problems)) from e
        self.settings = settings
        self.faults.clear()
        self.limits.clear()

    def differing(self) -> list[dict[str, str]]:
        """Settings that say something else than the market that is there."""
        found = []
        for name in SHAPES:
            has, says = getattr(self.shaped, name), getattr(self.settings, name)
            if name == "paper_speed":
                has = self.clock.speed
            if has != says:
                found.append({"name": name.upper(), "market": _text(has), "setting": _text(says)})
        return found

    def set_speed(self, speed: Decimal) -> None:
        self.clock.set_speed(speed)
        self.limits.speed = speed
        self.store.set_meta("speed", plain(speed))

    # --- what endpoints ask for ----------------------------------------------------------

    @property
    def symbol_names(self) -> list[str]:
        """Every symbol that the market may ever list; asked for late, since the real market's need the network."""
        if not self._names:
            self._names = [e["symbol"] for e in self.market.symbols()]
        return self._names

    @property
    def listed_assets(self) -> list[str]:
        if not self._assets:
            self._assets = list(dict.fromkeys(a for e in self.market.symbols() for a in (e["baseAsset"], e["quoteAsset"])))
        return self._assets

    def average_price(self, symbol: str, now: int) -> Decimal | None:
        """The filters' average: the mean of the prints of the last 5 minutes, else the last price."""
        if self._average[0] != symbol or self._average[1] != now:
            mean = filters.average(p.price for p in self.market.prints(symbol, now - AVERAGE_MS, now))
            self._average = (symbol, now, mean if mean is not None else self.market.price(symbol, now))
        return self._average[2]

    def entry_json(self, info: SymbolInfo, sets: bool) -> bytes:
        """A symbol's exchangeInfo entry, written once."""
        found = self._entries.get((info.name, sets))
        if found is None:
            found = self._entries[(info.name, sets)] = compact(info.entry if sets else {**info.entry, "permissionSets": []})
        return found

    # --- requests ----------------------------------------------------------------------

    def handle(self, request: Request) -> Response:
        """One request, whole: whatever it changed is committed when this returns."""
        with self._lock:
            if request.path == "/paper" or request.path.startswith("/paper/"):
                return self._guarded(request, self._admin)
            return self._guarded(request, self._faulty if self.faults else self._api)

    def tick(self) -> None:
        """Fill what the path has reached; for a timer, so that fills wait for nobody's question."""
        with self._lock:
            now = self.clock.now()
            try:
                self.matching.catch_up(self.matching.symbols_with_orders(), now)
                self._commit()
            except Unavailable as e:
                self._undo()
                log.warning("prices can't be had for now: %s", e)
            except Exception:  # whatever it was, half a walk may not stay in memory; it is raised on
                self._undo()
                raise

    def close(self) -> None:
        """Keep the moment and let go of the files."""
        with self._lock:
            self.clock.now()
            self._commit()
            self.store.close()
            if self._clock_file is not None:
                self._clock_file.close()
                self._clock_file = None

    def _guarded(self, request: Request, run: Callable[[Request], Response]) -> Response:
        try:
            response = run(request)
            self._commit()
            return response
        except Exception:
            # Nothing of this request may remain, in memory or on disk: the answer says "unknown".
            log.exception("%s %s failed", request.method, request.path)
            self._undo()
            error = WireError(-1001, "Internal error; unable to process your request. Please try again.", 500)
            return self._refusal(request, error)

    def _commit(self) -> None:
        if self.store.dirty:
            self.store.set_meta("market_ms", str(self.clock.now()))
            self.store.commit()

    def _undo(self) -> None:
        if self.store.dirty:
            self.store.rollback()
        self._load()

    def _admin(self, request: Request) -> Response:
        return admin.handle(self, request)

    def _faulty(self, request: Request) -> Response:
        fault = self.faults.end(request.method, request.path)
        delay = self.faults.take("latency", request.method, request.path)
        response = self._ended(request, fault) if fault is not None else self._api(request)
        if delay is not None:
            response.hold_s += float(delay.params["ms"]) / 1000
        return response

    def _ended(self, request: Request, fault: Fault) -> Response:
        kind, params = fault.fault, fault.params
        if kind == "drop_before":
            return Response(cut=True)
        if kind == "rate_limit":
            return self._refusal(request, too_much_weight(self.limits.scaled(WEIGHT_LIMIT), _seconds(params)))
        if kind == "ban":
            wall = self.wall()
            return self._refusal(request, banned(wall + int(params["seconds"] * 1000), wall))
        if kind == "error" and not params["executed"]:
            return self._error(request, params)
        response = self._api(request)
        if kind == "drop_after":
            return Response(cut=True)
        if kind == "error":
            return self._error(request, params)
        response.hold_s, response.hang = float(params["seconds"]), True
        return response

    def _error(self, request: Request, params: dict[str, Any]) -> Response:
        response = self._refusal(request, WireError(params["code"], params["msg"], params["status"]))
        if "body" in params:
            response.body = params["body"].encode()
            response.headers["Content-Type"] = "text/html"
        return response

    def _api(self, request: Request) -> Response:
        endpoint = TABLE.get((request.method, request.path))
        if endpoint is None:
            return self._elsewhere(request)
        remote, weight, call = request.remote, 1, None
        try:
            # "GET: query string only" (BINANCE.md §1.0): a body is not read.
            values, sent = validation.parse(request.query, b"" if request.method == "GET" else request.body)
            weight = endpoint.weight if isinstance(endpoint.weight, int) else endpoint.weight(values)
            self.limits.charge(remote, weight)
            call = Call(request, values, 0, self.wall())
            if endpoint.signed:
                account = self.accounts.by_key.get(signing.api_key(request))
                if account is None:
                    raise WireError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
                call.account = account
            validation.check_shape(values, sent, endpoint.needs, endpoint.takes, endpoint.signed)
            if endpoint.check is not None:
                endpoint.check(values)
            if endpoint.signed:
                signing.check_time(values, call.wall)
                signing.check_signature(request, call.account.api_secret, values["signature"])
            call.now = self.clock.now()
            if endpoint.signed:
                self.matching.catch_up(self.matching.symbols_with_orders(call.account.name), call.now)
            body = endpoint.run(self, call)
        except WireError as e:
            return self._refusal(request, e)
        except Unavailable as e:
            log.warning("prices can't be had for now: %s", e)
            self._undo()
            return self._refusal(request, WireError(-1008, "Server is currently overloaded with other requests. Please try again in a few minutes.", 503))
        if endpoint.free:
            self.limits.give_back(remote, weight)
        if request.headers.get("x-mbx-time-unit", "").upper() == "MICROSECOND":
            body = in_microseconds(json.loads(body) if isinstance(body, bytes) else body)
        return Response(200, body if isinstance(body, bytes) else compact(body), {**self._headers(request), **call.headers})

    def _elsewhere(self, request: Request) -> Response:
        try:
            self.limits.charge(request.remote, 1)
        except WireError as e:
            return self._refusal(request, e)
        if request.path in GONE:
            return self._refusal(request, WireError(-1016, "This service is no longer available.", 410))
        return self._refusal(request, WireError(-5000, f"Path {request.path}, Method {request.method} is invalid", 404))

    def _headers(self, request: Request) -> dict[str, str]:
        used = str(self.limits.used(request.remote))
        return {**HEADERS, "x-mbx-uuid": str(uuid.uuid4()), "X-MBX-USED-WEIGHT": used, "X-MBX-USED-WEIGHT-1M": used}

    def _refusal(self, request: Request, e: WireError) -> Response:
        told = {"code": e.code, "msg": e.msg} if e.data is None else {"code": e.code, "msg": e.msg, "data": e.data}
        return Response(e.status, compact(told), {**self._headers(request), **e.headers})


def _seconds(params: dict[str, Any]) -> int:
    return max(1, int(params["seconds"]))
