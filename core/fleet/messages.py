"""Messages that the yard itself has to tell: summaries. Owns data/summary.json.

A summary is an event like any other; its `once` keeps a second telling of the same hour
from going out. `data/summary.json` holds the last hour told and what each bot had made
by then: `{"schema", "slot_ms", "wall_ms", "profits": {"1": 12.5}}`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from core import notify
from core.clock import wall_ms
from core.config import Settings
from core.errors import StateError
from core.fleet import state
from core.fleet.health import health, stuck_bound_ms
from core.fleet.registry import Registry
from core.fleet.supervisor import YARD_LOCK, Supervisor
from core.fleet.yard import read_status
from core.model import MODES, Event, plain
from core.notify import channels
from core.notify import outbox as post_office
from core.notify.rules import read_or_default
from core.notify.sms_text import fit, is_gsm, segments, simple
from core.storage import Files

FILE = "data/summary.json"
LOCK = "data/summary.lock"
SEGMENTS = 2
TAIL = " #xxxxxx"  # room for the message's short code
ZERO = Decimal(0)
log = logging.getLogger("botyard.yard")


@dataclass
class _Bot:
    label: str
    mode: str
    quote: str
    profit: Decimal
    runs: bool
    wanted: bool
    held: str = ""
    problem: str = ""


@dataclass
class Summary:
    """What there is to tell. `profits`: what each bot has made by now, also those not told of, for the next one."""

    text: str = ""  # empty where messages are sent for no bot
    bots: int = 0
    profits: dict[str, Decimal] = field(default_factory=dict)


def look(files: Files, settings: Settings, supervisor: Supervisor, now: int, before: Mapping[str, Any] | None) -> Summary:
    """Every bot that messages are sent for (paper bots only with NOTIFY_PAPER), in words. StateError when the list can't be trusted."""
    notes = read_status(files)
    every = [_bot(files, settings, supervisor, r, now, notes) for r in Registry(files).bots()]
    told = [(i, b) for i, b in every if b.mode != "paper" or settings.notify_paper]
    return Summary(_words([b for _, b in told], _since(told, before), now, before) if told else "", len(told), {str(i): b.profit for i, b in every})


def _bot(files: Files, settings: Settings, supervisor: Supervisor, record: Mapping[str, Any], now: int, notes: Mapping[str, Any] | None) -> tuple[int, _Bot]:
    bot_id, name = int(record["id"]), simple(str(record["name"]))[:20].strip()
    label = name if name and is_gsm(name) else f"bot {bot_id}"  # one foreign letter would halve what fits
    pid, status = supervisor.pid(bot_id), state.read_status(files, bot_id)
    fares = health(record, status, pid, now, notes, stuck_bound_ms(settings))
    wanted = record["status"] == "running"
    bot = _Bot(label, record["mode"], "", ZERO, fares["status"] in ("running", "starting") and pid is not None, wanted)
    if fares["status"] in ("stuck", "crashed"):
        bot.problem = fares["status"]
    try:
        position = state.read_position(files, bot_id) or {}
    except (StateError, OSError):
        bot.problem = "its state can't be read"
        return bot_id, bot
    bot.quote = str(position.get("quote") or "")
    bot.profit = _number((position.get("totals") or {}).get("profit"))
    if position.get("position"):
        bot.held = _held(position, status or {})
        if pid is None and position.get("protection") != "exchange":
            bot.problem = f"{bot.problem or 'stopped'}, its position is unwatched"
    if not bot.problem and any(isinstance(w, Mapping) and w.get("kind") == "funds" for w in (status or {}).get("warnings") or []):
        bot.problem = "low funds"
    return bot_id, bot


