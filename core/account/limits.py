"""Limits and what they say of a state of affairs. Pure: no file, no clock, no exchange.

A limit has a soft level (no entries) and a hard one (everything in its scope is sold, then no
entries); a warning comes at 80 % of each. `check` reads what a person wrote, `evaluate` says
what the facts come to. Bots, the yard and a backtest call the same two functions.

| limit | value that is compared | scope |
|---|---|---|
| daily_loss_pct, daily_profit_pct | the UTC day's loss or profit, percent of the capital at its start | bot, account |
| drawdown_pct | the fall from the peak, percent of the capital at the peak | bot, account |
| consecutive_losses | closed trades in a row without profit | bot, account |
| trades_per_day | positions opened on this UTC day | bot, account |
| open_positions | positions open now | account |
| exposure_pct | the worth of one coin held, percent of the capital | account |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from core.model import plain

Level = Literal["warning", "soft", "hard", "unknown"]
Limits = Mapping[str, Mapping[str, Decimal]]  # name → {"soft": level, "hard": level}, either may be missing

WARN_AT = Decimal("0.8")
# Highest level that makes sense; a whole number where the value is a count.
MOST = {
    "daily_loss_pct": Decimal(100),
    "daily_profit_pct": Decimal(10_000),
    "drawdown_pct": Decimal(100),
    "consecutive_losses": Decimal(1_000),
    "trades_per_day": Decimal(10_000),
    "open_positions": Decimal(10_000),
    "exposure_pct": Decimal(1_000),
}
COUNTS = frozenset({"consecutive_losses", "trades_per_day", "open_positions"})
DAILY = frozenset({"daily_loss_pct", "daily_profit_pct", "trades_per_day"})  # their soft trips end with the day
CONDITIONS = frozenset({"open_positions", "exposure_pct"})  # they hold as long as they are true
ACCOUNT_ONLY = CONDITIONS
PRICED = frozenset({"daily_loss_pct", "daily_profit_pct", "drawdown_pct", "exposure_pct"})  # can't be judged without prices
HISTORY = frozenset({"consecutive_losses", "trades_per_day"})  # can't be judged without the journals
WORDS = {
    "daily_loss_pct": "the day's loss",
    "daily_profit_pct": "the day's profit",
    "drawdown_pct": "the drawdown from the peak",
    "consecutive_losses": "losses in a row",
    "trades_per_day": "trades today",
    "open_positions": "open positions",
    "exposure_pct": "the share of one coin",
}
EXAMPLE = '{"daily_loss_pct": {"soft": 3, "hard": 5}, "trades_per_day": 10}'


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a bot or an account. Money in the quote asset; None: it can't be told now, `problem` says why.

    `day_profit` and `drawdown` count realised and unrealised, fees included, never deposits;
    `capital` is that of the day's start, `peak_capital` that of the peak; `coins` the worth of
    each coin held. `history_problem`: why the counts of trades can't be told."""

    capital: Decimal | None = None
    day_profit: Decimal | None = None
    drawdown: Decimal | None = None
    peak_capital: Decimal | None = None
    losses_in_a_row: int | None = None
    trades_today: int | None = None
    open_positions: int | None = None
    coins: Mapping[str, Decimal] | None = field(default_factory=dict)
    problem: str = ""
    history_problem: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One limit that is reached (`soft`, `hard`), near (`warning`, of `at`) or can't be judged (`unknown`).

    `value` and `at` are percent or a count; `coin` only for exposure_pct."""

    limit: str
    level: Level
    value: Decimal | None = None
    at: Decimal | None = None
    coin: str = ""
    text: str = ""

    @property
    def key(self) -> str:
        return ":".join(p for p in (self.limit, self.level, self.coin) if p)


# --- what a person may write ---------------------------------------------------------------


def check(value: Any, *, account: bool = False, beside: Iterable[str] = ()) -> dict[str, dict[str, Decimal]]:
    """The limits in a person's object, each as {"soft", "hard"}; ValueError completes "it must be ...".

    A number alone is the soft level. A bot takes no limits that only an account can have. `beside`:
    names that others know, for the message."""
    known = [n for n in MOST if account or n not in ACCOUNT_ONLY]
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise ValueError(f"an object of limits such as {EXAMPLE}")
    clean: dict[str, dict[str, Decimal]] = {}
    problems: list[str] = []
    for name, given in value.items():
        if name not in known:
            why = "is a limit for accounts only" if name in MOST else "is no limit"
            problems.append(f"{name[:40]!r} {why} (known are {', '.join([*known, *sorted(beside)])})")
        elif given is not None:
            try:
                levels = _levels(name, given)
            except ValueError as e:
                problems.append(f"{name} {e}")
            else:
                if levels:
                    clean[name] = levels
    if problems:
        raise ValueError(f"an object of limits such as {EXAMPLE}; in it {'; '.join(problems)}")
    return clean


def of_record(record: Mapping[str, Any]) -> dict[str, dict[str, Decimal]]:
    """The guards' limits among a bot's `limits`; others (what it may use of the machine) are not theirs. ValueError as `check`."""
    given = record.get("limits") or {}
    return check({k: v for k, v in given.items() if k in MOST} if isinstance(given, Mapping) else given)


def _levels(name: str, given: Any) -> dict[str, Decimal]:
    if not isinstance(given, Mapping):
        given = {"soft": given}
    unknown = [str(k)[:40] for k in given if k not in ("soft", "hard")]
    if unknown:
        raise ValueError(f"has {', '.join(map(repr, unknown))}, it takes soft and hard only")
    found = {}
    for level in ("soft", "hard"):
        if given.get(level) is not None:
            found[level] = _number(name, level, given[level])
    if len(found) == 2 and found["hard"] <= found["soft"]:
        raise ValueError(f"has hard {plain(found['hard'])}, which must lie above soft {plain(found['soft'])}")
    return found


def _number(name: str, level: str, value: Any) -> Decimal:
    unit = "a whole number from 1" if name in COUNTS else "a number of percent above 0"
    wanted = f"{level} must be {unit} to {plain(MOST[name])}"
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str) or len(str(value)) > 40:
        raise ValueError(f"{str(value)[:40]!r}: {wanted}")
    try:
        found = Decimal(str(value).strip())
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite() or not 0 < found <= MOST[name] or found.adjusted() < -12 or (name in COUNTS and found != found.to_integral_value()):
        raise ValueError(f"{str(value)[:40]!r}: {wanted}")
    return found


def needs_prices(limits: Limits) -> bool:
    return any(name in PRICED for name in limits)


# --- what the facts come to --------------------------------------------------------------------


def value_of(limit: str, facts: Facts) -> dict[str, Decimal | None]:
    """The value of a limit by coin ("" where it is no coin's), None where it can't be told."""
    if limit == "exposure_pct":
        if facts.coins is None or facts.capital is None or not facts.capital.is_finite() or facts.capital <= 0:
            return {"": None}
        return {coin: _percent(worth, facts.capital) for coin, worth in facts.coins.items()} or {"": Decimal(0)}
    if limit in COUNTS:
        count = {"consecutive_losses": facts.losses_in_a_row, "trades_per_day": facts.trades_today, "open_positions": facts.open_positions}[limit]
        return {"": None if count is None else Decimal(count)}
    if limit == "drawdown_pct":
        return {"": _percent(facts.drawdown, facts.peak_capital)}
    profit = facts.day_profit if facts.day_profit is not None and facts.day_profit.is_finite() else None
    if profit is not None and limit == "daily_loss_pct":
        profit = profit.copy_negate()
    return {"": _percent(profit, facts.capital)}


def _percent(part: Decimal | None, whole: Decimal | None) -> Decimal | None:
    """Percent, never below 0. A capital that is used up is beyond every level once anything more is lost."""
    if part is None or whole is None or not part.is_finite() or not whole.is_finite():
        return None
    if part <= 0:
        return Decimal(0)
    if whole <= 0:
        return Decimal(10_000)
    try:
        return part / whole * 100
    except ArithmeticError:  # beyond every number that money can be
        return None


def evaluate(limits: Limits, facts: Facts) -> list[Finding]:
    """Everything that these limits have to say: the highest level each has reached, and the next one when it is near."""
    found: list[Finding] = []
    for name, levels in limits.items():
        for coin, value in sorted(value_of(name, facts).items()):
            if value is None or not value.is_finite():
                history = name in HISTORY
                why = (facts.history_problem if history else facts.problem) or "it is not known yet"
                found.append(Finding(name, "unknown", coin=coin, text=f"{WORDS[name]} can't be judged: {why}"))
                continue
            reached = [level for level in ("hard", "soft") if level in levels and value >= levels[level]]
            if reached:
                found.append(_finding(name, reached[0], value, levels[reached[0]], coin))
            ahead = [levels[level] for level in ("soft", "hard") if level in levels and value < levels[level]]
            if ahead and value >= ahead[0] * WARN_AT:
                found.append(_finding(name, "warning", value, ahead[0], coin))
    return found


def _finding(name: str, level: Any, value: Decimal, at: Decimal, coin: str) -> Finding:
    shown = words(name, value, coin)
    limit = f"{plain(at)}" if name in COUNTS else f"{plain(at)} %"
    what = {"warning": "near its limit of {}", "soft": "at its limit of {}: no entries", "hard": "at its hard limit of {}: everything is sold"}
    return Finding(name, level, value, at, coin, f"{shown}, {what[level].format(limit)}")


def words(name: str, value: Decimal, coin: str = "") -> str:
    """`the day's loss is 3.20 %`, `trades today: 5`, `25.00 % of the capital is in BTC`."""
    if name in COUNTS:
        return f"{WORDS[name]}: {plain(value)}"
    if name == "exposure_pct":
        return f"{value:.2f} % of the capital is in {coin or 'no coin'}"
    return f"{WORDS[name]} is {value:.2f} %"
