"""Timeframes as Binance counts them: lengths, open times, and making long candles of short ones.

Pure; times are ms since the epoch, UTC. Fixed timeframes count from the epoch (`3d` too),
`1w` opens on Monday, `1M` on the 1st. Owns no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

SECOND, MINUTE, HOUR, DAY, WEEK = 1_000, 60_000, 3_600_000, 86_400_000, 604_800_000
MS: dict[str, int] = {
    "1s": SECOND,
    **{f"{n}m": n * MINUTE for n in (1, 3, 5, 15, 30)},
    **{f"{n}h": n * HOUR for n in (1, 2, 4, 6, 8, 12)},
    "1d": DAY,
    "3d": 3 * DAY,
    "1w": WEEK,
}
"""Length of every timeframe that has one; months differ in theirs."""
ALL = (*MS, "1M")
_MONDAY = 4 * DAY  # 1970-01-05, the first Monday after the epoch
_PLAIN_FIELDS = 6


def known(timeframe: str) -> str:
    """The timeframe itself, or ValueError. Case counts: `1m` is a minute, `1M` a month."""
    if timeframe not in ALL:
        raise ValueError(f"{timeframe!r} is not a timeframe; it must be one of {', '.join(ALL)}")
    return timeframe


def length_ms(timeframe: str) -> int:
    """Length in ms; ValueError for `1M`, whose candles differ in length, and for what is no timeframe."""
    if known(timeframe) == "1M":
        raise ValueError("1M has no fixed length; use floor() and next_open()")
    return MS[timeframe]


def floor(ms: int, timeframe: str) -> int:
    """Open time of the candle that holds `ms`."""
    if timeframe == "1M":
        moment = datetime.fromtimestamp(ms // 1000, UTC)
        return _month(moment.year, moment.month)
    offset = _MONDAY if timeframe == "1w" else 0
    length = length_ms(timeframe)
    return (ms - offset) // length * length + offset


def next_open(ms: int, timeframe: str) -> int:
    """Open time of the first candle that opens after `ms`."""
    if timeframe == "1M":
        moment = datetime.fromtimestamp(ms // 1000, UTC)
        return _month(moment.year + moment.month // 12, moment.month % 12 + 1)
    return floor(ms, timeframe) + length_ms(timeframe)


def ceil(ms: int, timeframe: str) -> int:
    """Open time of the first candle that opens at `ms` or after."""
    return next_open(ms - 1, timeframe)


def back(open_ms: int, timeframe: str, n: int) -> int:
    """Open time of the candle `n` before the one that opens at `open_ms`."""
    if timeframe == "1M":
        moment = datetime.fromtimestamp(open_ms // 1000, UTC)
        months = max(moment.year * 12 + moment.month - 1 - n, 12)
        return _month(months // 12, months % 12 + 1)
    return open_ms - n * length_ms(timeframe)


def close_ms(open_ms: int, timeframe: str) -> int:
    """Close time of the candle that opens at `open_ms`: one ms before the next one's open."""
    return next_open(open_ms, timeframe) - 1


def nests(fine: str, coarse: str) -> bool:
    """Whether every `coarse` candle consists of whole `fine` ones."""
    if fine == coarse:
        return True
    if known(fine) == "1M":
        return False
    if known(coarse) in ("1w", "1M"):
        return DAY % MS[fine] == 0
    return MS[fine] < MS[coarse] and MS[coarse] % MS[fine] == 0


def resample(rows: Sequence[Sequence[Any]], from_tf: str, to_tf: str) -> list[list[Any]]:
    """Rows of `from_tf`, oldest first, as rows of `to_tf`: six fields for six, Binance's twelve for twelve.

    Fields are `[open_ms, open, high, low, close, volume, ...]`; prices keep the objects
    they came as, sums are exact and come back as strings where they came as strings.
    Binance ignores rows without volume for open, high and low unless there are no others
    (measured: 235,205 candles made from 1m without a mismatch). A missing row leaves the
    long candle with what there is. ValueError when the timeframes don't nest or rows don't ascend.
    """
    if not nests(from_tf, to_tf):
        raise ValueError(f"{to_tf} candles can't be made of {from_tf} ones; {from_tf} must fit into {to_tf} a whole number of times")
    made: list[list[Any]] = []
    group: list[Sequence[Any]] = []
    opened = until = last = 0
    for row in rows:
        ms = int(row[0])
        if group and ms <= last:
            raise ValueError(f"rows must ascend by open time; {ms} follows {last}")
        if group and ms >= until:
            made.append(_joined(opened, until, group))
            group = []
        if not group:
            opened, until = floor(ms, to_tf), next_open(ms, to_tf)
        group.append(row)
        last = ms
    if group:
        made.append(_joined(opened, until, group))
    return made


def _joined(opened: int, until: int, group: list[Sequence[Any]]) -> list[Any]:
    traded = [row for row in group if _number(row[5])] or group
    row = [
        opened,
        traded[0][1],
        max((r[2] for r in traded), key=_number),
        min((r[3] for r in traded), key=_number),
        group[-1][4],
        _total(group, 5),
    ]
    if len(group[0]) > _PLAIN_FIELDS:
        row += [until - 1, _total(group, 7), sum(int(r[8]) for r in group), _total(group, 9), _total(group, 10), "0"]
    return row


def _number(value: Any) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(str(value))


def _total(group: list[Sequence[Any]], at: int) -> Any:
    total = sum((_number(r[at]) for r in group), Decimal(0))
    first = group[0][at]
    if isinstance(first, str):
        return format(total, "f")
    return total if isinstance(first, Decimal) else type(first)(total)


def _month(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * 1000
