"""Bots on the paper exchange replaying real candles, through real outages, in stepped time."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path

import pytest

from core.account import ledger
from core.config import market_time
from market_data import shared
from stepped import World, run_until

D = Decimal
DAY = 86_400_000


def candles_of(name: str) -> dict[int, tuple[Decimal, Decimal]]:
    """Open time → (low, high) of a real file."""
    rows = json.loads(gzip.decompress(shared(name).read_bytes()), parse_float=Decimal)
    return {int(r[0]): (Decimal(r[3]), Decimal(r[2])) for r in rows}


@pytest.mark.parametrize(
    ("folder", "start", "length", "outage"),
    [
        ("spot-5m", "2021-02-10", 300_000, ("2021-02-11T03:45", "2021-02-11T05:00")),
        ("spot-1m", "2023-03-23", 60_000, ("2023-03-24T12:40", "2023-03-24T14:00")),
    ],
)
def test_five_days_of_real_candles_end_with_books_equal_to_the_wallet(tmp_path: Path, folder: str, start: str, length: int, outage: tuple[str, str]) -> None:
    source = shared(folder)
    world = World(tmp_path, PAPER_MARKET="replay", PAPER_DATA=str(source), PAPER_START=start, RISK_INTERVAL="300")
    try:
        bots = [
            world.bot(1, "BTCUSDT", "volatile", "3000"),
            world.bot(2, "ETHUSDT", "volatile", "3000"),
            world.bot(3, "BTCUSDT", "simple_profitable", "2000"),
            world.bot(4, "ETHUSDT", "simple_profitable", "2000"),
        ]
        for bot in bots:
            assert bot.start()
        run_until(world, bots, market_time(start) + 5 * DAY)
        assert ledger.compare(world.files, world.client()) == []
        fills = [row for n in (1, 2, 3, 4) for row in world.files.read_lines(f"bot_{n}_fills.jsonl")]
        assert len(fills) >= 8
        assert {row["strategy"]["key"] for row in fills} == {"volatile", "simple_profitable"}
        closed, opened = market_time(outage[0]), market_time(outage[1])
        ranges = {s: candles_of(f"{folder}/{s[:3]}_USDT-{folder[-2:]}.json.gz") for s in ("BTCUSDT", "ETHUSDT")}
        for row in fills:
            low, high = ranges[row["symbol"]][row["time_ms"] // length * length]
            assert low <= row["price"] <= high
            assert not closed <= row["time_ms"] < opened, "nothing trades while the market is closed"
        for bot in bots:
            p = bot.position
            assert p.direction is not None or p.quantity == 0
            total = sum(
                (
                    D(r["quantity"]) * (1 if r["side"] == "BUY" else -1) - (D(r["fee"]) if r["fee_asset"] == p.base else 0)
                    for r in world.files.read_lines(f"bot_{p.bot_id}_fills.jsonl")
                ),
                D(0),
            )
            assert p.quantity + p.dust == total, "what the bot owns is what its journal says"
    finally:
        world.close()
