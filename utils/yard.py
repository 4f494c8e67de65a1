#!/usr/bin/env python3
"""The yard for people without a browser: list, start, stop, restart, follow and close bots, see to one by hand, stop all for maintenance."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from core.bootstrap import ensure_packages, reader_gone

ensure_packages(("simplejson", "dotenv"))

import argparse
import getpass
import time
import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from core import commandline as words
from core import config
from core.bot.commands import CHOICES, MOST_SKIPPED
from core.clock import wall_ms
from core.commandline import CODES
from core.errors import Conflict, InputError
from core.fleet import control, maintenance, preflight, records
from core.fleet.checks import MARKS, Check
from core.fleet.health import health, stuck_bound_ms
from core.fleet.records import number
from core.fleet.registry import Registry
from core.model import plain
from core.storage import Files, dumps, installation

OK, FAILED = words.DONE, words.FOUND
UNSAID: Any = object()  # not given, where null means something


def parser() -> argparse.ArgumentParser:
    main = words.Parser(prog="yard.py", description=__doc__, epilog=CODES)
    common = words.Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="answer as one JSON object")
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", parents=[common], help="every bot and how it fares", epilog=CODES)
    start = commands.add_parser("start", parents=[common], help="start a bot, or with --all every bot; the yard with it, where it isn't running", epilog=CODES)
    which = start.add_mutually_exclusive_group(required=True)
    which.add_argument("bot", type=words.bot_id, nargs="?", metavar="N", help="the bot's number")
    which.add_argument("--all", action="store_true", help="every bot of the list, one after the other, those with a position first")
    for name, text in (
        ("restart", "stop a bot and start it again"),
        ("close", "have a bot sell its position now; a stopped one is started for that alone"),
    ):
        one = commands.add_parser(name, parents=[common], help=text, epilog=CODES)
        one.add_argument("bot", type=words.bot_id, metavar="N", help="the bot's number")
    _by_hand(commands, common)
    live = commands.add_parser("live", parents=[common], help="let a bot trade with real money, once every check has passed", epilog=CODES)
    live.add_argument("bot", type=words.bot_id, metavar="N", help="the bot's number")
    live.add_argument("--confirm", metavar="WORD", help="LIVE, for scripts; without it the word is asked for")
    stop = commands.add_parser("stop", parents=[common], help="stop a bot, or with --all every bot, the yard and the paper exchange", epilog=CODES)
    which = stop.add_mutually_exclusive_group(required=True)
    which.add_argument("bot", type=words.bot_id, nargs="?", metavar="N", help="the bot's number")
    which.add_argument("--all", action="store_true", help="every bot, then the yard, then the paper exchange")
    rest = commands.add_parser("maintenance", parents=[common], help="stop every bot and let none start, until it is turned off", epilog=CODES)
    rest.add_argument("mode", choices=("on", "off", "status"), help="on: all bots stop; off: those that are wanted start again")
    rest.add_argument("--note", default="", metavar="TEXT", help="what it is for; shown wherever a start is refused")
    logs = commands.add_parser("logs", parents=[common], help="the end of a bot's log", epilog=CODES)
    logs.add_argument("bot", type=words.bot_id, metavar="N", help="the bot's number")
    logs.add_argument("-f", "--follow", action="store_true", help="go on showing new lines until Ctrl-C")
    logs.add_argument("-n", "--lines", type=_lines, default=50, metavar="COUNT", help="how many lines (50)")
    return main


def _by_hand(commands: Any, common: argparse.ArgumentParser) -> None:
    """The verbs that a running bot follows and answers (core/bot/commands.py)."""

    def one(name: str, text: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = commands.add_parser(name, parents=[common], help=text, epilog=CODES)
        made.add_argument("bot", type=words.bot_id, metavar="N", help="the bot's number")
        return made

    levels = one("levels", "move the stop loss or the target of its open position")
    levels.add_argument("--stop-loss", type=_number, metavar="PRICE", help="the new stop loss, a price")
    levels.add_argument("--take-profit", type=_target, default=UNSAID, metavar="PRICE", help="the new target, a price; none turns it off")
    skip = one("skip", "leave out its next entry")
    skip.add_argument("--entries", type=_entries, default=1, metavar="COUNT", help="how many of the next entries (1); 0 takes it back")
    adopt = one("adopt", "bring coins of the account that belong to no bot under it")
    adopt.add_argument("quantity", type=_number, metavar="QUANTITY", help="how many coins")
    adopt.add_argument("--price", type=_number, metavar="PRICE", help="what one of them cost (the price now)")
    mend = one("mend", "coins of it are missing: put its books right; also while it is stopped")
    mend.add_argument("choice", choices=CHOICES, help="book: what happened to them; close: besides, its position ends and what is left is yours again")


def _number(text: str) -> Decimal:
    try:
        found = number(text)
    except ValueError:
        found = Decimal(0)
    if found <= 0:
        raise argparse.ArgumentTypeError(f"{text[:30]!r} must be a number above 0")
    return found


def _target(text: str) -> Decimal | None:
    return None if text == "none" else _number(text)


def _entries(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text[:8]) > MOST_SKIPPED:
        raise argparse.ArgumentTypeError(f"{text[:30]!r} must be a whole number from 0 to {MOST_SKIPPED}")
    return int(text)


def _lines(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:8]) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text[:30]!r} must be a whole number from 1 to 100000")
    return int(text)


def rows(files: Files, settings: config.Settings) -> list[dict[str, Any]]:
    """What `list` shows, one object a bot. StateError when the list can't be trusted."""
    keeper, yard, now = control.make_supervisor(files, settings), control.yard_status(files), wall_ms()
    bots, running, found = Registry(files).bots(), keeper.running(), []
    if keeper.unit_pid("yard") is None:
        yard = None  # its notes are of another day
    for record in bots:
        told = keeper.read_state(record["id"])
        pid, status, position = running.get(record["id"]), told["status"] or {}, told["position"] or {}
        fares = health(record, told["status"], pid, now, yard, stuck_bound_ms(settings))
        beat = status.get("heartbeat_wall_ms")
        found.append(
            {
                **{k: record[k] for k in ("id", "name", "symbol", "strategy", "trade_amount", "mode")},
                "wanted": record["status"],
                **fares,
                "pid": pid,
                "position": position.get("position"),
                "quantity": position.get("quantity"),
                "entry_price": position.get("entry_price"),
                "profit": (position.get("totals") or {}).get("profit"),
                "trades": (position.get("totals") or {}).get("trades"),
                "signal": (status.get("last_check") or {}).get("signal"),
                "heartbeat_age_s": (now - beat) // 1000 if isinstance(beat, int) and pid is not None else None,
                "error": told["error"],
            }
        )
    return found


