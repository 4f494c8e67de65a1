"""The kill switch: no bot buys any more, or everything is sold. It works with the yard dead and with the page dead.

    python3 utils/kill_switch.py status             is it on, and what each bot has open
    python3 utils/kill_switch.py --entries          no entries anywhere; what is open is looked after as ever
    python3 utils/kill_switch.py --flatten          besides, everything is sold at market (asks for the word FLATTEN)
    python3 utils/kill_switch.py --flatten --yes --wait 60
    python3 utils/kill_switch.py --off              lift it: bots may buy again

A flatten starts the yard where it doesn't run, has guards sell what stopped bots left open, and ends
and replaces bots that hold something and give no sign of life. It tells what became of each bot.

Exit codes: 0 done (after --flatten: everything is flat), 1 something is still open, 2 usage, settings
or the word was not typed, 3 the switch could not be written or read.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from core.bootstrap import ensure_packages

if __name__ == "__main__":
    ensure_packages(("simplejson", "dotenv"))

import argparse
import getpass
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from core import config
from core.config import Settings
from core.errors import BotyardError, SettingsError
from core.fleet import control, flattening, kill
from core.storage import Files, dumps

DONE, OPEN, USAGE, FAILED = 0, 1, 2, 3
WORD = "FLATTEN"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="kill_switch.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = made.add_mutually_exclusive_group()
    which.add_argument("--entries", action="store_true", help="no entries anywhere")
    which.add_argument("--flatten", action="store_true", help="no entries, and everything is sold at market")
    which.add_argument("--off", action="store_true", help="lift it")
    made.add_argument("status", nargs="?", choices=("status",), help="only tell how things stand (the default)")
    made.add_argument("--yes", action="store_true", help="do not ask for the word")
    made.add_argument("--wait", type=_seconds, default=90.0, metavar="SECONDS", help="after --flatten: how long to see to it that everything gets flat (90)")
    made.add_argument("--json", action="store_true", help="answer as one JSON object")
    return made


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds from 0 to 86400")
    return found


def main(argv: list[str]) -> int:
    made = parser()
    given = made.parse_args(argv)
    if given.status and (given.entries or given.flatten or given.off):
        made.error("status only tells: leave it out to pull or lift the switch")
    try:
        settings = config.load()
    except SettingsError as e:
        print("The settings are not right:", *e.problems, sep="\n  ", file=sys.stderr)
        return USAGE
    files = Files(settings.home)
    by = f"{_user()}, utils/kill_switch.py"
    try:
        if given.off:
            kill.lift(files, settings, by)
            return _say(given.json, {"switch": None}, "The kill switch is off: bots may buy again when their strategies say so.")
        if given.entries:
            answer = kill.pull(files, settings, "entries", by)
            text = f"The kill switch is on: no bot buys any more ({len(answer['woken'])} running bots were told). Lift it with --off."
            return _say(given.json, answer, text)
        if given.flatten:
            if not given.yes and not _typed():
                print(f"Nothing was done: {WORD} was not typed.", file=sys.stderr)
                return USAGE
            return flatten(files, settings, by, given.wait, given.json)
        return status(files, settings, given.json)
    except (BotyardError, OSError) as e:
        why = f"{e.filename or settings.home}: {e.strerror}" if isinstance(e, OSError) and e.strerror else str(e)
        text = f"The kill switch could not be used, and stands as it stood ({why}). Mend that (free some space, the rights), then press it again."
        if given.json:
            print(dumps({"success": False, "error": text}))
        print(text, file=sys.stderr)
        return FAILED


def flatten(files: Files, settings: Settings, by: str, wait_s: float, as_json: bool) -> int:
    keeper = control.make_supervisor(files, settings)
    say: Any = (lambda text: None) if as_json else (lambda text: print(text, flush=True))
    work = flattening.Flattening(files, settings, keeper, by, say)
    answer = kill.pull(files, settings, "flatten", by, keeper, guards=False)
    say(f"The kill switch is on: {len(answer['woken'])} running bots were told to sell.")
    try:
        outcome = flattening.finish(work, wait_s)
    except KeyboardInterrupt:
        print("Not waited for any longer. The switch stays on: bots and yard go on selling; ask again with status.", file=sys.stderr)
        return OPEN
    if as_json:
        errors = {str(c.id): c.steps[-1][1] for c in outcome.left if c.steps}
        left = [asdict(s) for s in kill.standing(files, keeper) if s.open]
        more = {"flat": outcome.flat, "seconds": round(outcome.seconds, 1), "yard": outcome.yard, "bots": [c.as_json() for c in outcome.bots]}
        print(dumps({**answer, "guards": [c.id for c in outcome.bots if c.guard], "errors": errors, "open": left, **more}, indent=1))
    else:
        say(flattening.summary(outcome) + (" Lift it with --off." if outcome.flat else " Ask again with status."))
    return DONE if outcome.flat else OPEN


def status(files: Files, settings: Settings, as_json: bool) -> int:
    found = kill.report(files, control.make_supervisor(files, settings))
    if as_json:
        print(dumps(found, indent=1))
    elif found["error"]:
        print(f"Whether the kill switch is on can't be read, so no bot buys: {found['error']}")
    else:
        switch = found["switch"]
        what = {"entries": "no entries", "flatten": "everything is sold"}
        when = datetime.fromtimestamp((switch["wall_ms"] or 0) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if switch else ""
        print(f"The kill switch is on since {when} ({what[switch['what']]}), by {switch['by']}." if switch else "The kill switch is off.")
        for bot in found["bots"]:
            print(f"{bot['id']:>5}  {bot['name']:<24.24}  {'running' if bot['running'] else 'no process':<10}  {bot['open'] or 'flat'}")
    if found["error"]:
        return FAILED
    return OPEN if found["switch"] and found["switch"]["what"] == "flatten" and found["open"] else DONE


def _typed() -> bool:
    try:
        return input(f"Everything that bots own is sold at market now. Type {WORD} to do it: ").strip() == WORD
    except (EOFError, KeyboardInterrupt):
        return False


def _say(as_json: bool, answer: dict[str, Any], text: str) -> int:
    print(dumps({**answer, "errors": {}} if "errors" in answer else answer, indent=1) if as_json else text)
    return DONE


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
