"""The news room: real clients against a local server that behaves well and badly."""

from __future__ import annotations

import json
import logging
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core import config
from core.errors import NewsError
from core.fleet import services as report
from core.news import articles
from core.news.budget import PRICES, UNKNOWN, Limits, cost, price_of
from core.news.provider import News
from core.news.sentiment import INSTRUCTIONS, Rater, leaks, validate
from core.news.store import NAME, Claim, Store
from core.storage import Files
from hostile_news import hostile
from news_services import CALM, MODEL_KEY, NEWS_KEY, Services, row
from patience import patience

WALL = 1_700_000_000_000
QUICK = Limits(wait_s=40, fetch_s=10.0, rate_s=10.0, work_s=60)
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def services() -> Iterator[Services]:
    made = Services()
    yield made
    made.close()


class Yard:
    """A home with news in it, and a wall clock that the test moves."""

    def __init__(self, home: Path, services: Services, **values: str):
        given = {"CRYPTONEWS_API_KEY": NEWS_KEY, "OPENAI_API_KEY": MODEL_KEY, "OPENAI_BASE_URL": services.model_url, **values}
        self.services, self.wall = services, WALL
        self.settings, self.files = config.load({"BOTYARD_HOME": str(home), **given}), Files(home)

    def news(self, coin: str = "BTC", limits: Limits = QUICK) -> News:
        return News(self.settings, self.files, coin, market_ms=lambda: self.wall, wall_ms=lambda: self.wall, url=self.services.news_url, limits=limits)

    def store(self, limits: Limits = QUICK) -> Store:
        return Store(self.files.path(NAME), limits)

    def article(self, title: str, n: int = 0, **fields: Any) -> dict[str, Any]:
        return row(title, "Some text.", wall_ms=self.wall - 60_000, n=n, **fields)


@pytest.fixture
def yard(home: Path, services: Services) -> Yard:
    return Yard(home, services)


def test_news_are_fetched_for_the_coin_and_each_article_is_rated_by_itself(yard: Yard) -> None:
    s = yard.services
    s.articles = [yard.article("Bitcoin rises", 1), yard.article("Bitcoin falls", 2, host="www.other.example")]
    s.answer = lambda _, a: json.dumps({"score": 0.7 if "rises" in a["title"] else -0.456, "relevance": 0.9, "reason": "It says so."})
    found = yard.news().at(yard.wall)
    assert found.known_ms == yard.wall and found.note == ""
    assert found.value["coin"] == "BTC" and found.value["wall_ms"] == yard.wall
    by_title = {a["title"]: a for a in found.value["articles"]}
    assert (by_title["Bitcoin rises"]["score"], by_title["Bitcoin falls"]["score"]) == (0.7, -0.46)
    assert by_title["Bitcoin falls"]["host"] == "other.example"
    assert all(a["known_wall_ms"] == yard.wall and a["published_wall_ms"] == yard.wall - 60_000 for a in by_title.values())
    assert s.fetches == [{"tickers": ["BTC"], "items": ["10"], "page": ["1"], "token": [NEWS_KEY]}]
    assert len(s.calls) == 2
    for call in s.calls:
        assert call["model"] == "gpt-4o-mini" and call["response_format"]["json_schema"]["strict"] is True
        system, user = call["messages"]
        assert system["role"] == "system" and "Bitcoin" not in system["content"]
        assert set(json.loads(user["content"])) == {"coin", "article"}


def test_an_article_is_rated_once_for_all_bots_and_over_restarts(yard: Yard) -> None:
    s = yard.services
    s.articles = [yard.article(f"Bitcoin {i}", i) for i in range(5)]
    results = []
    bots = [yard.news() for _ in range(4)]
    threads = [threading.Thread(target=lambda bot=bot: results.append(bot.at(yard.wall))) for bot in bots]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    yard.wall += QUICK.refresh_ms  # the same articles again, to bots that were started anew
    for _ in range(3):
        assert len(yard.news().at(yard.wall).value["articles"]) == 5
    assert len(s.calls) == 5
    assert len(s.fetches) == 2, "one for each refresh, for all bots together"
    s.articles = [*s.articles, yard.article("Bitcoin, one more", 9)]
    yard.wall += QUICK.refresh_ms
    assert len(yard.news().at(yard.wall).value["articles"]) == 6
    assert len(s.calls) == 6


