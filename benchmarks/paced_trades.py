"""What a paced run (benchmarks/paced.py) left behind, against the backtest of the same span, trade by trade. Owns no files.

Late is what a fill may be; wrong it may not be. So every check must have heard what the
strategy says of its candle, every fill must lie on the path of the candles at its moment,
nothing may come before the backtest's, and what one side lacks must follow from a lateness.
What does not is suspicious, in words.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from core.backtest.engine import run, trades
from core.backtest.result import END, Config, Trade
from core.backtest.tape import Tape
from core.clock import utc_text
from core.market.bars import Bars
from core.model import Fill, plain
from strategies.answers import SIGNAL_NAMES
from strategies.base import Strategy

MINUTE, DAY = 60_000, 86_400_000
LOOKED_AT = ("entry_price", "quantity", "exit_price", "exit_reason", "profit", "fees")
MONEY = ("price", "quantity", "quote", "fee")
FIELDS = set(Fill.__dataclass_fields__)


@dataclass(frozen=True)
class Anchor:
    """Market and wall time (ms) at which the market's clock was set going, and when it was stopped."""

    market_ms: int
    wall_ms: int
    speed: float
    end_ms: int

    def wall(self, market_ms: int) -> float:
        return self.wall_ms + (market_ms - self.market_ms) / self.speed


@dataclass
class Bot:
    """One bot's run: what it left behind, and what a backtest needs for the same. `signals`: by a candle's open (ms)."""

    number: int
    record: Mapping[str, Any]
    config: Config
    strategy: Strategy
    bars: Bars
    fills: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    flat: bool = True
    trades: list[Trade] = field(default_factory=list)
    backtest: list[Trade] = field(default_factory=list)
    signals: dict[int, str] = field(default_factory=dict)


def replay(bot: Bot, anchor: Anchor) -> None:
    """Fill in both lists of trades, and what the strategy says of each candle."""
    # A whole number in a file is an int: money is made Decimal here, once.
    bot.fills = [{k: Decimal(v) if k in MONEY else v for k, v in row.items()} for row in bot.fills]
    fills = [Fill(**{k: v for k, v in row.items() if k in FIELDS}) for row in bot.fills]
    bot.trades, still_open = trades(fills, bot.config.symbol)
    if not bot.flat and not still_open and bot.trades:
        bot.trades.pop()  # partly sold, and open
    assert bot.config.from_ms is not None
    bars = bot.bars.slice(bot.config.from_ms - DAY, anchor.end_ms + 2 * MINUTE)
    result = run(bot.config, bars, bot.strategy)
    bot.backtest = [t for t in result.trades if t.exit_reason != END and t.exit_time <= anchor.end_ms]
    said = bot.strategy.signals(bars.frame())
    bot.signals = {int(ms): SIGNAL_NAMES[int(s)] for ms, s in zip(bars.open_ms, said, strict=True)}


# --- trade by trade -------------------------------------------------------------------------


def candle_at(ms: int) -> int:
    """Open of the last candle that had closed at a moment: what an entry then was decided on, if its order was quick."""
    return ms // MINUTE * MINUTE - MINUTE


def paired(bot: Bot) -> list[tuple[Trade | None, Trade | None]]:
    """(the bot's, the backtest's), in order of time: trades whose entries rest on the same candle are one."""
    entered: dict[int, int] = {}
    for t in bot.trades:
        rows = [d for d in bot.decisions if (d["slot_ms"] or d["market_ms"]) <= t.entry_time and d["signal"] == "BUY"]  # a row is written after its order
        entered[t.entry_time] = rows[-1]["candle_ms"] if rows else candle_at(t.entry_time)
    own = {entered[t.entry_time]: t for t in bot.trades}
    other = {candle_at(t.entry_time): t for t in bot.backtest}
    return [(own.get(c), other.get(c)) for c in sorted({*own, *other})]


