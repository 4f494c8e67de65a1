"""A small bot for tests of the fleet: a real process that keeps the contracts, and trades nothing.

It takes its lock, beats, hears TERM, INT, HUP and USR1, and writes its last word through the
bot's own modules. `standin_N.json` in the home tells it how to misbehave:
`before_lock` (exit code there), `after_lock` (exit code there), `crash` (exit code 1 with no
last word, after the lock), `deaf` (ignores TERM and HUP), `hang` (never takes its lock),
`checks` (checks completed, 1 unless told), `eat_mb` (so much memory it really uses), `says` (more
fields of its status).
"""

import os
import signal
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from core.bot.status import Status
from core.errors import AlreadyRunning
from core.storage import Files


def main() -> int:
    arguments = [a for a in sys.argv[1:] if a not in ("--guard", "--")]
    bot_id, guard = int(arguments[0]), "--guard" in sys.argv
    files = Files(os.environ["BOTYARD_HOME"])
    how = files.read_any(f"standin_{bot_id}.json") or {}
    heard: list[str] = []
    woken = threading.Event()

    def hear(number: int, _frame: object) -> None:
        name = signal.Signals(number).name
        if not (how.get("deaf") and name in ("SIGTERM", "SIGHUP")):
            if name != "SIGUSR1":
                heard.append(name)
            woken.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, hear)
    if how.get("hang"):
        print("I hang", file=sys.stderr, flush=True)
        while True:
            signal.pause()
    status = Status(files, bot_id)
    if "before_lock" in how:
        print("🤖 no good arguments", file=sys.stderr, flush=True)
        status.last_word(how["before_lock"], "the stand-in was told so")
        return int(how["before_lock"])
    lock = files.lock(f"bot_{bot_id}.lock")
    try:
        lock.acquire()
    except AlreadyRunning as e:
        print(e, file=sys.stderr)
        return 3
    files.append_line(f"runs_{bot_id}.jsonl", {"pid": os.getpid(), "guard": guard, "argv": sys.argv[1:]})
    with open(files.path(f"bot_{bot_id}.log"), "a", encoding="utf-8") as log:
        log.write(f"2021-02-10 00:00:00 - INFO - 🤖 STARTING BOT: {arguments[1]}\n")
    print(f"🤖 STARTING BOT: {arguments[1]}", flush=True)
    if how.get("crash"):
        os._exit(1)
    if "after_lock" in how:
        status.last_word(how["after_lock"], "the stand-in was told so")
        return int(how["after_lock"])
    ballast = b"x" * (int(how.get("eat_mb", 0)) * 1_000_000)  # written to, so that it is there
    while not heard:
        for command in sorted(files.path(f"data/commands/bot_{bot_id}").glob("*.json")):
            files.append_line(f"commands_{bot_id}.jsonl", files.read_any(str(command.relative_to(files.home))))
            command.unlink()
        status.write(state="running", guard=guard, checks_completed=how.get("checks", 1), **how.get("says", {}))
        woken.wait(0.2)
        woken.clear()
    del ballast
    status.last_word(0, f"stopped by {heard[0]}", heard[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