def table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell on a terminal, where an emoji takes two places."""
    lines = [list(header), *(list(r) for r in body)]
    widths = [max(_width(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join("  ".join(cell + " " * (w - _width(cell)) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _width(text: str) -> int:
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    text = plain(value) if isinstance(value, Decimal) else str(value)
    return "".join(c if c.isprintable() else " " for c in text)


def show_list(files: Files, settings: config.Settings, as_json: bool) -> int:
    found = rows(files, settings)
    keeper = control.make_supervisor(files, settings)
    yard, paper = keeper.unit_pid("yard"), keeper.unit_pid("paper")
    if as_json:
        print(dumps({"bots": found, "yard_pid": yard, "paper_pid": paper}))
        return OK
    body = []
    for r in found:
        held = f"{r['position']} {_cell(r['quantity'])} @ {_cell(r['entry_price'])}" if r["position"] else "-"
        fares = r["status"] + (" (guarded)" if r["guarded"] else "")
        body.append([_cell(x) for x in (r["id"], r["name"], r["symbol"], r["strategy"], r["mode"], fares, held, r["profit"], r["trades"], r["signal"])])
    print(table(("ID", "NAME", "SYMBOL", "STRATEGY", "MODE", "STATUS", "POSITION", "PROFIT", "TRADES", "SIGNAL"), body))
    for r in found:
        for text in filter(None, (r["why"], r["error"])):
            print(f"  bot {r['id']}: {_cell(text)}")
    print(f"yard: {f'process {yard}' if yard else 'not running'} · paper exchange: {f'process {paper}' if paper else 'not running'}")
    return OK


def show_log(files: Files, settings: config.Settings, arguments: argparse.Namespace) -> int:
    keeper = control.make_supervisor(files, settings)
    Registry(files).bot(arguments.bot)
    lines, cursor = keeper.read_log(arguments.bot, lines=arguments.lines)
    if arguments.json and not arguments.follow:
        print(dumps({"lines": lines, "cursor": cursor}))
        return OK
    try:
        while True:
            for line in lines:
                print(_cell(line), flush=True)
            if not arguments.follow or reader_gone():
                return OK
            time.sleep(0.5)
            lines, cursor = keeper.read_log(arguments.bot, cursor)
    except (KeyboardInterrupt, BrokenPipeError):
        return OK  # that is how following ends


def act(files: Files, settings: config.Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    """Carry out one of the commands that change something; what to say of it."""
    by, bot = f"yard.py ({_user()})", arguments.bot
    if arguments.command == "start":
        pid = control.start_bot(files, settings, bot, by)
        return {"bot": bot, "pid": pid, "said": f"bot {bot} runs (process {pid}); attach with: screen -r {settings.session_prefix}bot_{bot}"}
    if arguments.command == "restart":
        pid = control.restart_bot(files, settings, bot, by)
        return {"bot": bot, "pid": pid, "said": f"bot {bot} runs anew (process {pid})"}
    if arguments.command == "close":
        control.close_position(files, settings, bot, by)
        return {"bot": bot, "said": f"bot {bot} was told to close its position; follow it with: utils/yard.py logs {bot} -f"}
    if arguments.command in ("levels", "skip", "adopt", "mend"):
        return tell_bot(files, settings, arguments, by)
    if arguments.command == "live":
        return go_live(files, settings, arguments, by)
    done = control.stop_bot(files, settings, bot, by)
    return {"bot": bot, "warning": done["warning"], "said": f"bot {bot} is stopped" + (f"; {done['warning']}" if done["warning"] else "")}


def go_live(files: Files, settings: config.Settings, arguments: argparse.Namespace, by: str) -> dict[str, Any]:
    """Show what was looked at, have the word typed, and let the bot go live. InputError where a check fails."""
    ensure_packages()  # only this asks the exchange itself
    record, given = Registry(files).bot(arguments.bot), arguments.confirm
    if given is not None or arguments.json:
        checks = control.go_live(files, settings, record["id"], given or "", by)
    else:
        if not records.going_live({"mode": "live", "confirm": records.WORD}, record):
            raise Conflict(f"bot {record['id']} is live already")
        checks = preflight.run(settings, files, record, None, Registry(files).bots())
        print("\n".join(_shown(c) for c in checks), flush=True)
        preflight.insist(checks)
        if not sys.stdin.isatty():
            raise InputError(f"{records.UNCONFIRMED}; nobody can type here: give --confirm {records.WORD}")
        amount = f"{plain(record['trade_amount'])} of its quote asset"
        try:
            typed = input(f"{_cell(record['name'])} will buy {record['symbol']} with REAL MONEY, {amount} at first. Type {records.WORD} to go on: ")
        except EOFError:
            typed = ""
        control.go_live(files, settings, record["id"], typed.strip(), by)
    text = f"bot {record['id']} trades with real money from its next start on: utils/yard.py restart {record['id']}"
    if given is not None and not arguments.json:
        text = "\n".join([*map(_shown, checks), text])
    return {"bot": record["id"], **preflight.as_json(checks), "said": text}


def _shown(check: Check) -> str:
    return f"{MARKS[check.ok]} {check.name:<15} {_cell(check.text)}" + (f"\n   {'':<15} → {_cell(check.remedy)}" if check.remedy else "")


def tell_bot(files: Files, settings: config.Settings, arguments: argparse.Namespace, by: str) -> dict[str, Any]:
    """Have a bot follow a command and wait for its word. Conflict where it refuses or doesn't run."""
    command, bot = arguments.command, arguments.bot
    data: dict[str, Any] = {}
    if command == "levels":
        data = {"stop_loss": arguments.stop_loss} if arguments.stop_loss is not None else {}
        data |= {"take_profit": arguments.take_profit} if arguments.take_profit is not UNSAID else {}
    elif command == "skip":
        data = {"entries": arguments.entries}
    elif command == "adopt":
        data = {"quantity": arguments.quantity, "price": arguments.price}
    else:
        data = {"choice": arguments.choice}
        if control.make_supervisor(files, settings).pid(bot) is None:
            return {"bot": bot, "outcome": "done", "said": mend_stopped(files, settings, bot, arguments.choice, by)}
    told = control.command_bot(files, settings, bot, command, by, data)
    if told["outcome"] == "refused":
        raise Conflict(f"bot {bot} did not do it: {told['text']}")
    return {"bot": bot, "outcome": told["outcome"], "said": told["text"]}


