"""What a bot runs with: its record over what its strategy declares over the settings.

Fields that the record leaves null are looked up here, at each start, and again at each
check for those that may change while it runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from core.account.limits import Limits, of_record
from core.bot import schedule
from core.bot.decisions import ENTRY_COST_PCT, NO_STOP, PROTECTIONS, SIZINGS, Plan
from core.config import TIMEFRAMES, Settings
from core.errors import InputError, SettingsError, StrategyError
from core.exchange import live_problem, venue_problems
from core.model import MODES, Mode
from strategies.base import Strategy


@dataclass(frozen=True, slots=True)
class Setup:
    """All that a bot must know of itself. Seconds and counts as the names say."""

    bot_id: int
    name: str
    symbol: str
    strategy: str
    mode: Mode
    account: str
    params: Mapping[str, Any]
    plan: Plan
    timeframe: str
    kline_limit: int
    check_interval_s: int
    offset_ms: int
    risk_interval_s: int
    limits: Limits = dataclasses.field(default_factory=dict)  # this bot's own guards (core/account/limits.py)

    # Only these count from the next check; the others need a restart.
    LIVE = ("name", "plan", "check_interval_s", "offset_ms", "limits")


def reread(settings: Settings, now: Setup, record: Mapping[str, Any], strategy: Strategy | None) -> Setup:
    """What a running bot goes on with: `now`, with what its record says of the fields that count from the next check.

    SettingsError where the record can't be used, whatever is wrong with it."""
    try:
        name, amount = str(record.get("name") or now.name), Decimal(str(record.get("trade_amount", now.plan.trade_amount)))
        fresh = build(settings, now.bot_id, name, now.symbol, now.strategy, amount, record, strategy)
    except (ArithmeticError, ValueError, TypeError, AttributeError) as e:
        raise SettingsError(str(e)) from e
    return dataclasses.replace(now, **{field: getattr(fresh, field) for field in Setup.LIVE})


def mode_of(record: Mapping[str, Any] | None) -> str:
    """A bot whose record names no mode is paper."""
    return str((record or {}).get("mode") or "paper")


def stop_loss_of(record: Mapping[str, Any], settings: Settings, strategies: Path) -> Decimal:
    """The stop that a bot of this record would give its entries, percent; 0: none. `strategies`: the folder of one's own.

    A strategy that can't be built declares nothing here: whoever builds it tells why."""
    if record.get("stop_loss_pct") is not None:
        return Decimal(str(record["stop_loss_pct"]))
    from core.bot import catalogue  # page and yard ask here, never a bot

    found = None
    with contextlib.suppress(StrategyError, InputError):
        found = catalogue.of(strategies).build(str(record["strategy"]), record.get("params") or {})["stop_loss_pct"]
    return settings.stop_loss_pct if found is None else found


def contradictions(record: Mapping[str, Any], name: str, symbol: str, strategy: str, trade_amount: Decimal) -> list[str]:
    """Where the arguments and the record say different things."""
    pairs = (("BOT_NAME", "name", name), ("SYMBOL", "symbol", symbol), ("STRATEGY", "strategy", strategy))
    found = [f"{argument}: {given!r} is given, the record says {record.get(field)!r}" for argument, field, given in pairs if record.get(field) != given]
    recorded = record.get("trade_amount")
    if recorded is None or Decimal(str(recorded)) != trade_amount:
        found.append(f"TRADE_AMOUNT: {trade_amount} is given, the record says {recorded}")
    return found


