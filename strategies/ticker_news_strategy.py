"""`ticker_news`: a technical signal with the coin's news as a brake. Needs the series `news`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from core.market import indicators
from core.model import KlineRow, SeriesValue
from strategies.answers import SIGNAL_NAMES
from strategies.base import Param, Strategy
from strategies.tables import frame

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class _News:
    """What the news come to: `score` −1..1, None where there is nothing to go by; `sites` have relevant articles."""

    score: float | None
    articles: int = 0
    sites: int = 0
    note: str = ""

    def __str__(self) -> str:
        if self.score is None:
            return f"on the technical signal alone, no news used ({self.note or 'none are known'})"
        return f"news {self.score:+.2f} from {self.articles} article{'s' * (self.articles != 1)} on {self.sites} site{'s' * (self.sites != 1)}"


class TickerNewsStrategy(Strategy):
    """RSI, MACD and trend decide; rated news may hold an entry back or bring an exit forward.

    The technical side:
    - *buy*: the fast mean above the slow one, the price above the slow one, the MACD
      histogram has turned positive within the last `patience` candles, and the RSI lies
      between `rsi_low` and `rsi_high`.
    - *sell*: the RSI turns down from `rsi_overbought`; or the trend has just broken; or the
      histogram has just turned negative with the price below the fast mean.
    - *weak*: the histogram is negative and the price below the fast mean. Alone it means hold.

    What news may do, and nothing else:
    - on *buy*, news at or below −`news_delay` hold the entry back; it is asked again at each
      check for as long as the technical side says buy. Other news change nothing; good ones
      are named as confirming.
    - on *sell* it sells, whatever the news.
    - on *weak*, news at or below −`news_exit` from two sites at least bring the exit forward.
    - on anything else it holds, whatever the news.

    The news' score is the mean over sites of the mean of each site's articles, weighted by
    relevance, from articles not older than `news_hours` and at least `news_relevance`
    relevant. So no article can buy, one site alone can't sell, and a flood from one site
    counts once. Without news it is the technical signal, and its reasoning says so.

    Works in markets that rise with pauses. Loses in a market without direction, as each
    follower of trends does, and news that everybody has read are mostly in the price already.
    """

    key = "ticker_news"
    title = "Ticker news"
    description = (
        "Trend, MACD and RSI decide; a model's rating of the coin's news may hold an entry back or bring an exit forward, never make a trade by itself. "
        "Needs CRYPTONEWS_API_KEY and OPENAI_API_KEY, else it trades on the technical signal alone. Loses in a market without direction."
    )
    needs = ("news",)
    params = (
        Param("ema_fast", int, 20, 2, 50, "candles of the fast mean"),
        Param("ema_slow", int, 50, 5, 70, "candles of the slow mean"),
        Param("rsi_window", int, 14, 2, 34, "candles of the RSI"),
        Param("rsi_low", float, 40.0, 1.0, 60.0, "the RSI must be at or above this to buy"),
        Param("rsi_high", float, 70.0, 50.0, 99.0, "the RSI must be at or below this to buy"),
        Param("rsi_overbought", float, 75.0, 50.0, 99.0, "the RSI must have been at or above this to sell when it turns"),
        Param("macd_fast", int, 12, 2, 50, "candles of the MACD's fast mean"),
        Param("macd_slow", int, 26, 3, 60, "candles of the MACD's slow mean"),
        Param("macd_sign", int, 9, 2, 30, "candles of the MACD's signal line"),
        Param("patience", int, 3, 1, 12, "candles for which a crossing or an overbought RSI counts"),
        Param("news_delay", float, 0.3, 0.05, 1.0, "news at or below minus this hold an entry back"),
        Param("news_exit", float, 0.6, 0.05, 1.0, "news at or below minus this bring an exit forward in a weak market"),
        Param("news_hours", float, 12.0, 0.5, 24.0, "hours for which an article counts"),
        Param("news_relevance", float, 0.4, 0.05, 1.0, "articles less relevant to the coin than this are left out"),
    )

    @classmethod
    def problems(cls, values: Mapping[str, Any]) -> list[str]:
        pairs = (("ema_fast", "ema_slow"), ("macd_fast", "macd_slow"), ("rsi_low", "rsi_high"))
        return [f"{a}: must be below {b} ({values[b]}), not {values[a]}" for a, b in pairs if values[a] >= values[b]]

    @property
    def warmup(self) -> int:
        """Rows after which no mean remembers its first row; the signal line settles after the slow mean has."""
        p = self.p
        slow = indicators.settle_rows(2 / (p.ema_slow + 1))
        macd = indicators.settle_rows(2 / (p.macd_slow + 1)) + p.macd_slow + p.macd_sign
        rsi = indicators.settle_rows(1 / p.rsi_window) + p.rsi_window
        return max(slow, macd, rsi) + p.patience + 1

    # --- the technical side --------------------------------------------------------------

    def _lately(self, condition: pd.Series) -> pd.Series:
        """True where the condition held within the last `patience` candles."""
        return condition.rolling(self.p.patience, min_periods=1).max() > 0

    def _technical(self, candles: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
        """(+1, −1 or 0 for each row; whether the row is weak; the values behind it)."""
        p, close = self.p, candles["close"]
        fast, slow, rsi = indicators.ema(close, p.ema_fast), indicators.ema(close, p.ema_slow), indicators.rsi(close, p.rsi_window)
        histogram = indicators.macd(close, p.macd_fast, p.macd_slow, p.macd_sign).histogram
        before = histogram.shift(1)
        turned_up, turned_down = (histogram > 0) & (before <= 0), (histogram < 0) & (before >= 0)
        buy = (fast > slow) & (close > slow) & (histogram > 0) & self._lately(turned_up) & (rsi >= p.rsi_low) & (rsi <= p.rsi_high)
        # A price that stood still must not count as a break: both means are then one number.
        broken = (fast < slow) & (fast.shift(1) >= slow.shift(1)) & (close < slow)
        overheated = self._lately(rsi >= p.rsi_overbought) & (rsi.diff() < 0)
        weak = (histogram < 0) & (close < fast)
        sell = (overheated | self._lately(broken) | (weak & self._lately(turned_down))) & ~buy
        values = pd.DataFrame({"rsi": rsi, "fast": fast, "slow": slow, "histogram": histogram})
        return buy.to_numpy().astype(np.int8) - sell.to_numpy().astype(np.int8), (weak & ~buy).to_numpy(dtype=bool), values

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        """The technical side alone: what it trades on where no news are known."""
        return self._technical(candles)[0]

    def reason(self, candles: pd.DataFrame, i: int) -> str:
        signal, weak, values = self._technical(candles)
        return self._words(int(signal[i]), bool(weak[i]), values, i)

    def _words(self, signal: int, weak: bool, values: pd.DataFrame, i: int) -> str:
        p, v = self.p, values.iloc[i]
        if not np.isfinite(v["histogram"]) or not np.isfinite(v["slow"]) or not np.isfinite(v["rsi"]):
            return f"Too few candles yet: {i + 1} of {self.warmup}"
        what = {1: "Technical buy: momentum turned up in a rising trend", -1: "Technical sell: momentum or trend broke"}.get(signal)
        what = what or ("Technically weak" if weak else "No technical signal")
        gap = (v["fast"] / v["slow"] - 1) * 100
        return f"{what} (RSI {v['rsi']:.1f}, EMA{p.ema_fast} {gap:+.2f}% from EMA{p.ema_slow}, MACD momentum {'up' if v['histogram'] > 0 else 'down'})"

    # --- with the news ---------------------------------------------------------------------

    def analyze_with(self, data: Sequence[KlineRow], series: Mapping[str, SeriesValue]) -> dict[str, Any]:
        if not len(data):
            return {"signal": "HOLD", "reasoning": "No closed candles yet"}
        found, weakness, values = self._technical(frame(data))
        last = len(found) - 1
        technical, weak = int(found[last]), bool(weakness[last])
        news = self._read(series.get("news"))
        signal, verdict = self._decide(technical, weak, news)
        return {"signal": SIGNAL_NAMES[signal], "reasoning": f"{self._words(technical, weak, values, last)}; {news}{verdict}"}

    def _decide(self, technical: int, weak: bool, news: _News) -> tuple[int, str]:
        p = self.p
        if news.score is None or technical < 0:
            return technical, ""
        if technical > 0:
            if news.score <= -p.news_delay:
                return 0, ": the entry waits"
            return 1, ": they confirm it" if news.score >= p.news_delay else ""
        if weak and news.score <= -p.news_exit:
            if news.sites >= 2:
                return -1, ": the exit is brought forward"
            return 0, ": one site alone brings no exit forward"
        return 0, ""

    def _read(self, value: SeriesValue | None) -> _News:
        """The score of what is fresh and relevant; whatever is out of its range is left out."""
        if value is None or not isinstance(value.value, Mapping):
            return _News(None, note=value.note if value is not None else "none were handed in")
        now, articles = value.value.get("wall_ms"), value.value.get("articles")
        sites: dict[str, tuple[float, float]] = {}
        if not isinstance(now, int) or not isinstance(articles, Sequence):
            return _News(None, note="they can't be read")
        count = 0
        for a in articles:
            try:
                score, relevance, age = float(a["score"]), float(a["relevance"]), now - int(a["published_wall_ms"])
                host = str(a["host"])
            except (KeyError, TypeError, ValueError, ArithmeticError):
                continue
            if not (math.isfinite(score) and -1 <= score <= 1 and self.p.news_relevance <= relevance <= 1 and 0 <= age <= self.p.news_hours * HOUR_MS):
                continue
            count += 1
            weight, total = sites.get(host, (0.0, 0.0))
            sites[host] = (weight + relevance, total + relevance * score)
        if not sites:
            return _News(None, note=value.note or f"no relevant article of the last {self.p.news_hours:g} h")
        means = [total / weight for weight, total in sites.values()]
        return _News(sum(means) / len(means), count, len(sites))
