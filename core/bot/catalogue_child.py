"""The short-lived process that executes strategies' files for page and yard: `python3 -m core.bot.catalogue_child FD`.

It reads one question as JSON from stdin and writes its answer, a line of JSON each, to the file
descriptor FD; what the files print goes nowhere. It bounds itself, because whoever asked may be
gone: memory, processor time, and an alarm that ends it even while code in C holds the interpreter.
core/bot/catalogue.py asks, and says what the lines mean. Owns no file.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from typing import Any

import simplejson

from core.errors import InputError, StrategyError
from core.storage import loads
from strategies import registry

MEMORY = 2 << 30  # of data; a file that takes all there is must not take the bots' as well
CPU_S, LIFE_S = 120, 300
BEAT_S = 0.5  # between signs of life: without them code in C holds the interpreter


def told(file: registry.StrategyFile) -> dict[str, Any] | None:
    """A strategy as the page is told of it: besides what it declares, the series it needs and whether it recommends symbols."""
    if file.entry is None:
        return None
    cls = file.entry.cls
    recommends = bool(getattr(cls, "recommends", False)) or b"recommended_symbol" in file.source
    return {"needs": list(getattr(cls, "needs", ())), "recommends": recommends, **file.described}


def answer(found: registry.StrategyRegistry, key: str | None, params: dict[str, Any]) -> dict[str, Any]:
    """All strategies, or what the one of `key` declares with these parameters."""
    if key is None:
        return {"strategies": [t for f in found.working() if (t := told(f)) is not None], "broken": found.broken}
    try:
        made = found.build(key, params)
        return {"built": {"stop_loss_pct": made.percent("stop_loss_pct"), "manages_position": bool(made.manages_position)}}
    except (StrategyError, InputError) as e:
        return {"error": str(e), "input": isinstance(e, InputError)}
    except Exception as e:  # noqa: BLE001 - a person's class may raise anything
        return {"error": f"strategy {key!r} can't be built: {type(e).__name__}: {e}"[:500], "input": False}


def main(fd: int) -> None:
    for kind, most in ((resource.RLIMIT_DATA, MEMORY), (resource.RLIMIT_CPU, CPU_S), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (most, most))
    signal.alarm(LIFE_S)
    asked = loads(sys.stdin.read())
    lock = threading.Lock()

    def tell(line: dict[str, Any]) -> None:
        text = simplejson.dumps(line, use_decimal=True, ignore_nan=True, default=str).encode() + b"\n"
        with lock:
            try:
                while text:
                    text = text[os.write(fd, text) :]
            except OSError:
                os._exit(1)  # nobody listens any more

    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_S):
            tell({})

    threading.Thread(target=beat, daemon=True).start()
    registry.left_behind({(str(s[0]), int(s[1]), int(s[2]), int(s[3])): str(why) for s, why in asked["dead"]})
    if asked.get("alone"):
        registry.PATIENCE_S = LIFE_S  # one after the other: which file ends this process must show

    def watch(what: str, file: registry.StrategyFile) -> None:
        left = file.stamp is not None and registry.unended().get(file.stamp)
        more = {"told": told(file), "why": file.reason, "left": [file.stamp, left] if left else None} if what == "ended" else {}
        tell({what: str(file.path), **more})

    found = registry.load(asked["folder"], bound_s=float(asked["bound_s"]), watch=watch)
    said = answer(found, asked.get("key"), asked.get("params") or {})
    over.set()
    tell({"answer": said})
    os._exit(0)  # threads of the files, and what they registered for the end, are nobody's any more


if __name__ == "__main__":
    main(int(sys.argv[1]))
