"""Space on the disk put by for a flatten: a full disk must not keep a person from getting flat. Owns data/kill_reserve.

Nothing is sent before it is written (DESIGN §1.2), so a bot on a full disk can't sell, and the
switch itself can't be pulled. The yard puts a few MB by while there is plenty; whoever flattens
gives them back when the disk is full. It is little: whatever filled the disk may take it, too.
"""

from __future__ import annotations

import contextlib
import os

from core.storage import Files

RESERVE = "data/kill_reserve"
RESERVE_BYTES = 4 << 20  # some 50 bots' requests, position files, fills and logs of a sale
PLENTY_BYTES = 64 << 20  # on a disk with less than this it would do harm
FULL_BYTES = 1 << 20


def keep(files: Files) -> bool:
    """Put the space by where it isn't and the disk has plenty; whether it is there. Raises nothing."""
    path = files.path(RESERVE)
    with contextlib.suppress(OSError):
        if path.exists() and path.stat().st_size >= RESERVE_BYTES:
            return True
        if free_bytes(files) < PLENTY_BYTES:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(RESERVE_BYTES))  # no zeros: some file systems keep no room for those
        return True
    return False


def give_back(files: Files) -> bool:
    """Free the space; whether there was any. Raises nothing."""
    with contextlib.suppress(OSError):
        files.path(RESERVE).unlink()
        return True
    return False


def full(files: Files) -> bool:
    """Whether the disk that holds the home takes hardly anything any more."""
    try:
        return free_bytes(files) < FULL_BYTES
    except OSError:
        return False


def free_bytes(files: Files) -> int:
    """What anybody but root may still write there."""
    told = os.statvfs(files.home)
    return told.f_bavail * told.f_frsize
