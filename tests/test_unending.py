"""Strategies' files that never end their import, or do worse: each is named, the others load, and who asks goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.bot.catalogue import Catalogue
from core.errors import InputError, StrategyError
from core.fleet.subprocess_form import ProcessSupervisor
from core.storage import loads
from kept_yard import KeptYard, books_are_right, kept_yard
from patience import patience
from processes import ROOT, Home, until
from strategies import registry
from strategies.bounded import Bounded
from strategies.registry import load
from test_dash_gate import Page

BOUND_S = 0.3
GOOD = '''
class Good:
    """Waits."""
    def analyze(self, data):
        return {"signal": "HOLD", "reasoning": "none"}
'''
LOOP = "x = 1\nwhile True:\n    pass\n"
SLEEP = "import time\ntime.sleep(100000)\n"
WAITS = "import socket\ns = socket.create_server(('127.0.0.1', 0))\ns.accept()\n"
SHORT_WAIT = "import socket\ns = socket.create_server(('127.0.0.1', 0)); s.settimeout(4)\ns.accept()\n"
HOLDS = "import ctypes\nctypes.PyDLL(None).sleep(1000)\n"  # code in C that never gives the interpreter back
STUBBORN = """
while not pathlib.Path(GO).exists():
    try:
        time.sleep(0.01)
    except BaseException:
        pass
"""
LEAVES = "import os\nos._exit(0)\n"
STARTS = """
import pathlib, subprocess
pathlib.Path(__file__ + ".pid").write_text(str(subprocess.Popen(["sleep", "1000"]).pid))
"""
CRASHES = "import ctypes\nctypes.string_at(0)\n"


def write(folder: Path, name: str, text: str | bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


def ended(what: str) -> None:
    """No thread of that file's import runs any more."""
    until(lambda: not [t for t in threading.enumerate() if t.name == f"import {what}"], f"the end of {what}")


# --- in this process ------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "lines"), [(LOOP, "line [23]"), ("# one\n" + SHORT_WAIT, "line 4")])
def test_a_file_that_does_not_end_its_import_is_named_with_the_line_and_the_others_load(tmp_path: Path, text: str, lines: str) -> None:
    write(tmp_path, "bad_strategy.py", text)
    write(tmp_path, "good_strategy.py", GOOD)
    found = load(tmp_path, bound_s=BOUND_S)
    assert "good" in found.entries()
    told = found.broken
    assert list(told) == ["bad_strategy.py"]
    assert re.search(rf"it doesn't end its import: {lines} still runs after 0\.3 s\. .* then save it", told["bad_strategy.py"])
    with pytest.raises(StrategyError, match=r"bad_strategy\.py is broken"):
        found.get("bad")
    ended("bad_strategy.py")


def test_a_bot_whose_own_file_is_sound_waits_for_no_other(tmp_path: Path) -> None:
    ran = "open(__file__ + '.ran', 'w').close()\n"
    write(tmp_path, "a_strategy.py", ran + LOOP + "class A(Unknown):\n    def analyze(self, data): ...\n")
    write(tmp_path, "good_strategy.py", GOOD)
    assert load(tmp_path, bound_s=BOUND_S).build("good").name == "good"
    assert not (tmp_path / "a_strategy.py.ran").exists()


def test_no_file_is_executed_to_say_which_strategies_there_are(tmp_path: Path) -> None:
    write(tmp_path, "leaves_strategy.py", LEAVES)
    write(tmp_path, "named_strategy.py", LEAVES + GOOD.replace("    def", "    key = 'another'\n    def"))
    with pytest.raises(StrategyError, match=r"no strategy 'moonshot'; known are: another, .*, leaves, .*volatile"):
        load(tmp_path, bound_s=BOUND_S).get("moonshot")