@pytest.mark.parametrize("service", ["news", "model"])
@pytest.mark.parametrize("mode", ["down", "limit", "slow", "drip", "bad", "key", "empty", "huge"])
def test_a_service_that_fails_is_a_note_and_nothing_else(yard: Yard, service: str, mode: str) -> None:
    s = yard.services
    s.articles = [yard.article("Bitcoin rises", 1)]
    setattr(s, f"{service}_mode", mode)
    patience = 0.4 if mode in ("slow", "drip") else 10.0  # elsewhere an answer comes, and must be waited for
    news = yard.news(limits=replace(QUICK, fetch_s=patience, rate_s=patience))
    found = news.at(yard.wall)
    assert found.value is None
    assert found.note and NEWS_KEY not in found.note and MODEL_KEY not in found.note
    # It is left alone for a while, then asked again, and works.
    asked = (len(s.fetches), len(s.calls))
    s.news_mode = s.model_mode = "ok"
    news.at(yard.wall + 1)
    assert (len(s.fetches), len(s.calls)) == asked
    yard.wall += QUICK.refresh_ms + 1
    again = yard.news().at(yard.wall)
    if service == "model" and mode in ("bad", "empty", "huge"):
        assert again.value is None and "no use" in again.note  # an answer came: the article is not paid for twice
    else:
        assert len(again.value["articles"]) == 1 and again.note == ""


def test_a_check_waits_no_longer_than_it_may_and_the_next_one_has_what_came_late(yard: Yard) -> None:
    s = yard.services
    s.articles, s.model_mode = [yard.article("Bitcoin rises", 1)], "slow"
    news = yard.news(limits=Limits(wait_s=0.2, rate_s=15))
    begun = time.monotonic()
    found = news.at(yard.wall)
    assert time.monotonic() - begun < patience(2)
    assert found.value is None and "1 not rated yet" in found.note
    s.model_mode = "ok"
    s.let_go.set()
    assert news._worker is not None
    news._worker.join(patience(10))
    assert len(news.at(yard.wall).value["articles"]) == 1
    assert len(s.calls) == 1


