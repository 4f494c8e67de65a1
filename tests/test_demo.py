"""What a newcomer sees: the bots as shipped, on the market that .env.example describes."""

from __future__ import annotations

from pathlib import Path

from dotenv import dotenv_values

from core.account import ledger
from core.storage import loads
from processes import ROOT
from stepped import World, run_until


def test_every_bot_as_shipped_trades_within_its_first_six_checks(tmp_path: Path) -> None:
    example = {k: v for k, v in dotenv_values(ROOT / ".env.example").items() if k.startswith("PAPER_") and v and k != "PAPER_SPEED"}
    world = World(tmp_path, RISK_INTERVAL="60", **example)
    try:
        records = loads((ROOT / "active_bots.json").read_text())
        assert len(records) == 3
        assert len({r["symbol"] for r in records}) == 3
        assert {r["status"] for r in records} == {"running"}
        bots = [world.bot(r["id"], r["symbol"], r["strategy"], str(r["trade_amount"])) for r in records]
        world.step_to(world.market_ms() + 8 * 60_000)  # eight seconds of wall time until the bots are up
        for bot in bots:
            assert bot.start()
        end = world.market_ms() + 5 * 900_000
        run_until(world, bots, end)
        for bot in bots:
            assert bot.status.fields["checks_completed"] <= 6
            assert bot.position.has_traded, f"bot {bot.config.bot_id} has not traded"
        assert ledger.compare(world.files, world.client()) == []
    finally:
        world.close()
