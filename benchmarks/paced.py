"""How far bots that run by the wall depart from the backtest of the same span, trade by trade.

    python3 benchmarks/paced.py --data FOLDER --speed 60 --seconds 180

Starts a real paper exchange that replays the 1m candles of FOLDER (`BTC_USDT-1m.json.gz`,
`ETH_USDT-1m.json.gz`) in a temporary home on a free port, lets real bot processes trade on it,
stops the market's clock, ends the bots, and backtests each of them over exactly that span.
Stepped time promises equality (tests/test_same_trades.py); here the wall makes orders late, so
each trade that differs is listed with its lateness. A difference that lateness can't explain is
listed as suspicious, and the exit code is 1. Of a suspicious run --keep leaves the home behind.

In market time a millisecond of the wall is `speed` milliseconds: look at the wall columns to
compare speeds. Bots see each other's prices (shared, up to 1 s old) at speed 1 only.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from core.backtest.engine import run, trades
from core.backtest.result import END, Config, Trade
from core.backtest.tape import Tape
from core.binance_client import BinanceClient
from core.bot import setup
from core.clock import utc_text
from core.config import load, market_time
from core.market.bars import Bars, read_file
from core.model import Fill, plain
from core.storage import Files
from processes import Home, until
from strategies import registry
from strategies.base import SIGNAL_NAMES, Strategy

MINUTE, DAY = 60_000, 86_400_000
LOOKED_AT = ("entry_price", "quantity", "exit_price", "exit_reason", "profit", "fees")
SETTLE_MS = 3_000  # of the wall, after the market stood still: what rests at the exchange is asked for every two seconds
FIELDS = set(Fill.__dataclass_fields__)

EVERY_OTHER = '''
from strategies.base import Strategy

class EveryOther(Strategy):
    """Buys on candles with an even number, sells on the others: as many trades as a bot can make."""
    key = "every_other"
    warmup = 2

    def signals(self, candles):
        return (1 - 2 * (candles["open_time"] // 60000 % 2)).to_numpy("int8")
'''

QUICK = {"stop_loss_pct": 0.3, "take_profit_pct": 0.4}
TIGHT = {"stop_loss_pct": 0.1, "take_profit_pct": 0.15}
BOTS: tuple[dict[str, Any], ...] = (
    {"symbol": "BTCUSDT", "strategy": "scalping", "params": {"fast": 1, "slow": 2}, "protection": "exchange", **QUICK},
    {"symbol": "ETHUSDT", "strategy": "every_other", "protection": "bot", **TIGHT},
    {"symbol": "ETHUSDT", "strategy": "scalping", "params": {"fast": 1, "slow": 2}, "protection": "bot", **QUICK},
    {"symbol": "BTCUSDT", "strategy": "every_other", "protection": "exchange", **TIGHT},
)


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


def bars_of(data: Path, symbol: str) -> Bars:
    return read_file(data / f"{symbol.removesuffix('USDT')}_USDT-1m.json.gz", symbol, "1m")


def record_of(number: int, sizing: str) -> dict[str, Any]:
    at = BOTS[number - 1]
    return {
        "id": number,
        "name": f"Bot {number}",
        "trade_amount": 1000,
        "status": "running",
        "mode": "paper",
        "timeframe": "1m",
        "check_interval": 60,
        "offset": 0,
        "sizing": sizing,
        **at,
    }


def paced(folder: Path, data: Path, speed: str, seconds: float, bots: int, start: str, sizing: str, risk_s: int) -> tuple[list[Bot], Anchor]:
    """Let the bots trade for `seconds` of the wall at `speed`. `start`: a market time that is a slot of their checks (2 s past a minute).

    The market stands still until every bot has made its first check there, so that all begin where the backtest does."""
    home = Home(
        folder,
        PAPER_MARKET="replay",
        PAPER_DATA=str(data),
        PAPER_START=start,
        PAPER_SPEED="0",
        PAPER_BALANCE_USDT="10000",
        CHECK_INTERVAL="60",
        RISK_INTERVAL=str(risk_s),
        KLINE_INTERVAL="1m",
    )
    records = [record_of(n, sizing) for n in range(1, bots + 1)]
    (folder / "active_bots.json").write_text(json.dumps(records))
    home.strategy("every_other", EVERY_OTHER)
    try:
        home.paper()
        for r in records:
            home.bot(r["id"], r["name"], r["symbol"], r["strategy"], str(r["trade_amount"]))
        made = [_prepared(home, data, r) for r in records]
        for r in records:
            home.checked(r["id"], seconds=60)
        going = home.post("/paper/clock", {"speed": float(speed)})
        time.sleep(seconds)
        end = int(home.post("/paper/clock", {"speed": 0})["market_ms"])
        stopped = time.time() * 1000
        for b in made:
            until(lambda n=b.number: _settled(home.status(n), end, stopped), f"bot {b.number} to settle after the market stood still", 60)  # type: ignore[misc]
    finally:
        home.end()
    files = Files(folder)
    for b in made:
        b.fills, b.decisions = (list(files.read_lines(f"bot_{b.number}_{what}.jsonl")) for what in ("fills", "decisions"))
        b.flat = home.position(b.number)["position"] is None
    return made, Anchor(int(going["market_ms"]), int(going["wall_ms"]), float(speed), end)


def _settled(status: Mapping[str, Any], end_ms: int, stopped_ms: float) -> bool:
    if status["state"] != "running":
        raise AssertionError(f"bot {status['bot_id']} ended by itself: {status['exit']}")
    next_check = status["next_check_ms"]
    late = status["heartbeat_wall_ms"] - stopped_ms
    return not status["unresolved"] and late > SETTLE_MS and next_check is not None and next_check > end_ms


def _prepared(home: Home, data: Path, record: Mapping[str, Any]) -> Bot:
    """The backtest's settings, taken from where the bot takes its own."""
    settings = load(home.env)
    strategy = registry.load(home.path / "strategies").build(record["strategy"], record.get("params") or {})
    told = {**record, "trade_amount": Decimal(record["trade_amount"])}
    own = setup.build(settings, record["id"], record["name"], record["symbol"], record["strategy"], told["trade_amount"], told, strategy)
    config = Config(
        symbol=BinanceClient(settings, "paper").symbol(record["symbol"]),
        timeframe=own.timeframe,
        plan=own.plan,
        strategy=strategy.ref(),
        cash=settings.paper_balance_usdt,
        slippage_pct=settings.paper_slippage_pct,
        check_interval_s=own.check_interval_s,
        offset_ms=own.offset_ms,
        risk_interval_s=own.risk_interval_s,
        kline_limit=own.kline_limit,
        from_ms=market_time(settings.paper_start) if isinstance(settings.paper_start, str) else settings.paper_start,
    )
    return Bot(record["id"], record, config, strategy, bars_of(data, record["symbol"]))


