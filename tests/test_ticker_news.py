"""The strategy `ticker_news`: what news may do and what not, and a bot with it in stepped time."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bots
import toy
from core.bot import series
from core.bot.series import Recorded
from core.bot.trader import Trader
from core.config import market_time
from core.errors import InputError, StrategyError
from core.model import SeriesValue
from core.news.articles import TITLE, tidy
from core.news.budget import Limits
from core.news.provider import News
from core.news.sentiment import INSTRUCTIONS
from core.storage import Files
from hostile_news import hostile
from market_data import walk
from news_services import MODEL_KEY, NEWS_KEY, Services, row
from stepped import World, run_until
from strategies.base import Strategy
from strategies.plain import PlainStrategy
from strategies.registry import load
from strategies.tables import frame, rows_of

START, HOURS = "2024-03-15", 48
HOUR = 3_600_000
NOW = 1_700_000_000_000


@pytest.fixture
def services() -> Iterator[Services]:
    made = Services()
    yield made
    made.close()


def rated(score: float, host: str = "a.example", relevance: float = 1.0, hours: float = 1.0) -> dict[str, Any]:
    return {"id": host, "host": host, "score": score, "relevance": relevance, "published_wall_ms": NOW - int(hours * HOUR), "known_wall_ms": NOW}


def news(*articles: Any, note: str = "") -> dict[str, SeriesValue]:
    return {"news": SeriesValue({"coin": "BTC", "wall_ms": NOW, "articles": list(articles)}, NOW, note)}


BAD_TWICE = news(rated(-0.9), rated(-0.8, "b.example"))


class Rows:
    """One walk, and a row of each technical kind in it."""

    def __init__(self) -> None:
        self.strategy = load().build("ticker_news")
        self.candles = walk(2500, seed=41)
        signals, weak, _ = self.strategy._technical(self.candles)  # type: ignore[attr-defined]
        rows = np.arange(len(signals)) >= self.strategy.ready() - 1
        self.buy, self.sell = np.flatnonzero(rows & (signals > 0)), np.flatnonzero(rows & (signals < 0))
        self.weak, self.none = np.flatnonzero(rows & (signals == 0) & weak), np.flatnonzero(rows & (signals == 0) & ~weak)

    def ask(self, i: int, value: dict[str, SeriesValue]) -> dict[str, Any]:
        needed = self.strategy.candles_needed()
        return self.strategy.analyze_with(rows_of(self.candles.iloc[max(0, i + 1 - needed) : i + 1]), value)


@pytest.fixture(scope="module")
def rows() -> Rows:
    return Rows()


# --- what news may do ------------------------------------------------------------------


def test_a_technical_buy_waits_while_news_are_bad_and_goes_ahead_otherwise(rows: Rows) -> None:
    i = int(rows.buy[0])
    waits = rows.ask(i, news(rated(-0.5)))
    assert waits["signal"] == "HOLD" and "the entry waits" in waits["reasoning"]
    confirmed = rows.ask(i, news(rated(0.5)))
    assert confirmed["signal"] == "BUY" and "news +0.50 from 1 article on 1 site: they confirm it" in confirmed["reasoning"]
    assert rows.ask(i, news(rated(-0.29)))["signal"] == "BUY"


def test_a_technical_sale_is_held_back_by_no_news(rows: Rows) -> None:
    i = int(rows.sell[0])
    for value in (news(), news(rated(1.0), rated(1.0, "b.example")), BAD_TWICE, {}):
        assert rows.ask(i, value)["signal"] == "SELL"


def test_bad_news_from_two_sites_bring_an_exit_forward_in_a_weak_market_only(rows: Rows) -> None:
    i = int(rows.weak[0])
    early = rows.ask(i, BAD_TWICE)
    assert early["signal"] == "SELL" and "the exit is brought forward" in early["reasoning"]
    flood = news(*[rated(-1.0) for _ in range(8)])
    assert rows.ask(i, flood)["signal"] == "HOLD" and "one site alone" in rows.ask(i, flood)["reasoning"]
    for kind in (rows.none, rows.buy):
        assert rows.ask(int(kind[0]), BAD_TWICE)["signal"] == "HOLD"


def test_no_news_whatever_they_are_make_a_trade_that_the_technical_side_forbids(rows: Rows) -> None:
    random = np.random.default_rng(7)
    wild = [float("nan"), float("inf"), -1e9, 1e9, "1", "BUY", None, True, [], {}]
    for n in range(120):
        i = int(random.choice([rows.buy, rows.sell, rows.weak, rows.none][n % 4]))
        many = [rated(float(random.uniform(-1, 1)), f"{random.integers(4)}.example") for _ in range(int(random.integers(0, 9)))]
        many += [{**rated(0), random.choice(["score", "relevance", "published_wall_ms", "host"]): wild[int(random.integers(len(wild)))]} for _ in range(3)]
        signal = rows.ask(i, news(*many, *([None, "text", 7] if n % 3 == 0 else [])))["signal"]
        assert signal != "BUY" or i in rows.buy
        assert signal != "SELL" or i in rows.sell or i in rows.weak


def test_articles_that_are_old_or_hardly_about_the_coin_do_not_count(rows: Rows) -> None:
    i = int(rows.buy[0])
    for article in (rated(-1.0, hours=12.1), rated(-1.0, hours=-0.1), rated(-1.0, relevance=0.39), rated(-1.0, relevance=1.01)):
        answer = rows.ask(i, news(article))
        assert answer["signal"] == "BUY" and "no news used (no relevant article of the last 12 h)" in answer["reasoning"]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({}, "none were handed in"),
        ({"news": SeriesValue(None, NOW, "OPENAI_API_KEY is not set")}, "OPENAI_API_KEY is not set"),
        ({"news": SeriesValue({"articles": 3, "wall_ms": NOW}, NOW)}, "can't be read"),
        ({"news": SeriesValue([], NOW)}, "none are known"),
    ],
)
def test_without_news_it_is_the_technical_signal_and_it_says_so(rows: Rows, value: dict[str, SeriesValue], says: str) -> None:
    for kind, signal in ((rows.buy, "BUY"), (rows.sell, "SELL"), (rows.weak, "HOLD"), (rows.none, "HOLD")):
        answer = rows.ask(int(kind[0]), value)
        assert answer["signal"] == signal
        assert "on the technical signal alone" in answer["reasoning"] and says in answer["reasoning"]


# --- a bot in stepped time ------------------------------------------------------------------


LIMITS = Limits(wait_s=20, refresh_ms=1, pause_ms=1, key_pause_ms=1, calls_a_day=100_000, shown=30, items=50)


def run(home: Path, services: Services | None, *, hours: int = HOURS, on_step: Callable[[World], None] = lambda w: None, **values: str) -> Trader:
    """A bot with the strategy on the synthetic market; without services it does not even ask for news."""
    home.mkdir(parents=True, exist_ok=True)
    keys = {"CRYPTONEWS_API_KEY": NEWS_KEY, "OPENAI_API_KEY": MODEL_KEY, "OPENAI_BASE_URL": services.model_url if services else "", **values}
    world = World(home, PAPER_START=START, PAPER_SEED="42", RISK_INTERVAL="300", LOG_LEVEL="DEBUG", **keys)
    try:
        strategy = load().build("ticker_news")
        if services is None:
            strategy.needs = ()
        bot = world.bot(1, "BTCUSDT", strategy)

        def opener(settings: Any, files: Any, symbol: Any, clock: Any) -> News:
            assert services is not None and symbol.base == "BTC"

            def wall() -> int:
                world.wall += 5
                return world.wall

            class Told(News):
                def at(self, market_ms: int) -> SeriesValue:
                    on_step(world)
                    return super().at(market_ms)

            return Told(settings, files, symbol.base, market_ms=clock.market_ms, wall_ms=wall, url=services.news_url, limits=LIMITS)

        bot.openers = {"news": opener}
        assert bot.start()
        run_until(world, [bot], market_time(START) + hours * HOUR)
        return bot
    finally:
        world.close()


def trades(home: Path) -> list[tuple[Any, ...]]:
    return [(f["side"], f["time_ms"], f["price"], f["quantity"], f["tag"]) for f in Files(home).read_lines("bot_1_fills.jsonl")]


def rows_by_candle(home: Path) -> list[dict[str, Any]]:
    return [d for d in Files(home).read_lines("bot_1_decisions.jsonl") if d["slot_ms"] is not None]


def did(d: dict[str, Any]) -> tuple[Any, ...]:
    """What a decision did, without the cancelled orders' names, which are each installation's own."""
    return d["slot_ms"], d["signal"], [a for a in d["action"].split(", ") if not a.startswith("cancel")], d["why_not"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a bot that traded on the technical signal alone."""
    home = tmp_path_factory.mktemp("alone")
    run(home, None)
    assert len(trades(home)) >= 4
    assert all("data" not in d for d in rows_by_candle(home)), "a strategy without series leaves the rows as they were"
    return home


