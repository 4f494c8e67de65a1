"""Sweeps: what varies, every combination once, the same on any number of processes, and going on after a kill."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.backtest import arguments, engine, metrics, prepare, provenance, space, sweep
from core.backtest.sweep import Outcome, Row, Sweep
from core.bot import position
from core.errors import InputError
from core.fleet.registry import Registry
from core.storage import Files, loads
from strategies.base import Param
from tests.backtest_help import BTC, walk_bars
from tests.test_backtest_command import as_json, rows
from utils import optimize

ROOT = Path(__file__).resolve().parent.parent
DECLARED = (
    Param("fast", int, 10, 2, 50),
    Param("slow", int, 20, 3, 200),
    Param("pull", float, 0.5, 0.0, 1.0),
    Param("loud", bool, False),
    Param("kind", str, "a", choices=("a", "b")),
    Param("free", int, 1),
)


def axes(**texts: str) -> list[space.Axis]:
    return space.axes(DECLARED, texts)


# --- what varies ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("fast", "20,5,10,5", (5, 10, 20)),
        ("slow", "20:100:20", (20, 40, 60, 80, 100)),
        ("slow", "20:90:20", (20, 40, 60, 80)),
        ("fast", "", (2, 14, 26, 38, 50)),
        ("fast", "5:6", (5, 6)),
        ("pull", "0.1:0.3:0.1", (0.1, 0.2, 0.3)),
        ("stop_loss_pct", "1:2:0.5", (Decimal(1), Decimal("1.5"), Decimal(2))),
        ("loud", "", (False, True)),
        ("kind", "", ("a", "b")),
        ("kind", "b", ("b",)),
    ],
)
def test_values_are_a_list_steps_or_the_declared_range(name: str, text: str, values: tuple[Any, ...]) -> None:
    assert axes(**{name: text})[0].grid() == values


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({}, "nothing varies"),
        ({"fats": "1"}, "there is no such parameter; there are"),
        ({"fast": "1,2"}, "from 2 to 50"),
        ({"fast": "5:60"}, "from 2 to 50"),
        ({"fast": "9:5"}, "upwards"),
        ({"fast": "5:9:0"}, "above 0"),
        ({"fast": "5:9:x"}, "above 0"),
        ({"fast": "5:"}, "FROM:TO"),
        ({"fast": "5:6:1:1"}, "FROM:TO"),
        ({"pull": "0:1:0.0000001"}, "more than"),
        ({"free": ""}, "declares no range"),
        ({"stop_loss_pct": ""}, "declares no range"),
        ({"kind": "c"}, "one of a, b"),
    ],
)
def test_values_that_can_not_be_are_refused_by_name_with_what_would_be_right(texts: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words) as told:
        axes(**texts)
    assert not texts or str(told.value).startswith(next(iter(texts)))


def test_a_grid_is_every_combination_once_and_a_drawing_the_same_by_the_same_seed() -> None:
    two = axes(fast="5,10,20", stop_loss_pct="1,2")
    assert [space.told(c) for c in space.grid(two)][:3] == ["fast=5 stop_loss_pct=1", "fast=5 stop_loss_pct=2", "fast=10 stop_loss_pct=1"]
    assert space.size(two) == 6 == len({space.told(c) for c in space.grid(two)})
    wide = axes(fast="", pull="", loud="")
    assert space.drawn(wide, 40, seed=3) == space.drawn(wide, 40, seed=3) != space.drawn(wide, 40, seed=4)
    assert len({space.told(c) for c in space.drawn(wide, 40, seed=3)}) == 40
    assert all(2 <= c["fast"] <= 50 and 0 <= c["pull"] <= 1 for c in space.drawn(wide, 40, seed=3))
    assert len(space.drawn(two, 100, seed=1)) == 6, "there are no more"
    with pytest.raises(InputError, match="more than 1,000,000"):
        list(space.grid(axes(fast="2:50:1", slow="3:200:1", pull="0:1:0.001")))


# --- running ----------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "BTC_USDT-5m.json"
    path.write_text(as_json(rows(walk_bars(4000, seed=9, move=0.004))))
    return path


@pytest.fixture
def asked(data: Path) -> Callable[..., Sweep]:
    def make(vary: dict[str, str] | None = None, **more: Any) -> Sweep:
        return sweep.plan(prepare.Wanted("scalping", "BTCUSDT", data=data), vary or {"fast": "5,10,30", "slow": "20,40", "stop_loss_pct": "0,2"}, **more)

    return make


def figures(outcome: Outcome) -> list[tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]]:
    return [(r.combination, dict(r.inside), dict(r.outside) if r.outside else None) for r in outcome.rows]


def plain(outcome: Outcome) -> Any:
    """As it comes back from the file: numbers with a point are Decimals there."""
    from core.storage import dumps

    return loads(dumps(figures(outcome)))


def test_one_process_or_three_find_the_same_and_it_is_what_a_single_backtest_finds(asked: Any, tmp_path: Path) -> None:
    question = asked()
    one = sweep.run(question, tmp_path / "one.jsonl", jobs=1)
    three = sweep.run(question, tmp_path / "three.jsonl", jobs=3)
    assert plain(one) == plain(three)
    assert (len(one.rows), one.skipped, one.failed) == (10, 2, {}), "fast 30 with slow 20 is not allowed"
    row = one.rows[3]
    wanted = replace(question.wanted, params={n: row.combination[n] for n in ("fast", "slow")}, stop_loss_pct=row.combination["stop_loss_pct"])
    for name, span in (("inside", (None, question.split_ms)), ("outside", (question.split_ms, None))):
        prepared = prepare.prepare(replace(wanted, from_ms=span[0], to_ms=span[1]))
        alone = metrics.of(engine.run(prepared.config, prepared.bars, prepared.strategy), prepared.bars)
        told = getattr(row, name)
        assert (told["trades"], told["profit"], float(told["return_pct"])) == (alone.trades, alone.profit, alone.return_pct)


def test_a_second_run_computes_nothing_and_a_torn_line_is_computed_again(asked: Any, tmp_path: Path) -> None:
    question, path = asked(), tmp_path / "s.jsonl"
    first = sweep.run(question, path, jobs=2)
    again = sweep.run(question, path, jobs=2)
    assert again.resumed == 12 and plain(again) == plain(first)
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    mended = sweep.run(question, path, jobs=1)
    assert mended.resumed == 11 and plain(mended) == plain(first)
    assert sorted(path.read_text().splitlines()[1:], key=lambda t: json.loads(t)["key"])  # every line is whole


def test_another_question_does_not_mix_with_the_file_of_the_first(asked: Any, tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    first = asked({"fast": "5,6"})
    sweep.run(first, path, jobs=1)
    assert asked({"fast": "5,6"}).key == first.key
    for other in (asked({"fast": "5,7"}), asked({"fast": "5,6"}, out_of_sample_pct=Decimal(20)), asked({"fast": "5,6"}, draws=2)):
        assert other.key != first.key
        with pytest.raises(InputError, match="another question"):
            sweep.run(other, path, jobs=1)
    path.write_text("rubbish\n")
    with pytest.raises(InputError, match="remove it"):
        sweep.run(first, path, jobs=1)


def own_strategy(folder: Path, body: str = "") -> Path:
    """A folder with a strategy that imports a file beside it."""
    folder.mkdir()
    (folder / "levels.py").write_text(f"RISE = 1.001\n{body}")
    (folder / "own_strategy.py").write_text(
        "import sys\nfrom pathlib import Path\nsys.path.insert(0, str(Path(__file__).parent))\nfrom levels import RISE\n"
        "from strategies.base import Param, Strategy\n\nclass Own(Strategy):\n    key = 'own'\n    warmup = 5\n"
        "    params = (Param('back', int, 2, 1, 5),)\n\n    def signals(self, candles):\n"
        "        close = candles['close']\n        return (close > close.shift(self.p.back) * RISE).astype(int).to_numpy()\n"
    )
    return folder


def test_results_of_a_changed_strategy_are_not_gone_on_from(data: Path, tmp_path: Path) -> None:
    folder = own_strategy(tmp_path / "mine")
    path = tmp_path / "s.jsonl"

    def question() -> Sweep:
        return sweep.plan(prepare.Wanted("own", "BTCUSDT", data=data, strategies=folder), {"back": "1,2"})

    first = question()
    assert sweep.run(first, path, jobs=1).resumed == 0
    assert (question().key, sweep.run(question(), path, jobs=1).resumed) == (first.key, 2)
    source = folder / "own_strategy.py"
    source.write_text(source.read_text().replace("shift(", "shift(1 + "))
    changed = question()
    assert changed.file_name != first.file_name, "a new file by itself"
    with pytest.raises(InputError, match=r"other code computed.*--fresh"):
        sweep.run(changed, path, jobs=1)


def test_the_code_that_decides_is_every_source_that_is_imported_wherever_it_lies(tmp_path: Path) -> None:
    here, there = own_strategy(tmp_path / "here"), own_strategy(tmp_path / "there")
    version = provenance.code_version(here / "own_strategy.py")
    assert version == provenance.code_version(there / "own_strategy.py")
    (there / "unrelated.py").write_text("RISE = 2\n")
    assert version == provenance.code_version(there / "own_strategy.py")
    (there / "levels.py").write_text("RISE = 2\n")
    assert version != provenance.code_version(there / "own_strategy.py")
    known = {p.name for p in provenance.sources([*provenance.BEGINS, here / "own_strategy.py"], here)}
    assert {"levels.py", "base.py", "engine.py", "fast.py", "decisions.py", "fold.py", "path.py", "fees.py", "filters.py", "sizing.py"} <= known
    assert {"triggers.py", "listings.py", "model.py", "candle_files.py", "metrics.py"} <= known
    declared = {p.name for p in provenance.sources([ROOT / "strategies" / "ema_trend.yaml"], ROOT / "strategies")}
    assert {"ema_trend.yaml", "declared.py", "rules.py"} <= declared


def test_killed_in_the_middle_it_goes_on_where_it_was_and_its_workers_are_gone(asked: Any, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "killed.jsonl"
    vary = ["--vary", "fast=2:19:1", "--vary", "slow=20:60:2", "--vary", "stop_loss_pct=1,2"]
    line = [sys.executable, str(ROOT / "utils" / "optimize.py"), "--strategy", "scalping", "--symbol", "BTCUSDT", "--data", str(data), "--out", str(path)]
    environment = {**os.environ, "BOTYARD_HOME": str(tmp_path)}
    process = subprocess.Popen([*line, *vary, "--jobs", "2"], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while (path.read_bytes().count(b"\n") if path.exists() else 0) < 5 and time.monotonic() < deadline:
            time.sleep(0.02)
        workers = [int(p) for p in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()] if Path("/proc").exists() else []
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    left = path.read_bytes().count(b"\n") - 1
    question = asked({"fast": "2:19:1", "slow": "20:60:2", "stop_loss_pct": "1,2"})
    assert 4 <= left < len(question.combinations)
    few = replace(question, combinations=question.combinations[: left + 5])  # enough to see that it goes on
    outcome = sweep.run(few, path, jobs=1)
    assert outcome.resumed >= left - 5 and len(outcome.rows) + outcome.skipped == len(few.combinations)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_the_out_of_sample_part_is_the_last_of_the_time_and_may_be_left_out(asked: Any, tmp_path: Path) -> None:
    question = asked({"fast": "5"})
    opened = question.bars.open_ms
    assert question.split_ms == int(opened[2800]), "30 % of 4000 candles"
    assert asked({"fast": "5"}, out_of_sample_pct=Decimal(0)).split_ms is None
    alone = sweep.run(asked({"fast": "5"}, out_of_sample_pct=Decimal(0)), tmp_path / "x.jsonl", jobs=1)
    assert alone.rows[0].outside is None
    with pytest.raises(InputError, match="from 0 to 90"):
        asked({"fast": "5"}, out_of_sample_pct=Decimal(95))


# --- judging ------------------------------------------------------------------------------


def row(fast: int, value: float | None, out: float | None = None, trades: int = 50, **more: Any) -> Row:
    inside = {"sharpe": value, "return_pct": value, "max_drawdown_pct": 10.0, "trades": trades, **more}
    return Row({"fast": fast}, inside, {**inside, "sharpe": out, "return_pct": out} if out is not None else None)


def judged(found: list[Row], text: str = "5,10,20", metric: str = "sharpe") -> str:
    question = Sweep(prepare.Wanted("scalping", "BTCUSDT"), axes(fast=text), [], walk_bars(10), BTC, "5m", None, {})
    return " ".join(sweep.warnings(question, Outcome(rows=found), metric))


def test_the_best_comes_first_and_what_has_no_figure_or_no_trade_last() -> None:
    found = [row(1, None), row(2, 9.0, trades=0), row(3, 1.0), row(4, 2.0), row(5, -3.0)]
    assert [r.combination["fast"] for r in sweep.ranked(found, "sharpe")] == [4, 3, 5, 1, 2]
    falls = [row(1, 1.0, max_drawdown_pct=30), row(2, 1.0, max_drawdown_pct=5)]
    assert [r.combination["fast"] for r in sweep.ranked(falls, "max_drawdown_pct")] == [2, 1]


def test_an_optimum_on_the_edge_on_few_trades_or_that_fails_outside_is_told() -> None:
    assert "edge of what was tried (fast=20)" in judged([row(5, 1.0), row(10, 2.0), row(20, 3.0)])
    assert "edge" not in judged([row(5, 1.0), row(10, 3.0), row(20, 2.0)])
    assert "edge" not in judged([row(5, 1.0), row(50, 3.0)], text="5,50"), "beyond the declared range there is nothing to try"
    assert "rests on 29 trades" in judged([row(10, 3.0, trades=29)]) and "rests on" not in judged([row(10, 3.0, trades=30)])
    assert "gains in the sample and loses outside" in judged([row(10, 3.0, -1.0)])
    assert "falls from 3.00 to 1.00" in judged([row(10, 3.0, 1.0)])
    assert "hardly agree (correlation -1.00)" in judged([row(i, float(i), 10.0 - i) for i in range(6)])
    assert "good by luck" in judged([row(10, 1.0)] * 100)
    assert judged([row(10, 3.0, 2.5)]) == "" and "no combination" in judged([])


def test_a_metric_that_nothing_has_ranks_nothing_and_is_told_so() -> None:
    assert "no combination has a sharpe" in judged([row(5, None), row(10, None)])
    assert "no combination" not in judged([row(5, 1.0), row(10, None)])


def test_ranks_that_are_equal_share_their_place() -> None:
    assert sweep.rank_correlation([row(i, float(i), float(i) ** 3) for i in range(6)], "sharpe") == pytest.approx(1)
    assert sweep.rank_correlation([row(i, 1.0, float(i)) for i in range(6)], "sharpe") is None
    assert sweep.rank_correlation([row(i, float(i // 2), float(i // 2)) for i in range(6)], "sharpe") == pytest.approx(1)


# --- the command ----------------------------------------------------------------------------


@pytest.fixture
def run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setenv("BOTYARD_HOME", str(tmp_path))

    def call(*more: str) -> tuple[int, str, str]:
        try:
            code = optimize.main(["--strategy", "scalping", "--symbol", "BTCUSDT", "--data", str(data), "--jobs", "1", *more])
        except SystemExit as e:
            code = int(e.code or 0)
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def test_table_csv_and_json_show_both_sides_of_the_sample(run: Any, tmp_path: Path) -> None:
    code, out, err = run("--vary", "fast=5,10", "--vary", "slow=20,40", "--csv", str(tmp_path / "o.csv"), "--top", "2")
    assert (code, err) == (0, "") and "sharpe in" in out and "sharpe out" in out and "... 2 more" in out and "! " in out
    lines = list(csv.DictReader(io.StringIO((tmp_path / "o.csv").read_text())))
    assert len(lines) == 4 and {"fast", "slow", "in_sharpe", "out_sharpe", "in_trades", "out_trades"} <= set(lines[0])
    code, out, _ = run("--vary", "fast=5,10", "--vary", "slow=20,40", "--json", "--metric", "return_pct")
    found = loads(out)
    assert code == 0 and found["resumed"] == 4 and Path(found["file"]).parent == tmp_path / "data" / "sweeps"
    ranks = [float(r["in"]["return_pct"]) for r in found["rows"]]
    assert ranks == sorted(ranks, reverse=True)
    assert loads(run("--vary", "fast=5,10", "--vary", "slow=20,40", "--json", "--fresh")[1])["resumed"] == 0


def test_a_winner_that_saw_the_future_is_told_first(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "seer_strategy.py").write_text(
        "from strategies.base import Param, Strategy\n\nclass Seer(Strategy):\n    key = 'seer'\n    warmup = 5\n"
        "    params = (Param('rise', float, 0.1, 0.0, 5.0, 'percent'),)\n\n    def signals(self, candles):\n"
        "        close = candles['close']\n        return (close.shift(-1) > close * (1 + self.p.rise / 100)).astype(int).to_numpy()\n"
    )
    monkeypatch.setenv("BOTYARD_HOME", str(tmp_path))
    line = ["--strategy", "seer", "--strategies", str(tmp_path / "mine"), "--symbol", "BTCUSDT", "--data", str(data), "--jobs", "1", "--json"]
    assert optimize.main([*line, "--vary", "rise=0.1,0.2"]) == 0
    assert "A BOT WOULD NOT TRADE LIKE THIS" in loads(capsys.readouterr().out)["warnings"][0]


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ((), 2, "nothing varies"),
        (("--vary", "fast=5", "--vary", "fast=6"), 2, "given twice"),
        (("--vary", "fast=5", "--param", "fast=6"), 2, "one of the two"),
        (("--vary", "fast=30,40", "--param", "slow=20"), 2, "no combination is allowed"),
        (("--vary", "fast=5", "--random", "0"), 2, "from 1"),
        (("--vary", "fast=5", "--jobs", "0"), 2, "from 1"),
        (("--vary", "fast=5", "--metric", "luck"), 2, "invalid choice"),
        (("--vary", "fast=5", "--from", "2033-01-01"), 3, "no BTCUSDT"),
        (("--vary", "fast=5", "--finer", "1m"), 2, "single backtest"),
    ],
)
def test_bad_questions_are_refused_before_anything_runs(run: Any, more: tuple[str, ...], code: int, words: str) -> None:
    found, out, err = run(*more)
    assert (found, out) == (code, "") and words in err, err


def test_the_winner_goes_into_the_bots_record_only_when_agreed(run: Any, tmp_path: Path) -> None:
    (tmp_path / "active_bots.json").write_text("[]")
    bots = Registry(Files(tmp_path))
    fields = {"name": "B", "symbol": "BTCUSDT", "strategy": "scalping", "trade_amount": 100, "mode": "paper"}
    number = bots.create(fields)["id"]
    other = bots.create({**fields, "name": "E", "symbol": "ETHUSDT"})["id"]
    vary = ("--vary", "fast=5,10", "--vary", "stop_loss_pct=1,3", "--param", "slow=40")
    code, _, err = run(*vary, "--write-to-bot", str(number))
    assert code == 1 and "--yes" in err and not bots.bot(number)["params"]
    code, _, err = run(*vary, "--write-to-bot", str(number), "--yes", "--json")
    record = bots.bot(number)
    assert code == 0 and f"Written to bot {number}" in err
    assert int(record["params"]["slow"]) == 40 and record["params"]["fast"] in (5, 10) and record["stop_loss_pct"] in (1, 3)
    code, _, err = run(*vary, "--write-to-bot", str(other), "--yes")
    assert code == 1 and "its symbol is ETHUSDT" in err
    code, _, err = run(*vary, "--write-to-bot", "77", "--yes")
    assert code == 1 and "77" in err


def test_before_the_winner_is_written_the_bots_state_is_told_and_behind_it_when_it_counts(run: Any, tmp_path: Path) -> None:
    (tmp_path / "active_bots.json").write_text("[]")
    bots = Registry(Files(tmp_path))
    number = bots.create({"name": "B", "symbol": "BTCUSDT", "strategy": "scalping", "trade_amount": 100, "mode": "paper"})["id"]
    vary = ("--vary", "fast=5,10", "--vary", "stop_loss_pct=1,3", "--param", "slow=40", "--write-to-bot", str(number), "--yes")
    code, _, err = run(*vary)
    assert code == 0 and "(B, paper, not running) would get" in err and "when the bot is started" in err
    (tmp_path / f"bot_{number}_position.json").write_text(json.dumps({"schema": position.SCHEMA, "position": "LONG", "orders": []}))
    holder = "import sys; from core.storage import Files; Files(sys.argv[1]).lock(sys.argv[2]).acquire(); print('held', flush=True); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", holder, str(tmp_path), f"bot_{number}.lock"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        code, _, err = run(*vary)
    finally:
        other.kill()
        other.communicate()
    assert code == 0 and "(B, paper, running, a LONG position is open)" in err, err
    assert "stop_loss_pct from its next check on; slow, fast when it is started again" in err and f"restart {number}" in err, err
    (tmp_path / f"bot_{number}_position.json").write_text("{")
    (tmp_path / f"bot_{number}_position.json.prev").unlink(missing_ok=True)
    before = bots.bot(number)
    code, _, err = run(*vary)
    assert code == 1 and f"bot_{number}_position.json" in err and bots.bot(number) == before, "what can't be read changes nothing"


def test_progress_tells_the_time_left_on_a_terminal_and_is_silent_elsewhere() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    moments = iter([0.0, 10.0, 10.1, 20.0])
    shown = Terminal()
    progress = arguments.Progress("sweeping", shown, lambda: next(moments))
    progress(0.25, "(1 of 4)")
    progress(0.3)  # too soon after the last
    progress(1.0)
    assert "25 %, 30 s left (1 of 4)" in shown.getvalue() and "30 %" not in shown.getvalue() and "100 %" in shown.getvalue()
    silent = io.StringIO()
    arguments.Progress("sweeping", silent)(0.5)
    assert silent.getvalue() == ""
