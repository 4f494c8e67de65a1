"""What a yard uses beside its exchange, tried: the ways to send messages, the news and the model that rates them.

Sends no message and costs nothing. Owns no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from core.config import Settings
from core.errors import NewsError
from core.fleet.checks import Check
from core.news import articles
from core.news.sentiment import Rater
from core.notify import channels, rules
from core.storage import Files


def messages(settings: Settings, make: Callable[[Settings], Any] | None = None) -> Iterator[Check]:
    """SMS and Telegram: what is missing, and whether the keys are accepted. Sends nothing."""
    built: Any = None
    for kind in channels.KNOWN:
        missing = kind.ready(settings)
        if missing and kind.begun(settings):
            yield Check(kind.name, "warn", f"only half set up: {', '.join(missing)} missing", "Put it into .env, or empty the others.")
        elif missing:
            yield Check(kind.name, "ok", f"not set up; it would need {', '.join(missing)}")
        else:
            built = built if built is not None else (make or channels.build)(settings)
            outcome = built[kind.name].probe()
            if outcome.result == "sent":
                paper = "" if settings.notify_paper else "; paper bots are told of only with NOTIFY_PAPER=true"
                yield Check(kind.name, "ok", f"the keys are accepted (nothing was sent){paper}")
            else:
                remedy = f"Check {', '.join(kind.needs[:-1])} in .env." if outcome.result in ("access", "refused") else "Check the network; try again later."
                yield Check(kind.name, "fail" if outcome.result in ("access", "refused") else "warn", outcome.why, remedy)
    wrong = rules.read_or_default(Files(settings.home))[1]
    if wrong:
        yield Check("Messages", "warn", f"the default rules hold: {wrong}")


def news(settings: Settings, bots: Sequence[Mapping[str, Any]], url: str = "") -> Iterator[Check]:
    """The two services of `ticker_news`. Asks the one for one article, the other for its model's name: that costs nothing."""
    wanted = [str(b.get("id")) for b in bots if b.get("strategy") == "ticker_news"]
    limit_s = float(min(settings.http_timeout, Decimal(10)))

    def unset(check: str, name: str) -> Check:
        if wanted:
            return Check(check, "warn", f"{name} is not set: bot {', '.join(wanted)} trades on the technical signal alone", f"Put {name} into .env.")
        return Check(check, "ok", f"not set up ({name}); only the strategy ticker_news uses it")

    def service(check: str, ask: Callable[[], str]) -> Check:
        try:
            return Check(check, "ok", ask())
        except NewsError as e:
            remedy = "Correct it in .env." if e.kind == "key" else "Bots trade on the technical signal alone until it works again."
            return Check(check, "fail" if e.kind == "key" and wanted else "warn", str(e), remedy)

    def ask_news() -> str:
        found = articles.fetch(url or articles.URL, settings.cryptonews_api_key.reveal(), "BTC", 1, limit_s)
        return f"the key works; {len(found)} article of BTC asked for and received" if found else "the key works; it has no article of BTC just now"

    def ask_model() -> str:
        rater = Rater(settings.openai_api_key.reveal(), settings.openai_base_url, settings.openai_model)
        try:
            rater.reach(limit_s)
        finally:
            rater.close()
        return f"{settings.openai_base_url or 'OpenAI'} has the model {settings.openai_model}"

    yield service("CryptoNews", ask_news) if settings.cryptonews_api_key else unset("CryptoNews", "CRYPTONEWS_API_KEY")
    model = settings.openai_api_key or settings.openai_base_url
    yield service("OpenAI", ask_model) if model else unset("OpenAI", "OPENAI_API_KEY")
