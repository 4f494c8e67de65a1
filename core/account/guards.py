"""Guards over each bot and each account: what tripped, what is measured from where, who may enter.

Owns, through core/account/guard_files.py, `guards.json` (a person's limits for accounts),
`data/guards_state.json` (trips, peaks, the day's bases, resets, reserved places; fsynced, previous
copy kept), `data/kill.json` (the kill switch) and `data/guards.lock`. An account's scope is mode/account/quote asset, a bot's `bot_N`.

Bots and the yard call the same `Guards`; what one of them writes, all obey. A state that can't
be read lets nobody buy and keeps nobody from getting out; so does a price or a position file
that can't be used. The kill switch lies in a file of its own, so that it works whatever became
of the rest. Days are UTC days of market time; reservations and resets carry wall time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from core.account import guard_files
from core.account import limits as rules
from core.account.guard_files import bots_of
from core.account.limits import Facts, Finding, Limits
from core.account.measures import Measured, entry_of, measure
from core.account.members import Member, Members, bot_scope
from core.account.trips import active, day_of, event_of, scope_words, trip_of, tripped_words
from core.errors import BotyardError, InputError, StateError, Unavailable
from core.model import ZERO, Event, plain
from core.storage import Files

PRICE_AGE_MS = 30_000
RESERVED_MS = 15_000
RESERVING = frozenset({"open_positions", "exposure_pct", "trades_per_day"})  # limits that two entries at once could overrun
Prices = Mapping[str, tuple[Any, int]]  # symbol → (price in its quote asset, wall ms at which it was known)


@dataclass(frozen=True, slots=True)
class Order:
    """What a bot must obey now. `no_entries`: why nothing may be bought, "" where it may; `flatten`: why all is
    sold, with `tag` guard or kill; `withdraw`: entries that rest at the exchange are taken back."""

    no_entries: str = ""
    flatten: str = ""
    tag: str = "guard"
    withdraw: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an entry may be made: "" or why not; `passing`: it can't be judged just now, ask again soon."""

    text: str = ""
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry that a bot is about to make; `cost` in the quote asset, `next_order` its position file's."""

    symbol: str
    coin: str
    cost: Decimal
    next_order: int


@dataclass(frozen=True, slots=True)
class Shown:
    """A scope as a page or a command shows it. `values`: limit → [(coin, value or None)]."""

    scope: str
    limits: Limits
    facts: Facts
    values: Mapping[str, list[tuple[str, Decimal | None]]]
    findings: tuple[Finding, ...]
    trips: tuple[Mapping[str, Any], ...]
    resets: tuple[Mapping[str, Any], ...]


def usable(found: object, wall_ms: int) -> Decimal | None:
    """A price that may be trusted, None where it is missing, not a finite number above 0, or older than 30 s."""
    if not isinstance(found, tuple) or len(found) != 2:
        return None
    price, known = found
    if not isinstance(price, Decimal) or not price.is_finite() or price <= 0 or isinstance(known, bool) or not isinstance(known, int):
        return None
    return price if abs(wall_ms - known) <= PRICE_AGE_MS else None


