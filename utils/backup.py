"""A backup of BOTYARD_HOME, also while bots trade; its check; its restore into an empty home.

    python3 utils/backup.py create                    into data/backups of this home
    python3 utils/backup.py create FILE|FOLDER        somewhere else
        --with-secrets      .env with its keys too (keep the file as you keep your keys)
        --without-paper     leave the paper exchange out
        --with-history      candles too (they can be fetched again)
        --keep N            only the newest N of this yard's backups stay in that folder
    python3 utils/backup.py check FILE                is it whole, and what is in it
    python3 utils/backup.py restore FILE --home FOLDER [--dry-run]
    --json for scripts, --quiet for no progress

Exit codes: 0 done, 1 the backup is damaged, cut, foreign or newer than this Botyard, 2 wrong arguments
or settings (also a file that is not there), 3 not now (the home is not empty, the target is there already,
the disk, a database is held), 130 ended by Ctrl-C.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from core.bootstrap import ensure_packages

if __name__ == "__main__":
    ensure_packages()

import argparse
from pathlib import Path
from typing import Any

from core import commandline as words
from core import config
from core.clock import utc_text
from core.errors import Conflict, InputError, NotFound
from core.fleet import backup, restore
from core.storage import Files, dumps


def arguments_of(argv: list[str]) -> argparse.Namespace:
    about = "Backs a yard up while its bots trade, and restores it into an empty home."
    parser = words.Parser(prog="backup.py", description=about, epilog=words.CODES)
    commands = parser.add_subparsers(dest="command", required=True, metavar="create|check|restore")
    create = commands.add_parser("create", help="take a backup of BOTYARD_HOME")
    create.add_argument("target", nargs="?", type=Path, metavar="FILE|FOLDER", help="where to (data/backups of the home)")
    create.add_argument("--with-secrets", action="store_true", help=".env with its keys too")
    create.add_argument("--without-paper", action="store_true", help="leave the paper exchange out")
    create.add_argument("--with-history", action="store_true", help="candles too (they can be fetched again)")
    create.add_argument("--keep", type=_count, metavar="N", help="only the newest N backups of this yard stay in that folder")
    check = commands.add_parser("check", help="is a backup whole, and what is in it")
    check.add_argument("file", type=Path, metavar="FILE")
    back = commands.add_parser("restore", help="into an empty home")
    back.add_argument("file", type=Path, metavar="FILE")
    back.add_argument("--home", type=Path, required=True, metavar="FOLDER", help="an empty folder, or one that is not there yet")
    back.add_argument("--dry-run", action="store_true", help="look through the backup, write nothing")
    for command in (create, check, back):
        command.add_argument("--json", action="store_true", help="for scripts")
        command.add_argument("--quiet", action="store_true", help="no progress")
    given: argparse.Namespace = parser.parse_args(argv)
    return given


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 9999:
        raise argparse.ArgumentTypeError(f"{text[:20]!r} must be a whole number from 1 to 9999")
    return int(text)


def main(argv: list[str]) -> int:
    arguments = arguments_of(argv)
    return words.guarded("backup.py", arguments.json, lambda: work(arguments))


def work(arguments: argparse.Namespace) -> int:
    def progress(text: str) -> None:
        if not arguments.quiet and not arguments.json:
            print(f"  {text} ...", file=sys.stderr)

    try:
        if arguments.command == "create":
            files = Files(config.load().home)
            switches = {"secrets": arguments.with_secrets, "paper": not arguments.without_paper, "history": arguments.with_history}
            made = backup.create(files, arguments.target, **switches, keep=arguments.keep, progress=progress)
            answer: dict[str, Any] = made.row()
            tell = tell_created
        elif arguments.command == "check":
            manifest = restore.look_through(arguments.file)
            answer = {"file": str(arguments.file), **{k: manifest[k] for k in ("wall_ms", "installation", "venues", "with", "bots", "files")}}
            tell = tell_checked
        else:
            answer, tell = restore.restore(arguments.file, arguments.home, dry_run=arguments.dry_run, progress=progress), tell_restored
    except (Conflict, NotFound):
        raise
    except InputError as e:
        if arguments.command == "create":
            raise
        return words.fail("backup.py", e, arguments.json, words.FOUND)  # the backup itself is not right
    print(dumps(answer, indent=1)) if arguments.json else tell(answer)
    return words.DONE


def tell_created(answer: dict[str, Any]) -> None:
    print(f"Backup of {len(answer['bots'])} bot(s), {answer['files']} files, {answer['bytes']} bytes: {answer['file']}")
    print("It holds .env with your keys: keep it as you keep them." if answer["with"]["secrets"] else "It holds no keys: .env is left out (--with-secrets).")
    if not answer["with"]["paper"]:
        print("The paper exchange is not in it.")
    for word in answer["words"]:
        print(f"Note: {word}.")
    for old in answer["removed"]:
        print(f"Removed: {old}")


def tell_checked(answer: dict[str, Any]) -> None:
    print(f"Whole and right: {answer['file']}, of {utc_text(answer['wall_ms'])}, yard {answer['installation']}")
    print(f"{len(answer['bots'])} bot(s), {len(answer['files'])} files; accounts: {', '.join(answer['venues']) or 'none yet'}")
    print("With: " + (", ".join(k for k, v in answer["with"].items() if v) or "neither secrets nor paper exchange nor history"))


def tell_restored(answer: dict[str, Any]) -> None:
    what = "Would restore" if answer["dry_run"] else "Restored"
    print(f"{what} {len(answer['bots'])} bot(s), {answer['files']} files of {utc_text(answer['backup_wall_ms'])} into {answer['home']}")
    print("What is to be done next:")
    for n, step in enumerate(answer["next"], 1):
        print(f"  {n}. {step}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
