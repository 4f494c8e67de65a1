"""The regime of a bot's candles, told by the bot: what it rests on, and when it says nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import core.market.indicators  # noqa: F401 - a strategy has loaded it, where the regime is told
from core.bot import climate
from core.market.history import CandleStore
from core.model import Venue

VENUE = Venue(source="synthetic:1")
STEP, FIRST = 300_000, 1_700_000_100_000 // 300_000 * 300_000


def rows(closes: list[float], first: int = FIRST) -> list[list[object]]:
    made = []
    for i, c in enumerate(closes):
        o = closes[i - 1] if i else c
        ms = first + i * STEP
        made.append([ms, f"{o:.4f}", f"{max(o, c) + 0.05:.4f}", f"{min(o, c) - 0.05:.4f}", f"{c:.4f}", "1", ms + STEP - 1, "0", 0, "0", "0", "0"])
    return made


@pytest.fixture
def store(tmp_path: Path) -> CandleStore:
    return CandleStore(tmp_path / "history.db")


def save(store: CandleStore, found: list[list[object]]) -> int:
    store.save(VENUE, "BTCUSDT", "5m", found, 2**60)  # type: ignore[arg-type]
    return int(found[-1][0])  # type: ignore[call-overload]


def test_it_says_which_way_the_market_goes_and_since_when(store: CandleStore) -> None:
    draw = random.Random(3)
    flat = [100 + draw.gauss(0, 0.3) for _ in range(300)]
    rising = [100 + 0.4 * i for i in range(1, 101)]
    last = save(store, rows(flat + rising))
    told = climate.told(store, VENUE, "BTCUSDT", "5m", last)
    assert told is not None and told["word"] == "trend_up" and told["candle_ms"] == last
    assert not told["earlier"] and FIRST + 295 * STEP < told["since_ms"] < FIRST + 330 * STEP
    before = climate.told(store, VENUE, "BTCUSDT", "5m", FIRST + 290 * STEP)
    assert before is not None and (before["word"], before["earlier"]) == ("range", True)


def test_it_says_nothing_where_candles_are_few_or_broken_off(store: CandleStore) -> None:
    assert climate.told(None, VENUE, "BTCUSDT", "5m", FIRST) is None
    few = [100 + 0.4 * i for i in range(climate.LEAST - 1)]
    last = save(store, rows(few))
    assert climate.told(store, VENUE, "BTCUSDT", "5m", last) is None
    assert climate.told(store, VENUE, "BTCUSDT", "5m", last + STEP) is None
    again = save(store, rows([100 + 0.4 * i for i in range(150)], last + 5 * STEP))
    assert climate.told(store, VENUE, "BTCUSDT", "5m", again) is None  # 349 candles with a hole in them


def test_a_bot_without_indicators_does_not_load_them_for_it(store: CandleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    last = save(store, rows([100 + 0.4 * i for i in range(300)]))
    assert climate.told(store, VENUE, "BTCUSDT", "5m", last) is not None
    monkeypatch.delitem(climate.sys.modules, "core.market.indicators")
    assert climate.told(store, VENUE, "BTCUSDT", "5m", last) is None
