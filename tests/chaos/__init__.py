"""A yard in trouble: everything real, on a schedule of kills, freezes, commands and faults, and judged.

- `plan.py`: what happens and when, made from a seed before anything runs (pure).
- `roster.py`: the bots and the strategies that they trade by.
- `mix.py`: the faults of the paper exchange, as data, and the count of those that struck.
- `house.py`: the processes: yard, paper exchange, dashboard, bots; found by their locks, ended by their pids.
- `truth.py`: what the paper exchange's own database says, read beside it.
- `watch.py`: looks all the while: how long is a position without a stop, whose orders are these?
- `judge.py`: what must hold at the end.
- `run.py`: one run, from the first start to the last verdict.

`PYTHONPATH=.:tests python -m chaos --seed 1 --bots 20 --minutes 5`; tests/test_chaos.py has a short form.

The same seed gives the same schedule: which acts, on whom, at which seconds, and the same
faults with the same dice. It does not give the same run: processes are paced by the wall, so
which request a fault meets, and what a bot is doing when it is killed, differ by milliseconds.
"""
