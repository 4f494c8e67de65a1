"""One strategy on several symbols: with one pot or one each, and what it comes to together. Pure; touches no file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal

import numpy as np

from core.backtest import engine
from core.backtest.engine import Part
from core.backtest.prepare import Prepared
from core.backtest.result import Equity, Result
from core.errors import InputError
from core.market.bars import Bars, floats

POTS = ("each", "one")


def run(prepared: Sequence[Prepared], pot: str, progress: Callable[[float], None] | None = None) -> list[Result]:
    """A result a symbol. `each`: an account each, with the cash that its settings say; `one`: one account with that cash once,
    of which every bot's pot is an equal part (where all are to spend all of it). InputError where they can't share it."""
    if pot not in POTS:
        raise InputError(f"pot: {pot!r} must be one of {', '.join(POTS)}")
    quotes = {p.config.symbol.quote for p in prepared}
    if len(quotes) > 1:
        raise InputError(f"the symbols are traded against {', '.join(sorted(quotes))}: amounts of different assets are never summed; test them apart")
    if pot == "each":
        found = []
        for i, p in enumerate(prepared):
            part = (lambda done, i=i: progress((i + done) / len(prepared))) if progress else None
            found.append(engine.run(p.config, p.bars, p.strategy, p.finer, progress=part))
        return found
    shares = [_share(p, len(prepared)) for p in prepared]
    together = engine.run_together([Part(p.config, p.bars, p.strategy, p.finer) for p in shares], shares[0].config.cash, progress=progress)
    played = {r.config.symbol.name: r for r in together}
    nothing = Equity(np.empty(0, np.int64), np.empty(0, np.float64))
    return [
        # The engine's curve is the account's; a symbol's own begins with its share.
        _own(played.get(p.config.symbol.name, Result(p.config, [], nothing)), p)
        for p in shares
    ]


def total(results: Sequence[Result], candles: Sequence[Bars], pot: Decimal | None = None) -> Result:
    """All of them as one account: trades by exit time, cash the sum of theirs (or the one `pot` that they share, whatever
    part of it each was to spend), equity from trades and closes (`curve`).

    Its settings are those of the first: what differs (the symbol) means nothing in it."""
    cash = sum((r.config.cash for r in results), Decimal(0)) if pot is None else pot
    trades = sorted((t for r in results for t in r.trades), key=lambda t: (t.exit_time, t.symbol))
    warnings = tuple(dict.fromkeys(w for r in results for w in r.warnings))
    refused: dict[str, int] = {}
    for r in results:
        for why, count in r.refused.items():
            refused[why] = refused.get(why, 0) + count
    return Result(replace(results[0].config, cash=cash), trades, curve(results, candles, cash), warnings, refused)


def curve(results: Sequence[Result], candles: Sequence[Bars], cash: Decimal) -> Equity:
    """What `cash` became, at every candle's close of any of the symbols: profits of closed trades, and what open ones would bring.

    Where a symbol has no candle its last close stands. What is left of a sale as dust is not counted."""
    spans = [r.equity.open_ms for r in results if len(r.equity.open_ms)]
    times = np.unique(np.concatenate(spans)) if spans else np.empty(0, np.int64)
    value = np.full(len(times), float(cash))
    for result, bars in zip(results, candles, strict=True):
        if not len(bars) or not len(times):
            continue
        ends = times + bars.length_ms
        closes = floats(bars.close)[np.maximum(bars.open_ms.searchsorted(times, "right") - 1, 0)]
        received = 1 - float(result.config.fee_pct) / 100 if result.config.fee_mode == "received" else 1.0
        for t in result.trades:
            into, out = ends.searchsorted((t.entry_time, t.exit_time), "right")
            paid, held = float(t.entry_price * t.quantity), float(t.quantity)
            worth = held * received * closes[into:out] - paid
            value[into:out] += worth if t.side == "BUY" else paid - held * closes[into:out]
            value[out:] += float(t.profit)
    return Equity(times, value)


def _share(p: Prepared, parts: int) -> Prepared:
    plan = p.config.plan
    if plan.trade_amount < p.config.cash:
        return p  # its pot was said
    amount = (p.config.cash / parts).quantize(Decimal("1e-8"), "ROUND_DOWN")
    return replace(p, config=replace(p.config, plan=replace(plan, trade_amount=amount)))


def _own(result: Result, p: Prepared) -> Result:
    plan = p.config.plan
    config = replace(result.config, cash=p.config.cash if plan.sizing == "all_available" else plan.trade_amount)
    return replace(result, config=config, equity=curve([result], [p.bars], config.cash))