def test_several_files_that_hang_use_up_their_bounds_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PATIENCE_S", 0.0)
    begun: list[str] = []
    most: list[int] = []

    def watch(what: str, file: registry.StrategyFile) -> None:
        if file.tried:
            begun.append(file.path.name) if what == "begun" else begun.remove(file.path.name)
            most.append(len([n for n in begun if n.startswith("bad")]))

    for n in range(4):
        write(tmp_path, f"bad{n}_strategy.py", SLEEP.replace("100000", str(patience(1))))
    assert len(load(tmp_path, bound_s=BOUND_S, watch=watch).broken) == 4
    assert max(most) == 4 and begun == []
    for n in range(4):
        ended(f"bad{n}_strategy.py")


def test_the_bound_is_waited_for_once_and_an_edited_file_is_tried_again(tmp_path: Path) -> None:
    path = write(tmp_path, "bad_strategy.py", "open(__file__ + '.ran', 'a').write('x')\n" + LOOP)
    first = load(tmp_path, bound_s=BOUND_S).broken
    assert load(tmp_path, bound_s=BOUND_S).broken == first
    assert (tmp_path / "bad_strategy.py.ran").read_text() == "x", "it ran once"
    path.write_text(GOOD)
    assert load(tmp_path, bound_s=BOUND_S).build("bad").name == "bad"
    ended("bad_strategy.py")


def test_a_module_that_was_left_behind_half_made_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    go = tmp_path / "go"
    text = f"import pathlib, time\n{GOOD}\n" + STUBBORN.replace("GO", repr(str(go)))
    path = write(tmp_path, "bad_strategy.py", text)
    assert "bad_strategy.py" in load(tmp_path, bound_s=BOUND_S).broken
    os.utime(path, (1, 1))  # saved again as it was
    assert "bad_strategy.py" in load(tmp_path, bound_s=BOUND_S).broken
    go.touch()
    ended("bad_strategy.py")
    os.utime(path, (2, 2))
    assert load(tmp_path, bound_s=BOUND_S).build("bad").name == "bad"


def test_a_class_that_never_ends_being_built_is_named_too(tmp_path: Path) -> None:
    hangs = "    def __init__(self):\n        while pathlib.Path(__file__ + '.go').exists(): pass\n    def analyze"
    write(tmp_path, "bad_strategy.py", "import pathlib\n" + GOOD.replace("    def analyze", hangs))
    write(tmp_path, "worse_strategy.py", GOOD.replace("    def analyze", "    def __init__(self):\n        while True: pass\n    def analyze"))
    found = load(tmp_path, bound_s=BOUND_S)
    assert list(found.broken) == ["worse_strategy.py"]
    (tmp_path / "bad_strategy.py.go").touch()
    with pytest.raises(StrategyError, match=r"'bad' can't be built by bad_strategy\.py: .*line 6 still runs"):
        found.build("bad")
    ended("bad_strategy.py")
    ended("worse_strategy.py")


def test_the_bound_counts_no_time_in_which_this_process_did_not_run_and_a_package_has_a_longer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("strategies.bounded.time.monotonic", lambda: now[0])
    loading = [False]
    work = Bounded(lambda: None, "mine.py", 1.0)
    monkeypatch.setattr(work, "_stands", lambda: (3, loading[0]))

    def passes(seconds: float) -> None:
        now[0] += seconds
        work._look()

    passes(3600)  # a machine that slept
    assert not work._spent()
    loading[0] = True
    for _ in range(29):
        passes(0.1)
    assert not work._spent(), "pandas may take its time"
    loading[0] = False
    for _ in range(10):
        passes(0.1)
    assert work._spent()


def test_what_a_file_prints_at_its_import_is_not_on_stdout_and_its_threads_keep_nobody(tmp_path: Path) -> None:
    write(tmp_path, "loud_strategy.py", "import threading, time\nprint('not JSON')\nthreading.Thread(target=time.sleep, args=(100000,)).start()\n" + GOOD)
    code = f"from strategies.registry import load\nfound = load({str(tmp_path)!r})\nassert not found.broken\nprint('loud' in found)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=patience(15), check=False)
    assert (done.returncode, done.stdout) == (0, "True\n")
    assert "not JSON" in done.stderr


