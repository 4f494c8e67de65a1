"""A backtest told to people and scripts: HTML in one file, JSON, CSV. Writes only the files it is told to.

The HTML needs no network: both chart libraries are in it, with their licence lines, and its
policy forbids every request. What comes from users (names, parameters, reasons) is escaped.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.backtest import metrics
from core.backtest.metrics import Metrics
from core.backtest.result import Config, Result, Trade
from core.backtest.tape import jumps
from core.market.bars import price_text
from core.model import plain
from core.storage import dumps

if TYPE_CHECKING:
    from core.market.bars import Bars

SCHEMA = 1
POINTS = 3000  # candles and equity values in a chart; more are joined, a screen has no room for them
TOLD_GAPS = 5
PAGE = Path(__file__).with_name("report.html")
LIBRARIES = Path(__file__).resolve().parents[1] / "dash" / "static"
TRADE_COLUMNS = ("entry_time", "exit_time", "symbol", "side", "entry_price", "exit_price", "quantity", "profit", "profit_pct", "fees", "exit_reason")


def summary(result: Result, figures: Metrics, notes: Sequence[str] = ()) -> dict[str, Any]:
    """The whole result for JSON: `schema`, `settings`, `metrics`, `trades`, `warnings`, `refused`."""
    return {
        "schema": SCHEMA,
        "settings": result.config.describe(),
        "metrics": figures.describe(),
        "trades": [t.describe() for t in result.trades],
        "warnings": list(notes) or list(result.warnings),
        "refused": dict(result.refused),
    }


def json_text(result: Result, figures: Metrics, notes: Sequence[str] = ()) -> str:
    return dumps(summary(result, figures, notes))


def csv_text(trades: Sequence[Trade]) -> str:
    """One line a trade under a line of names; times as ms and as UTC text. A text that a spreadsheet would compute gets a leading '."""
    lines = ([*(t.describe()[name] for name in TRADE_COLUMNS), utc(t.entry_time), utc(t.exit_time)] for t in trades)
    return as_csv([[*TRADE_COLUMNS, "entry_utc", "exit_utc"], *lines])


def as_csv(lines: Iterable[Iterable[object]]) -> str:
    """Lines of values as CSV text; None is an empty field."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([_cell(value) for value in line] for line in lines)
    return out.getvalue()


def notes(result: Result, bars: Bars) -> list[str]:
    """What a reader must know before believing the figures: the engine's warnings, gaps, what was assumed."""
    found = list(result.warnings)
    opened = result.equity.open_ms
    traded = bars.slice(int(opened[0]), int(opened[-1]) + 1) if len(opened) else bars.cut(0, 0)
    for at in jumps(traded).tolist():
        found.append(
            f"At {utc(int(traded.open_ms[at]))} the price jumped from {price_text(int(traded.close[at - 1]))} to {price_text(int(traded.open[at]))}, "
            "which nobody could trade: what lies before and after was traded apart, and there is no buy and hold to compare with."
        )
    gaps = traded.gaps()
    if gaps:
        told = ", ".join(f"{utc(g.first_ms)} ({g.missing})" for g in sorted(gaps, key=lambda g: -g.missing)[:TOLD_GAPS])
        more = f", and {len(gaps) - TOLD_GAPS} more" if len(gaps) > TOLD_GAPS else ""
        count = "1 gap" if len(gaps) == 1 else f"{len(gaps)} gaps"
        missing = f"{sum(g.missing for g in gaps):,} candles missing ({count})"
        found.append(f"{missing}; inside one the price stands and nothing can be sold. Longest: {told}{more}.")
    closed = metrics.close_times(opened, result.config.timeframe)
    if len(opened) and (lasted := int(closed[-1] - opened[0])) < metrics.GROWTH_DAYS * metrics.DAY_MS:
        found.append(f"{length_text(lasted)} say nothing of a year: there is no CAGR and no Calmar for less than {metrics.GROWTH_DAYS} days.")
    return found + assumptions(result.config, result.trades)


