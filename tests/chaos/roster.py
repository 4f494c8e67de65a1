"""The bots of a chaos run and their strategies: seven on one coin, the others spread; each protection and sizing."""

from __future__ import annotations

from decimal import Decimal as D
from typing import Any

ON_ONE_COIN = 7
CROWDED = "BTCUSDT"
OTHERS = ("ETHUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT", "DOGEUSDT", "LINKUSDT", "BNBUSDT")
ALONE = "LTCUSDT"  # the coin of the bot that buys with all that is free
BASES = {s: s.removesuffix("USDT") for s in (CROWDED, *OTHERS, ALONE)}
MANAGED = "chaos_grid"  # the one strategy that adds to its position

STRATEGIES = {
    "chaos_flip": '''
class Flip:
    """Buys on some candles and sells on others, by the clock."""
    key = "chaos_flip"
    warmup = 2
    def analyze(self, data):
        turn = int(data[-1][0]) // 60000 % 2
        return {"signal": ("BUY", "SELL")[turn], "reasoning": "by the clock"}
''',
    "chaos_keen": '''
class Keen:
    """Buys whenever it may: stop, target and time end its trades."""
    key = "chaos_keen"
    warmup = 2
    def analyze(self, data):
        return {"signal": "BUY", "reasoning": "always"}
''',
    "chaos_rare": '''
class Rare:
    """Buys on one candle of sixteen and sells on the next."""
    key = "chaos_rare"
    warmup = 2
    def analyze(self, data):
        turn = int(data[-1][0]) // 60000 % 16
        return {"signal": "BUY" if turn == 0 else "SELL", "reasoning": "by the clock"}
''',
    MANAGED: '''
from decimal import Decimal
from core.model import Decision, Intent
from strategies.base import Strategy

class Grid(Strategy):
    """Three bids under the price, one offer above the cost; everything is taken back after some candles."""
    key = "chaos_grid"
    warmup = 2
    def decide(self, market, position):
        candle = int(market.candles.rows[-1][0])
        memo = dict(position.memo)
        tags = {o.tag for o in position.orders}
        out = []
        if candle - int(memo.get("since", 0)) >= 180000:
            out = [Intent("cancel", tag=o.client_id, reason="too old") for o in position.orders]
            if position.direction is not None:
                out.append(Intent("close", side="SELL", size_all=True, role="exit", tag="signal", reason="too old"))
            return Decision(tuple(out), signal="SELL", reasoning="begin anew", memo={"since": candle})
        if position.quantity > 0 and "ask" not in tags:
            price = position.entry_price * Decimal("1.0006")
            out.append(Intent("place", "SELL", size_base=position.quantity, kind="limit", price=price, role="target", tag="ask", reason="offer"))
        room = market.room or Decimal(0)
        for tag, part in (("near", "0.9997"), ("far", "0.9993"), ("last", "0.9988")):
            if tag not in tags and position.quantity == 0 and room > 90:
                out.append(Intent("place", "BUY", size_quote=room / 4, kind="limit", price=market.price * Decimal(part), role="entry", tag=tag, reason="bid"))
        return Decision(tuple(out), reasoning=f"{len(tags)} orders open", memo=memo)
''',
}

# strategy, protection, sizing, and what else the record says; the first seven share a coin.
_KINDS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("chaos_flip", "exchange", "compound", {}),
    ("chaos_flip", "bot", "fixed", {}),
    ("chaos_keen", "exchange", "compound", {"trailing_stop_pct": D("0.1")}),
    (MANAGED, "bot", "fixed", {}),
    ("chaos_keen", "exchange", "fixed", {"time_stop_candles": 3}),
    ("chaos_flip", "exchange", "compound", {"trailing_stop_pct": D("0.08"), "break_even_pct": D("0.05")}),
    ("chaos_keen", "bot", "compound", {"time_stop_candles": 2}),
    ("chaos_keen", "exchange", "compound", {"time_stop_candles": 2}),
    ("chaos_flip", "exchange", "fixed", {}),
    (MANAGED, "bot", "compound", {}),
    ("chaos_keen", "bot", "fixed", {"trailing_stop_pct": D("0.1"), "time_stop_candles": 4}),
    ("chaos_flip", "bot", "compound", {}),
    ("volatile", "exchange", "compound", {}),
    ("simple_profitable", "exchange", "compound", {}),
    ("chaos_keen", "exchange", "fixed", {"trailing_stop_pct": D("0.12"), "trailing_activation_pct": D("0.05")}),
)
_RARE: tuple[str, str, str, dict[str, Any]] = ("chaos_rare", "exchange", "all_available", {})


def records(bots: int) -> list[dict[str, Any]]:
    """The records of `bots` bots, ids from 1, all wanted running."""
    found = []
    crowded = min(ON_ONE_COIN, bots - 1) if bots < 20 else ON_ONE_COIN
    for n in range(1, bots + 1):
        strategy, protection, sizing, more = _RARE if n == bots and bots > 4 else _KINDS[(n - 1) % len(_KINDS)]
        symbol = ALONE if sizing == "all_available" else CROWDED if n <= crowded else OTHERS[(n - crowded - 1) % len(OTHERS)]
        found.append(
            {
                "id": n,
                "name": f"Chaos {n}",
                "symbol": symbol,
                "strategy": strategy,
                "trade_amount": 200 + 35 * n,
                "status": "running",
                "protection": protection,
                "sizing": sizing,
                "cooldown_checks": n % 2,
                **more,
            }
        )
    return found
