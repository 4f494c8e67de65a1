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
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from paced_trades import MINUTE, Anchor, Bot, compare, replay, summary

from core.backtest.result import Config
from core.binance_client import BinanceClient
from core.bot import setup
from core.clock import utc_text
from core.config import load, market_time
from core.market.bars import Bars, read_file
from core.storage import Files
from processes import Home, until
from strategies import registry

SETTLE_MS = 3_000  # of the wall, after the market stood still: what rests at the exchange is asked for every two seconds

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
