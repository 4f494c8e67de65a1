"""Backtests: the bot's own decisions and fold over stored candles."""
