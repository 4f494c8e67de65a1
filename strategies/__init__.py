"""Trading strategies: the base class, the registry, and one file a strategy.

A strategy sees candles and a position, never the exchange or the disk.
"""
