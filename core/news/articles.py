"""Articles of a coin from the CryptoNews API. Touches the network, no file.

Wire (cryptonews-api.com/documentation): `GET /api/v1?tickers=BTC&items=10&page=1&token=KEY`
answers `{"data": [{"news_url", "image_url", "title", "text", "source_name", "date",
"topics", "sentiment", "type", "tickers"}], ...}`; `date` is like an e-mail's, `Mon, 22 Nov
2021 03:04:00 -0500`; `text` is a summary. An article's words are anybody's words: they are
cut to length, freed of control characters, and never more than data.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from core.errors import NewsError

URL = "https://cryptonews-api.com/api/v1"
MOST_BYTES = 4 << 20  # of one answer
TITLE, TEXT, SOURCE, HOST = 160, 1200, 40, 80  # characters that are kept
_RETRY_AFTER_S = 600.0


class _NoToken(logging.Filter):
    """urllib3 logs each request's path at DEBUG, and this API wants its key there."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(re.sub(r"(?<=token=)[^&\s\"]+", "***", a) if isinstance(a, str) else a for a in record.args)
        return True


logging.getLogger("urllib3.connectionpool").addFilter(_NoToken())


@dataclass(frozen=True, slots=True)
class Article:
    """`id` is of the article's words and address: whatever changes is another article."""

    id: str
    host: str
    title: str
    source: str
    text: str
    published_wall_ms: int


def tidy(text: object, limit: int) -> str:
    """One line without control or invisible characters, at most `limit` long."""
    kept = "".join(c if c.isprintable() else " " for c in str(text or "")[: limit * 4])
    return re.sub(r"\s+", " ", kept).strip()[:limit]


def fetch(url: str, key: str, coin: str, items: int, limit_s: float) -> list[Article]:
    """The newest articles of `coin`, as the service lists them, wrong coins left out.

    `limit_s` bounds the whole call. Raises NewsError; no message of its holds the key.
    """
    until = time.monotonic() + limit_s
    # The message of a requests exception holds the whole address with the key: only its kind is told.
    try:
        with requests.get(
            url,
            params={"tickers": coin, "items": str(items), "page": "1", "token": key},
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "botyard"},
            timeout=limit_s / 2,
            stream=True,
        ) as answer:
            status, wait = answer.status_code, answer.headers.get("Retry-After", "")
            body = b"" if status != 200 else _read(answer, until)
    except requests.Timeout:
        raise NewsError("down", "the CryptoNews API did not answer in time") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as e:
        raise NewsError("down", f"the CryptoNews API can't be reached ({type(e).__name__})") from None
    if status in (401, 403):
        raise NewsError("key", "the CryptoNews API does not accept CRYPTONEWS_API_KEY")
    if status == 429:
        raise NewsError("limit", "the CryptoNews API asks for a pause (429)", seconds(wait, _RETRY_AFTER_S))
    if status != 200:
        raise NewsError("down" if status >= 500 else "answer", f"the CryptoNews API answered with HTTP {status}")
    return parse(body, coin)


def _read(answer: requests.Response, until: float) -> bytes:
    """The body in pieces, so that neither a slow nor an endless answer can hold us."""
    body = bytearray()
    while piece := answer.raw.read1(65536, decode_content=True):  # what has arrived, not until so much has
        body += piece
        if len(body) > MOST_BYTES:
            raise NewsError("answer", f"the CryptoNews API's answer is longer than {MOST_BYTES} bytes")
        if time.monotonic() > until:
            raise NewsError("down", "the CryptoNews API did not answer in time")
    return bytes(body)


def seconds(text: str, default: float) -> float:
    """A Retry-After header in seconds, within a second and an hour."""
    try:
        return min(max(float(text), 1.0), 3600.0)
    except ValueError:
        return default


def parse(body: bytes, coin: str) -> list[Article]:
    """The articles of an answer that are of `coin`. NewsError when it is none."""
    try:
        rows = json.loads(body)["data"]
        if not isinstance(rows, list):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise NewsError("answer", "the CryptoNews API's answer has no list of articles") from None
    found = (article(row, coin) for row in rows if isinstance(row, Mapping))
    return list({a.id: a for a in found if a is not None}.values())


def article(row: Mapping[str, Any], coin: str) -> Article | None:
    """One row of the answer; None when it is of another coin, has no date, no title or no address."""
    raw = str(row.get("news_url") or "")[:2000]
    try:
        address = urlsplit(raw)
        host = (address.hostname or "").lower().removeprefix("www.")
        published = int(parsedate_to_datetime(str(row.get("date"))[:60]).timestamp() * 1000)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    title, text = tidy(row.get("title"), TITLE), tidy(row.get("text"), TEXT)
    if address.scheme not in ("http", "https") or not host or not title or published <= 0:
        return None
    if not names(row.get("tickers"), coin, f"{title} {text}"):
        return None
    identity = hashlib.sha256("\0".join((raw, title, text)).encode("utf-8", "replace")).hexdigest()[:24]
    return Article(identity, tidy(host, HOST), title, tidy(row.get("source_name"), SOURCE), text, published)


def names(tickers: object, coin: str, words: str) -> bool:
    """Whether the article is listed under the coin; one without a list must name it as a word."""
    if isinstance(tickers, Iterable) and not isinstance(tickers, (str, bytes)):
        listed = [str(t).strip().upper() for t in tickers]
        if listed:
            return coin.upper() in listed
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(coin.upper())}(?![A-Za-z0-9])", words) is not None