def assumptions(config: Config, trades: Sequence[Trade]) -> list[str]:
    """What the settings leave out of the account, in sentences."""
    found = []
    if not config.slippage_pct:
        found.append("No slippage was assumed: every market order fills at the last price. Set --slippage-pct to be careful.")
    if not config.fee_pct:
        found.append("No fees were taken.")
    if not config.filters:
        found.append("The exchange's rules on steps and smallest orders were off, and bounds on spread and slippage: real orders meet them.")
    if config.fee_mode == "quote":
        found.append("Fees were taken from the quote asset; Binance takes them from what is bought.")
    if 0 < len(trades) < 30:
        found.append(f"So few trades ({len(trades)}) show nothing: chance alone explains almost any figure here.")
    return found


def utc(ms: int | None) -> str:
    """2021-03-06 01:55 (seconds only where there are any); empty for None."""
    if ms is None:
        return ""
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return at.strftime("%Y-%m-%d %H:%M:%S" if at.second else "%Y-%m-%d %H:%M")


def length_text(ms: int | None) -> str:
    """3d 4h, 2h 10m, 45m, 30s; a dash for None."""
    if ms is None:
        return "–"
    seconds = ms // 1000
    parts = [(seconds // 86400, "d"), (seconds % 86400 // 3600, "h"), (seconds % 3600 // 60, "m"), (seconds % 60, "s")]
    told = [f"{n}{unit}" for n, unit in parts if n][:2]
    return " ".join(told) or "0s"


def figure_rows(figures: Metrics, quote: str) -> list[tuple[str, str]]:
    """The metrics as a table for people: (name, value)."""
    f = figures

    def pct(value: float | None) -> str:
        return "–" if value is None else f"{short(value)} %"

    def ratio(value: float | None) -> str:
        return "–" if value is None else short(value)

    def money(value: Decimal | float | None) -> str:
        return "–" if value is None else f"{value:,.2f} {quote}"

    fall = f"{utc(f.max_drawdown_from)} → {utc(f.max_drawdown_to)}" if f.max_drawdown_from is not None else "–"
    back = utc(f.max_drawdown_recovered) or ("–" if f.max_drawdown_from is None else "not yet")
    return [
        ("Period", f"{utc(f.start)} → {utc(f.end)}" if f.start is not None else "–"),
        ("Final equity", money(f.equity_final)),
        ("Return", pct(f.return_pct)),
        ("Buy and hold", pct(f.buy_hold_pct)),
        ("CAGR", pct(f.cagr_pct)),
        ("Sharpe", ratio(f.sharpe)),
        ("Sortino", ratio(f.sortino)),
        ("Calmar", ratio(f.calmar)),
        ("Volatility a year", pct(f.volatility_pct)),
        ("Maximum drawdown", pct(f.max_drawdown_pct)),
        ("  from peak to trough", fall),
        ("  recovered", back),
        ("  length", length_text(f.max_drawdown_ms)),
        ("Longest drawdown", length_text(f.longest_drawdown_ms)),
        ("Drawdown of buy and hold", pct(f.buy_hold_max_drawdown_pct)),
        ("Trades", f"{f.trades:,}" + (f" ({f.open_at_end} closed by the end)" if f.open_at_end else "")),
        ("Win rate", pct(f.win_rate_pct)),
        ("Profit factor", ratio(f.profit_factor)),
        ("Expectancy a trade", f"{money(f.expectancy)} ({pct(f.expectancy_pct)})"),
        ("Best trade", pct(f.best_trade_pct)),
        ("Worst trade", pct(f.worst_trade_pct)),
        ("Average trade", length_text(f.average_trade_ms)),
        ("Longest trade", length_text(f.longest_trade_ms)),
        ("Time in the market", pct(f.exposure_pct)),
        ("Fees", money(f.fees)),
        ("Exits", ", ".join(f"{reason} {n}" for reason, n in f.exits.items()) or "–"),
    ]


def short(value: float) -> str:
    """A ratio as people read it; of one that says no more than "far too large" only the size."""
    return f"{value:,.2f}" if abs(value) < 1e9 else f"{value:.2e}"


# --- HTML -------------------------------------------------------------------------------


def html_text(result: Result, bars: Bars, figures: Metrics | None = None) -> str:
    """The report as one HTML document of its own; about 0.5 MB, most of it the chart libraries."""
    found = figures or metrics.of(result, bars)
    config = result.config
    quote = config.symbol.quote
    title = f"{config.strategy.key} on {config.symbol.name} {config.timeframe}"
    rows = figure_rows(found, quote)
    parts = {
        "TITLE": _text(title),
        "PERIOD": _text(rows[0][1]),
        "TILES": _tiles(found, quote),
        "NOTES": "".join(f"<li>{_text(n)}</li>" for n in notes(result, bars)),
        "MONTHS": _months(result),
        "METRICS": _table(rows),
        "SETTINGS": _table(_settings(config)),
        "REFUSED": _table([(reason, f"{n:,}") for reason, n in result.refused.items()]),
        "DATA": _script(chart_data(result, bars)),
        "LIGHTWEIGHT": _library("lightweight-charts.standalone.production.js"),
        "CHARTJS": _library("chart.umd.min.js"),
    }
    # Each @@NAME@@ once; what a part itself contains is never looked at again.
    return re.sub(r"@@([A-Z]+)@@", lambda m: parts[m.group(1)], PAGE.read_text(encoding="utf-8"))


def write(path: str | Path, text: str) -> None:
    """Beside and renamed, so that no half a report is ever found under its name."""
    target = Path(path)
    beside = target.with_name(target.name + ".part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(target)


def chart_data(result: Result, bars: Bars) -> dict[str, Any]:
    """What the charts draw: at most POINTS candles and equity values, all trades. Times in seconds but the trades' own (ms)."""
    config = result.config
    opened, value = np.asarray(result.equity.open_ms, np.int64), np.asarray(result.equity.value, np.float64)
    shown = bars.slice(int(opened[0]), int(opened[-1]) + 1) if len(opened) else bars
    cash = float(config.cash)
    falls = metrics.drawdowns_pct(value, cash)
    starts, ends = _buckets(len(value))
    hold = shown.close / float(shown.open[0]) * cash if len(shown) and shown.open[0] else np.empty(0)
    same = len(hold) == len(value) and not len(jumps(shown))
    equity = [
        [int(opened[a]) // 1000, _round(value[b]), _round(-falls[a : b + 1].max()), _round(hold[b]) if same else None]
        for a, b in zip(starts, ends, strict=True)
    ]
    c_starts, c_ends = _buckets(len(shown))
    scale = 1e-8
    candles = [
        [int(shown.open_ms[a]) // 1000, *(_round(x * scale) for x in (shown.open[a], shown.high[a : b + 1].max(), shown.low[a : b + 1].min(), shown.close[b]))]
        for a, b in zip(c_starts, c_ends, strict=True)
    ]
    joined = -(-len(shown) // POINTS) if len(shown) else 1
    return {
        "quote": config.symbol.quote,
        "tick": max((-int(config.symbol.rules.tick.normalize().as_tuple().exponent) if config.symbol.rules.tick else 8), 0),
        "joined": joined,
        "equity": equity,
        "candles": candles,
        "trades": [_row(t) for t in result.trades],
        "spread": histogram([float(t.profit_pct) for t in result.trades]),
    }


def histogram(values: Sequence[float], most: int = 41) -> list[list[float]]:
    """[[from, to, count], ...]: equal bins with 0 as an edge, so that none holds both winners and losers."""
    if not values:
        return []
    low, high = min(*values, 0.0), max(*values, 0.0)
    width = (high - low) / (most - 1) or 1.0
    first = -int(np.ceil(-low / width)) if low < 0 else 0
    counts: dict[int, int] = {}
    for v in values:
        at = int(np.floor(v / width))
        counts[at] = counts.get(at, 0) + 1
    last = max(counts)
    return [[_round(at * width), _round((at + 1) * width), counts.get(at, 0)] for at in range(min(first, *counts), last + 1)]


def _row(t: Trade) -> list[Any]:
    """A trade as the page's table and marks read it, by place."""
    prices = [plain(x) for x in (t.entry_price, t.exit_price, t.quantity)]
    return [t.entry_time, t.exit_time, t.symbol, t.side, *prices, *(_money(x) for x in (t.profit, t.profit_pct, t.fees)), t.exit_reason]


def _buckets(n: int) -> tuple[list[int], list[int]]:
    size = -(-n // POINTS) if n else 1
    starts = list(range(0, n, size))
    return starts, [min(a + size, n) - 1 for a in starts]


def _tiles(f: Metrics, quote: str) -> str:
    def tile(name: str, value: str, tone: float | Decimal | None = None, under: str = "") -> str:
        kind = "" if tone is None or tone == 0 else " good" if tone > 0 else " bad"
        return f'<div class="tile"><span>{_text(name)}</span><b class="{kind.strip()}">{_text(value)}</b><small>{_text(under)}</small></div>'

    def pct(value: float | None, signed: bool = False) -> str:
        return "–" if value is None else f"{'+' if signed and value >= 0 else ''}{short(value)} %"

    def number(value: float | None) -> str:
        return "–" if value is None else short(value)

    return "".join(
        (
            tile("Return", pct(f.return_pct, True), f.return_pct, f"{f.profit:+,.2f} {quote}"),
            tile("Buy and hold", pct(f.buy_hold_pct, True), f.buy_hold_pct, "same fees"),
            tile("Maximum drawdown", pct(f.max_drawdown_pct), None, length_text(f.max_drawdown_ms)),
            tile("Sharpe", number(f.sharpe), None, f"Sortino {number(f.sortino)}"),
            tile("Trades", f"{f.trades:,}", None, f"{pct(f.win_rate_pct)} won"),
            tile("Profit factor", number(f.profit_factor), None, f"{pct(f.expectancy_pct)} a trade"),
            tile("In the market", pct(f.exposure_pct), None, f"{length_text(f.average_trade_ms)} a trade"),
            tile("Fees", f"{f.fees:,.2f}", None, quote),
        )
    )


def _months(result: Result) -> str:
    opened = np.asarray(result.equity.open_ms, np.int64)
    closed = metrics.close_times(opened, result.config.timeframe)
    found = metrics.monthly_returns(closed, np.asarray(result.equity.value, np.float64), float(result.config.cash))
    if not found:
        return "<p>No month was traded.</p>"
    names = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    most = max(abs(v) for v in found.values()) or 1.0
    lines = []
    for year in sorted({y for y, _ in found}):
        cells, whole = [], 1.0
        for month in range(1, 13):
            value = found.get((year, month))
            whole *= 1 + (value or 0.0) / 100
            cells.append("<td></td>" if value is None else _shade(value, most))
        lines.append(f"<tr><th>{year}</th>{''.join(cells)}<td><b>{(whole - 1) * 100:+.1f}</b></td></tr>")
    head = "".join(f"<th>{n}</th>" for n in names)
    return f'<table class="months"><thead><tr><th></th>{head}<th>Year</th></tr></thead><tbody>{"".join(lines)}</tbody></table>'


def _shade(value: float, most: float) -> str:
    kind = "good" if value > 0 else "bad" if value < 0 else ""
    strength = round(8 + 40 * min(abs(value) / most, 1)) if kind else 0
    style = f' style="background:color-mix(in srgb,var(--{kind}) {strength}%,transparent)"' if kind else ""
    return f"<td{style}>{value:+.1f}</td>"


def _settings(config: Config) -> list[tuple[str, str]]:
    rows = []
    for name, value in config.describe().items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{k}={v}" for k, v in value.items()) or None
        elif name in ("from_ms", "to_ms"):
            value = utc(value) or None
        if value is None:
            continue
        rows.append((name.replace("_", " "), str(value)))
    return rows


def _table(rows: Sequence[tuple[str, str]]) -> str:
    if not rows:
        return "<p>None.</p>"
    lines = "".join(f"<tr><th{' class=under' if name.startswith('  ') else ''}>{_text(name.strip())}</th><td>{_text(value)}</td></tr>" for name, value in rows)
    return f"<table class=pairs><tbody>{lines}</tbody></table>"


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _script(value: object) -> str:
    """JSON that can't end the script element it stands in."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _library(name: str) -> str:
    return (LIBRARIES / name).read_text(encoding="utf-8").replace("</script", "<\\/script")


def _round(value: Any) -> float:
    """Eight significant digits are more than a chart can show."""
    return float(f"{float(value):.8g}")


def _money(value: Decimal) -> float:
    return float(f"{value:.4f}")


def _cell(value: object) -> str:
    text = "" if value is None else plain(value) if isinstance(value, Decimal) else str(value)
    return "'" + text if isinstance(value, str) and text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