def test_nothing_listens_at_all(yard: Yard) -> None:
    yard.services.close()
    found = yard.news().at(yard.wall)
    assert found.value is None and "can't be reached" in found.note


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ({"CRYPTONEWS_API_KEY": ""}, "CRYPTONEWS_API_KEY is not set"),
        ({"OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}, "OPENAI_API_KEY is not set"),
        ({"CRYPTONEWS_API_KEY": "", "OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}, "CRYPTONEWS_API_KEY and OPENAI_API_KEY are not set"),
    ],
)
def test_without_keys_nothing_is_asked_and_the_note_names_them(home: Path, services: Services, values: dict[str, str], missing: str) -> None:
    yard = Yard(home, services, **values)
    assert yard.news().at(yard.wall).note == missing
    assert not services.fetches and not services.calls and not yard.files.exists(NAME)


def test_knowledge_that_is_too_old_is_none(yard: Yard) -> None:
    yard.services.articles = [yard.article("Bitcoin rises", 1)]
    news = yard.news()
    assert news.at(yard.wall).value is not None
    yard.services.news_mode = "down"
    yard.wall += QUICK.stale_ms - 1
    assert news.at(yard.wall).value is not None, "an outage of an hour is bridged"
    yard.wall += 2
    assert news.at(yard.wall).value is None


def test_a_bot_loads_the_models_client_at_its_start_and_only_if_it_has_keys(home: Path) -> None:
    code = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nfrom core import config\nfrom core.storage import Files\nfrom core.bot import trader, series\n"
        "from core.news.provider import News\n"
        "def news(**keys):\n    s = config.load({'BOTYARD_HOME': sys.argv[2], **keys})\n"
        "    return News(s, Files(s.home), 'BTC', market_ms=lambda: 1, wall_ms=lambda: 1)\n"
        "news().at(1)\nassert 'openai' not in sys.modules and 'pydantic' not in sys.modules\n"
        "news(CRYPTONEWS_API_KEY='k', OPENAI_API_KEY='k')\nassert 'openai.resources.chat.completions' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(ROOT), str(home)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- the budget ------------------------------------------------------------------------


def test_the_days_calls_hold_over_restarts_and_begin_anew_at_midnight(yard: Yard) -> None:
    s, limits = yard.services, replace(QUICK, calls_a_day=3)
    s.articles = [yard.article(f"Bitcoin {i}", i) for i in range(8)]
    for _ in range(4):
        found = yard.news(limits=limits).at(yard.wall)
        yard.wall += limits.pause_ms + 1
    assert len(s.calls) == 3
    assert len(found.value["articles"]) == 3 and "today's 3 ratings are used up" in found.note
    yard.wall += 3_600_000 * 3  # past midnight
    yard.news(limits=limits).at(yard.wall)
    assert len(s.calls) == 6


def test_the_days_money_holds_whatever_the_service_says_it_cost(yard: Yard) -> None:
    s = yard.services
    most = cost(PRICES["gpt-4o-mini"], 3000, 400)
    limits = replace(QUICK, money_a_day=most * 3)
    s.articles = [yard.article(f"Bitcoin {i}", i) for i in range(40)]
    for usage in (None, {"prompt_tokens": 10**6, "completion_tokens": 10**6}, {"prompt_tokens": -5, "completion_tokens": True}):
        s.usage = usage  # type: ignore[assignment]
        yard.news(limits=limits).at(yard.wall)
        yard.wall += limits.pause_ms + 1
    store = yard.store()
    calls, money = store.budget.spent("model", yard.wall)
    store.close()
    assert calls == len(s.calls) < 20
    assert 0 < money <= limits.money_a_day


def test_an_answer_settles_what_was_reserved(yard: Yard) -> None:
    yard.services.articles = [yard.article("Bitcoin", 1)]
    yard.news().at(yard.wall)
    store = yard.store()
    assert store.budget.spent("model", yard.wall) == (1, Decimal("0.000084"))  # 400 and 40 tokens of gpt-4o-mini
    assert store.budget.spent("news", yard.wall) == (1, Decimal(0))
    store.close()


def test_a_model_of_ones_own_is_free_and_one_whose_price_is_not_known_is_counted_dear() -> None:
    assert price_of("llama", "http://127.0.0.1:11434/v1") == price_of("llama", "http://localhost:11434/v1") == (0, 0)
    assert price_of("llama", "https://models.example/v1") == price_of("gpt-99", "") == UNKNOWN
    assert price_of("gpt-4o-mini", "http://127.0.0.1:4000/v1") == PRICES["gpt-4o-mini"], "a gateway on this machine may charge for it"


def test_what_a_killed_bot_had_reserved_stays_spent_and_its_article_is_rated_later(yard: Yard) -> None:
    code = (
        "import os,sys\nsys.path.insert(0, sys.argv[2])\nfrom pathlib import Path\nfrom core.news.articles import Article\n"
        "from core.news.budget import PRICES, Limits\nfrom core.news.store import Store\n"
        f"s = Store(Path(sys.argv[1]), Limits())\ns.keep('BTC', [Article('i1', 'h', 't', 's', 'x', {WALL - 1000})], {WALL})\n"
        f"assert s.claim('BTC', PRICES['gpt-4o-mini'], {WALL}).article.id == 'i1'\nos.kill(os.getpid(), 9)\n"
    )
    path = yard.files.path(NAME)
    path.parent.mkdir()
    assert subprocess.run([sys.executable, "-c", code, str(path), str(ROOT)], check=False).returncode == -9
    store = yard.store()
    calls, money = store.budget.spent("model", WALL)
    assert calls == 1 and money > 0
    assert store.claim("BTC", UNKNOWN, WALL + 1000) is None, "it may still be at work"
    assert isinstance(store.claim("BTC", UNKNOWN, WALL + QUICK.claim_ms), Claim)
    store.close()


def test_a_database_that_cannot_be_read_is_a_note_and_is_not_begun_anew(yard: Yard) -> None:
    path = yard.files.path(NAME)
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 100)
    found = yard.news().at(yard.wall)
    assert found.value is None and NAME in found.note
    assert path.read_bytes().startswith(b"not a database") and not yard.services.calls


def test_a_wall_clock_that_runs_back_does_not_silence_the_services_for_ever(yard: Yard) -> None:
    yard.services.articles = [yard.article("Bitcoin", 1)]
    yard.wall += 30 * 86_400_000
    yard.news().at(yard.wall)
    yard.wall -= 30 * 86_400_000
    yard.news().at(yard.wall)
    assert len(yard.services.fetches) == 2


# --- hostile articles ---------------------------------------------------------------------


def test_thirty_hostile_articles_leak_nothing_and_bring_no_number_out_of_range(yard: Yard, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    s, limits = yard.services, replace(QUICK, shown=100, items=50)
    found = hostile(yard.wall)
    s.articles = [a for a, _ in found]
    wishes = {articles.tidy(a["title"], articles.TITLE): wish for a, wish in found}
    s.answer = lambda instructions, article: wishes[article["title"]](instructions)
    value = yard.news(limits=limits).at(yard.wall).value
    assert len(s.calls) == 29, "all but the article of another coin"
    assert all(a["title"] != "Ethereum to the moon" for a in value["articles"])
    for a in value["articles"]:
        assert -1 <= a["score"] <= 1 and 0 <= a["relevance"] <= 1
        assert len(a["reason"]) <= 120 and a["reason"].isprintable() and a["title"].isprintable()
        assert not leaks(a["reason"])
        assert a["published_wall_ms"] <= yard.wall
    # Everything that was written or logged: nothing of the instructions, of the marks, of the keys.
    marks = [call["messages"][0]["content"].rstrip(".").rsplit(" ", 1)[1] for call in s.calls]
    kept = b"".join(p.read_bytes() for p in yard.files.home.rglob("*") if p.is_file()).decode("utf-8", "replace")
    for text in (NEWS_KEY, MODEL_KEY, INSTRUCTIONS[:40], INSTRUCTIONS[-40:], *marks):
        assert text not in kept and text not in json.dumps(value)
    for text in (NEWS_KEY, MODEL_KEY):
        assert text not in caplog.text
    for call in s.calls:
        assert set(json.loads(call["messages"][1]["content"])["article"]) == {"title", "source", "text"}
        assert len(call["messages"][1]["content"]) < 3000, "a megabyte is cut"


@pytest.mark.parametrize(
    "content",
    [None, 7, "", "null", "[]", "{}", '{"score": 1, "relevance": 1}', '{"score": 2, "relevance": 1, "reason": ""}', "x" * 5000, CALM + CALM],
)
def test_an_answer_that_is_not_the_schemas_is_refused(content: object) -> None:
    with pytest.raises(NewsError, match="refused"):
        validate(content)


def test_an_article_without_address_date_or_title_or_of_another_coin_is_left_out() -> None:
    good = row("Bitcoin", "text", wall_ms=WALL)
    assert articles.article(good, "BTC") is not None
    addresses = [{"news_url": "javascript:alert(1)"}, {"news_url": "http://[bad"}]
    for change in (*addresses, {"date": "yesterday"}, {"date": None}, {"title": "\x00\n"}, {"tickers": ["ETH"]}):
        assert articles.article({**good, **change}, "BTC") is None, change
    assert articles.article({**good, "tickers": None}, "BTC") is None, "no list, and the ticker is not named"
    assert articles.article({**good, "tickers": [], "text": "why BTC fell"}, "BTC") is not None
    assert articles.article({**good, "date": "Mon, 22 Nov 2021 03:04:00 -0500"}, "BTC").published_wall_ms == 1_637_568_240_000  # type: ignore[union-attr]


# --- keys ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["ok", "key", "down", "limit", "bad", "slow"])
def test_no_key_is_in_an_exception_a_log_or_a_file(yard: Yard, caplog: pytest.LogCaptureFixture, mode: str) -> None:
    caplog.set_level(logging.DEBUG)
    s = yard.services
    s.articles, s.news_mode, s.model_mode = [yard.article("Bitcoin", 1)], mode, mode
    raised: list[BaseException] = []
    article = articles.article(s.articles[0], "BTC")
    assert article is not None
    rater = Rater(MODEL_KEY, s.model_url, "gpt-4o-mini")
    most = 0.3 if mode == "slow" else 10.0
    for call in (lambda: articles.fetch(s.news_url, NEWS_KEY, "BTC", 3, most), lambda: rater.rate(article, "BTC", most), lambda: rater.reach(most)):
        try:
            call()
        except NewsError as e:
            raised.append(e)
    rater.close()
    assert len(raised) == (0 if mode == "ok" else 3)
    yard.news(limits=replace(QUICK, fetch_s=most, rate_s=most)).at(yard.wall)
    kept = b"".join(p.read_bytes() for p in yard.files.home.rglob("*") if p.is_file()).decode("utf-8", "replace")
    told = [f"{e!r} {e.__cause__!r} {e.__suppress_context__}" for e in raised]
    assert all(e.__suppress_context__ or e.__context__ is None for e in raised)
    for key in (NEWS_KEY, MODEL_KEY):
        assert key not in caplog.text and key not in kept and not any(key in t for t in told)


def test_the_database_survives_writers_that_collide(yard: Yard) -> None:
    store = yard.store()
    other = sqlite3.connect(yard.files.path(NAME), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # somebody holds the write lock for too long
    found = yard.news().at(yard.wall)
    assert found.value is None and "can't be used" in found.note
    other.execute("ROLLBACK")
    other.close()
    yard.services.articles = [yard.article("Bitcoin", 1)]
    news = yard.news()
    assert news.at(yard.wall).value is not None
    store.db.execute("BEGIN IMMEDIATE")
    yard.services.articles, yard.wall = [], yard.wall + QUICK.refresh_ms
    later = news.at(yard.wall)
    assert len(later.value["articles"]) == 1 and "can't be used" in later.note, "what was known stands for a while"
    store.db.execute("ROLLBACK")
    store.close()


# --- utils/test_connection.py ----------------------------------------------------------------


def told(yard: Yard, bots: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {r.name: r for r in report.news(yard.settings, bots or [], yard.services.news_url)}


def test_the_connection_report_says_whether_both_services_take_their_keys(yard: Yard) -> None:
    yard.services.articles = [yard.article("Bitcoin", 1)]
    rows = told(yard)
    assert [(r.name, r.ok) for r in rows.values()] == [("CryptoNews", "ok"), ("OpenAI", "ok")]
    assert "gpt-4o-mini" in rows["OpenAI"].text
    assert not yard.services.calls, "it costs nothing"
    yard.services.news_mode = yard.services.model_mode = "key"
    rows = told(yard, [{"id": 4, "strategy": "ticker_news"}])
    assert [r.ok for r in rows.values()] == ["fail", "fail"]
    assert "CRYPTONEWS_API_KEY" in rows["CryptoNews"].text and "OPENAI_API_KEY" in rows["OpenAI"].text
    yard.services.news_mode = yard.services.model_mode = "down"
    assert [r.ok for r in told(yard).values()] == ["warn", "warn"]


def test_the_connection_report_names_missing_keys_where_a_bot_wants_them(home: Path, services: Services) -> None:
    yard = Yard(home, services, CRYPTONEWS_API_KEY="", OPENAI_API_KEY="", OPENAI_BASE_URL="")
    assert {r.ok for r in told(yard).values()} == {"ok"}
    rows = told(yard, [{"id": 4, "strategy": "ticker_news"}])
    assert {r.ok for r in rows.values()} == {"warn"}
    assert "bot 4 trades on the technical signal alone" in rows["OpenAI"].text
    assert not services.fetches
