"""When a bot checks and looks: pure functions of market time.

Checks fall at k·interval + 2 s + offset from the epoch, looks at k·RISK_INTERVAL. All ms.
"""

from __future__ import annotations

from core.market import timeframes

AFTER_CLOSE_MS = 2000  # the exchange needs a moment to close a candle


def default_offset_s(bot_id: int, timeframe: str) -> int:
    """Seconds by which this bot's checks are shifted, so that not all ask at once.

    2 s + offset stays under a quarter of the candle, so that its order fills at the open."""
    room = max_offset_s(timeframe)
    return (bot_id * 7) % (room + 1) if room > 0 else 0


def max_offset_s(timeframe: str) -> int:
    """The largest whole offset whose check still lies in the first quarter of the candle."""
    length = timeframes.MS.get(timeframe, timeframes.MS["1d"])
    return max(0, (length // 4 - AFTER_CLOSE_MS - 1) // 1000)


def slot_before(now_ms: int, interval_ms: int, offset_ms: int) -> int:
    """The last slot at or before now."""
    first = AFTER_CLOSE_MS + offset_ms
    return (now_ms - first) // interval_ms * interval_ms + first


def slot_after(now_ms: int, interval_ms: int, offset_ms: int) -> int:
    """The first slot after now."""
    return slot_before(now_ms, interval_ms, offset_ms) + interval_ms


def look_after(now_ms: int, risk_interval_ms: int) -> int:
    """The first look after now."""
    return (now_ms // risk_interval_ms + 1) * risk_interval_ms
