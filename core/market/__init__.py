"""What holds of any market: timeframes, the price path, triggers; pure and without disk or network."""
