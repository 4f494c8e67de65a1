"""The paper exchange on a loopback socket: aiohttp around `PaperExchange.handle`.

The core is synchronous and quick, so it runs on the event loop itself. What only a socket
can do is done here: cutting the line, holding an answer back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket

from aiohttp import web

from core.errors import SettingsError
from core.paper.exchange import PaperExchange
from core.paper.wire import Request, compact

log = logging.getLogger(__name__)
TICK_S = 0.25
HOST = "127.0.0.1"


def listen(port: int) -> socket.socket:
    """A socket that listens on 127.0.0.1 (`port` 0: a free one); SettingsError when the port is taken.

    Taken before a market is opened, so that a process that can't serve has begun nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port of a moment ago may be taken again at once
    try:
        sock.bind((HOST, port))
        sock.listen(256)
    except OSError as e:
        sock.close()
        raise SettingsError(f"PAPER_PORT: {HOST}:{port} can't be listened on ({os.strerror(e.errno or 0)}); end what uses it, or set another port") from e
    return sock


class PaperServer:
    """Serves one exchange on a listening socket (`listen`)."""

    def __init__(self, exchange: PaperExchange, sock: socket.socket):
        self.exchange, self._sock = exchange, sock
        self.port = int(sock.getsockname()[1])
        self._runner: web.ServerRunner | None = None
        self._ticker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None), handle_signals=False, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.SockSite(self._runner, self._sock).start()
        self._ticker = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticker
        if self._runner is not None:
            await self._runner.cleanup()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self.exchange.tick()
            except Exception:  # the timer must go on; requests will say what is wrong
                log.exception("resting orders could not be looked at")

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        try:
            body = await request.read() if request.can_read_body else b""
        except web.HTTPRequestEntityTooLarge:
            return web.Response(status=413, body=compact({"code": -1000, "msg": "The body is too large."}))
        except web.RequestPayloadError:
            refusal = web.Response(status=400, body=compact({"code": -1000, "msg": "The body can't be read as its headers announce it."}))
            refusal.force_close()  # aiohttp closes here; unsaid, the client's next request would meet a dead line
            return refusal
        answer = self.exchange.handle(Request(request.method, path, query, body, {k.lower(): v for k, v in request.headers.items()}, request.remote or HOST))
        if answer.hold_s:
            await asyncio.sleep(answer.hold_s)
        if answer.cut:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()  # goes nowhere: the line is cut
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
