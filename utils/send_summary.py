#!/usr/bin/env python3
"""`python3 utils/send_summary.py`: send a summary of the yard now, for a cron job or by hand.

It goes the way of every message: into the outbox, from which the yard sends it. Where no
yard runs, this command sends it itself, together with whatever else is waiting there.

Exit codes: 0 sent, or handed to the yard, or there is nothing to tell; 2 wrong arguments or
settings, also where no way to send is set up; 3 it could not be sent now (the message says
why); 130 ended by Ctrl-C.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from core.bootstrap import ensure_packages

if __name__ == "__main__":
    ensure_packages(("simplejson", "dotenv", "twilio", "requests"))

import argparse
import time
from collections.abc import Sequence
from typing import Any

from core import commandline as words
from core import config
from core.config import Settings
from core.errors import AlreadyRunning, BotyardError, InputError
from core.fleet import messages
from core.fleet.control import make_supervisor
from core.notify import channels
from core.notify.outbox import Outbox
from core.notify.sms_text import segments
from core.storage import Files, dumps

WAIT_S = 60.0  # for a service that doesn't answer; what is not known by then, the yard looks up
NOTHING = "There is no bot to tell of: paper bots are told of only with NOTIFY_PAPER=true in .env."


def send(files: Files, settings: Settings, wait_s: float = WAIT_S, outbox: Outbox | None = None) -> dict[str, Any]:
    """Post a summary and see to its sending: `{"text", "state": "nothing"|"queued"|"sent", ...}`. BotyardError, OSError."""
    supervisor = make_supervisor(files, settings)
    ready = channels.names(settings)
    if not ready:
        raise InputError("no way to send a message is set up: python3 utils/test_connection.py says what to put into .env")
    told, once = messages.post_now(files, settings, supervisor)
    result = {"text": told.text, "channels": ready}
    if not told.bots:
        return {**result, "state": "nothing", "said": NOTHING}
    handed = {**result, "state": "queued", "said": "The yard sends it."}
    if messages.yard_runs(files):
        return handed
    own = outbox or messages.make_outbox(files, settings, supervisor, scheduled=False)
    deadline, wrong = time.monotonic() + wait_s, "it was not sent in time"
    try:
        while True:
            own.turn()
            assert own.store is not None
            rows = own.store.by_key(once)
            if rows and any(m.state == "sent" for m in rows):
                return {**result, "state": "sent", "said": f"Sent by {', '.join(m.channel for m in rows if m.state == 'sent')}."}
            wrong = "; ".join(f"{m.channel}: {m.why or m.state}" for m in rows) or wrong
            if time.monotonic() >= deadline or (rows and all(m.state not in ("queued", "sending", "unknown") for m in rows)):
                raise BotyardError(f"The summary could not be sent: {wrong}")
            time.sleep(0.5)
    except AlreadyRunning:
        return handed  # a yard has started in the meantime
    finally:
        own.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = words.Parser(prog="send_summary.py", description="Sends a summary of the yard now.", epilog=words.CODES)
    parser.add_argument("--json", action="store_true", help="answer as one JSON object")
    parser.add_argument("--dry-run", action="store_true", help="print the text and send nothing")
    given = parser.parse_args(arguments)
    return words.guarded("send_summary.py", given.json, lambda: work(given))


def work(given: argparse.Namespace) -> int:
    settings = config.load()
    files = Files(settings.home)
    try:
        if given.dry_run:
            told = messages.summary_now(files, settings, make_supervisor(files, settings))
            done: dict[str, Any] = {"text": told.text, "state": "dry_run" if told.bots else "nothing", "said": told.text or NOTHING}
        else:
            done = send(files, settings)
    except (BotyardError, OSError) as e:
        return words.fail("send_summary.py", e, given.json, secrets=settings.secrets())
    said = done.pop("said")
    if given.json:
        print(dumps({"success": True, **done, "segments": segments(done["text"] + messages.TAIL) if done["text"] else 0}))
    else:
        print(said)
    return words.DONE


if __name__ == "__main__":
    sys.exit(main())