ODD = {
    "a folder": lambda p: p.mkdir(),
    "a pipe": os.mkfifo,
    "a device": lambda p: p.symlink_to("/dev/zero"),
    "a link to a file that isn't there": lambda p: p.symlink_to("nowhere"),
    "10000000 bytes": lambda p: p.write_bytes(b"#" * 10_000_000),
}


@pytest.mark.parametrize("name", ["odd_strategy.py", "odd.yaml", "scalping_strategy.py"])
@pytest.mark.parametrize("reason", list(ODD))
def test_what_only_has_a_strategys_name_is_named_and_never_opened(tmp_path: Path, name: str, reason: str) -> None:
    ODD[reason](tmp_path / name)
    write(tmp_path, "good_strategy.py", GOOD)
    found = load(tmp_path, bound_s=BOUND_S)
    assert reason in found.broken[name]
    assert found.build("good").name == "good"


@pytest.mark.parametrize("name", ["odd_strategy.py", "odd.yaml"])
@pytest.mark.parametrize(
    ("text", "python", "yaml"),
    [
        (b"name = '\xff\xfe'\n", "SyntaxError", "UTF-8"),
        (b"x = 1\0\n", "null bytes", "line 1"),
        (b"-" * 200_000 + b"1", "nested too deeply", "bytes"),
        (b"x = " + b"[" * 5000 + b"]" * 5000, "SyntaxError", "line 1"),
        (b"def f(): f()\nf()\n", "RecursionError", "line 3"),
        (b"raise KeyboardInterrupt\n", "KeyboardInterrupt", "line 1"),
        (b"class A:\n    key = 'x' * 100\n    def analyze(self, data): ...\n", "its key must be", "line 3"),
        (b"class A:\n    key = 5\n    def analyze(self, data): ...\n", "its key must be", "line 3"),
    ],
)
def test_a_text_that_can_not_be_read_is_named_whatever_is_wrong_with_it(tmp_path: Path, name: str, text: bytes, python: str, yaml: str) -> None:
    write(tmp_path, name, text)
    found = load(tmp_path, bound_s=BOUND_S)
    assert "volatile" in found.entries()
    assert (yaml if name.endswith("yaml") else python) in found.broken[name]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["odd_strategy.py", "odd.yaml"])
def test_a_file_or_a_folder_without_the_right_to_read_it_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, GOOD).chmod(0)
    assert "the right to read it" in load(tmp_path).broken[name]
    tmp_path.chmod(0)
    try:
        assert "volatile" in load(tmp_path).entries() and "can't be read" in load(tmp_path).broken[tmp_path.name]
    finally:
        tmp_path.chmod(0o700)


def test_a_key_goes_to_the_file_whose_text_says_so_before_one_that_only_turns_out_to_have_it(tmp_path: Path) -> None:
    write(tmp_path, "a_strategy.py", GOOD.replace("    def", "    key = ''.join('mine')\n    def"))
    write(tmp_path, "mine_strategy.py", GOOD)
    found = load(tmp_path)
    assert found.get("mine").file.name == "mine_strategy.py" == found.entries()["mine"].file.name
    assert "already that of" in found.broken["a_strategy.py"]


# --- page and yard: asked of another process -------------------------------------------------