def replay(bot: Bot, anchor: Anchor) -> None:
    """Fill in both lists of trades, and what the strategy says of each candle."""
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
    told["equal_to_the_ms"] = sum(r["what"] == "same" and not any(r["later_market_ms"].values()) for r in both)
    for k in ("entry", "exit"):
        told[f"{k}_later_wall_ms"] = spread([r["later_wall_ms"][k] for r in both])
    told["differing_fields"] = {n: c for n in LOOKED_AT if (c := sum(n in r["differs"] for r in both))}
    told["candles_not_seen"] = f"{sum(f['checks']['not_seen'] for f in found)} of {sum(f['checks']['candles'] for f in found)}"
    told["suspicious"] = sum(len(f["suspicious"]) for f in found)
    return told


# --- for people -----------------------------------------------------------------------------


def show(found: Mapping[str, Any], every: bool) -> None:
    print(f"Bot {found['bot']}: {found['strategy']} on {found['symbol']}, stop and target with the {found['protection']}")
    for r in found["trades"]:
        if r["what"] == "same" and not every:
            continue
        a, b = r["bot"], r["backtest"]
        print(f"  {utc_text((b or a)['entry_time'])}  {r['what']}" + (f": {r['why']}" if r.get("why") else ""))
        if "later_market_ms" in r:
            m, w = r["later_market_ms"], r["later_wall_ms"]
            print(f"      entry {m['entry']} ms of the market later ({w['entry']} of the wall), exit {m['exit']} ({w['exit']})")
        for name in r.get("differs", ()):
            print(f"      {name}: the bot {a[name]}, the backtest {b[name]}")
    same = sum(r["what"] == "same" for r in found["trades"])
    print(f"  {same} of {len(found['trades'])} trades are the same; checks {found['checks']}; booked after {found['fills_booked_after_wall_ms']}")
    for text in found["suspicious"]:
        print(f"  SUSPICIOUS {text}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="folder of 1m candle files, replayed where they lie")
    parser.add_argument("--speed", default="60", help="market seconds per second, such as 1, 60 or 300")
    parser.add_argument("--seconds", type=float, default=180, help="of the wall, that the bots trade (10 to 3600)")
    parser.add_argument("--bots", type=int, default=2, choices=range(1, len(BOTS) + 1))
    parser.add_argument("--start", default="2023-03-20T12:00:02", help="market time to begin at, 2 s past a minute")
    parser.add_argument("--sizing", default="fixed", choices=("fixed", "compound"), help="fixed: an early difference doesn't change later quantities")
    parser.add_argument("--risk-interval", type=int, default=5, help="market seconds between two looks at the stop")
    parser.add_argument("--all", action="store_true", help="list equal trades, too")
    parser.add_argument("--keep", action="store_true", help="keep the temporary home")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not 10 <= arguments.seconds <= 3600 or not 0 < float(arguments.speed) <= 1000:
        parser.error("--seconds must lie between 10 and 3600, --speed above 0 and at most 1000")
    if market_time(arguments.start) % MINUTE != 2000:
        parser.error(f"--start: {arguments.start} must lie 2 s past a minute, where checks fall, such as 2023-03-20T12:00:02")
    folder = Path(tempfile.mkdtemp(prefix="paced-"))
    try:
        home = folder / "home"
        home.mkdir()
        bots, anchor = paced(
            home, arguments.data, arguments.speed, arguments.seconds, arguments.bots, arguments.start, arguments.sizing, arguments.risk_interval
        )
        for bot in bots:
            replay(bot, anchor)
        found = [compare(bot, anchor) for bot in bots]
    finally:
        if arguments.keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)
    told = summary(found, anchor)
    if arguments.json:
        print(json.dumps({"summary": told, "bots": found}, indent=1, default=float))
    else:
        for f in found:
            show(f, arguments.all)
        print("\n".join(f"{k}: {v}" for k, v in told.items()))
    return 1 if told["suspicious"] else 0


if __name__ == "__main__":
    sys.exit(main())
