"""A local server that speaks the CryptoNews API and OpenAI's, well or badly, as a test says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

NEWS_KEY = "news-key-7f3a9c51e2"
MODEL_KEY = "sk-model-key-0b6d2e88aa"
CALM = '{"score": 0.1, "relevance": 0.9, "reason": "A quiet report about the coin."}'


def row(title: str, text: str = "", *, wall_ms: int, n: int = 0, host: str = "site.example", tickers: Any = ("BTC",), **fields: Any) -> dict[str, Any]:
    """An article as the CryptoNews API lists it; `n` makes its address its own."""
    date = format_datetime(datetime.fromtimestamp(wall_ms / 1000, UTC))
    made: dict[str, Any] = {"news_url": f"https://{host}/a/{n}", "image_url": "", "title": title, "text": text, "source_name": "Site", "date": date}
    made |= {"topics": [], "sentiment": "Neutral", "type": "Article", "tickers": tickers}
    return made | fields


class Services:
    """`news_mode` and `model_mode`: ok, down, limit, slow, drip, bad, key, empty, huge. `answer` makes the model's text."""

    def __init__(self) -> None:
        self.articles: list[dict[str, Any]] = []
        self.news_mode = self.model_mode = "ok"
        self.answer: Callable[[str, dict[str, Any]], str | None] = lambda instructions, article: CALM
        self.usage: dict[str, int] | None = {"prompt_tokens": 400, "completion_tokens": 40, "total_tokens": 440}
        self.fetches: list[dict[str, list[str]]] = []
        self.calls: list[dict[str, Any]] = []
        self.let_go = threading.Event()  # what hangs is let go at the end
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                if parts.path == "/api/v1":
                    query = parse_qs(parts.query)
                    outer.fetches.append(query)
                    outer._send(self, outer.news_mode, {"data": outer.articles, "total_pages": 1}, query.get("token") == [NEWS_KEY])
                else:
                    outer._send(self, outer.model_mode, {"id": parts.path.rsplit("/", 1)[1], "object": "model"}, outer._right(self))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.calls.append(body)
                instructions, user = (m["content"] for m in body["messages"])
                text = outer.answer(instructions, json.loads(user)["article"])
                made = {"id": "c1", "object": "chat.completion", "created": 1, "model": body["model"], "usage": outer.usage}
                made["choices"] = [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}]
                outer._send(self, outer.model_mode, made, outer._right(self))

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        base = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.news_url, self.model_url = base + "/api/v1", base + "/v1"

    @staticmethod
    def _right(request: BaseHTTPRequestHandler) -> bool:
        return request.headers.get("Authorization") == f"Bearer {MODEL_KEY}"

    def _send(self, request: BaseHTTPRequestHandler, mode: str, value: Any, key_is_right: bool) -> None:
        status, headers, body = 200, {}, json.dumps(value).encode()
        if mode == "key" or not key_is_right:
            status, body = 401, json.dumps({"error": {"message": f"Incorrect API key provided: {MODEL_KEY} {NEWS_KEY}"}}).encode()
        elif mode == "down":
            status, body = 503, b"<html>down</html>"
        elif mode == "limit":
            status, body, headers = 429, b'{"error": {"message": "slow down"}}', {"Retry-After": "120"}
        elif mode == "bad":
            body = b'{"data": {"x": [}, "choices": ['
        elif mode == "empty":
            body = b"{}"
        elif mode == "huge":
            body = b'{"data": "' + b"x" * (5 << 20) + b'"}'
        try:
            if mode == "slow":
                self.let_go.wait(20)
            request.send_response(status)
            request.send_header("Content-Type", "application/json")
            request.send_header("Content-Length", str(len(body)))
            for name, text in headers.items():
                request.send_header(name, text)
            request.end_headers()
            if mode == "drip":
                for i in range(len(body)):
                    if self.let_go.is_set():
                        return
                    request.wfile.write(body[i : i + 1])
                    request.wfile.flush()
                    time.sleep(0.02)
            else:
                request.wfile.write(body)
        except OSError:
            pass  # the client has hung up, as it should

    def close(self) -> None:
        self.let_go.set()
        self.server.shutdown()
        self.server.server_close()
