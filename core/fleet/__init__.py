"""Many bots: the list of them, who starts and stops them, and who watches them."""