def build(
    settings: Settings,
    bot_id: int,
    name: str,
    symbol: str,
    strategy_key: str,
    trade_amount: Decimal,
    record: Mapping[str, Any] | None,
    strategy: Strategy | None,
) -> Setup:
    """The set-up, or SettingsError with every problem."""
    record = record or {}
    problems = venue_problems(record)
    mode = mode_of(record)
    if mode not in MODES:
        problems.append(f"mode: {mode!r} must be one of {', '.join(MODES)}")
    elif MODES.index(mode) > MODES.index(settings.trading_mode):
        problems.append(f"mode: the bot is set to {mode}, but TRADING_MODE allows {settings.trading_mode} at most")
    elif strategy is not None and (unagreed := live_problem({**record, "id": bot_id})):
        problems.append(unagreed)  # a guard only gets out, it needs nobody's consent

    def declared(field: str, setting: Decimal) -> Decimal:
        """What counts where the record is null: the strategy's declaration, else the setting. 0: none wanted."""
        try:
            found = strategy.percent(field) if strategy is not None else None
        except StrategyError as e:
            problems.append(str(e))
            found = None
        return setting if found is None else found

    def number(field: str, fallback: Decimal | None) -> Decimal | None:
        value = record.get(field)
        return fallback if value is None else Decimal(str(value))

    timeframe = record.get("timeframe") or (strategy.timeframe if strategy else None) or settings.kline_interval
    if timeframe not in TIMEFRAMES:
        problems.append(f"timeframe: {timeframe!r} must be one of {', '.join(TIMEFRAMES)}")
        timeframe = "5m"
    offset = number("offset", Decimal(schedule.default_offset_s(bot_id, timeframe))) or Decimal(0)
    sizing = record.get("sizing") or "compound"
    if sizing not in SIZINGS:
        problems.append(f"sizing: {sizing!r} must be one of {', '.join(SIZINGS)}")
    stop_loss_pct = number("stop_loss_pct", declared("stop_loss_pct", settings.stop_loss_pct))
    take_profit_pct = number("take_profit_pct", declared("take_profit_pct", settings.take_profit_pct))
    for kind, field in (("equity", "sizing_pct"), ("risk", "risk_pct")):
        if sizing == kind and not number(field, None):
            problems.append(f"{field}: sizing {kind} needs it; set it above 0, to 100 at most")
    if sizing == "risk" and not stop_loss_pct:
        problems.append(f"sizing: {NO_STOP}")
    note = record.get("pot") or {}
    guarded_by = record.get("protection") or "exchange"
    if guarded_by not in PROTECTIONS:
        problems.append(f"protection: {guarded_by!r} must be one of {', '.join(PROTECTIONS)}")
    if not trade_amount.is_finite() or trade_amount <= 0:
        problems.append(f"TRADE_AMOUNT: {trade_amount} must be a number above 0")
    limits: Limits = {}
    try:
        limits = of_record(record)
    except ValueError as e:
        problems.append(f"limits: they must be {e}")
    if problems:
        raise SettingsError(problems)
    cooldown = record.get("cooldown_checks")
    return Setup(
        bot_id=bot_id,
        name=name,
        symbol=symbol,
        strategy=strategy_key,
        mode=mode,  # type: ignore[arg-type]
        account=record.get("account") or "main",
        params=dict(record.get("params") or {}),
        plan=Plan(
            trade_amount=trade_amount,
            sizing=sizing,
            stop_loss_pct=stop_loss_pct,
            take_profit_pct=take_profit_pct,
            cooldown_checks=1 if cooldown is None else int(cooldown),
            protection=guarded_by,
            trailing_stop_pct=number("trailing_stop_pct", None),
            trailing_activation_pct=number("trailing_activation_pct", None),
            break_even_pct=number("break_even_pct", None),
            time_stop_candles=None if record.get("time_stop_candles") is None else int(record["time_stop_candles"]),
            max_spread_pct=number("max_spread_pct", None) or ENTRY_COST_PCT,
            max_slippage_pct=number("max_slippage_pct", None) or ENTRY_COST_PCT,
            sizing_pct=number("sizing_pct", None),
            risk_pct=number("risk_pct", None),
            max_entry=number("max_entry", None),
            paid_out=Decimal(str(note.get("paid_out", 0))),
            paid_out_since=int(note.get("since_trade", 1)),
        ),
        timeframe=timeframe,
        kline_limit=int(record.get("lookback") or settings.kline_limit),
        check_interval_s=int(record.get("check_interval") or settings.check_interval),
        offset_ms=int(offset * 1000),
        risk_interval_s=settings.risk_interval,
        limits=limits,
    )
