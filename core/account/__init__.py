"""What all bots of one account share: the books against the wallet; later request budget and guards."""
