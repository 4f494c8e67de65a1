"""`python3 -m core.fleet`: the yard process of BOTYARD_HOME. Owns data/yard.log.

Exit codes: 0 ended as asked, 2 arguments or settings are wrong, 3 this home has a yard already, 1 else.
"""

from __future__ import annotations

from core.bootstrap import ensure_packages

ensure_packages(("simplejson", "dotenv"))

import contextlib  # noqa: E402
import faulthandler  # noqa: E402
import logging  # noqa: E402
import logging.handlers  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402

from core import config  # noqa: E402
from core.errors import EXIT_ALREADY_RUNNING, EXIT_BAD_ARGUMENTS, EXIT_OK, AlreadyRunning, SettingsError  # noqa: E402
from core.fleet import reserve  # noqa: E402
from core.fleet.control import make_supervisor  # noqa: E402
from core.fleet.messages import make_outbox  # noqa: E402
from core.fleet.supervisor import YARD_LOCK, Supervisor  # noqa: E402
from core.fleet.yard import Yard  # noqa: E402
from core.storage import Files  # noqa: E402

YARD_LOG = "data/yard.log"


def set_up_log(files: Files, level: str) -> None:
    """The same lines into data/yard.log and onto the terminal that `screen -r yard` shows."""
    path = files.path(YARD_LOG)
    path.parent.mkdir(parents=True, exist_ok=True)
    form = logging.Formatter("%(asctime)s - %(levelname)s - %(message)s", "%Y-%m-%d %H:%M:%S")
    form.converter = time.gmtime
    root = logging.getLogger("botyard")
    root.setLevel(level)
    for handler in (logging.StreamHandler(sys.stdout), logging.handlers.RotatingFileHandler(path, maxBytes=2_000_000, backupCount=1)):
        handler.setFormatter(form)
        root.addHandler(handler)


def run(files: Files, settings: config.Settings, supervisor: Supervisor, **options: object) -> int:
    """Be the yard until a signal comes; the exit code."""
    lock = files.lock(YARD_LOCK)
    stop = threading.Event()
    # Before the lock: whoever sees it held may send a signal at once.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    try:
        lock.acquire()
    except AlreadyRunning as e:
        print(f"The yard of {files.home} runs already (process {e.pid}).", file=sys.stderr)
        return EXIT_ALREADY_RUNNING
    set_up_log(files, settings.log_level)
    log = logging.getLogger("botyard.yard")
    log.info("the yard of %s begins", files.home)
    reserve.keep(files)
    options.setdefault("outbox", make_outbox(files, settings, supervisor))
    options.setdefault("keeper", True)
    Yard(files, settings, supervisor, **options).run(stop)  # type: ignore[arg-type]
    log.info("the yard ends; bots and paper exchange go on")
    lock.release()
    return EXIT_OK


def main(argv: list[str]) -> int:
    if argv:
        asked = argv[0] in ("-h", "--help")
        text = "usage: python3 -m core.fleet\n\nThe yard: starts, adopts and restarts the bots of BOTYARD_HOME. No arguments; its settings are in .env."
        print(text if asked else f"{text}\n\nUnknown: {' '.join(argv)}", file=sys.stdout if asked else sys.stderr)
        return EXIT_OK if asked else EXIT_BAD_ARGUMENTS
    with contextlib.suppress(OSError, ValueError):
        faulthandler.enable()
    try:
        settings = config.load()
    except SettingsError as e:
        print(f"The yard can't start, settings are not right:\n{e}", file=sys.stderr)
        return EXIT_BAD_ARGUMENTS
    files = Files(settings.home)
    return run(files, settings, make_supervisor(files, settings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
