#!/usr/bin/env python3
"""Botyard as a service of systemd: see its unit, install it, remove it. Owns /etc/systemd/system/NAME.service.

It needs nothing but Python, so that `sudo python3 utils/service.py install` works on a fresh
machine, before ./start.sh was ever run. What it writes is utils/botyard.service with folder,
user and home filled in; that file says why each line is there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = ROOT / "utils" / "botyard.service"
INTO = Path("/etc/systemd/system")
RUNS = Path("/run/systemd/system")  # is there when systemd started this machine
OK, USAGE, NOT_NOW, INTERRUPTED = 0, 2, 3, 130  # as core/commandline.py has them, which needs the packages
CODES = "exit codes: 0 done; 2 wrong arguments; 3 it can't be done now (the message says why, and what to type); 130 ended by Ctrl-C"


class Refused(Exception):
    """What keeps it from being done, and what would be right."""

    code = NOT_NOW


class Wrong(Refused):
    """The arguments, or what they name, are what is wrong."""

    code = USAGE


def parser() -> argparse.ArgumentParser:
    about = "Botyard as a service of systemd: it starts at boot and brings back every wanted bot."
    main = argparse.ArgumentParser(prog="service.py", description=about, epilog=CODES)
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", default="botyard", help="the unit's name, where a machine has several yards (botyard)")
    common.add_argument("--into", type=Path, default=INTO, metavar="FOLDER", help=f"where units lie ({INTO})")
    filled = argparse.ArgumentParser(add_help=False)
    filled.add_argument("--user", help="who runs it (the owner of this folder)")
    filled.add_argument("--home", type=Path, help="BOTYARD_HOME (the environment's, else this folder)")
    commands.add_parser("print", parents=[common, filled], help="the unit, filled in", epilog=CODES)
    commands.add_parser("install", parents=[common, filled], help="write it, start it now and at each boot; needs root", epilog=CODES)
    commands.add_parser("remove", parents=[common], help="stop it and take it away; needs root. What is wanted stays wanted", epilog=CODES)
    commands.add_parser("yard", help="start the yard process where none runs; utils/serve.sh calls this", epilog=CODES)
    return main


def owner(given: str | None) -> str:
    """Who is to run it: `given`, else the owner of this folder. Refused where there is no such user."""
    try:
        return pwd.getpwnam(given).pw_name if given else pwd.getpwuid(ROOT.stat().st_uid).pw_name
    except KeyError:
        raise Wrong(f"there is no user {given or f'with the id {ROOT.stat().st_uid}, who owns {ROOT}'}; name one: --user NAME") from None


def home(given: Path | None) -> Path | None:
    """A BOTYARD_HOME other than this folder, None for this folder. Refused where it is no folder."""
    named = given or (Path(os.environ["BOTYARD_HOME"]) if os.environ.get("BOTYARD_HOME", "").strip() else None)
    if named is None:
        return None
    found = named.expanduser().resolve()
    if not found.is_dir():
        raise Wrong(f"BOTYARD_HOME is {found}, which is not a folder: create it, or give another --home")
    return None if found == ROOT else found


def unit(user: str, botyard_home: Path | None, folder: Path = ROOT) -> str:
    """The unit's text for a checkout in `folder`. Refused where a path can't be written into a unit."""
    for path in filter(None, (folder, botyard_home)):
        if not str(path).isprintable() or re.search(r"[\"'\\$]", str(path)):
            raise Wrong(f"{path}: a unit can't hold this path; move it to one without quotes, $, backslashes and control characters")
    environment = f'Environment="BOTYARD_HOME={_percent(botyard_home)}"' if botyard_home else "# BOTYARD_HOME is the folder itself."
    values = {"FOLDER": _percent(folder), "USER": user, "ENVIRONMENT": environment}
    lines = TEMPLATE.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line if line.startswith("#") else re.sub(r"@([A-Z]+)@", lambda m: values[m[1]], line) for line in lines)


def _percent(path: Path) -> str:
    return str(path).replace("%", "%%")  # else systemd takes it for a placeholder of its own


def _file(arguments: argparse.Namespace) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9_\-]{1,60}", arguments.name, re.ASCII):
        raise Wrong(f"--name: {arguments.name!r} must be 1 to 60 letters, digits, - or _")
    return Path(arguments.into) / f"{arguments.name}.service"


def _may(arguments: argparse.Namespace) -> None:
    """Refused, with what to type, where this can't be done here or by this user."""
    if not RUNS.is_dir():
        raise Refused("this machine was not started by systemd, so it has no services of this kind; run ./start.sh in a screen session or by your own means")
    if not os.access(arguments.into, os.W_OK):
        given = [f"BOTYARD_HOME={os.environ['BOTYARD_HOME']}"] if os.environ.get("BOTYARD_HOME") else []
        typed = shlex.join(["sudo", *given, "python3", str(ROOT / "utils" / "service.py"), *sys.argv[1:]])
        raise Refused(f"only root may change {arguments.into}. Type:  {typed}")


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"systemctl {' '.join(arguments)} failed: {(done.stderr or done.stdout).strip()}")


def install(arguments: argparse.Namespace) -> str:
    path, text = _file(arguments), unit(owner(arguments.user), home(arguments.home))
    _may(arguments)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(0o644)
    os.replace(fresh, path)
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", path.name)
    return (
        f"{path} is written; Botyard runs now and after each boot.\n"
        f"  how it fares:  systemctl status {arguments.name}    its messages:  journalctl -u {arguments.name}\n"
        f"  stop it all:   sudo systemctl stop {arguments.name}   (what is wanted stays wanted)\n"
        "Close a page that was started by hand (Ctrl-C): it holds the port. Bots that run already go on;\n"
        "they, and a yard that runs already, belong to the service from their next start on."
    )


def remove(arguments: argparse.Namespace) -> str:
    path = _file(arguments)
    _may(arguments)
    if not path.exists():
        return f"{path} is not there: nothing to remove"
    _systemctl("disable", "--now", path.name)
    path.unlink()
    _systemctl("daemon-reload")
    return f"{path} is removed; nothing of the service runs any more. Bots that are wanted come back with ./start.sh."


def yard() -> str:
    sys.path.insert(0, str(ROOT))
    from core.bootstrap import ensure_packages

    ensure_packages(("simplejson", "dotenv"))
    from core import config
    from core.errors import BotyardError
    from core.fleet import control
    from core.storage import Files

    try:
        settings = config.load()
        return f"the yard runs (process {control.ensure_yard(Files(settings.home), settings)})"
    except (BotyardError, OSError) as e:
        raise Refused(f"the yard could not be started: {e}") from e


def main(argv: list[str]) -> int:
    arguments = parser().parse_args(argv)  # exits with 2 itself
    try:
        if arguments.command == "print":
            _file(arguments)
            print(unit(owner(arguments.user), home(arguments.home)), end="")
        elif arguments.command == "yard":
            print(yard(), flush=True)
        else:
            print(install(arguments) if arguments.command == "install" else remove(arguments))
    except (Refused, OSError) as e:
        print(f"service.py: {e}", file=sys.stderr)
        return e.code if isinstance(e, Refused) else NOT_NOW
    except KeyboardInterrupt:
        print("service.py: ended by Ctrl-C", file=sys.stderr)
        return INTERRUPTED
    return OK


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main(sys.argv[1:]))