def mend_stopped(files: Files, settings: config.Settings, bot: int, choice: str, by: str) -> str:
    ensure_packages()  # only this asks the exchange itself
    from core.account import access
    from core.fleet import books

    exchange = access.client(settings, Registry(files).bot(bot)["mode"])
    exchange.connect(installation(files))
    return books.mend_stopped(files, exchange, bot, choice, by)


def start_everything(files: Files, settings: config.Settings, as_json: bool) -> int:
    """Start every bot of the list that doesn't run; 1 where one could not be started."""
    say = None if as_json else lambda text: print(_cell(text), flush=True)
    done = control.start_all(files, settings, f"yard.py ({_user()})", progress=say)
    failed = [i for i, b in done["bots"].items() if b["error"]]
    if as_json:
        print(dumps({"success": not failed, **done}))
    elif not done["bots"]:
        print("there is no bot to start: make one on the page")
    elif failed:
        print(f"yard.py: {len(failed)} of {len(done['bots'])} bots could not be started: {', '.join(map(str, failed))}", file=sys.stderr)
    return FAILED if failed else OK


def stop_everything(files: Files, settings: config.Settings, as_json: bool) -> int:
    done = control.stop_all(files, settings, f"yard.py ({_user()})", everything=True, progress=None if as_json else lambda text: print(text, flush=True))
    units = [done[u] for u in ("yard", "paper") if done[u] is not True]
    failed = [text for text in (done["error"], *(b["error"] for b in done["bots"].values()), *units) if text]
    if as_json:
        print(dumps({"success": not failed, **done}))
    elif done["error"]:
        print(done["error"], file=sys.stderr)
    return FAILED if failed else OK


