"""One bot: the loop, its pure decisions and fold, its orders and its files."""
