"""The market's regime on a bot's candles, told in its status for the page. Owns no file.

The page must not load numpy, a bot's strategy has it loaded: a few milliseconds a closed candle.
A bot whose strategy uses no indicators tells nothing, rather than load them in the middle of its
run, and so does one in stepped time. What it tells decides nothing.
"""

from __future__ import annotations

import sqlite3
import sys
from typing import Any

from core.market import timeframes
from core.market.history import CandleStore
from core.model import KlineRow, Venue

ROWS = 600  # candles looked at: beyond the regime's warm-up, so that "since" reaches back some way
LEAST = 200  # with fewer it would tell more of where the candles begin than of the market


def told(store: CandleStore | None, venue: Venue, symbol: str, timeframe: str, candle_ms: int) -> dict[str, Any] | None:
    """`{"word", "since_ms", "earlier", "candle_ms"}` from what is stored up to a candle, None where it can't be told cheaply.

    `since_ms`: open time of the first candle of this regime; `earlier`: it may have begun earlier, no older candle is known."""
    if store is None or "core.market.indicators" not in sys.modules:
        return None
    try:
        rows = _unbroken(store.read(venue, symbol, timeframe, ROWS, candle_ms), timeframe)
    except sqlite3.Error:  # busy: the next candle tells
        return None
    if len(rows) < LEAST or int(rows[-1][0]) != candle_ms:
        return None
    from core.market.regime import Regime, regime
    from strategies.tables import frame

    kinds = regime(frame(rows)).tolist()
    now, n = kinds[-1], 1
    if now == Regime.UNKNOWN:
        return None
    while n < len(kinds) and kinds[-n - 1] == now:
        n += 1
    return {"word": Regime(now).word, "since_ms": int(rows[-n][0]), "earlier": n == len(kinds) or kinds[-n - 1] == Regime.UNKNOWN, "candle_ms": candle_ms}


def _unbroken(rows: list[KlineRow], timeframe: str) -> list[KlineRow]:
    """The last stretch without a missing candle."""
    at = len(rows) - 1
    while at > 0 and timeframes.next_open(int(rows[at - 1][0]), timeframe) == int(rows[at][0]):
        at -= 1
    return rows[at:] if at >= 0 else rows
