"""The dashboard's one object: what the routes ask, and what they may have done. Owns no file.

Reading is cheap and under one lock; whatever waits (an exchange, a process) happens
outside of it, so that a slow start of one bot keeps nobody's page from moving.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from core.bot import catalogue
from core.clock import wall_ms
from core.config import Settings
from core.dash import details as closer
from core.dash import inputs
from core.dash import rows as lines
from core.dash.backtests import Backtests, mode_of
from core.dash.market import Market
from core.dash.standing import Standing
from core.dash.watch import Signature, Watch, signature
from core.errors import InputError, NotFound, StateError, StrategyError
from core.fleet import preflight as before_live
from core.fleet import records
from core.fleet.checks import Check
from core.fleet.health import exposed_bound_ms, health, stuck_bound_ms
from core.fleet.registry import BOTS, Registry
from core.fleet.state import exposed as exposed_now
from core.fleet.supervisor import Supervisor
from core.model import Venue
from core.storage import Files, loads

YARD_STATUS, YARD_LOCK, OUTBOX_STATUS = "data/yard_status.json", "data/yard.lock", "data/outbox_status.json"
# What a running bot takes up from its next check on (core/bot/setup.py, Setup.LIVE); anything else needs a restart.
AT_ONCE = (
    frozenset({"name", "trade_amount", "sizing", "stop_loss_pct", "take_profit_pct", "cooldown_checks", "check_interval", "offset"})
    | frozenset({"protection", "trailing_stop_pct", "trailing_activation_pct", "break_even_pct", "time_stop_candles", "max_spread_pct", "max_slippage_pct"})
    | frozenset({"sizing_pct", "risk_pct", "max_entry"})
)


class Board:
    """See the module. `clock_ms` is wall time."""

    def __init__(self, settings: Settings, files: Files, supervisor: Supervisor, market: Market, clock_ms: Callable[[], int] = wall_ms):
        self.settings, self.files, self.supervisor, self.market, self.clock_ms = settings, files, supervisor, market, clock_ms
        self.registry = Registry(files)
        self._bound_ms, self._exposed_ms = stuck_bound_ms(settings), exposed_bound_ms(settings)
        self.watch = Watch(files, supervisor)
        self.standing = Standing(files)
        self.backtests = Backtests(files, settings)
        self.see_flatten_through: Callable[[], None] = lambda: None  # the page's process sets it: it starts and ends processes
        self.lock = threading.Lock()
        self._records: list[dict[str, Any]] = []
        self._records_signature: Signature = None
        self.catalogue = catalogue.of(Path(files.home) / "strategies")

    # --- reading -------------------------------------------------------------------

    def records(self) -> list[dict[str, Any]]:
        """All records; the file is parsed again only when it changed. Raises StateError."""
        now = signature(str(self.files.path(BOTS)))
        if now is None or now != self._records_signature:
            self._records = self.registry.bots()
            self._records_signature = now
        return self._records

    def record(self, bot_id: int) -> dict[str, Any]:
        for record in self.records():
            if record["id"] == bot_id:
                return record
        return self.registry.bot(bot_id)  # its NotFound says which there are

    def yard(self) -> dict[str, Any]:
        """Whether the yard lives, with its own last word of itself."""
        pid = self.files.lock(YARD_LOCK).holder()
        told: Mapping[str, Any] = {}
        try:
            told = loads(self.files.path(YARD_STATUS).read_bytes())
        except (OSError, ValueError):
            told = {}
        told = told if isinstance(told, dict) else {}
        return {**told, "running": pid is not None, "holder": pid}

    def messages(self) -> dict[str, Any]:
        """What the outbox could not send, and what is wrong with its channels; empty where none has run yet."""
        try:
            told = loads(self.files.path(OUTBOX_STATUS).read_bytes())
        except (OSError, ValueError):
            return {}
        return {k: told.get(k) or [] for k in ("unsent", "problems", "channels")} if isinstance(told, dict) else {}

    def overview(self) -> dict[str, Any]:
        """`/api/overview`. Never waits for an exchange."""
        with self.lock:
            records = self.records()
            self.watch.forget_others({r["id"] for r in records})
            pids = self.supervisor.running()
            yard = self.yard()
            now = self.clock_ms()
            rows = [self._row(r, pids.get(r["id"]), yard, now) for r in records]
            kill, paused = self.standing.kill(), self.standing.maintenance()
        self._wish(rows)
        modes = {r["mode"] for r in rows} | {"paper"}
        return {
            "bots": rows,
            "totals": lines.totals(rows),
            "balances": {m: self.market.desk(m).balances() for m in self.market.modes() if m in modes},
            "as_of": now,
            "yard": yard,
            "messages": self.messages(),
            "kill": kill,
            "maintenance": paused,
            "settings": {"trading_mode": self.settings.trading_mode, "modes": self.market.modes(), "check_interval": self.settings.check_interval},
        }

    def _row(self, record: dict[str, Any], pid: int | None, yard: Mapping[str, Any], now: int) -> dict[str, Any]:
        state = self.watch.look(record["id"])
        mode = lines.mode_of(record)
        desk = self.market.desk(mode) if mode in self.market.modes() else None
        symbol = str(record["symbol"])
        told = state.status
        exposed = self._exposed_ms if exposed_now(state.position) else None
        found = health(record, told, pid, now, yard, self._bound_ms, exposed)
        row = lines.row(
            record,
            state,
            found,
            running=pid is not None and not found["guarded"],
            watched=pid is not None,
            now_wall_ms=now,
            quote=lines.quote_of(record, state.position, lambda _m, s: desk.quote(s) if desk else None),
            price_now=desk.price(symbol) if desk else None,
            last_decision=None if told and told.get("last_check") else self.watch.last_decision(record["id"]),
        )
        row["guards"] = self.standing.trips(row, told.get("market_ms") if told else None)
        row["attention"] = lines.attention(row)
        return row

    def _wish(self, rows: list[dict[str, Any]]) -> None:
        """Tell each desk what the page would like to know next time."""
        for mode in self.market.modes():
            mine = [r for r in rows if r["mode"] == mode]
            if mine or mode == "paper":
                prices = {r["symbol"] for r in mine if r["position"] and r["position"]["price_stale"]}
                prices |= {r["symbol"] for r in mine if r["position"] and r["status"] != "running"}
                self.market.desk(mode).wish(prices, {r["symbol"] for r in mine if not r["quote"]})

    def row(self, bot_id: int) -> dict[str, Any]:
        """The overview's row of one bot; NotFound."""
        with self.lock:
            return self._row(self.record(bot_id), self.supervisor.running().get(bot_id), self.yard(), self.clock_ms())

    def details(self, bot_id: int, cursor: int | None, only_log: bool) -> dict[str, Any]:
        with self.lock:
            record = self.record(bot_id)
            row = self._row(record, self.supervisor.running().get(bot_id), self.yard(), self.clock_ms())
            return closer.details(self.watch, record, self.watch.look(bot_id), row, cursor, only_log)

    def candles(self, bot_id: int, timeframe: str | None, limit: int) -> dict[str, Any]:
        record = self.record(bot_id)
        declared = None
        with contextlib.suppress(InputError):  # the chart does without what a missing strategy would have declared
            declared = self.strategy(record["strategy"]).get("timeframe")
        chosen = closer.timeframe_of(record, self.settings, declared, timeframe)
        with self.lock:
            state = self.watch.look(bot_id)
            closer.fills_of(self.watch, bot_id, state)
        return closer.chart(self.watch, self.market, self.settings, record, state, chosen, limit)

    # --- backtests -----------------------------------------------------------------------

    def backtest_of(self, bot_id: int) -> dict[str, Any]:
        """What a backtest of this bot can be made of: candles there are, defaults, earlier runs; `refused` says why there is none."""
        record = self.record(bot_id)
        timeframe, refused = self._backtested(record)
        return self.backtests.about(self.row(bot_id), timeframe, refused)

    def run_backtest(self, bot_id: int, given: Mapping[str, Any]) -> int:
        """The number of a run with this bot's settings as they are now. InputError, Conflict, Unreachable."""
        record = self.registry.bot(bot_id)
        timeframe, refused = self._backtested(record)
        if refused:
            raise InputError(refused)
        if given.get("fetch") is True and mode_of(str(given.get("venue") or Venue(mode=lines.mode_of(record)).candle_key())) == "paper":  # type: ignore[arg-type]
            self.market.ready("paper")
        return self.backtests.start(record, self.row(bot_id)["quote"], timeframe, given)

    def _backtested(self, record: Mapping[str, Any]) -> tuple[str, str | None]:
        """The candles of a bot's backtest, and why there can't be one."""
        declared: dict[str, Any] = {}
        refused = None
        try:
            declared = self.strategy(record["strategy"])
        except InputError as e:
            refused = str(e)
        if declared.get("needs"):
            needs = ", ".join(declared["needs"])
            refused = (
                f"This strategy decides by {needs} as well as by candles. What was known of {needs} at each past moment is not stored with the candles, "
                f"so a backtest here would be another strategy's. Only what a bot recorded while it ran can be played back."
            )
        return closer.timeframe_of(record, self.settings, declared.get("timeframe"), None), refused

    def healthy(self) -> str | None:
        """None when the list of bots can be read and the yard has taken the running ones over; else why not."""
        try:
            with self.lock:
                self.records()
                self.supervisor.running()
                yard = self.yard()
        except (StateError, OSError) as e:
            return str(e)
        if not yard["running"]:
            return "the yard is not running, so that nobody watches over the bots; start the dashboard again, or run python3 utils/yard.py start"
        if yard.get("pid") != yard["holder"] or not yard.get("adopted"):
            return str(yard.get("error") or "the yard has only just begun and is taking over the bots; ask again in a moment")
        return None

    def close(self) -> None:
        self.market.close()

    # --- strategies and symbols --------------------------------------------------------

    def strategies(self) -> dict[str, Any]:
        """`{"strategies": [...], "broken": {file: reason}, "reading": [file, ...]}`; executed in another process, again when they change."""
        try:
            return self.catalogue.told()
        except StrategyError as e:
            return {"strategies": [], "broken": {"strategies": str(e)}, "reading": []}

    def strategy(self, key: str) -> dict[str, Any]:
        found = self.strategies()
        for described in found["strategies"]:
            if described["key"] == key:
                return dict(described)
        reading = f" (still being read, ask again in a moment: {', '.join(found['reading'])})" if found["reading"] else ""
        raise InputError(f"strategy: there is no {key[:60]!r}; known are {', '.join(s['key'] for s in found['strategies']) or 'none'}{reading}")

    def search(self, query: str, mode: str | None) -> list[dict[str, Any]]:
        """Symbols whose name or coin begins with or holds the text, the best first, at most 50."""
        chosen = mode or "paper"
        wanted = query.strip().upper()
        if len(wanted) > 40:
            raise InputError("q: at most 40 characters")
        symbols = self.market.ready(chosen).all_symbols()

        def rank(s: Any) -> tuple[int, int, str] | None:
            if wanted and wanted not in s.name and wanted not in s.base:
                return None
            place = 0 if s.base == wanted else 1 if s.base.startswith(wanted) else 2 if s.name.startswith(wanted) else 3
            return place, 0 if s.quote == "USDT" else 1, s.name

        found = [(r, s) for s in symbols if s.tradeable and (r := rank(s)) is not None]
        ranked = sorted(found, key=lambda pair: pair[0])
        return [{"symbol": s.name, "base": s.base, "quote": s.quote} for _, s in ranked[:50]]

    # --- changing ------------------------------------------------------------------------

    def preflight(self, given: Mapping[str, Any], bot_id: int | None = None) -> dict[str, Any]:
        """What is to be known before a bot goes live: `{"checks": [{"name", "ok", "text", "remedy"}], "ready": bool}`.

        `given`: a new bot's fields, or what would change of bot `bot_id`. Changes nothing."""
        before = self.registry.bot(bot_id) if bot_id is not None else None
        clean = inputs.fields({k: v for k, v in given.items() if k != "mode"}, self.settings, complete=before is None)
        return before_live.as_json(self._flight({"id": None, **(before or {}), **clean, "mode": "live"}))

    def _flight(self, record: Mapping[str, Any]) -> list[Check]:
        if "live" not in self.market.modes() or not all(self.settings.keys("live")):
            return before_live.general(self.settings)[0]  # nobody is asked
        bots = self.registry.bots()
        found: list[Check] = self.market.desk("live").ask(
            lambda c: before_live.run(self.settings, self.files, record, c, bots, clock_ms=self.clock_ms)
        )
        return found

    def create(self, given: Mapping[str, Any], by: str = "page") -> dict[str, Any]:
        """A new bot, stopped. InputError, Unreachable; then nothing was made. A live one needs `confirm` and passes all checks."""
        clean = inputs.fields(given, self.settings, complete=True)
        clean["mode"] = inputs.mode(clean.get("mode"), self.settings)
        word = {"confirm": given.get("confirm")}
        live = records.going_live({**clean, **word}, None)
        self._check_strategy(clean)
        if live:
            before_live.insist(self._flight({"id": None, **clean}))
        else:
            self._check_tradeable(clean)
        return self.row(self.registry.create({**clean, **word}, by)["id"])

    def update(self, bot_id: int, given: Mapping[str, Any], by: str = "page") -> dict[str, Any]:
        """The bot's new row, and what of the change waits for a restart. To go live needs `confirm` and passes all checks.

        `before` in `given` holds fields as they were shown: Conflict where one is otherwise by now, and nothing is changed."""
        shown = given.get("before")
        given = {k: v for k, v in given.items() if k != "before"}
        before = self.registry.bot(bot_id)
        if shown is not None:
            inputs.unchanged(shown, before)
        if not given:
            raise InputError('The body names nothing to change; send for example {"trade_amount": 100}')
        clean = inputs.fields(given, self.settings, complete=False)
        after = {**before, **clean}
        changed = {k for k in clean if before.get(k) != after[k]}
        word = {"confirm": given.get("confirm")}
        live = records.going_live({**clean, **word}, before)
        if changed & {"strategy", "params"}:
            self._check_strategy(after)
        if live or (after["mode"] == "live" and "symbol" in changed):
            before_live.insist(self._flight(after))
        elif changed & {"symbol", "mode"} or "trade_amount" in clean or "stop_loss_pct" in changed:
            inputs.mode(after.get("mode"), self.settings)
            self._check_tradeable(after)
        self.registry.update(bot_id, {**clean, **word}, by, None if shown is None else lambda now: inputs.unchanged(shown, now))
        row = self.row(bot_id)
        restart = sorted(changed - AT_ONCE) if row["status"] in ("running", "starting", "stuck") else []
        return {"bot": row, "changed": sorted(changed), "needs_restart": restart}

    def _check_strategy(self, record: Mapping[str, Any]) -> None:
        try:
            self.catalogue.build(record["strategy"], record.get("params") or {})
        except StrategyError as e:
            raise InputError(f"strategy: {e}") from None

    def _check_tradeable(self, record: Mapping[str, Any]) -> None:
        mode, name = lines.mode_of(record), record["symbol"]
        desk = self.market.ready(mode)
        try:
            symbol = desk.symbol(name)
        except NotFound as e:
            raise InputError(f"symbol: {e}") from None
        if not symbol.tradeable:
            raise InputError(f"symbol: {name} can't be traded now ({symbol.status}); choose another")
        price = desk.ask(lambda c: c.price(name))
        stop = record.get("stop_loss_pct")
        if stop is None:
            stop = self.strategy(record["strategy"]).get("stop_loss_pct")
        inputs.trade_amount(record["trade_amount"], symbol, price, stop or self.settings.stop_loss_pct)