def _held(position: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    """`LONG BTCUSDT +1.2%`."""
    entry, price, side = _number(position.get("entry_price")), _number(status.get("price")), position.get("position")
    text = f"{side} {position.get('symbol')}"
    if not entry or not price:
        return text
    gain = (price / entry - 1) * (-100 if side == "SHORT" else 100)
    return f"{text} {gain:+.1f}%"


def _number(value: Any) -> Decimal:
    return Decimal(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else ZERO


def _since(bots: Sequence[tuple[int, _Bot]], before: Mapping[str, Any] | None) -> dict[tuple[str, str], tuple[Decimal | None, Decimal]]:
    """{(mode, quote): (made since the last summary, made in all)}: modes and assets never meet."""
    sums: dict[tuple[str, str], tuple[Decimal | None, Decimal]] = {}
    for bot_id, b in bots:
        if not b.quote:
            continue  # it has never traded
        then = (before or {}).get("profits") or {}
        since, whole = sums.get((b.mode, b.quote), (ZERO if before else None, ZERO))
        made = b.profit - _number(then.get(str(bot_id)))
        sums[b.mode, b.quote] = (None if since is None else since + made, whole + b.profit)
    return dict(sorted(sums.items(), key=lambda item: (-MODES.index(item[0][0]), item[0][1])))  # type: ignore[arg-type]


def _words(bots: Sequence[_Bot], sums: Mapping[tuple[str, str], tuple[Decimal | None, Decimal]], now: int, before: Mapping[str, Any] | None) -> str:
    """At most two SMS; what doesn't fit is counted, problems last of all."""
    runs, wanted = sum(b.runs for b in bots), sum(b.wanted for b in bots)
    of = f" of {max(wanted, runs)}" if wanted > runs else ""
    head = f"Botyard {_hour(now)} UTC: {runs}{of} bot{'s' if max(wanted, runs) != 1 else ''} running."
    money = []
    for (mode, quote), (since, whole) in sums.items():
        told = f"{_signed(since)} since {_hour(int((before or {})['wall_ms']), now)}, " if since is not None else ""
        money.append(f"{mode} {quote}: {told}{_signed(whole)} in all.")
    held, troubled = [f"{b.label} {b.held}" for b in bots if b.held], [f"{b.label} {b.problem}" for b in bots if b.problem]
    for problems in range(len(troubled), -1, -1):
        for positions in range(len(held), -1, -1):
            parts = [head, *money, _listed("Open", held, positions), _listed("Problems", troubled, problems) if troubled else "No problems."]
            text = " ".join(filter(None, parts))
            if segments(text + TAIL) <= SEGMENTS:
                return text
    return fit(" ".join([head, f"{len(held)} open, {len(troubled)} problems.", *money]), SEGMENTS, TAIL)[: -len(TAIL)]


def _listed(what: str, items: Sequence[str], shown: int) -> str:
    if not items:
        return "No open positions." if what == "Open" else ""
    if not shown:
        return f"{what}: {len(items)}."
    more = f" and {len(items) - shown} more" if shown < len(items) else ""
    return f"{what}: {', '.join(items[:shown])}{more}."


def _hour(ms: int, now: int | None = None) -> str:
    """`06:00`; `19 Nov 06:00` where it is a day ago or more."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%H:%M" if now is None or now - ms < 86_400_000 else "%d %b %H:%M")


def _signed(value: Decimal) -> str:
    """`+12.34`; small amounts (of BTC, say) keep eight places."""
    if not value:
        return "0"
    text = f"{value:+.2f}" if abs(value) >= 1 else plain(round(value, 8).normalize())
    return text if text[0] in "+-" else f"+{text}"


# --- when ----------------------------------------------------------------------------------


class Summaries:
    """Posts a summary at every multiple of SMS_SUMMARY_HOURS since the epoch (6: at 0, 6, 12 and 18 UTC).

    Called at each look of the outbox. One that was due while no yard ran is made at its start;
    one that falls into quiet hours, at their end; several missed ones are one."""

    def __init__(self, files: Files, supervisor: Supervisor):
        self.files, self.supervisor = files, supervisor
        self._next: tuple[int, int] | None = None  # period, the slot from which on there is something to do
        self._problem = ""

    def __call__(self, now: int, settings: Settings) -> None:
        period = int(settings.sms_summary_hours * 3_600_000)
        slot = now - now % period
        if self._next is not None and self._next[0] == period and slot < self._next[1] and now > self._next[1] - 2 * period:
            return
        if read_or_default(self.files)[0].quiet_until(now) is not None:
            return
        try:
            with self.files.lock(LOCK):
                self._slot(now, slot, period, settings)
        except (StateError, OSError) as e:
            if str(e) != self._problem:
                self._problem = str(e)
                log.warning("a summary can't be made now: %s", e)
            return
        self._problem, self._next = "", (period, slot + period)

    def _slot(self, now: int, slot: int, period: int, settings: Settings) -> None:
        before = self.files.read_json(FILE, schema=1)
        last = before.get("slot_ms") if before else None
        if isinstance(last, int) and last - period < slot <= last:
            return
        told = look(self.files, settings, self.supervisor, now, before)
        # A first start, and a clock that was set back, only begin to count.
        if isinstance(last, int) and slot > last and told.bots and channels.names(settings):
            _post(self.files, told, now, f"summary:{slot}")
        _remember(self.files, told, slot, now)


def _post(files: Files, told: Summary, now: int, once: str) -> None:
    notify.post(files, Event("summary", told.text, "info", wall_ms=now, data={"once": once}))


def _remember(files: Files, told: Summary, slot: int | None, now: int) -> None:
    files.write_json(FILE, {"schema": 1, "slot_ms": slot, "wall_ms": now, "profits": told.profits}, keep_previous=False)


def summary_now(files: Files, settings: Settings, supervisor: Supervisor, now: int | None = None) -> Summary:
    """What a summary would say now; `text` is empty where there is no bot to tell of. Changes nothing."""
    moment = wall_ms() if now is None else now
    return look(files, settings, supervisor, moment, files.read_json(FILE, schema=1))


def post_now(files: Files, settings: Settings, supervisor: Supervisor, now: int | None = None) -> tuple[Summary, str]:
    """Post a summary that somebody asked for; it and its `once`. The next one counts from it."""
    moment = wall_ms() if now is None else now
    with files.lock(LOCK):
        before = files.read_json(FILE, schema=1)
        told, once = look(files, settings, supervisor, moment, before), f"asked:{moment}"
        if told.bots:
            _post(files, told, moment, once)
            _remember(files, told, before["slot_ms"] if before else None, moment)
    return told, once


def make_outbox(files: Files, settings: Settings, supervisor: Supervisor, *, scheduled: bool = True, **options: Any) -> post_office.Outbox:
    """The outbox of a home, with the summaries that are due where `scheduled`."""
    produce: Callable[[int, Settings], None] | None = Summaries(files, supervisor) if scheduled else None
    return post_office.Outbox(files, settings, produce=produce, **options)


def yard_runs(files: Files) -> bool:
    """Whether a yard is there to send. Not for the yard itself: asking would free its lock."""
    return files.lock(YARD_LOCK).holder() is not None