def whole(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answer once nothing is being read any more."""
    last: list[dict[str, Any]] = []

    def settled() -> bool:
        last[:] = [ask()]
        return not [why for why in last[0]["broken"].values() if "still being read" in why]

    until(settled, "the survey", 30)
    return last[0]


def test_whatever_a_file_does_at_its_import_it_is_named_and_the_others_are_told(tmp_path: Path) -> None:
    for name, text in {"holds": HOLDS, "leaves": LEAVES, "crashes": CRASHES, "loop": LOOP, "sleeps": SLEEP, "waits": WAITS}.items():
        write(tmp_path, f"{name}_strategy.py", text)
    write(tmp_path, "good_strategy.py", GOOD)
    catalogue = Catalogue(tmp_path, BOUND_S)
    found = whole(catalogue.told)
    assert {"good", "volatile"} <= {s["key"] for s in found["strategies"]}
    told = found["broken"]
    assert sorted(told) == [f"{n}_strategy.py" for n in ("crashes", "holds", "leaves", "loop", "sleeps", "waits")]
    assert "it holds the interpreter" in told["holds_strategy.py"]
    assert "exit code 0" in told["leaves_strategy.py"] and "signal 11" in told["crashes_strategy.py"]
    assert all("line" in told[f"{n}_strategy.py"] for n in ("loop", "sleeps", "waits"))
    assert catalogue.told() is found, "asked again, nothing is executed"
    assert catalogue.build("good")["manages_position"] is False
    with pytest.raises(StrategyError, match=r"leaves_strategy\.py is broken: it ends the process"):
        catalogue.build("leaves")


def test_a_healthy_strategy_is_answered_for_while_a_hung_one_is_being_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.bot.catalogue.PATIENCE_S", 0.0)
    write(tmp_path, "hung_strategy.py", SLEEP)
    write(tmp_path, "good_strategy.py", GOOD.replace("def analyze", "stop_loss_pct = '1.50'\n    def analyze"))
    catalogue = Catalogue(tmp_path, 1000.0)
    until(lambda: "still being read" in catalogue.told()["broken"].get("hung_strategy.py", ""), "the hung file", 20)
    assert catalogue.build("good") == {"stop_loss_pct": Decimal("1.50"), "manages_position": False}
    until(lambda: {"good", "volatile"} <= {s["key"] for s in catalogue.told()["strategies"]}, "the others", 30)
    survey = catalogue._survey
    assert survey is not None
    write(tmp_path, "hung_strategy.py", GOOD)  # mended: nobody waits for the old one
    found = whole(catalogue.told)
    assert {"good", "hung"} <= {s["key"] for s in found["strategies"]} and found["broken"] == {}
    for child in _children():
        os.kill(child, signal.SIGKILL)
    survey.join(patience(10))


def _children() -> list[int]:
    """Processes that read strategies for this one."""
    found = []
    for p in Path("/proc").glob("[0-9]*"):
        try:
            if b"catalogue_child" in (p / "cmdline").read_bytes() and f"PPid:\t{os.getpid()}\n" in (p / "status").read_text():
                found.append(int(p.name))
        except OSError:
            continue
    return found


def test_nothing_that_a_file_starts_outlives_the_question(tmp_path: Path) -> None:
    write(tmp_path, "good_strategy.py", STARTS + GOOD)
    catalogue = Catalogue(tmp_path)
    assert whole(catalogue.told)["broken"] == {}
    pid = int((tmp_path / "good_strategy.py.pid").read_text())
    until(lambda: not _alive(pid), "the end of what it started")
    assert _children() == []


def test_a_reader_whose_asker_is_gone_ends_by_itself(tmp_path: Path) -> None:
    write(tmp_path, "hung_strategy.py", "import os, pathlib\npathlib.Path(__file__ + '.pid').write_text(str(os.getpid()))\n" + SLEEP)
    code = f"from pathlib import Path\nfrom core.bot.catalogue import Catalogue\nCatalogue(Path({str(tmp_path)!r}), 1000.0).build('hung')"
    asker = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    told = tmp_path / "hung_strategy.py.pid"
    until(lambda: told.exists() and told.read_text(), "the import", 20)
    asker.kill()
    asker.wait()
    until(lambda: not _alive(int(told.read_text())), "the end of the reader", 10)


def _alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_parameters_are_checked_there_and_money_comes_back_exact(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    with pytest.raises(InputError, match="nonsense"):
        catalogue.build("volatile", {"nonsense": 1})
    with pytest.raises(StrategyError, match="no strategy 'moonshot'"):
        catalogue.build("moonshot")


def test_the_page_names_hung_files_offers_the_others_and_loads_no_numpy(home: Path) -> None:
    (home / "active_bots.json").write_text("[]")
    write(home / "strategies", "hung_strategy.py", LOOP)
    write(home / "strategies", "leaves_strategy.py", LEAVES)
    page = Page(home)
    page.app.extensions["board"].catalogue.bound_s = BOUND_S
    found = whole(lambda: dict(loads(page.send("GET", "/api/strategies").data)))
    assert set(found["broken"]) == {"hung_strategy.py", "leaves_strategy.py"}
    assert "volatile" in {s["key"] for s in found["strategies"]}
    body = {"name": "Bot", "symbol": "BTCUSDT", "strategy": "hung", "trade_amount": 100}
    answer = page.send("POST", "/api/create-bot", body)
    assert answer.status_code == 400 and "hung_strategy.py is broken: it doesn't end its import" in loads(answer.data)["error"]
    assert page.send("POST", "/api/create-bot", {**body, "strategy": "volatile"}).status_code == 201


def test_asking_for_strategies_loads_neither_numpy_nor_pandas_here(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom core.bot.catalogue import Catalogue\n"
        f"c = Catalogue(Path({str(tmp_path)!r}))\nassert c.told() and c.build('volatile')\nsys.exit('numpy' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=patience(30), check=False).returncode == 0


# --- bots -----------------------------------------------------------------------------------

QUICK = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from strategies import bounded
bounded.BOUND_S = 1.0
import integrated_trader
sys.exit(integrated_trader.main(sys.argv[1:]))
"""


def test_a_bot_whose_file_hangs_at_import_ends_with_2_and_the_files_name_in_its_last_word(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    try:
        home.strategy("hung", LOOP)
        child = home.start("-c", QUICK, "1", "BTC Bot", "BTCUSDT", "hung", "500")
        assert child.wait(patience(10)) == 2
        word = dict(home.status()["exit"])
        assert word["code"] == 2 and "hung_strategy.py is broken: it doesn't end its import" in word["reason"]
        assert "hung_strategy.py" in home.log()
    finally:
        home.end()


def test_a_bot_that_is_told_to_stop_while_its_file_hangs_is_gone_within_two_seconds(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    try:
        home.strategy("hung", "open(__file__ + '.ran', 'w').close()\n" + LOOP)
        child = home.bot(strategy="hung")
        until(lambda: (home.path / "strategies/hung_strategy.py.ran").exists(), "its import")
        began = time.monotonic()
        child.terminate()
        assert child.wait(patience(10)) == 0
        assert time.monotonic() - began < patience(2)
        assert home.status()["exit"]["code"] == 0
    finally:
        home.end()


@pytest.fixture
def y(tmp_path: Path) -> Iterator[KeptYard]:
    with kept_yard(tmp_path / "home") as made:
        yield made


def quick(record: Mapping[str, Any], guard: bool) -> list[str]:
    arguments = [str(record[k]) for k in ("id", "name", "symbol", "strategy", "trade_amount")]
    return [sys.executable, "-c", QUICK, *arguments, *(["--guard"] if guard else [])]


def test_a_bot_that_holds_coins_and_whose_file_hangs_at_its_next_start_is_guarded_and_its_stop_fires(y: KeptYard) -> None:
    y.supervisor = ProcessSupervisor(y.files, y.settings, argv=quick)
    y.bot(1, protection="bot")
    y.begin()
    pid = y.holds(1, at_exchange=False)
    y.strategy("buy_once", LOOP)
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)

    def guarded() -> bool:
        status = y.files.read_json("bot_1_status.json", schema=1) or {}
        return bool(status.get("guard")) and status.get("state") == "running" and y.supervisor.pid(1) == status.get("pid")

    until(guarded, "the guard", 30)
    took = time.monotonic() - began
    y.fall()
    y.flat(20)
    print(json.dumps({"guarded after s": round(took, 1), "told": y.kinds()}))
    assert took < patience(15)
    assert "bot_given_up" in y.kinds()
    assert books_are_right(y)