def compare(bot: Bot, anchor: Anchor) -> dict[str, Any]:
    """What became of each trade, and of each check."""
    tape = Tape(bot.bars)
    rows: list[dict[str, Any]] = []
    suspicious = [*_wrong_signals(bot), *_off_the_path(bot, tape)]
    for a, b in paired(bot):
        row: dict[str, Any] = {"bot": _plain(a), "backtest": _plain(b)}
        if a is not None and b is not None:
            late = {"entry": a.entry_time - b.entry_time, "exit": a.exit_time - b.exit_time}
            row["later_market_ms"] = late
            row["later_wall_ms"] = {k: round(v / anchor.speed, 1) for k, v in late.items()}
            row["exit_known_after_wall_ms"] = round(max(f["wall_ms"] - anchor.wall(b.exit_time) for f in bot.fills if f["time_ms"] == a.exit_time), 1)
            row["differs"] = [name for name in LOOKED_AT if getattr(a, name) != getattr(b, name)]
            row["what"] = "same" if not row["differs"] else "dust" if _dust(bot, a, b) else "differs"
            early = [k for k, v in late.items() if v < 0 and (k == "entry" or a.entry_price == b.entry_price)]
            if early:
                suspicious.append(f"trade of {utc_text(b.entry_time)}: the bot's {' and '.join(early)} came before the backtest's")
        elif b is not None:
            cut = anchor.end_ms - b.exit_time < MINUTE and not bot.flat
            row["what"] = "cut off by the end" if cut else "only the backtest"
            row["why"] = _missed(bot, candle_at(b.entry_time))
            told = _follows(row["why"], rows)
            row["why"] += told
            if not told and not cut:
                suspicious.append(f"trade of {utc_text(b.entry_time)}: only the backtest has it ({row['why']})")
        else:
            assert a is not None
            busy = next((t for t in bot.backtest if t.entry_time <= a.entry_time <= t.exit_time + 2 * MINUTE), None)
            row["what"] = "only the bot"
            row["why"] = f"the backtest's trade of {utc_text(busy.entry_time)} ends {utc_text(busy.exit_time)} ({busy.exit_reason})" if busy else ""
            if busy is None:
                row["why"] = "the backtest was flat"
                suspicious.append(f"trade of {utc_text(a.entry_time)}: only the bot has it, and the backtest was flat for two minutes")
        rows.append(row)
    return {
        "bot": bot.number,
        **{k: bot.record[k] for k in ("symbol", "strategy", "protection")},
        "trades": rows,
        "checks": _checks(bot, anchor),
        "fills_booked_after_wall_ms": spread([f["wall_ms"] - anchor.wall(f["time_ms"]) for f in bot.fills]),
        "suspicious": suspicious,
    }


def _dust(bot: Bot, a: Trade, b: Trade) -> bool:
    """Bought and sold alike, but for a step or two of dust that an earlier trade, which differed, left to this one."""
    alike = (a.entry_price, a.quantity, a.exit_price, a.exit_reason) == (b.entry_price, b.quantity, b.exit_price, b.exit_reason)
    return alike and abs(a.profit - b.profit) <= 2 * bot.config.symbol.rules.step * a.exit_price