class Guards:
    """One process's hand on the guards. Not shared between threads."""

    def __init__(self, files: Files, wall_ms: Callable[[], int]):
        self.files, self.wall_ms = files, wall_ms
        self.members = Members(files)
        self._cached: dict[str, tuple[Any, Any]] = {}
        self._memory: dict[str, dict[str, Any]] = {}  # peaks and last values that are not worth a write
        self._unsaved: dict[str, list[dict[str, Any]]] = {}  # trips that the disk would not take yet

    # --- what is on disk ---------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The state as it lies on disk (not to be changed); StateError when it can't be trusted."""
        return self._read(guard_files.STATE, lambda: guard_files.read_state(self.files))

    def account_limits(self) -> dict[str, dict[str, dict[str, Decimal]]]:
        """A person's limits by account scope; StateError when guards.json can't be used."""
        return self._read(guard_files.ACCOUNTS, lambda: guard_files.read_accounts(self.files))

    def kill_switch(self) -> dict[str, Any] | None:
        """`{"what": "entries"|"flatten", "by", "wall_ms"}`, None while it is off; StateError when that can't be told."""
        return self._read(guard_files.KILL, lambda: guard_files.read_kill(self.files))

    def _read(self, name: str, read: Callable[[], Any]) -> Any:
        """Once per change of the file; an error is not kept."""
        try:
            found = self.files.path(name).stat()
            signature: tuple[int, int, int] | None = (found.st_mtime_ns, found.st_ino, found.st_size)
        except OSError:
            # Never there is an answer that can be kept; taken away (a previous copy is left) is not.
            signature = None if self.files.exists(name + ".prev") else (0, 0, 0)
        known = self._cached.get(name)
        if known is None or known[0] != signature or signature is None:
            known = self._cached[name] = (signature, read())
        return known[1]

    # --- what a bot obeys -------------------------------------------------------------------

    def order(self, bot_id: int, account: str, market_ms: int) -> Order:
        """From the files alone, cheap enough for every step: kill switch, then trips of the bot and its account."""
        blocked = flatten = ""
        try:
            kill = self.kill_switch()
        except StateError as e:
            return Order(f"the kill switch can't be read: {e} Or pull or lift it anew: python3 utils/kill_switch.py")
        if kill is not None:
            blocked = f"the kill switch is on (by {kill['by']}); lift it with python3 utils/kill_switch.py --off"
            if kill["what"] == "flatten":
                return Order(blocked, f"the kill switch was pulled by {kill['by']}", "kill", True)
        try:
            state = self.state()
        except StateError as e:
            return Order(blocked or f"the guards' state can't be read: {e}", withdraw=kill is not None)
        for scope in (bot_scope(bot_id), account):
            for trip in self._trips(state, scope, market_ms):
                blocked = blocked or tripped_words(scope, trip)
                if trip["level"] == "hard":
                    flatten = flatten or tripped_words(scope, trip)
        return Order(blocked, flatten, "guard", bool(blocked))

    def _trips(self, state: Mapping[str, Any], scope: str, market_ms: int) -> list[Mapping[str, Any]]:
        entry = state["scopes"].get(scope) or {}
        since = entry.get("reset_wall") or {}
        late = [t for t in self._unsaved.get(scope, ()) if t["wall_ms"] > since.get(t["limit"], 0)]
        return [t for t in [*(entry.get("trips") or {}).values(), *late] if active(t, market_ms)]

    # --- judging -----------------------------------------------------------------------------

    def look(self, scopes: Mapping[str, Limits], prices: Prices, market_ms: int, only: list[int] | None = None) -> tuple[list[Finding], list[Event]]:
        """Judge these scopes and write down what tripped; the findings, and the events to be posted.

        `only`: the bots to read, where no account is among the scopes. Raises StateError, OSError; a
        trip that the disk does not take holds in this process until it can be written."""
        if not any(scopes.values()):
            return [], []
        members = self.members.read(bots_of(self.state()), only)
        findings, news, changed = self._judge(_copied(self._parts(self.state(), scopes)), scopes, members, prices, market_ms)
        if changed:
            try:
                with self._locked() as state:
                    findings, news, _ = self._judge(state, scopes, members, prices, market_ms)
                    self._write(state)
            except (OSError, Unavailable):
                self._hold(scopes, findings, market_ms)
                raise
            for scope in scopes:
                self._unsaved.pop(scope, None)
        return [f for found in findings.values() for f in found], news

    @staticmethod
    def _parts(state: Mapping[str, Any], scopes: Mapping[str, Limits]) -> dict[str, Any]:
        """The part of the state that judging may change."""
        return {**state, "scopes": {s: state["scopes"][s] for s in scopes if s in state["scopes"]}, "bots": {}, "reserved": state["reserved"]}

    def _judge(
        self, state: dict[str, Any], scopes: Mapping[str, Limits], members: Mapping[int, Member], prices: Prices, market_ms: int, entry: Entry | None = None
    ) -> tuple[dict[str, list[Finding]], list[Event], bool]:
        now, found, news, changed = self.wall_ms(), {}, [], False
        for scope, limits in scopes.items():
            if not limits:
                continue
            mine = self._of(scope, members)
            measured = self.measured(state, scope, mine, prices, market_ms, not rules.HISTORY.isdisjoint(limits))
            changed = measured.changed or changed
            found[scope] = rules.evaluate(limits, measured.facts)
            part = entry_of(state, scope)
            told, day = part["told"], measured.day
            for trip in self._unsaved.get(scope, ()):
                if trip["wall_ms"] > part["reset_wall"].get(trip["limit"], 0) and trip["key"] not in part["trips"]:
                    part["trips"][trip["key"]], changed = trip, True
            for finding in found[scope]:
                if finding.level == "unknown":
                    continue
                key = finding.key
                trips = finding.level == "hard" or (finding.level == "soft" and finding.limit not in rules.CONDITIONS)
                if trips and not (key in part["trips"] and active(part["trips"][key], market_ms)):
                    part["trips"][key] = trip_of(finding, day, market_ms, now)
                    told[key], changed = day, True
                    news.append(event_of(f"guard_{finding.level}", scope, mine, finding, market_ms, now))
                elif told.get(key) != day and not trips:
                    told[key], changed = day, True
                    kind = "guard_warning" if finding.level == "warning" else "guard_soft"
                    news.append(event_of(kind, scope, mine, finding, market_ms, now))
        return found, news, changed

    def measured(self, state: dict[str, Any], scope: str, members: Mapping[int, Member], prices: Prices, market_ms: int, history: bool = True) -> Measured:
        """The scope's facts; `state` is brought up to date where a day began, a peak rose or a bot came or went.

        `history` False: trades are not counted, no limit asks for them."""
        now = self.wall_ms()
        worth = {m.symbol: usable(prices.get(m.symbol), now) for m in members.values() if m.direction is not None}
        account = not scope.startswith("bot_")
        problem = self.members.records_problem if account else ""
        return measure(state, scope, members, worth, market_ms, now, self._memory.setdefault(scope, {}), problem, history)

    @staticmethod
    def _of(scope: str, members: Mapping[int, Member]) -> dict[int, Member]:
        """The members of a scope; whoever can't be read counts to every account that it might belong to."""
        if scope.startswith("bot_"):
            bot_id = int(scope[4:])
            return {bot_id: members[bot_id]} if bot_id in members else {}
        unclear = [i for i, m in members.items() if m.problem and scope.startswith(f"{m.mode}/{m.account}/")]
        return {i: m for i, m in members.items() if m.account_scope == scope or i in unclear}

    def _hold(self, scopes: Mapping[str, Limits], findings: Mapping[str, list[Finding]], market_ms: int) -> None:
        """Trips that could not be written hold in this process."""
        for scope in scopes:
            known = self._unsaved.setdefault(scope, [])
            for f in findings.get(scope, ()):
                trips = f.level == "hard" or (f.level == "soft" and f.limit not in rules.CONDITIONS)
                if trips and f.key not in {t["key"] for t in known}:
                    known.append(trip_of(f, day_of(market_ms), market_ms, self.wall_ms()))

    # --- entries ---------------------------------------------------------------------------------

    def wanted_prices(self, bot_id: int, account: str) -> list[str]:
        """Symbols whose prices an entry of this bot needs beside its own: open positions of an account with priced limits."""
        if not rules.needs_prices(self.account_limits().get(account) or {}):
            return []
        members = self._of(account, self.members.read(bots_of(self.state())))
        return sorted({m.symbol for i, m in members.items() if i != bot_id and m.direction is not None and m.symbol})

    def known(self, bot_id: int, account: str, amount: Decimal) -> bool:
        """Whether the state has this bot's quote asset and amount, so that its pot counts before it ever bought."""
        row = self.state()["bots"].get(str(bot_id))
        return row is not None and (row["quote"], Decimal(row["amount"])) == (account.rsplit("/", 1)[-1], amount)

    def introduce(self, bot_id: int, account: str, amount: Decimal) -> None:
        """Write them down. Raises StateError, OSError, Unavailable."""
        with self._locked() as state:
            state["bots"][str(bot_id)] = {"quote": account.rsplit("/", 1)[-1], "amount": amount}
            self._write(state)

    def reserve(self, bot_id: int, account: str, limits: Limits, entry: Entry, prices: Prices, market_ms: int) -> tuple[Verdict, list[Event]]:
        """Whether this entry may be made now; where an account counts places or exposure, its place is then reserved.

        Under the lock, so that two bots can't both take the last place. Raises nothing but what a bug raises."""
        try:
            scopes: dict[str, Limits] = {bot_scope(bot_id): limits, account: self.account_limits().get(account) or {}}
            standing = self.order(bot_id, account, market_ms)
            if standing.no_entries or not any(scopes.values()):
                return Verdict(standing.no_entries), []
            with self._locked() as state:
                now = self.wall_ms()
                members = self.members.read(bots_of(state))
                kept = [r for r in state["reserved"] if _valid(r, members, now) and r["bot_id"] != bot_id]
                changed = len(kept) != len(state["reserved"])
                state["reserved"] = kept
                findings, news, judged = self._judge(state, scopes, members, prices, market_ms)
                verdict = self._verdict(scopes, findings, state, members, bot_id, account, entry, prices, market_ms)
                places = not verdict.text and any(name in RESERVING for name in scopes[account])
                if places:
                    place = {"bot_id": bot_id, "scope": account, "symbol": entry.symbol, "coin": entry.coin}
                    kept.append({**place, "quote": entry.cost, "order": entry.next_order, "wall_ms": now})
                if changed or judged or places:
                    self._write(state)
                return verdict, news
        except StateError as e:
            return Verdict(f"the guards can't judge: {e}"), []
        except Unavailable as e:
            return Verdict(str(e), passing=True), []
        except (OSError, BotyardError, ArithmeticError, ValueError, TypeError, KeyError) as e:
            # Whatever another bot's file holds: this bot doesn't buy, and lives.
            return Verdict(f"the guards can't judge: {type(e).__name__}: {e}", passing=True), []

    def _verdict(
        self,
        scopes: Mapping[str, Limits],
        findings: Mapping[str, list[Finding]],
        state: dict[str, Any],
        members: Mapping[int, Member],
        bot_id: int,
        account: str,
        entry: Entry,
        prices: Prices,
        market_ms: int,
    ) -> Verdict:
        for scope in scopes:
            trip = next(iter(self._trips(state, scope, market_ms)), None)
            if trip is not None:
                return Verdict(tripped_words(scope, trip))
            for f in findings.get(scope, ()):
                if f.level == "unknown":
                    return Verdict(f"{scope_words(scope)}: {f.text}", passing=True)
                if f.level in ("soft", "hard") and f.limit not in rules.CONDITIONS:
                    return Verdict(f"{scope_words(scope)}: {f.text}")
        mine, limits, name = self._of(account, members), scopes[account], scope_words(account)
        others = [r for r in state["reserved"] if r["scope"] == account]
        waiting = {r["bot_id"] for r in others} | {i for i, m in mine.items() if m.direction is None and m.entering}
        taken = {i for i, m in mine.items() if m.direction is not None} | waiting
        facts = self.measured(state, account, mine, prices, market_ms).facts
        most = _most(limits.get("open_positions"))
        if most is not None and bot_id not in taken and len(taken) + 1 > most:
            return Verdict(f"{name}: {len(taken)} positions are open or about to be, at most {plain(most)} may be")
        most = _most(limits.get("trades_per_day"))
        if most is not None and (facts.trades_today or 0) + len(waiting - {bot_id}) + 1 > most:
            return Verdict(f"{name}: {facts.trades_today} trades were opened today and {len(waiting)} are about to be, at most {plain(most)} may be")
        share = limits.get("exposure_pct")
        if share:
            held = (facts.coins or {}).get(entry.coin, ZERO) + sum((r["quote"] for r in others if r["coin"] == entry.coin), ZERO) + entry.cost
            if not facts.capital or facts.capital <= 0:
                return Verdict(f"{name}: {rules.WORDS['exposure_pct']} can't be judged: its capital is not known", passing=True)
            percent, level = held / facts.capital * 100, share.get("soft", share.get("hard", ZERO))
            if percent > level or ("soft" not in share and percent == level):
                return Verdict(f"{name}: {percent:.2f} % of the capital would be in {entry.coin}, the limit is {plain(level)} %")
        return Verdict()

    def release(self, bot_id: int) -> None:
        """The entry was not made: its place is free again (else it is after 15 s)."""
        with contextlib.suppress(OSError, BotyardError):
            if any(r["bot_id"] == bot_id for r in self.state()["reserved"]):
                with self._locked() as state:
                    state["reserved"] = [r for r in state["reserved"] if r["bot_id"] != bot_id]
                    self._write(state)

    # --- what a person does ------------------------------------------------------------------------

    def reset(self, scope: str, limit: str, by: str) -> list[str]:
        """Begin the measure of a limit (or `all`) anew and take its trips back; the names of those that had tripped."""
        if limit != "all" and limit not in rules.MOST:
            raise InputError(f"limit: {limit[:40]!r} is not known; it must be all or one of {', '.join(rules.MOST)}")
        names = list(rules.MOST) if limit == "all" else [limit]
        with self._locked() as state:
            part, now = entry_of(state, scope), self.wall_ms()
            gone = sorted({t["limit"] for t in part["trips"].values() if t["limit"] in names})
            part["trips"] = {k: t for k, t in part["trips"].items() if t["limit"] not in names}
            part["told"] = {k: d for k, d in part["told"].items() if k.split(":")[0] not in names}
            part["reset_wall"] |= dict.fromkeys(names, now)
            part["resets"] = [*part["resets"], {"limit": limit, "by": by, "wall_ms": now, "tripped": gone}][-50:]
            if {"daily_loss_pct", "daily_profit_pct"} & set(names):
                part["day"] = ""
            if "drawdown_pct" in names:
                part["peak"], part["peak_since"] = None, now
            self._write(state)
        self._unsaved.pop(scope, None)
        return gone

    def show(self, scopes: Mapping[str, Limits], prices: Prices, market_ms: int) -> list[Shown]:
        """These scopes as they stand; nothing is written. Raises StateError."""
        state = self.state()
        members = self.members.read(bots_of(state))
        found = []
        for scope, limits in scopes.items():
            part = _copied(self._parts(state, {scope: limits}))
            facts = self.measured(part, scope, self._of(scope, members), prices, market_ms).facts
            entry = state["scopes"].get(scope) or {}
            values = {name: sorted(rules.value_of(name, facts).items()) for name in limits}
            trips = tuple(self._trips(state, scope, market_ms))
            found.append(Shown(scope, limits, facts, values, tuple(rules.evaluate(limits, facts)), trips, tuple(entry.get("resets") or ())))
        return found

    # --- writing -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[dict[str, Any]]:
        """The state to be changed, with the lock held."""
        with guard_files.locked(self.files):
            yield guard_files.read_state(self.files)

    def _write(self, state: dict[str, Any]) -> None:
        self.files.write_json(guard_files.STATE, state)


# --- small things ----------------------------------------------------------------------------


def _valid(row: Mapping[str, Any], members: Mapping[int, Member], wall_ms: int) -> bool:
    """A reserved place counts for 15 s, or until the bot's position file has the order."""
    mine = members.get(row["bot_id"])
    return 0 <= wall_ms - row["wall_ms"] < RESERVED_MS and (mine is None or bool(mine.problem) or mine.next_order <= row["order"])


def _most(levels: Mapping[str, Decimal] | None) -> Decimal | None:
    """How many places there are: the soft level, or one less than a hard one that stands alone."""
    if not levels:
        return None
    return levels["soft"] if "soft" in levels else levels["hard"] - 1


def _copied(value: Any) -> Any:
    """A copy of JSON's types: whatever judging changes in it, the state that was read stays as it is."""
    if isinstance(value, dict):
        return {k: _copied(v) for k, v in value.items()}
    return [_copied(v) for v in value] if isinstance(value, list) else value
