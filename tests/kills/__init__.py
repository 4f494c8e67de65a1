"""Bots killed at every point where they touch disk, exchange or clock, and judged after their restart.

- `seams.py`: proxies that make every call across a seam a kill point, new methods too.
- `disk.py`: a disk that forgets what was not synced, for power cuts.
- `world.py`: the processes: an exchange that outlives its bot and starts the next life.
- `life.py`: a bot process, which dies at a kill point by its own hand.
- `scenarios.py`: what the bots live through, and the outcomes at the exchange.
- `judge.py`: what must hold afterwards.

`PYTHONPATH=.:tests python -m kills --help` runs the matrix; tests/test_kill_matrix.py a sample of it.
"""
