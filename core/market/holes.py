"""Stretches of a series, in open times: merging what touches, taking away what is there. Pure; owns no file.

A hole is a stretch of candles that the exchange was asked for and does not have. Months are
counted as months, everything else by its length.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from core.market import timeframes


class Hole(NamedTuple):
    """Open times (ms) of the first and the last candle that is not to be had, why, and when that was found out (market ms)."""

    first_ms: int
    last_ms: int
    reason: str
    asked_ms: int


class Missing(NamedTuple):
    """A stretch of missing candles: open times of its first and last one, how many, and what is known of why.

    `reason` is None where nobody has asked the exchange for it yet."""

    first_ms: int
    last_ms: int
    missing: int
    reason: str | None = None
    asked_ms: int | None = None


def count(first_ms: int, last_ms: int, timeframe: str) -> int:
    """How many candles open from `first_ms` to `last_ms`, both counted."""
    if timeframe != "1M":
        return (last_ms - first_ms) // timeframes.length_ms(timeframe) + 1
    found, at = 1, first_ms
    while at < last_ms:
        found, at = found + 1, timeframes.next_open(at, "1M")
    return found


def merged(holes: Iterable[Hole], timeframe: str) -> list[Hole]:
    """Ascending, without overlaps; what touches and has one reason is one. Where two overlap, the one asked later counts."""
    made: list[Hole] = []
    for hole in sorted(holes, key=lambda h: (h.first_ms, h.asked_ms)):
        if made and hole.first_ms <= made[-1].last_ms and hole.reason != made[-1].reason:
            older = made.pop()
            if older.asked_ms > hole.asked_ms:
                hole, older = older, hole
            made += _less(older, hole.first_ms, hole.last_ms, timeframe)
            made.append(hole)
            made.sort()
        elif made and hole.reason == made[-1].reason and hole.first_ms <= timeframes.next_open(made[-1].last_ms, timeframe):
            last = made.pop()
            made.append(Hole(last.first_ms, max(last.last_ms, hole.last_ms), last.reason, max(last.asked_ms, hole.asked_ms)))
        else:
            made.append(hole)
    return made


def without(holes: Iterable[Hole], opens: Sequence[int], timeframe: str) -> list[Hole]:
    """The holes less the candles that are there now; `opens` ascends."""
    made: list[Hole] = []
    for hole in holes:
        rest = [hole]
        for ms in opens[bisect_left(opens, hole.first_ms) : bisect_right(opens, hole.last_ms)]:
            rest += _less(rest.pop(), ms, ms, timeframe)
            if not rest or rest[-1].last_ms < ms:
                break
        made += rest
    return made


def split(first_ms: int, last_ms: int, holes: Iterable[Hole], timeframe: str) -> list[Missing]:
    """A stretch of missing candles, in parts: those that a hole explains, and those that nothing explains."""
    made: list[Missing] = []
    at = first_ms
    for hole in holes:
        if hole.last_ms < at or hole.first_ms > last_ms:
            continue
        if hole.first_ms > at:
            until = timeframes.back(hole.first_ms, timeframe, 1)
            made.append(Missing(at, until, count(at, until, timeframe)))
            at = hole.first_ms
        end = min(hole.last_ms, last_ms)
        made.append(Missing(at, end, count(at, end, timeframe), hole.reason, hole.asked_ms))
        at = timeframes.next_open(end, timeframe)
    if at <= last_ms:
        made.append(Missing(at, last_ms, count(at, last_ms, timeframe)))
    return made


def _less(hole: Hole, first_ms: int, last_ms: int, timeframe: str) -> list[Hole]:
    """What lies before and after `first_ms` to `last_ms` of a hole."""
    made = []
    if hole.first_ms < first_ms:
        made.append(hole._replace(last_ms=min(hole.last_ms, timeframes.back(first_ms, timeframe, 1))))
    if hole.last_ms > last_ms:
        made.append(hole._replace(first_ms=max(hole.first_ms, timeframes.next_open(last_ms, timeframe))))
    return made
