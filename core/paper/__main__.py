"""`python3 -m core.paper`: the paper exchange as a process. Owns data/paper/paper.lock and data/paper/paper.log.

Exit codes: 0 ended as asked, 2 bad settings or a taken port, 3 already running here,
4 its state can't be read.
"""

from __future__ import annotations

from core.bootstrap import ensure_packages

if __name__ == "__main__":
    ensure_packages(("simplejson", "dotenv", "aiohttp"))

import asyncio
import contextlib
import logging
import logging.handlers
import signal
import socket
import sys
import time

from core import config
from core.errors import EXIT_ALREADY_RUNNING, EXIT_BAD_ARGUMENTS, EXIT_OK, EXIT_STATE_UNREADABLE, AlreadyRunning, SettingsError, StateError
from core.paper.exchange import PaperExchange
from core.paper.server import HOST, PaperServer, listen
from core.storage import Files

log = logging.getLogger("core.paper")


def _complain(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr)


def main() -> int:
    if sys.argv[1:] in (["-h"], ["--help"]):
        print("usage: python3 -m core.paper\n\nThe paper exchange on 127.0.0.1:PAPER_PORT. It takes no arguments; its settings (PAPER_*) are in .env.")
        return EXIT_OK
    if len(sys.argv) > 1:
        _complain(f"python3 -m core.paper takes no arguments; it reads its settings (PAPER_*) from .env. Unknown: {' '.join(sys.argv[1:])}")
        return EXIT_BAD_ARGUMENTS
    try:
        settings = config.load()
    except SettingsError as e:
        _complain(*e.problems)
        return EXIT_BAD_ARGUMENTS
    lock = Files(settings.home).lock("data/paper/paper.lock")
    try:
        lock.acquire()
    except AlreadyRunning as e:
        _complain(f"a paper exchange runs here already ({settings.home}), as process {e.pid or 'unknown'}")
        return EXIT_ALREADY_RUNNING
    except OSError as e:
        _complain(f"BOTYARD_HOME: {settings.home} can't be written to ({e.strerror or e})")
        return EXIT_BAD_ARGUMENTS
    try:
        return _serve(settings)
    finally:
        lock.release()


def _serve(settings: config.Settings) -> int:
    folder = settings.home / "data" / "paper"
    _log_to(folder, settings.log_level)
    try:
        sock = listen(settings.paper_port)
        exchange = PaperExchange(settings, folder=folder, reload=config.load)
    except SettingsError as e:
        _complain(*e.problems)
        return EXIT_BAD_ARGUMENTS
    except StateError as e:
        _complain(str(e))
        return EXIT_STATE_UNREADABLE
    try:
        return asyncio.run(_run(exchange, sock))
    finally:
        exchange.close()


async def _run(exchange: PaperExchange, sock: socket.socket) -> int:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    server = PaperServer(exchange, sock)
    await server.start()
    where = f"paper exchange {exchange.installation} serves {exchange.market.source} on http://{HOST}:{server.port}"
    log.info(where)
    if not log.isEnabledFor(logging.INFO):
        print(where, flush=True)  # the one line that people wait for, however quiet the log is
    for found in exchange.differing():
        has, says = found["market"] or "empty", found["setting"] or "empty"
        log.warning("%s is %s here; the setting says %s and counts for a new market only (POST /paper/reset)", found["name"], has, says)
    await ended.wait()
    await server.stop()
    log.info("paper exchange ended")
    return EXIT_OK


def _log_to(folder: object, level: str) -> None:
    form = logging.Formatter("%(asctime)s - %(levelname)s - %(message)s", "%Y-%m-%d %H:%M:%S")
    form.converter = time.gmtime
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    with contextlib.suppress(OSError):  # without a log file it serves all the same
        handlers.append(logging.handlers.RotatingFileHandler(f"{folder}/paper.log", maxBytes=5_000_000, backupCount=2, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(form)
    logging.basicConfig(level=level, handlers=handlers)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