@pytest.mark.parametrize("mode", ["gone", "failing"])
def test_with_every_service_down_a_bot_trades_exactly_as_on_the_technical_signal_alone(tmp_path: Path, alone: Path, services: Services, mode: str) -> None:
    """Nobody listens; or they fail in every way, one after the other."""
    turn = 0

    def fail(world: World) -> None:
        nonlocal turn
        turn += 1
        services.articles = [row("Bitcoin", wall_ms=world.wall - 1000, n=turn // 10)]
        services.news_mode = ("down", "ok", "limit", "bad", "key", "empty")[turn // 10 % 6]
        services.model_mode = ("down", "key", "bad", "limit", "empty")[turn // 10 % 5]

    if mode == "gone":
        services.close()
    run(tmp_path, services, on_step=fail)
    assert trades(tmp_path) == trades(alone)
    told, plain = rows_by_candle(tmp_path), rows_by_candle(alone)
    assert [did(d) for d in told] == [did(d) for d in plain]
    asked = [d for d in told if "data" in d]
    assert len(asked) > 150 and all(d["data"]["news"]["value"] is None and d["data"]["news"]["note"] for d in asked)
    assert all("on the technical signal alone" in d["reasoning"] for d in asked)


def test_thirty_hostile_articles_and_a_model_that_obeys_them_make_no_trade_against_the_rules(
    tmp_path: Path, alone: Path, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wishes = {tidy(a["title"], TITLE): wish for a, wish in hostile(NOW)}
    services.answer = lambda instructions, article: wishes[article["title"]](instructions)
    turn = 0

    def renew(world: World) -> None:
        """All of them; then, when those are old, by turns such as praise and such as damn, from one site and from three."""
        nonlocal turn
        turn += 1
        if turn % 6 == 0:
            world.wall += 13 * HOUR
        found = [a for a, _ in hostile(world.wall - 60_000)]
        scene = [found, found[1:2], found[:1], [{**found[1], "news_url": f"https://x{k}.example/"} for k in range(3)]]
        services.articles = [{**a, "news_url": f"{a['news_url']}?{turn // 6}"} for a in scene[0 if turn < 6 else 1 + turn // 6 % 3]]

    run(tmp_path, services, on_step=renew)
    decided = [d for d in rows_by_candle(tmp_path) if "data" in d]
    assert sum(d["data"]["news"]["value"] is not None for d in decided) > 150
    plain = {d["slot_ms"]: d for d in rows_by_candle(alone)}
    for d in decided:
        technical = plain[d["slot_ms"]]
        weak = technical["reasoning"].startswith("Technically weak")
        assert d["signal"] != "BUY" or technical["signal"] == "BUY"
        assert d["signal"] != "SELL" or technical["signal"] == "SELL" or weak
        assert technical["signal"] != "SELL" or d["signal"] == "SELL"
    # They did have a say, or this would show nothing.
    words = " ".join(d["reasoning"] for d in decided)
    assert "the entry waits" in words and "the exit is brought forward" in words
    kept = files_of(tmp_path)
    for text in (NEWS_KEY, MODEL_KEY, *(INSTRUCTIONS[i : i + 30] for i in range(0, len(INSTRUCTIONS) - 30, 15))):
        assert text not in kept
    assert NEWS_KEY not in caplog.text and MODEL_KEY not in caplog.text


def files_of(home: Path) -> str:
    return b"".join(p.read_bytes() for p in home.rglob("*") if p.is_file()).decode("utf-8", "replace")


def test_articles_that_only_praise_change_no_trade_at_all(tmp_path: Path, alone: Path, services: Services) -> None:
    services.answer = lambda *_: '{"score": 1, "relevance": 1, "reason": "Buy it all."}'

    def renew(world: World) -> None:
        services.articles = [row("Bitcoin", wall_ms=world.wall - 1000, n=k, host=f"{k}.example") for k in range(3)]

    run(tmp_path, services, on_step=renew)
    assert trades(tmp_path) == trades(alone)


# --- decisions keep what they used, and a backtest reads it ---------------------------------


def test_a_decision_keeps_the_articles_and_scores_and_when_they_were_known_and_recorded_gives_them_back(tmp_path: Path, services: Services) -> None:
    scores = iter([0.2, -0.9, -0.7, 0.6] * 500)
    services.answer = lambda *_: json.dumps({"score": next(scores), "relevance": 0.9, "reason": "So it is."})

    def renew(world: World) -> None:
        services.articles = [row(f"Bitcoin {world.wall // 500}", wall_ms=world.wall - 1000, n=k, host=f"{k}.example") for k in range(2)]

    run(tmp_path, services, hours=24, on_step=renew)
    decided = [d for d in rows_by_candle(tmp_path) if "data" in d]
    assert len(decided) > 80
    for d in decided:
        kept = d["data"]["news"]
        assert set(kept) == {"known_ms", "note", "value"} and kept["known_ms"] <= d["market_ms"]
        for a in kept["value"]["articles"]:
            assert set(a) == {"id", "host", "source", "title", "score", "relevance", "reason", "published_wall_ms", "known_wall_ms"}
            assert a["known_wall_ms"] <= d["wall_ms"]
    recorded = Recorded(Files(tmp_path).read_lines("bot_1_decisions.jsonl"), "news", 900_000)
    strategy = load().build("ticker_news")
    world = World(tmp_path, PAPER_START=START, PAPER_SEED="42")
    try:
        client = world.client()
        client.connect(None)
        for d in decided[::7]:
            candles = client.candles("BTCUSDT", "5m", 1000, start_ms=d["candle_ms"] - 999 * 300_000)
            window = [r for r in candles.rows if r[0] <= d["candle_ms"]][-strategy.candles_needed() :]
            again = strategy.analyze_with(window, {"news": recorded.at(d["slot_ms"])})
            assert (again["signal"], again["reasoning"]) == (d["signal"], d["reasoning"])
    finally:
        world.close()
    with pytest.raises(InputError, match="no decision recorded the news at"):
        recorded.at(decided[0]["slot_ms"] - 1)
    with pytest.raises(InputError, match="would be invented"):
        recorded.at(decided[-1]["slot_ms"] + 900_000)


def decision(slot: int, known: int | None, **more: Any) -> dict[str, Any]:
    data = {} if known is None else {"data": {"news": {"known_ms": known, "note": "", "value": {"slot": slot}}}}
    return {"slot_ms": slot, "market_ms": slot + 5, **data, **more}


def test_recorded_refuses_where_no_decision_kept_the_series() -> None:
    with pytest.raises(InputError, match="recorded are none at all"):
        Recorded([decision(100, None)], "news", 100).at(100)
    gap = Recorded([decision(100, 103), decision(200, None), decision(300, 300), decision(400, 400, slot_ms=None)], "news", 100)
    assert gap.at(199).value == {"slot": 100} and gap.at(399).known_ms == 300 and gap.lateness_ms == 3
    for ms in (99, 200, 299, 400):
        with pytest.raises(InputError, match="no decision recorded"):
            gap.at(ms)


def test_recorded_refuses_news_from_the_future() -> None:
    with pytest.raises(InputError, match="known only after it"):
        Recorded([decision(100, 106)], "news", 100)


# --- series for any strategy ---------------------------------------------------------------


class Fixed:
    """A provider of one value, or of an error."""

    def __init__(self, value: Any):
        self.value, self.closed = value, False

    def at(self, market_ms: int) -> SeriesValue:
        if isinstance(self.value, Exception):
            raise self.value
        return SeriesValue(self.value, market_ms)

    def close(self) -> None:
        self.closed = True


class Greedy(Strategy):
    key, needs, warmup = "greedy", ("fear_greed",), 1  # type: ignore[assignment]

    def analyze(self, data: Any) -> dict[str, Any]:
        return {"signal": "HOLD", "reasoning": "alone"}

    def analyze_with(self, data: Any, series: Any) -> dict[str, Any]:
        found = series["fear_greed"]
        return self.analyze(data) if found.value is None else {"signal": "BUY", "reasoning": f"index {found.value}"}


@pytest.mark.parametrize(("value", "signal"), [(17, "BUY"), (RuntimeError(f"with {NEWS_KEY} in it"), "HOLD")])
def test_a_strategy_is_handed_the_series_that_it_declares_and_one_that_breaks_is_not_known(home: Path, value: Any, signal: str) -> None:
    clock = toy.StepClock()
    exchange = toy.ToyExchange(clock)
    exchange.closes = [exchange.last] * 5
    bot = bots.trader(home, clock, exchange, Greedy())
    provider = Fixed(value)
    bot.openers = {"fear_greed": lambda *_: provider}
    assert bot.start()
    bots.run_checks(bot, clock, 1)
    last = list(Files(home).read_lines("bot_1_decisions.jsonl"))[-1]
    assert last["signal"] == signal
    assert last["data"]["fear_greed"]["value"] == (17 if signal == "BUY" else None)
    assert NEWS_KEY not in files_of(home)


def test_a_series_that_nobody_provides_ends_the_bot_at_its_start(home: Path) -> None:
    clock = toy.StepClock()
    bot = bots.trader(home, clock, toy.ToyExchange(clock), Greedy())
    with pytest.raises(StrategyError, match=r"needs the series 'fear_greed', which nobody provides; there are: news"):
        bot.start()
    assert list(series.OPENERS) == ["news"]


def test_a_plain_class_may_ask_for_a_series_too_and_need_not() -> None:
    class Plain:
        def analyze(self, data: Any) -> dict[str, Any]:
            return {"signal": "SELL", "reasoning": "plain"}

    class Asking(Plain):
        needs = ("news",)

        def analyze_with(self, data: Any, series: Any) -> dict[str, Any]:
            return {"signal": "BUY", "reasoning": series["news"].note}

    value = {"news": SeriesValue(None, 1, "none today")}
    assert PlainStrategy(Plain).analyze_with([[0] * 12], value) == {"signal": "SELL", "reasoning": "plain"}
    assert PlainStrategy(Asking).needs == ("news",)
    assert PlainStrategy(Asking).analyze_with([[0] * 12], value) == {"signal": "BUY", "reasoning": "none today"}


def test_its_signals_are_the_technical_side_and_a_window_of_rows_gives_the_same(rows: Rows) -> None:
    i = int(rows.buy[-1])
    window = rows_of(rows.candles.iloc[i + 1 - rows.strategy.candles_needed() : i + 1])
    assert rows.strategy.analyze(window)["signal"] == rows.strategy.analyze_with(window, {})["signal"] == "BUY"
    assert rows.strategy.signals(frame(window))[-1] == 1
