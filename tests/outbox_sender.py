"""A process that sends, as the yard's thread does, until it is killed or nothing is left.

Arguments: home, the server's URL. It writes a line to standard output when it begins, and
ends when a file named `enough` is there and nothing waits any more.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]

from core import config  # noqa: E402
from core.notify.outbox import Outbox, Pace  # noqa: E402
from core.storage import Files  # noqa: E402
from message_server import make_channels  # noqa: E402

home, url = Path(sys.argv[1]), sys.argv[2]
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
files = Files(home)
pace = Pace(first_pause=10, longest_pause=80, refused_pause=30, longest_refused=80, look_up_after=20, settle=300, patience=60_000)
box = Outbox(files, config.load({**os.environ, "BOTYARD_HOME": str(home)}), make=make_channels(url, 0.25), pace=pace)
print("begins", flush=True)
while True:
    box.turn()
    assert box.store is not None
    if (home / "enough").exists() and not box.store.waiting():
        break
    time.sleep(0.01)
box.close()
