"""The events' file begins anew when it is large and old, and no event is lost or told twice by that, whoever writes or dies meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core import notify
from core.config import ROOT
from core.model import Event
from core.notify import EVENTS, EVENTS_OLD, intake
from core.notify.store import Store
from core.storage import Files, dumps

NOW = 1_700_000_000_000
DAY = 86_400_000


class Reader:
    """What an outbox does with the events' file, and no more: it remembers their texts."""

    def __init__(self, home: Path):
        (home / "data").mkdir(parents=True, exist_ok=True)
        self.files, self.texts = Files(home), list[str]()
        self.store = Store(self.files)

    def again(self) -> None:
        """Its process died; another one begins."""
        self.store.close()
        self.store = Store(self.files)

    def read(self) -> list[str]:
        intake.take_in(self.files, self.store, lambda event, new: self.texts.append(event["text"]))
        return self.texts

    def turn(self, **limits: int) -> bool:
        return intake.turn_over(self.files, self.store, NOW, **{"large": 1000, **limits})

    def post(self, *texts: str, days_ago: float = 0) -> None:
        for text in texts:
            notify.post(self.files, Event("kind", text, "info", None, wall_ms=NOW - int(days_ago * DAY), data={}))


@pytest.fixture
def r(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path / "home")
    made.post("old " + "x" * 2000, days_ago=31)
    made.read()
    yield made
    made.store.close()


def short(texts: list[str]) -> list[str]:
    return [t for t in texts if not t.startswith("old")]


def test_it_is_renamed_once_it_is_large_read_to_its_end_and_began_thirty_days_ago(r: Reader) -> None:
    assert not r.turn(large=5000)
    assert not r.turn(old_ms=32 * DAY)
    r.post("not read yet")
    assert not r.turn()
    r.read()
    assert r.turn()
    assert not r.files.exists(EVENTS)
    r.post("after")
    assert short(r.read()) == ["not read yet", "after"]
    assert not r.turn(), "it is small and new again"


def test_a_file_of_today_stays_however_large_and_one_that_can_not_be_dated_too(tmp_path: Path) -> None:
    r = Reader(tmp_path)
    r.post("x" * 5000)
    r.read()
    assert not r.turn()
    r.files.path(EVENTS).write_bytes(b"no event\n" * 500)
    r.read()
    assert not r.turn()
    r.store.close()


def test_a_line_appended_by_who_had_it_open_when_it_was_renamed_is_taken_in(r: Reader) -> None:
    fd = os.open(r.files.path(EVENTS), os.O_WRONLY | os.O_APPEND)
    try:
        assert r.turn()
        r.post("new file")
        r.read()
        os.write(fd, (dumps(notify.as_line(Event("kind", "late", "info", None, wall_ms=NOW, data={}))) + "\n").encode())
    finally:
        os.close(fd)
    r.again()
    assert short(r.read()) == ["new file", "late"]
    assert short(r.read()) == ["new file", "late"]


def test_the_last_events_are_shown_from_both_files(r: Reader) -> None:
    r.post("before")
    r.read()
    assert r.turn()
    r.post("after")
    assert [e["text"] for e in notify.recent(r.files, 2)] == ["before", "after"]
    assert [e["text"] for e in notify.recent(r.files, 1)] == ["after"]


@pytest.mark.parametrize("point", ["before the mark", "before the rename", "after the rename", "before the new marks"])
@pytest.mark.parametrize("meanwhile", [True, False])
def test_a_death_at_any_point_of_it_loses_nothing_and_tells_nothing_twice(r: Reader, monkeypatch: pytest.MonkeyPatch, point: str, meanwhile: bool) -> None:
    class Died(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Died

    set_mark = Store.set_mark

    def marks(self: Store, name: str, value: str) -> None:
        if (point == "before the mark" and name == "events_turn") or (point == "before the new marks" and name == "events"):
            raise Died
        set_mark(self, name, value)

    with monkeypatch.context() as m:
        m.setattr(Store, "set_mark", marks)
        if point == "before the rename":
            m.setattr(os, "replace", die)
        if point == "after the rename":
            m.setattr(intake, "fsync_folder", die)
        with pytest.raises(Died):
            r.turn()
    if meanwhile:
        r.post("posted while nobody read")
    r.again()
    expected = ["posted while nobody read"] if meanwhile else []
    assert short(r.read()) == expected
    assert len(r.texts) == 1 + len(expected)
    r.post("later")
    assert short(r.read()) == [*expected, "later"]
    assert r.files.exists(EVENTS_OLD) == (point in ("after the rename", "before the new marks"))


WRITER = """
import sys
from core import notify
from core.model import Event
from core.storage import Files
print("up", flush=True)
sys.stdin.readline()
for n in range(150):
    notify.post(Files(sys.argv[1]), Event("kind", f"{sys.argv[2]}-{n}", "info", None, wall_ms=1, data={}))
"""


def test_processes_that_append_all_the_while_lose_no_line_and_none_is_told_twice(r: Reader) -> None:
    argv = [sys.executable, "-c", WRITER, str(r.files.home)]
    writers = [subprocess.Popen([*argv, str(n)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for n in range(3)]
    try:
        for one in writers:
            assert one.stdout is not None
            assert one.stdout.readline() == b"up\n"
        for one in writers:
            assert one.stdin is not None
            one.stdin.write(b"go\n")
            one.stdin.flush()
        while not r.turn():
            r.read()
        while any(one.poll() is None for one in writers):
            r.read()
    finally:
        for one in writers:
            one.kill()
            one.communicate()
    assert sorted(short(r.read())) == sorted(f"{w}-{n}" for w in range(3) for n in range(150))
    assert r.files.exists(EVENTS_OLD)