def see_to_maintenance(files: Files, settings: config.Settings, arguments: argparse.Namespace) -> int:
    """Turn maintenance mode on or off, or tell how it stands; 1 where a bot could not be stopped."""
    if arguments.mode == "status":
        mode = maintenance.read(files)
        done: dict[str, Any] = {"maintenance": mode.as_json(), "bots": {}, "unwatched": maintenance.unwatched(files) if mode.on else [], "error": mode.problem}
    else:
        say = None if arguments.json else lambda text: print(_cell(text), flush=True)
        by = f"yard.py ({_user()})"
        done = control.set_maintenance(files, settings, arguments.mode == "on", by, arguments.note, progress=say)
    failed = bool(done["error"]) or any(b["error"] for b in done["bots"].values())
    if arguments.json:
        print(dumps({"success": not failed, **done}))
        return FAILED if failed else OK
    print(_cell(done["maintenance"]["why"]) or "maintenance mode is off")
    for one in done["unwatched"]:
        print(f"  bot {one['bot']} ({_cell(one['name'])}) is unwatched: {_cell(one['text'])}")
    if done["error"] and arguments.mode != "status":
        print(f"yard.py: {done['error']}", file=sys.stderr)
    return FAILED if failed else OK


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a passwd entry
        return f"uid {os.getuid()}"


def main(argv: list[str]) -> int:
    arguments = parser().parse_args(argv)  # exits with 2 itself
    return words.guarded("yard.py", arguments.json, lambda: work(arguments))


def work(arguments: argparse.Namespace) -> int:
    settings = config.load()
    files = Files(settings.home)
    if arguments.command == "list":
        return show_list(files, settings, arguments.json)
    if arguments.command == "logs":
        return show_log(files, settings, arguments)
    if arguments.command == "maintenance":
        return see_to_maintenance(files, settings, arguments)
    if arguments.command == "stop" and arguments.all:
        return stop_everything(files, settings, arguments.json)
    if arguments.command == "start" and arguments.all:
        return start_everything(files, settings, arguments.json)
    done = act(files, settings, arguments)
    said = done.pop("said")
    if arguments.command in ("levels", "skip", "adopt", "mend"):
        done["text"] = said
    print(dumps({"success": True, **done}) if arguments.json else said)
    return OK


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = FAILED
    except BrokenPipeError:  # `| head` has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = OK
    sys.exit(code)