def _follows(why: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Which lateness kept the bot from an entry; empty where none is known that could have."""
    if why == "no check saw this candle":
        return ": the check before it took until the next candle had closed"
    late = next((r["exit_known_after_wall_ms"] for r in reversed(rows) if r["bot"] and r["backtest"]), 0)
    if late > 0 and ("cooling down" in why or "already long" in why or "not known yet" in why):
        return f"; of the exit before, the bot knew {late} ms of the wall later than the backtest"
    return ""


def _plain(t: Trade | None) -> dict[str, Any] | None:
    return None if t is None else {k: plain(v) if isinstance(v, Decimal) else v for k, v in dataclasses.asdict(t).items()}


def _wrong_signals(bot: Bot) -> list[str]:
    """Checks that heard another word of a candle than the backtest's strategy says.

    A HOLD with an action or a reason of its own, and a stop or target, were decided without the strategy."""
    heard = [d for d in bot.decisions if d["signal"] != "HOLD" or (d["action"], d["why_not"]) == ("none", "")]
    asked = [d for d in heard if not str(d["action"]).endswith(("stop_loss", "take_profit"))]
    return [
        f"check of candle {utc_text(d['candle_ms'])}: the bot heard {d['signal']}, the backtest {bot.signals.get(d['candle_ms'])}"
        for d in asked
        if d["candle_ms"] is not None and d["signal"] != bot.signals.get(d["candle_ms"])
    ]


def _off_the_path(bot: Bot, tape: Tape) -> list[str]:
    """Fills at a price that the candles don't have at that moment."""
    found = []
    for f in bot.fills:
        i, last = tape.index(f["time_ms"]), tape.last(f["time_ms"])
        walk = sorted(int(p) for p in tape.price[max(i - 1, 0) : i + 1])
        reached = int(tape.at[i]) == f["time_ms"] and walk[0] <= f["price"].scaleb(8) <= walk[-1]
        if f["price"] != last and not (bot.record["protection"] == "exchange" and reached):
            found.append(f"fill of {utc_text(f['time_ms'])}: {f['side']} at {f['price']}, where the path prints {last}")
    return found


def _missed(bot: Bot, candle_ms: int) -> str:
    """What the bot did with the candle that the backtest entered on."""
    seen = [d for d in bot.decisions if d["candle_ms"] == candle_ms]
    if not seen:
        return "no check saw this candle"
    return "; ".join(f"{d['signal']} {d['action'] or ''} {d['why_not'] or ''}".strip() for d in seen)


def _checks(bot: Bot, anchor: Anchor) -> dict[str, Any]:
    assert bot.config.from_ms is not None
    seen = {d["candle_ms"] for d in bot.decisions}
    closed = range(candle_at(bot.config.from_ms), candle_at(anchor.end_ms - 2000) + 1, MINUTE)
    return {
        "candles": len(closed),
        "not_seen": sum(c not in seen for c in closed),
        "done_after_wall_ms": spread([(d["market_ms"] - d["slot_ms"]) / anchor.speed for d in bot.decisions if d.get("slot_ms") is not None]),
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median and worst, or nulls."""
    return {"median": round(statistics.median(values), 1), "worst": round(max(values), 1)} if values else {"median": None, "worst": None}


def summary(found: Sequence[Mapping[str, Any]], anchor: Anchor) -> dict[str, Any]:
    """Of all bots. `equal`: prices, quantity, reason, profit and fees to the last digit, whatever the time; `dust`: all of
    these but a step or two of dust from an earlier trade; `candles_not_seen`: closed before a check, and the next one, too."""
    rows = [r for f in found for r in f["trades"] if r["what"] != "cut off by the end"]
    both = [r for r in rows if r["bot"] and r["backtest"]]
    count = {what: sum(r["what"] == what for r in rows) for what in ("same", "dust", "differs", "only the bot", "only the backtest")}
    told = {"speed": anchor.speed, "market_minutes": round((anchor.end_ms - anchor.market_ms) / MINUTE, 1), "trades": len(rows), **count}
    told["equal_pct"] = round(count["same"] / len(rows) * 100, 1) if rows else None
    told["equal_but_for_dust_pct"] = round((count["same"] + count["dust"]) / len(rows) * 100, 1) if rows else None
    told["equal_to_the_ms"] = sum(r["what"] == "same" and not any(r["later_market_ms"].values()) for r in both)
    for k in ("entry", "exit"):
        told[f"{k}_later_wall_ms"] = spread([r["later_wall_ms"][k] for r in both])
    told["differing_fields"] = {n: c for n in LOOKED_AT if (c := sum(n in r["differs"] for r in both))}
    told["candles_not_seen"] = f"{sum(f['checks']['not_seen'] for f in found)} of {sum(f['checks']['candles'] for f in found)}"
    told["suspicious"] = sum(len(f["suspicious"]) for f in found)
    return told
